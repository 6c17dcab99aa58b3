"""Did a channel deliver what it promises: once, in order, to the right consumer?

A channel is anything that messages are sent into and received from: a queue, a stream,
a subscription, a socket. Every message is sent once and bears a name of its own, so
each receive is known by what it received, and all questions are answered by sorting:

* a message that nobody sent is a phantom; one that came twice, a duplicate; one that
  was sent and never came, lost; one that came to another consumer, misdelivered;
* message b overtook a if a was sent before b was, and b was received before a was
  (of one producer, or of all where the channel promises that);
* a bounded channel holds at least those messages whose send is over and whose receive
  has not begun;
* a consumer that waited while a message lay there that it was to receive, or while a
  producer waited to send it one, for as long as anybody can be expected to be patient,
  has missed its wake-up.

"Before" is that of intervals on one clock: one call was over when the other began.
Calls that overlap may have taken effect in either order and prove nothing. A call of
unknown outcome (cancelled, timed out) may have taken effect or not.

Source: the aspects of a queue are those of Henzinger, Sezgin and Vafeiadis,
"Aspect-oriented linearizability proofs", CONCUR 2013; what is promised under failure is
counted as in Jepsen's checker of total queues. O(n log n) in messages.
"""

from collections import defaultdict
from collections.abc import Hashable, Iterator
from itertools import chain

from test_framework.check.channels.history import (
    Cancelled,
    ChannelHistory,
    Delivery,
    Order,
    Promise,
    Receive,
    Send,
)
from test_framework.check.witness import Anomaly, Checked, Item, Link
from test_framework.core import NS_PER_MS, NS_PER_S, Verdict

_FOREVER = 1 << 62
_SHOWN = 5

Sent = dict[Hashable, Send]
Came = dict[Hashable, list[Receive]]


def check_channel(history: ChannelHistory, promise: Promise) -> Checked:
    """Judge the history of one channel.

    Args:
        history: Everything that was sent and received, the channel drained at the end:
            what was sent and not received counts as lost.
        promise: What the channel is held to.

    Returns:
        Whether the promise was kept, with the first few anomalies of each kind;
        ``unknown`` where it was not broken and fewer than half of the messages came.
    """
    sent: Sent = {send.message: send for send in history.sends}
    came: Came = defaultdict(list)
    for receive in history.receives:
        if receive.message is not None:
            came[receive.message].append(receive)
    facts = _facts(sent, came, history)
    kinds = (
        _phantoms(sent, came),
        _misdelivered(sent, came, promise),
        _duplicates(sent, came, promise),
        _lost(sent, came, history, promise),
        _overtaken(sent, came, history, promise),
        _overfull(sent, came, promise),
        _stalls(sent, came, history, promise),
    )
    found = [list(kind) for kind in kinds]
    for kind in found:
        if kind:
            facts[kind[0].name] = len(kind)
    anomalies = tuple(chain.from_iterable(kind[:_SHOWN] for kind in found))
    if anomalies:
        return Checked(
            "channel", str(promise), Verdict.INVALID, anomalies=anomalies, facts=facts
        )
    if 2 * len(came) < len(sent) or not came:
        reason = (
            f"{len(came):,} of {len(sent):,} messages came; what is promised of the "
            "others was not shown. See why so few come, or send more."
        )
        return Checked("channel", str(promise), Verdict.UNKNOWN, reason, facts=facts)
    return Checked("channel", str(promise), Verdict.VALID, facts=facts)


def _facts(
    sent: Sent,
    came: Came,
    history: ChannelHistory,
) -> dict[str, int | float | str]:
    begin = min((send.invoked for send in sent.values()), default=0)
    end = max((got[-1].completed for got in came.values()), default=begin)
    received = sum(len(got) for got in came.values())
    return {
        "sent": len(sent),
        "received": received,
        "sends cancelled": sum(send.completed is None for send in sent.values()),
        "receives cancelled": len(history.receives) - received,
        "not received": sum(
            send.message not in came for send in sent.values() if send.completed
        ),
        "messages per second": round(received * NS_PER_S / max(end - begin, 1)),
    }


def _phantoms(sent: Sent, came: Came) -> Iterator[Anomaly]:
    for message, receives in came.items():
        send = sent.get(message)
        if send is None:
            yield Anomaly(
                "phantom message",
                f"consumer {receives[0].consumer} received {message!r}, which nobody "
                "sent",
                (_received(receives[0], "r"),),
            )
        elif receives[0].completed < send.invoked:
            yield Anomaly(
                "phantom message",
                f"consumer {receives[0].consumer} received {message!r} before producer "
                f"{send.producer} sent it",
                (_received(receives[0], "r"), _sent(send, "s")),
                (Link(0, 1, "realtime", "r returned before s began"),),
            )


