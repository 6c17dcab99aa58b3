"""Numbers of users that cannot be computed with, and text that they can be found in.

Users are identical only if the program treats their numbers as names: it may compare
them, use them as keys and put them into text. So under symmetry a user does not get an
``int`` but a :class:`UserNumber`, which refuses the rest with the line that asked for
it (data independence: Wolper, POPL 1986; scalarsets: Ip and Dill, FMSD 1996).

Text made from a number holds a label of digits that nothing else holds, and is
recognised by it, as an ``int`` too. What a program does with text cannot be refused;
but labels are drawn anew in every run, so a program that orders, hashes or measures
them takes another way from run to run, and the search notices that.
"""

import random
import re
from typing import Any, NoReturn

from test_framework.explore.endings import MisuseError
from test_framework.explore.waits import calling_frame, place, source

_DIGITS = 15
_LOWEST = 10 ** (_DIGITS - 1)
_DIGIT_RUN = re.compile(rf"\d{{{_DIGITS},}}")
_DIGIT_RUN_BYTES = re.compile(_DIGIT_RUN.pattern.encode())


class UserNumber:
    """The number of a user: equal to itself only, and good for text and keys.

    Attributes:
        label: Digits that stand for it in text.
    """

    __slots__ = ("_labels", "label")

    def __init__(self, label: str, labels: "Labels") -> None:
        self.label = label
        self._labels = labels

    def __str__(self) -> str:
        """Return the label."""
        return self.label

    def __repr__(self) -> str:
        """Return the label, as of an ``int``."""
        return self.label

    def __format__(self, spec: str) -> str:
        """Return the label; a width or another base is refused."""
        return self._refuse(f"formats it as {spec!r}") if spec else self.label

    def __eq__(self, other: object) -> bool:
        """Whether it is the same user; a comparison with a plain number is refused."""
        if isinstance(other, int | float):
            self._refuse(f"compares it with {other!r}")
        return self is other

    def __hash__(self) -> int:
        """Return a hash that is another one in each run."""
        return hash(self.label)

    def _refuse(self, what: str) -> NoReturn:
        frame = calling_frame()
        problem = (
            f"{place(frame)} ({source(frame)}) {what}, the number of a user, so the "
            "users are not identical. Use it as a key, in text or for comparison with "
            "another user's only, or leave symmetric=True out."
        )
        # Kept as well: the program may catch everything.
        self._labels.problem = self._labels.problem or problem
        raise MisuseError(problem)


def _refusing(name: str) -> Any:
    def refuse(self: UserNumber, *_: object) -> NoReturn:
        self._refuse(f"uses {name} of it")

    return refuse


_ORDER = ("lt", "le", "gt", "ge")
_ARITHMETIC = (
    *("add", "sub", "mul", "truediv", "floordiv", "mod", "divmod", "pow"),
    *("lshift", "rshift", "and", "or", "xor"),
)
_VALUE = (
    *("neg", "pos", "abs", "invert", "int", "float", "complex", "index", "round"),
    *("bool", "reduce_ex", "copy", "deepcopy"),
)
for _name in (*_ORDER, *_ARITHMETIC, *(f"r{name}" for name in _ARITHMETIC), *_VALUE):
    setattr(UserNumber, f"__{_name}__", _refusing(f"__{_name}__"))


_Parts = tuple[tuple[str | bytes, ...], list[UserNumber]]
_UNKNOWN: Any = object()


class Labels:
    """The users' numbers of one run, and where they are in text.

    Args:
        rng: Draws the labels.

    Attributes:
        tokens: By position of the user.
        problem: The first misuse of a number, as sentences; empty for none.
    """

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self.tokens: list[UserNumber] = []
        self.problem = ""
        self._by_label: dict[str, UserNumber] = {}
        self._known: dict[str | bytes, _Parts | None] = {}

    def draw(self, count: int) -> list[UserNumber]:
        """Make the numbers of ``count`` users for another run."""
        labels = self._rng.sample(range(_LOWEST, 10 * _LOWEST), count)
        self.tokens = [UserNumber(str(label), self) for label in labels]
        self._known.clear()
        self._by_label = {token.label: token for token in self.tokens}
        return self.tokens

    def of_int(self, number: int) -> UserNumber | None:
        """Return whose label a number is, None if nobody's."""
        return self._by_label.get(str(number)) if number >= _LOWEST else None

    def split(self, text: "str | bytes") -> _Parts | None:
        """Return text between labels, and whose they are; None when there are none."""
        if len(text) < _DIGITS:
            return None
        parts: _Parts | None = self._known.get(text, _UNKNOWN)
        if parts is _UNKNOWN:
            self._known[text] = parts = self._split(text)
        return parts

    def _split(self, text: "str | bytes") -> _Parts | None:
        runs: Any
        if isinstance(text, bytes):
            runs = _DIGIT_RUN_BYTES.finditer(text)
        else:
            runs = _DIGIT_RUN.finditer(text)
        between: list[str | bytes] = []
        tokens: list[UserNumber] = []
        end = 0
        for run in runs:
            start, last = run.start(), run.end() - _DIGITS
            while start <= last:
                piece = text[start : start + _DIGITS]
                digits = piece.decode("ascii") if isinstance(piece, bytes) else piece
                token = self._by_label.get(digits)
                if token is None:
                    start += 1
                    continue
                between.append(text[end:start])
                tokens.append(token)
                start = end = start + _DIGITS
        if not tokens:
            return None
        between.append(text[end:])
        return tuple(between), tokens
