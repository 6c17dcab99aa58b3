"""Roles, what they permit, and the policy that says so as one immutable snapshot.

A policy is never changed: a new one has another version and takes its place whole. What
a request may do is judged by an ``Authority``, which holds the roles and the policy
that its transaction saw, so no request can meet two policies (Sandhu et al., "Role-Based
Access Control Models", IEEE Computer 1996, the model RBAC0).
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Self


class Role(StrEnum):
    """What a user is; everybody is a member."""

    MEMBER = "member"
    AUDITOR = "auditor"
    ADMIN = "admin"


class Permission(StrEnum):
    """What only some may do; the rest of the service is for every member."""

    MANAGE_ROLES = "roles.manage"
    CHANGE_POLICY = "policy.change"
    VERIFY_AUDIT = "audit.verify"
    READ_REFUSALS = "refusals.read"


class PermissionDeniedError(Exception):
    """Raised when a user lacks a permission: the client's fault."""

    def __init__(self, permission: Permission) -> None:
        """Name the permission that is lacking."""
        super().__init__(f"This takes the permission {permission.value!r}.")


@dataclass(frozen=True, slots=True)
class Policy:
    """What each role permits.

    Attributes:
        version: Its number; a later policy has a higher one. 0 is built in.
        grants: The permissions of each role.
    """

    version: int
    grants: Mapping[Role, frozenset[Permission]]

    @classmethod
    def of(cls, version: int, grants: Mapping[Role, Iterable[Permission]]) -> Self:
        """Return a policy; a role that is not named permits nothing.

        Admins may do everything under every policy: else one could be put in force that
        nobody can ever replace.
        """
        given = {role: frozenset(held) for role, held in grants.items()}
        return cls(
            version, MappingProxyType({**given, Role.ADMIN: frozenset(Permission)})
        )

    def document(self) -> dict[str, list[str]]:
        """Return the permissions of each role, as JSON says it."""
        return {role.value: sorted(self.grants.get(role, frozenset())) for role in Role}


DEFAULT_POLICY = Policy.of(
    0, {Role.AUDITOR: {Permission.VERIFY_AUDIT, Permission.READ_REFUSALS}}
)
"""What holds until an admin decides otherwise."""


@dataclass(frozen=True, slots=True)
class Authority:
    """What one user may do in one transaction.

    Attributes:
        user_id: The user.
        roles: The user's roles when the transaction asked.
        policy: The policy in force then.
    """

    user_id: str
    roles: frozenset[Role]
    policy: Policy

    def allows(self, permission: Permission) -> bool:
        """Return whether one of the roles permits it."""
        nothing: frozenset[Permission] = frozenset()
        return any(
            permission in self.policy.grants.get(role, nothing) for role in self.roles
        )

    def require(self, permission: Permission) -> None:
        """Go on only if it is permitted.

        Raises:
            PermissionDeniedError: No role of the user permits it.
        """
        if not self.allows(permission):
            raise PermissionDeniedError(permission)