def _misdelivered(sent: Sent, came: Came, promise: Promise) -> Iterator[Anomaly]:
    if not promise.is_addressed:
        return
    for message, receives in came.items():
        send = sent.get(message)
        for receive in receives:
            if send is not None and send.to not in {None, receive.consumer}:
                yield Anomaly(
                    "misdelivered message",
                    f"{message!r} was sent to consumer {send.to} and consumer "
                    f"{receive.consumer} received it",
                    (_sent(send, "s"), _received(receive, "r")),
                    (Link(0, 1, "wr", f"r received what s sent to {send.to}"),),
                )


def _duplicates(sent: Sent, came: Came, promise: Promise) -> Iterator[Anomaly]:
    if promise.delivery is Delivery.AT_LEAST_ONCE:
        return
    for message, receives in came.items():
        if len(receives) > 1 and message in sent:
            yield Anomaly(
                "duplicate message",
                f"{message!r} was sent once and received {len(receives)} times",
                (
                    _sent(sent[message], "s"),
                    _received(receives[0], "r1"),
                    _received(receives[1], "r2"),
                ),
                (
                    Link(0, 1, "wr", "r1 received what s sent"),
                    Link(0, 2, "wr", "r2 received it again"),
                ),
            )


def _lost(
    sent: Sent,
    came: Came,
    history: ChannelHistory,
    promise: Promise,
) -> Iterator[Anomaly]:
    """Yield what was sent and never came, beyond what cancellation may have cost.

    A cancelled receive can have taken one message at most, so no more than that many
    are forgiven, those of the receiving consumer where messages are addressed.
    """
    if promise.delivery is Delivery.AT_MOST_ONCE:
        return
    forgiven: dict[int | None, int] = defaultdict(int)
    if promise.cancelled is Cancelled.MAY_LOSE:
        for receive in history.receives:
            if receive.message is None:
                forgiven[receive.consumer if promise.is_addressed else None] += 1
    for send in sorted(sent.values(), key=lambda send: send.invoked):
        if send.message in came or send.completed is None:
            continue
        whose = send.to if promise.is_addressed else None
        if forgiven[whose]:
            forgiven[whose] -= 1
            continue
        yield Anomaly(
            "lost message",
            f"the send of {send.message!r} by producer {send.producer} returned, and "
            "nobody ever received it",
            (_sent(send, "s"),),
        )


def _overtaken(
    sent: Sent,
    came: Came,
    history: ChannelHistory,
    promise: Promise,
) -> Iterator[Anomaly]:
    """Yield, for each message that overtook another, the one it overtook furthest.

    Two sweeps over one order: sends by completion enter, sends by invocation ask.
    """
    if promise.order is Order.UNORDERED:
        return
    began = _begun(history, promise)
    lanes: dict[Hashable, list[tuple[Send, Receive]]] = defaultdict(list)
    for message, receives in came.items():
        send = sent.get(message)
        if send is None:
            continue
        producer = send.producer if promise.order is Order.PER_PRODUCER else None
        consumer = receives[0].consumer if promise.is_addressed else None
        lanes[producer, consumer].append((send, receives[0]))
    for lane in lanes.values():
        entering = sorted(
            (pair for pair in lane if pair[0].completed is not None),
            key=lambda pair: pair[0].completed or 0,
        )
        latest: tuple[Send, Receive] | None = None
        latest_begun, place = -1, 0
        for send, receive in sorted(lane, key=lambda pair: pair[0].invoked):
            while (
                place < len(entering)
                and (entering[place][0].completed or 0) < send.invoked
            ):
                if began[id(entering[place][1])] > latest_begun:
                    latest = entering[place]
                    latest_begun = began[id(latest[1])]
                place += 1
            if latest is not None and receive.completed < latest_begun:
                yield _reordered(latest, (send, receive))


def _begun(history: ChannelHistory, promise: Promise) -> dict[int, int]:
    """Return when each receive may have taken its message at the earliest.

    Where a cancelled receive hands on to the next of the same consumer what it had
    taken, both count as one that began with the first.
    """
    began: dict[int, int] = {}
    since: dict[int, int] = {}
    for receive in history.receives:
        first = since.setdefault(receive.consumer, receive.invoked)
        began[id(receive)] = first
        if receive.message is not None or promise.cancelled is not Cancelled.RESUMES:
            del since[receive.consumer]
    return began


