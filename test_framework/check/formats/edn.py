"""A reader of EDN, the notation that Jepsen, Knossos and Elle write histories in.

Maps become dicts, vectors and lists tuples, sets frozensets, ``nil`` None. Keywords
and symbols become their names, as in the JSON of the same histories, so ``:x`` and
``"x"`` are one thing. Tags such as ``#inst`` or ``#jepsen.history.Op`` are dropped and
what they stand before is kept.

One regular expression cuts the text into tokens, and each distinct token is understood
once: two thirds of a history are its few keywords. Nesting is kept on a list, so no
input is too deep for the interpreter.

Source: https://github.com/edn-format/edn
"""

import re
from collections.abc import Iterator
from fractions import Fraction
from typing import Any, Final

_DELIMITERS = r"\s,;()\[\]{}\""
_TOKEN = re.compile(
    rf"""
    (?: [\s,]+ | ;[^\n]* | \#[A-Za-z][^{_DELIMITERS}]* )*+
    ( "(?:[^"\\]+|\\.)*+"        # a string
    | "                          # one that does not end
    | \#\{{ | \#_ | [()\[\]{{}}]
    | \\.[^{_DELIMITERS}]*       # a character
    | [^{_DELIMITERS}]+          # a number, keyword or symbol
    | \Z )
    """,
    re.VERBOSE | re.DOTALL,
)
_BLOCK = 1 << 20
"""Characters whose tokens are held at once."""

_MOST_DEEP = 100
_MOST_SHOWN = 40

_OPEN, _CLOSE, _DISCARD = 0, 1, 2
_BRACKETS: Final = {
    **dict.fromkeys(("[", "(", "{", "#{"), _OPEN),
    **dict.fromkeys(("]", ")", "}"), _CLOSE),
    "#_": _DISCARD,
}
_CLOSED_BY: Final = {"[": "]", "(": ")", "{": "}", "#{": "}"}
_DISCARDED: Final = object()

_INTEGER = re.compile(r"[+-]?[0-9]+N?")
_REAL = re.compile(r"[+-]?[0-9]+(?:\.[0-9]*)?(?:[eE][+-]?[0-9]+)?M?")
_RATIO = re.compile(r"[+-]?[0-9]+/[0-9]+")
_ESCAPE = re.compile(r"\\(?:u([0-9a-fA-F]{4})|(.))", re.DOTALL)
_ESCAPES: Final = {
    '"': '"',
    "\\": "\\",
    "n": "\n",
    "t": "\t",
    "r": "\r",
    "b": "\b",
    "f": "\f",
}
_CHARACTERS: Final = {
    "newline": "\n",
    "space": " ",
    "tab": "\t",
    "return": "\r",
    "backspace": "\b",
    "formfeed": "\f",
}
_WORDS: Final[dict[str, Any]] = {
    "nil": None,
    "true": True,
    "false": False,
    "##Inf": float("inf"),
    "##-Inf": float("-inf"),
    "##NaN": float("nan"),
}


class EdnError(ValueError):
    """Raised when a text is not EDN.

    Attributes:
        problem: What is wrong, without a full stop.
        line: Where, from 1.
    """

    def __init__(self, problem: str, line: int) -> None:
        super().__init__(f"line {line}: {problem}")
        self.problem, self.line = problem, line


