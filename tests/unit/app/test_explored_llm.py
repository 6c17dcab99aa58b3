"""The guards of the model under every order, with callers cancelled at any await.

Slots, flights, batches, probes and tokens are each shared by all users; what is checked
is that nothing of one user reaches another, and that nobody who leaves takes anything.
"""

import asyncio
import contextlib
from collections.abc import Mapping
from typing import Any, Self

import pytest

from app.llm import (
    Batcher,
    CircuitBreaker,
    CircuitOpenError,
    ModelUnavailableError,
    ProviderTokens,
    SingleFlight,
    UserLimits,
)
from test_framework.explore import Report, Scenario, explore, external
from tests.unit.app.exploring import USERS_ALONE, assert_found
from tests.unit.app.llm_twins import (
    AwaitsTheFlight,
    ByPosition,
    FirstComeFirstServed,
    ForgetsHandedOver,
    JammedByCancellation,
    ManyProbes,
    RefreshesEach,
    SentWithThoseWhoLeft,
)


def _explored(
    scenario: Scenario[Any], *, cancel: str = "", schedules: int = 300
) -> Report:
    return explore(
        scenario,
        fidelity="await",
        cancel=cancel,
        schedules=schedules,
        budget="90s",
        seed=1,
    )


class _Slots:
    """Three slots, two at most for one user; ada comes three times, bob once."""

    def __init__(self, limits: type[UserLimits]) -> None:
        self._limits = limits(total=3, per_user=2)
        self._inside = {"ada": 0, "bob": 0}

    async def call(self, number: int) -> None:
        """Hold a slot during a call."""
        user = "bob" if number == 3 else "ada"
        async with self._limits.slot(user):
            self._inside[user] += 1
            assert self._inside["ada"] <= 2, "ada holds more than her share"
            assert sum(self._inside.values()) <= 3
            try:
                await external("call")
            finally:
                self._inside[user] -= 1

    def check(self) -> None:
        """Check that every slot came back."""
        assert self._limits.free == 3, f"{self._limits.free} of 3 slots are free"
        assert self._limits.held == {}


def _slots(limits: type[UserLimits], *, cancel: str = "") -> Report:
    scenario = Scenario(lambda: _Slots(limits), _Slots.call, _Slots.check, users=4)
    return _explored(scenario, cancel=cancel)


@pytest.mark.slow
def test_slots_come_back_whoever_leaves() -> None:
    """Nobody holds more than the share, and no cancelled caller keeps a slot."""
    report = _slots(UserLimits, cancel=USERS_ALONE)

    assert report.witness is None, report.text()


@pytest.mark.power
def test_slot_of_cancelled_waiter_is_missed() -> None:
    """A slot handed to a waiter that was cancelled at that moment is lost."""
    assert_found(_slots(ForgetsHandedOver, cancel=USERS_ALONE), "assertion", "are free")


@pytest.mark.power
def test_user_with_all_slots_is_found() -> None:
    """Without a share one user takes every slot."""
    assert_found(_slots(FirstComeFirstServed), "assertion", "more than her share")


class _Flights:
    """Three who want one thing."""

    def __init__(self, flights: type[SingleFlight[str, int]]) -> None:
        self._flights = flights()
        self._begun = 0

    async def want(self, number: int) -> None:
        """Join the flight."""
        task = asyncio.current_task()
        try:
            await self._flights.join("it", self._fetch)
        except asyncio.CancelledError:
            assert task is not None
            assert task.cancelling(), f"{number} heard of another's cancellation"
            raise

    async def _fetch(self) -> int:
        self._begun += 1
        begun = self._begun
        await external("fetch")
        return begun

    def check(self) -> None:
        """Check that nothing is under way."""
        assert len(self._flights) == 0, "a flight outlived those who waited"


def _flights(
    flights: type[SingleFlight[str, int]], *, cancel: str = USERS_ALONE
) -> Report:
    scenario = Scenario(
        lambda: _Flights(flights), _Flights.want, _Flights.check, users=3
    )
    return _explored(scenario, cancel=cancel)


@pytest.mark.slow
def test_flight_survives_those_who_leave() -> None:
    """Whoever is cancelled while waiting, all others get what they wait for."""
    report = _flights(SingleFlight)

    assert report.witness is None, report.text()


@pytest.mark.power
def test_flight_cancelled_with_one_waiter_is_found() -> None:
    """A waiter that awaits the flight itself ends it for all."""
    assert_found(_flights(AwaitsTheFlight), "assertion", "another's cancellation")


