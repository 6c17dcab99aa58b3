"""Timeouts, broken connections and silent servers over real sockets."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from typing import Any

import asyncpg
import pytest
import redis.asyncio
import redis.exceptions

from test_framework.clients.blocked import RedisProbe
from test_framework.core import TargetError, UsageError
from test_framework.explore import (
    Cancel,
    Conclusion,
    Scenario,
    explore,
    external,
    replay,
)
from test_framework.explore.execution import Runner
from test_framework.explore.gate import GateLoop, watch_waits
from test_framework.explore.scenario import main_of
from test_framework.explore.schedulers import Reverse, Stock

pytestmark = [pytest.mark.integration, pytest.mark.slow]

Said = list[str]


def of_one_user(
    user: Callable[[Any, Said], Coroutine[Any, Any, None]],
    connecting: Callable[[], contextlib.AbstractAsyncContextManager[Any]],
) -> tuple[Scenario[Any], Said]:
    """Return a scenario of one user with a connection, and what the user says in it."""
    said: Said = []

    @contextlib.asynccontextmanager
    async def setup() -> AsyncIterator[Any]:
        said.clear()
        async with connecting() as connection:
            yield connection

    async def go(connection: Any, user_number: int) -> None:  # noqa: ANN401, ARG001  # of any client; the face of a user
        await user(connection, said)

    return Scenario(setup, go, users=1), said


def redis_at(url: str) -> Callable[[], contextlib.AbstractAsyncContextManager[Any]]:
    """Return what connects to Redis."""

    @contextlib.asynccontextmanager
    async def connecting() -> AsyncIterator[Any]:
        async with redis.asyncio.Redis.from_url(url) as client:
            await client.ping()
            yield client

    return connecting


def postgres_at(url: str) -> Callable[[], contextlib.AbstractAsyncContextManager[Any]]:
    """Return what connects to Postgres."""

    @contextlib.asynccontextmanager
    async def connecting() -> AsyncIterator[Any]:
        connection = await asyncpg.connect(url)
        try:
            yield connection
        finally:
            await connection.close()

    return connecting


async def ask_with_patience(connection: Any, said: Said) -> None:  # noqa: ANN401  # asyncpg has no types
    """Ask Postgres and give up soon."""
    try:
        async with asyncio.timeout(0.3):
            await connection.fetchval("SELECT 1")
        said.append("answered")
    except TimeoutError:
        said.append("too late")


def test_timeout_never_fires_while_a_request_may_leave(database_url: str) -> None:
    """No order of plain requests takes even a short while."""
    scenario, said = of_one_user(ask_with_patience, postgres_at(database_url))
    spoken: set[str] = set()

    async def user(state: Any, number: int) -> None:  # noqa: ANN401  # of any client
        await scenario.user(state, number)
        spoken.update(said)

    explore(Scenario(scenario.setup, user, users=1), io="gate", schedules=30, seed=1)

    assert spoken == {"answered"}


def test_timeout_fires_where_the_schedule_expires_it(database_url: str) -> None:
    """The request is held, and its time passes at once."""
    scenario, said = of_one_user(ask_with_patience, postgres_at(database_url))
    # 1 is the arrival, 2 the wait for the answer.
    lines = "fidelity = fifo\nio = gate\nusers = 1\nexpire in user[0] at 2\n"

    outcome = replay(scenario, lines)

    assert outcome.failure is None, outcome.text()
    assert said == ["too late"]


async def tell_what_redis_says(client: Any, said: Said) -> None:  # noqa: ANN401  # Redis without types
    """Ask Redis on a connection that may break."""
    try:
        said.append(f"answered {await client.get('k')}")
    except redis.exceptions.ConnectionError as exc:
        said.append(f"broken: {exc}")


async def tell_what_postgres_says(connection: Any, said: Said) -> None:  # noqa: ANN401  # asyncpg has no types
    """Ask Postgres on a connection that may break."""
    try:
        said.append(f"answered {await connection.fetchval('SELECT 1')}")
    except asyncpg.PostgresConnectionError as exc:
        said.append(f"broken: {exc}")


def test_connection_of_postgres_breaks_where_the_schedule_says(
    database_url: str,
) -> None:
    """The client sees what it sees of a network that fails."""
    scenario, said = of_one_user(tell_what_postgres_says, postgres_at(database_url))
    fault = "raise ConnectionResetError in user[0] at 2"

    replay(scenario, "fidelity = fifo\nio = gate\nusers = 1\n")
    unbroken = list(said)
    outcome = replay(scenario, f"fidelity = fifo\nio = gate\nusers = 1\n{fault}\n")

    assert outcome.failure is None, outcome.text()
    assert unbroken == ["answered 1"]
    assert len(said) == 1
    assert said[0].startswith("broken: connection was closed")


def test_broken_connections_are_tried_at_every_request(redis_url: str) -> None:
    """With errors=, a client that survives them is left in peace."""
    scenario, said = of_one_user(tell_what_redis_says, redis_at(redis_url))
    spoken: set[str] = set()

    async def user(state: Any, number: int) -> None:  # noqa: ANN401  # of any client
        await scenario.user(state, number)
        spoken.update(word.split()[0] for word in said)

    report = explore(
        Scenario(scenario.setup, user, users=1),
        io="gate",
        errors=("ConnectionResetError",),
        schedules=40,
        seed=1,
    )

    assert report.witness is None, report.text()
    assert "answered" in spoken


def test_request_of_a_cancelled_user_may_still_reach_its_server(
    redis_url: str,
) -> None:
    """The client cuts the connection; whether Redis counted is up to the schedule."""
    counted: set[int] = set()

    @contextlib.asynccontextmanager
    async def setup() -> AsyncIterator[Any]:
        async with redis.asyncio.Redis.from_url(redis_url) as client:
            await client.set("gate:visits", 0)
            yield client
            counted.add(int(await client.get("gate:visits") or 0))

    async def count(client: Any, user: int) -> None:  # noqa: ANN401, ARG001  # Redis without types; the face of a user
        await client.incr("gate:visits")

    runner = Runner(main_of(Scenario(setup, count, users=1), 1), GateLoop())
    # 1 is the arrival, 2 the wait for the task that sends, 3 for the reply.
    cancelled = (Cancel("user[0]", 3),)

    failures = {runner.run(way, cancelled) for way in (Stock(), Reverse())}

    assert failures == {None}
    assert counted == {0, 1}


async def wait_for_a_job(client: Any, said: Said) -> None:  # noqa: ANN401  # Redis without types
    """Take a job when there is one, put one in after a while."""
    queue = "gate:jobs"

    async def put() -> None:
        await external("a job")
        await client.rpush(queue, "job")

    putting = asyncio.create_task(put(), name="putting")
    _, job = await client.blpop([queue], timeout=0)
    await putting
    said.append(job.decode())


def test_gate_opens_while_redis_waits_for_a_job(redis_url: str) -> None:
    """BLPOP is answered after somebody else's RPUSH, in every order."""
    with RedisProbe(redis_url) as probe:

        @contextlib.asynccontextmanager
        async def connecting() -> AsyncIterator[Any]:
            watch_waits(probe)
            async with redis_at(redis_url)() as client:
                await client.delete("gate:jobs")
                yield client

        scenario, said = of_one_user(wait_for_a_job, connecting)
        report = explore(scenario, io="gate", schedules=20, seed=1)

    assert report.witness is None, report.text()
    assert report.conclusion is not Conclusion.INCONCLUSIVE, report.text()
    assert said == ["job"]


