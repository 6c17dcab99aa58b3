"""Messages reach the webhook at least once, in order, whatever it does."""

import asyncio
import dataclasses
import json
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import httpx
import pytest

from test_framework.core import UsageError
from test_framework.sentinel import Memory, Notice, Tier
from test_framework.sentinel.webhook import MOST_WAITING, Courier, payload
from tests.unit.sentinel.virtual import EPOCH_S, VirtualTime

URL = "http://hooks/secret-path"


def notice(id_: str = "1", event: str = "firing") -> Notice:
    """Return a message."""
    return Notice(
        id=id_,
        event=event,
        alert="foreign-canary-in-response",
        tier=Tier.CRITICAL,
        title="a user received another user's data",
        claim="user-01 received data of user-00",
        evidence=("Let", "Then"),
        fix="mend it",
        target="http://notes",
        since=EPOCH_S,
        at=EPOCH_S + 60,
        rounds=2,
        round=7,
        history="000007.jsonl",
    )


class Receiver(httpx.AsyncBaseTransport):
    """A webhook that answers as it is told, and then with 204."""

    def __init__(self, *answers: int | Exception) -> None:
        self._answers = list(answers)
        self.got: list[str] = []

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Take one message."""
        self.got.append(json.loads(await request.aread())["id"])
        answer = self._answers.pop(0) if self._answers else 204
        if isinstance(answer, Exception):
            raise answer
        return httpx.Response(answer)


class Post:
    """A courier with what it needs."""

    def __init__(self, receiver: Receiver, *notices: Notice) -> None:
        self.memory = Memory("http://notes", outbox=list(notices))
        self.time = VirtualTime()
        self.said: list[str] = []
        self.stored: list[list[str]] = []
        self.courier = Courier(
            URL,
            self.memory,
            client=httpx.AsyncClient(transport=receiver),
            time=self.time,
            rng=random.Random(1),
            save=lambda memory: self.stored.append([n.id for n in memory.outbox]),
            say=self.said.append,
        )


async def test_messages_arrive_in_order() -> None:
    """The oldest goes first, and each is taken out of the state once it was taken."""
    receiver = Receiver()
    post = Post(receiver, notice("1"), notice("2"))

    await post.courier.flush(5)

    assert receiver.got == ["1", "2"]
    assert post.stored == [["2"], []]


@pytest.mark.parametrize(
    "failure",
    [500, 503, 429, 404, 302, httpx.ConnectError("refused"), httpx.ReadTimeout("")],
    ids=str,
)
async def test_failure_is_tried_again(failure: int | Exception) -> None:
    """Whatever speaks of the receiver's condition loses nothing and is told once."""
    receiver = Receiver(failure, failure)
    post = Post(receiver, notice("1"), notice("2"))

    await post.courier.flush(5)

    assert receiver.got == ["1", "1", "1", "2"]
    assert post.memory.totals == {"webhook_failures": 2}
    assert len(post.said) == 2
    assert "2 wait and are tried again" in post.said[0]
    assert post.said[1] == "The webhook takes messages again."


async def test_pauses_double_up_to_five_minutes() -> None:
    """Between the attempts lie 1, 2, 4 ... 300 s, less up to a half by chance."""
    receiver = Receiver(*[500] * 12)
    post = Post(receiver, notice())

    await post.courier.flush(5)

    full = sum(min(300.0, 2.0**n) for n in range(12))
    assert full / 2 <= post.time.now_s() <= full


@pytest.mark.parametrize("code", [400, 413, 422])
async def test_refused_message_does_not_block_others(code: int) -> None:
    """A message refused for its content is given up, counted and told."""
    receiver = Receiver(code)
    post = Post(receiver, notice("1"), notice("2"))

    await post.courier.flush(5)

    assert receiver.got == ["1", "2"]
    assert post.memory.totals == {"webhook_refused": 1}
    assert "it is given up" in post.said[0]


async def test_odd_text_does_not_stop_the_courier() -> None:
    """A message with half a character in it is sent like any other."""
    receiver = Receiver()
    odd = dataclasses.replace(notice("1"), claim="\ud800")

    await Post(receiver, odd, notice("2")).courier.flush(5)

    assert receiver.got == ["1", "2"]


async def test_unsent_messages_stay_stored() -> None:
    """What cannot be delivered before the end waits for the next start."""

    class Silent(Receiver):
        async def handle_async_request(self, _: httpx.Request) -> httpx.Response:
            await asyncio.Event().wait()
            raise AssertionError

    post = Post(Silent(), notice("1"))

    await post.courier.flush(0.01)

    assert [n.id for n in post.memory.outbox] == ["1"]
    assert post.said == ["Messages that wait for the next start: 1."]


@contextmanager
def running(post: Post) -> "Iterator[asyncio.Task[None]]":
    """Run a courier inside the block."""
    task = asyncio.create_task(post.courier.run())
    try:
        yield task
    finally:
        task.cancel()


async def until(claim: Callable[[], bool]) -> None:
    """Let others come until a claim holds."""
    async with asyncio.timeout(5):
        while not claim():  # noqa: ASYNC110  # what is waited for has no event
            await asyncio.sleep(0)


async def test_courier_wakes_for_what_comes() -> None:
    """A message that is put into the outbox later is sent without a restart."""
    receiver = Receiver()
    post = Post(receiver)

    with running(post) as task:
        await asyncio.sleep(0)
        post.memory.outbox.append(notice("late"))
        post.courier.wake()
        await until(lambda: receiver.got == ["late"])
        await until(lambda: not post.memory.outbox)

    await asyncio.gather(task, return_exceptions=True)


def test_full_outbox_loses_repetitions_first() -> None:
    """When too many wait, what was said before goes, and the loss is counted."""
    post = Post(
        Receiver(),
        *(notice(str(n)) for n in range(MOST_WAITING)),
        notice("again", "repeated"),
        notice("last"),
    )

    post.courier.wake()

    ids = [n.id for n in post.memory.outbox]
    assert len(ids) == MOST_WAITING
    assert "again" not in ids
    assert ids[0] == "1"
    assert ids[-1] == "last"
    assert post.memory.totals == {"webhook_dropped": 2}


async def test_address_is_never_told() -> None:
    """The address of a webhook is a secret: no sentence holds it."""
    post = Post(Receiver(500, 400), notice("1"))

    await post.courier.flush(5)

    assert post.said
    assert "secret-path" not in " ".join(post.said)


def test_other_schemes_are_refused() -> None:
    """What is no http URL is refused at the start, without the address."""
    with pytest.raises(UsageError, match="scheme 'ftp' is no http") as caught:
        Courier(
            "ftp://hooks/secret-path",
            Memory("x"),
            client=httpx.AsyncClient(),
            time=VirtualTime(),
            rng=random.Random(1),
            save=lambda _: None,
            say=lambda _: None,
        )

    assert "secret-path" not in str(caught.value)


def test_payload_is_documented_json() -> None:
    """The message is what docs/sentinel.md shows."""
    assert payload(notice()) == {
        "format": 1,
        "text": (
            "[CRITICAL] firing: foreign-canary-in-response on http://notes: "
            "user-01 received data of user-00"
        ),
        "id": "1",
        "event": "firing",
        "alert": "foreign-canary-in-response",
        "tier": "critical",
        "title": "a user received another user's data",
        "claim": "user-01 received data of user-00",
        "evidence": ["Let", "Then"],
        "fix": "mend it",
        "target": "http://notes",
        "since": "2023-11-14T22:13:20+00:00",
        "at": "2023-11-14T22:14:20+00:00",
        "rounds": 2,
        "round": 7,
        "history": "000007.jsonl",
    }
