"""Sets the stage of an audit: real services, the service under test, then the run.

The one place where services, swarm, checkers and reports are put together; the
command line and the pytest plugin both call it.
"""

import asyncio
import contextlib
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from test_framework.check import Judgement, judge
from test_framework.core import History, UsageError, fresh_seed
from test_framework.interruption import interruption
from test_framework.services import (
    HostPlan,
    hosting,
    running_services,
)
from test_framework.swarm import Target, load_plan, run_audit

if TYPE_CHECKING:
    from test_framework.config import Config
    from test_framework.swarm import Progress


@contextlib.contextmanager
def staged(
    config: "Config", *, environ: Mapping[str, str] = os.environ
) -> Iterator[Target]:
    """Yield the service under test, started with what it needs unless it runs.

    Raises:
        TargetError: A service cannot be started or reached.
        UsageError: A URL or name is malformed.
    """
    if config.is_url:
        with running_services(_given(environ), environ=environ) as services:
            yield Target(
                base_url=config.target,
                name=config.target,
                database_url=services.database_url,
                redis_url=services.redis_url,
                log_paths=config.logs,
            )
        return
    needs = tuple(dict.fromkeys([*config.services, *_given(environ)]))
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="iso-")))
        services = stack.enter_context(running_services(needs, environ=environ))
        env = dict(config.env)
        if services.database_url is not None:
            env["DATABASE_URL"] = services.database_url
        if services.redis_url is not None:
            env["REDIS_URL"] = services.redis_url
        host = stack.enter_context(
            hosting(
                HostPlan(
                    target=config.target,
                    workers=config.workers,
                    app_dir=config.root,
                    env=env,
                    secrets=config.secrets,
                    uvicorn=config.uvicorn,
                    port=config.port,
                    detectors=config.watching,
                ),
                work_dir=folder,
            )
        )
        yield Target(
            base_url=host.url,
            name=config.target,
            database_url=services.database_url,
            redis_url=services.redis_url,
            log_paths=(*host.log_paths, *config.logs),
            host=host,
        )


def _given(environ: Mapping[str, str]) -> tuple[str, ...]:
    names = {"postgres": "DATABASE_URL", "redis": "REDIS_URL"}
    return tuple(name for name, variable in names.items() if environ.get(variable))


def perform(
    config: "Config",
    history: History,
    *,
    progress: "Progress | None" = None,
    on_start: "Callable[[], None] | None" = None,
    on_end: "Callable[[History], None] | None" = None,
    environ: Mapping[str, str] = os.environ,
) -> Judgement:
    """Run one whole audit and judge it.

    Args:
        config: What to audit.
        history: Where everything is recorded.
        progress: Told about phases.
        on_start: Called once the service is up, before anything is recorded.
        on_end: Called when all is recorded, before it is judged; may add to it.
        environ: Environment.

    Raises:
        TargetError: The service or what it needs is down.
        UsageError: The audit file or an option is wrong.
        KeyboardInterrupt: Somebody stopped it; the history holds what was recorded.
    """
    if config.workload is None:
        message = (
            "There is no workload. Pass --workload FILE, a Python file with 'async def "
            "workload(user)'; README shows one."
        )
        raise UsageError(message)
    plan = load_plan(
        config.workload,
        users=config.users,
        shapes=config.shapes,
        limits_s=config.limits_s,
    )
    seed = fresh_seed() if config.seed is None else config.seed
    with staged(config, environ=environ) as target, interruption() as stop:
        if on_start is not None:
            on_start()

        async def run() -> None:
            stop.ends(asyncio.current_task())
            await run_audit(
                target,
                plan,
                seed=seed,
                history=history,
                repeat=config.repeat(seed),
                progress=progress,
            )

        try:
            asyncio.run(run())
        except asyncio.CancelledError as exc:
            raise KeyboardInterrupt from exc
    if on_end is not None:
        on_end(history)
    return judge(history)
