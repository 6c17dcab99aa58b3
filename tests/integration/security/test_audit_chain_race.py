"""The audit log's chains under load, and what verification says of tampered ones.

Devices of many users write at one time; some requests are cancelled at any instant.
Whatever happens, each chain holds exactly what was committed, in one line.
"""

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace

import asyncpg
import pytest
from sqlalchemy import func, select, text
from sqlalchemy.exc import DBAPIError

from app.security import AnchorKey, FlawKind, Role
from app.settings import Settings
from app.storage import Verification, anchor_heads, verify_audit
from app.storage.check_audit import _main as run_check
from app.storage.grant import grant
from app.storage.tables import audit_log
from tests.integration.app.service import Service, running
from tests.integration.security.audit_twins import EARLY, TWO_OF_A_NUMBER, UNLOCKED
from tests.integration.security.crowd import Visitor, enrol

pytestmark = [pytest.mark.integration, pytest.mark.slow]
USERS, DEVICES, ENTRIES = 50, 3, 2
SEED = 20_261
"""Which requests are cancelled, and when; any seed must do."""


@dataclass(frozen=True)
class Written:
    """What a crowd did: requests that answered, and those that were cancelled."""

    answered: int
    cancelled: int


async def write_together(
    service: Service, users: int, *, devices: int = DEVICES, cancelled: float = 0.0
) -> Written:
    """Let several devices of many users write audited things at one time."""
    rng = random.Random(SEED)
    visitors = await enrol(service, users)

    async def write(visitor: Visitor, turns: int | None) -> bool:
        async def request() -> None:
            async with service.context(visitor.user_id) as context:
                for number in range(ENTRIES):
                    await context.audit.record("thing.done", str(number))

        task = asyncio.create_task(request())
        for _ in range(turns or 0):
            await asyncio.sleep(0)
        if turns is not None:
            task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        return not task.cancelled()

    planned = [
        (visitor, rng.randrange(60) if rng.random() < cancelled else None)
        for visitor in visitors
        for _ in range(devices)
    ]
    async with asyncio.timeout(100):
        answers = await asyncio.gather(*(write(*each) for each in planned))
    return Written(sum(answers), len(answers) - sum(answers))


async def verified(
    service: Service, *, kept: tuple[int, bytes] | None = None
) -> Verification:
    """Verify the log of a service."""
    async with service.parts.sessions.for_audit() as session:
        return await verify_audit(session, service.parts.anchor_key, kept=kept)


async def logged(service: Service) -> int:
    """Return how many entries there are."""
    async with service.parts.sessions.for_audit() as session:
        every = select(func.count()).select_from(audit_log)
        return await session.scalar(every) or 0


@contextlib.asynccontextmanager
async def owning(settings: Settings) -> AsyncIterator[asyncpg.Connection]:
    """Connect as the owner of the database, whom no policy binds."""
    connection = await asyncpg.connect(settings.database_url.get_secret_value())
    try:
        yield connection
    finally:
        await connection.close()


async def test_concurrent_entries_form_one_line(own_settings: Settings) -> None:
    """Fifty users with three devices each: no gap, no fork, nothing lost."""
    async with running(own_settings) as service:
        written = await write_together(service, USERS)

        found = await verified(service)

    assert written == Written(USERS * DEVICES, 0)
    assert found.flaws == ()
    assert (found.chains, found.entries) == (USERS, USERS * DEVICES * ENTRIES)


async def test_cancelled_requests_leave_no_gap(own_settings: Settings) -> None:
    """Requests that are cancelled anywhere leave all of their entries or none."""
    async with running(own_settings) as service:
        written = await write_together(service, 20, cancelled=0.7)

        found = await verified(service)
        entries = await logged(service)

    assert written.cancelled > 0
    assert found.flaws == ()
    assert found.entries == entries
    assert entries >= written.answered * ENTRIES
    assert entries % ENTRIES == 0


