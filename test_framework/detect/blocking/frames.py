"""Whose line is it? Frames of a stack, sorted by who wrote them."""

import asyncio
import inspect
import linecache
import sysconfig
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

_OURS = str(Path(__file__).parents[2])
_PACKAGES = tuple({sysconfig.get_path("purelib"), sysconfig.get_path("platlib")})
_STANDARD = str(Path(asyncio.__file__).parents[1])
_STARTING = str(Path("uvicorn", "lifespan", "on.py"))


def outwards(frame: FrameType | None) -> Iterator[FrameType]:
    """Yield a frame and its callers."""
    while frame is not None:
        yield frame
        frame = frame.f_back


def blame(caller: FrameType) -> tuple[FrameType, list[FrameType]]:
    """Return the line to name, and the way from the call out to the service.

    It is the nearest line of the service, unless a coroutine of a library stands
    between: then the library blocks by itself, and the service's line, which may be a
    mere ``await call_next(request)``, could not have known.
    """
    nearest, way = None, []
    for frame in outwards(caller):
        way.append(frame)
        if is_program(frame):
            return frame, way
        if is_standard(frame):
            continue
        nearest = nearest or frame
        if frame.f_code.co_flags & inspect.CO_COROUTINE:
            break
    return nearest or caller, way


def is_harmless(caller: FrameType, allowed: Sequence[tuple[str, Any]]) -> bool:
    """Whether a call is our own, of a service that starts, or allowed to block."""
    frames = list(outwards(caller))
    made_by = next((one for one in frames if not is_standard(one)), None)
    if made_by is None or file(made_by).startswith(_OURS):
        return True
    for frame in frames:
        path = file(frame)
        if path.endswith(_STARTING):
            return True
        for suffix, names in allowed:
            if frame.f_code.co_name in names and path.endswith(suffix):
                return True
    return False


def is_standard(frame: FrameType) -> bool:
    """Whether a line is Python's own, or made by it (of dataclasses, say)."""
    path = file(frame)
    return path.startswith(("<", _STANDARD)) and not path.startswith(_PACKAGES)


def is_program(frame: FrameType) -> bool:
    """Whether a line is the service's own."""
    return not is_standard(frame) and not file(frame).startswith((*_PACKAGES, _OURS))


def file(frame: FrameType) -> str:
    """Return the file of a line."""
    return frame.f_code.co_filename


def place(frame: FrameType) -> str:
    """Return ``path:line``, the path relative to here, to packages or to Python."""
    return f"{short_path(frame)}:{frame.f_lineno}"


def short_path(frame: FrameType) -> str:
    """Return the file of a line, relative to here, to packages or to Python."""
    path = Path(file(frame))
    # In this order: packages may lie inside of each of the others.
    for folder in (*_PACKAGES, _STANDARD, str(Path.cwd())):
        if path.is_relative_to(folder):
            return str(path.relative_to(folder))
    return str(path)


def line(frame: FrameType) -> str:
    """Return place, function and text of a line."""
    text = linecache.getline(file(frame), frame.f_lineno).strip()
    return f"{place(frame)} in {frame.f_code.co_qualname}: {text}"
