"""D18: rollback takes the work of a sibling along.

alice                           bob
                                await imports.load(NAMES[user], is_broken=user == 1)
                                transaction = self.begin()
                                return self.shared
                                transaction.rows.append(f"file of {user}")
                                await external("parse")
await imports.load(NAMES[user], is_broken=user == 1)
transaction = self.begin()
return self.shared
transaction.rows.append(f"file of {user}")
await external("parse")
                                if is_broken:
                                transaction.rows.clear()
                                self.kept += transaction.rows
                                transaction.rows = []
if is_broken:
self.kept += transaction.rows
transaction.rows = []
-> [] is kept
"""

from test_framework.catalogue.pattern import Area, Hosted, Pattern
from test_framework.catalogue.world import NAMES, visits
from test_framework.explore import external


class _Transaction:
    """Rows that are kept when it commits."""

    def __init__(self) -> None:
        self.rows: list[str] = []


class _Imports:
    """Imports files; one of them cannot be read."""

    def __init__(self) -> None:
        self.shared = _Transaction()
        self.kept: list[str] = []

    def begin(self) -> _Transaction:
        return self.shared

    async def load(self, user: str, *, is_broken: bool) -> None:
        transaction = self.begin()
        transaction.rows.append(f"file of {user}")
        await external("parse")
        if is_broken:
            transaction.rows.clear()
        self.kept += transaction.rows
        transaction.rows = []


class _OwnImports(_Imports):
    def begin(self) -> _Transaction:
        return _Transaction()


async def _load(imports: _Imports, user: int) -> None:
    await imports.load(NAMES[user], is_broken=user == 1)


def _good_file_is_kept(imports: _Imports) -> None:
    assert imports.kept == ["file of alice"], f"{imports.kept} is kept"


PATTERN = Pattern(
    id="D18",
    title="rollback takes the work of a sibling along",
    mechanism=(
        "Two helper tasks write in one transaction, and when one of them fails, its "
        "rollback drops what the other has written."
    ),
    fix=("Give each helper a transaction of its own."),
    areas=(Area.DATABASE_SESSION,),
    detectors=("explorer", "checkers"),
    source="https://github.com/sqlalchemy/sqlalchemy/issues/10092",
    vulnerable=visits(_Imports, _load, _good_file_is_kept),
    safe=visits(_OwnImports, _load, _good_file_is_kept),
    module=__name__,
    hosted=Hosted(shown=lambda imports, user: f"file of {NAMES[user]}" in imports.kept),
)
