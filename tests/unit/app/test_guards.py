"""The guards in their order, and what a call is charged."""

import contextlib
from collections.abc import Sequence
from typing import Self

import pytest

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
    ToolSpec,
    UserLimits,
)
from app.llm.guards import prompt_tokens
from test_framework.explore import Report, Scenario, explore, external
from tests.unit.app.exploring import USERS_ALONE, assert_found, left
from tests.unit.app.llm_twins import ForgetsHandedOver
from tests.unit.app.parts import Ledger, context_of

HELLO = [ChatMessage("user", "hello")]


class Model(LocalModel):
    """Answers after a while, or fails.

    Attributes:
        error: What every call meets.
        tokens: What an answer costs.
        asked: How often it was asked.
    """

    def __init__(self, error: Exception | None = None, tokens: int | None = 7) -> None:
        """Have been asked never."""
        self.error = error
        self.tokens = tokens
        self.asked = 0

    async def complete(
        self, messages: Sequence[ChatMessage], *, tools: Sequence[ToolSpec]
    ) -> Reply:
        """Answer."""
        assert not tools
        self.asked += 1
        if self.error:
            raise self.error
        return Reply(messages[-1].content, tokens=self.tokens)


@pytest.mark.parametrize(
    ("model", "share"),
    [
        (Model(tokens=7), 7),
        (Model(tokens=None), None),
        (Model(ModelUnavailableError()), None),
        (Model(ModelBusyError("busy")), 0),
        (Model(ModelRejectedError()), 0),
    ],
    ids=["told", "not told", "broken off", "busy", "refused"],
)
async def test_call_is_charged_what_it_cost(model: Model, share: int | None) -> None:
    """What the provider says, nothing when it did not think, all when nobody can tell."""
    ledger = Ledger()
    guards = ModelGuards(budgets=ledger, max_reply_tokens=100)

    with contextlib.suppress(ModelError):
        await guards.complete(model, context_of("ada"), HELLO, tools=[])

    reserved = prompt_tokens(HELLO, []) + 100
    assert ledger.charged == [(reserved, reserved if share is None else share)]


async def test_open_breaker_costs_nothing() -> None:
    """A call the breaker refuses is not charged, takes no slot and asks no model."""
    ledger, model = Ledger(), Model(ModelUnavailableError())
    guards = ModelGuards(
        budgets=ledger,
        breaker=CircuitBreaker(failures=1),
        limits=UserLimits(total=2, per_user=1),
    )
    for error in (ModelUnavailableError, CircuitOpenError):
        with pytest.raises(error):
            await guards.complete(model, context_of("ada"), HELLO, tools=[])

    assert model.asked == 1
    assert ledger.charged[1][1] == 0


async def test_kept_answer_costs_nothing() -> None:
    """An answer from the cache asks neither budget nor model."""
    ledger, model, context = Ledger(), Model(), context_of("ada")
    guards = ModelGuards(
        budgets=ledger, cache=ResponseCache(model="m", ttl_s=60), limits=None
    )

    replies = [await guards.complete(model, context, HELLO, tools=[]) for _ in range(2)]

    assert [reply.content for reply in replies] == ["hello", "hello"]
    assert model.asked == len(ledger.charged) == 1
    await guards.aclose()


def test_prompt_is_bounded_by_its_bytes() -> None:
    """Every token stands for a byte at least, also in other alphabets and emoji."""
    assert prompt_tokens([ChatMessage("user", "ж" * 100)], []) >= 200
    assert prompt_tokens(HELLO, [ToolSpec("search", "Find.")]) > prompt_tokens(
        HELLO, []
    )


class _SlowModel(LocalModel):
    """Answers when the world outside says."""

    async def complete(
        self, messages: Sequence[ChatMessage], *, tools: Sequence[ToolSpec]
    ) -> Reply:
        assert not tools
        await external("model")
        return Reply(messages[-1].content, tokens=1)


class _Chain:
    """Four calls of two users through all guards; two of ada's are one question."""

    def __init__(self, limits: type[UserLimits]) -> None:
        self._ledger = Ledger()
        self._limits = limits(total=2, per_user=1)
        self._cache = ResponseCache(model="m", ttl_s=60)
        self._contexts = {user: context_of(user) for user in ("ada", "bob")}
        self._guards = ModelGuards(
            cache=self._cache,
            budgets=self._ledger,
            limits=self._limits,
            breaker=CircuitBreaker(failures=1),
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: object, *_: object) -> None:
        await self._guards.aclose()
        if kind is None:
            assert self._limits.free == 2, f"{self._limits.free} of 2 slots are free"
            assert len(self._cache._flights) == 0

    async def call(self, number: int) -> None:
        """Ask and stay, or leave at any instant."""
        if number == 2:
            await left(self._ask(number), times=2)
        else:
            await self._ask(number)

    async def _ask(self, number: int) -> None:
        user = "bob" if number == 3 else "ada"
        text = f"question {max(number, 1)} of {user}"
        question = [ChatMessage("user", text)]
        reply = await self._guards.complete(
            _SlowModel(), self._contexts[user], question, tools=[]
        )
        assert reply.content == text


def _explored(limits: type[UserLimits] = UserLimits) -> Report:
    return explore(
        Scenario(lambda: _Chain(limits), _Chain.call, users=4),
        fidelity="await",
        cancel=USERS_ALONE,
        schedules=300,
        budget="90s",
        seed=1,
    )


@pytest.mark.slow
def test_chain_is_left_clean_whoever_leaves() -> None:
    """Callers cancelled at any await leave no slot, flight or probe behind."""
    report = _explored()

    assert report.witness is None, report.text()


@pytest.mark.power
def test_chain_with_a_lost_slot_is_found() -> None:
    """The same check misses the slot that a cancelled waiter took with it."""
    assert_found(_explored(ForgetsHandedOver), "assertion", "slots are free")
