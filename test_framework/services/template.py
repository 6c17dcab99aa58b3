"""An empty Postgres database, made once and copied by every run.

``initdb`` takes most of a cold start, so its result is kept in a cache folder of the
user: one template per version and program, made under a file lock and moved into
place whole. A template that does not start (the machine went down while its pages
were not yet on disk) is thrown away and made again.

Postgres refuses to run as root. Root therefore runs it as ``nobody``; where nobody
cannot reach the programs (a virtual environment under a closed home) they are copied
to the cache first. The copy keeps the layout, because the programs find their
libraries relative to themselves. No permission of any folder that is not ours is
ever changed. A template made by root belongs to root: nobody could alter it
otherwise.
"""

import contextlib
import fcntl
import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from test_framework.core import TargetError
from test_framework.services.binaries import Binaries

CACHE_VARIABLE = "ISOLATION_CACHE"

NOBODY = 65534

_INITDB_OPTIONS = (
    *("--username=postgres", "--auth=trust", "--encoding=UTF8", "--no-locale"),
    *("--no-sync", "--no-instructions", "--wal-segsize=1"),
)
_INITDB_TIMEOUT_S = 120.0


@dataclass(frozen=True, slots=True)
class Cache:
    """The folder that templates and copied programs are kept in.

    Attributes:
        folder: The folder; it exists and only its owner may write to it.
        note: Why the usual folder is not used; empty when it is.
        temporary: Whether the folder is to be removed after the run.
    """

    folder: Path
    note: str = ""
    temporary: bool = False


@dataclass(frozen=True, slots=True)
class Template:
    """An initialised database folder, and the program that reads it.

    Attributes:
        folder: What to copy.
        lock: Lock file; hold it shared while copying.
        postgres: The program to start, reachable for the user it runs as.
        user: User id to run it as; None is the current one.
        is_new: Whether it was made just now.
    """

    folder: Path
    lock: Path
    postgres: Path
    user: int | None
    is_new: bool


@contextlib.contextmanager
def open_cache(environ: Mapping[str, str] = os.environ) -> Iterator[Cache]:
    """Yield the cache folder of this user, or a temporary one with the reason why."""
    folder = _usual_folder(environ)
    problem = _claim(folder)
    if not problem:
        yield Cache(folder)
        return
    stopgap = Path(tempfile.mkdtemp(prefix="isolation-cache-"))
    stopgap.chmod(_mode())
    try:
        yield Cache(
            stopgap,
            f"The cache folder {str(folder)!r} {problem}, so each run prepares "
            f"Postgres anew. Make it yours, or set {CACHE_VARIABLE} to a folder "
            "that is.",
            temporary=True,
        )
    finally:
        shutil.rmtree(stopgap, ignore_errors=True)


def _usual_folder(environ: Mapping[str, str]) -> Path:
    given = environ.get(CACHE_VARIABLE)
    if given:
        return Path(given).absolute()
    if os.geteuid() == 0:
        # Not below root's home: nobody must reach the programs copied there.
        return Path("/var/cache/isolation-audit")
    home = environ.get("XDG_CACHE_HOME") or os.path.join(  # noqa: PTH118  # Path("") is "."
        environ.get("HOME", ""), ".cache"
    )
    return Path(home).absolute() / "isolation-audit"


def _mode() -> int:
    return 0o711 if os.geteuid() == 0 else 0o700


def _claim(folder: Path) -> str:
    """Make the folder ours; return what is wrong with it, or nothing."""
    try:
        folder.mkdir(mode=_mode(), parents=True, exist_ok=True)
        status = folder.lstat()
        if folder.is_symlink() or not folder.is_dir():
            return "is not a folder"
        if status.st_uid != os.geteuid():
            return f"belongs to user {status.st_uid}"
        folder.chmod(_mode())
        if os.geteuid() == 0:
            closed = [p for p in folder.parents if not p.stat().st_mode & 0o001]
            if closed:
                return f"cannot be reached by user {NOBODY} through {str(closed[0])!r}"
        with tempfile.TemporaryFile(dir=folder):
            return ""
    except OSError as exc:
        return f"cannot be written ({exc.strerror})"


def ensure_template(cache: Path, found: Binaries) -> Template:
    """Return a template for the given Postgres, made now unless it is there.

    Raises:
        TargetError: ``initdb`` failed; the message quotes it.
    """
    user = NOBODY if os.geteuid() == 0 else None
    identity = _identity(found.program)
    program = found.program
    if user is not None and not _reaches(user, program):
        program = _copied(cache, program, identity)
    key = _digest(found.version, identity, program, _INITDB_OPTIONS)
    folder = cache / f"template-{key}"
    lock = cache / f"template-{key}.lock"
    with _locked(lock) as descriptor:
        is_new = not (folder / "PG_VERSION").is_file()
        if is_new:
            _initialise(folder, program, user=user, lock=descriptor)
    return Template(folder, lock, program, user, is_new)


