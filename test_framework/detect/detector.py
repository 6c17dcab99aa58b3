"""What every detector can do."""

from typing import Protocol

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
