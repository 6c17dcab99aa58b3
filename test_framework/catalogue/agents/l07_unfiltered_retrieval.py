"""L07: retrieval without a filter for the tenant.

alice                           bob
name = NAMES[user]
await index.add(name)
await external("embed the document")
self.documents.append((user, f"contract of {user}"))
found = await index.search(name)
await external("embed the question")
return [text for tenant, text in self.documents if self.is_wanted(tenant, user)]
return True
return found
                                name = NAMES[user]
                                await index.add(name)
                                await external("embed the document")
                                self.documents.append((user, f"contract of {user}"))
                                found = await index.search(name)
                                await external("embed the question")
                                return [text for tenant, text in self.documents if se...
                                return True
                                return True
-> the model of bob reads ['contract of alice', 'contract of bob']
"""

from test_framework.catalogue.pattern import ANY_ORDER, Area, Hosted, Pattern
from test_framework.catalogue.world import NAMES, visits
from test_framework.explore import external


class _Index:
    """Finds the documents that are nearest to a question."""

    def __init__(self) -> None:
        self.documents: list[tuple[str, str]] = []

    def is_wanted(self, tenant: str, user: str) -> bool:  # noqa: ARG002  # the twin compares
        return True

    async def add(self, user: str) -> None:
        await external("embed the document")
        self.documents.append((user, f"contract of {user}"))

    async def search(self, user: str) -> list[str]:
        await external("embed the question")
        return [text for tenant, text in self.documents if self.is_wanted(tenant, user)]


class _FilteringIndex(_Index):
    def is_wanted(self, tenant: str, user: str) -> bool:
        return tenant == user


async def _add_and_search(index: _Index, user: int) -> list[str]:
    name = NAMES[user]
    await index.add(name)
    found = await index.search(name)
    assert found == [f"contract of {name}"], f"the model of {name} reads {found}"
    return found


PATTERN = Pattern(
    id="L07",
    title="retrieval without a filter for the tenant",
    mechanism=(
        "Documents of all tenants lie in one index, and the search returns what is "
        "nearest, whosesoever it is."
    ),
    fix=("Filter by tenant in the store, or keep an index for each."),
    areas=(Area.AGENT_STATE, Area.USER_CONTEXT),
    detectors=("explorer", "swarm"),
    source="https://genai.owasp.org/llmrisk/llm082025-vector-and-embedding-weaknesses/",
    vulnerable=visits(_Index, _add_and_search),
    safe=visits(_FilteringIndex, _add_and_search),
    module=__name__,
    needs=ANY_ORDER,
    hosted=Hosted(),
)