class Edn:
    """The forms of one text.

    Args:
        text: Any number of forms.
    """

    def __init__(self, text: str) -> None:
        self._text = text

    def forms(self) -> Iterator[tuple[int, Any]]:
        """Yield each form with the number of the token that it ends with.

        Raises:
            EdnError: The text is not EDN.
        """
        atoms = _Atoms()
        top: list[Any] = []
        items, opener = top, ""
        outer: list[tuple[list[Any], str]] = []
        number = -1
        for number, token in enumerate(self._tokens()):
            role = _BRACKETS.get(token)
            try:
                if role is None:
                    items.append(atoms[token])
                elif role == _OPEN:
                    outer.append((items, opener))
                    if len(outer) > _MOST_DEEP:
                        message = f"it nests deeper than {_MOST_DEEP} levels"
                        raise ValueError(message)  # noqa: TRY301  # gets its line below
                    items, opener = [], token
                elif role == _DISCARD:
                    items.append(_DISCARDED)
                else:
                    form = _closed(opener, token, items)
                    items, opener = outer.pop()
                    items.append(form)
            except ValueError as exc:
                raise EdnError(str(exc), self.line(number)) from exc
            if items is top:
                forms = _kept(top)
                if forms:
                    yield number, forms[0]
                    top.clear()
        if outer:
            message = f"the text ends inside a {opener!r}, so it was cut"
            raise EdnError(message, self.line(number))

    def line(self, number: int) -> int:
        """Return the line, from 1, of a token by its number; reads from the start."""
        for at, found in enumerate(_TOKEN.finditer(self._text)):
            if at == number:
                return self._text.count("\n", 0, found.start(1)) + 1
        return self._text.count("\n") + 1

    def _tokens(self) -> Iterator[str]:
        text, begin = self._text, 0
        while begin < len(text):
            size = _BLOCK
            while True:
                end = text.find("\n", begin + size)
                end = len(text) if end < 0 else end
                tokens = _TOKEN.findall(text, begin, end)
                if '"' not in tokens or end == len(text):
                    break
                size *= 2  # a string stands across the end of the block
            while tokens and not tokens[-1]:  # what comes after the last token
                tokens.pop()
            yield from tokens
            begin = end


class _Atoms(dict[str, Any]):
    """What each distinct token means."""

    def __missing__(self, token: str) -> object:
        value = self[token] = _atom(token)
        return value


def _atom(token: str) -> object:
    first = token[0]
    if first == ":":
        return token[1:]
    if first == '"':
        if len(token) == 1:
            message = "a string does not end, so the text was cut"
            raise ValueError(message)
        return _ESCAPE.sub(_unescaped, token[1:-1]) if "\\" in token else token[1:-1]
    if token in _WORDS:
        return _WORDS[token]
    if first.isdigit() or (first in "+-" and token[1:2].isdigit()):
        return _read_number(token)
    if first == "\\":
        name = token[1:]
        if len(name) == len("u0000") and name[0] == "u":
            return chr(int(name[1:], 16))
        return _CHARACTERS.get(name, name)
    return token


def _read_number(token: str) -> object:
    if _INTEGER.fullmatch(token):
        return int(token.rstrip("N"))
    if _REAL.fullmatch(token):
        return float(token.rstrip("M"))
    if _RATIO.fullmatch(token) and token.rpartition("/")[2].strip("0"):
        return Fraction(token)
    message = f"{token[:_MOST_SHOWN]!r} is no number"
    raise ValueError(message)


def _unescaped(found: re.Match[str]) -> str:
    code, letter = found.groups()
    if code:
        return chr(int(code, 16))
    if letter not in _ESCAPES:
        message = f"a string has the unknown escape '\\{letter}'"
        raise ValueError(message)
    return _ESCAPES[letter]


def _closed(opener: str, token: str, items: list[Any]) -> object:
    if not opener:
        message = f"{token!r} closes nothing"
        raise ValueError(message)
    if _CLOSED_BY[opener] != token:
        message = f"{token!r} closes {opener!r}"
        raise ValueError(message)
    if _DISCARDED in items:
        items = _kept(items)
    if token != "}":  # noqa: S105  # a bracket, not a password
        return tuple(items)
    try:
        if opener == "#{":
            return frozenset(items)
        form = dict(zip(items[::2], items[1::2], strict=False))
    except TypeError as exc:
        message = "a map is an element of a set or the key of another map"
        raise ValueError(message) from exc
    if len(items) != 2 * len(form):
        message = (
            "a map has a key without a value"
            if len(items) % 2
            else "a map has the same key twice"
        )
        raise ValueError(message)
    return form


def _kept(items: list[Any]) -> list[Any]:
    """Leave out what ``#_`` stands before; each takes the next form that is left."""
    kept, pending = [], 0
    for item in items:
        if item is _DISCARDED:
            pending += 1
        elif pending:
            pending -= 1
        else:
            kept.append(item)
    return kept
