"""What a channel did wrong is found, and what overlapping calls leave open is not."""

import random
from collections.abc import Sequence

import pytest

from test_framework.check.channels import (
    Cancelled,
    ChannelHistory,
    Delivery,
    Order,
    Promise,
    Receive,
    Send,
    check_channel,
)
from test_framework.core import Verdict

SOUND = ChannelHistory(
    sends=(
        Send("a1", 0, 0, 1, 2),
        Send("a2", 0, 1, 3, 4),
        Send("b1", 1, 0, 2, 5),
    ),
    receives=(
        Receive("a1", 0, 1, 3),
        Receive("a2", 1, 1, 6),
        Receive("b1", 0, 4, 7),
    ),
    patience_ns=100,
)
STRICT = Promise(order=Order.FIFO, is_addressed=True, capacity=2)


def found(
    sends: Sequence[Send], receives: Sequence[Receive], promise: Promise
) -> list[str]:
    """Return the names of the anomalies of a history."""
    history = ChannelHistory(sends, receives, patience_ns=100)
    return [one.name for one in check_channel(history, promise).anomalies]


def test_sound_history_keeps_the_strictest_promise() -> None:
    """Once, in order, addressed and bounded: all is well."""
    checked = check_channel(SOUND, STRICT)

    assert checked.verdict is Verdict.VALID
    assert checked.facts["received"] == 3


@pytest.mark.parametrize(
    ("name", "sends", "receives"),
    [
        (
            "lost message",
            [Send("a", 0, None, 1, 2), Send("b", 0, None, 3, 4)],
            [Receive("b", 0, 5, 6)],
        ),
        (
            "duplicate message",
            [Send("a", 0, None, 1, 2)],
            [Receive("a", 0, 3, 4), Receive("a", 1, 3, 4)],
        ),
        (
            "phantom message",
            [Send("a", 0, None, 1, 2)],
            [Receive("a", 0, 3, 4), Receive("z", 0, 5, 6)],
        ),
        (
            "phantom message",
            [Send("a", 0, None, 5, 6)],
            [Receive("a", 0, 1, 4)],
        ),
        (
            "reordered message",
            [Send("a", 0, None, 1, 2), Send("b", 0, None, 3, 4)],
            [Receive("b", 0, 5, 6), Receive("a", 0, 7, 8)],
        ),
        (
            "reordered message",
            [Send("a", 0, None, 1, 2), Send("b", 0, None, 3, 4)],
            [Receive("b", 1, 5, 6), Receive("a", 0, 7, 8)],
        ),
    ],
)
def test_broken_history_is_named(
    name: str, sends: list[Send], receives: list[Receive]
) -> None:
    """Each defect is found under its own name, and no other."""
    assert found(sends, receives, Promise()) == [name]


def test_message_for_another_is_misdelivered_only_if_addressed() -> None:
    """Whom a message was for counts where the channel promises it."""
    sends, receives = [Send("a", 0, 1, 1, 2)], [Receive("a", 0, 3, 4)]

    assert found(sends, receives, Promise(is_addressed=True)) == [
        "misdelivered message"
    ]
    assert found(sends, receives, Promise()) == []


def test_overlapping_receives_prove_no_order() -> None:
    """Two consumers that receive at once may have taken in either order."""
    sends = [Send("a", 0, None, 1, 2), Send("b", 0, None, 3, 4)]

    assert found(sends, [Receive("b", 1, 5, 8), Receive("a", 0, 7, 9)], Promise()) == []


def test_order_of_two_producers_counts_only_under_fifo() -> None:
    """Per producer, messages of two have no order."""
    sends = [Send("a", 0, None, 1, 2), Send("b", 1, None, 3, 4)]
    receives = [Receive("b", 0, 5, 6), Receive("a", 0, 7, 8)]

    assert found(sends, receives, Promise(order=Order.PER_PRODUCER)) == []
    assert found(sends, receives, Promise(order=Order.UNORDERED)) == []
    assert found(sends, receives, Promise(order=Order.FIFO)) == ["reordered message"]


def test_cancelled_send_may_arrive_or_not() -> None:
    """Its outcome is unknown, so both are right; twice is not."""
    sends = [Send("a", 0, None, 1, None), Send("b", 0, None, 3, 4)]
    b, a = Receive("b", 0, 5, 6), Receive("a", 0, 7, 8)

    assert found(sends, [b], Promise()) == []
    assert found(sends, [b, a], Promise()) == []
    assert found(sends, [b, a, Receive("a", 0, 9, 10)], Promise()) == [
        "duplicate message"
    ]


def test_cancelled_receive_excuses_one_loss_where_it_may_lose() -> None:
    """One cancellation can have cost one message, and only if that is admitted."""
    sends = [Send(name, 0, None, n, n) for n, name in enumerate("abc", 1)]
    receives = [Receive(None, 0, 4, 5), Receive("c", 0, 6, 7)]

    may_lose = Promise(cancelled=Cancelled.MAY_LOSE)

    assert found(sends, receives, Promise()) == ["lost message"] * 2
    assert found(sends, receives, may_lose) == ["lost message"]
    assert found(sends[1:], receives, may_lose) == []


def test_resumed_receive_began_with_the_cancelled_one() -> None:
    """What a cancelled receive had taken and the next returned has overtaken nothing."""
    sends = [Send("a", 0, None, 1, 2), Send("b", 0, None, 3, 4)]
    receives = [
        Receive(None, 0, 5, 6),
        Receive("b", 1, 7, 8),
        Receive("a", 0, 9, 10),
    ]

    assert found(sends, receives, Promise(cancelled=Cancelled.RESUMES)) == []
    assert found(sends, receives, Promise()) == ["reordered message"]


