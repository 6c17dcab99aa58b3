"""Places in the source of the service at which it uses what may be shared."""

import linecache
from pathlib import Path
from typing import NamedTuple


class Site(NamedTuple):
    """One expression of the service; hashed whenever it is asked what flows where.

    Attributes:
        path: The file, as the interpreter knows it.
        line: Line number, from 1.
        function: Qualified name of the function it stands in.
    """

    path: str
    line: int
    function: str

    @property
    def text(self) -> str:
        """The source line, without its indentation; empty where there is no source."""
        return linecache.getline(self.path, self.line).strip()

    def told(self, root: Path) -> str:
        """Return ``path:line``, with the path from ``root`` where it lies in there."""
        return f"{told_path(self.path, root)}:{self.line}"


class Sites:
    """The sites of all rewritten modules; probes name them by their number."""

    def __init__(self) -> None:
        self._all: list[Site] = []
        self._numbers: dict[Site, int] = {}

    def number(self, site: Site) -> int:
        """Return the number of a site, which is given on first sight."""
        found = self._numbers.get(site)
        if found is None:
            found = self._numbers[site] = len(self._all)
            self._all.append(site)
        return found

    def find(self, site: Site) -> int | None:
        """Return the number of a site; None where no probe stands."""
        return self._numbers.get(site)

    def __getitem__(self, number: int) -> Site:
        return self._all[number]

    def __len__(self) -> int:
        return len(self._all)


def told_path(path: str, root: Path) -> str:
    """Return a path from ``root`` where it lies in there, else as it is."""
    try:
        return Path(path).relative_to(root).as_posix()
    except ValueError:
        return path
