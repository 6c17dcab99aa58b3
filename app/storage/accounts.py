"""Accounts: the only rows that are looked up before the user is known."""

from dataclasses import dataclass, field
from datetime import datetime

from sqlalchemy import select, update
from sqlalchemy.dialects import postgresql
from sqlalchemy.ext.asyncio import AsyncSession

from app.context import UserExecutionContext
from app.storage.tables import users


class UsernameTakenError(Exception):
    """Raised when a user name is already registered: the client's fault."""


@dataclass(frozen=True, slots=True)
class Account:
    """A registered user."""

    user_id: str
    username: str
    password_hash: str = field(repr=False)


async def add_account(session: AsyncSession, account: Account) -> None:
    """Register a user.

    Raises:
        UsernameTakenError: The name is taken; names are compared exactly.
    """
    statement = (
        postgresql.insert(users)
        .values(
            user_id=account.user_id,
            username=account.username,
            password_hash=account.password_hash,
        )
        # Two registrations of one name at one time: the index decides.
        .on_conflict_do_nothing(index_elements=["username"])
        .returning(users.c.user_id)
    )
    if (await session.execute(statement)).first() is None:
        raise UsernameTakenError


async def find_account(session: AsyncSession, username: str) -> Account | None:
    """Return the account of a user name; the session must be one for auth."""
    row = (
        await session.execute(
            select(users.c.user_id, users.c.username, users.c.password_hash).where(
                users.c.username == username
            )
        )
    ).first()
    return None if row is None else Account(*row)


async def find_own_account(context: UserExecutionContext) -> Account | None:
    """Return the account of the context's user; None when it is gone."""
    row = (
        await context.database.execute(
            select(users.c.user_id, users.c.username, users.c.password_hash).where(
                users.c.user_id == context.user_id
            )
        )
    ).first()
    return None if row is None else Account(*row)


async def holds_password(session: AsyncSession, account: Account) -> bool:
    """Return whether an account still has the password that was compared.

    Verifying takes tens of milliseconds, outside of any transaction. What follows from
    it asks again here, and until it ends nobody can change the password.
    """
    stored = await session.scalar(
        select(users.c.password_hash)
        .where(users.c.user_id == account.user_id)
        .with_for_update(read=True)
    )
    return stored == account.password_hash


async def change_password(
    session: AsyncSession, account: Account, password_hash: str
) -> bool:
    """Replace the hash that was compared; False when it is not stored any more."""
    changed = await session.execute(
        update(users)
        .where(
            users.c.user_id == account.user_id,
            users.c.password_hash == account.password_hash,
        )
        .values(password_hash=password_hash)
        .returning(users.c.user_id)
    )
    return changed.first() is not None


@dataclass(frozen=True, slots=True)
class Profile:
    """What a user sees of the own account."""

    user_id: str
    username: str
    created_at: datetime


async def find_profile(context: UserExecutionContext) -> Profile | None:
    """Return the context's user; None when the account is gone."""
    row = (
        await context.database.execute(
            select(users.c.user_id, users.c.username, users.c.created_at).where(
                users.c.user_id == context.user_id
            )
        )
    ).first()
    return None if row is None else Profile(*row)
