"""The watch on all pools of a process, as a detector of a hosted service or a test.

It listens to SQLAlchemy's pools by its events and stands in for two methods of
asyncpg's own pool. Each check-in costs one query more. Other drivers are not asked, and
``coverage`` says so.
"""

from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import Self

from test_framework.clients.hygiene import alchemy, driver
from test_framework.clients.hygiene.places import Place
from test_framework.clients.hygiene.state import Kind, Leftover
from test_framework.core import AlarmRecord, Level, UsageError, WatchRecord

_DANGEROUS = frozenset({"role", "row_security", "search_path", "session_authorization"})
"""Settings of Postgres that decide what a user sees; others only slow the next down."""

_CURES: dict[Kind, str] = {
    "setting": (
        "Set it for the transaction: SET LOCAL, or set_config(name, value, true)."
    ),
    "advisory lock": (
        "Take pg_advisory_xact_lock, or unlock in 'finally' on the same connection."
    ),
    "temporary table": "Create it ON COMMIT DROP.",
    "LISTEN": "LISTEN on a connection of its own that no pool hands out.",
    "prepared statement": "DEALLOCATE it, or let the driver prepare.",
    "cursor": "Close it, or declare it without WITH HOLD.",
    "open transaction": "End it before the connection goes back, also on errors.",
}


@dataclass(slots=True)
class _Cause:
    leftover: Leftover
    place: Place
    count: int = 0
    operations: set[int] = field(default_factory=set)


class PoolHygiene:
    """Finds what a pooled session hands from one user to the next.

    Args:
        settings: Names of settings of one's own, such as ``app.user_id``; those that
            statements of SQLAlchemy spell out are learned.
        allowed: Names of settings, tables, channels and so on that may stay.

    Raises:
        UsageError: An option is malformed.
    """

    name = "hygiene"

    def __init__(
        self, *, settings: Collection[str] = (), allowed: Collection[str] = ()
    ) -> None:
        for option, value in {"settings": settings, "allowed": allowed}.items():
            if isinstance(value, str) or not all(
                isinstance(name, str) for name in value
            ):
                message = (
                    f"{option}={value!r} is no list of names. Write it in brackets, "
                    f"such as {option} = ['app.user_id']."
                )
                raise UsageError(message)
        self._allowed = frozenset(allowed)
        self.settings = set(settings)
        self._causes: dict[tuple[Kind, str, str], _Cause] = {}
        self._counts: Counter[str] = Counter()
        self._unwatched: dict[str, None] = {}
        self._undo: list[Callable[[], None]] = []

    def start(self) -> None:
        """Listen to all pools of the process, also those to come."""
        for source in (alchemy.watch_pools, driver.watch_pools):
            try:
                self._undo.append(source(self))
            except ImportError as exc:
                self._unwatched[f"{exc.name} is not installed"] = None

    def stop(self) -> None:
        """Listen no longer."""
        while self._undo:
            self._undo.pop()()

    def __enter__(self) -> Self:
        """Start; for tests: ``with PoolHygiene(settings=[...]) as pools``."""
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop."""
        self.stop()

    def returned(
        self,
        before: frozenset[Leftover],
        after: frozenset[Leftover],
        place_of: Callable[[Kind], Place],
    ) -> None:
        """Note what a connection brought back; see ``Watcher``."""
        self._counts["checkins"] += 1
        for leftover in after - before:
            if leftover.name in self._allowed:
                continue
            place = place_of(leftover.kind)
            # Keys of locks are numbers made from ids: any of them is the same cause.
            name = "" if leftover.kind == "advisory lock" else leftover.name
            key = (leftover.kind, name, place.site)
            cause = self._causes.setdefault(key, _Cause(leftover, place))
            cause.count += 1
            if place.operation is not None:
                cause.operations.add(place.operation)

    def missed(self, reason: str) -> None:
        """Note that a connection could not be asked; see ``Watcher``."""
        self._counts["missed"] += 1
        self._unwatched[reason] = None

    def alarms(self) -> list[AlarmRecord]:
        """Return what sessions kept, one alarm per kind, name and line."""
        return [_alarm(cause) for cause in self._causes.values()]

    def coverage(self) -> WatchRecord:
        """Return how many check-ins were looked at, and which could not be."""
        return WatchRecord(
            self.name,
            watched=(
                "check-ins of SQLAlchemy's and asyncpg's pools",
                *(f"setting {name}" for name in sorted(self.settings)),
            ),
            unwatched=tuple(self._unwatched),
            facts={"checkins": self._counts["checkins"]}
            | ({"missed": self._counts["missed"]} if self._counts["missed"] else {}),
        )


def _alarm(cause: _Cause) -> AlarmRecord:
    leftover, place = cause.leftover, cause.place
    is_mild = (
        leftover.kind == "setting"
        and "." not in leftover.name
        and leftover.name not in _DANGEROUS
    )
    level: Level = "warning" if is_mild else "error"
    return AlarmRecord(
        rule="pool-state-kept",
        level=level,
        claim=f"a pooled connection hands its {leftover} to the next user",
        site=place.site,
        evidence=(
            *(f"Sent    {line}" for line in place.stack),
            f"Then    the connection came back with {leftover}, and the pool kept it",
        ),
        fix=_CURES[leftover.kind],
        operations=tuple(sorted(cause.operations)),
        count=cause.count,
    )