async def test_link_without_lock_is_caught(own_settings: Settings) -> None:
    """The twin that reads the head and then writes forks the chains."""
    async with owning(own_settings) as owner:
        await owner.execute(UNLOCKED)
        await owner.execute(TWO_OF_A_NUMBER)
    async with running(own_settings) as service:
        await write_together(service, 4, devices=8)

        found = await verified(service)

    assert {flaw.kind for flaw in found.flaws} == {FlawKind.FORK}


async def cross(service: Service, visitor: Visitor, *, first: str | None) -> None:
    """Let two devices want one row and the chain's head, in opposite orders."""
    row = text("UPDATE threads SET title = title || '.' WHERE user_id = :user_id")
    mine = {"user_id": visitor.user_id}
    recorded, changed = asyncio.Event(), asyncio.Event()

    async def record_then_change() -> None:
        async with service.context(visitor.user_id) as context:
            if first:
                await context.database.execute(text(first))
            await context.audit.record("one", "")
            recorded.set()
            await changed.wait()
            await context.database.execute(row, mine)

    async def change_then_record() -> None:
        async with service.context(visitor.user_id) as context:
            if first:
                await context.database.execute(text(first))
            await recorded.wait()
            await context.database.execute(row, mine)
            changed.set()
            await context.audit.record("two", "")

    async with asyncio.timeout(30), asyncio.TaskGroup() as group:
        group.create_task(record_then_change())
        group.create_task(change_then_record())


@pytest.mark.detect
async def test_chain_never_deadlocks_with_rows(own_settings: Settings) -> None:
    """The head is the last lock that a transaction takes; taken early, it deadlocks."""
    async with running(own_settings) as service:
        (ada,) = await enrol(service, 1)
        async with service.http() as http:
            await http.post("/threads", headers=ada.header, json={"title": "t"})

        await cross(service, ada, first=None)
        with pytest.raises(ExceptionGroup) as raised:
            await cross(service, ada, first=EARLY)

        found = await verified(service)

    assert raised.group_contains(DBAPIError, match="deadlock")
    assert found.flaws == ()


# Of a user ($1) whose three entries have the subjects 0, 1 and 2.
TAMPERING = {
    "entry changed": (
        "UPDATE audit_log SET action = 'x' WHERE user_id = $1 AND subject = '1'",
        (FlawKind.EDIT, 2),
    ),
    "entries swapped": (
        "UPDATE audit_log SET subject = 2 - subject::int WHERE user_id = $1",
        (FlawKind.EDIT, 1),
    ),
    "entry gone": (
        "DELETE FROM audit_log WHERE user_id = $1 AND subject = '1'",
        (FlawKind.GAP, 2),
    ),
    "link gone": (
        "DELETE FROM audit_links WHERE user_id = $1 AND seq = 2",
        (FlawKind.GAP, 2),
    ),
    "entry given away": (
        """
        UPDATE audit_log SET user_id = gen_random_uuid()
        WHERE user_id = $1 AND subject = '1'
        """,
        (FlawKind.GAP, 2),
    ),
    "tail gone": (
        """
        WITH links AS (DELETE FROM audit_links WHERE user_id = $1 AND seq > 1)
        DELETE FROM audit_log WHERE user_id = $1 AND subject <> '0'
        """,
        (FlawKind.TRUNCATION, 2),
    ),
    "tail gone, head forged": (
        """
        WITH links AS (DELETE FROM audit_links WHERE user_id = $1 AND seq > 1),
        log AS (DELETE FROM audit_log WHERE user_id = $1 AND subject <> '0')
        UPDATE audit_heads AS head SET seq = 1, hash = link.hash FROM audit_links AS link
        WHERE head.user_id = $1 AND link.user_id = $1 AND link.seq = 1
        """,
        (FlawKind.TRUNCATION, 2),
    ),
    "all gone": (
        """
        WITH links AS (DELETE FROM audit_links WHERE user_id = $1),
        head AS (DELETE FROM audit_heads WHERE user_id = $1)
        DELETE FROM audit_log WHERE user_id = $1
        """,
        (FlawKind.TRUNCATION, 1),
    ),
}


