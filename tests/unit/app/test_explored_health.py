"""Readiness under every order: one check at a time, and each probe is answered."""

import pytest

from app.monitoring import HealthChecks
from test_framework.explore import Report, Scenario, explore, external
from tests.unit.app.exploring import assert_found, left
from tests.unit.app.health_twins import EagerChecks, OwnedChecks

_PROBES = 3


class _Watched:
    """A dependency that probes ask, and what they were told.

    Attributes:
        told: The state that each probe was told.
    """

    def __init__(self, checks: type[HealthChecks], *, leaver: int | None) -> None:
        self.told: dict[int, str] = {}
        self._leaver = leaver
        self._asking = 0
        # The clock stands still: a result that was kept is handed out for ever.
        self._checks = checks({"one": self._ask}, timeout_s=1e6, clock=lambda: 0.0)

    async def _ask(self) -> None:
        self._asking += 1
        assert self._asking == 1, "two checks are under way"
        try:
            await external("ask")
        finally:
            self._asking -= 1

    async def probe(self, number: int) -> None:
        """Ask for the report, and leave in the middle if this one does."""
        if number == self._leaver:
            await left(self._checks.report(), times=1)
            return
        self.told[number] = (await self._checks.report()).state

    def check(self) -> None:
        """Check that each probe that stayed was told something.

        That the service starts, where the time for a check was up: here any wait may
        take any time.
        """
        assert set(self.told) == set(range(_PROBES)) - {self._leaver}, self.told
        assert set(self.told.values()) <= {"ready", "starting"}


def _explored(
    checks: type[HealthChecks] = HealthChecks, *, leaver: int | None = None
) -> Report:
    return explore(
        Scenario(
            lambda: _Watched(checks, leaver=leaver),
            _Watched.probe,
            _Watched.check,
            users=_PROBES,
        ),
        fidelity="await",
        schedules=100,
        budget="90s",
        seed=1,
    )


@pytest.mark.slow
@pytest.mark.parametrize("leaver", [None, 0], ids=["stay", "one leaves"])
def test_probes_share_one_check(leaver: int | None) -> None:
    """However probes come and leave, one check is under way and all are answered."""
    report = _explored(leaver=leaver)

    assert report.witness is None, report.text()


@pytest.mark.power
def test_check_for_each_probe_is_found() -> None:
    """Without a shared round the probes ask at one time."""
    assert_found(_explored(EagerChecks), "assertion", "two checks are under way")


@pytest.mark.power
def test_round_that_leaves_with_its_probe_is_found() -> None:
    """A round awaited directly takes the others along when its first probe leaves."""
    report = _explored(OwnedChecks, leaver=0)

    assert report.witness is not None, report.text()
