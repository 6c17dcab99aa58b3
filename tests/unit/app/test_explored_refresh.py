"""Refresh tokens under every order: one winner, a dead family after a replay, no deadlock.

The statements are the service's own, on a table in memory that locks as Postgres does.
"""

from collections.abc import Sequence

import pytest
from sqlalchemy import func, null, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from app.security import hash_refresh_token
from app.storage import RefreshTokens, Rotation
from app.storage.tables import refresh_tokens
from test_framework.explore import Report, Scenario, explore
from tests.unit.app.exploring import USERS_ALONE, assert_found
from tests.unit.app.fakes.tokens import MemoryTokens

_FAMILY = "login"
_CHAIN = ("first", "second", "third")
"""Tokens of the login; all but the last were spent on the next."""


class _Login:
    """One login with two spent tokens and a live one, and what came of presenting them.

    Attributes:
        outcomes: What those who presented one were answered.
    """

    def __init__(self, tokens: type[RefreshTokens], presented: Sequence[int]) -> None:
        self._tokens = tokens(lifetime_s=60)
        self._presented = presented
        self._sessions = MemoryTokens()
        self.outcomes: list[Rotation] = []
        for token in _CHAIN:
            self._sessions.add(token, _FAMILY, is_spent=token != _CHAIN[-1])

    async def present(self, number: int) -> None:
        """Present a token of the chain."""
        token = _CHAIN[self._presented[number]]
        async with self._sessions.for_auth() as session:
            outcome = await self._tokens.rotate(session, token)
        self.outcomes.append(outcome)

    def check(self) -> None:
        """Check that one at most won, and that nothing outlived a replay."""
        winners = [one for one in self.outcomes if one.token is not None]
        assert len(winners) <= 1, "one token was exchanged twice"
        if len(winners) < len(self.outcomes):
            live = self._sessions.live(_FAMILY)
            assert not live, "a token of the login outlived its replay"


def _explored(
    *presented: int, tokens: type[RefreshTokens] = RefreshTokens, cancel: str = ""
) -> Report:
    """Present tokens of one login at one time, by their place in its chain."""
    return explore(
        Scenario(
            lambda: _Login(tokens, presented),
            _Login.present,
            _Login.check,
            users=len(presented),
        ),
        fidelity="await",
        cancel=cancel,
        schedules=200,
        budget="90s",
        seed=1,
    )


@pytest.mark.slow
@pytest.mark.parametrize("presented", [(2, 2), (2, 0)], ids=["raced", "replayed"])
def test_token_is_exchanged_once(presented: tuple[int, ...]) -> None:
    """One at most wins, whoever is cancelled, and a replay ends the login for good."""
    report = _explored(*presented, cancel=USERS_ALONE)

    assert report.witness is None, report.text()


class _LookingTokens(RefreshTokens):
    """Looks whether a token is good, and spends it in a second statement."""

    async def rotate(self, session: AsyncSession, token: str) -> Rotation:
        columns = refresh_tokens.c
        is_mine = columns.token_hash == hash_refresh_token(token)
        known = select(columns.user_id, columns.family_id, columns.spent_at)
        row = (await session.execute(known.where(is_mine))).first()
        if row is None or row.spent_at is not None:
            return Rotation()
        spending = update(refresh_tokens).where(is_mine).values(spent_at=func.now())
        await session.execute(spending)
        successor = await self.issue(session, row.user_id, row.family_id)
        return Rotation(row.user_id, row.family_id, successor)


@pytest.mark.power
def test_token_checked_before_it_is_spent_is_found() -> None:
    """Two who look at one time both find the token good."""
    report = _explored(2, 2, tokens=_LookingTokens)

    assert_found(report, "assertion", "exchanged twice")


@pytest.mark.slow
def test_replays_of_one_login_do_not_deadlock() -> None:
    """Two who race for a token and one who replays an older one wait for no circle."""
    report = _explored(2, 2, 0)

    assert report.witness is None, report.text()


@pytest.mark.power
def test_row_locks_alone_are_found_to_deadlock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the lock of the login its tokens are locked in two orders."""
    monkeypatch.setattr("app.storage.refresh._family_lock", lambda _: null())

    assert_found(_explored(2, 2, 0), "deadlock")
