"""P17: half-built object published.

alice                           bob
                                workspace = await workspaces.get("payroll")
                                workspace = self.open.get(key)
                                if workspace is None:
                                workspace = self.open[key] = SimpleNamespace(is_priva...
                                await external("SELECT workspace")
workspace = await workspaces.get("payroll")
workspace = self.open.get(key)
if workspace is None:
return workspace
                                workspace.is_private = True
                                return workspace
                                return bool(workspace.is_private)
-> shown to everybody, for its access rule is not loaded
"""

import asyncio
from types import SimpleNamespace

from test_framework.catalogue.pattern import Area, Hosted, Pattern
from test_framework.catalogue.world import visits
from test_framework.explore import external


class _Workspaces:
    """Workspaces are loaded when somebody first asks for them."""

    def __init__(self) -> None:
        self.open: dict[str, SimpleNamespace] = {}
        self.lock = asyncio.Lock()

    async def get(self, key: str) -> SimpleNamespace:
        workspace = self.open.get(key)
        if workspace is None:
            workspace = self.open[key] = SimpleNamespace(is_private=False)
            await external("SELECT workspace")
            workspace.is_private = True
        return workspace


class _CompleteWorkspaces(_Workspaces):
    async def get(self, key: str) -> SimpleNamespace:
        async with self.lock:
            workspace = self.open.get(key)
            if workspace is None:
                await external("SELECT workspace")
                workspace = self.open[key] = SimpleNamespace(is_private=True)
            return workspace


async def _open_workspace(workspaces: _Workspaces, user: int) -> bool:  # noqa: ARG001  # any user
    workspace = await workspaces.get("payroll")
    assert workspace.is_private, "shown to everybody, for its access rule is not loaded"
    return bool(workspace.is_private)


PATTERN = Pattern(
    id="P17",
    title="half-built object published",
    mechanism=(
        "An object is put into a shared map and filled in afterwards; who finds it in "
        "between acts on its defaults."
    ),
    fix="Build it fully, then publish it.",
    areas=(Area.ENGINE_REGISTRY,),
    detectors=(
        "explorer",
        "access",
        "checkers",
    ),
    source="https://cwe.mitre.org/data/definitions/908.html",
    vulnerable=visits(_Workspaces, _open_workspace),
    safe=visits(_CompleteWorkspaces, _open_workspace),
    module=__name__,
    hosted=Hosted(),
    beyond={"swarm": "whether a workspace is private is no value of a user"},
)