@pytest.fixture
def silent_port() -> Iterator[int]:
    """Where a server accepts connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield listening.getsockname()[1]


def test_server_that_does_not_answer_is_no_finding(silent_port: int) -> None:
    """The run ends with an error of the target, which names who waits for whom."""
    scenario, _ = of_one_user(
        tell_what_redis_says, redis_at(f"redis://127.0.0.1:{silent_port}")
    )
    runner = Runner(main_of(scenario, 1), GateLoop(patience_s=0.2))

    with pytest.raises(TargetError, match=rf"redis at \('127.0.0.1', {silent_port}\)"):
        runner.run(Stock())


def closed_port() -> int:
    """Return a port at which nobody listens any more."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return int(listening.getsockname()[1])


def test_server_that_is_down_is_no_finding() -> None:
    """Nothing is said of the scenario when nobody listens."""
    port = closed_port()
    scenario, _ = of_one_user(
        tell_what_postgres_says, postgres_at(f"postgresql://u@127.0.0.1:{port}/d")
    )

    report = explore(scenario, io="gate", seed=1)

    assert report.conclusion is Conclusion.INCONCLUSIVE
    assert f"The server at 127.0.0.1:{port} refused the connection" in report.claim


def test_refusal_in_the_words_of_a_client_is_no_finding() -> None:
    """Clients raise exceptions of their own, which are no OSError."""
    port = closed_port()
    scenario, _ = of_one_user(
        tell_what_redis_says, redis_at(f"redis://127.0.0.1:{port}")
    )

    report = explore(scenario, io="gate", seed=1)

    assert report.conclusion is Conclusion.INCONCLUSIVE, report.text()
    assert f"The server at 127.0.0.1:{port} refused the connection" in report.claim


def test_refusal_that_the_program_copes_with_excuses_no_failure() -> None:
    """What fails later for a reason of its own is still found."""
    port = closed_port()

    async def ask() -> None:
        with contextlib.suppress(OSError):
            await asyncio.open_connection("127.0.0.1", port)
        raise LookupError("no fallback")

    report = explore(ask, io="gate", seed=1)

    assert report.conclusion is Conclusion.FOUND, report.text()


def test_server_that_talks_nonsense_is_left_to_its_client() -> None:
    """What is no reply of Redis still reaches the program, and the report says so."""

    async def answer(
        reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        await reader.readline()
        writer.write(b"$x\r\n")
        writer.close()

    async def ask() -> None:
        server = await asyncio.start_server(answer, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        async with server:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"*1\r\n$4\r\nPING\r\n")
            assert await reader.read() == b"$x\r\n"
            writer.close()
            await writer.wait_closed()

    report = explore(ask, io="gate", schedules=5, seed=1)

    assert report.witness is None, report.text()
    assert any("no redis" in note for note in report.notes)


@pytest.mark.parametrize(
    ("options", "match"),
    [({"io": "wire"}, "io='wire'"), ({"io": "gate", "fidelity": "any"}, "fifo")],
)
def test_unknown_input_and_output_is_refused(
    options: dict[str, Any], match: str
) -> None:
    """The message says what there is."""

    async def nothing() -> None:
        pass

    with pytest.raises(UsageError, match=match):
        explore(nothing, **options)
