"""A detector that is started in the workers of the services in ``apps``."""

import sys

from test_framework.core import AlarmRecord, WatchRecord


class Counter:
    """Counts requests for /watched that the audit sent.

    Args:
        limit: Said again in its coverage.
    """

    name = "counter"

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._moment = ""

    def start(self) -> None:
        """Note whether the service has been imported."""
        self._moment = "after" if "apps" in sys.modules else "before"

    def alarms(self) -> list[AlarmRecord]:
        """Return one alarm with all operations."""
        # Must not be imported before it starts.
        apps = sys.modules["apps"]
        counted = tuple(one for one in apps.COUNTED if one is not None)
        return [
            AlarmRecord(
                "own-detector",
                "note",
                "requests were counted",
                "apps.py:1",
                operations=counted,
                count=len(counted),
            )
        ]

    def coverage(self) -> WatchRecord:
        """Tell when it started and its option."""
        moment = f"{self._moment} the service"
        return WatchRecord("counter", (moment,), facts={"limit": self._limit})

    def stop(self) -> None:
        """There is nothing to take back."""