def test_delivery_decides_what_repeats_and_losses_mean() -> None:
    """At least once may repeat, at most once may lose, neither may do the other."""
    sends = [Send("a", 0, None, 1, 2), Send("b", 0, None, 3, 4)]
    twice = [Receive("a", 0, 5, 6), Receive("a", 0, 7, 8), Receive("b", 0, 9, 10)]
    once = twice[1:2]

    at_least = Promise(delivery=Delivery.AT_LEAST_ONCE)
    at_most = Promise(delivery=Delivery.AT_MOST_ONCE)

    assert found(sends, twice, at_least) == []
    assert found(sends, twice, at_most) == ["duplicate message"]
    assert found(sends, once, at_least) == ["lost message"]
    assert found(sends, once, at_most) == []


def test_too_few_messages_prove_nothing() -> None:
    """Where losing is allowed, losing nearly all is not a pass."""
    sends = [Send(n, 0, None, n, n) for n in range(1, 10)]
    history = ChannelHistory(sends, [Receive(1, 0, 10, 11)])
    silent = ChannelHistory(sends, [])

    at_most = Promise(delivery=Delivery.AT_MOST_ONCE)

    assert check_channel(history, at_most).verdict is Verdict.UNKNOWN
    assert check_channel(silent, at_most).verdict is Verdict.UNKNOWN
    assert check_channel(ChannelHistory([], []), at_most).verdict is Verdict.UNKNOWN


def test_unbuffered_channel_holds_nothing() -> None:
    """A send that returns before anybody receives has left its message somewhere."""
    sends = [Send("a", 0, None, 1, 2)]
    rendezvous = Promise(capacity=0)

    assert found(sends, [Receive("a", 0, 3, 4)], rendezvous) == ["overfull channel"]
    assert found(sends, [Receive("a", 0, 2, 4)], rendezvous) == []
    assert found(sends, [Receive("a", 0, 3, 4)], Promise(capacity=1)) == []


def test_sleeper_beside_a_message_missed_its_wake_up() -> None:
    """Waiting for long is wrong only while a message lies there that is for the sleeper."""
    sends = [Send("a", 0, 0, 10, 20)]
    later = Receive("a", 0, 140, 150)
    addressed = Promise(is_addressed=True)

    assert found(sends, [Receive(None, 0, 1, 130), later], addressed) == [
        "lost wake-up"
    ]
    assert found(sends, [Receive(None, 1, 1, 130), later], addressed) == []
    assert found(sends, [Receive(None, 0, 1, 115), later], addressed) == []
    assert found(sends, [Receive(None, 0, 20, 130), later], addressed) == [
        "lost wake-up"
    ]


def test_consumer_and_producer_that_wait_for_each_other_missed_a_wake_up() -> None:
    """With a bound, both waiting is wrong; without, a send may just take its time."""
    stuck = [Send("b", 0, None, 20, None, 150)]
    brief = [Send("b", 0, None, 20, None, 110)]
    slept = [Receive("a", 0, 2, 3), Receive(None, 0, 10, 140)]
    first = Send("a", 0, None, 1, 2)

    rendezvous, boundless = Promise(capacity=0), Promise()

    assert found([first, *stuck], slept, rendezvous) == ["lost wake-up"]
    assert found([first, *brief], slept, rendezvous) == []
    assert found([first, *stuck], slept, boundless) == []


def overtaken_pairs(history: ChannelHistory, promise: Promise) -> set[object]:
    """Return which messages overtook another, by comparing all pairs."""
    receives = {one.message: one for one in history.receives}
    return {
        later.message
        for earlier in history.sends
        for later in history.sends
        if (promise.order is Order.FIFO or earlier.producer == later.producer)
        and earlier.completed is not None
        and earlier.completed < later.invoked
        and later.message in receives
        and earlier.message in receives
        and receives[later.message].completed < receives[earlier.message].invoked
        and (
            not promise.is_addressed
            or receives[later.message].consumer == receives[earlier.message].consumer
        )
    }


def test_overtaking_is_found_as_by_comparing_all_pairs() -> None:
    """2,000 random histories of up to 12 messages: the sweep and brute force agree."""
    rng = random.Random(5)
    broken = 0
    for _ in range(2000):
        sends, receives = [], []
        for message in range(rng.randint(2, 12)):
            invoked = rng.randint(0, 20)
            completed = invoked + rng.randint(0, 4)
            sends.append(
                Send(
                    message,
                    rng.randrange(3),
                    None,
                    invoked,
                    completed if rng.random() < 0.9 else None,
                )
            )
            if rng.random() < 0.9:
                begun = invoked + rng.randint(0, 12)
                receives.append(
                    Receive(message, rng.randrange(2), begun, begun + rng.randint(1, 5))
                )
        history = ChannelHistory(sends, receives)
        promise = Promise(
            order=rng.choice([Order.FIFO, Order.PER_PRODUCER]),
            is_addressed=rng.random() < 0.5,
        )

        checked = check_channel(history, promise)

        expected = overtaken_pairs(history, promise)
        assert checked.facts.get("reordered message", 0) == len(expected)
        broken += bool(expected)
    # Else the comparison would have compared nothing with nothing.
    assert 400 < broken < 1800
