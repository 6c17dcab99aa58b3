"""Refresh tokens: spent once, by exactly one of those who present them.

All tokens of one login form a family. One ``UPDATE ... RETURNING`` spends a token, so
of twenty concurrent attempts Postgres lets one win. Whoever presents a spent token
holds a copy, and nobody can tell which side is the thief: the family ends (RFC 9700,
section 4.14.2).

The family is the login itself: it lives while one of its tokens is neither revoked nor
expired. Access tokens name it, and the transaction of the work that they ask for reads
here whether it lives; so a logout that has committed is seen by every worker, whatever
happens to Redis.
"""

from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import (
    ColumnElement,
    Text,
    bindparam,
    cast,
    delete,
    exists,
    func,
    insert,
    select,
    update,
)
from sqlalchemy.ext.asyncio import AsyncSession

from app.security import hash_refresh_token, new_refresh_token
from app.storage.tables import refresh_tokens

# Built once: every request asks it, and building costs as much as asking.
_IS_LIVE = select(
    exists().where(
        refresh_tokens.c.family_id == bindparam("family_id"),
        refresh_tokens.c.revoked_at.is_(None),
        refresh_tokens.c.expires_at > func.now(),
    )
)


@dataclass(frozen=True, slots=True)
class Rotation:
    """The outcome of presenting a refresh token.

    Attributes:
        user_id: Whose token it is; None when it is unknown.
        family_id: The login it belongs to.
        token: The next token; None when the presented one was not good.
        has_ended: A spent token was presented, and that ended the login just now.
    """

    user_id: str | None = None
    family_id: str | None = None
    token: str | None = None
    has_ended: bool = False


class RefreshTokens:
    """Issues, rotates and revokes refresh tokens; keeps no token in memory."""

    def __init__(self, *, lifetime_s: int) -> None:
        """Let each token live ``lifetime_s`` seconds."""
        self._lifetime = timedelta(seconds=lifetime_s)

    async def issue(self, session: AsyncSession, user_id: str, family_id: str) -> str:
        """Return a new token of a login."""
        token = new_refresh_token()
        await session.execute(
            insert(refresh_tokens).values(
                token_hash=hash_refresh_token(token),
                user_id=user_id,
                family_id=family_id,
                expires_at=func.now() + self._lifetime,
            )
        )
        return token

    async def forget_expired(self, session: AsyncSession, user_id: str) -> None:
        """Delete the user's tokens that have expired, so that they do not pile up.

        Those that somebody else has locked are left for the next time: who locks several
        rows without waiting is in no deadlock.
        """
        columns = refresh_tokens.c
        expired = (
            select(columns.token_hash)
            .where(columns.user_id == user_id, columns.expires_at < func.now())
            .with_for_update(skip_locked=True)
        )
        await session.execute(
            delete(refresh_tokens).where(columns.token_hash.in_(expired))
        )

    async def is_live(self, session: AsyncSession, family_id: str) -> bool:
        """Return whether a login goes on, as the caller's transaction sees it."""
        return bool(await session.scalar(_IS_LIVE, {"family_id": family_id}))

    async def rotate(self, session: AsyncSession, token: str) -> Rotation:
        """Spend a token and return its successor, in the caller's transaction.

        A token that was spent before ends its family; the caller must commit that.
        """
        columns = refresh_tokens.c
        token_hash = hash_refresh_token(token)
        known = (
            await session.execute(
                select(
                    columns.user_id,
                    columns.family_id,
                    _family_lock(columns.family_id),
                ).where(columns.token_hash == token_hash)
            )
        ).first()
        if known is None:
            return Rotation()
        winner = (
            await session.execute(
                update(refresh_tokens)
                .where(
                    columns.token_hash == token_hash,
                    columns.spent_at.is_(None),
                    columns.revoked_at.is_(None),
                    columns.expires_at > func.now(),
                )
                .values(spent_at=func.now())
                .returning(columns.user_id, columns.family_id)
            )
        ).first()
        if winner is not None:
            successor = await self.issue(session, winner.user_id, winner.family_id)
            return Rotation(winner.user_id, winner.family_id, successor)
        is_spent = await session.scalar(
            select(columns.spent_at.is_not(None)).where(
                columns.token_hash == token_hash
            )
        )
        if not is_spent:
            return Rotation()
        has_ended = await self.revoke(session, known.family_id)
        return Rotation(known.user_id, known.family_id, has_ended=has_ended)

    async def revoke(self, session: AsyncSession, family_id: str) -> bool:
        """End a login: none of its tokens works any more.

        Returns:
            Whether it had not ended before.
        """
        await session.execute(select(_family_lock(family_id)))
        ended = await session.execute(
            update(refresh_tokens)
            .where(
                refresh_tokens.c.family_id == family_id,
                refresh_tokens.c.revoked_at.is_(None),
            )
            .values(revoked_at=func.now())
            .returning(refresh_tokens.c.family_id)
        )
        return ended.first() is not None

    async def revoke_all(self, session: AsyncSession, user_id: str) -> None:
        """End all logins of a user that have begun."""
        columns = refresh_tokens.c
        is_open = (
            columns.user_id == user_id,
            columns.revoked_at.is_(None),
            columns.expires_at > func.now(),
        )
        # In one order, whoever asks: two that lock the same logins cannot cross.
        families = (
            select(columns.family_id)
            .where(*is_open)
            .distinct()
            .order_by(columns.family_id)
            .subquery()
        )
        await session.execute(select(_family_lock(families.c.family_id)))
        await session.execute(
            update(refresh_tokens).where(*is_open).values(revoked_at=func.now())
        )


def _family_lock(family_id: ColumnElement[str] | str) -> ColumnElement[None]:
    """Return a lock on a login's tokens, held to the end of the transaction.

    Row locks are not enough. An UPDATE that waited for the winner of a race locks the
    row before it sees that it lost, and then wants the family's other rows; a loser
    that came later holds those and wants this one: a deadlock, seen under load.
    """
    key = func.hashtextextended(cast(family_id, Text), 0)
    return func.pg_advisory_xact_lock(key)
