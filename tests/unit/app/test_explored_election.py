"""A leader under every order and delay: its work ends before its lease does.

The lease is one of the loop's clock, and each answer of whoever grants it may take as
long as it likes. The candidate is the real one.
"""

import asyncio
import random
from typing import Self

import pytest

from app.control import Candidate
from app.storage import Leadership
from test_framework.explore import Report, Scenario, explore, external
from tests.unit.app.exploring import assert_found

LEASE_S = 3.0
STEPS = 3


class _Office:
    """Grants one lease at a time, and is where its holder works.

    Attributes:
        candidate: Who stands.
        until: When the lease that was granted last ends.
        epoch: Its number.
        wrong: What must not have been.
    """

    def __init__(self, candidate: type[Candidate]) -> None:
        self.candidate = candidate
        self.until, self.epoch, self.wrong = 0.0, 0, list[str]()

    async def __aenter__(self) -> Self:
        self.stopping = asyncio.Event()
        return self

    async def __aexit__(self, *_: object) -> None:
        pass

    @property
    def lease_s(self) -> float:
        """How long a lease lasts."""
        return LEASE_S

    async def stand(self) -> "_Lease | None":
        """Grant the lease, unless somebody holds it."""
        loop = asyncio.get_running_loop()
        asked_at = loop.time()
        await external("request")
        if loop.time() < self.until:
            return None
        self.epoch += 1
        self.until = loop.time() + LEASE_S
        lease = _Lease(self, Leadership("test", self.epoch), asked_at)
        await external("answer")
        return lease

    async def work(self, leadership: Leadership) -> None:
        """Work under a lease; it must be there whenever a step begins."""
        for _ in range(STEPS):
            now = asyncio.get_running_loop().time()
            # Written down, not raised: a candidate stands again whatever failed.
            if leadership.epoch != self.epoch:
                self.wrong.append("works under another's lease")
            elif now >= self.until:
                self.wrong.append("works after the end of its lease")
            await external("database")
        self.stopping.set()


class _Lease:
    """A lease that was granted."""

    def __init__(
        self, office: _Office, leadership: Leadership, asked_at: float
    ) -> None:
        self._office, self.leadership, self.asked_at = office, leadership, asked_at

    async def renew(self) -> bool:
        """Let it last from when the request arrives."""
        await external("request")
        now = asyncio.get_running_loop().time()
        is_mine = self.leadership.epoch == self._office.epoch
        if not is_mine or now >= self._office.until:
            return False
        self._office.until = now + LEASE_S
        await external("answer")
        return True

    async def resign(self) -> None:
        """End it."""
        if self.leadership.epoch == self._office.epoch:
            self._office.until = 0.0


def _led(candidate: type[Candidate]) -> Report:
    async def stand(office: _Office, _: int) -> None:
        # Seeded: a schedule must repeat.
        candidate = office.candidate(office, rng=random.Random(1))
        await candidate.run(office.work, stopping=office.stopping)

    def check(office: _Office) -> None:
        assert not office.wrong, office.wrong[0]

    return explore(
        Scenario(lambda: _Office(candidate), stand, check, users=2),
        schedules=400,
        budget="90s",
        seed=1,
    )


def test_work_ends_before_its_lease() -> None:
    """However late requests and answers are, nobody works without a lease."""
    report = _led(Candidate)

    assert report.witness is None, report.text()


class _Outliving(Candidate):
    """Works for as long as the work takes, whatever becomes of the lease."""

    def _deadline(self, asked_at: float) -> float:
        return asked_at + 1e6


class _FromTheAnswer(Candidate):
    """Counts a lease from when its answer came, and uses it up."""

    def _deadline(self, asked_at: float) -> float:
        del asked_at
        return asyncio.get_running_loop().time() + LEASE_S


@pytest.mark.power
@pytest.mark.parametrize("twin", [_Outliving, _FromTheAnswer])
def test_work_that_outlives_its_lease_is_found(twin: type[Candidate]) -> None:
    """Work that nothing ends, and a lease that is counted from its answer, are found."""
    assert_found(_led(twin), "assertion", "works")
