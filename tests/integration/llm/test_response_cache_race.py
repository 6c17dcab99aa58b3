"""Kept answers on real Redis: a hundred users ask the same and get their own."""

import asyncio
from collections import Counter

import pytest
from redis.asyncio import Redis

from app.context import UserExecutionContext
from app.llm import ChatMessage, ModelError, Reply, ResponseCache, ToolCall
from app.llm.responses import Ask
from tests.integration.llm.conftest import user_context
from tests.integration.llm.llm_twins import KeyedWithoutUser, SharedKeys

pytestmark = [pytest.mark.integration, pytest.mark.slow]

USERS = 100
ASKED = [ChatMessage("user", "what is in my documents?")]


class Answers:
    """Answers each user with a secret of the own, after a while.

    Attributes:
        asked: How often each user was answered.
        failures: How many calls fail first.
    """

    def __init__(self, *, failures: int = 0) -> None:
        """Have answered nobody."""
        self.asked: Counter[str] = Counter()
        self.failures = failures

    def to(self, context: UserExecutionContext) -> Ask:
        """Return what asks the model for a user."""

        async def ask() -> Reply:
            self.asked[context.user_id] += 1
            await asyncio.sleep(0.01)
            if self.failures:
                self.failures -= 1
                message = "down"
                raise ModelError(message)
            call = ToolCall("c1", "write_note", {"text": context.user_id})
            return Reply(f"secret of {context.user_id}", (call,), tokens=3)

        return ask


async def _ask_all(
    cache: ResponseCache, contexts: list[UserExecutionContext], answers: Answers
) -> None:
    """Let each user ask the same three times at once, and judge what they get."""
    asking = [context for context in contexts for _ in range(3)]
    replies = await asyncio.gather(
        *(cache.get(context, ASKED, [], answers.to(context)) for context in asking)
    )
    for context, reply in zip(asking, replies, strict=True):
        assert reply.content == f"secret of {context.user_id}", "another's answer"
        assert reply.tool_calls[0].arguments == {"text": context.user_id}


async def test_same_question_has_an_answer_for_each(redis: Redis) -> None:
    """Each user is answered by one call of the own, now and from what is kept."""
    cache = ResponseCache(model="m", ttl_s=60)
    contexts, answers = [user_context(redis) for _ in range(USERS)], Answers()

    await _ask_all(cache, contexts, answers)
    await _ask_all(ResponseCache(model="m", ttl_s=60), contexts, answers)

    assert set(answers.asked.values()) == {1}
    assert len(answers.asked) == USERS


@pytest.mark.power
async def test_flight_without_user_is_caught(redis: Redis) -> None:
    """A cache that joins equal questions of two users shows one the other's secret."""
    contexts = [user_context(redis) for _ in range(4)]

    with pytest.raises(AssertionError, match="another's answer"):
        await _ask_all(KeyedWithoutUser(model="m", ttl_s=60), contexts, Answers())


@pytest.mark.power
async def test_shared_keys_are_caught(redis: Redis) -> None:
    """A keyspace that all users share hands one user's answer to the next."""
    contexts = [user_context(redis) for _ in range(4)]
    cache = SharedKeys(redis, model=f"shared {contexts[0].user_id}", ttl_s=1)
    await _ask_all(cache, contexts[:1], Answers())

    with pytest.raises(AssertionError, match="another's answer"):
        await _ask_all(cache, contexts[1:], Answers())


async def test_failure_is_not_kept(redis: Redis) -> None:
    """All who waited are told of a failure, and the next call is made."""
    cache, context = ResponseCache(model="m", ttl_s=60), user_context(redis)
    answers = Answers(failures=1)

    with pytest.raises(ModelError, match="down"):
        await _ask_all(cache, [context], answers)
    await asyncio.sleep(0.05)
    await _ask_all(cache, [context], answers)

    assert answers.asked[context.user_id] == 2


async def test_answer_depends_on_all_that_was_asked(redis: Redis) -> None:
    """Another model or another conversation is another answer."""
    context, answers = user_context(redis), Answers()
    for model, text in (("m", "a"), ("m", "b"), ("n", "a"), ("m", "a")):
        await ResponseCache(model=model, ttl_s=60).get(
            context, [ChatMessage("user", text)], [], answers.to(context)
        )

    assert answers.asked[context.user_id] == 3


async def test_answer_is_forgotten_in_time(redis: Redis) -> None:
    """Every kept answer has an end, and one that cannot be read is asked for again."""
    cache, context, answers = (
        ResponseCache(model="m", ttl_s=60),
        user_context(redis),
        Answers(),
    )
    await _ask_all(cache, [context], answers)
    (key,) = [key async for key in redis.scan_iter(f"u:{context.user_id}:*")]
    left_s = await redis.ttl(key)
    await redis.set(key, b'{"choices": [', keepttl=True)

    await _ask_all(cache, [context], answers)

    assert 0 < left_s <= 60
    assert answers.asked[context.user_id] == 2
