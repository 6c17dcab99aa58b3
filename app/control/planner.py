"""The planner: from words to what is wanted of a node set.

Words that are not understood, or that mean two things, are refused with what can be
said instead; nothing is guessed. A planner that asks a model has the same interface:
what it returns is data, and ``IntentReconciler`` checks it against the bounds.
"""

import re
from dataclasses import dataclass
from typing import Protocol

NODE_SET_NAME = "[A-Za-z0-9](?:[A-Za-z0-9-]{0,62})"
"""What node sets can be called: letters, digits and hyphens, 63 at most."""

_NUMBERS = [
    "a",
    "one",
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
    "eight",
    "nine",
    "ten",
]
_COUNT = rf"(?P<count>[0-9]{{1,6}}|an|{'|'.join(_NUMBERS)})"
_THINGS = "(?:(?:more )?(?:workers?|nodes?|replicas?))"
_NAME = rf"(?P<name>{NODE_SET_NAME})"
_SENTENCES = {
    "exactly": (
        rf"(?:run|keep|want) {_COUNT} {_THINGS} (?:in|of|for) {_NAME}",
        rf"scale {_NAME} to {_COUNT}(?: {_THINGS})?",
    ),
    "more": (rf"add {_COUNT} {_THINGS} to {_NAME}",),
    "less": (rf"remove {_COUNT} {_THINGS} from {_NAME}",),
    "none": (rf"stop {_NAME}",),
}
_FORMS = [
    # ASCII: else a Kelvin sign is a k, and the name of a node set no name.
    (meaning, re.compile(rf"(?:please )?{sentence}[.!]?", re.IGNORECASE | re.ASCII))
    for meaning, sentences in _SENTENCES.items()
    for sentence in sentences
]


class PlanError(ValueError):
    """Raised when words are not understood: the user's fault, and told to the user."""


@dataclass(frozen=True, slots=True)
class Change:
    """What is wanted of one node set.

    Attributes:
        node_set: Its name.
        replicas: How many nodes, or how many more (less, if negative).
        is_relative: Whether they count from what is wanted so far.
    """

    node_set: str
    replicas: int
    is_relative: bool

    def from_now(self, replicas: int) -> int:
        """Return how many are wanted, where ``replicas`` were wanted before."""
        return self.replicas + (replicas if self.is_relative else 0)


class Planner(Protocol):
    """Turns words into a change."""

    async def plan(self, goal: str) -> Change:
        """Return what is wanted.

        Raises:
            PlanError: The words are not understood.
        """
        ...


class PhrasePlanner:
    """Understands a few sentences, and nothing else.

    ``run 3 workers in web``, ``scale web to 3``, ``add two nodes to web``, ``remove a
    node from web``, ``stop web``.
    """

    async def plan(self, goal: str) -> Change:
        """Return what is wanted.

        Raises:
            PlanError: It is none of the sentences.
        """
        words = " ".join(goal.split())
        for meaning, form in _FORMS:
            if found := form.fullmatch(words):
                parts = found.groupdict()
                count = _number(parts.get("count") or "0")
                return Change(
                    parts["name"],
                    -count if meaning == "less" else count,
                    is_relative=meaning in {"more", "less"},
                )
        message = (
            "I do not understand that. Say `run 3 workers in NAME`, `scale NAME to 3`, "
            "`add 2 nodes to NAME`, `remove 1 node from NAME` or `stop NAME`."
        )
        raise PlanError(message)


def _number(word: str) -> int:
    word = word.lower()
    if word.isdecimal():
        return int(word)
    return 1 if word in {"a", "an"} else _NUMBERS.index(word)
