"""The watch itself: one round after the other, and what follows from each.

Rounds never overlap. After each one its symptoms are held against the alerts that
last, what must be told goes to the outbox, and the state is stored before anything is
sent, so that a crash repeats a message rather than loses it.
"""

import asyncio
import uuid
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from test_framework.core import TargetError, Verdict
from test_framework.sentinel.alerts import AlertBook, Change, Notice
from test_framework.sentinel.symptoms import find_symptoms

if TYPE_CHECKING:
    import random

    from test_framework.sentinel.rounds import Round
    from test_framework.sentinel.state import Memory
    from test_framework.sentinel.symptoms import Symptom
    from test_framework.sentinel.timing import Schedule, Timekeeper


class Auditor(Protocol):
    """Holds rounds."""

    async def hold(self, number: int, users: int) -> "Round":
        """Hold one round; what goes wrong in it is part of what it returns.

        Raises:
            UsageError: The audit file or an option is wrong.
        """
        ...

    async def drain(self) -> None:
        """Send nothing more, and wait a little for the answers under way."""
        ...


@dataclass(frozen=True, slots=True)
class Policy:
    """When somebody is told.

    Attributes:
        resolve_after: Clean rounds in a row that cure an alert (count).
        repeat_after_s: Seconds after which a lasting alert is told again.
        unknown_rounds: Rounds in a row that may prove nothing, less one (count).
        is_patient: Whether to wait for a service that was never reached.
    """

    resolve_after: int = 3
    repeat_after_s: float = 4 * 3600.0
    unknown_rounds: int = 3
    is_patient: bool = False


class Sentinel:
    """Watches one service.

    Args:
        auditor: Holds the rounds.
        memory: What is remembered; changed in place.
        schedule: When rounds are held.
        policy: When somebody is told.
        time: Instants and pauses.
        rng: Source of jitter.
        save: Stores the memory; an ``OSError`` of it is told and survived.
        find_more: Further symptoms by the rounds so far, such as trends.
        on_round: Told each round and what became of the alerts by it.
        say: Told sentences for the log.
    """

    def __init__(  # its parts are put together in one place, the command line
        self,
        auditor: Auditor,
        memory: "Memory",
        *,
        schedule: "Schedule",
        policy: Policy,
        time: "Timekeeper",
        rng: "random.Random",
        save: "Callable[[Memory], None]",
        find_more: "Callable[[list[Round]], list[Symptom]]" = lambda _: [],
        on_round: "Callable[[Round, list[Change]], None]" = lambda _, __: None,
        say: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._auditor = auditor
        self._memory = memory
        self._schedule = schedule
        self._policy = policy
        self._time = time
        self._rng = rng
        self._save = save
        self._find_more = find_more
        self._on_round = on_round
        self._say = say
        self._book = AlertBook(
            memory.alerts,
            resolve_after=policy.resolve_after,
            repeat_after_s=policy.repeat_after_s,
        )

    async def run(self, stop: asyncio.Event, *, rounds: int | None = None) -> None:
        """Hold rounds until told to stop.

        Args:
            stop: Ends the watch after the requests that are under way.
            rounds: End after so many (count); None for no end.

        Raises:
            TargetError: The service was not reached and never was before.
            UsageError: The audit file or an option is wrong.
        """
        planned_s = self._time.now_s()
        held = 0
        while not stop.is_set():
            number = self._memory.number + 1
            users = self._schedule.users_of(number)
            one = await self._hold(number, users, stop)
            if one is None:
                break
            self._require_reached(one)
            self._take_in(one)
            held += 1
            if held == rounds:
                break
            planned_s, missed = self._schedule.next_start(planned_s, self._time.now_s())
            if missed:
                self._memory.count("rounds_skipped", missed)
                self._say(f"Rounds left out, since the last took too long: {missed}.")
            pause_s = planned_s - self._time.now_s()
            await self._until(
                stop, self._time.sleep(pause_s + self._schedule.delay_s(self._rng))
            )
        self._store()

    async def _hold(
        self, number: int, users: int, stop: asyncio.Event
    ) -> "Round | None":
        """Return the next round, or None when it was broken off."""
        round_ = asyncio.create_task(
            self._auditor.hold(number, users), name=f"round-{number}"
        )
        try:
            await self._until(stop, asyncio.wait({round_}))
            if not round_.done():
                await self._auditor.drain()
        finally:
            if not round_.done():
                round_.cancel()
                await asyncio.wait({round_})
        return None if round_.cancelled() else round_.result()

    @staticmethod
    async def _until(stop: asyncio.Event, work: Coroutine[Any, Any, object]) -> None:
        """Wait for ``work`` to end or for ``stop``, whichever comes first."""
        working = asyncio.ensure_future(work)
        stopping = asyncio.ensure_future(stop.wait())
        try:
            await asyncio.wait({working, stopping}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            working.cancel()
            stopping.cancel()
            await asyncio.wait({working, stopping})

    def _require_reached(self, one: "Round") -> None:
        is_first = not (self._memory.was_reached or one.is_reached)
        if is_first and not self._policy.is_patient:
            message = (
                f"{one.reason} The service was never reached, so there is nothing to "
                "watch; pass --wait to keep trying."
            )
            raise TargetError(message)

    def _take_in(self, one: "Round") -> None:
        memory = self._memory
        memory.remember(one)
        memory.count(f"rounds {one.result}")
        if one.verdict is Verdict.VALID:
            memory.last_valid_at = one.started_at + one.seconds
        symptoms = [
            *find_symptoms(memory.rounds, unknown_rounds=self._policy.unknown_rounds),
            *self._find_more(memory.rounds),
        ]
        for symptom in symptoms:
            memory.count(f"symptoms {symptom.key} {symptom.tier}")
        now = self._time.wall_s()
        changes = self._book.observe(
            symptoms,
            now=now,
            is_conclusive=one.is_conclusive,
            is_reached=one.is_reached,
        )
        memory.outbox += [self._notice(change, one, now) for change in changes]
        self._store()
        self._on_round(one, changes)

    def _notice(self, change: Change, one: "Round", now: float) -> Notice:
        alert, symptom = change.alert, change.alert.symptom
        return Notice(
            id=uuid.uuid4().hex,
            event=change.event,
            alert=symptom.key,
            tier=symptom.tier,
            title=symptom.title,
            claim=symptom.claim,
            evidence=symptom.evidence,
            fix=symptom.fix,
            target=self._memory.target,
            since=alert.since,
            at=now,
            rounds=alert.rounds,
            round=one.number,
            history=one.history,
        )

    def _store(self) -> None:
        try:
            self._save(self._memory)
        except OSError as exc:
            self._memory.count("state_save_failures")
            self._say(
                f"The state cannot be stored ({exc.strerror or exc}); the watch goes "
                "on, and a restart would not know of what came since."
            )
