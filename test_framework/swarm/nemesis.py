"""The nemesis: disturbs the service while all users work, and sees it recover.

Around each fault all users work. It strikes after a quarter of the
time, lasts for half of it and is healed, whatever happens meanwhile. From then on a
probe of every user, which succeeded before, is repeated until it succeeds again; the
users work on beside it, because the moment after an outage is the hottest: everything
reconnects at once. When all are well again the users stop, and look in peace whether
everything is there that was acknowledged.

Nothing is judged here: the record of each fault says when it struck, healed and was
recovered from, and what users did meanwhile is in the history anyway.

Source: Jepsen's nemesis; Basiri et al., "Chaos Engineering", IEEE Software 2016.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from test_framework.check.faults import memory_growth
from test_framework.clients.deadlock_count import DeadlockCount
from test_framework.core import (
    AFTER_FAULT,
    UNDER_FAULT,
    FaultRecord,
    ShapeRecord,
    TargetError,
    UsageError,
)
from test_framework.faults import Field, chosen, striking
from test_framework.swarm.hooks import complain, exit_refused, run_hook
from test_framework.swarm.probes import find_probes
from test_framework.swarm.progress import phase
from test_framework.swarm.user import ExpectationError

if TYPE_CHECKING:
    from test_framework.faults import Fault
    from test_framework.swarm.plan import Hook
    from test_framework.swarm.probes import Probe
    from test_framework.swarm.progress import Progress
    from test_framework.swarm.scene import Scene
    from test_framework.swarm.target import Target
    from test_framework.swarm.user import User

CALM_SHARE = 0.25
FAULT_SHARE = 0.5
"""Of the time of a fault: before it strikes, and until it is healed."""

TURNS_PER_S = 20.0
PAUSE_S = 1.0
"""Turns of all users together, and the least pause between two of one user, in the mean.

A fault is to meet a service at work, not one that is worn out already: a recovery
among more requests than it can answer would tell of the load, and not of the fault.
"""

TURN_LIMIT_S = 20.0
LAST_TURN_S = 12.0
"""A turn, and what is left of it when a fault is over; a request takes ten at most."""

RECOVERY_LIMIT_S = 60.0
PROBE_EVERY_S = 0.1
SETTLE_LOOKS = 4
SETTLE_S = 0.75


@dataclass(slots=True)
class _Account:
    """A fault's record while it is being filled in."""

    fault: "Fault"
    began_ns: int
    struck_ns: int | None = None
    healed_ns: int | None = None
    recovered_ns: int | None = None
    reason: str = ""
    probes: int = 0
    late: tuple[int, ...] = ()
    deadlocks: int | None = None
    memory_before: tuple[int, ...] = ()
    memory_after: tuple[int, ...] = ()

    def record(self, ended_ns: int) -> FaultRecord:
        """Return what is known."""
        return FaultRecord(
            fault=self.fault.name,
            promise=self.fault.promise,
            began_ns=self.began_ns,
            ended_ns=ended_ns,
            struck_ns=self.struck_ns,
            healed_ns=self.healed_ns,
            recovered_ns=self.recovered_ns,
            reason=self.reason.rstrip("."),
            probes=self.probes,
            late=self.late,
            deadlocks=self.deadlocks,
            memory_before=self.memory_before,
            memory_after=self.memory_after,
        )


@dataclass(slots=True)
class _Turns:
    """How often users did what they do around a fault."""

    begun: int = 0
    finished: int = 0
    complained: set[int] = field(default_factory=set)


async def run_faults(scene: "Scene", target: "Target", progress: "Progress") -> None:
    """Let each fault of the plan strike, one after the other.

    When the service does not recover from one, the others are not tried: what they
    would find is what that one left.

    Raises:
        TargetError: What a fault took does not come back.
        UsageError: A hook of the audit file is wrong.
    """
    if not scene.plan.faults:
        return
    ground = target.field
    if ground is not None:
        ground = replace(ground, rng=scene.rng("nemesis"))
    url = target.database_url
    deadlocks = None if url is None else DeadlockCount(url)
    broken_by = ""
    for fault in chosen(",".join(scene.plan.faults)):
        account = _Account(fault, scene.clock.now_ns())
        try:
            if broken_by:
                account.reason = f"the service had not recovered from {broken_by}"
                continue
            account.reason = _reason_against(fault, ground)
            if account.reason or ground is None:
                continue
            with phase(progress, UNDER_FAULT + fault.name):
                await _endure(scene, target, ground, account, deadlocks)
            if account.recovered_ns is None and account.probes:
                broken_by = fault.name
        except TargetError as exc:
            account.reason = str(exc)
            raise
        except BaseException:
            account.reason = "the run was interrupted"
            raise
        finally:
            scene.history.add(account.record(scene.clock.now_ns()))


def _reason_against(fault: "Fault", ground: Field | None) -> str:
    if ground is None:
        return "nothing of this service can be reached by faults"
    return fault.lacks(ground) or ""


async def _endure(
    scene: "Scene",
    target: "Target",
    ground: Field,
    account: _Account,
    deadlocks: DeadlockCount | None,
) -> None:
    plan, name = scene.plan, account.fault.name
    before = None if deadlocks is None else await deadlocks.look()
    async with _shape(scene, UNDER_FAULT + name) as facts:
        turns = _Turns()
        async with _working(scene, plan.under_faults or plan.workload, turns):
            await _disturb(scene, target, ground, account)
        facts |= {"turns": turns.begun, "finished": turns.finished}
    if account.recovered_ns is None and account.probes:
        return
    async with _shape(scene, AFTER_FAULT + name):
        await run_hook(scene, scene.users, plan.after_faults or plan.workload)
    account.memory_after = await _settled_memory(target, account, scene)
    if deadlocks is not None and before is not None:
        after = await deadlocks.look()
        account.deadlocks = None if after is None else after - before


