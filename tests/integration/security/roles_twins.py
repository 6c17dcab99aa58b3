"""Twins of the permission check and of the policy that it reads."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from app.context import UserExecutionContext
from app.security import DEFAULT_POLICY, Authority, Permission, Policy, Role
from app.storage import Policies
from app.storage.tables import policies as policy_table
from app.storage.tables import user_roles
from tests.integration.app.service import Service
from tests.integration.security.crowd import Visitor


@contextlib.asynccontextmanager
async def unheld(
    service: Service, visitor: Visitor, policies: Policies
) -> AsyncIterator[tuple[UserExecutionContext, Authority]]:
    """Read the roles in the work's transaction, without holding them."""
    async with service.context(visitor.user_id) as context:
        yield context, await _read(context, policies)


@contextlib.asynccontextmanager
async def before(
    service: Service, visitor: Visitor, policies: Policies
) -> AsyncIterator[tuple[UserExecutionContext, Authority]]:
    """Read the roles in a transaction of its own, which ends before the work's."""
    async with service.context(visitor.user_id) as context:
        authority = await _read(context, policies)
    async with service.context(visitor.user_id) as context:
        yield context, authority


async def _read(context: UserExecutionContext, policies: Policies) -> Authority:
    held = await context.database.scalars(
        select(user_roles.c.role).where(user_roles.c.user_id == context.user_id)
    )
    roles = frozenset({Role.MEMBER, *map(Role, held)})
    return Authority(context.user_id, roles, await policies.current(context.database))


class PatchedPolicies(Policies):
    """Keeps one policy and changes it in place, a role at a time, as it reloads."""

    def __init__(self) -> None:
        super().__init__()
        self._grants = dict(DEFAULT_POLICY.grants)
        self._version = DEFAULT_POLICY.version

    async def current(self, session: AsyncSession) -> Policy:
        rows = await session.execute(
            select(policy_table.c.version, policy_table.c.document)
            .order_by(policy_table.c.version.desc())
            .limit(1)
        )
        newest = rows.first()
        if newest is not None and newest.version != self._version:
            self._version = newest.version
            for role, held in newest.document.items():
                self._grants[Role(role)] = frozenset(map(Permission, held))
                await asyncio.sleep(0)
        return Policy(self._version, self._grants)