def discard_template(template: Template) -> None:
    """Remove a template that does not start; nobody copies it meanwhile."""
    with _locked(template.lock):
        shutil.rmtree(template.folder, ignore_errors=True)


def _initialise(folder: Path, program: Path, *, user: int | None, lock: int) -> None:
    making = folder.with_suffix(".making")
    # Left by a run that was killed here; nobody else works on it under the lock.
    shutil.rmtree(making, ignore_errors=True)
    shutil.rmtree(folder, ignore_errors=True)
    making.mkdir(mode=0o700)
    if user is not None:
        os.chown(making, user, user)
    try:
        ended = subprocess.run(  # noqa: S603  # initdb of the Postgres that was found
            [program.parent / "initdb", "--pgdata", making, *_INITDB_OPTIONS],
            capture_output=True,
            text=True,
            errors="replace",
            cwd="/",
            stdin=subprocess.DEVNULL,
            timeout=_INITDB_TIMEOUT_S,
            # Should we be killed, initdb keeps the lock until it ends.
            pass_fds=(lock,),
            check=False,
            **_run_as(user),
        )
        if ended.returncode != 0:
            raise TargetError(_refusal(program, ended))
        if user is not None:
            _give(making, os.geteuid())
    except subprocess.TimeoutExpired as exc:
        message = (
            f"{str(program.parent / 'initdb')!r} did not prepare a database within "
            f"{_INITDB_TIMEOUT_S:.0f} s. Point DATABASE_URL at a running server."
        )
        raise TargetError(message) from exc
    except OSError as exc:
        message = (
            f"A database cannot be prepared in {str(making)!r}: {exc.strerror}. "
            f"Make room there, or set {CACHE_VARIABLE} to another folder."
        )
        raise TargetError(message) from exc
    else:
        making.rename(folder)
    finally:
        shutil.rmtree(making, ignore_errors=True)


def _refusal(program: Path, ended: subprocess.CompletedProcess[str]) -> str:
    reason = _last_line(ended.stderr) or f"it ended with {ended.returncode}"
    cure = "Correct that"
    if "look up effective user" in reason:
        # Containers that run under a number without a name.
        cure = "Give this user a line in /etc/passwd"
    return (
        f"{str(program.parent / 'initdb')!r} cannot prepare a database: {reason}. "
        f"{cure}, or point DATABASE_URL at a running server."
    )


def _copied(cache: Path, program: Path, identity: str) -> Path:
    """Return a copy of the programs that every user may run.

    The programs look for their libraries in ``../lib`` and, when they come in a
    wheel, in ``../../../<package>.libs``.
    """
    install = program.parent.parent
    package = install.parent
    copy = cache / f"programs-{_digest(identity)}"
    placed = copy / package.name / install.name
    libraries = package.parent / f"{package.name}.libs"
    with _locked(copy.with_suffix(".lock")):
        if not copy.is_dir():
            making = copy.with_suffix(".making")
            shutil.rmtree(making, ignore_errors=True)
            inner = making / package.name / install.name
            for name in ("bin", "lib", "share"):
                if (install / name).is_dir():
                    shutil.copytree(install / name, inner / name, symlinks=True)
            if libraries.is_dir():
                shutil.copytree(libraries, making / libraries.name, symlinks=True)
            _open_to_all(making)
            making.rename(copy)
    return placed / "bin" / program.name


def _open_to_all(folder: Path) -> None:
    for root, _, files in os.walk(folder):
        Path(root).chmod(0o755)
        for name in files:
            path = Path(root, name)
            if not path.is_symlink():
                path.chmod(0o755 if path.stat().st_mode & 0o100 else 0o644)


def _give(folder: Path, user: int) -> None:
    for root, _, files in os.walk(folder):
        os.chown(root, user, user)
        for name in files:
            os.lchown(os.path.join(root, name), user, user)  # noqa: PTH118  # a thousand files: Path costs more than the call


def _reaches(user: int, program: Path) -> bool:
    """Whether a user may run the program, asked by running it."""
    with contextlib.suppress(OSError):
        ended = subprocess.run(  # noqa: S603  # the Postgres that was found
            [program, "--version"],
            capture_output=True,
            cwd="/",
            check=False,
            **_run_as(user),
        )
        return ended.returncode == 0
    return False


def _run_as(user: int | None) -> dict[str, Any]:
    if user is None:
        return {}
    return {"user": user, "group": user, "extra_groups": []}


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[int]:
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield file.fileno()


def _identity(program: Path) -> str:
    """Name the build: another one in the same place is another identity."""
    status = program.stat()
    return repr((str(program), status.st_mtime_ns, status.st_size))


def _digest(*parts: object) -> str:
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:12]


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1].rstrip(".") if lines else ""
