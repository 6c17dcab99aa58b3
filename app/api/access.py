"""Roles and the policy: who may do what, for those who may say so."""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter
from pydantic import BaseModel, Field

from app.api.dependencies import PartsOf, Work
from app.api.openapi import answers
from app.api.problems import Problem, not_found
from app.api.schemas import NewPolicy
from app.security import Permission, Policy, Role
from app.storage import (
    LastAdminError,
    NoSuchUserError,
    grant_role,
    list_roles,
    read_authority,
    replace_policy,
    revoke_role,
)

router = APIRouter(prefix="/admin", tags=["access"], responses=answers(403))


class RolesOfUser(BaseModel):
    """The roles of a user."""

    user_id: UUID
    roles: list[Role]


class PolicyInForce(BaseModel):
    """What each role permits, and the policy's version."""

    version: Annotated[int, Field(ge=0)]
    roles: dict[Role, list[Permission]]

    @classmethod
    def of(cls, policy: Policy) -> "PolicyInForce":
        """Return a policy as it is shown."""
        return cls(
            version=policy.version,
            roles={role: sorted(policy.grants.get(role, ())) for role in Role},
        )


@router.get("/users/{user_id}/roles")
async def get_roles(user_id: UUID, context: Work, parts: PartsOf) -> RolesOfUser:
    """Show a user's roles."""
    roles = await list_roles(context, parts.policies, str(user_id))
    return RolesOfUser(user_id=user_id, roles=roles)


@router.put("/users/{user_id}/roles/{role}", status_code=204, responses=answers(409))
async def put_role(user_id: UUID, role: Role, context: Work, parts: PartsOf) -> None:
    """Give a user a role."""
    _require_assignable(role)
    try:
        await grant_role(context, parts.policies, str(user_id), role)
    except NoSuchUserError as exc:
        raise not_found("user") from exc


@router.delete("/users/{user_id}/roles/{role}", status_code=204, responses=answers(409))
async def remove_role(user_id: UUID, role: Role, context: Work, parts: PartsOf) -> None:
    """Take a role away; it ends with what the user does by it at this moment."""
    _require_assignable(role)
    try:
        if not await revoke_role(context, parts.policies, str(user_id), role):
            raise not_found("role of this user")
    except LastAdminError as exc:
        detail = "This is the only admin. Make somebody else one first."
        raise Problem(409, detail) from exc


@router.get("/policy")
async def get_policy(context: Work, parts: PartsOf) -> PolicyInForce:
    """Show the policy in force."""
    authority = await read_authority(context, parts.policies)
    authority.require(Permission.CHANGE_POLICY)
    return PolicyInForce.of(authority.policy)


@router.put("/policy")
async def put_policy(new: NewPolicy, context: Work, parts: PartsOf) -> PolicyInForce:
    """Put another policy in force, whole and for every worker."""
    grants: dict[Role, list[Permission]] = dict(new.roles.items())
    return PolicyInForce.of(await replace_policy(context, parts.policies, grants))


def _require_assignable(role: Role) -> None:
    if role is Role.MEMBER:
        raise Problem(409, "Everybody is a member, and stays one.")
