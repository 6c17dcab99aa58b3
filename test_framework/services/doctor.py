"""Looks at this machine: what an audit would use, and what is missing.

Nothing is started and nothing is written but the cache folder. It returns data; the
command line prints it.
"""

import importlib.metadata
import os
import platform
import resource
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from test_framework.core import TargetError, UsageError
from test_framework.services.binaries import Binaries, find_postgres, find_redis
from test_framework.services.given import check_given
from test_framework.services.guardian import MEMORY_FOLDER, MEMORY_NEEDED
from test_framework.services.template import NOBODY, open_cache

FILES_NEEDED = 1024
"""100 users hold some 300 connections in the auditing process."""

_PACKAGES = ("asyncpg", "httpx", "redis", "uvicorn", "websockets")


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at.

    Attributes:
        name: What.
        ok: Whether an audit can use it as it is.
        found: What is there.
        will_use: What an audit will use; empty when that goes without saying.
        cure: What to do; empty when there is nothing to do.
    """

    name: str
    ok: bool
    found: str
    will_use: str = ""
    cure: str = ""


def examine(environ: Mapping[str, str] = os.environ) -> list[Check]:
    """Return everything an audit depends on, in the order it is needed."""
    return [
        _packages(),
        _server("Postgres", "postgres", "DATABASE_URL", find_postgres, environ),
        _server("Redis", "redis", "REDIS_URL", find_redis, environ),
        _user(),
        _cache(environ),
        _memory(),
        _files(),
        Check(
            "Machine",
            ok=True,
            found=f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
        ),
    ]


def _server(
    title: str,
    name: str,
    variable: str,
    find: Callable[[Mapping[str, str]], Binaries],
    environ: Mapping[str, str],
) -> Check:
    try:
        found: Binaries | None = find(environ)
        missing = ""
    except TargetError as exc:
        found, missing = None, str(exc)
    told = f"{found.label} ({found.program})" if found else "no program"
    if environ.get(variable):
        told = f"{variable} is set; {told}"
        try:
            check_given(name, environ[variable])
        except (TargetError, UsageError) as exc:
            return Check(title, ok=False, found=told, cure=str(exc))
        return Check(title, ok=True, found=told, will_use=f"the one of {variable}")
    if found is None:
        return Check(title, ok=False, found=told, cure=missing)
    return Check(title, ok=True, found=told, will_use=f"{found.label}, started per run")


def _packages() -> Check:
    versions = []
    absent = []
    for name in _PACKAGES:
        try:
            versions.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            absent.append(name)
    return Check(
        "Python",
        ok=not absent,
        found=", ".join([platform.python_version(), *versions]),
        cure=f"pip install {' '.join(absent)}" if absent else "",
    )


def _user() -> Check:
    if os.geteuid() == 0:
        return Check(
            "User",
            ok=True,
            found="root",
            will_use=f"user {NOBODY} for Postgres, which refuses to run as root",
        )
    return Check("User", ok=True, found=f"user {os.geteuid()}")


def _cache(environ: Mapping[str, str]) -> Check:
    with open_cache(environ) as cache:
        if cache.temporary:
            return Check(
                "Cache",
                ok=True,
                found="not usable",
                will_use="a temporary folder per run",
                cure=cache.note,
            )
        return Check("Cache", ok=True, found=str(cache.folder))


def _memory() -> Check:
    folder = Path(MEMORY_FOLDER)
    if not folder.is_dir():
        return Check(
            "Memory",
            ok=True,
            found=f"no {MEMORY_FOLDER}",
            will_use="the temporary folder for data",
        )
    free = shutil.disk_usage(folder).free
    is_enough = free >= MEMORY_NEEDED
    return Check(
        "Memory",
        ok=True,
        found=f"{free // 2**20:,} MiB free in {MEMORY_FOLDER}",
        will_use="it for data" if is_enough else "the temporary folder for data",
        cure=""
        if is_enough
        else f"Runs are quicker with {MEMORY_NEEDED // 2**20} MiB there, such as "
        "'docker run --shm-size=1g'.",
    )


def _files() -> Check:
    limit, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    is_enough = limit == resource.RLIM_INFINITY or limit >= FILES_NEEDED
    return Check(
        "Open files",
        ok=is_enough,
        found=f"{limit:,} allowed (at most {most:,})",
        cure="" if is_enough else f"Raise the limit: ulimit -n {FILES_NEEDED}.",
    )
