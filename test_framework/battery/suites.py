"""Conformance tests as classes of pytest: one test for each scenario.

    class TestMyCell(AtomicRaceSuite):
        make = MyCell

Their tests are plain functions, so no plug-in for coroutines is needed. A scenario that
an implementation does not offer is skipped with the reason; if it offers none at all,
that fails.
"""

import asyncio
from typing import Any, ClassVar

import pytest

from test_framework.battery.atomic import AtomicRaceTest
from test_framework.battery.channel import ChannelRaceTest
from test_framework.battery.config import RaceTestConfig
from test_framework.battery.conformance import Conformance, NothingToTestError
from test_framework.battery.mutex import MutexRaceTest
from test_framework.battery.ordering import OrderingRaceTest
from test_framework.check.channels import Promise
from test_framework.check.litmus import LITMUS_TESTS, MemoryModel


class _Suite:
    """What the suites share.

    Attributes:
        config: How each scenario is run; the defaults if none is given.
    """

    config: ClassVar[RaceTestConfig | None] = None

    def make(self) -> Any:  # noqa: ANN401  # of no common type
        """Make a fresh implementation; a class in the place of this method does, too."""
        raise NotImplementedError(f"{type(self).__name__} needs a method make")

    def conformance(self) -> Conformance[Any]:
        """Return the conformance test."""
        raise NotImplementedError

    def play(self, scenario: str) -> None:
        """Run one scenario; skip it if it is not offered."""
        try:
            asyncio.run(self.conformance().run(self.config, scenarios=[scenario]))
        except NothingToTestError as exc:
            pytest.skip(str(exc))


class AtomicRaceSuite(_Suite):
    """The scenarios of ``AtomicRaceTest``, for a ``Cell``."""

    def conformance(self) -> AtomicRaceTest:
        """Return the conformance test."""
        return AtomicRaceTest(self.make, name=type(self).__name__)

    @pytest.mark.parametrize("scenario", AtomicRaceTest.names())
    def test_cell_conforms(self, scenario: str) -> None:
        """Nothing is lost, doubled, repeated or stale."""
        self.play(scenario)

    def test_cell_offers_something(self) -> None:
        """There is a scenario that it can be put to."""
        asyncio.run(self.conformance().require_any(self.config))


class MutexRaceSuite(_Suite):
    """The scenarios of ``MutexRaceTest``, for a lock, a lease or one for readers.

    Attributes:
        overtakes: As ``MutexRaceTest`` takes it.
    """

    overtakes: ClassVar[int | None] = None

    def conformance(self) -> MutexRaceTest:
        """Return the conformance test."""
        return MutexRaceTest(
            self.make, overtakes=self.overtakes, name=type(self).__name__
        )

    @pytest.mark.parametrize("scenario", MutexRaceTest.names())
    def test_lock_conforms(self, scenario: str) -> None:
        """One has it at a time, and whoever waits gets it in the end."""
        self.play(scenario)

    def test_lock_offers_something(self) -> None:
        """There is a scenario that it can be put to."""
        asyncio.run(self.conformance().require_any(self.config))


class ChannelRaceSuite(_Suite):
    """The scenarios of ``ChannelRaceTest``, for a channel.

    Attributes:
        promise: What it is held to, as ``ChannelRaceTest`` takes it.
    """

    promise: ClassVar[Promise | None] = None

    def test_channel_conforms(self) -> None:
        """Nothing is lost, doubled, reordered, or received by another."""
        test = ChannelRaceTest(self.make, self.promise, name=type(self).__name__)
        asyncio.run(test.run(self.config))


class OrderingRaceSuite(_Suite):
    """The litmus tests of ``OrderingRaceTest``, for registers.

    Attributes:
        model: What they are held to, as ``OrderingRaceTest`` takes it.
    """

    model: ClassVar[MemoryModel | None] = None

    @pytest.mark.parametrize("litmus", [one.name for one in LITMUS_TESTS])
    def test_registers_conform(self, litmus: str) -> None:
        """No outcome is forbidden."""
        test = OrderingRaceTest(
            self.make, self.model, name=type(self).__name__, tests=[litmus]
        )
        asyncio.run(test.run(self.config))