@contextlib.asynccontextmanager
async def _shape(scene: "Scene", name: str) -> AsyncIterator[dict[str, int]]:
    """Give a name to what happens in the block, and record that it did."""
    scene.recorder.shape = name
    started_ns = scene.clock.now_ns()
    facts: dict[str, int] = {}
    yield facts
    scene.history.add(
        ShapeRecord(
            shape=name,
            users=tuple(user.index for user in scene.users),
            started_ns=started_ns,
            ended_ns=scene.clock.now_ns(),
            facts=facts,
        )
    )


async def _disturb(
    scene: "Scene", target: "Target", ground: Field, account: _Account
) -> None:
    """Strike in the middle of the users' work, heal, and wait until all are well."""
    seconds = scene.plan.fault_seconds
    await asyncio.sleep(CALM_SHARE * seconds)
    probes = await find_probes(scene)
    account.probes = len(probes)
    account.memory_before = await _memory(target)
    begun_ns = scene.clock.now_ns()
    try:
        async with striking(account.fault, ground):
            account.struck_ns = begun_ns
            await asyncio.sleep(FAULT_SHARE * seconds)
    except asyncio.CancelledError:
        # It comes out of the block only when the fault has been healed.
        account.healed_ns = scene.clock.now_ns()
        raise
    account.healed_ns = scene.clock.now_ns()
    await _await_recovery(scene, probes, account)
    await asyncio.sleep((1 - CALM_SHARE - FAULT_SHARE) * seconds)


async def _await_recovery(
    scene: "Scene", probes: "dict[int, Probe]", account: _Account
) -> None:
    """Probe all users at once, each until it is served again."""

    async def well_again(probe: "Probe") -> int:
        while True:
            if await probe():
                return scene.clock.now_ns()
            await asyncio.sleep(PROBE_EVERY_S)

    gates_s = scene.plan.recovery_gates_s.values()
    limit_s = max([RECOVERY_LIMIT_S, *(3 * gate_s for gate_s in gates_s)])
    tasks = {
        user: asyncio.create_task(well_again(probe), name=f"probe-{user}")
        for user, probe in probes.items()
    }
    if not tasks:
        return
    try:
        await asyncio.wait(tasks.values(), timeout=limit_s)
    finally:
        late = [user for user, task in tasks.items() if not task.done()]
        for task in tasks.values():
            task.cancel()
        done = await asyncio.gather(*tasks.values(), return_exceptions=True)
    account.late = tuple(late)
    if not late:
        account.recovered_ns = max(at for at in done if isinstance(at, int))
    for outcome in done:
        if isinstance(outcome, UsageError):
            raise outcome


@contextlib.asynccontextmanager
async def _working(scene: "Scene", hook: "Hook", turns: _Turns) -> AsyncIterator[None]:
    """Let all users work as long as the block lasts, and end their turns."""
    over = asyncio.Event()
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [
                group.create_task(
                    _work(scene, user, hook, over, turns), name=f"user-{user.index}"
                )
                for user in scene.users
            ]
            yield
            over.set()
            await asyncio.wait(tasks, timeout=LAST_TURN_S)
            for task in tasks:
                task.cancel()
    except* UsageError as several:
        raise several.exceptions[0] from several


async def _work(
    scene: "Scene", user: "User", hook: "Hook", over: asyncio.Event, turns: _Turns
) -> None:
    rng = scene.rng("faults", user.index)
    pause_s = max(PAUSE_S, len(scene.users) / TURNS_PER_S)
    await _rest(over, rng.uniform(0, pause_s))
    while not over.is_set():
        turns.begun += 1
        try:
            async with asyncio.timeout(TURN_LIMIT_S):
                await hook(user)
            turns.finished += 1
        except UsageError:
            raise
        except SystemExit as exc:
            raise exit_refused(hook) from exc
        except asyncio.CancelledError as exc:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            _complain_once(scene, user, exc, turns)
        except ExpectationError as exc:
            complain(scene, user, exc)
        except Exception as exc:  # noqa: BLE001  # a fault makes hooks raise anything
            _complain_once(scene, user, exc, turns)
        await _rest(over, rng.uniform(0.5, 1.5) * pause_s)


async def _rest(over: asyncio.Event, seconds: float) -> None:
    """Wait some seconds, or until the users are to stop."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await over.wait()


def _complain_once(
    scene: "Scene", user: "User", exc: BaseException, turns: _Turns
) -> None:
    """Keep what a user raised first, for the case that no turn ever ends well."""
    if user.index not in turns.complained:
        turns.complained.add(user.index)
        complain(scene, user, exc)


async def _memory(target: "Target") -> tuple[int, ...]:
    """Return the resident bytes of each worker, after a collection in it."""
    if target.host is None:
        return ()
    try:
        census = await asyncio.to_thread(target.host.census)
    except TargetError:
        return ()
    return tuple(worker.rss_bytes for worker in census)


async def _settled_memory(
    target: "Target", account: _Account, scene: "Scene"
) -> tuple[int, ...]:
    """Return the least that workers hold within a short while of quiet."""
    least: tuple[int, ...] = ()
    for _ in range(SETTLE_LOOKS):
        now = await _memory(target)
        least = tuple(map(min, least, now)) if least else now
        account.memory_after = least
        grown = memory_growth(account.record(scene.clock.now_ns()))
        if grown is None or grown[0] <= grown[1]:
            break
        await asyncio.sleep(SETTLE_S)
    return least
