"""The model client over real HTTP: a hundred users, and answers that break off.

The server is a process of its own that misbehaves on request. What a hundred users get
is judged by one function, which also judges the twins.
"""

import asyncio
import contextlib
import random
from collections.abc import Sequence

import pytest

from app.llm import (
    ChatMessage,
    HttpPool,
    ModelBusyError,
    ModelError,
    ModelRejectedError,
    ModelThrottledError,
    ModelUnavailableError,
    OpenAICompatibleModel,
    Reply,
    ToolSpec,
)
from tests.integration.llm.conftest import RunningServer
from tests.integration.llm.pool_twins import WaitsWithinHttpx, unread_connections

pytestmark = [pytest.mark.integration, pytest.mark.slow]

USERS = 100
CONNECTIONS = 20
TOOLS = [ToolSpec("search_documents", "Find.", {"query": "words"})]


def asked(user: int) -> list[ChatMessage]:
    """Return a user's conversation, which only that user's answer repeats."""
    return [ChatMessage("user", f"Find CANARY{user:03} please")]


def assert_replies_are_own(replies: Sequence[tuple[int, Reply]]) -> None:
    """Check that each user was answered about the own words and no others'."""
    for user, reply in replies:
        said = f"{reply.content} {reply.tool_calls}"
        assert f"CANARY{user:03}" in said, f"user {user} was answered: {said}"
        assert said.count("CANARY") == said.count(f"CANARY{user:03}")


async def streamed(
    model: OpenAICompatibleModel,
    messages: Sequence[ChatMessage],
    tools: Sequence[ToolSpec] = (),
) -> tuple[str, Reply]:
    """Return the pieces of a streamed answer, joined, and the reply at its end."""
    text, reply = "", None
    async with contextlib.aclosing(model.stream(messages, tools=tools)) as pieces:
        async for piece in pieces:
            if isinstance(piece, Reply):
                reply = piece
            else:
                assert reply is None, "text came after the reply"
                text += piece
    assert reply is not None, "the stream ended without a reply"
    return text, reply


async def test_hundred_users_get_own_replies(
    server: RunningServer, pool: HttpPool
) -> None:
    """Whole or streamed, with tools or without, each user gets the own reply."""
    model = server.model(pool)

    async def ask(user: int) -> tuple[int, Reply]:
        tools = TOOLS if user % 2 else []
        if user % 4 < 2:
            return user, await model.complete(asked(user), tools=tools)
        text, reply = await streamed(model, asked(user), tools)
        assert text == reply.content
        return user, reply

    replies = await asyncio.gather(*map(ask, range(USERS)))

    assert_replies_are_own(replies)
    assert all(bool(reply.tool_calls) == bool(user % 2) for user, reply in replies)
    assert all(reply.tokens for _, reply in replies)
    assert (await server.counts())["concurrent"] > 1, "they came one by one"


async def _leave_and_stay(
    server: RunningServer, pool: HttpPool, *, leaving: int, staying: int
) -> list[tuple[int, Reply]]:
    """Let users take all connections and leave before their answers come.

    Returns:
        What those were answered who waited for the connections.
    """
    model = server.model(pool)

    async def stay(user: int) -> tuple[int, Reply]:
        return user, await model.complete(asked(user), tools=[])

    await server.misbehave(hold=True)
    first = [asyncio.create_task(stay(user)) for user in range(leaving)]
    await server.wait_for(leaving)
    users = range(leaving, leaving + staying)
    then = [asyncio.create_task(stay(user)) for user in users]
    await asyncio.sleep(0)
    for task in first:
        task.cancel()
    await asyncio.gather(*first, return_exceptions=True)
    # Now the answers come, those of the ones who have left as well.
    await server.misbehave()
    return list(await asyncio.gather(*then))


async def test_cancelled_requests_leave_no_answer_behind(
    server: RunningServer, pool: HttpPool
) -> None:
    """No connection that somebody left with an answer to come serves another user."""
    replies = await _leave_and_stay(server, pool, leaving=20, staying=80)

    assert_replies_are_own(replies)


@pytest.mark.power
async def test_connection_put_back_unread_is_caught(server: RunningServer) -> None:
    """With connections put back unread, users are answered what others asked."""
    pool = HttpPool(connections=4, timeout_s=5)

    with unread_connections(), pytest.raises(AssertionError, match="was answered"):
        assert_replies_are_own(
            await _leave_and_stay(server, pool, leaving=4, staying=8)
        )

    await pool.aclose()


