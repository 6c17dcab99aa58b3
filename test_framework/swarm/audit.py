"""One run from login to the owner sweep: everything that happened, as a history.

``run_audit`` drives; it judges nothing. Phases: look at the service, log everybody
in, the traffic shapes one after the other, the faults, the owner sweep, log everybody
out, look for residue. When the service dies or the run is broken off, what was recorded so
far stays and the history says that it is not whole.
"""

import asyncio
import json
import resource
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import httpx

from test_framework.clients.endpoints import Endpoints, declared_operations
from test_framework.clients.recorder import Recorder
from test_framework.clients.wire import WireError
from test_framework.core import (
    FORMAT,
    EndRecord,
    History,
    MonotonicClock,
    PolicyRecord,
    RunRecord,
    SurfaceRecord,
    TargetError,
    UsageError,
)
from test_framework.swarm.alarms import Alarms
from test_framework.swarm.hooks import HOOK_LIMIT_S, run_hook
from test_framework.swarm.identities import Identities, departed
from test_framework.swarm.lasting import (
    find_lasting,
    look_at_connections,
    spare_connections,
)
from test_framework.swarm.nemesis import run_faults
from test_framework.swarm.progress import Progress, Silence, phase
from test_framework.swarm.residue import count_tasks, find_residue
from test_framework.swarm.routes import record_routes
from test_framework.swarm.scene import Scene
from test_framework.swarm.shapes import (
    plain_get,
    run_shape,
)
from test_framework.swarm.sweep import log_surfaces, overhearing, sweep
from test_framework.swarm.user import ExpectationError, User

if TYPE_CHECKING:
    from test_framework.swarm.plan import Hook, Plan
    from test_framework.swarm.target import Target

LOGINS_AT_ONCE = 32
"""Enough to race, few enough that hashing passwords does not time out."""


async def run_audit(  # one argument per fact of the run
    target: "Target",
    plan: "Plan",
    *,
    seed: int,
    history: History,
    repeat: str,
    progress: Progress | None = None,
) -> None:
    """Run one audit and record it.

    Args:
        target: The service.
        plan: Users, workload, shapes.
        seed: Decides canaries, order and bursts; fixed seed, same plan.
        history: Where everything is recorded; the caller closes it.
        repeat: Command that repeats the run, for findings.
        progress: Told about phases.

    Raises:
        TargetError: The service, Postgres or Redis is down or refuses the login;
            what was recorded is kept and the history's end says why.
        UsageError: A hook of the audit file is wrong.
    """
    clock = MonotonicClock()
    recorder = Recorder(
        history, seed=seed, clock=clock, is_tagging=target.host is not None
    )
    history.add(
        RunRecord(
            format=FORMAT,
            seed=seed,
            users=plan.users,
            target=target.name,
            workload=plan.workload_name,
            hosted=target.host is not None,
            repeat=repeat,
            started_ns=clock.now_ns(),
        )
    )
    history.add(
        PolicyRecord(
            public=plan.public,
            p50_gates_s=dict(plan.p50_gates_s),
            p95_gates_s=dict(plan.p95_gates_s),
            p99_gates_s=dict(plan.p99_gates_s),
            floors_s=dict(plan.floors_s),
            event_gap=plan.event_gap or "",
            recovery_gates_s=dict(plan.recovery_gates_s),
            recovery_level=plan.recovery_level,
        )
    )
    with _recorded_end(history, target, clock.now_ns) as alarms:
        scene = Scene(
            target.base_url,
            recorder,
            plan,
            seed=seed,
            behind=target.field.service_url if target.field is not None else None,
            is_alive=target.host.require_alive if target.host else None,
        )
        try:
            await _run(scene, target, alarms, progress or Silence())
        finally:
            await scene.close()


@contextmanager
def _recorded_end(
    history: History, target: "Target", now_ns: Callable[[], int]
) -> Iterator[Alarms]:
    reason = ""
    alarms = Alarms(target.host)
    try:
        yield alarms
    except (KeyboardInterrupt, asyncio.CancelledError):
        reason = "it was interrupted"
        raise
    except BaseException as exc:
        reason = str(exc) or type(exc).__name__
        raise
    finally:
        if target.host is not None:
            started_ns = history.run.started_ns
            for handler in target.host.handlers():
                # One service may live through several audits, each of which numbers
                # its requests from the start.
                if handler.started_ns >= started_ns:
                    history.add(handler)
            record_routes(target.host, history)
            alarms.record(history)
        history.add(
            EndRecord(
                ended_ns=now_ns(),
                complete=not reason,
                reason=reason,
                peak_memory_bytes=_peak_memory_bytes(),
            )
        )
        history.flush()


