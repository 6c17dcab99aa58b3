"""The access tracker as a detector."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from test_framework.core import AlarmRecord, UsageError, WatchRecord
from test_framework.detect.access.ledger import Ledger
from test_framework.detect.access.loading import Imports
from test_framework.detect.access.patches import Patches
from test_framework.detect.access.probes import probes
from test_framework.detect.access.wording import alarm_of

HOLD_S: Final = 0.05
_MOST_NAMED: Final = 5


class AccessTracker:
    """Watches what the functions of some packages do to what they share.

    Each use of an attribute, a key or a shared variable by code of the packages is
    noted, by task and by request; three uses that no order of the users explains are
    an alarm. Only tasks are watched, not threads, and only code that is imported
    after ``start``.

    Args:
        packages: Names of packages or modules, as they are imported.
        root: Paths are told from here; by default from the current folder, or from the
            one that a package is imported from where that lies elsewhere.
        hold_s: How long a task is held at an await to see whether what was foretold
            happens; at most ten times for each. 0 changes no timing at all.

    Attributes:
        name: ``access``.
    """

    name = "access"

    def __init__(
        self,
        packages: Sequence[str],
        *,
        root: Path | None = None,
        hold_s: float = HOLD_S,
    ) -> None:
        if isinstance(packages, str):
            raise UsageError(
                f"packages={packages!r}: a list of packages is expected. "
                f"Pass [{packages!r}]."
            )
        self._given_root = root
        self._imports = Imports(packages)
        self._ledger = Ledger(
            self._imports.sites,
            self._imports.flows,
            self._imports.files,
            hold_s=hold_s,
        )
        self._patches = Patches(self._ledger.signals)
        self._is_started = False

    def start(self) -> None:
        """Rewrite from now on what is imported of the packages.

        Raises:
            UsageError: A package does not exist, none was named, or it runs already.
        """
        if self._is_started:
            raise UsageError("The access tracker runs already. Make another one.")
        if not self._imports.packages:
            raise UsageError(
                "packages=(): nothing to track. Name the service's own packages."
            )
        self._imports.start(probes(self._ledger))
        self._patches.start()
        self._is_started = True

    def alarms(self) -> list[AlarmRecord]:
        """Return what it saw so far, one alarm per cause; may be asked again."""
        self._ledger.judge.settle()
        # What was seen after all is no longer foretold.
        conflicts = self._ledger.foresight.foretold | self._ledger.judge.found
        found = [
            alarm_of(
                conflict,
                self._imports.sites,
                self._imports.origins,
                root=self._root,
                is_hosted=self._ledger.has_requests,
            )
            for conflict in conflicts.values()
        ]
        return sorted(found, key=lambda alarm: (_LEVELS.index(alarm.level), alarm.site))

    @property
    def _root(self) -> Path:
        if self._given_root is not None:
            return self._given_root
        here, home = Path.cwd(), self._imports.home
        return home if home is not None and not home.is_relative_to(here) else here

    def coverage(self) -> WatchRecord:
        """Return what it looked at, and what it could not look at."""
        return WatchRecord(
            detector=self.name,
            watched=tuple(sorted(self._imports.watched)),
            unwatched=(*self._imports.unwatched, *self._threads()),
            facts={
                "accesses": self._ledger.accesses,
                "modules": len(self._imports.watched),
                "sites": len(self._imports.sites),
            },
        )

    def _threads(self) -> Iterator[str]:
        """Say which functions ran where nothing is watched."""
        sites = self._imports.sites
        ran = sorted({sites[number].function for number in self._ledger.in_threads})
        if ran:
            more = f" and {len(ran) - _MOST_NAMED} more" if ran[_MOST_NAMED:] else ""
            yield (
                f"{', '.join(ran[:_MOST_NAMED])}{more}: ran in a thread. Only tasks are "
                "watched; make it 'async def' to have what it shares watched."
            )

    def stop(self) -> None:
        """Rewrite no longer, and note nothing more."""
        self._patches.stop()
        self._imports.stop()
        self._ledger.close()


_LEVELS = ("error", "warning", "note")
