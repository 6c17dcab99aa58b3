"""P08: shared scratch buffer.

alice                           bob
                                name = NAMES[user]
                                got = await exporter.export(name)
                                self.buffer.clear()
                                for page in range(2):
                                await external("next page of rows")
name = NAMES[user]
got = await exporter.export(name)
self.buffer.clear()
for page in range(2):
await external("next page of rows")
                                self.buffer.append(f"{user}/{page}")
                                for page in range(2):
                                await external("next page of rows")
self.buffer.append(f"{user}/{page}")
for page in range(2):
await external("next page of rows")
                                self.buffer.append(f"{user}/{page}")
                                for page in range(2):
                                return list(self.buffer)
self.buffer.append(f"{user}/{page}")
for page in range(2):
return list(self.buffer)
-> alice got ['bob/0', 'alice/0', 'bob/1', 'alice/1']
"""

from test_framework.catalogue.pattern import Area, Hosted, Pattern
from test_framework.catalogue.world import NAMES, visits
from test_framework.explore import external


class _Exporter:
    """Collects the rows of a report in a buffer that it keeps."""

    def __init__(self) -> None:
        self.buffer: list[str] = []

    async def export(self, user: str) -> list[str]:
        self.buffer.clear()
        for page in range(2):
            await external("next page of rows")
            self.buffer.append(f"{user}/{page}")
        return list(self.buffer)


class _LocalExporter(_Exporter):
    async def export(self, user: str) -> list[str]:
        buffer = []
        for page in range(2):
            await external("next page of rows")
            buffer.append(f"{user}/{page}")
        return buffer


async def _export(exporter: _Exporter, user: int) -> list[str]:
    name = NAMES[user]
    got = await exporter.export(name)
    assert got == [f"{name}/0", f"{name}/1"], f"{name} got {got}"
    return got


PATTERN = Pattern(
    id="P08",
    title="shared scratch buffer",
    mechanism=(
        "A list on the service is filled across awaits and then returned; rows of two "
        "users end up in one report."
    ),
    fix="Use a local variable.",
    areas=(Area.AGENT_STATE,),
    detectors=("explorer", "access", "swarm"),
    source="https://cwe.mitre.org/data/definitions/488.html",
    vulnerable=visits(_Exporter, _export),
    safe=visits(_LocalExporter, _export),
    module=__name__,
    hosted=Hosted(),
)
