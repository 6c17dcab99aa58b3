"""A schedule: who went for how many steps, and which faults struck; text and token.

Names instead of numbers: a person can read it, and it survives small changes of the
program, since a task keeps its path name where its number in order of creation moves.
A schedule that no longer fits is followed as far as it goes.

    scenario = tests/test_quota.py::test_quota
    fidelity = await
    cancel in user[3] at 2
    user[0] 2
    user[1] 5

The token is the same text, compressed and in base64 without padding.
"""

import base64
import binascii
import enum
import re
import zlib
from dataclasses import dataclass
from typing import assert_never

from test_framework.core import UsageError


class Fidelity(enum.StrEnum):
    """Which orders the loop may produce; see :mod:`test_framework.explore.loop`."""

    FIFO = "fifo"
    AWAIT = "await"
    ANY = "any"


@dataclass(frozen=True, slots=True)
class Segment:
    """One task goes on for a while, or something arrives.

    In ``fifo`` it is an event that arrives, or ``turns``: the loop goes on and nothing
    arrives. ``clock`` is the passing of time in all fidelities.

    Attributes:
        name: Path name of the task or event, ``turns`` or ``clock``.
        steps: How many steps, turns or deadlines (count, >= 1).
    """

    name: str
    steps: int


@dataclass(frozen=True, slots=True)
class Cancel:
    """Cancel a task at a suspension.

    Attributes:
        task: Path name.
        suspension: 1 is the first time it gave up control.
        late: False: as soon as it waits. True: when what it waited for has come and
            it is about to go on, the case that loses wake-ups (gh-86296).
    """

    task: str
    suspension: int
    late: bool = False


@dataclass(frozen=True, slots=True)
class Interrupt:
    """Cancel a task some time during a suspension: the scheduler says when.

    As the world outside does it, by a client that leaves or a service that stops.
    """

    task: str
    suspension: int


@dataclass(frozen=True, slots=True)
class Expire:
    """Let time pass until the timeout that a task has armed fires, at a suspension."""

    task: str
    suspension: int


@dataclass(frozen=True, slots=True)
class Raise:
    """Answer what a task waits for with an error, at a suspension.

    Attributes:
        task: Path name.
        suspension: 1 is the first time it gave up control.
        error: Name of the exception: a builtin, or ``module:Name``.
    """

    task: str
    suspension: int
    error: str = "ConnectionResetError"


@dataclass(frozen=True, slots=True)
class Disconnect:
    """Let the client of an ASGI request go away, at a suspension of its task."""

    task: str
    suspension: int


@dataclass(frozen=True, slots=True)
class Backwards:
    """Let the sets of asyncio be iterated backwards; see :mod:`.ordered`.

    The order of ``done`` of ``asyncio.wait``, of the tasks that a ``TaskGroup`` cancels
    and that ``as_completed`` starts is by address on plain asyncio. It is no fault of
    one task, so it has no place.
    """

    task = ""
    suspension = 0


Fault = Cancel | Interrupt | Expire | Raise | Disconnect | Backwards

_SEGMENT = re.compile(r"(?P<name>\S.*?)\s+(?P<steps>\d+)")
_FAULT = re.compile(
    r"(?P<kind>cancel-late|cancel|interrupt|expire|disconnect|raise (?P<error>\S+))"
    r" in (?P<task>\S.*?) at (?P<suspension>\d+)"
)
# A fault with a slip of the pen, that would pass as the name of a task.
_NEARLY_FAULT = re.compile(
    r".* in .* at \d+|(cancel-late|cancel|expire|disconnect|raise( \S+)?)\b(.* at \d+| in .*)"
)
_BACKWARDS = "sets = backwards"
TOKEN_PREFIX = "x1."  # noqa: S105  # a version, no secret
"""What every token of a schedule begins with."""


def _describe(fault: Fault) -> str:
    match fault:
        case Cancel(late=late):
            kind = "cancel-late" if late else "cancel"
        case Interrupt():
            kind = "interrupt"
        case Expire():
            kind = "expire"
        case Disconnect():
            kind = "disconnect"
        case Raise(error=error):
            kind = f"raise {error}"
        case Backwards():
            return _BACKWARDS
        case _:
            assert_never(fault)
    return f"{kind} in {fault.task} at {fault.suspension}"


