"""R11: cached permission outlives its revocation.

alice                           bob
if user:
await permissions.may_read("alice")
key = self.key(user)
return user, 0
if key not in self.cache:
allowed = bool(await self.policy.get(user))
                                if user:
                                await permissions.revoke("alice")
                                await self.policy.set(user, value=False)
await external("write to the audit log")
                                self.cache.pop(self.key(user), None)
                                return user, 0
                                self.epoch += 1
self.cache[key] = allowed
return self.cache[key]
-> allowed after revocation
"""

from test_framework.catalogue.pattern import Area, Hosted, Pattern
from test_framework.catalogue.world import Store, visits
from test_framework.explore import external


class _Permissions:
    """Remembers what the policy service said; a revocation clears it."""

    def __init__(self) -> None:
        self.policy = Store(alice=True)
        self.cache: dict[tuple[str, int], bool] = {}
        self.epoch = 0

    def key(self, user: str) -> tuple[str, int]:
        return user, 0

    async def may_read(self, user: str) -> bool:
        key = self.key(user)  # taken before the answer, as the answer may be old
        if key not in self.cache:
            allowed = bool(await self.policy.get(user))
            await external("write to the audit log")
            self.cache[key] = allowed
        return self.cache[key]

    async def revoke(self, user: str) -> None:
        await self.policy.set(user, value=False)
        self.cache.pop(self.key(user), None)
        self.epoch += 1


class _EpochPermissions(_Permissions):
    def key(self, user: str) -> tuple[str, int]:
        return user, self.epoch


async def _ask_or_revoke(permissions: _Permissions, user: int) -> None:
    if user:
        await permissions.revoke("alice")
    else:
        await permissions.may_read("alice")


def _is_allowed(permissions: _Permissions, user: int) -> bool:  # noqa: ARG001  # alice
    allowed: bool = permissions.policy.data["alice"]
    return permissions.cache.get(permissions.key("alice"), allowed)


def _revoked_is_denied(permissions: _Permissions) -> None:
    cached = permissions.cache.get(permissions.key("alice"), False)
    assert not cached or permissions.policy.data["alice"], "allowed after revocation"


PATTERN = Pattern(
    id="R11",
    title="cached permission outlives its revocation",
    mechanism=(
        "A check that was under way when the grant was revoked stores 'allowed' "
        "afterwards."
    ),
    fix="Put an epoch into the key.",
    areas=(Area.USER_CONTEXT,),
    detectors=(
        "explorer",
        "checkers",
    ),
    source="https://cwe.mitre.org/data/definitions/613.html",
    vulnerable=visits(_Permissions, _ask_or_revoke, _revoked_is_denied),
    safe=visits(_EpochPermissions, _ask_or_revoke, _revoked_is_denied),
    module=__name__,
    hosted=Hosted(shown=_is_allowed),
    beyond={"swarm": "alice keeps a right of her own"},
)
