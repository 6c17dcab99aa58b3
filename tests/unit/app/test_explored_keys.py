"""Pooled keys under every order of three requests, left at any await.

The network is the explorer's: the head of an answer and each piece of it come whenever
the scheduler says. Each of the two keys is throttled once, so requests change keys; the
clock goes on by two seconds then, which is longer than the rest.
"""

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from typing import Any, Self, cast

import pytest
from pydantic import SecretStr

from app.llm import HttpPool, ModelThrottledError, PooledKeys, Provider
from test_framework.explore import Report, Scenario, explore, external, invariant
from tests.unit.app.exploring import USERS_ALONE, assert_found
from tests.unit.app.keypool_twins import LosesLeases
from tests.unit.app.pooled_keys_twins import (
    GivesBackAtFirstByte,
    HoldsWhileWaiting,
)


class _Network:
    """Answers in pieces, and knows which keys are in use."""

    def __init__(self, *, throttles: bool) -> None:
        self.in_use: Counter[str] = Counter()
        self.skipped_s = 0.0
        self._throttles = throttles
        self._known: set[str] = set()

    @contextlib.asynccontextmanager
    async def exchange(
        self, url: str, body: object, *, headers: Mapping[str, str]
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        del url, body
        key = headers["authorization"]
        self.in_use[key] += 1
        try:
            await external("head")
            if self._throttles and key not in self._known:
                self._known.add(key)
                self.skipped_s += 2
                message = "busy"
                raise ModelThrottledError(message, retry_after_s=1)
            yield self._pieces()
        finally:
            self.in_use[key] -= 1

    async def _pieces(self) -> AsyncIterator[bytes]:
        await external("piece")
        yield b"piece"

    def keeps_limit(self) -> bool:
        return max(self.in_use.values(), default=0) <= 1


class _Service:
    """Two keys for one request each, and a provider that holds them."""

    def __init__(self, kind: type[Provider], *, throttles: bool) -> None:
        self._network = _Network(throttles=throttles)
        self._keys = PooledKeys(
            [SecretStr("first"), SecretStr("second")], requests=1, clock=self._now
        )
        # As much of a pool as the provider knows.
        network = cast("HttpPool", self._network)
        self._provider = kind("http://model.invalid", network, self._keys)

    def _now(self) -> float:
        return asyncio.get_running_loop().time() + self._network.skipped_s

    async def __aenter__(self) -> Self:
        invariant(self._network.keeps_limit)
        return self

    async def __aexit__(self, kind: object, *_: object) -> None:
        if kind is None:
            self._network.skipped_s += 60
            # Waits for ever, which is found as a deadlock, unless both came back.
            async with self._keys.lent(), self._keys.lent():
                pass

    async def ask(self, number: int) -> None:
        """Send a request and read its answer."""
        assert await self._provider.fetch("/chat", {"user": number}) == b"piece"


def _explored(
    kind: type[Provider], *, throttles: bool, cancel: str | bool = False
) -> Report:
    scenario: Scenario[Any] = Scenario(
        lambda: _Service(kind, throttles=throttles), _Service.ask, users=3
    )
    return explore(
        scenario,
        fidelity="await",
        cancel=cancel,
        schedules=300,
        budget="90s",
        seed=1,
    )


@pytest.mark.parametrize("throttles", [False, True], ids=["good", "throttled"])
@pytest.mark.slow
def test_key_has_one_request_and_comes_back(*, throttles: bool) -> None:
    """No key shows in two requests, and whoever leaves, and when, both come back."""
    report = _explored(Provider, throttles=throttles, cancel=USERS_ALONE)

    assert report.witness is None, report.text()


@pytest.mark.power
def test_key_given_back_at_first_byte_is_found() -> None:
    """A key that is given back before its stream ended shows in two requests."""
    assert_found(_explored(GivesBackAtFirstByte, throttles=False), "invariant")


@pytest.mark.power
def test_hold_and_wait_is_found() -> None:
    """Two that hold a key each and want the other's wait for ever."""
    assert_found(_explored(HoldsWhileWaiting, throttles=True), "deadlock")


@pytest.mark.power
def test_key_lost_with_a_cancelled_request_is_found(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A pool that serves a request that has left never sees the key again."""
    monkeypatch.setattr("app.llm.keys.KeyPool", LosesLeases)

    report = _explored(Provider, throttles=False, cancel=USERS_ALONE)

    assert_found(report, "deadlock")
