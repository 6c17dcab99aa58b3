"""A stream behind the guards: one call, whose every end is counted and settled."""

import asyncio
import contextlib
import gc
import random
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass, field
from typing import Self

import pytest

from app.context import UserExecutionContext
from app.llm import (
    ChatMessage,
    CircuitBreaker,
    CircuitOpenError,
    LocalModel,
    ModelBusyError,
    ModelError,
    ModelGuards,
    ModelRejectedError,
    ModelUnavailableError,
    Reply,
    ResponseCache,
    Retry,
    ToolSpec,
    UserLimits,
)
from app.llm.guards import prompt_tokens
from test_framework.explore import Report, Scenario, explore, external
from tests.unit.app.exploring import USERS_ALONE, assert_found, left
from tests.unit.app.llm_twins import ClosedByCancellation, JammedByCancellation
from tests.unit.app.parts import Ledger, context_of
from tests.unit.app.stream_twins import (
    ForgetfulLedger,
    LetsGoOfTheSlot,
    RepeatsTheBeginning,
)

HELLO = [ChatMessage("user", "hello")]
PROMPT = prompt_tokens(HELLO, [])
LONGEST = 100


@dataclass
class Script(LocalModel):
    """Streams what it is told to, one item of the script a piece.

    Attributes:
        items: Texts, the reply, or an error to raise in its place; by attempt.
        asked: How often it was asked.
        open: Streams that it works on (count).
    """

    items: list[list[str | Reply | Exception]]
    asked: int = field(default=0, init=False)
    open: int = field(default=0, init=False)

    async def stream(
        self, messages: Sequence[ChatMessage], *, tools: Sequence[ToolSpec]
    ) -> AsyncGenerator[str | Reply, None]:
        """Follow the script of this attempt, the last one for all that come later."""
        assert messages == HELLO
        assert not tools
        script = self.items[min(self.asked, len(self.items) - 1)]
        self.asked += 1
        self.open += 1
        try:
            for item in script:
                await asyncio.sleep(0)
                if isinstance(item, Exception):
                    raise item
                yield item
        finally:
            self.open -= 1


DONE = Reply("ab", tokens=7)


@dataclass
class World:
    """Guards around a model, and what they count."""

    kind: type[ModelGuards] = ModelGuards
    breaker: CircuitBreaker = field(default_factory=lambda: CircuitBreaker(failures=1))
    ledger: Ledger = field(default_factory=Ledger)
    slots: UserLimits = field(default_factory=lambda: UserLimits(total=2, per_user=1))

    @property
    def guards(self) -> ModelGuards:
        """All guards but the cache; nobody waits to try again."""

        async def sleep(_seconds: float) -> None:
            await asyncio.sleep(0)

        return self.kind(
            budgets=self.ledger,
            limits=self.slots,
            breaker=self.breaker,
            retry=Retry(rng=random.Random(1), sleep=sleep),
            max_reply_tokens=LONGEST,
        )

    async def read(self, model: Script, *, most: int = 99) -> list[str | Reply]:
        """Read a stream and leave after ``most`` pieces; what it raises is swallowed."""
        pieces: list[str | Reply] = []
        stream = self.guards.stream(model, context_of("ada"), HELLO, tools=[])
        with contextlib.suppress(ModelError):
            async with contextlib.aclosing(stream):
                async for piece in stream:
                    pieces.append(piece)
                    if len(pieces) == most:
                        break
        return pieces

    def assert_clean(self) -> None:
        """Check that nothing is held any more."""
        assert self.slots.free == 2, f"{self.slots.free} of 2 slots are free"
        assert self.ledger.open == 0, f"{self.ledger.open} reservations are open"


ENDS: dict[str, tuple[list[str | Reply | Exception], int, int | None, str]] = {
    "done": (["a", "b", DONE], 99, 7, "closed"),
    "done and not told": (["a", Reply("a")], 99, None, "closed"),
    "no text": ([DONE], 99, 7, "closed"),
    "left at the reply": (["a", DONE], 2, 7, "closed"),
    "left": (["a", "b", DONE], 1, PROMPT + 1, "half-open"),
    "left later": (["a", "b\u00df", DONE], 2, PROMPT + 4, "half-open"),
    "broken off": (["a", ModelUnavailableError()], 99, PROMPT + 1, "open"),
    "cut": (["a"], 99, PROMPT + 1, "closed"),
    "nothing": ([], 99, None, "closed"),
    "down": ([ModelUnavailableError()], 99, None, "open"),
    "refused": ([ModelRejectedError()], 99, 0, "closed"),
    "busy": ([ModelBusyError("busy")], 99, 0, "closed"),
    "longer than asked for": (["x" * 999, ModelUnavailableError()], 99, None, "open"),
}
"""By end: the script, pieces that are read, tokens spent (None: all), what a probe says."""


