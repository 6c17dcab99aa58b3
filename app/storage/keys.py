"""Signing keys in Postgres: shared by all workers, rotated by exactly one of them.

The life of a key, on the clock of the database::

    published        active            retired          deleted
    |-- ahead_s ... --|---- rotate_s ----|--- verify_s ---|
    verifies          signs, verifies    verifies

A key is published for ``ahead_s`` before it signs, so whoever reads the keys less often
than that, or caches them less long, knows it before the first token of it. It verifies for
``verify_s`` after it was retired: as long as a worker may sign with it that has not heard
yet, and then as long as a token lives. So no token is refused for the age of its key.

An advisory lock makes one worker of all take the step that is due; the others find it
taken. Each step is one transaction, so a worker that is killed leaves none half done.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Self

from sqlalchemy import ColumnElement, delete, func, insert, null, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from app.monitoring import log_event
from app.security import (
    KeyPair,
    KeyRing,
    KeySealer,
    KeySet,
    KeyState,
    SealedKey,
    SealError,
)
from app.security.keyring import STALE_S
from app.settings import MAX_ACCESS_TOKEN_S, Settings
from app.storage.sessions import SessionFactory
from app.storage.tables import signing_keys

MARGIN_S = 60.0
"""More than a step of the rotation can take: a statement is ended after 30 s."""

# Any constant will do, as long as nothing else in the database locks the same one.
_LOCK = 7_463_524_191
_log = logging.getLogger("app.storage")


@dataclass(frozen=True, slots=True)
class KeySchedule:
    """How long a key is what, in seconds.

    Attributes:
        rotate_s: How long a key signs.
        ahead_s: How long it is published at least before it signs; below ``rotate_s``.
        verify_s: How long it verifies after that.
    """

    rotate_s: float
    ahead_s: float
    verify_s: float = MAX_ACCESS_TOKEN_S + STALE_S + MARGIN_S

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """Return what the operator chose."""
        return cls(settings.signing_key_s, settings.signing_key_ahead_s)


class StoredKeys:
    """Reads and rotates the signing keys of a service."""

    def __init__(
        self, sessions: SessionFactory, sealer: KeySealer, schedule: KeySchedule
    ) -> None:
        """Keep no key: the ring does."""
        self._sessions = sessions
        self._sealer = sealer
        self._schedule = schedule
        self._ours = signing_keys.c.root.in_(sealer.roots)

    async def open_ring(self, clock: Callable[[], float]) -> KeyRing:
        """Return a ring of the keys; the first worker of all makes the first key."""
        await self.rotate(must_wait=True)
        return KeyRing(await self.read(clock()), self.read, clock=clock)

    async def read(self, read_at_s: float) -> KeySet:
        """Return all keys, from one statement and so from one moment.

        Raises:
            SealError: The key that signs was tampered with, or there is none. Others
                that were are left out.
        """
        columns = signing_keys.c
        async with self._sessions.for_keys() as session:
            rows = await session.execute(
                select(
                    columns.kid,
                    columns.root,
                    columns.public,
                    columns.tag,
                    columns.sealed,
                    columns.state,
                )
                .where(self._ours)
                .order_by(columns.activated_at.desc().nulls_last())
            )
        signing, others = None, []
        for *fields, state in rows:
            key = SealedKey(*fields)
            if state == KeyState.ACTIVE and signing is None:
                signing = self._sealer.open_pair(key)
                continue
            try:
                others.append(self._sealer.open_public(key))
            except SealError as exc:
                log_event(_log, "keys.tampered", level=logging.ERROR, error=exc)
        if signing is None:
            message = "No key signs: somebody deleted it. Start the service again."
            raise SealError(message)
        return KeySet.of(signing, others, read_at_s=read_at_s)

    async def rotate(self, *, must_wait: bool = False) -> bool:
        """Take the step that is due, unless another worker is at it.

        Args:
            must_wait: Wait for that worker instead.

        Returns:
            Whether a key came, or changed its state.
        """
        async with self._sessions.for_keys() as session:
            if must_wait:
                await session.execute(select(func.pg_advisory_xact_lock(_LOCK)))
            elif not await session.scalar(
                select(func.pg_try_advisory_xact_lock(_LOCK))
            ):
                return False
            return await self._take_step(session)

    async def _take_step(self, session: AsyncSession) -> bool:
        columns, schedule = signing_keys.c, self._schedule
        await session.execute(
            delete(signing_keys).where(
                self._ours, columns.retired_at < _ago(schedule.verify_s)
            )
        )
        rows = await session.execute(
            select(
                columns.state,
                columns.kid,
                columns.published_at <= _ago(schedule.ahead_s),
                columns.activated_at <= _ago(schedule.rotate_s),
                columns.activated_at <= _ago(schedule.rotate_s - schedule.ahead_s),
            ).where(self._ours, columns.state != KeyState.RETIRED)
        )
        found = {state: tuple(fields) for state, *fields in rows}
        if KeyState.ACTIVE not in found:
            await self._publish(session, KeyState.ACTIVE)
            return True
        _, _, is_over, is_near_end = found[KeyState.ACTIVE]
        if KeyState.NEXT not in found:
            if is_near_end:
                await self._publish(session, KeyState.NEXT)
            return bool(is_near_end)
        kid, is_known, *_ = found[KeyState.NEXT]
        if is_known and is_over:
            await self._succeed(session, kid)
            return True
        return False

    async def _publish(self, session: AsyncSession, state: KeyState) -> None:
        key = self._sealer.seal(KeyPair.generate())
        is_active = state == KeyState.ACTIVE
        await session.execute(
            insert(signing_keys).values(
                kid=key.kid,
                root=key.root,
                public=key.public,
                tag=key.tag,
                sealed=key.sealed,
                state=state,
                published_at=func.clock_timestamp(),
                activated_at=func.clock_timestamp() if is_active else null(),
            )
        )
        log_event(_log, "keys.published", kid=key.kid, state=state)

    async def _succeed(self, session: AsyncSession, kid: str) -> None:
        # First the old one: at no moment may two keys sign.
        await session.execute(
            update(signing_keys)
            .where(self._ours, signing_keys.c.state == KeyState.ACTIVE)
            .values(
                state=KeyState.RETIRED,
                sealed=null(),
                retired_at=func.clock_timestamp(),
            )
        )
        await session.execute(
            update(signing_keys)
            .where(signing_keys.c.kid == kid)
            .values(state=KeyState.ACTIVE, activated_at=func.clock_timestamp())
        )
        log_event(_log, "keys.activated", kid=kid)


def _ago(seconds: float) -> ColumnElement[object]:
    # Not now(): that is the start of a transaction which may have waited for the lock.
    return func.clock_timestamp() - timedelta(seconds=seconds)
