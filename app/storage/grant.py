"""Gives a user a role: ``python -m app.storage.grant USERNAME ROLE``.

The first admin comes from here; all others are made by an admin. Whoever may run it has
the database's address and password anyway. The user must have registered: a setting with
a name in it would make an admin of whoever takes that name first.
"""

import asyncio
import sys

from sqlalchemy import text

from app.security import Role, Secrets
from app.settings import Settings, SettingsError
from app.storage.accounts import find_account
from app.storage.audit import UserAuditTrail
from app.storage.engine import StorageError, check_role, open_engine
from app.storage.roles import add_role
from app.storage.sessions import SessionFactory

_SET_ADMIN = text("SELECT set_config('app.scope', 'admin', true)")
_USAGE = "Usage: python -m app.storage.grant USERNAME auditor|admin"


async def grant(settings: Settings, username: str, role: Role) -> bool:
    """Give a user a role; False when it was there already.

    Raises:
        StorageError: Nobody has that name, or Postgres cannot be used.
    """
    secrets = await asyncio.to_thread(Secrets.of, settings)
    engine = open_engine(
        settings.service_database_url,
        pool_size=1,
        pool_timeout_s=settings.database_pool_timeout_s,
        password=secrets.database,
    )
    try:
        await check_role(engine)
        sessions = SessionFactory(engine)
        async with sessions.for_auth() as session:
            account = await find_account(session, username)
        if account is None:
            message = f"Nobody is registered as {username!r}. Register first."
            raise StorageError(message)
        async with sessions.for_user(account.user_id) as session:
            await session.execute(_SET_ADMIN)
            is_new = await add_role(session, account.user_id, role)
            trail = UserAuditTrail(account.user_id, "operator", session)
            await trail.record("role.granted", f"{role} {account.user_id}")
        return is_new
    finally:
        await engine.dispose()


def _main(arguments: list[str]) -> int:
    roles = {Role.AUDITOR, Role.ADMIN}
    if len(arguments) != 2 or arguments[1] not in roles:
        sys.stderr.write(f"{_USAGE}\n")
        return 2
    username, role = arguments
    try:
        is_new = asyncio.run(grant(Settings.from_environment(), username, Role(role)))
    except (SettingsError, StorageError) as exc:
        sys.stderr.write(f"{exc}\n")
        return 2
    said = "is" if is_new else "was already"
    sys.stdout.write(f"{username} {said} {role}.\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(_main(sys.argv[1:]))
