"""Fingerprint of a run's state, the same for states that differ in who is who.

The state is all that the future of the run can depend on: what the scenario made, the
modules and classes that its code names, the loop (what is ready, in ``fifo`` in which
order; timers and the time), and for every user its task with the suspended frames, its
context, its pending events and child tasks.

What users share is written first, and a user met there is numbered by its place, such
as its turn for a lock. Each of the other users is written by itself, and these writings
are sorted: equal ones belong to users that could swap places (Ip and Dill, "Better
verification through symmetry", FMSD 1996). If users share something that nobody else
has, swapping one of them is not enough; then they are written one after the other, and
nobody counts as equal.

Equal fingerprints mean that a renaming of users and objects turns one state into the
other. They are digests of 128 bits, so two different states meet with odds of n^2 / 2^129.
"""

import hashlib
import operator
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from types import CoroutineType
from typing import TYPE_CHECKING, Any

from test_framework.explore.decisions import CLOCK, CONTINUE
from test_framework.explore.endings import CutError
from test_framework.explore.names import default_name
from test_framework.explore.symmetry.crowd import Crowd
from test_framework.explore.symmetry.graph import Writer

if TYPE_CHECKING:
    import asyncio

Key = tuple[int, bytes, int]
"""Canonical name of an option: of equal keys one is as good as the other."""

_Item = tuple[int | None, Any, Any, Any]
"""Number of an option, its task or future, callback and arguments."""

_Pending = dict[int | None, list[_Item]]
"""What is ready or may arrive, by the user it belongs to."""


@dataclass(frozen=True, slots=True)
class State:
    """One state of a run.

    Attributes:
        digest: The fingerprint; equal in equal states only.
        keys: For each option its canonical name.
        is_readable: False when it holds something opaque; then no other state equals it.
    """

    digest: bytes
    keys: tuple[Key, ...]
    is_readable: bool


class UnreadableError(CutError):
    """Raised when an object of the program does not let itself be read."""


