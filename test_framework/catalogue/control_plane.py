"""Policies, tenants, watches and audit trails: changed while they are being used."""

import asyncio
from dataclasses import dataclass

from test_framework.catalogue.pattern import Pattern
from test_framework.catalogue.world import NAMES, Store, visits
from test_framework.explore import external


class _Policy:
    """Who is barred from what; reloaded when an operator changes it."""

    def __init__(self) -> None:
        self.barred = {("bob", "salaries")}

    async def reload(self) -> None:
        self.barred.clear()
        for rule in (("bob", "salaries"), ("carol", "salaries")):
            await external("next rule")
            self.barred.add(rule)


class _SwappingPolicy(_Policy):
    async def reload(self) -> None:
        barred = set()
        for rule in (("bob", "salaries"), ("carol", "salaries")):
            await external("next rule")
            barred.add(rule)
        self.barred = barred


async def _reload_or_ask(policy: _Policy, user: int) -> None:
    if user:
        await external("GET /salaries")
        assert ("bob", "salaries") in policy.barred, "bob reads salaries"
    else:
        await policy.reload()


TORN_RELOAD = Pattern(
    id="A05",
    title="policy reload torn",
    summary=(
        "Rules are cleared and read again one by one, and a request in between finds "
        "them missing. Build the new rules aside and swap one reference."
    ),
    source="https://cwe.mitre.org/data/definitions/362.html",
    vulnerable=visits(_Policy, _reload_or_ask),
    safe=visits(_SwappingPolicy, _reload_or_ask),
)


class _AuditTrail:
    """A chain of entries, each with the number of the one before it."""

    def __init__(self) -> None:
        self.entries: list[tuple[int, str]] = []
        self.lock = asyncio.Lock()

    async def append(self, line: str) -> None:
        previous = len(self.entries)
        await external("sign")
        self.entries.append((previous, line))


class _SerialAuditTrail(_AuditTrail):
    async def append(self, line: str) -> None:
        async with self.lock:
            await super().append(line)


async def _audit(trail: _AuditTrail, user: int) -> None:
    await trail.append(f"{NAMES[user]} read the file")


def _is_one_chain(trail: _AuditTrail) -> None:
    assert [previous for previous, _ in trail.entries] == [0, 1], "the chain forks"


AUDIT_FORK = Pattern(
    id="A12",
    title="audit chain forks",
    summary=(
        "Two entries name the same predecessor, and one of them can be removed unseen. "
        "Append under a lock, or by one writer."
    ),
    source="https://datatracker.ietf.org/doc/html/rfc9162",
    vulnerable=visits(_AuditTrail, _audit, _is_one_chain),
    safe=visits(_SerialAuditTrail, _audit, _is_one_chain),
)


class _Objects:
    """An API server: controllers read an object and write it back."""

    def __init__(self) -> None:
        self.api = Store(workspace={"owner": "", "limit": ""})

    async def patch(self, key: str, value: str) -> None:
        found = await self.api.get("workspace")
        await self.api.set("workspace", found | {key: value})


class _VersionedObjects(_Objects):
    async def patch(self, key: str, value: str) -> None:
        while True:
            found = await self.api.get("workspace")
            if await self.api.swap("workspace", found, found | {key: value}):
                return


async def _patch(objects: _Objects, user: int) -> None:
    await objects.patch(("owner", "limit")[user], "set")


def _both_patched(objects: _Objects) -> None:
    found = objects.api.data["workspace"]
    assert found == {"owner": "set", "limit": "set"}, "a change is lost"


BLIND_UPDATE = Pattern(
    id="K02",
    title="update without a version check",
    summary=(
        "Two controllers write whole objects back, and the last one undoes the other. "
        "Send the version that was read, and try again on conflict."
    ),
    source="https://kubernetes.io/docs/reference/using-api/api-concepts/#resource-versions",
    vulnerable=visits(_Objects, _patch, _both_patched),
    safe=visits(_VersionedObjects, _patch, _both_patched),
)


@dataclass(frozen=True)
class _Key:
    name: str
    uid: int


class _KeyCache:
    """API keys, as a watch of the database tells of them."""

    def __init__(self) -> None:
        self.keys: dict[str, _Key] = {}
        self.deleted: set[int] = set()

    def is_gone(self, key: _Key) -> bool:  # noqa: ARG002  # looked up by the twin
        return False

    async def on_change(self, key: _Key) -> None:
        await external("SELECT permissions")
        if not self.is_gone(key):
            self.keys[key.name] = key

    async def on_delete(self, key: _Key) -> None:
        self.deleted.add(key.uid)
        self.keys.pop(key.name, None)


class _UidKeyCache(_KeyCache):
    def is_gone(self, key: _Key) -> bool:
        return key.uid in self.deleted


async def _change_or_delete(cache: _KeyCache, user: int) -> None:
    key = _Key("ci", uid=1)
    if user:
        await cache.on_delete(key)
    else:
        await cache.on_change(key)


def _deleted_is_gone(cache: _KeyCache) -> None:
    for key in cache.keys.values():
        assert key.uid not in cache.deleted, "a deleted key opens the door"


RESURRECTED = Pattern(
    id="K04",
    title="deleted object resurrected by a late event",
    summary=(
        "A change that is handled slowly puts back what was deleted meanwhile. Remember "
        "the uid of what was deleted and compare it."
    ),
    source="https://github.com/kubernetes/kubernetes/issues/26084",
    vulnerable=visits(_KeyCache, _change_or_delete, _deleted_is_gone),
    safe=visits(_UidKeyCache, _change_or_delete, _deleted_is_gone),
)


class _Tenants:
    """Deletes a tenant with its runs, while its users may start new ones."""

    def __init__(self) -> None:
        self.tenants = {"acme"}
        self.runs: list[str] = []

    async def start(self, tenant: str) -> None:
        if tenant in self.tenants:
            await external("reserve a worker")
            self.runs.append(tenant)

    async def delete(self, tenant: str) -> None:
        await external("stop the runs")
        self.runs = [run for run in self.runs if run != tenant]
        self.tenants.discard(tenant)


class _RecheckingTenants(_Tenants):
    async def start(self, tenant: str) -> None:
        await external("reserve a worker")
        if tenant in self.tenants:
            self.runs.append(tenant)


async def _start_or_delete(tenants: _Tenants, user: int) -> None:
    await (tenants.delete("acme") if user else tenants.start("acme"))


def _no_orphans(tenants: _Tenants) -> None:
    assert set(tenants.runs) <= tenants.tenants, "runs with the data of a gone tenant"


DELETE_VERSUS_CREATE = Pattern(
    id="K07",
    title="run started while its tenant is deleted",
    summary=(
        "The tenant was there when the run was asked for and is gone when it starts. "
        "Look again in the step that starts it."
    ),
    source="https://kubernetes.io/docs/concepts/overview/working-with-objects/finalizers/",
    vulnerable=visits(_Tenants, _start_or_delete, _no_orphans),
    safe=visits(_RecheckingTenants, _start_or_delete, _no_orphans),
)


PATTERNS = (
    TORN_RELOAD,
    AUDIT_FORK,
    BLIND_UPDATE,
    RESURRECTED,
    DELETE_VERSUS_CREATE,
)
