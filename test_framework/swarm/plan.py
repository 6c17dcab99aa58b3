"""What to run: an audit file (login and workload of one service) and a plan.

An audit file is plain Python. It defines ``async def workload(user)`` and usually
``async def login(user)``; everything else is optional. See docs/audit-file.md.
"""

import contextlib
import importlib.util
import inspect
import math
import sys
import types
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from test_framework.core import Level, UsageError
from test_framework.faults import chosen
from test_framework.swarm.user import User

Hook = Callable[[User], Awaitable[object]]

SHAPES = (
    "own-connections",
    "read-bursts",
    "shared-connections",
    "caching-proxy",
    "error-paths",
    "colliding-identifiers",
    "streaming",
    "disconnects",
)


FAULT_SECONDS = 6.0
"""How long users work around each fault unless it is said."""

LIMITS = ("p50_gates_s", "p95_gates_s", "p99_gates_s", "floors_s")
"""Latencies per endpoint, which pyproject.toml may give as well."""

MOST_USERS = 10_000
MOST_FAULT_SECONDS = 3600


async def no_login(_: User) -> None:
    """Log nobody in: for services that name users by something in each request."""


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything a swarm must know of the service and of the run.

    Attributes:
        workload: What one user does; it plants canaries and reads back its own.
        login: Registers or logs in one user; sets headers, declares identities.
        logout: Leaves; runs before the search for residue.
        errors: Provokes the service's own error paths with canaries in the request.
        stream: Reads a streaming endpoint.
        cleanup: Deletes what the user has made; runs before ``logout``.
        under_faults: What one user does, again and again, around each fault; what it
            raises is no complaint. None repeats ``workload``.
        after_faults: Looks, when the service has recovered, whether everything is there
            that was acknowledged; complaints count. None runs ``workload`` once.
        probe: Raises as long as the user is not served. None asks again what the
            user has read before.
        workload_name: How the workload is called in reports.
        users: Concurrent users (count, >= 2 to prove anything).
        shapes: Names of the traffic shapes to run, in order.
        faults: Names of the faults that strike after them; ``all`` for all.
        fault_seconds: How long users work around each, in seconds: for a quarter of it
            before, for half of it under the fault, and at least for the rest after.
        public: Endpoints whose answers all users may share, ``"GET /news"``.
        health: Path that load balancers probe; None for none.
        openapi: Path of the OpenAPI document; absent documents are fine.
        event_sequence: Field that numbers WebSocket events; None for none.
        event_type: Field that names a WebSocket event's type.
        event_resume: Parameter of the query with the number after which a WebSocket
            resumes; None for none.
        p50_gates_s: Largest median latency per endpoint in seconds, ``"*"`` for all
            others.
        p95_gates_s: Largest P95.
        p99_gates_s: Largest P99.
        event_gap: Type name of an event that says that numbers jump; None for none.
        floors_s: Least time that the work behind a successful answer takes.
        recovery_gates_s: Longest recovery by fault in seconds, ``"*"`` for all others.
        recovery_level: What a longer one is: ``error`` or ``warning``.
        redis_prefixes: Keys to sweep start with one of these; empty for all.
        reuses_accounts: Whether ``login`` also takes a name that is registered
            already; the sentinel then keeps its accounts from round to round.
    """

    workload: Hook
    login: Hook = no_login
    logout: Hook | None = None
    errors: Hook | None = None
    stream: Hook | None = None
    cleanup: Hook | None = None
    under_faults: Hook | None = None
    after_faults: Hook | None = None
    probe: Hook | None = None
    workload_name: str = "workload"
    users: int = 100
    shapes: tuple[str, ...] = SHAPES
    faults: tuple[str, ...] = ()
    fault_seconds: float = FAULT_SECONDS
    public: tuple[str, ...] = ()
    health: str | None = None
    openapi: str = "/openapi.json"
    event_sequence: str | None = None
    event_type: str = "type"
    event_resume: str | None = None
    event_gap: str | None = None
    p50_gates_s: Mapping[str, float] = field(default_factory=dict)
    p95_gates_s: Mapping[str, float] = field(default_factory=lambda: {"*": 5.0})
    p99_gates_s: Mapping[str, float] = field(default_factory=dict)
    floors_s: Mapping[str, float] = field(default_factory=dict)
    recovery_gates_s: Mapping[str, float] = field(default_factory=dict)
    recovery_level: Level = "error"
    redis_prefixes: tuple[str, ...] = ()
    reuses_accounts: bool = False

    def __post_init__(self) -> None:
        """Check what a caller can get wrong.

        Raises:
            UsageError: A value is out of range or unknown.
        """
        if self.users < 1:
            message = (
                f"users={self.users}: at least one is needed, and at least two to "
                "prove anything. Pass --users 100."
            )
            raise UsageError(message)
        if self.users > MOST_USERS:
            message = (
                f"users={self.users}: at most {MOST_USERS:,} can be driven from one "
                "process. Pass fewer; two find most defects, a hundred the rest."
            )
            raise UsageError(message)
        for shape in self.shapes:
            if shape not in SHAPES:
                message = (
                    f"{shape!r} is not a traffic shape. Choose from "
                    f"{', '.join(SHAPES)}."
                )
                raise UsageError(message)
        for name in (*LIMITS, "recovery_gates_s"):
            _require_seconds(name, getattr(self, name))
        if self.faults:
            chosen(",".join(self.faults))
        seconds: object = self.fault_seconds  # files are not type-checked
        if type(seconds) not in {int, float} or not 0 < self.fault_seconds < math.inf:
            message = (
                f"fault_seconds={self.fault_seconds!r}: users work for some seconds "
                "around each fault. Pass --fault-seconds 6."
            )
            raise UsageError(message)
        if self.fault_seconds > MOST_FAULT_SECONDS:
            message = (
                f"fault_seconds={self.fault_seconds:g}: at most {MOST_FAULT_SECONDS} "
                "(an hour). Pass --fault-seconds 6."
            )
            raise UsageError(message)
        levels: tuple[object, ...] = ("error", "warning")  # files are not type-checked
        if self.recovery_level not in levels:
            message = (
                f"RECOVERY_LEVEL = {self.recovery_level!r}: a recovery that takes too "
                "long is an 'error' or a 'warning'."
            )
            raise UsageError(message)


def _require_seconds(name: str, limits_s: Mapping[str, float]) -> None:
    for endpoint, limit_s in limits_s.items():
        # Written so that nan is refused too; True is no number of seconds.
        if type(limit_s) not in {int, float} or not 0 < limit_s < math.inf:
            message = (
                f"{name}[{endpoint!r}] = {limit_s!r} must be seconds, a number above "
                "zero. Correct the value."
            )
            raise UsageError(message)


_HOOKS = (
    "workload",
    "login",
    "logout",
    "errors",
    "stream",
    "cleanup",
    "under_faults",
    "after_faults",
    "probe",
)
_OPTIONS: dict[str, tuple[str, Any]] = {
    "PUBLIC": ("public", tuple),
    "HEALTH": ("health", str),
    "OPENAPI": ("openapi", str),
    "EVENT_SEQUENCE": ("event_sequence", str),
    "EVENT_TYPE": ("event_type", str),
    "EVENT_RESUME": ("event_resume", str),
    "EVENT_GAP": ("event_gap", str),
    "P50_GATES_S": ("p50_gates_s", dict),
    "P95_GATES_S": ("p95_gates_s", dict),
    "P99_GATES_S": ("p99_gates_s", dict),
    "FLOORS_S": ("floors_s", dict),
    "RECOVERY_GATES_S": ("recovery_gates_s", dict),
    "RECOVERY_LEVEL": ("recovery_level", str),
    "REDIS_PREFIXES": ("redis_prefixes", tuple),
    "REUSE_ACCOUNTS": ("reuses_accounts", bool),
}

_KIND_WORDS: dict[type, str] = {
    tuple: "a list of texts",
    str: "a text",
    dict: "a dictionary of seconds",
    bool: "True or False",
}


def load_plan(
    path: Path,
    *,
    users: int = 100,
    shapes: tuple[str, ...] = SHAPES,
    limits_s: Mapping[str, Mapping[str, float]] = types.MappingProxyType({}),
    faults: tuple[str, ...] = (),
    fault_seconds: float = FAULT_SECONDS,
) -> Plan:
    """Read an audit file.

    Args:
        path: The Python file.
        users: Concurrent users.
        shapes: Traffic shapes to run.
        limits_s: Latencies per endpoint, by a name of ``LIMITS``; what the file says
            of the same endpoint wins.
        faults: Names of the faults that strike; ``all`` for all.
        fault_seconds: How long users work around each, in seconds.

    Returns:
        The plan it describes.

    Raises:
        UsageError: The file is missing, does not import, lacks ``workload``, or a
            hook or option has the wrong form; the message names the line.
    """
    module = _import_file(path)
    values: dict[str, Any] = {}
    for name in _HOOKS:
        hook = getattr(module, name, None)
        if hook is None:
            continue
        if not inspect.iscoroutinefunction(hook) or _arity(hook) != 1:
            message = (
                f"{name} in {str(path)!r} must be 'async def {name}(user)': an async "
                "function of one argument. Correct its first line."
            )
            raise UsageError(message)
        values[name] = hook
    if "workload" not in values:
        message = (
            f"The audit file {str(path)!r} defines no workload. Add "
            "'async def workload(user)': what one user does."
        )
        raise UsageError(message)
    for name, (attribute, kind) in _OPTIONS.items():
        if not hasattr(module, name):
            continue
        value = getattr(module, name)
        if kind is tuple and isinstance(value, list | set):
            value = tuple(value)
        is_of_texts = kind is not tuple or all(isinstance(one, str) for one in value)
        if not isinstance(value, kind) or not is_of_texts:
            example = [value] if kind is tuple and isinstance(value, str) else None
            cure = (
                "Correct the value" if example is None else f"Write {name} = {example}"
            )
            message = (
                f"{name} = {value!r} in {str(path)!r} must be {_KIND_WORDS[kind]}. "
                f"{cure}."
            )
            raise UsageError(message)
        values[attribute] = value
    for name, given_s in limits_s.items():
        values[name] = {**given_s, **values.get(name, {})}
    return Plan(
        users=users,
        shapes=shapes,
        faults=faults,
        fault_seconds=fault_seconds,
        workload_name=path.name,
        **values,
    )


def _arity(hook: Callable[..., object]) -> int:
    return sum(
        parameter.default is parameter.empty
        and parameter.kind
        in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD)
        for parameter in inspect.signature(hook).parameters.values()
    )


def _import_file(path: Path) -> types.ModuleType:
    if not path.is_file():
        message = (
            f"There is no audit file {str(path)!r}. Pass --workload FILE, a Python "
            "file with 'async def workload(user)'."
        )
        raise UsageError(message)
    name = f"isolation_audit_file_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        message = f"{str(path)!r} is not a Python file. Its name must end in .py."
        raise UsageError(message)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        with _neighbours(path):
            spec.loader.exec_module(module)
    except SyntaxError as exc:
        # What is no text at all has no lines either.
        where = "" if exc.lineno is None else f" line {exc.lineno}"
        message = f"{str(path)!r}{where} is not valid Python: {exc.msg}."
        raise UsageError(message) from exc
    except (Exception, SystemExit) as exc:
        line = _line_in(exc, path)
        message = (
            f"{str(path)!r} line {line} failed on import: {type(exc).__name__}: {exc}. "
            "An audit file must import without a running service."
        )
        raise UsageError(message) from exc
    return module


@contextlib.contextmanager
def _neighbours(path: Path) -> Iterator[None]:
    """Let an audit file import what lies beside it, last of all, while it is loaded."""
    folder = str(path.resolve().parent)
    sys.path.append(folder)
    try:
        yield
    finally:
        with contextlib.suppress(ValueError):  # the file may change it, too
            place = len(sys.path) - 1 - sys.path[::-1].index(folder)
            del sys.path[place]


def _line_in(exc: BaseException, path: Path) -> int:
    line = 1
    trace = exc.__traceback__
    while trace is not None:
        if Path(trace.tb_frame.f_code.co_filename) == path:
            line = trace.tb_lineno
        trace = trace.tb_next
    return line
