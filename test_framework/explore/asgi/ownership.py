"""Canaries of users, and the eye on everything that a user is given.

Every canary names its owner (see :mod:`test_framework.canary`), so a leak is seen
where it arrives, whoever the service believed it was talking to.
"""

import asyncio
from collections.abc import Callable
from functools import cache

from test_framework.canary import Canary, Mint, Recogniser

# The same in every run: a schedule must repeat the bytes as well.
_SEED = 0
_mint = cache(Mint(_SEED).mint)
_recogniser = Recogniser(_SEED)


class ForeignCanaryError(Exception):
    """Raised when a user is given what belongs to another.

    Attributes:
        reader: Number of the user who was given it.
        owner: Number of the user to whom it belongs.
        canary: Which canary.
        request: What was answered, such as ``GET /notes``.
        place: Where it stood, such as ``body at byte 12 (base64)``.
    """

    failure_kind = "foreign-canary"

    def __init__(self, reader: int, canary: Canary, request: str, place: str) -> None:
        super().__init__(
            f"user[{reader}] was given the canary {canary} of user[{canary.user}] by "
            f"{request}: {place}."
        )
        self.reader = reader
        self.owner = canary.user
        self.canary = canary
        self.request = request
        self.place = place


class Ownership:
    """Whose canary is whose in one run.

    Args:
        may_see: Tells whether a reader may be given canaries of an owner; None when
            each user may only see its own.
    """

    def __init__(self, may_see: Callable[[int, int], bool] | None) -> None:
        self._may_see = may_see
        self._minted: dict[int, int] = {}
        self._public: set[Canary] = set()

    def mint(self, user: int, *, is_public: bool) -> str:
        """Return a new canary of a user."""
        sequence = self._minted.get(user, 0)
        self._minted[user] = sequence + 1
        if is_public:
            self._public.add(Canary(user, sequence))
        return _mint(user, sequence)

    def require_own(self, reader: int, data: bytes, request: str, part: str) -> None:
        """Look at what a user is given.

        Args:
            reader: Number of the user.
            data: What it is given.
            request: What was asked for.
            part: Which part of the answer ``data`` is.

        Raises:
            ForeignCanaryError: Something in it belongs to another. It is told to the
                loop as well, so a user that swallows it hides nothing.
        """
        for canary, encoding, offset in _recogniser.scan(data):
            if canary.user == reader or canary in self._public:
                continue
            if self._may_see is not None and self._may_see(reader, canary.user):
                continue
            spelled = "" if encoding == "raw" else f" ({encoding})"
            error = ForeignCanaryError(
                reader, canary, request, f"{part} at byte {offset}{spelled}"
            )
            errors = getattr(asyncio.get_running_loop(), "errors", None)
            if errors is not None:
                errors.append({"message": "A user saw another's", "exception": error})
            raise error
