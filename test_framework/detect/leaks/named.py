"""Which users a text names, by identifiers that the service gave to them.

A user id, a thread id: values that were drawn long enough to mean one user wherever they
stand. Texts are cut into runs of letters and digits and each run is looked up, so a look
at the memory costs the same for ten identifiers and for ten thousand. Numbers that are
counted, such as 7, would be found everywhere; they are left out.
"""

import re
import uuid
from collections.abc import Collection, Iterator, Mapping

LEAST_LENGTH = 6
"""Letters and digits in a row that an identifier needs to be told from words."""

_RUN = re.compile(rf"[0-9A-Za-z]{{{LEAST_LENGTH},}}")
_COUNTED = re.compile(r"\d{1,9}")


class Named:
    """Finds users by their identifiers.

    Args:
        identities: Identifiers of each user, by its number. One that two users have
            names neither.
    """

    def __init__(self, identities: Mapping[int, Collection[str]]) -> None:
        owners: dict[str, set[int]] = {}
        for user, names in identities.items():
            for name in names:
                owners.setdefault(name, set()).add(user)
        # A run may stand in several identifiers: "iso1c2d3e-u07" begins as all do.
        self._runs: dict[str, dict[str, int]] = {}
        for name, users in owners.items():
            runs = _RUN.findall(name)
            if len(users) == 1 and runs and not _COUNTED.fullmatch(name):
                self._runs.setdefault(max(runs, key=len), {})[name] = min(users)

    def __len__(self) -> int:
        """Return how many identifiers are known."""
        return sum(len(names) for names in self._runs.values())

    def find(self, text: str | bytes) -> Iterator[int]:
        """Yield the number of the user of each identifier in a text, in no order."""
        if not self._runs or len(text) < LEAST_LENGTH:
            return
        plain = text if isinstance(text, str) else text.decode("latin-1")
        for run in _RUN.findall(plain):
            for name, user in self._runs.get(run, {}).items():
                if _stands_in(plain, name):
                    yield user


def text_of(value: object) -> str | bytes | None:
    """Return what an object is as text; None when it is none.

    A ``UUID`` is an identifier as well, also that of asyncpg, which is made in C.
    """
    kind = type(value)
    if kind is str or kind is bytes:
        return value  # type: ignore[return-value]  # it is one of the two
    if kind is bytearray:
        return bytes(value)  # type: ignore[call-overload,no-any-return]  # it is one
    is_id = kind is uuid.UUID or (
        issubclass(kind, uuid.UUID) and kind.__module__.startswith("asyncpg.")
    )
    return str(value) if is_id else None


def _stands_in(text: str, name: str) -> bool:
    """Whether a text has a name as a whole word."""
    start = text.find(name)
    while start >= 0:
        end = start + len(name)
        around = text[start - 1 : start] + text[end : end + 1]
        if not any(letter.isalnum() for letter in around):
            return True
        start = text.find(name, start + 1)
    return False
