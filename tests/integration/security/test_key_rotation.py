"""Signing keys are rotated while a hundred users work: no token is refused for it.

Two workers on one database. Users take tokens from either and show them to the other,
old ones too, while keys are published, sign and retire.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from dataclasses import asdict, dataclass, replace
from itertools import starmap
from uuid import uuid4

import jwt
import pytest
from pydantic import SecretStr
from sqlalchemy import delete, func, insert, select, update

from app.api import Parts
from app.security import (
    AccessTokens,
    KeyPair,
    KeyRing,
    KeySealer,
    KeyState,
    SealError,
    StaleKeysError,
)
from app.security.keyring import STALE_S
from app.security.tokens import AUDIENCE, ISSUER
from app.settings import Settings, parse_signing_keys
from app.storage import KeySchedule, SessionFactory, StoredKeys, open_engine
from app.storage import keys as keys_module
from app.storage.tables import signing_keys
from tests.integration.app.service import Replace, Service, running
from tests.integration.security.conftest import own_database
from tests.integration.security.crowd import Visitor, enrol
from tests.integration.security.keys_twins import NoOverlap, Unlocked

pytestmark = [pytest.mark.integration, pytest.mark.slow]
USERS = 100
SCHEDULE = KeySchedule(rotate_s=5_000, ahead_s=1_000, verify_s=90_000)
PAUSE_S = 0.02


@pytest.fixture(scope="module")
def own_settings(settings: Settings) -> Iterator[Settings]:
    """Return settings of services whose database only this module uses."""
    with own_database(settings) as chosen:
        yield chosen


@dataclass(frozen=True)
class Store:
    """The keys of a database that nobody else uses."""

    sessions: SessionFactory
    settings: Settings

    def keys(self, kind: type[StoredKeys] = StoredKeys) -> StoredKeys:
        """Return the stored keys as one worker sees them."""
        return kind(self.sessions, KeySealer(self.settings.keys), SCHEDULE)

    async def states(self) -> list[str]:
        """Return the states of all keys, the oldest first."""
        async with self.sessions.for_keys() as session:
            found = await session.scalars(
                select(signing_keys.c.state).order_by(signing_keys.c.published_at)
            )
            return list(found)

    async def age(self, seconds: float) -> None:
        """Let all keys be older."""
        columns = signing_keys.c
        shift = func.make_interval(0, 0, 0, 0, 0, 0, seconds)
        async with self.sessions.for_keys() as session:
            await session.execute(
                update(signing_keys).values(
                    published_at=columns.published_at - shift,
                    activated_at=columns.activated_at - shift,
                    retired_at=columns.retired_at - shift,
                )
            )


@contextlib.asynccontextmanager
async def store(settings: Settings) -> AsyncIterator[Store]:
    """Open the keys of a database, of which there are none yet."""
    async with elsewhere(settings) as kept:
        async with kept.sessions.for_keys() as session:
            await session.execute(delete(signing_keys))
        yield kept


@contextlib.asynccontextmanager
async def elsewhere(settings: Settings) -> AsyncIterator[Store]:
    """Open the keys of a database, as they are."""
    engine = open_engine(settings.service_database_url, pool_size=20, pool_timeout_s=30)
    try:
        yield Store(SessionFactory(engine), settings)
    finally:
        await engine.dispose()


async def step(services: tuple[Service, Service], aged_s: float) -> None:
    """Let the next step be due, and the workers take it and hear of it in turn."""
    here, there = (service.parts for service in services)
    async with elsewhere(here.settings) as kept:
        await kept.age(aged_s)
    # Both find it due: one takes it.
    await asyncio.gather(
        here.stored_keys.rotate(), there.stored_keys.rotate(must_wait=True)
    )
    await here.keys.refresh()
    await asyncio.sleep(PAUSE_S)
    await there.keys.refresh()


async def work_through_rotations(
    services: tuple[Service, Service], visitors: list[Visitor], *, rotations: int
) -> tuple[dict[int, int], set[str]]:
    """Let users ask with old and new tokens while keys are rotated so often.

    Each takes a token here and shows it there, once during each step and once after.

    Returns:
        How many requests got which status, and the keys that signed.
    """
    statuses: dict[int, int] = {}
    signed: set[str] = set()
    tokens = [visitor.access_token for visitor in visitors]

    async def visit(number: int, visitor: Visitor) -> None:
        here, there = services[number % 2], clients[1 - number % 2]
        header = {"authorization": f"Bearer {tokens[number]}"}
        answer = await there.get("/me", headers=header)
        statuses[answer.status_code] = statuses.get(answer.status_code, 0) + 1
        if number % 4:
            # The others show their first token to the end.
            tokens[number] = here.parts.access_tokens.issue(
                visitor.user_id, visitor.session_id
            )
            signed.add(jwt.get_unverified_header(tokens[number])["kid"])

    async with (
        services[0].http() as first,
        services[1].http() as second,
        asyncio.timeout(90),
    ):
        clients = first, second
        for aged_s in (SCHEDULE.rotate_s - SCHEDULE.ahead_s, SCHEDULE.ahead_s) * (
            rotations
        ):
            rotating = step(services, aged_s)
            await asyncio.gather(rotating, *starmap(visit, enumerate(visitors)))
        await asyncio.gather(*starmap(visit, enumerate(visitors)))
    return statuses, signed


def rotated_by(settings: Settings, kind: type[StoredKeys] = StoredKeys) -> Replace:
    """Return what gives a service the keys of a twin, on the schedule of the test."""

    def exchange(parts: Parts) -> Parts:
        stored = kind(parts.stored_keys._sessions, KeySealer(settings.keys), SCHEDULE)
        ring = KeyRing(parts.keys.current, stored.read, gap_s=0.01)
        return replace(
            parts,
            stored_keys=stored,
            keys=ring,
            access_tokens=AccessTokens(ring, lifetime_s=900),
        )

    return exchange


async def test_no_request_fails_for_a_rotation(own_settings: Settings) -> None:
    """A hundred users, two rotations, two workers: every answer is good."""
    shared = rotated_by(own_settings)
    async with (
        running(own_settings, replace=shared) as here,
        running(own_settings, replace=shared) as there,
    ):
        visitors = await enrol(here, USERS)

        statuses, signed = await work_through_rotations(
            (here, there), visitors, rotations=2
        )

    assert set(statuses) == {200}
    assert statuses[200] == 5 * USERS
    assert len(signed) == 3


@pytest.mark.power
async def test_rotation_without_overlap_is_caught(own_settings: Settings) -> None:
    """A twin whose keys stop to verify when they stop to sign refuses good tokens."""
    twin = rotated_by(own_settings, NoOverlap)
    async with (
        running(own_settings, replace=twin) as here,
        running(own_settings, replace=twin) as there,
    ):
        visitors = await enrol(here, 8)

        statuses, _ = await work_through_rotations((here, there), visitors, rotations=1)

    assert statuses.get(401, 0) > 0


async def raced(stored: list[StoredKeys]) -> tuple[int, int]:
    """Let all workers take a step at one time; return who did, and who failed."""
    answers = await asyncio.gather(
        *(keys.rotate(must_wait=True) for keys in stored), return_exceptions=True
    )
    failed = sum(isinstance(answer, BaseException) for answer in answers)
    return sum(answer is True for answer in answers), failed


async def test_exactly_one_worker_takes_each_step(own_settings: Settings) -> None:
    """Of fifty workers that find a step due, one takes it, and none fails."""
    async with store(own_settings) as kept:
        workers = [kept.keys() for _ in range(50)]

        assert await raced(workers) == (1, 0)
        assert await kept.states() == ["active"]
        await kept.age(SCHEDULE.rotate_s - SCHEDULE.ahead_s)
        assert await raced(workers) == (1, 0)
        assert await kept.states() == ["active", "next"]
        assert await raced(workers) == (0, 0)
        await kept.age(SCHEDULE.ahead_s)
        assert await raced(workers) == (1, 0)
        assert await kept.states() == ["retired", "active"]
        await kept.age(SCHEDULE.verify_s)
        await raced(workers)
        assert "retired" not in await kept.states()


@pytest.mark.power
async def test_rotation_by_everybody_is_caught(own_settings: Settings) -> None:
    """Twins without the lock step on each other; the index keeps a second key out."""
    async with store(own_settings) as kept:
        workers = [kept.keys(Unlocked) for _ in range(8)]
        together = asyncio.Barrier(len(workers))
        for worker in workers:
            assert isinstance(worker, Unlocked)
            worker.decided = together

        async with asyncio.timeout(60):
            assert await raced(workers) == (1, 7)
        assert await kept.states() == ["active"]


async def test_next_key_waits_until_it_was_published(own_settings: Settings) -> None:
    """A key that is due but was published late signs nothing before its time."""
    async with store(own_settings) as kept:
        worker = kept.keys()
        await worker.rotate()
        await kept.age(5 * SCHEDULE.rotate_s)

        assert await worker.rotate()
        assert not await worker.rotate()
        assert await kept.states() == ["active", "next"]


async def test_busy_lock_is_left_to_its_holder(own_settings: Settings) -> None:
    """A worker that finds another one at work goes on, instead of waiting for it."""
    async with store(own_settings) as kept:
        worker = kept.keys()
        async with elsewhere(own_settings) as busy, busy.sessions.for_keys() as other:
            await other.execute(select(func.pg_advisory_xact_lock(keys_module._LOCK)))

            async with asyncio.timeout(20):
                assert not await worker.rotate()
        assert await worker.rotate()


async def test_private_half_is_gone_when_a_key_retires(own_settings: Settings) -> None:
    """Whoever reads the table later can sign nothing with an old key."""
    async with store(own_settings) as kept:
        worker = kept.keys()
        for aged_s in (0.0, SCHEDULE.rotate_s, SCHEDULE.ahead_s):
            await kept.age(aged_s)
            assert await worker.rotate()

        async with kept.sessions.for_keys() as session:
            rows = await session.execute(
                select(signing_keys.c.state, signing_keys.c.sealed.is_(None))
            )
            assert dict(map(tuple, rows)) == {"retired": True, "active": False}
        assert len((await worker.read(0)).verifying) == 2


async def test_planted_key_verifies_nothing(own_settings: Settings) -> None:
    """A row that somebody else has written is left out; a planted active key stops us."""
    planted = KeySealer(parse_signing_keys("x" * 40)).seal(KeyPair.generate())
    ours = own_settings.keys[0].kid
    async with store(own_settings) as kept:
        worker = kept.keys()
        await worker.rotate()
        values = {**asdict(planted), "root": ours, "state": KeyState.NEXT}
        async with kept.sessions.for_keys() as session:
            await session.execute(insert(signing_keys).values(values))

        assert planted.kid not in (await worker.read(0)).verifying
        async with kept.sessions.for_keys() as session:
            await session.execute(
                update(signing_keys)
                .where(signing_keys.c.state == KeyState.ACTIVE)
                .values(public=planted.public)
            )
        with pytest.raises(SealError, match="was not stored by this service"):
            await worker.read(0)


async def test_new_root_takes_over_without_a_break(own_settings: Settings) -> None:
    """A new root secret before the old one: what the old one sealed signs on."""
    new = own_settings.model_copy(
        update={"signing_keys": SecretStr(f"{'n' * 40},{'k' * 40}")}
    )
    async with store(new) as changed, store(own_settings) as kept:
        await kept.keys().rotate()
        worker = changed.keys()
        first = await worker.read(0)
        for aged_s in (SCHEDULE.rotate_s, SCHEDULE.ahead_s):
            await kept.age(aged_s)
            assert await worker.rotate()
        second = await worker.read(0)

    assert first.signing.kid != second.signing.kid
    assert set(second.verifying) == {first.signing.kid, second.signing.kid}


async def test_users_do_not_see_signing_keys(own_settings: Settings) -> None:
    """A transaction of a user, or of a login, reads no key, not even a sealed one."""
    async with store(own_settings) as kept:
        await kept.keys().rotate()
        assert await kept.states() == ["active"]
        opened = kept.sessions.for_user(str(uuid4())), kept.sessions.for_auth()
        for transaction in opened:
            async with transaction as session:
                assert (await session.execute(select(signing_keys))).all() == []


async def test_published_keys_verify_tokens(own_settings: Settings) -> None:
    """What stands at the well-known place verifies, and may be kept for a while."""
    async with running(own_settings) as service, service.http() as http:
        (ada,) = await enrol(service, 1)

        answer = await http.get("/.well-known/jwks.json")

    published = jwt.PyJWKSet.from_dict(answer.json())
    kid = jwt.get_unverified_header(ada.access_token)["kid"]
    claims = jwt.decode(
        ada.access_token, published[kid], ["EdDSA"], audience=AUDIENCE, issuer=ISSUER
    )
    assert claims["sub"] == ada.user_id
    control = answer.headers["cache-control"]
    assert control.startswith("public, max-age=")
    assert 0 < int(control.rpartition("=")[2]) < own_settings.signing_key_ahead_s
    assert "vary" not in answer.headers


async def test_worker_that_cannot_read_keys_signs_nothing(
    own_settings: Settings,
) -> None:
    """Sixty seconds without a look: tokens verify on, and none is signed any more."""
    now_s = 0.0
    async with store(own_settings) as kept:
        stored = kept.keys()
        ring = await stored.open_ring(lambda: now_s)
        tokens = AccessTokens(ring, lifetime_s=900)
        token = tokens.issue("ada", "login")
        now_s = STALE_S + 1

        assert tokens.verify(token).user_id == "ada"
        with pytest.raises(StaleKeysError, match="reaches Postgres"):
            tokens.issue("ada", "login")
        await ring.refresh()
        assert tokens.verify(tokens.issue("ada", "login")).user_id == "ada"
