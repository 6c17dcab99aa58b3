"""A13: login limit passed by parallel attempts.

alice                           bob
                                await logins.try_password()
                                if await self.redis.get("failures") < 3:
await logins.try_password()
if await self.redis.get("failures") < 3:
                                self.guesses += 1
                                await external("hash the password")
self.guesses += 1
await external("hash the password")
                                await self.redis.add("failures", 1)
await self.redis.add("failures", 1)
-> the lock of the account was passed
"""

from test_framework.catalogue.pattern import Area, Hosted, Pattern
from test_framework.catalogue.world import Store, visits
from test_framework.explore import external


class _Logins:
    """Three guesses, then the account is locked."""

    def __init__(self) -> None:
        self.redis = Store(failures=2)
        self.guesses = 0

    async def try_password(self) -> None:
        if await self.redis.get("failures") < 3:
            self.guesses += 1
            await external("hash the password")
            await self.redis.add("failures", 1)


class _CountingLogins(_Logins):
    async def try_password(self) -> None:
        if await self.redis.add("failures", 1) <= 3:
            self.guesses += 1
            await external("hash the password")


async def _guess(logins: _Logins, user: int) -> None:  # noqa: ARG001  # one thief, many requests
    await logins.try_password()


def _one_guess_left(logins: _Logins) -> None:
    assert logins.guesses <= 1, "the lock of the account was passed"


PATTERN = Pattern(
    id="A13",
    title="login limit passed by parallel attempts",
    mechanism="All attempts read the count before one of them has failed.",
    fix=("Count the attempt first, in one command, and judge by its answer."),
    areas=(Area.USER_CONTEXT,),
    detectors=("explorer", "access", "checkers"),
    source="https://cwe.mitre.org/data/definitions/307.html",
    vulnerable=visits(_Logins, _guess, _one_guess_left),
    safe=visits(_CountingLogins, _guess, _one_guess_left),
    module=__name__,
    hosted=Hosted(shown=lambda logins, _: logins.guesses),
)
