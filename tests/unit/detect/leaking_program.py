"""Places of a program that keep what users leave there, and siblings that do not."""

import asyncio
import collections
import dataclasses
import functools
import io
import weakref
from collections.abc import Callable
from typing import Any, ClassVar

MODULE_TABLE: dict[str, str] = {}
MODULE_LIST: list[str] = []
RECENT: collections.deque[str] = collections.deque(maxlen=100)
LAST_VALUE: str | bytes = ""
LOG = io.StringIO()
QUEUE: asyncio.Queue[str] = asyncio.Queue()
BOUND: Any = None
FAILED: BaseException | None = None


@dataclasses.dataclass(slots=True)
class Slotted:
    """Keeps a value in a slot."""

    kept: str = ""


class Context:
    """Belongs to one request."""

    def __init__(self, text: str) -> None:
        self.text = text


class Service:
    """Keeps values in attributes of an object that everybody shares."""

    shared: ClassVar[collections.deque[str]] = collections.deque()

    def __init__(self) -> None:
        self.last = ""
        self.contexts: list[Context] = []
        self.living: weakref.WeakSet[Context] = weakref.WeakSet()


SLOTTED = Slotted()
SERVICE = Service()


@functools.lru_cache
def greet(name: str) -> str:
    """Return a greeting, and remember whom it was for."""
    return f"hello {name}"


def collect(value: str, into: list[str] = []) -> list[str]:  # noqa: B006  # the defect
    """Append to a default that all calls share."""
    into.append(value)
    return into


def make_counter() -> Callable[[str], int]:
    """Return a function that remembers its callers in a closure."""
    seen: set[str] = set()

    def count(name: str) -> int:
        seen.add(name)
        return len(seen)

    return count


count_callers = make_counter()


def fail(text: str) -> None:
    """Keep an exception, and with it its message."""
    global FAILED  # noqa: PLW0603  # the defect
    try:
        int(text)
    except ValueError as exc:
        FAILED = exc


def write_log(text: str) -> None:
    """Write into a buffer that nobody empties."""
    LOG.write(text)


def enqueue(text: str) -> None:
    """Put something where nobody takes it."""
    QUEUE.put_nowait(text)


def bind(text: str) -> None:
    """Keep a method of an object, and so the object."""
    global BOUND  # noqa: PLW0603  # the defect
    BOUND = Context(text).__str__


def keep_last(text: str | bytes) -> None:
    """Keep one value for everybody."""
    global LAST_VALUE  # noqa: PLW0603  # the defect
    LAST_VALUE = text


def tidy(text: str) -> str:
    """Work with a value in locals and forget it."""
    notes = {text: [text]}
    SERVICE.living.add(Context(text))
    return notes[text][0].upper()


def reset() -> None:
    """Forget everything."""
    global BOUND, FAILED, QUEUE, LOG  # noqa: PLW0603  # as above
    for table in (MODULE_TABLE, MODULE_LIST, Service.shared, SERVICE.contexts):
        table.clear()
    keep_last("")
    collect("")[:] = []
    RECENT.clear()
    BOUND = FAILED = None
    QUEUE = asyncio.Queue()
    LOG = io.StringIO()
    SLOTTED.kept = SERVICE.last = ""
    greet.cache_clear()
    count_callers.__closure__[0].cell_contents.clear()  # type: ignore[index]  # a function with a closure
