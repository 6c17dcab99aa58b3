"""Conformance of a channel: nothing lost, doubled, reordered, or at the wrong door.

Half of the workers send, the others receive, each message named and sent once. Sends
and receives are cancelled underway at random. What nobody received in the end is taken
out then, which tells a message that is lost from one that only woke nobody.
"""

import dataclasses
import inspect
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, cast

from test_framework.battery.channel_room import Room, drain
from test_framework.battery.channel_scenarios import round_turn, stream_turn
from test_framework.battery.config import RaceTestConfig
from test_framework.battery.report import RaceFailure, RaceReport, common_checks
from test_framework.battery.runner import RaceRun, RaceTestRunner
from test_framework.battery.subject import Make, made, name_of
from test_framework.battery.worker import Worker
from test_framework.check.channels import (
    ChannelHistory,
    Promise,
    Receive,
    Send,
    check_channel,
)
from test_framework.check.witness import Checked
from test_framework.core import NS_PER_S, UsageError, Verdict, stream

_RARE = 0.001
# One sends, one waits for all messages, two visit.
_ROUND: dict[str, Any] = {"workers": 4, "iterations": 20, "cancellations": 0.5}


Turn = Callable[[Worker[Room]], Awaitable[None]]


class ChannelRaceTest:
    """Tests a channel under concurrent sends and receives.

    Args:
        make: Makes a fresh channel: a class or function, or a coroutine function. It
            is closed by its ``aclose`` if it has one.
        promise: What it is held to; what the channel says of itself in its attribute
            ``promise`` by default, else each message exactly once and in the order of
            its producer.
        name: What reports call it; the name of ``make`` by default.
        payload_bytes: How long each message is made (>= 0).
        rounds: How many rounds of waking up there are, each on a fresh channel (>= 0);
            none in processes, which have no other way to tell each other what came.
    """

    def __init__(
        self,
        make: Make[Any],
        promise: Promise | None = None,
        *,
        name: str | None = None,
        payload_bytes: int = 32,
        rounds: int = 10,
    ) -> None:
        self._make, self._promise = make, promise
        self._payload_bytes, self._rounds = payload_bytes, rounds
        self.name = name or name_of(make)

    async def run(self, config: RaceTestConfig | None = None) -> RaceReport:
        """Test it, and raise if it is not shown to keep its promise.

        Args:
            config: How; see ``check``.

        Raises:
            RaceFailure: It broke its promise, with the witness; or nothing is proved,
                with the reason. It is an ``AssertionError``.
            UsageError: There is no room for a producer and a consumer.
        """
        report = await self.check(config)
        if report.verdict is not Verdict.VALID:
            raise RaceFailure(report)
        return report

    async def check(self, config: RaceTestConfig | None = None) -> RaceReport:
        """Test it, and return what was found.

        Args:
            config: How: half of its ``workers`` are producers, the others consumers;
                ``iterations`` are the messages of each producer. A channel whose calls
                block is run in threads, unless processes are asked for.

        Raises:
            UsageError: There is no room for a producer and a consumer.
        """
        config = config or RaceTestConfig()
        if config.workers < 2:
            raise UsageError(
                f"workers={config.workers}: a channel has a producer and a consumer at "
                "least. Pass 2 or more."
            )
        streamed = await self._play(config, stream_turn, config.workers // 2)
        played = [streamed]
        for seed in self._round_seeds(config, streamed):
            short = dataclasses.replace(config, seed=seed, **_ROUND)
            played.append(await self._play(short, round_turn, 1))
            if played[-1].judged.verdict is Verdict.INVALID:
                break
        common = [
            check
            for one in played
            for check in common_checks(one.run, needs_overlap=one is streamed)
        ]
        return RaceReport(
            self.name,
            tuple(one.run for one in played),
            (*common, *(one.judged for one in played)),
            scenarios=("stream", *(f"round {n}" for n in range(1, len(played)))),
        )

    def _round_seeds(self, config: RaceTestConfig, streamed: "_Played") -> list[int]:
        is_sound = streamed.judged.verdict is not Verdict.INVALID
        if config.kind == "process" or not is_sound or streamed.run.hang:
            return []
        rng = stream(config.seed, "rounds")
        return [rng.getrandbits(32) for _ in range(self._rounds)]

    async def _play(
        self, config: RaceTestConfig, turn: Turn, producers: int
    ) -> "_Played":
        async with made(self._make) as channel:
            promise: Promise = (
                self._promise or getattr(channel, "promise", None) or Promise()
            )
            _require_methods(channel, self.name)
            is_blocking = not inspect.iscoroutinefunction(channel.receive)
            if is_blocking and config.kind == "task":
                config = dataclasses.replace(config, kind="thread")
            room = Room(
                channel, is_blocking, config, promise, self._payload_bytes, producers
            )
            await room.subscribe()
            run = await RaceTestRunner(config).run(turn, room)
            rest = [] if run.hang and run.hang.abandoned else await drain(room)
        judged = check_channel(_history(run, rest, room), promise)
        scenario = "stream" if turn is stream_turn else f"round {config.seed}"
        judged = dataclasses.replace(
            judged, checker=f"{scenario}: channel", facts=_with_odds(judged)
        )
        return _Played(run, judged)


def _require_methods(channel: object, name: str) -> None:
    """Check that a channel can be sent to and received from as we do it.

    Raises:
        UsageError: A method is missing, or takes other arguments.
    """
    is_async = inspect.iscoroutinefunction(getattr(channel, "receive", None))
    time: tuple[float, ...] = () if is_async else (1.0,)
    for method, own in (("send", ("message", 0)), ("receive", (0,))):
        function, arguments = getattr(channel, method, None), (*own, *time)
        if not callable(function):
            wrong = f"has no method {method}"
        elif not _takes(function, *arguments):
            wrong = f"has a method {method}{inspect.signature(function)}"
        else:
            continue
        raise UsageError(
            f"{name} {wrong}. A channel has send(message, to) and receive(consumer), "
            "where to and consumer are numbers that one without addresses may ignore, "
            "and a last argument timeout_s if they block; see Channel and "
            "BlockingChannel in test_framework.battery.channels."
        )


def _takes(function: Callable[..., object], *arguments: object) -> bool:
    try:
        inspect.signature(function).bind(*arguments)
    except TypeError:
        return False
    except ValueError:  # a function written in C does not tell
        return True
    return True


@dataclass(frozen=True, slots=True)
class _Played:
    run: RaceRun
    judged: Checked


def _with_odds(judged: Checked) -> dict[str, int | float | str]:
    """Return the facts, and how likely a fault that strikes few messages was missed."""
    odds = (1 - _RARE) ** int(judged.facts["sent"])
    return {**judged.facts, f"odds of missing 1 in {1 / _RARE:.0f}": f"{odds:.1e}"}


def _history(run: RaceRun, rest: Sequence[Receive], room: Room) -> ChannelHistory:
    sends, receives = [], []
    for journal in run.journals:
        rows = zip(
            journal.kinds,
            journal.arguments,
            journal.results,
            journal.invoked,
            journal.ended,
            journal.known,
            strict=True,
        )
        for kind, argument, result, invoked, ended, is_known in rows:
            if kind == "send":
                text, to, *_ = cast("tuple[str, int]", argument)
                whose = to if room.promise.is_addressed else None
                ends = (ended, None) if is_known else (None, ended)
                sends.append(
                    Send(room.name(text), journal.worker, whose, invoked, *ends)
                )
            else:
                name = room.name(str(result)) if is_known else None
                consumer = journal.worker - room.producers
                receives.append(Receive(name, consumer, invoked, ended))
    return ChannelHistory(
        sends, [*receives, *rest], patience_ns=int(room.patience_s * NS_PER_S)
    )
