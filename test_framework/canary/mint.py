"""Makes canaries: a marker, the owner, a number and a tag that only the seed can make.

A canary is 36 letters and digits, as long as a UUID: sixteen times ``q``, then the
user (4), the sequence (4) and the tag (12) in base 32::

    qqqqqqqqqqqqqqqq 000z 0003 1dzkcvnrt5m3
    marker           u31  /3   HMAC-SHA256(seed, user, sequence), 60 bits

The marker is one letter repeated because that makes it cheap to find. Base64 shifts
text by 0, 1 or 2 bytes, and a run of one letter looks the same in all three; its hex
has digits only, so upper and lower case agree; and a search for a run of one letter
skips nearly all of the text, the more the longer the run is.

The digits are the 32 that remain without ``q`` (so that the marker ends where the
owner begins), ``i`` (Turkish case rules), ``l`` and ``o`` (read as 1 and 0). None
needs case, so a canary survives a service that lower-cases e-mail addresses.
"""

import hashlib
import hmac
from dataclasses import dataclass

from test_framework.core import UsageError

MARKER = "q" * 16
"""What every canary begins with."""

DIGITS = "0123456789abcdefghjkmnprstuvwxyz"
"""The 32 digits after the marker, in order of value."""

BODY_LENGTH = 20
LENGTH = len(MARKER) + BODY_LENGTH
"""Characters in a canary."""

MAX_USER = 32**4 - 1
MAX_SEQUENCE = 32**4 - 1

_NUMBER_LENGTH = 4
_TAG_LENGTH = 12
_TAG_BITS = 5 * _TAG_LENGTH
_VALUES = {ord(digit): value for value, digit in enumerate(DIGITS)}


@dataclass(frozen=True, slots=True)
class Canary:
    """Whose canary it is and which one; reads ``u31/3``.

    Attributes:
        user: Number of the owner, ``0`` to ``MAX_USER``.
        sequence: Number among the canaries of the owner, ``0`` to ``MAX_SEQUENCE``.
    """

    user: int
    sequence: int

    def __str__(self) -> str:
        return f"u{self.user}/{self.sequence}"


class Mint:
    """Makes and verifies the canaries of one seed.

    Args:
        seed: Seed of the run; another seed makes other tags.
    """

    def __init__(self, seed: int) -> None:
        # A key per seed; the label keeps it apart from whatever else uses the seed.
        self._key = hashlib.sha256(b"isolation-audit canary 1\0%d" % seed).digest()

    def mint(self, user: int, sequence: int) -> str:
        """Return the canary ``sequence`` of ``user``.

        Args:
            user: Number of the owner, ``0`` to ``MAX_USER``.
            sequence: Number among the canaries of the owner, ``0`` to
                ``MAX_SEQUENCE``.

        Returns:
            ``LENGTH`` lower-case letters and digits; always the same for the same
            seed and arguments.

        Raises:
            UsageError: A number is out of range.
        """
        _require("user", user, MAX_USER)
        _require("sequence", sequence, MAX_SEQUENCE)
        owner = _digits(user, _NUMBER_LENGTH) + _digits(sequence, _NUMBER_LENGTH)
        return f"{MARKER}{owner}{self._tag(owner.encode())}"

    def attribute(self, body: bytes) -> Canary | None:
        """Return whose canary has this body, or None when no canary of ours has.

        Args:
            body: The ``BODY_LENGTH`` lower-case characters after the marker.
        """
        owner = body[: 2 * _NUMBER_LENGTH]
        if not hmac.compare_digest(body[len(owner) :], self._tag(owner).encode()):
            return None
        return Canary(_number(owner[:_NUMBER_LENGTH]), _number(owner[_NUMBER_LENGTH:]))

    def _tag(self, owner: bytes) -> str:
        digest = hmac.digest(self._key, owner, "sha256")
        return _digits(int.from_bytes(digest) >> (256 - _TAG_BITS), _TAG_LENGTH)


def _require(name: str, value: int, highest: int) -> None:
    if not 0 <= value <= highest:
        message = (
            f"{name}={value!r} cannot be written into a canary: it must lie between 0 "
            f"and {highest}. Number users and canaries from 0."
        )
        raise UsageError(message)


def _digits(value: int, length: int) -> str:
    return "".join(
        DIGITS[value >> shift & 31] for shift in range(5 * length - 5, -1, -5)
    )


def _number(digits: bytes) -> int:
    value = 0
    for digit in digits:
        value = value << 5 | _VALUES[digit]
    return value
