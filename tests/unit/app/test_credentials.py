"""Provider tokens and the flights they come with."""

import asyncio

import pytest

from app.llm import ModelError, ProviderTokens, SingleFlight
from tests.unit.app.llm_twins import ForgetsAnyToken, KeepsFailedFlight


class Issuer:
    """Issues tokens that are good for a minute.

    Attributes:
        now: The time, in seconds.
        issued: How many tokens it issued.
        error: What the next request meets.
    """

    def __init__(self) -> None:
        """Have issued none."""
        self.now = 0.0
        self.issued = 0
        self.error: Exception | None = None

    async def fetch(self) -> tuple[str, float]:
        """Issue one."""
        await asyncio.sleep(0)
        if self.error:
            error, self.error = self.error, None
            raise error
        self.issued += 1
        return f"token {self.issued}", 60.0

    def tokens(self, kind: type[ProviderTokens] = ProviderTokens) -> ProviderTokens:
        """Return a client of it."""
        return kind(self.fetch, clock=lambda: self.now, margin_s=5.0)


def _bearer(number: int) -> dict[str, str]:
    return {"authorization": f"Bearer token {number}"}


async def test_token_is_renewed_before_it_ends() -> None:
    """A token is used until five seconds before its end."""
    issuer = Issuer()
    tokens = issuer.tokens()
    assert await tokens.headers() == _bearer(1)

    issuer.now = 54.9
    assert await tokens.headers() == _bearer(1)
    issuer.now = 55.0
    assert await tokens.headers() == _bearer(2)


async def test_failed_renewal_poisons_nothing() -> None:
    """All who waited are told, each by an error of its own, and the next one succeeds."""
    issuer = Issuer()
    issuer.error = ModelError("no token")
    tokens = issuer.tokens()

    ends = await asyncio.gather(
        *(tokens.headers() for _ in range(3)), return_exceptions=True
    )

    assert [str(end) for end in ends] == ["no token"] * 3
    assert len({id(end) for end in ends}) == 3
    assert await tokens.headers() == _bearer(1)


@pytest.mark.power
async def test_kept_failure_is_seen() -> None:
    """A flight that stays after its failure poisons all that follow."""
    issuer = Issuer()
    issuer.error = ModelError("no token")
    tokens = issuer.tokens()
    tokens._flights = KeepsFailedFlight()

    for _ in range(2):
        with pytest.raises(ModelError, match="no token"):
            await tokens.headers()


async def _refuse_old(kind: type[ProviderTokens]) -> int:
    """Refuse an old token after it was renewed, and return how many were issued."""
    issuer = Issuer()
    tokens = issuer.tokens(kind)
    old = await tokens.headers()
    issuer.now = 56.0
    await tokens.headers()
    tokens.refuse(old)
    await tokens.headers()
    return issuer.issued


async def test_late_refusal_keeps_the_new_token() -> None:
    """A refusal of the token before says nothing about the one of now."""
    assert await _refuse_old(ProviderTokens) == 2


@pytest.mark.power
async def test_late_refusal_that_counts_is_seen() -> None:
    """The check above sees a client that forgets whatever it has."""
    assert await _refuse_old(ForgetsAnyToken) == 3


async def test_refused_token_is_not_used_again() -> None:
    """A token the provider refuses is renewed before its time."""
    issuer = Issuer()
    tokens = issuer.tokens()

    assert tokens.refuse(await tokens.headers())

    assert await tokens.headers() == _bearer(2)


async def test_closed_flight_tells_those_who_wait() -> None:
    """Closing cancels what is under way; who waits hears so, and is not cancelled."""
    flights: SingleFlight[str, None] = SingleFlight()
    waiting = [
        asyncio.create_task(flights.join("it", asyncio.Event().wait))  # type: ignore[arg-type]  # it never returns
        for _ in range(2)
    ]
    await asyncio.sleep(0)

    await flights.aclose()

    for end in await asyncio.gather(*waiting, return_exceptions=True):
        assert isinstance(end, ModelError)
    assert len(flights) == 0
