"""Sets that remember the order of insertion, for asyncio itself.

``TaskGroup`` keeps its tasks in a set and cancels them in its order of iteration;
``asyncio.wait`` and ``as_completed`` put futures into sets (temporalio/sdk-python#518).
Tasks hash by their address, so that order differs from run to run of one schedule, and
no replay would be exact. While an exploration runs, the name ``set`` means an ordered
set in the modules concerned. Every order of insertion is one that the real set may
have, so nothing impossible is made.

So is the opposite order, and a program that relies on either is wrong. In a run
backwards all sets go from the member that any of them got last to the first one, as if
addresses fell where they rose before: whoever comes first in one set comes first in all.
"""

import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

# The cancel scopes of anyio, below Starlette, keep tasks in sets as well.
_MODULES = ("asyncio.tasks", "asyncio.taskgroups", "anyio._backends._asyncio")


_ranks: dict[Any, int] | None = None
_is_iterated = False


def begin_run(*, is_backwards: bool) -> None:
    """Say how sets are iterated until the next run begins."""
    global _ranks, _is_iterated  # noqa: PLW0603  # sets are made deep inside of asyncio
    _ranks = {} if is_backwards else None
    _is_iterated = False


def is_iterated() -> bool:
    """Tell whether this run iterated a set of more than one member."""
    return _is_iterated


class OrderedSet(set[Any]):
    """A set that is iterated in order of insertion, or backwards.

    Unions and differences of it are plain sets.
    """

    def __init__(self, items: Iterable[Any] = ()) -> None:
        """Take the items in their order."""
        self._order: dict[Any, None] = dict.fromkeys(
            items._order if isinstance(items, OrderedSet) else items
        )
        super().__init__(self._order)
        if _ranks is not None:
            for item in self._order:
                _ranks.setdefault(item, len(_ranks))

    def __iter__(self) -> Iterator[Any]:
        global _is_iterated  # noqa: PLW0603  # see begin_run
        if len(self._order) > 1:
            _is_iterated = True
            if _ranks is not None:
                return iter(sorted(self._order, key=_rank, reverse=True))
        return iter(self._order)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (list(self._order),)

    def add(self, item: Any) -> None:
        """Add an item at the end, unless it is there."""
        if _ranks is not None:
            _ranks.setdefault(item, len(_ranks))
        self._order[item] = None
        super().add(item)

    def update(self, *others: Iterable[Any]) -> None:
        """Add the items of others in their order."""
        for other in others:
            for item in other:
                self.add(item)

    def discard(self, item: Any) -> None:
        """Remove an item if it is there."""
        self._order.pop(item, None)
        super().discard(item)

    def remove(self, item: Any) -> None:
        """Remove an item.

        Raises:
            KeyError: It is not there.
        """
        super().remove(item)
        del self._order[item]

    def pop(self) -> Any:
        """Remove the first item and return it.

        Raises:
            KeyError: There is none.
        """
        for item in self:
            self.remove(item)
            return item
        return super().pop()

    def clear(self) -> None:
        """Remove everything."""
        self._order.clear()
        super().clear()

    def copy(self) -> "OrderedSet":
        """Return an ordered copy."""
        return OrderedSet(self._order)


def _rank(item: Any) -> int:
    # What was there before the run comes last, as it came first.
    return -1 if _ranks is None else _ranks.get(item, -1)


_ordered: list[dict[str, Any]] = []


def order_more() -> bool:
    """Order the sets of modules that were loaded meanwhile; tell whether there are any."""
    modules = [
        vars(sys.modules[name])
        for name in _MODULES
        if name in sys.modules and "set" not in vars(sys.modules[name])
    ]
    for names in modules:
        names["set"] = OrderedSet
    _ordered.extend(modules)
    return bool(modules)


@contextmanager
def ordered_sets() -> Iterator[None]:
    """Let asyncio, and anyio where it is loaded, use ordered sets meanwhile."""
    known = len(_ordered)
    order_more()
    try:
        yield
    finally:
        for names in _ordered[known:]:
            del names["set"]
        del _ordered[known:]
