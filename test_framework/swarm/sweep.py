"""The owner sweep: everything the service keeps or sends, held against its owner.

At the end of a run every row, key, stream entry, published message and log line
that carries a canary is written down with the users it names. Whether that is right
is the judge's to say. One pass over the data, linear in its bytes.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from test_framework.canary import MARKER
from test_framework.clients.recorder import Part
from test_framework.clients.redis import RedisReader
from test_framework.clients.sql import SqlReader
from test_framework.core import Channel, Observation, SurfaceRecord, TargetError

if TYPE_CHECKING:
    from test_framework.clients.recorder import Recorder
    from test_framework.swarm.identities import Identities
    from test_framework.swarm.plan import Plan
    from test_framework.swarm.target import Target

LONGEST_PLACE = 120
_PATIENCE_S = 0.2
STATEMENT_LIMIT_S = 5.0
"""How long one statement may keep a database busy that people use."""


async def sweep(
    target: "Target", recorder: "Recorder", identities: "Identities", plan: "Plan"
) -> None:
    """Record every stored place that carries a canary.

    Raises:
        TargetError: Postgres or Redis cannot be read.
    """
    if target.database_url is not None:
        recorder.history.add(SurfaceRecord("postgres", "*"))
        if target.is_shared:
            await _look_for_canaries(target.database_url, recorder, identities)
        else:
            await _sweep_postgres(target.database_url, recorder, identities)
    if target.redis_url is not None:
        recorder.history.add(SurfaceRecord("redis", "*"))
        await _sweep_redis(target.redis_url, recorder, identities, plan.redis_prefixes)
    for path in target.log_paths:
        _sweep_log(path, recorder, identities)


async def _sweep_postgres(
    url: str, recorder: "Recorder", identities: "Identities"
) -> None:
    async with SqlReader(url) as reader:
        for table in await reader.tables():
            recorder.history.add(SurfaceRecord("postgres", table))
            await _sweep_table(reader.rows(table), table, recorder, identities)


async def _look_for_canaries(
    url: str, recorder: "Recorder", identities: "Identities"
) -> None:
    """Sweep a database that people use: rows with canaries as they were written.

    A table that this role may not read, or not in time, is one that was not tested.
    """
    async with SqlReader(url, statement_limit_s=STATEMENT_LIMIT_S) as reader:
        for table in await reader.tables():
            note = ""
            try:
                rows = reader.rows(table, holding=MARKER)
                await _sweep_table(rows, table, recorder, identities)
            except TargetError as exc:
                note = str(exc)
            recorder.history.add(SurfaceRecord("postgres", table, note))


async def _sweep_table(
    rows: AsyncIterator[bytes],
    table: str,
    recorder: "Recorder",
    identities: "Identities",
) -> None:
    number = 0
    async for row in rows:
        number += 1
        _observe(
            recorder,
            identities,
            channel="postgres",
            surface=table,
            place=f"row {number}",
            part=Part("row", row),
        )


async def _sweep_redis(
    url: str,
    recorder: "Recorder",
    identities: "Identities",
    prefixes: tuple[str, ...],
) -> None:
    async with RedisReader(url) as reader:
        async for key, entry in reader.entries(prefixes):
            _observe(
                recorder,
                identities,
                channel="redis",
                surface=identities.blank(key),
                place=f"key {identities.blank(key)}",
                part=Part("key", key + b"\n" + entry),
                named_in=key,
            )


def _sweep_log(path: Path, recorder: "Recorder", identities: "Identities") -> None:
    surface = path.name
    try:
        lines = path.open("rb")
    except OSError as exc:
        note = f"the log could not be read at the end: {exc.strerror}"
        recorder.history.add(SurfaceRecord("log", surface, note))
        return
    with lines:
        for number, line in enumerate(lines, 1):
            _observe(
                recorder,
                identities,
                channel="log",
                surface=surface,
                place=f"line {number}",
                part=Part("line", line),
            )


def _observe(  # one argument per fact of the place
    recorder: "Recorder",
    identities: "Identities",
    *,
    channel: Channel,
    surface: str,
    place: str,
    part: Part,
    named_in: bytes | None = None,
) -> None:
    seen = recorder.seen((part,))
    if not seen:
        return
    # A key that names its owner decides; only one that names nobody is owned by
    # whom its content names.
    names = identities.find(named_in) if named_in is not None else ()
    recorder.history.add(
        Observation(
            channel=channel,
            surface=surface,
            place=place[:LONGEST_PLACE],
            names=names or identities.find(part.data),
            seen=seen,
        )
    )


class Overhearing:
    """What was published on Redis while the users were at work.

    Messages wait in memory until the users' identities are known.
    """

    def __init__(self) -> None:
        self._messages: list[tuple[bytes, bytes]] = []

    async def listen(self, reader: RedisReader, *, is_patient: bool) -> None:
        """Keep what is published, without end."""
        while True:
            try:
                async for channel, payload in reader.subscribe_all():
                    self._messages.append((channel, payload))
            except TargetError:
                if not is_patient:
                    raise
                await asyncio.sleep(_PATIENCE_S)

    def record(self, recorder: "Recorder", identities: "Identities") -> None:
        """Write down each message that carries a canary."""
        for channel, payload in self._messages:
            _observe(
                recorder,
                identities,
                channel="pubsub",
                surface=identities.blank(channel),
                place=f"channel {identities.blank(channel)}",
                part=Part("message", payload),
                named_in=channel,
            )
        self._messages.clear()


@contextlib.asynccontextmanager
async def overhearing(
    redis_url: str | None, *, is_patient: bool = False
) -> AsyncIterator[Overhearing]:
    """Listen to everything published on Redis inside the block.

    Args:
        redis_url: The server; None hears nothing.
        is_patient: Listen again when the server has cut us off, as it does when a
            fault restarts it; what it publishes meanwhile is not heard.

    Raises:
        TargetError: Redis cannot be reached.
    """
    heard = Overhearing()
    if redis_url is None:
        yield heard
        return
    async with RedisReader(redis_url) as reader:
        listener = asyncio.create_task(
            heard.listen(reader, is_patient=is_patient), name="overhearing"
        )
        try:
            yield heard
        finally:
            listener.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await listener


def log_surfaces(paths: Iterable[Path]) -> list[SurfaceRecord]:
    """Return the logs of a service as surfaces that can be tested."""
    return [SurfaceRecord("log", path.name) for path in paths]
