"""What to audit and how: pyproject.toml, then the environment, then the command line.

``[tool.isolation-audit]`` of the nearest pyproject.toml above the current folder
names the defaults of a repository; every value can be given on the command line.
"""

import os
import re
import shlex
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, get_args, get_origin, get_type_hints

from test_framework.core import UsageError
from test_framework.detect import require_detectors
from test_framework.faults import chosen
from test_framework.swarm import FAULT_SECONDS, LIMITS, SHAPES

TABLE = "isolation-audit"
TARGET_VARIABLE = "ISOLATION_TARGET"

SERVICES = ("postgres", "redis")

DETECTED = ("locks", "leaks")
"""Detectors that run unless others are asked for: they make an audit of
15.7 s one of 18.1 s."""


@dataclass(frozen=True, slots=True)
class Config:
    """One audit as it was asked for.

    Attributes:
        target: URL, or ``module:app`` to have it started.
        workload: Path of the audit file; None where a test brings its own.
        users: Concurrent users.
        seed: Seed of the run; None draws a fresh one.
        shapes: Traffic shapes to run; with faults only the first one, unless said.
        faults: Faults that strike after them, or ``all``.
        fault_seconds: How long users work around each, in seconds.
        services: Which of ``postgres`` and ``redis`` the hosted service needs.
        workers: Worker processes of the hosted service (count, >= 1).
        port: TCP port of the hosted service, 0 for a free one.
        env: Variables that the hosted service gets.
        secrets: Names of variables that get a fresh random value each run.
        uvicorn: Options of ``uvicorn.Config`` for the hosted service.
        detectors: Detectors to run inside of the hosted service, see ``detect``.
        track: Packages whose accesses the ``access`` detector follows.
        detector_options: Options of detectors, by the name of the detector.
        p50_gates_s: Largest median per endpoint, in seconds; see ``Plan``.
        p95_gates_s: Largest P95.
        p99_gates_s: Largest P99.
        floors_s: Least time that an endpoint's work takes.
        logs: Log files of a service that we did not start.
        root: Folder that paths and imports are relative to.
    """

    target: str
    workload: Path | None = None
    users: int = 100
    seed: int | None = None
    shapes: tuple[str, ...] = SHAPES
    faults: tuple[str, ...] = ()
    fault_seconds: float = FAULT_SECONDS
    services: tuple[str, ...] = ()
    workers: int = 2
    port: int = 0
    env: Mapping[str, str] = field(default_factory=dict)
    secrets: tuple[str, ...] = ()
    uvicorn: Mapping[str, Any] = field(default_factory=dict)
    detectors: tuple[str, ...] = DETECTED
    track: tuple[str, ...] = ()
    detector_options: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    p50_gates_s: Mapping[str, float] = field(default_factory=dict)
    p95_gates_s: Mapping[str, float] = field(default_factory=dict)
    p99_gates_s: Mapping[str, float] = field(default_factory=dict)
    floors_s: Mapping[str, float] = field(default_factory=dict)
    logs: tuple[Path, ...] = ()
    root: Path = field(default_factory=Path.cwd)

    @property
    def is_url(self) -> bool:
        """Whether the target already runs."""
        return "://" in self.target

    @property
    def limits_s(self) -> dict[str, Mapping[str, float]]:
        """Latencies per endpoint that were given here, by name."""
        limits_s: dict[str, Mapping[str, float]] = {
            name: getattr(self, name) for name in LIMITS
        }
        return {name: given_s for name, given_s in limits_s.items() if given_s}

    @property
    def shares_nothing(self) -> bool:
        """Whether several processes are hosted that have no store in common."""
        return not self.is_url and self.workers > 1 and not self.services

    @property
    def watching(self) -> dict[str, dict[str, Any]]:
        """The detectors of the hosted service, each with its options."""
        names = dict.fromkeys((*(["access"] if self.track else []), *self.detectors))
        plan = {name: dict(self.detector_options.get(name, {})) for name in names}
        if self.track:
            plan["access"]["packages"] = list(self.track)
        return plan

    def repeat(self, seed: int) -> str:
        """Return the command that repeats a run of this configuration."""
        words = ["isolation-audit", "run", "--target", self.target]
        if self.workload is not None:
            words += ["--workload", _shown(self.workload)]
        words += ["--users", str(self.users), "--seed", str(seed)]
        if self.faults:
            words += ["--faults", ",".join(self.faults)]
            words += ["--fault-seconds", f"{self.fault_seconds:g}"]
        if self.shapes != (SHAPES[:1] if self.faults else SHAPES):
            words += ["--shapes", ",".join(self.shapes)]
        if not self.is_url:
            words += ["--services", ",".join(self.services) or "none"]
            words += ["--workers", str(self.workers)]
            if self.detectors != DETECTED:
                words += ["--detect", ",".join(self.detectors) or "none"]
            words += [word for name in self.track for word in ("--track", name)]
        return shlex.join(words)


def _shown(path: Path) -> str:
    """Return a path as one would type it here."""
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return str(path)


_HOST_AND_PORT = re.compile(r"[\w.-]+:\d+/?|\[[0-9a-fA-F:]+\]:\d+/?")
_LISTS = {"shapes", "faults", "services", "secrets", "logs", "detectors", "track"}

_HINTS = get_type_hints(Config)
_WORDS: dict[object, tuple[str, str]] = {
    int: ("a whole number", "whole numbers"),
    float: ("a number", "numbers"),
    str: ("a text", "texts"),
    Path: ("a path", "paths"),
    Mapping: ("a table", "tables"),
}
"""Types as the one who writes TOML calls them, one and several."""


