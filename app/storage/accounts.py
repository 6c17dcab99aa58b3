"""Accounts: the only rows that are looked up before the user is known."""

from dataclasses import dataclass, field
from datetime import datetime

from sqlalchemy import select
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
