"""Roles of users and policies in Postgres, read by the transaction they permit.

There is no gap between the check and the work. The check locks the rows of the user's
roles against being taken away, until the work's transaction ends: a role that was
revoked before is not seen, and a revocation that comes later commits after the work.

Whoever changes roles or the policy takes one lock first, before any row. So two admins
who revoke each other wait in line instead of for one another, and the last admin cannot
be lost to two revocations at one time.
"""

from collections.abc import Iterable, Mapping

from sqlalchemy import bindparam, delete, func, select, text
from sqlalchemy.dialects import postgresql
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from app.context import UserExecutionContext
from app.security import DEFAULT_POLICY, Authority, Permission, Policy, Role
from app.storage.tables import policies as policy_table
from app.storage.tables import user_roles

# Any constant will do, as long as nothing else in the database locks the same one.
_CHANGES = 7_463_524_191
_LOCK_CHANGES = select(func.pg_advisory_xact_lock(_CHANGES))
_ROLES = select(user_roles.c.role).where(user_roles.c.user_id == bindparam("user_id"))
_HELD_ROLES = _ROLES.with_for_update(read=True)
_NEWEST = select(func.max(policy_table.c.version))
_SET_ADMIN = text("SELECT set_config('app.scope', 'admin', true)")


class NoSuchUserError(Exception):
    """Raised when a role is given to nobody: the client's fault."""


class LastAdminError(Exception):
    """Raised when the only admin would stop being one: the client's fault."""


class Policies:
    """The policies, of which one process keeps the newest it has seen.

    What is kept is immutable and is exchanged whole; a check compares versions within
    its own transaction, so no worker decides by a policy that was replaced before.
    """

    def __init__(self) -> None:
        """Begin with the built-in policy."""
        self._newest = DEFAULT_POLICY

    async def current(self, session: AsyncSession) -> Policy:
        """Return the policy in force, as the caller's transaction sees it."""
        version = await session.scalar(_NEWEST) or DEFAULT_POLICY.version
        kept = self._newest
        if kept.version == version:
            return kept
        if version == DEFAULT_POLICY.version:
            return DEFAULT_POLICY
        document = await session.scalar(
            select(policy_table.c.document).where(policy_table.c.version == version)
        )
        read = _read_policy(version, document or {})
        # Two that read at one time may come back in either order.
        if read.version > self._newest.version:
            self._newest = read
        return read


async def read_authority(
    context: UserExecutionContext, policies: Policies, *, is_held: bool = True
) -> Authority:
    """Return what the context's user may do in its transaction.

    Args:
        context: Who asks, with the session of the work.
        policies: The policies of this process.
        is_held: Whether the roles stay until the transaction ends. Not needed where it
            only reads, from one snapshot that holds the roles too.
    """
    asked = _HELD_ROLES if is_held else _ROLES
    held = await context.database.scalars(asked, {"user_id": context.user_id})
    roles = frozenset({Role.MEMBER, *map(Role, held)})
    # After the lock: while it waited for it, somebody may have replaced the policy.
    return Authority(context.user_id, roles, await policies.current(context.database))


async def list_roles(
    context: UserExecutionContext, policies: Policies, user_id: str
) -> list[Role]:
    """Return the roles of a user.

    Raises:
        PermissionDeniedError: The context's user may not manage roles.
    """
    authority = await read_authority(context, policies)
    authority.require(Permission.MANAGE_ROLES)
    await context.database.execute(_SET_ADMIN)
    rows = await context.database.scalars(
        select(user_roles.c.role).where(user_roles.c.user_id == user_id)
    )
    return sorted({Role.MEMBER, *map(Role, rows)})


async def grant_role(
    context: UserExecutionContext, policies: Policies, user_id: str, role: Role
) -> None:
    """Give a user a role; having it already is fine.

    Raises:
        PermissionDeniedError: The context's user may not manage roles.
        NoSuchUserError: There is no such user.
    """
    await _may_change(context, policies, Permission.MANAGE_ROLES)
    await context.database.execute(_SET_ADMIN)
    if await add_role(context.database, user_id, role):
        await context.audit.record("role.granted", f"{role} {user_id}")


async def add_role(session: AsyncSession, user_id: str, role: Role) -> bool:
    """Write an assignment; False when it was there. Asks for no permission.

    Raises:
        NoSuchUserError: There is no such user.
    """
    try:
        added = await session.execute(
            postgresql.insert(user_roles)
            .values(user_id=user_id, role=role.value)
            .on_conflict_do_nothing()
            .returning(user_roles.c.role)
        )
    except IntegrityError as exc:
        raise NoSuchUserError from exc
    return added.first() is not None


async def revoke_role(
    context: UserExecutionContext, policies: Policies, user_id: str, role: Role
) -> bool:
    """Take a role away; False when the user does not have it.

    It waits for what the user does by that role at this moment.

    Raises:
        PermissionDeniedError: The context's user may not manage roles.
        LastAdminError: The user is the only admin.
    """
    await _may_change(context, policies, Permission.MANAGE_ROLES)
    await context.database.execute(_SET_ADMIN)
    taken = await context.database.execute(
        delete(user_roles)
        .where(user_roles.c.user_id == user_id, user_roles.c.role == role.value)
        .returning(user_roles.c.role)
    )
    if taken.first() is None:
        return False
    if role is Role.ADMIN:
        admins = select(func.count()).where(user_roles.c.role == role.value)
        if not await context.database.scalar(admins):
            raise LastAdminError
    await context.audit.record("role.revoked", f"{role} {user_id}")
    return True


async def replace_policy(
    context: UserExecutionContext,
    policies: Policies,
    grants: Mapping[Role, Iterable[Permission]],
) -> Policy:
    """Put another policy in force and return it.

    Raises:
        PermissionDeniedError: The context's user may not change the policy.
    """
    authority = await _may_change(context, policies, Permission.CHANGE_POLICY)
    policy = Policy.of(authority.policy.version + 1, grants)
    await context.database.execute(
        postgresql.insert(policy_table).values(
            version=policy.version,
            document=policy.document(),
            created_by=context.user_id,
        )
    )
    await context.audit.record("policy.replaced", str(policy.version))
    return policy


def _read_policy(version: int, document: Mapping[str, Iterable[str]]) -> Policy:
    return Policy.of(
        version,
        {Role(role): map(Permission, held) for role, held in document.items()},
    )


async def _may_change(
    context: UserExecutionContext, policies: Policies, permission: Permission
) -> Authority:
    await context.database.execute(_LOCK_CHANGES)
    authority = await read_authority(context, policies)
    authority.require(permission)
    return authority