class _Batches:
    """Three who put an item each into batches of two."""

    def __init__(self, batcher: type[Batcher[str, str]]) -> None:
        self._batcher = batcher(self._process, max_items=2, max_wait_s=1)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._batcher.aclose()

    async def submit(self, number: int) -> None:
        """Send an item and get the own result."""
        result = await self._batcher.submit(f"item {number}")
        assert result == f"result of item {number}", f"{number} got the {result}"

    async def _process(self, items: Mapping[int, str]) -> Mapping[int, str]:
        await external("process")
        # In another order than they came, as servers may answer.
        return {n: f"result of {items[n]}" for n in sorted(items, reverse=True)}


def _batches(batcher: type[Batcher[str, str]], *, cancel: str = "") -> Report:
    scenario = Scenario(lambda: _Batches(batcher), _Batches.submit, users=3)
    return _explored(scenario, cancel=cancel)


@pytest.mark.slow
def test_members_get_own_results_whoever_leaves() -> None:
    """Each member gets the result of its item, also when others leave the batch."""
    report = _batches(Batcher, cancel=USERS_ALONE)

    assert report.witness is None, report.text()


@pytest.mark.power
def test_results_by_position_are_found() -> None:
    """Results that are given out in their order reach the wrong members."""
    assert_found(_batches(ByPosition), "assertion", "got the result of")


@pytest.mark.power
def test_batch_cancelled_with_one_member_is_found() -> None:
    """A member that takes the batch with it fails the others."""
    report = _batches(SentWithThoseWhoLeft, cancel=USERS_ALONE)

    assert_found(report, "exception", "stops")


class _Outage:
    """A breaker whose time to probe has come, and three who call."""

    def __init__(self, breaker: type[CircuitBreaker]) -> None:
        self._now = 0.0
        self._breaker = breaker(failures=1, open_s=10, clock=lambda: self._now)
        with contextlib.suppress(ModelUnavailableError), self._breaker.attempt():
            raise ModelUnavailableError
        self._now = 11.0
        self._probes = 0

    async def call(self, number: int) -> None:
        """Call, and accept to be refused."""
        try:
            with self._breaker.attempt():
                is_probe = self._breaker.state == "half-open"
                self._probes += is_probe
                assert self._probes <= 1, f"{number} probes beside another"
                try:
                    await external("call")
                finally:
                    self._probes -= is_probe
        except CircuitOpenError:
            pass

    def check(self) -> None:
        """Check that the breaker is closed, or the next caller may probe."""
        self._breaker.refuse_if_open()


def _outage(breaker: type[CircuitBreaker], *, cancel: str = "") -> Report:
    scenario = Scenario(lambda: _Outage(breaker), _Outage.call, _Outage.check, users=3)
    return _explored(scenario, cancel=cancel)


@pytest.mark.slow
def test_one_probe_at_a_time_whoever_leaves() -> None:
    """One call probes, and a probe that is cancelled leaves its place to the next."""
    report = _outage(CircuitBreaker, cancel=USERS_ALONE)

    assert report.witness is None, report.text()


@pytest.mark.power
def test_many_probes_are_found() -> None:
    """A breaker that lets all through when the time has come is seen to."""
    assert_found(_outage(ManyProbes), "assertion", "beside another")


@pytest.mark.power
def test_breaker_jammed_by_cancelled_probe_is_found() -> None:
    """A probe that is cancelled and stays counted shuts everybody out."""
    report = _outage(JammedByCancellation, cancel=USERS_ALONE)

    assert_found(report, "exception", "left alone")


class _Renewal:
    """Three requests that find no token."""

    def __init__(self, tokens: type[ProviderTokens]) -> None:
        self._fetched = 0
        self._tokens = tokens(self._fetch, clock=lambda: 0.0)

    async def request(self, number: int) -> None:
        """Ask for the headers of a request."""
        assert (await self._tokens.headers())["authorization"], number

    async def _fetch(self) -> tuple[str, float]:
        self._fetched += 1
        await external("token")
        return f"token {self._fetched}", 60.0

    def check(self) -> None:
        """Check that one request was enough."""
        assert self._fetched <= 1, f"{self._fetched} tokens were fetched"


def _renewal(tokens: type[ProviderTokens]) -> Report:
    scenario = Scenario(
        lambda: _Renewal(tokens), _Renewal.request, _Renewal.check, users=3
    )
    return _explored(scenario)


def test_token_is_fetched_once() -> None:
    """Requests that find no token at one time fetch one."""
    report = _renewal(ProviderTokens)

    assert report.witness is None, report.text()


@pytest.mark.power
def test_token_fetched_by_each_is_found() -> None:
    """Without a single flight each request fetches one of its own."""
    assert_found(_renewal(RefreshesEach), "assertion", "were fetched")