def _peak_memory_bytes() -> int:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


async def _run(
    scene: Scene, target: "Target", alarms: Alarms, progress: Progress
) -> None:
    plan = scene.plan
    await scene.require_reachable()
    for surface in log_surfaces(target.log_paths):
        scene.history.add(surface)
    await _read_openapi(scene)
    tasks_before = count_tasks(target)
    held_before = await look_at_connections(target)
    async with overhearing(target.redis_url, is_patient=bool(plan.faults)) as heard:
        with phase(progress, "login"):
            await _log_in(scene)
        for shape in plan.shapes:
            with phase(progress, shape):
                await run_shape(scene, shape)
        await run_faults(scene, target, progress)
    identities = Identities({user.index: user.identities for user in scene.everybody()})
    with phase(progress, "owner sweep"):
        heard.record(scene.recorder, identities)
        await sweep(target, scene.recorder, identities, plan)
    with phase(progress, "leaving"):
        scene.recorder.shape = "leaving"
        for hook in (plan.cleanup, plan.logout):
            if hook is not None:
                await run_hook(scene, scene.entered(), hook)
        await scene.close()
        if target.host is not None:
            named = {user.index: user.identities for user in scene.everybody()}
            target.host.identify(departed(scene.history, named))
        for record in await find_residue(
            target,
            identities,
            tasks_before=tasks_before,
            users=len(scene.everybody()),
            alarms=alarms,
        ):
            scene.history.add(record)
        spare = spare_connections(len(scene.everybody()))
        for lasting in await find_lasting(
            target, identities, before=held_before, spare=spare
        ):
            scene.history.add(lasting)
    scene.require_alive()


async def _read_openapi(scene: Scene) -> None:
    """Learn endpoint templates; a service without a document is fine."""
    request = plain_get(scene, scene.plan.openapi)
    visitor = scene.visitor()
    try:
        passage = await visitor.route.start(request)
        async with asyncio.timeout(5):
            body = await passage.exchange.body()
        passage.done()
        document = json.loads(body) if passage.exchange.status == 200 else {}  # found
    except (TimeoutError, WireError, ValueError):
        return
    finally:
        visitor.route.close()
    if not isinstance(document, dict):
        return
    prefix = scene.address.prefix
    scene.recorder.endpoints = Endpoints.of_openapi(document, prefix=prefix)
    for method, template in declared_operations(document):
        scene.history.add(SurfaceRecord("http", f"{method} {prefix}{template}"))


async def _log_in(scene: Scene) -> None:
    """Log every user in.

    Raises:
        TargetError: The service refused one.
        UsageError: The login hook itself is wrong.
    """
    turns = asyncio.Semaphore(LOGINS_AT_ONCE)

    async def one(user: User) -> None:
        async with turns:
            await _enter(scene.plan.login, user)

    users = [scene.add_user(index) for index in range(scene.plan.users)]
    try:
        async with asyncio.TaskGroup() as group:
            for user in users:
                group.create_task(one(user), name=f"login-{user.index}")
    except* (TargetError, UsageError) as several:
        raise several.exceptions[0] from several
    for user in users:
        scene.record_user(user, "regular")


async def _enter(login: "Hook", user: User) -> None:
    try:
        async with asyncio.timeout(HOOK_LIMIT_S):
            await login(user)
        user.has_entered = True
    except (UsageError, TargetError):
        raise
    except (httpx.HTTPError, TimeoutError, ExpectationError, OSError) as exc:
        reason = f"{type(exc).__name__}: {exc}".partition("\n")[0]
        message = (
            f"The login of {user.name!r} was refused ({reason}). "
            "Check the service's log and the login hook of the audit file."
        )
        raise TargetError(message) from exc
    except SystemExit as exc:
        message = (
            "The login hook called sys.exit, which would end the audit without a "
            "verdict. Return instead."
        )
        raise UsageError(message) from exc
    except Exception as exc:
        message = (
            f"The login hook failed for {user.name!r} with {type(exc).__name__}: "
            f"{exc}. Correct 'async def login(user)' in the audit file."
        )
        raise UsageError(message) from exc
