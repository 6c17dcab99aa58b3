"""What a twin does for users who come one after the other: the specification of it.

A history of visits is right if some order of the visits, one after the other, gives the
same answers. What the safe twin answers in an order is found out by running it, so no
pattern needs a model of its own to be judged by ``check.linear``.

Source: Burckhardt, Dern, Musuvathi and Tan, "Line-Up: A Complete and Automatic
Linearizability Checker", PLDI 2010.
"""

from typing import Any

from test_framework.catalogue.natural import run_in_turn
from test_framework.catalogue.pattern import Pattern, Twin
from test_framework.catalogue.wire import encode
from test_framework.check.linear import ILLEGAL, Call

VISIT, READ = "visit", "read"
"""Kinds of calls; the argument of each is the number of the user."""

Order = tuple[int, ...]
"""Numbers of the users who have visited, in order."""


class InTurn:
    """A model whose state is who has visited, and in which order.

    Args:
        pattern: A hosted pattern.
        twin: Which of its twins is the specification.
    """

    initial: Order = ()

    def __init__(self, pattern: Pattern, twin: Twin = "safe") -> None:
        self._pattern, self._twin = pattern, twin
        self._known: dict[Order, tuple[str, list[str]] | None] = {}

    def told(self, order: Order) -> tuple[str, list[str]] | None:
        """Return the answer to the last visit and what each user reads then, as JSON.

        None where a visit fails, or never ends because it waits for others.
        """
        if order not in self._known:
            came = run_in_turn(self._pattern, self._twin, order)
            self._known[order] = came and (
                encode(came[0]),
                [encode(read) for read in came[1]],
            )
        return self._known[order]

    @property
    def is_sequential(self) -> bool:
        """Whether users can come one after the other at all; some wait for others."""
        return self.told(tuple(range(self._pattern.crowd))) is not None

    def step(self, state: Any, call: Call) -> object:
        """Step over a visit, or over what a user reads when visits are over."""
        after: Order = state if call.kind == READ else (*state, call.argument)
        if not call.is_known:
            return after
        told = self.told(after)
        if told is None:
            return ILLEGAL
        answer, shown = told
        expected = shown[call.argument] if call.kind == READ else answer
        return after if call.result == expected else ILLEGAL

    def is_read(self, call: Call) -> bool:
        """Whether nobody visits."""
        return call.kind == READ