async def _leave_at_random(
    server: RunningServer, pool: HttpPool, instants: random.Random
) -> None:
    """Let fifty users leave at random instants.

    The server takes 10 ms; they leave 0 to 40 ms after they came, in seeded order.
    """
    model = server.model(pool)
    await server.misbehave(latency_s=0.01)

    async def leave(user: int) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(instants.uniform(0, 0.04)):
                await streamed(model, asked(user))

    await asyncio.gather(*map(leave, range(50)))


async def _need_all(server: RunningServer, pool: HttpPool, *, within_s: float) -> None:
    """Check that all connections are there: nobody is answered, so each needs one."""
    model = server.model(pool)
    await server.misbehave(hold=True)
    stuck = [
        asyncio.create_task(model.complete(asked(user), tools=[]))
        for user in range(CONNECTIONS)
    ]
    try:
        await server.wait_for(CONNECTIONS, within_s=within_s)
    finally:
        for task in stuck:
            task.cancel()
        await asyncio.gather(*stuck, return_exceptions=True)


async def test_users_who_leave_at_random_take_nothing(
    server: RunningServer, pool: HttpPool
) -> None:
    """After users left at random instants, every connection serves again."""
    instants = random.Random(9)
    for _ in range(2):
        await _leave_at_random(server, pool, instants)
    await _need_all(server, pool, within_s=20)

    await server.misbehave()
    replies = await asyncio.gather(
        *(server.model(pool).complete(asked(user), tools=[]) for user in range(20))
    )

    assert_replies_are_own(list(enumerate(replies)))


@pytest.mark.power
async def test_connection_lost_to_a_cancellation_is_caught(
    server: RunningServer,
) -> None:
    """A pool whose waiters are cancelled within httpx runs out of connections.

    One connection lost is enough. A round of fifty loses three on average, so none in
    thirty rounds is not to be expected on any machine.
    """
    pool, instants = WaitsWithinHttpx(connections=CONNECTIONS), random.Random(9)
    for _ in range(30):
        await _leave_at_random(server, pool, instants)
        if pool.lost:
            break

    with pytest.raises(TimeoutError):
        await _need_all(server, pool, within_s=2)

    await pool.aclose()


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        ({"drop_after": 0}, ModelUnavailableError),
        ({"drop_after": 1}, ModelUnavailableError),
        ({"garble_after": 1}, ModelError),
        ({"stall_after": 1}, ModelUnavailableError),
        ({"status": 500}, ModelUnavailableError),
        ({"status": 400}, ModelRejectedError),
        ({"status": 429}, ModelThrottledError),
    ],
    ids=["at once", "cut", "malformed", "stalled", "500", "400", "429"],
)
async def test_broken_stream_ends_in_error(
    server: RunningServer, fault: dict[str, object], error: type[ModelError]
) -> None:
    """A stream that breaks half-way raises, and its connection serves nobody after."""
    # Short only where that is what ends the call.
    pool = HttpPool(connections=1, timeout_s=2 if "stall_after" in fault else 20)
    model = server.model(pool)
    lines = ChatMessage("user", "one\ntwo\nthree")
    await server.misbehave(**fault)

    with pytest.raises(error) as caught:
        await streamed(model, [lines])
    await server.misbehave()
    text, reply = await streamed(model, asked(7))
    await pool.aclose()

    assert type(caught.value) is error
    assert "three" not in str(caught.value)
    assert text == reply.content == "Goal: Find CANARY007 please"


async def test_stream_can_be_left_anywhere(server: RunningServer) -> None:
    """A reader that leaves after k pieces gives its only connection back, for every k."""
    pool = HttpPool(connections=1, timeout_s=5)
    model = server.model(pool)
    lines = ChatMessage("user", "one\ntwo\nthree")
    for count in range(1, 5):
        async with contextlib.aclosing(model.stream([lines], tools=[])) as pieces:
            for _ in range(count):
                await anext(pieces)

        text, _ = await streamed(model, asked(count))

        assert text == f"Goal: Find CANARY{count:03} please"
    await pool.aclose()


async def test_busy_provider_names_its_time(
    server: RunningServer, pool: HttpPool
) -> None:
    """The time of Retry-After comes with the error."""
    await server.misbehave(status=503, retry_after_s=7)

    with pytest.raises(ModelBusyError) as caught:
        await server.model(pool).complete(asked(1), tools=[])

    assert caught.value.retry_after_s == 7


async def test_endless_answer_is_refused(
    server: RunningServer, pool: HttpPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An answer larger than the limit is not read to its end."""
    monkeypatch.setattr("app.llm.pool.MAX_ANSWER_BYTES", 1_000)

    with pytest.raises(ModelError, match="more than 1000 bytes"):
        await server.model(pool).complete([ChatMessage("user", "x" * 2_000)], tools=[])
