"""What every detector can do."""

from collections.abc import Collection, Mapping
from typing import Protocol, runtime_checkable

from test_framework.core import AlarmRecord, WatchRecord


class Detector(Protocol):
    """Watches one process from ``start`` to ``stop``.

    Attributes:
        name: As people type it, such as ``locks``.
    """

    name: str

    def start(self) -> None:
        """Begin to watch; before the service is imported.

        Raises:
            UsageError: It was asked to watch something that it cannot.
        """
        ...

    def alarms(self) -> list[AlarmRecord]:
        """Return what it saw so far, one alarm per cause; may be asked again."""
        ...

    def coverage(self) -> WatchRecord:
        """Return what it looked at, and what it could not look at."""
        ...

    def stop(self) -> None:
        """Watch no longer: every patch is taken back."""
        ...


@runtime_checkable
class Identifying(Protocol):
    """A detector that wants to know how the service calls the users of an audit."""

    def identify(self, identities: Mapping[int, Collection[str]]) -> None:
        """Know users by identifiers that the service made, from now on.

        Args:
            identities: What names each user or what it made, by the number of the
                user; those of an earlier call are forgotten.
        """
        ...