def _reordered(first: tuple[Send, Receive], second: tuple[Send, Receive]) -> Anomaly:
    (early, late_received), (late, early_received) = first, second
    return Anomaly(
        "reordered message",
        f"{late.message!r} overtook {early.message!r}, which was sent before it",
        (
            _sent(early, "s1"),
            _sent(late, "s2"),
            _received(early_received, "r2"),
            _received(late_received, "r1"),
        ),
        (
            Link(0, 1, "realtime", "s1 returned before s2 began"),
            Link(1, 2, "wr", "r2 received what s2 sent"),
            Link(2, 3, "realtime", "r2 returned before r1 began"),
            Link(3, 0, "wr", "r1 received what s1 sent, which had to come first"),
        ),
    )


def _overfull(sent: Sent, came: Came, promise: Promise) -> Iterator[Anomaly]:
    """Yield the first moment at which more messages were held than is promised."""
    if promise.capacity is None:
        return
    moves: list[tuple[int, int, Send]] = []
    for send in sent.values():
        if send.completed is None:
            continue
        receives = came.get(send.message)
        taken = receives[0].invoked if receives else _FOREVER
        if taken > send.completed:
            moves += [(send.completed, 1, send), (taken, -1, send)]
    held: dict[Hashable, Send] = {}
    for _, change, send in sorted(moves, key=lambda move: move[:2]):
        if change < 0:
            held.pop(send.message, None)
            continue
        held[send.message] = send
        if len(held) > promise.capacity:
            shown = tuple(held.values())[-_SHOWN:]
            yield Anomaly(
                "overfull channel",
                f"{len(held)} sends had returned whose messages nobody had begun to "
                f"receive, and the channel holds {promise.capacity}",
                tuple(_sent(each, f"s{n}") for n, each in enumerate(shown, 1)),
            )
            return


def _stalls(
    sent: Sent, came: Came, history: ChannelHistory, promise: Promise
) -> Iterator[Anomaly]:
    """Yield receives that slept beside a message, or beside a producer that had one.

    Producers wait for consumers only where the channel has a bound; elsewhere a send
    that takes long says nothing.
    """
    patience = history.patience_ns
    for sleeper in history.receives:
        if sleeper.message is None and sleeper.completed - sleeper.invoked >= patience:
            missed = _missed(sleeper, sent, came, patience, promise)
            if missed is not None:
                yield missed


def _missed(
    sleeper: Receive, sent: Sent, came: Came, patience: int, promise: Promise
) -> Anomaly | None:
    for send in sent.values():
        if send.to not in {None, sleeper.consumer}:
            continue
        end = send.completed if send.completed is not None else send.given_up
        waiting = min(end or send.invoked, sleeper.completed) - max(
            send.invoked, sleeper.invoked
        )
        if promise.capacity is not None and waiting >= patience:
            return _slept_beside_producer(sleeper, send, waiting)
        receive = came[send.message][0] if send.message in came else None
        if (
            send.completed is not None
            and send.completed + patience <= sleeper.completed
            and receive is not None
            and receive.invoked >= sleeper.completed
        ):
            return _slept_beside_message(sleeper, send, receive)
    return None


def _slept_beside_producer(sleeper: Receive, send: Send, waiting: int) -> Anomaly:
    return Anomaly(
        "lost wake-up",
        f"consumer {sleeper.consumer} waited {waiting // NS_PER_MS} ms for a message "
        f"while producer {send.producer} waited to send {send.message!r}",
        (_received(sleeper, "w"), _sent(send, "s")),
        (Link(0, 1, "concurrent", "w and s waited for each other"),),
    )


def _slept_beside_message(sleeper: Receive, send: Send, receive: Receive) -> Anomaly:
    waited = sleeper.completed - max(send.completed or 0, sleeper.invoked)
    return Anomaly(
        "lost wake-up",
        f"consumer {sleeper.consumer} waited {waited // NS_PER_MS} ms while "
        f"{send.message!r} lay in the channel; a new receive got it",
        (_received(sleeper, "w"), _sent(send, "s"), _received(receive, "r")),
        (
            Link(1, 0, "realtime", "s had returned while w waited"),
            Link(0, 2, "realtime", "w gave up before r began"),
            Link(1, 2, "wr", "r received what s sent"),
        ),
    )


def _sent(send: Send, label: str) -> Item:
    to = "" if send.to is None else f" to consumer {send.to}"
    end = "" if send.completed is not None else ", outcome unknown"
    return Item(
        label,
        f"producer {send.producer}",
        f"send {send.message!r}{to}{end}",
        send.invoked,
        send.completed,
        index=-1,
    )


def _received(receive: Receive, label: str) -> Item:
    what = "nothing" if receive.message is None else repr(receive.message)
    return Item(
        label,
        f"consumer {receive.consumer}",
        f"receive -> {what}",
        receive.invoked,
        receive.completed,
        index=-1,
    )
