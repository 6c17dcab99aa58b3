"""The environment of the rivals, and processes that answer for one contender each.

The rivals are installed from the package index into ``build/rivals``, which ``make
clean`` removes; what cannot be had is told by a sentence instead of a figure. Three of
the four need Python 3.12, so the newest one at hand from there on is taken, and plain
asyncio and our explorer are measured on it as well.
"""

import hashlib
import json
import os
import select
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "build" / "rivals"
PINS = ROOT / "benchmarks" / "rivals.txt"
LOCK = ROOT / "constraints.txt"
WEB_STACK = (
    "fastapi",
    "sqlalchemy[asyncio]",
    "httpx",
    "redis",
    "asyncpg",
    "websockets",
)
PYTHONS = ("python3.13", "python3.12", "python3.14")
VERSION = "import sys, venv, ensurepip; print('%d.%d' % sys.version_info[:2])"


class NoAnswerError(Exception):
    """Raised when a contender has no figure; its text says why in a sentence."""


@dataclass(frozen=True, slots=True)
class Environment:
    """Where the rivals live.

    Attributes:
        python: Interpreter of the environment; None when there is none.
        version: Its version, such as ``3.13``.
        missing: Why a rival, or ``web`` for the web stack, is not there, by name.
    """

    python: str | None
    version: str
    missing: dict[str, str] = field(default_factory=dict)


def prepare(python: str = "") -> Environment:
    """Install the rivals, unless an earlier benchmark did.

    Args:
        python: Interpreter to make their environment with; searched for when empty.

    Returns:
        The environment; what could not be installed is told in it.
    """
    pins = dict(
        line.split("==")
        for line in PINS.read_text().splitlines()
        if line and not line.startswith("#")
    )
    base, version = _interpreter(python)
    state = FOLDER / "state.json"
    inputs = base.encode() + PINS.read_bytes() + LOCK.read_bytes()
    key = hashlib.sha256(inputs).hexdigest()
    if state.exists():
        kept = json.loads(state.read_text())
        # What failed is tried again: the index may be reachable now.
        if kept["key"] == key and not kept["missing"]:
            return Environment(kept["python"], kept["version"])
    shutil.rmtree(FOLDER, ignore_errors=True)
    made = _run(base, "-m", "venv", str(FOLDER))
    if made.returncode:
        reason = _last_line(made.stderr)
        return Environment(None, version, dict.fromkeys((*pins, "web"), reason))
    python = str(FOLDER / "bin" / "python")
    wanted = {name: (f"{name}=={pin}",) for name, pin in pins.items()}
    missing = {}
    # One by one, so that one that needs a newer Python does not keep out the others.
    for name, packages in {**wanted, "web": WEB_STACK}.items():
        done = _run(
            *(python, "-m", "pip", "install", "--quiet"),
            *("--disable-pip-version-check", "--constraint", str(LOCK), *packages),
        )
        if done.returncode:
            missing[name] = _last_line(done.stderr)
    state.write_text(
        json.dumps(
            {"key": key, "python": python, "version": version, "missing": missing}
        )
    )
    return Environment(python, version, missing)


def _interpreter(wanted: str) -> tuple[str, str]:
    """Return a Python of 3.12 or newer and its version; ours if there is none."""
    # pyenv keeps those that are not selected out of the way.
    others = sorted(Path.home().glob(".pyenv/versions/3.1[2-9].*/bin/python"))
    candidates = (sys.executable, *PYTHONS, *map(str, reversed(others)))
    for candidate in (wanted,) if wanted else candidates:
        path = shutil.which(candidate)
        done = _run(path, "-c", VERSION) if path else None
        if path and done is not None and not done.returncode:
            version = done.stdout.strip()
            if tuple(map(int, version.split("."))) >= (3, 12):
                return path, version
    return sys.executable, f"{sys.version_info.major}.{sys.version_info.minor}"


def _run(*command: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(command, capture_output=True, text=True, check=False)


def _last_line(text: str) -> str:
    lines = [line for line in text.splitlines() if line.strip()]
    return lines[-1].removeprefix("ERROR: ") if lines else "it said nothing"


class Contender:
    """A process that answers for one contender; started when first asked.

    Args:
        adapter: Name of its adapter.
        python: Interpreter.
        is_web: Whether the web stack is imported first.
    """

    def __init__(self, adapter: str, python: str, *, is_web: bool = False) -> None:
        self._command = [python, "-m", "benchmarks.explore_worker", adapter]
        self._command += ["--web"] * is_web
        self._process: subprocess.Popen[bytes] | None = None
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115  # as long as the process

    def ask(self, do: str, *, timeout_s: float = 60.0, **options: Any) -> Any:  # noqa: ANN401  # whatever is JSON
        """Return the answer to one request.

        Raises:
            NoAnswerError: There is none; it says why.
        """
        if self._process is None:
            self._process = subprocess.Popen(
                self._command,
                cwd=ROOT,
                env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._errors,
            )
        process = self._process
        requests, answers = process.stdin, process.stdout
        if requests is None or answers is None:
            raise NoAnswerError("it has no pipes")
        try:
            requests.write(json.dumps({"do": do, **options}).encode() + b"\n")
            requests.flush()
        except BrokenPipeError:
            raise NoAnswerError(self._end()) from None
        if not select.select([answers], [], [], timeout_s)[0]:
            self._end()
            raise NoAnswerError(f"no answer within {timeout_s:.0f} s")
        line = answers.readline()
        if not line:
            raise NoAnswerError(self._end())
        answer = json.loads(line)
        if "problem" in answer:
            raise NoAnswerError(answer["problem"])
        return answer["result"]

    def _end(self) -> str:
        """End the process; return the last thing that it said."""
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None
        self._errors.seek(0)
        return _last_line(self._errors.read().decode(errors="replace"))

    def close(self) -> None:
        """End the process."""
        self._end()
        self._errors.close()