class Fingerprinter:
    """Takes the fingerprints of the states of a crowd's runs.

    Args:
        crowd: Who runs.
    """

    def __init__(self, crowd: Crowd) -> None:
        self._crowd = crowd
        self._loop = crowd.loop
        self._writer = Writer(crowd.labels, crowd.loop, crowd.departed)
        self._writer.take_as_same(Crowd)

    @property
    def opaque(self) -> dict[str, int]:
        """What could not be looked into, and how often it was met."""
        return self._writer.opaque

    def in_line(self) -> list[str]:
        """Return names of ready tasks that different users left, none if only one did.

        When all users are done the loop ends these in the order in which they became
        ready, and a fingerprint does not have that order; but in ``fifo`` it has.
        """
        loop = self._loop
        left = [n for n in loop._options if n > 0 and n not in loop.users]
        owners = {self._user_of(number) for number in left}
        return [loop.name(number) for number in left] if len(owners) > 1 else []

    def take(self, options: list[int]) -> State | None:
        """Return the state of the run at a decision.

        Args:
            options: What may go next.

        Returns:
            None while users are not the only ones to be waited for: before they start,
            and when the scenario is being left.

        Raises:
            UnreadableError: An object raised an error when it was looked at.
        """
        if not self._crowd.is_there:
            return None
        statics = self._writer.statics
        while True:
            # What a state shows for the first time may have state of its own.
            known = statics.count
            try:
                state = self._take(options)
            except Exception as exc:
                # A loop takes any other error for one of a callback, and goes on.
                raise UnreadableError(
                    f"A state of the run cannot be written down: {type(exc).__name__}: "
                    f"{exc}. Leave symmetric=True out, and please report it."
                ) from exc
            if statics.count == known:
                return state

    def _take(self, options: list[int]) -> State:
        writer, users = self._writer, self._loop.users
        writer.begin()
        pending = self._pending()
        shared = self._write_shared(
            pending, may_arrive=any(number < CLOCK for number in options)
        )
        mine: dict[int, _Part] = {}
        is_disjoint = self._write_apart(pending, mine)
        order = sorted(users, key=lambda user: mine[user][0])
        if not is_disjoint:
            for user in order:
                task = self._loop.tasks[user]
                mine[user] = self._write_user(task, pending.get(user, ()))
        parts = [shared, *(mine[user][0] for user in order)]
        digest = hashlib.blake2b(digest_size=16)
        for part in parts:
            digest.update(len(part).to_bytes(8, "little"))
            digest.update(part)
        places: dict[int, Key] = {
            number: (is_disjoint, text if is_disjoint else b"", place)
            for user, (text, inside) in mine.items()
            for number, place in zip(
                _numbers(pending.get(user, ())), inside, strict=True
            )
        }
        keys = tuple(
            places.get(number) or self._shared_key(number) for number in options
        )
        return State(digest.digest(), keys, not writer.has_opaque)

    def _shared_key(self, number: int) -> Key:
        return (-1, b"", number if number in (CONTINUE, CLOCK) else self._at[number])

    def _pending(self) -> _Pending:
        """Return what is ready or may arrive, by the user it belongs to."""
        loop = self._loop
        pending: dict[int | None, list[_Item]] = {}
        # The clock may be the last one of the options; it has nothing that is ready.
        for number, (_, callback, args) in zip(
            loop._options, loop._ready, strict=False
        ):
            thing = loop.tasks[number] if number >= 0 else args[0]
            item = (number, thing, callback, args)
            pending.setdefault(self._user_of(number), []).append(item)
        for entry in loop._externals:
            number, args = entry.event, entry.args
            if (last := loop._landings.after.get(number)) is not None:
                # A job that may not land yet.
                args = (*args, last)
            item = (number, entry.args[0], entry.callback, args)
            pending.setdefault(self._user_of(number), []).append(item)
        if len(loop.tasks) > len(loop.users) + 1:
            self._add_children(pending)
        return pending

    def _add_children(self, pending: _Pending) -> None:
        """Add the tasks that others started, as far as they still matter."""
        loop = self._loop
        places: dict[int, int] = {}
        for number, task in enumerate(loop.tasks):
            if number and number not in loop.users:
                # Later names count all of them; asyncio's own names say nothing.
                label = task.get_name()
                if label == default_name(number):
                    label = getattr(task.get_coro(), "__name__", "")
                matters = not task.done() or task._log_traceback
                parent = places.get(loop.parents[number], -1)
                item = (None, task if matters else None, label, parent)
                family = pending.setdefault(self._user_of(number), [])
                places[number] = len(family)
                family.append(item)

    def _user_of(self, number: int) -> int | None:
        """Return the user that something belongs to, None if none."""
        loop = self._loop
        number = loop.owner(number)
        while number > 0:
            if number in loop.users:
                return number
            number = loop.parents[number]
        return None

    def _write_shared(self, pending: _Pending, *, may_arrive: bool) -> bytes:
        writer, loop, crowd = self._writer, self._loop, self._crowd
        scenario = crowd.scenario
        writer.put((scenario.user, scenario.check))
        writer.put(crowd.held)
        for value in writer.statics.values():
            writer.put(value)
        # In fifo nothing arrives after a timer in the same turn.
        writer.put((loop._now, loop._readings, loop._lag_left, may_arrive))
        writer.put((loop._open_until, loop._open_readings, loop._is_clock_read))
        writer.put((loop._handler, loop._job_context, len(loop.errors)))
        writer.put((*loop.invariants, *loop.services, *loop.disconnects.items()))
        # By the executors' order, for their addresses are others in each run.
        workers = loop._workers
        writer.put((*workers._busy.values(), *workers._waiting.values()))
        writer.put(loop._landings.place)
        timers = sorted(loop._timers, key=operator.itemgetter(0, 1))
        writer.put(tuple(loop._callbacks))
        writer.put(tuple(loop._due))
        writer.put(
            tuple((when, entry) for when, _, entry in timers if not entry.is_cancelled)
        )
        self._write_items(pending.get(None, ()))
        text = writer.finish()
        self._at = {
            number: writer.numbers[id(thing)]
            for number, thing, *_ in pending.get(None, ())
            if number is not None
        }
        return text

    def _write_items(self, items: Iterable[_Item]) -> None:
        for _, thing, callback, args in items:
            self._writer.put((thing, callback, args))

    def _write_apart(self, pending: _Pending, mine: dict[int, "_Part"]) -> bool:
        """Write each user as if there were no other; tell whether that is right."""
        writer, loop, tokens = self._writer, self._loop, self._crowd.labels.tokens
        count, numbers = len(writer.met), writer.numbers
        seen: set[int] = set()
        is_disjoint = True
        alike: dict[str, _Part] = {}
        for user, token in zip(loop.users, tokens, strict=True):
            items = pending.get(user, ())
            task = loop.tasks[user]
            stage = ""
            if id(task) not in numbers and id(token) not in numbers:
                stage = _stage(task, items)
            part = alike.get(stage)
            if part is None:
                part = self._write_user(task, items)
                if stage:
                    alike[stage] = part
                own = set(map(id, writer.met[count:]))
                writer.forget(count)
            else:
                own = {id(task), id(token)}
            is_disjoint = is_disjoint and seen.isdisjoint(own)
            seen |= own
            mine[user] = part
        return is_disjoint

    def _write_user(self, task: object, items: Iterable[_Item]) -> "_Part":
        writer = self._writer
        writer.put(task)
        self._write_items(items)
        text = writer.finish()
        numbers = writer.numbers
        places = [numbers[id(item[1])] for item in items if item[0] is not None]
        return text, places


_Part = tuple[bytes, list[int]]
"""How a user is written, and where in it the things are that its options stand for."""


def _numbers(items: Iterable[_Item]) -> list[int]:
    return [number for number, *_ in items if number is not None]


def _stage(task: "asyncio.Task[Any]", items: Sequence[_Item]) -> str:
    """Name the stage of a user who is not in the program: all in one stage are alike.

    No step of such a user was made, or all were; so without a reference to it from
    elsewhere nothing can tell it from another one.
    """
    if task.done():
        is_gone = task._state == "FINISHED" and task._exception is task._result is None  # type: ignore[attr-defined]  # without marking it as seen
        return "gone" if is_gone and not items else ""
    coroutine: Any = task.get_coro()
    if len(items) != 1 or task._must_cancel or len(task._callbacks) != 1:  # type: ignore[attr-defined]  # no public way
        return ""
    if not coroutine.cr_suspended:
        return "not started"
    number, future, *_ = items[0]
    if number is None or number >= 0 or isinstance(coroutine.cr_await, CoroutineType):
        return ""
    return "not arrived" if task._fut_waiter is future else ""  # type: ignore[attr-defined]  # no public way