def _parse_fault(match: re.Match[str]) -> Fault:
    task, suspension = match["task"], int(match["suspension"])
    match match["kind"]:
        case "cancel":
            return Cancel(task, suspension)
        case "cancel-late":
            return Cancel(task, suspension, late=True)
        case "interrupt":
            return Interrupt(task, suspension)
        case "expire":
            return Expire(task, suspension)
        case "disconnect":
            return Disconnect(task, suspension)
        case _:
            return Raise(task, suspension, match["error"])


@dataclass(frozen=True, slots=True)
class Schedule:
    """What a run did at every decision; enough to repeat it.

    Attributes:
        fidelity: Which orders were possible.
        segments: Who went, in order; after the last one each task runs to its end,
            oldest first.
        faults: What was done to tasks.
        io: ``sim`` or ``gate``.
        scenario: ``PATH::NAME`` of what it is a schedule of; empty when unknown.
        users: Users of the scenario; None when it starts them itself.
    """

    fidelity: Fidelity
    segments: tuple[Segment, ...] = ()
    faults: tuple[Fault, ...] = ()
    io: str = "sim"
    scenario: str = ""
    users: int | None = None

    @property
    def switches(self) -> int:
        """How often another task than the one before goes on."""
        return max(0, len(self.segments) - 1)

    def text(self) -> str:
        """Return the schedule as lines a person can read and change."""
        lines = [f"scenario = {self.scenario}"] if self.scenario else []
        if self.users is not None:
            lines.append(f"users = {self.users}")
        lines.append(f"fidelity = {self.fidelity}")
        if self.io != "sim":
            lines.append(f"io = {self.io}")
        lines += [_describe(fault) for fault in self.faults]
        lines += [f"{segment.name} {segment.steps}" for segment in self.segments]
        return "\n".join(lines) + "\n"

    def token(self) -> str:
        """Return the schedule in one word for a command line."""
        packed = zlib.compress(self.text().encode(), 9)
        return TOKEN_PREFIX + base64.urlsafe_b64encode(packed).decode().rstrip("=")

    @classmethod
    def parse(cls, text: str) -> "Schedule":
        """Read a schedule from its text or its token.

        Raises:
            UsageError: It is neither.
        """
        if text.startswith(TOKEN_PREFIX):
            text = _unpack(text.strip())
        fidelity, io, scenario, users = Fidelity.AWAIT, "sim", "", None
        segments: list[Segment] = []
        faults: list[Fault] = []
        for number, raw in enumerate(text.splitlines(), 1):
            line = raw.partition("#")[0].strip()
            if not line:
                continue
            if match := re.fullmatch(r"fidelity = (\w+)", line):
                fidelity = _fidelity(match[1])
            elif match := re.fullmatch(r"io = (sim|gate|live)", line):
                io = match[1]
            elif line == _BACKWARDS:
                faults.append(Backwards())
            elif match := re.fullmatch(r"scenario = (\S.*)", line):
                scenario = match[1]
            elif match := re.fullmatch(r"users = (\d+)", line):
                users = int(match[1])
            elif match := _FAULT.fullmatch(line):
                faults.append(_parse_fault(match))
            elif not _NEARLY_FAULT.fullmatch(line) and (
                match := _SEGMENT.fullmatch(line)
            ):
                segments.append(Segment(match["name"], int(match["steps"])))
            else:
                raise UsageError(
                    f"Line {number} of the schedule is {raw!r}: neither 'TASK STEPS' "
                    "nor a fault such as 'cancel in user[3] at 2'. Correct or delete it."
                )
        return cls(fidelity, tuple(segments), tuple(faults), io, scenario, users)


def _fidelity(word: str) -> Fidelity:
    try:
        return Fidelity(word)
    except ValueError:
        known = ", ".join(Fidelity)
        raise UsageError(
            f"fidelity {word!r} is not known; expected one of {known}."
        ) from None


def _unpack(token: str) -> str:
    body = token.removeprefix(TOKEN_PREFIX)
    try:
        packed = base64.urlsafe_b64decode(body + "=" * (-len(body) % 4))
        return zlib.decompress(packed).decode()
    except (binascii.Error, zlib.error, UnicodeDecodeError, ValueError):
        raise UsageError(
            f"{token!r} is not a complete token of a schedule: it was cut or changed. "
            "Copy the whole word after 'replay', or pass the schedule file."
        ) from None
