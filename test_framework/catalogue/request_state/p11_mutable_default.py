"""P11: mutable default argument.

alice                           bob
name = NAMES[user]
found = await searches.search(name)
filters.append(f"owner={user}")
await external("SELECT")
return filters
return found
                                name = NAMES[user]
                                found = await searches.search(name)
                                filters.append(f"owner={user}")
                                await external("SELECT")
                                return filters
-> bob searched with ['owner=alice', 'owner=bob']
"""

from test_framework.catalogue.pattern import ANY_ORDER, Area, Hosted, Pattern
from test_framework.catalogue.world import NAMES, visits
from test_framework.explore import external


class _Searches:
    """Adds the filter of the user to the filters of a search."""

    def __init__(self) -> None:
        # Made where the program starts, as a module does with its functions.
        async def search(user: str, filters: list[str] = []) -> list[str]:  # noqa: B006  # the bug
            filters.append(f"owner={user}")
            await external("SELECT")
            return filters

        self.search = search


class _FreshSearches(_Searches):
    def __init__(self) -> None:
        async def search(user: str, filters: list[str] | None = None) -> list[str]:
            filters = [*(filters or []), f"owner={user}"]
            await external("SELECT")
            return filters

        self.search = search


async def _search(searches: _Searches, user: int) -> list[str]:
    name = NAMES[user]
    found = await searches.search(name)
    assert found == [f"owner={name}"], f"{name} searched with {found}"
    return found


PATTERN = Pattern(
    id="P11",
    title="mutable default argument",
    mechanism=(
        "The list in a default is made once, with the function, so every call that "
        "does not pass its own adds to that of all."
    ),
    fix="Make None the default, and the list in the function.",
    areas=(Area.AGENT_STATE, Area.USER_CONTEXT),
    detectors=("explorer", "swarm", "static"),
    source="https://docs.astral.sh/ruff/rules/mutable-argument-default/",
    vulnerable=visits(_Searches, _search),
    safe=visits(_FreshSearches, _search),
    module=__name__,
    needs=ANY_ORDER,
    hosted=Hosted(),
)