@pytest.mark.parametrize("end", ENDS)
async def test_stream_is_settled_and_counted_however_it_ends(end: str) -> None:
    """Each end has its price and is what a probe says of the provider."""
    script, most, spent, state = ENDS[end]
    world = World(breaker=CircuitBreaker(failures=1, open_s=0))
    _open(world.breaker)

    model = Script([script])
    await world.read(model, most=most)

    assert model.open == 0, "the model still works on it"
    reserved = PROMPT + LONGEST
    assert world.ledger.charged == [(reserved, reserved if spent is None else spent)]
    assert world.breaker.state == state
    world.assert_clean()


def _open(breaker: CircuitBreaker) -> None:
    with contextlib.suppress(ModelUnavailableError), breaker.attempt():
        raise ModelUnavailableError


@pytest.mark.parametrize("number", [0, 1, 2])
async def test_call_that_asked_nobody_costs_nothing(number: int) -> None:
    """Whoever leaves the queue, or is refused by the breaker, is charged nothing."""
    world = World()
    async with world.slots.slot("ada"):
        waiting = asyncio.create_task(world.read(Script([[DONE]])))
        for _ in range(number):
            await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.wait({waiting})
    _open(world.breaker)
    await world.read(Script([[DONE]]))

    assert {used for _, used in world.ledger.charged} == {0}
    world.assert_clean()


async def test_open_breaker_refuses_a_stream() -> None:
    """A provider that is left alone is not asked."""
    world, model = World(), Script([[DONE]])
    _open(world.breaker)

    with pytest.raises(CircuitOpenError):
        await anext(world.guards.stream(model, context_of("ada"), HELLO, tools=[]))

    assert model.asked == 0


async def test_stream_without_guards_is_that_of_the_model() -> None:
    """Each guard may be left out."""
    stream = ModelGuards().stream(
        Script([["a", "b", DONE]]), context_of("ada"), HELLO, tools=[]
    )

    assert [piece async for piece in stream] == ["a", "b", DONE]


async def test_kept_answer_comes_in_one_piece_and_costs_nothing() -> None:
    """A stream that was read to its end is kept, for its user; one that was left is not."""
    ledger, model = Ledger(), Script([["a", "b", DONE]])
    guards = ModelGuards(budgets=ledger, cache=ResponseCache(model="m", ttl_s=60))
    ada, bob = context_of("ada"), context_of("bob")

    async def read(context: UserExecutionContext, most: int = 99) -> list[str]:
        stream = guards.stream(model, context, HELLO, tools=[])
        texts: list[str] = []
        async with contextlib.aclosing(stream):
            async for piece in stream:
                texts.append(piece.content if isinstance(piece, Reply) else piece)
                if len(texts) == most:
                    break
        return texts

    assert await read(ada, most=1) == ["a"]
    assert await read(ada) == ["a", "b", "ab"]
    assert await read(ada) == ["ab", "ab"]
    assert await read(bob) == ["a", "b", "ab"]
    assert model.asked == len(ledger.charged) == 3


async def _read_busy(kind: type[ModelGuards]) -> tuple[list[str | Reply], int]:
    """Read a stream whose first attempt is refused and whose second one breaks."""
    model = Script(
        [[ModelBusyError("later")], ["a", ModelBusyError("later")], ["a", DONE]]
    )
    world = World(kind)
    pieces = await world.read(model)
    world.assert_clean()
    return pieces, model.asked


async def test_stream_is_tried_again_until_its_first_piece() -> None:
    """A busy provider is asked again; a stream that breaks off later is not."""
    assert await _read_busy(ModelGuards) == (["a"], 2)


@pytest.mark.power
async def test_beginning_that_comes_twice_is_caught() -> None:
    """The check above sees guards that begin a stream anew under its reader's eyes."""
    assert await _read_busy(RepeatsTheBeginning) == (["a", "a", DONE], 3)


async def test_dropped_stream_is_closed_by_the_loop() -> None:
    """A generator that nobody closed gives everything back once it is collected."""
    world = World(breaker=CircuitBreaker(failures=1, open_s=0))
    _open(world.breaker)
    stream = world.guards.stream(
        Script([["a", DONE]]), context_of("ada"), HELLO, tools=[]
    )
    await anext(stream)
    assert world.slots.held == {"ada": 1}

    del stream
    gc.collect()
    async with asyncio.timeout(20):
        while world.ledger.open:  # noqa: ASYNC110  # nobody tells of it
            await asyncio.sleep(0)

    world.assert_clean()
    assert world.breaker.state == "half-open"
    assert len(await world.read(Script([["a", DONE]]))) == 2


