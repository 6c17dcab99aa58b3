"""What a program is to the suite of FIFO programs, and the list of all of them.

Such a program asserts an order that asyncio documents, or that every program in the
wild relies on because the ready queue is first in, first out. Stock asyncio cannot
break it, so at fidelity ``fifo`` the explorer must not either (issue 3).
"""

import sys
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from test_framework.explore import Fidelity
from test_framework.explore.scenario import CoroutineFunction


@dataclass(frozen=True, slots=True)
class Program:
    """A program that asserts a documented order.

    Attributes:
        main: The program; makes all its state anew.
        breaks_at: The first fidelity at which the explorer breaks it; None when it
            holds at all, because the primitive itself keeps the order.
        is_sensitive: Some order of the ready queue or of the deadlines breaks it.
        since: The first Python that can run it.
    """

    main: CoroutineFunction
    breaks_at: Fidelity | None
    is_sensitive: bool
    since: tuple[int, int]

    @property
    def name(self) -> str:
        """The name of the function."""
        return self.main.__name__

    def needs(self) -> None:
        """Skip the test on a Python that is too old for the program."""
        if sys.version_info < self.since:
            pytest.skip(f"needs Python {'.'.join(map(str, self.since))}")


PROGRAMS: list[Program] = []


def in_order(
    *,
    breaks_at: str | None = None,
    is_sensitive: bool = True,
    since: tuple[int, int] = (3, 11),
) -> Callable[[CoroutineFunction], CoroutineFunction]:
    """Add a program to the suite.

    Args:
        breaks_at: The first fidelity at which its order is no longer kept.
        is_sensitive: False where tasks keep the promise and not the loop.
        since: The first Python that can run it.
    """

    def add(main: CoroutineFunction) -> CoroutineFunction:
        fidelity = None if breaks_at is None else Fidelity(breaks_at)
        PROGRAMS.append(Program(main, fidelity, is_sensitive, since))
        return main

    return add