def load_config(
    *,
    start: Path | None = None,
    environ: Mapping[str, str] = os.environ,
    **given: Any,  # noqa: ANN401  # what the command line gave
) -> Config:
    """Return the configuration in force.

    Args:
        start: Folder to look for pyproject.toml from; the current one by default.
        environ: Environment; ``ISOLATION_TARGET`` wins over pyproject.toml.
        **given: Values from the command line; None means not given.

    Raises:
        UsageError: No target is known, or a value has the wrong form.
    """
    root, table = _read_table(start or Path.cwd())
    values = dict(table)
    target = environ.get(TARGET_VARIABLE)
    if target:
        values["target"] = target
    values.update({key: value for key, value in given.items() if value is not None})
    known = {f.name for f in fields(Config)} - {"root"}
    for name in values:
        if name not in known:
            message = (
                f"[tool.{TABLE}] in {str(root / 'pyproject.toml')!r} has the unknown "
                f"key {name!r}. The keys are: {', '.join(sorted(known))}."
            )
            raise UsageError(message)
    if isinstance(values.get("env"), dict):
        # A port or a size is a number to whoever writes it down.
        values["env"] = {
            name: str(value) if type(value) in {int, float} else value
            for name, value in values["env"].items()
        }
    for name, value in values.items():
        is_given = given.get(name) is not None
        where = "" if is_given else f" in {str(root / 'pyproject.toml')!r}"
        if not _fits(value, _HINTS[name]):
            message = (
                f"{name} = {value!r}{where} must be {_in_words(_HINTS[name])}. "
                "Correct the value."
            )
            raise UsageError(message)
    if not values.get("target"):
        message = (
            "There is no service to audit. Set target to a URL or module:app under "
            f"[tool.{TABLE}] in pyproject.toml, or set {TARGET_VARIABLE}; "
            f"'{TABLE} run' takes --target as well."
        )
        raise UsageError(message)
    if _HOST_AND_PORT.fullmatch(values["target"]):
        message = (
            f"target={values['target']!r} is neither a URL nor module:app. Did you "
            f"mean http://{values['target']}?"
        )
        raise UsageError(message)
    if values.get("workload"):
        base = Path.cwd() if given.get("workload") is not None else root
        values["workload"] = base / values["workload"]
    for name in _LISTS & values.keys():
        values[name] = _as_tuple(values[name])
    base = Path.cwd() if given.get("logs") is not None else root
    values["logs"] = tuple(base / path for path in values.get("logs", ()))
    values["faults"] = _check_faults(values.get("faults", ()))
    if values["faults"] and "shapes" not in values:
        # It shows what users read, which tells later whether they are served again.
        values["shapes"] = SHAPES[:1]
    values["detectors"] = _check_detectors(values.get("detectors", DETECTED))
    config = Config(root=root, **values)
    return replace(config, services=_check_services(config.services))


def _fits(value: object, hint: Any) -> bool:  # noqa: ANN401  # a type as typing shows it
    """Whether a value as TOML or the command line give it can be made the field's."""
    origin, args = get_origin(hint), get_args(hint)
    if hint is Any:
        return True
    if origin is UnionType:
        return any(_fits(value, arg) for arg in args)
    if origin is tuple:
        # The command line has lists of names with commas.
        return isinstance(value, str) or (
            isinstance(value, list | tuple)
            and all(_fits(item, args[0]) for item in value)
        )
    if origin is Mapping:
        return isinstance(value, Mapping) and all(
            _fits(item, args[1]) for item in value.values()
        )
    if hint is Path:
        return isinstance(value, str | Path)
    # True is no number, and 3 is also one with a fraction.
    return type(value) is hint or (hint is float and type(value) is int)


def _in_words(hint: Any, *, several: bool = False) -> str:  # noqa: ANN401  # likewise
    """Say what a key takes."""
    origin, args = get_origin(hint), get_args(hint)
    if origin is UnionType:
        (hint,) = (arg for arg in args if arg is not NoneType)
        return _in_words(hint, several=several)
    if origin is tuple:
        return f"a list of {_in_words(args[0], several=True)}"
    words = _WORDS[origin or hint][several]
    is_open = origin is None or args[1] is Any
    return words if is_open else f"{words} of {_in_words(args[1], several=True)}"


def _as_tuple(value: str | list[Any] | tuple[Any, ...]) -> tuple[Any, ...]:
    if isinstance(value, str):
        value = [part.strip() for part in value.split(",") if part.strip()]
    return tuple(value)


def _check_services(services: tuple[str, ...]) -> tuple[str, ...]:
    wanted = tuple(name for name in services if name != "none")
    for name in wanted:
        if name not in SERVICES:
            message = (
                f"{name!r} is not a service that can be started. Choose from "
                f"{', '.join(SERVICES)}, or none."
            )
            raise UsageError(message)
    return wanted


def _check_faults(names: tuple[str, ...]) -> tuple[str, ...]:
    wanted = tuple(name for name in names if name != "none")
    if wanted:
        chosen(",".join(wanted))
    return wanted


def _check_detectors(names: tuple[str, ...]) -> tuple[str, ...]:
    wanted = tuple(name for name in names if name != "none")
    require_detectors(wanted)
    return wanted


def _read_table(start: Path) -> tuple[Path, dict[str, Any]]:
    for folder in (start, *start.parents):
        path = folder / "pyproject.toml"
        if not path.is_file():
            continue
        try:
            document = tomllib.loads(path.read_text(encoding="utf-8"))
        except (tomllib.TOMLDecodeError, OSError) as exc:
            message = f"{str(path)!r} cannot be read as TOML: {exc}. Correct it."
            raise UsageError(message) from exc
        table = document.get("tool", {}).get(TABLE)
        if isinstance(table, dict):
            return folder, table
    return start, {}