async def test_tampering_by_the_owner_is_found(own_settings: Settings) -> None:
    """Who may write to every table is still found out, by the anchor's key."""
    seen = {}
    async with running(own_settings) as service:
        visitors = dict(
            zip(TAMPERING, await enrol(service, len(TAMPERING)), strict=True)
        )
        for visitor in visitors.values():
            async with service.context(visitor.user_id) as context:
                for number in range(3):
                    await context.audit.record("did", str(number))
        assert await anchor_heads(service.parts.sessions, service.parts.anchor_key)
        assert (await verified(service)).flaws == ()
        async with owning(own_settings) as owner:
            for name, (statement, _) in TAMPERING.items():
                await owner.execute(statement, visitors[name].user_id)

        found = await verified(service)
        names = {visitor.user_id: name for name, visitor in visitors.items()}
        for flaw in found.flaws:
            if flaw.kind is not FlawKind.UNLINKED:
                seen[names[flaw.user_id]] = (flaw.kind, flaw.seq)

    assert seen == {name: expected for name, (_, expected) in TAMPERING.items()}


async def test_anchors_are_signed_and_kept(own_settings: Settings) -> None:
    """Workers anchor each change once; lost or foreign anchors are found."""
    async with running(own_settings) as service:
        parts = service.parts
        await write_together(service, 2, devices=1)
        made = await asyncio.gather(
            *(anchor_heads(parts.sessions, parts.anchor_key) for _ in range(4))
        )
        (anchor,) = filter(None, made)
        kept = (anchor.number, anchor.digest)
        assert (await verified(service, kept=kept)).flaws == ()

        parts = replace(parts, anchor_key=AnchorKey("another secret"))
        service.app.state.parts = parts
        foreign = await verified(service)
        service.app.state.parts = replace(
            parts, anchor_key=AnchorKey(own_settings.audit_secret)
        )
        async with owning(own_settings) as owner:
            await owner.execute("DELETE FROM audit_anchored_heads")
            await owner.execute("DELETE FROM audit_anchors")
        lost = await verified(service, kept=kept)

    assert [flaw.kind for flaw in foreign.flaws] == [FlawKind.ANCHOR]
    assert [(flaw.kind, flaw.seq) for flaw in lost.flaws] == [(FlawKind.ANCHOR, 1)]


async def test_auditors_and_operators_verify(
    own_settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The endpoint is for auditors; the command tells by its exit code."""
    monkeypatch.setenv("DATABASE_URL", own_settings.database_url.get_secret_value())
    monkeypatch.setenv("REDIS_URL", own_settings.redis_url.get_secret_value())
    monkeypatch.setenv("SIGNING_KEYS", "k" * 40)
    path = "/audit/verification"
    async with running(own_settings) as service, service.http() as http:
        auditor, member = await enrol(service, 2)
        await grant(own_settings, auditor.username, Role.AUDITOR)
        refused = await http.get(path, headers=member.header)
        sound = await http.get(path, headers=auditor.header)
        codes = [await asyncio.to_thread(run_check, [])]
        async with owning(own_settings) as owner:
            await owner.execute("UPDATE audit_log SET action = 'nothing'")
        wrong = await http.get(path, headers=auditor.header)
        codes.append(await asyncio.to_thread(run_check, []))
        codes.append(await asyncio.to_thread(run_check, ["no anchor"]))

    assert refused.status_code == 403
    assert sound.json()["is_sound"] is True
    assert wrong.json()["is_sound"] is False
    assert wrong.json()["flaws"][0]["kind"] == "edit"
    assert codes == [0, 1, 2]
    assert "edit: entry 1" in capsys.readouterr().out