class _SlowModel(LocalModel):
    """Streams the question in two pieces, each when the world outside says.

    Attributes:
        most: Streams it worked on at one time for one user, at most (count).
    """

    def __init__(self) -> None:
        self.most = 0
        self._open = {"ada": 0, "bob": 0}

    async def stream(
        self, messages: Sequence[ChatMessage], *, tools: Sequence[ToolSpec]
    ) -> AsyncGenerator[str | Reply, None]:
        assert not tools
        text = messages[-1].content
        user = text[:3]
        self._open[user] += 1
        self.most = max(self.most, self._open[user])
        try:
            for piece in (text[:3], text[3:]):
                await external("model")
                yield piece
        finally:
            self._open[user] -= 1
        yield Reply(text, tokens=1)


class _Streams:
    """Four streams of two users behind a breaker that probes; two may be left."""

    def __init__(
        self,
        *,
        kind: type[ModelGuards] = ModelGuards,
        ledger: type[Ledger] = Ledger,
        breaker: type[CircuitBreaker] = CircuitBreaker,
        is_probing: bool = True,
    ) -> None:
        self._contexts = {user: context_of(user) for user in ("ada", "bob")}
        self._world = World(kind, breaker(failures=1, open_s=0), ledger())
        self._model = _SlowModel()
        self._is_answered = not is_probing
        if is_probing:
            _open(self._world.breaker)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: object, *_: object) -> None:
        if kind is None:
            self._world.assert_clean()
            assert self._model.most <= 1, f"one user had {self._model.most} streams"
            self._world.breaker.refuse_if_open()  # no probe is missed for ever

    async def call(self, number: int) -> None:
        """Read to the end, or leave at any instant."""
        if number in {1, 2}:
            await left(self._read(number), times=number)
        else:
            await self._read(number)
        state = self._world.breaker.state
        assert (state == "closed") <= self._is_answered, "closed without an answer"

    async def _read(self, number: int) -> None:
        user = "bob" if number == 3 else "ada"
        text = f"{user} asks {number}"
        stream = self._world.guards.stream(
            self._model, self._contexts[user], [ChatMessage("user", text)], tools=[]
        )
        pieces: list[str | Reply] = []
        with contextlib.suppress(CircuitOpenError):
            async with contextlib.aclosing(stream):
                async for piece in stream:
                    pieces.append(piece)
                    self._is_answered |= isinstance(piece, Reply)
            assert pieces == [user, text[3:], Reply(text, tokens=1)]


def _explored(make: Callable[[], _Streams] = _Streams) -> Report:
    return explore(
        Scenario(make, _Streams.call, users=4),
        fidelity="await",
        cancel=USERS_ALONE,
        schedules=400,
        budget="90s",
        seed=1,
    )


@pytest.mark.slow
@pytest.mark.parametrize("state", ["half-open", "closed"])
def test_streams_leave_nothing_whoever_leaves(state: str) -> None:
    """Readers cancelled at any await leave no slot, reservation or probe behind."""
    report = _explored(lambda: _Streams(is_probing=state == "half-open"))

    assert report.witness is None, report.text()


TWINS: dict[str, tuple[Callable[[], _Streams], str]] = {
    "slot let go": (
        lambda: _Streams(kind=LetsGoOfTheSlot, is_probing=False),
        "one user had 2 streams",
    ),
    "not settled": (
        lambda: _Streams(ledger=ForgetfulLedger, is_probing=False),
        "reservations are open",
    ),
    "left probe is an answer": (
        lambda: _Streams(breaker=ClosedByCancellation),
        "closed without an answer",
    ),
}


@pytest.mark.power
@pytest.mark.parametrize("twin", TWINS)
def test_stream_without_a_protection_is_found(twin: str) -> None:
    """The same check finds what each protection is for."""
    make, words = TWINS[twin]

    assert_found(_explored(make), "assertion", words)


@pytest.mark.power
def test_probe_that_jams_the_breaker_is_found() -> None:
    """The same check finds the breaker that waits for ever for a probe that was left."""
    report = _explored(lambda: _Streams(breaker=JammedByCancellation))

    assert report.witness is not None, report.text()
    assert "CircuitOpenError" in report.text()
