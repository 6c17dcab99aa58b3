"""Readiness and liveness: neither hangs, neither flaps, and each ends as it should."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path

import pytest

from app.monitoring import HealthChecks, Heartbeat, Metrics
from app.monitoring.health import State
from app.monitoring.metrics import total
from tests.unit.app.health_twins import EagerChecks, OwnedChecks, PoliteDependency

PROBES = 100


async def good() -> None:
    """Answer."""


class Counted:
    """A dependency that counts how often it is asked, and answers when it is let.

    Attributes:
        asked: How often (count).
        gate: Opens to let it answer.
    """

    def __init__(self) -> None:
        """Answer to nobody yet."""
        self.asked = 0
        self.gate = asyncio.Event()

    async def __call__(self) -> None:
        """Answer."""
        self.asked += 1
        await self.gate.wait()


class Clock:
    """A clock that the test sets."""

    def __init__(self) -> None:
        """Begin at zero."""
        self.now_s = 0.0

    def __call__(self) -> float:
        """Return the seconds."""
        return self.now_s


async def test_failed_and_hanging_checks_are_told() -> None:
    """A dependency that fails or hangs is named, and the others are still asked."""

    async def refused() -> None:
        message = "hunter2"
        raise ConnectionRefusedError(message)

    async def hanging() -> None:
        await asyncio.Event().wait()

    checks = HealthChecks(
        {"good": good, "refused": refused, "hanging": hanging}, timeout_s=0.01
    )

    report = await checks.report()
    await checks.close()

    assert not report.is_ready
    assert report.checks == {
        "good": "ok",
        "refused": "ConnectionRefusedError",
        "hanging": "TimeoutError",
    }


async def test_all_good_is_ready() -> None:
    """When every dependency answers the service is ready."""
    report = await HealthChecks({"one": good, "two": good}).report()

    assert report.is_ready
    assert report.state == "ready"


async def _asked_by_flood(kind: type[HealthChecks]) -> int:
    dependency = Counted()
    checks = kind({"one": dependency}, timeout_s=5)
    probes = [asyncio.create_task(checks.report()) for _ in range(PROBES)]
    await asyncio.sleep(0.01)
    dependency.gate.set()
    reports = await asyncio.gather(*probes)
    assert all(report.is_ready for report in reports)
    return dependency.asked


async def test_flood_of_probes_is_one_check() -> None:
    """A hundred probes at one time, and those that follow at once, ask once."""
    assert await _asked_by_flood(HealthChecks) == 1


async def test_flood_makes_one_failure_of_one() -> None:
    """A single bad answer that a hundred probes wait for is one, and takes nothing down."""
    clock, gate, is_failing = Clock(), asyncio.Event(), False

    async def ask() -> None:
        await gate.wait()
        if is_failing:
            raise ConnectionResetError

    checks = HealthChecks({"one": ask}, fall=2, timeout_s=5, clock=clock)
    gate.set()
    await checks.report()
    gate.clear()
    is_failing, clock.now_s = True, 1.0
    probes = [asyncio.create_task(checks.report()) for _ in range(PROBES)]
    await asyncio.sleep(0.01)
    gate.set()
    reports = await asyncio.gather(*probes)

    assert {report.state for report in reports} == {"ready"}
    assert reports[0].checks == {"one": "ConnectionResetError"}


@pytest.mark.power
async def test_check_per_probe_is_found() -> None:
    """Without sharing, each probe takes a connection of its own."""
    assert await _asked_by_flood(EagerChecks) == PROBES


async def _told_when_first_leaves(kind: type[HealthChecks]) -> list[object]:
    dependency = Counted()
    checks = kind({"one": dependency}, timeout_s=5)
    probes = [asyncio.create_task(checks.report()) for _ in range(PROBES)]
    await asyncio.sleep(0.01)
    probes[0].cancel()
    await asyncio.sleep(0)
    dependency.gate.set()
    outcomes = await asyncio.gather(*probes[1:], return_exceptions=True)
    return [getattr(one, "state", type(one).__name__) for one in outcomes]


async def test_probe_that_leaves_takes_nothing_along() -> None:
    """The probe that began a round may leave: the others still get its result."""
    assert await _told_when_first_leaves(HealthChecks) == ["ready"] * (PROBES - 1)


@pytest.mark.power
async def test_round_owned_by_its_first_probe_is_found() -> None:
    """A round awaited directly is cancelled with the first probe that leaves."""
    assert "CancelledError" in await _told_when_first_leaves(OwnedChecks)


async def _is_told_of_stubborn(
    checks: HealthChecks, release: asyncio.Event, *, within_s: float
) -> bool:
    """Return whether a report comes though a check does not let itself be cancelled."""
    asking = asyncio.create_task(checks.report())
    await asyncio.wait({asking}, timeout=within_s)
    is_told = asking.done()
    release.set()
    await asyncio.wait_for(asking, 5)
    await checks.close()
    return is_told


def _stubborn(release: asyncio.Event) -> Callable[[], Awaitable[None]]:
    async def wait_on() -> None:
        while not release.is_set():
            try:
                await release.wait()
            except asyncio.CancelledError:  # as a driver that cleans up for ever
                continue

    return wait_on


async def test_check_that_resists_cancelling_hangs_nobody() -> None:
    """The report comes in time though a check ignores its cancellation."""
    release = asyncio.Event()
    checks = HealthChecks({"stubborn": _stubborn(release)}, timeout_s=0.01)

    assert await _is_told_of_stubborn(checks, release, within_s=20)


@pytest.mark.power
async def test_polite_time_limit_is_found() -> None:
    """``asyncio.timeout`` waits for the check to give in, and the report with it."""
    release = asyncio.Event()
    checks = HealthChecks({}, timeout_s=0.01)
    checks._dependencies = {
        "stubborn": PoliteDependency(_stubborn(release), fall=2, rise=2)
    }

    assert not await _is_told_of_stubborn(checks, release, within_s=0.3)


async def test_stuck_check_is_not_asked_twice() -> None:
    """While a check is stuck no second one is sent after it."""
    release, asked = asyncio.Event(), 0
    wait_on = _stubborn(release)

    async def counted() -> None:
        nonlocal asked
        asked += 1
        await wait_on()

    checks = HealthChecks({"stubborn": counted}, timeout_s=0.01, kept_s=0)
    for _ in range(5):
        await checks.report()
    release.set()
    await checks.close()

    assert asked == 1


async def _states(results: Iterable[bool], *, fall: int, rise: int) -> list[State]:
    """Return the state after each result of one dependency."""
    clock, queue = Clock(), iter(results)

    async def scripted() -> None:
        if not next(queue):
            raise ConnectionResetError

    checks = HealthChecks(
        {"one": scripted}, kept_s=1, fall=fall, rise=rise, clock=clock
    )
    states = []
    for _ in list(results):
        states.append((await checks.report()).state)
        clock.now_s += 1
    return states


async def test_single_failures_do_not_flap() -> None:
    """One bad result takes nothing down, two in a row do, two good ones bring it up."""
    results = [False, True, False, True, False, False, True, False, True, True]

    states = await _states(results, fall=2, rise=2)

    assert states == [
        "starting",
        *["ready"] * 4,
        *["down"] * 4,
        "ready",
    ]


@pytest.mark.power
async def test_no_hysteresis_flaps() -> None:
    """With one result in a row the same results change the state at each turn."""
    states = await _states([True, False, True, False, True], fall=1, rise=1)

    assert states == ["ready", "down", "ready", "down", "ready"]


async def test_result_is_kept_for_a_moment() -> None:
    """Within ``kept_s`` seconds nobody is asked again."""
    clock, dependency = Clock(), Counted()
    dependency.gate.set()
    checks = HealthChecks({"one": dependency}, kept_s=1, clock=clock)

    for clock.now_s in (0.0, 0.5, 0.99, 1.0, 1.5):
        await checks.report()

    assert dependency.asked == 2


async def test_draining_comes_before_all_else() -> None:
    """A service that stops is not ready, however well its dependencies are."""
    checks = HealthChecks({"one": good})
    assert (await checks.report()).is_ready

    checks.drain()

    assert (await checks.report()).state == "draining"


async def test_closing_leaves_no_task() -> None:
    """Closing in the middle of a round ends it, and those who asked are answered."""
    dependency = Counted()
    checks = HealthChecks({"one": dependency}, timeout_s=5)
    probe = asyncio.create_task(checks.report())
    await asyncio.sleep(0.01)

    await checks.close()

    assert (await probe).state == "draining"


async def test_stalled_loop_is_not_alive(tmp_path: Path) -> None:
    """A loop that stood still is not alive until a beat has been punctual again.

    It is counted, and told while it lasts.
    """
    clock, metrics = Clock(), Metrics.open(tmp_path)
    heartbeat = Heartbeat(metrics, beat_s=0.01, stall_s=5, clock=clock)
    heartbeat.start()
    states = [(heartbeat.is_alive, len(list(heartbeat.signals())))]

    clock.now_s += 6  # nothing ran meanwhile, not even the beat
    states.append((heartbeat.is_alive, len(list(heartbeat.signals()))))
    for _ in range(1_000):
        await asyncio.sleep(0.01)
        if heartbeat.is_alive:
            break
    states.append((heartbeat.is_alive, len(list(heartbeat.signals()))))
    heartbeat.close()

    assert states == [(True, 0), (False, 1), (True, 0)]
    assert total(metrics._files.collect(), "event_loop_stalls_total") == 1
    metrics.close()


async def test_busy_loop_is_alive() -> None:
    """A beat that is late by less than a stall changes nothing."""
    clock = Clock()
    heartbeat = Heartbeat(beat_s=0.01, stall_s=5, clock=clock)
    heartbeat.start()

    clock.now_s += 4.9

    assert heartbeat.is_alive
    heartbeat.close()
