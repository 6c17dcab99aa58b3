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
from test_framework.faults import Field, Proxy, proxying
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
        UsageError: A URL or name is malformed, or a log cannot be read.
    """
    _require_logs(config)
    if config.is_url:
        with contextlib.ExitStack() as stack:
            services = stack.enter_context(
                running_services(_given(environ), environ=environ)
            )
            before = _Before(stack, config)
            service = before(config.target)
            yield Target(
                base_url=service.url if service is not None else config.target,
                name=config.target,
                database_url=services.database_url,
                redis_url=services.redis_url,
                log_paths=config.logs,
                field=Field(
                    database_url=services.database_url,
                    redis_url=services.redis_url,
                    service_url=config.target,
                    service_proxy=service,
                )
                if config.faults
                else None,
            )
        return
    needs = tuple(dict.fromkeys([*config.services, *_given(environ)]))
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="iso-")))
        services = stack.enter_context(running_services(needs, environ=environ))
        before = _Before(stack, config)
        database, redis = before(services.database_url), before(services.redis_url)
        env = dict(config.env)
        if services.database_url is not None:
            env["DATABASE_URL"] = database.url if database else services.database_url
        if services.redis_url is not None:
            env["REDIS_URL"] = redis.url if redis else services.redis_url
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
        service = before(host.url)
        yield Target(
            base_url=service.url if service is not None else host.url,
            name=config.target,
            database_url=services.database_url,
            redis_url=services.redis_url,
            log_paths=(*host.log_paths, *config.logs),
            host=host,
            field=Field(
                host=host,
                services=services,
                database_url=services.database_url,
                redis_url=services.redis_url,
                service_url=host.url,
                database_proxy=database,
                redis_proxy=redis,
                service_proxy=service,
            )
            if config.faults
            else None,
        )


class _Before:
    """Puts a proxy before a server when faults are asked for: they disturb it there."""

    def __init__(self, stack: contextlib.ExitStack, config: "Config") -> None:
        self._stack = stack
        self._is_wanted = bool(config.faults)

    def __call__(self, url: str | None) -> Proxy | None:
        # A certificate does not name the proxy, and a Unix socket has no port.
        is_fit = url is not None and not url.startswith(("https:", "unix:"))
        if url is None or not is_fit or not self._is_wanted:
            return None
        return self._stack.enter_context(proxying(url))


def _require_logs(config: "Config") -> None:
    """Refuse logs that nobody can read; a service that we start may make its own.

    Raises:
        UsageError: One is missing, is no file, or is not ours to read.
    """
    for path in config.logs:
        if not config.is_url and not path.exists():
            continue
        try:
            path.open("rb").close()
        except OSError as exc:
            message = (
                f"The log {str(path)!r} cannot be read: {exc.strerror}. Pass --log with "
                "a file that the service writes."
            )
            raise UsageError(message) from exc


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
        faults=config.faults,
        fault_seconds=config.fault_seconds,
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
