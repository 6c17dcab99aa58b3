"""The guards of the model with one protection removed each."""

import asyncio
import contextlib
from collections import deque
from collections.abc import Awaitable, Callable, Iterator, Mapping

from app.llm import CircuitBreaker, ModelUnavailableError, ProviderTokens, UserLimits
from app.llm.batcher import Batcher, _Batch
from app.llm.credentials import _Token
from app.llm.flight import Key, Result, SingleFlight


class ForgetsHandedOver(UserLimits):
    """Takes a waiter that was cancelled for one that never got its slot."""

    async def _acquire(self, user_id: str) -> None:
        if self._free and self._may_have(user_id) and user_id not in self._waiting:
            self._take(user_id)
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(user_id, deque()).append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            self._leave(user_id, turn)
            raise


class FirstComeFirstServed(UserLimits):
    """Gives slots to whoever came first, however many that user holds."""

    def _may_have(self, user_id: str) -> bool:
        return bool(user_id)


class AwaitsTheFlight(SingleFlight[Key, Result]):
    """Awaits the task itself, so that one waiter's cancellation is everybody's."""

    async def join(self, key: Key, work: Callable[[], Awaitable[Result]]) -> Result:
        flight = self._flights.get(key) or self._begin(key, work)
        return await flight.task


class KeepsFailedFlight(SingleFlight[Key, Result]):
    """Keeps what failed for all who come after."""

    def _forget(self, key: Key, flight: object) -> None:
        pass


class RefreshesEach(ProviderTokens):
    """Fetches a token for everyone who finds none."""

    async def headers(self) -> Mapping[str, str]:
        token = self._token
        if token is None or self._clock() >= token.good_until_s - self._margin_s:
            token = await self._renew()
        return {"authorization": f"Bearer {token.value}"}


class ForgetsAnyToken(ProviderTokens):
    """Forgets the token of now when an old one was refused."""

    def refuse(self, headers: Mapping[str, str]) -> bool:
        self._token = None
        return bool(headers)


class KeepsTokenForEver(ProviderTokens):
    """Does not look when a token ends."""

    async def _renew(self) -> _Token:
        token = await super()._renew()
        self._token = _Token(token.value, float("inf"))
        return self._token


class ByPosition(Batcher[str, str]):
    """Gives the results out in the order in which members came, gone or not."""

    async def _work(self, batch: _Batch[str, str], items: Mapping[int, str]) -> None:
        members = dict(batch.waiting)
        results = await self._process(items)
        for future, result in zip(members.values(), results.values(), strict=False):
            if not future.done():
                future.set_result(result)
        batch.waiting.clear()


class SentWithThoseWhoLeft(Batcher[str, str]):
    """Cancels a batch when any of its members leaves."""

    async def submit(self, item: str) -> str:
        batch = self._next
        try:
            return await super().submit(item)
        except asyncio.CancelledError:
            if batch.task is not None:
                batch.task.cancel()
            raise


class ManyProbes(CircuitBreaker):
    """Lets everyone through once the time has come."""

    def refuse_if_open(self) -> None:
        if self._state == "open" and not self._is_over():
            self._refuse()


class JammedByCancellation(CircuitBreaker):
    """Waits for ever for the end of a probe that was cancelled."""

    @contextlib.contextmanager
    def attempt(self) -> Iterator[None]:
        era = self._enter()
        try:
            yield
        except ModelUnavailableError:
            if era == self._era:
                self._count_failure()
            raise
        if era == self._era:
            self._count_answer()


class ClosedByCancellation(CircuitBreaker):
    """Takes the end of a cancelled probe for an answer."""

    @contextlib.contextmanager
    def attempt(self) -> Iterator[None]:
        era = self._enter()
        try:
            yield
        except ModelUnavailableError:
            if era == self._era:
                self._count_failure()
            raise
        finally:
            if era == self._era:
                self._count_answer()


class ForgetsEras(CircuitBreaker):
    """Counts the end of every call, whenever it began."""

    @contextlib.contextmanager
    def attempt(self) -> Iterator[None]:
        self._enter()
        try:
            yield
        except ModelUnavailableError:
            self._count_failure()
            raise
        self._count_answer()
