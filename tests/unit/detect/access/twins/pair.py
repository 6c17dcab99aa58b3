"""What a pair of twins is."""

from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Pair:
    """A defect and its mend.

    Attributes:
        make: Makes what all users share.
        vulnerable: What each user does, with the defect.
        safe: The same without.
        rule: What the vulnerable one breaks.
    """

    make: Callable[[], Any]
    vulnerable: Callable[[Any, int], Coroutine[Any, Any, object]]
    safe: Callable[[Any, int], Coroutine[Any, Any, object]]
    rule: str
