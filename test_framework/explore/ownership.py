"""Whose canaries a user may see, and what happens when one sees another's.

Every user mints canaries and puts them into the service. Whatever the service sends to
a user is looked through; a canary of somebody who granted nothing is a failure by
itself, so that a scenario needs no assertion about contamination.
"""

import asyncio
from functools import lru_cache

from test_framework.canary import Canary, Mint, Recogniser
from test_framework.core import UsageError

_SEEDS = 8
_CANARIES = 4096


class ForeignCanaryError(AssertionError):
    """Raised in a user who was sent a canary of another user: the service is wrong."""

    failure_kind = "foreign-canary"


# The tags are HMACs: made once, not in each of thousands of runs.
_recogniser = lru_cache(_SEEDS)(Recogniser)


@lru_cache(_CANARIES)
def _mint(seed: int, user: int, sequence: int) -> str:
    return Mint(seed).mint(user, sequence)


class Ownership:
    """Mints the canaries of one run and looks for them.

    Args:
        seed: Seed of the canaries; the same in every run, so that runs are equal.
    """

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._scan = _recogniser(seed).scan
        self._minted: dict[int, int] = {}
        self._grants: set[tuple[int, int]] = set()

    def reset(self) -> None:
        """Forget what was minted and granted."""
        self._minted.clear()
        self._grants.clear()

    def mint(self, user: int) -> str:
        """Return the next canary of a user."""
        sequence = self._minted.get(user, 0)
        self._minted[user] = sequence + 1
        return _mint(self._seed, user, sequence)

    def grant(self, *, owner: int, reader: int) -> None:
        """Let ``reader`` see the canaries of ``owner`` from now on."""
        self._grants.add((owner, reader))

    def look(self, reader: int, surface: str, data: bytes) -> None:
        """Look through what a user was sent.

        Args:
            reader: Number of the user.
            surface: What it was, such as ``the body of GET /notes``.
            data: All of it.

        Raises:
            ForeignCanaryError: It holds a canary that the user must not see.
            UsageError: It holds a canary that was not minted in this run.
        """
        if not self._minted:
            return
        for sighting in self._scan(data):
            canary = sighting.canary
            if canary.sequence >= self._minted.get(canary.user, 0):
                raise UsageError(_describe_residue(canary, reader, surface))
            if canary.user != reader and (canary.user, reader) not in self._grants:
                error = ForeignCanaryError(
                    f"user[{reader}] was sent canary {canary} of user[{canary.user}] in "
                    f"{surface} ({sighting.encoding}, at byte {sighting.offset}); "
                    f"user[{canary.user}] granted user[{reader}] nothing."
                )
                _tell_loop(error)
                raise error


def _describe_residue(canary: Canary, reader: int, surface: str) -> str:
    return (
        f"user[{reader}] was sent canary {canary} in {surface}, and no such canary was "
        "minted in this run: the app kept it from an earlier run. Make the app, or what "
        "it keeps at module level, anew for each run, in the setup of the scenario."
    )


def _tell_loop(error: ForeignCanaryError) -> None:
    # The scenario may swallow the error; the loop of the explorer does not.
    loop = asyncio.get_running_loop()
    if hasattr(loop, "external_event"):
        loop.call_exception_handler({"message": "foreign canary", "exception": error})
