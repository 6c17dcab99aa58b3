"""Runs what an audit file says users do, and records what it complains about."""

import asyncio
from collections.abc import Sequence

import httpx

from test_framework.clients.websocket import EventTimeoutError
from test_framework.core import ComplaintRecord, UsageError
from test_framework.swarm.plan import Hook
from test_framework.swarm.scene import Scene
from test_framework.swarm.user import ExpectationError, User

HOOK_LIMIT_S = 60.0
"""A workload that waits for ever must not hang the run; its user complains then."""


async def run_hook(scene: Scene, users: Sequence[User], hook: Hook) -> None:
    """Run a hook for all users at once; what it complains about is recorded."""
    crowd = scene.crowd(len(users))

    async def one(user: User) -> None:
        user.crowd = crowd
        try:
            async with asyncio.timeout(HOOK_LIMIT_S):
                await hook(user)
        except UsageError:
            raise
        except SystemExit as exc:
            raise exit_refused(hook) from exc
        except asyncio.CancelledError as exc:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            # Nobody cancelled the user: the workload raised it by itself.
            complain(scene, user, exc)
        except Exception as exc:  # noqa: BLE001  # a workload may raise anything: it is data
            complain(scene, user, exc)
        finally:
            user.crowd = None
            unused, user.caller.gate = user.caller.gate, None
            if unused is not None:
                unused.excuse()
            crowd.leave()

    try:
        async with asyncio.TaskGroup() as group:
            for user in users:
                group.create_task(one(user), name=f"user-{user.index}")
    except* UsageError as several:
        raise several.exceptions[0] from several


def exit_refused(hook: Hook) -> UsageError:
    """Return what to raise when a hook wants to end the process."""
    return UsageError(
        f"{getattr(hook, '__name__', 'A hook')} of the audit file called sys.exit, "
        "which would end the audit without a verdict. Return instead."
    )


def complain(scene: Scene, user: User, exc: BaseException) -> None:
    """Record what a hook of a user raised."""
    kind: str = "error"
    if isinstance(exc, ExpectationError):
        kind = "expectation"
    elif isinstance(exc, EventTimeoutError | TimeoutError | httpx.TimeoutException):
        kind = "timeout"
    record = ComplaintRecord(
        user=user.index,
        shape=scene.recorder.shape,
        kind=kind,  # type: ignore[arg-type]  # one of the three literals above
        # httpx adds lines that lead the reader elsewhere.
        message=f"{type(exc).__name__}: {exc}".partition("\n")[0][:500],
        op=user.caller.last_op,
    )
    scene.history.add(record)
