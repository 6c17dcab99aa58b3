"""The circuit breaker: when it opens, for how long, and whose end counts."""

import asyncio
import contextlib

import pytest

from app.llm import (
    CircuitBreaker,
    CircuitOpenError,
    KeysBusyError,
    ModelBusyError,
    ModelError,
    ModelNotAskedError,
    ModelRejectedError,
    ModelUnavailableError,
)
from tests.unit.app.llm_twins import ClosedByCancellation, ForgetsEras

OPEN_S = 10.0


class Clock:
    """A clock that is set."""

    now = 0.0

    def __call__(self) -> float:
        """Tell the time."""
        return self.now


def breaker_of(
    clock: Clock, kind: type[CircuitBreaker] = CircuitBreaker, *, failures: int = 3
) -> CircuitBreaker:
    """Return a closed breaker."""
    return kind(failures=failures, open_s=OPEN_S, clock=clock)


def call(breaker: CircuitBreaker, error: BaseException | None = None) -> None:
    """Make a call that ends at once; its error is swallowed, a refusal is not."""
    kinds = () if error is None else (type(error),)
    with contextlib.suppress(*kinds), breaker.attempt():
        if error:
            raise error


def test_breaker_opens_after_failures_in_a_row() -> None:
    """An answer in between starts the count again."""
    breaker = breaker_of(Clock())
    for error in (ModelUnavailableError(), ModelUnavailableError(), None):
        call(breaker, error)
    states = []
    for _ in range(3):
        call(breaker, ModelUnavailableError())
        states.append(breaker.state)

    assert states == ["closed", "closed", "open"]
    with pytest.raises(CircuitOpenError, match="left alone"):
        call(breaker)


@pytest.mark.parametrize(
    "error",
    [
        ModelRejectedError(),
        ModelBusyError("busy"),
        KeysBusyError("busy"),
        ModelError(),
        ValueError(),
    ],
    ids=["rejected", "busy", "no key now", "nonsense", "own mistake"],
)
def test_what_a_user_causes_opens_nothing(error: Exception) -> None:
    """Refused and malformed calls of one user never cut off the others."""
    breaker = breaker_of(Clock(), failures=1)

    for _ in range(5):
        call(breaker, error)

    assert breaker.state == "closed"


@pytest.mark.parametrize(
    ("end", "state"),
    [
        (None, "closed"),
        (ModelUnavailableError(), "open"),
        (ModelRejectedError(), "closed"),
        (ModelBusyError("busy"), "closed"),
        (ModelNotAskedError(), "half-open"),
        (KeysBusyError("busy"), "half-open"),
        (asyncio.CancelledError(), "half-open"),
    ],
    ids=["answered", "failed", "rejected", "busy", "no key", "no key now", "cancelled"],
)
def test_probe_decides(end: BaseException | None, state: str) -> None:
    """After a while one call is let through, and its end decides."""
    clock = Clock()
    breaker = breaker_of(clock, failures=1)
    call(breaker, ModelUnavailableError())
    clock.now = OPEN_S

    call(breaker, end)

    assert breaker.state == state
    if state == "half-open":
        call(breaker)  # the place of the probe is free
        assert breaker.state == "closed"


@pytest.mark.power
def test_cancelled_probe_that_closes_is_caught() -> None:
    """The check above sees a breaker that takes a cancellation for an answer."""
    with pytest.raises(AssertionError):
        _probe_and_cancel(ClosedByCancellation)
    _probe_and_cancel(CircuitBreaker)


def _probe_and_cancel(kind: type[CircuitBreaker]) -> None:
    clock = Clock()
    breaker = breaker_of(clock, kind, failures=1)
    call(breaker, ModelUnavailableError())
    clock.now = OPEN_S
    call(breaker, asyncio.CancelledError())
    assert breaker.state == "half-open"


def test_open_breaker_stays_open_for_its_time() -> None:
    """A probe that fails opens it for the whole time again."""
    clock = Clock()
    breaker = breaker_of(clock, failures=1)
    call(breaker, ModelUnavailableError())
    clock.now = OPEN_S
    call(breaker, ModelUnavailableError())

    clock.now = 2 * OPEN_S - 0.1

    with pytest.raises(CircuitOpenError):
        call(breaker)
    clock.now = 2 * OPEN_S
    call(breaker)
    assert breaker.state == "closed"


def _end_late(kind: type[CircuitBreaker], error: Exception | None) -> str:
    """Let a call from before an outage end after it, and return the state then."""
    clock = Clock()
    breaker = breaker_of(clock, kind, failures=1)
    with contextlib.suppress(ModelUnavailableError), breaker.attempt():
        call(breaker, ModelUnavailableError())  # the outage
        clock.now = OPEN_S
        with contextlib.suppress(ModelUnavailableError), breaker.attempt():
            if error is None:
                raise ModelUnavailableError  # the probe fails; the old call does not
        if error:
            raise error  # the probe was answered; the old call fails
    return breaker.state


@pytest.mark.parametrize(
    ("error", "state"),
    [(None, "open"), (ModelUnavailableError(), "closed")],
    ids=["late answer", "late failure"],
)
def test_call_from_before_an_outage_counts_no_more(
    error: Exception | None, state: str
) -> None:
    """Its late answer does not end the outage, its late failure begins none."""
    assert _end_late(CircuitBreaker, error) == state


@pytest.mark.power
def test_late_failure_that_counts_is_caught() -> None:
    """The check above sees a breaker that counts every end."""
    assert _end_late(ForgetsEras, ModelUnavailableError()) == "open"
