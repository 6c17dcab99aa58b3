"""Leases that a service makes of ``SET key token NX`` itself.

Such a key may as well be a cache entry or the mark of a request that was seen before, so
a line that claims keys is taken for one that takes leases only when somebody treats them
so: who was refused asks again, or who has one deletes it. Until then nothing is said,
and no lease enters the books.

A claim belongs to the context that made it and to what that starts: a release in
``asyncio.shield`` or by a background task of the holder is no stranger's. A waiter
polls; it counts as waiting until it is late for its next question. As with other leases,
what other processes hold is not known.
"""

import asyncio
import contextvars
import itertools
import math
import time
import weakref
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Iterator
from dataclasses import dataclass
from types import FrameType, ModuleType
from typing import Any

from test_framework.detect.locks.claimed import (
    Claim,
    Site,
    tell_expiry,
    tell_left,
    tell_stranger,
    tell_unchecked,
)
from test_framework.detect.locks.leases import MAX_LEASES, server_of
from test_framework.detect.locks.ledger import Resource, Unit, Wait
from test_framework.detect.locks.patching import Patches
from test_framework.detect.locks.stacks import (
    Place,
    current_task,
    name_of,
    own_place,
    running_frames,
)
from test_framework.detect.locks.watch import Watch
from test_framework.detect.scope import context_of, current_operation

MODULE = "redis.asyncio.client"
MAX_OWN = 32
"""Claims that a context remembers as its own, the latest ones."""

MAX_LAPSED = 8
"""Claims of one key that are remembered after they ran out."""

GRACE_S = 0.5
"""A waiter is late when it has not asked for twice its last pause and this long."""

_own: contextvars.ContextVar[tuple[int, ...]] = contextvars.ContextVar(
    "isolation_claims", default=()
)
_numbers = itertools.count(1)

_Task = asyncio.Task[Any]
_After = Callable[[Any], None]
_LOCK = "redis/asyncio/lock.py"
_SOME_S = 60.0
"""For a lifetime that is not known, such as one that ends by somebody else's clock."""

_UNITS_S = {"EX": 1.0, "PX": 0.001, "EXPIRE": 1.0, "PEXPIRE": 0.001}


@dataclass(slots=True)
class _Poll:
    """A task that was refused a key."""

    resource: Resource
    number: int
    asked_s: float
    wait: Wait | None = None


class Claims:
    """Knows the keys that tasks of this process have claimed.

    Args:
        watch: Its books and alarms.
        patches: What patches redis-py.
    """

    def __init__(self, watch: Watch, patches: Patches) -> None:
        self._watch = watch
        self._patches = patches
        self._resources: dict[tuple[object, ...], Resource] = {}
        self._names: set[str] = set()
        self._sites: dict[Place, Site] = {}
        self._claims: dict[Resource, Claim] = {}
        self._lapsed: dict[Resource, deque[Claim]] = {}
        self._polls: weakref.WeakKeyDictionary[_Task, _Poll] = (
            weakref.WeakKeyDictionary()
        )
        self.watched: list[str] = []

    def patch(self, module: ModuleType) -> None:
        """Patch the clients of redis-py."""
        self.watched.append("redis SET NX")
        self._patches.replace(module.Redis, "execute_command", self._make_command)
        self._patches.replace(
            module.Pipeline, "immediate_execute_command", self._make_command
        )
        self._patches.replace(module.Pipeline, "execute", self._make_execute)

    def look(self, tasks: Iterable[_Task]) -> None:
        """Tell of leases whose task has ended, and of those without an expiry."""
        now_s = time.monotonic()
        alarms = self._watch.alarms
        alive = list(tasks)
        self._sweep()
        for claim in list(self._claims.values()):
            if not claim.site.is_lease or claim.until_s <= now_s or claim.is_told:
                continue
            tell_expiry(alarms, claim)
            is_kept = claim.task is not None or any(
                claim.number in _own_of(task) for task in alive
            )
            if not is_kept and claim.site.gives_back:
                claim.is_told = True
                tell_left(alarms, self._watch.ledger, claim)

    def _make_command(self, original: Any) -> Callable[..., Any]:
        ledger = self._watch.ledger

        def execute_command(client: Any, *args: Any, **options: Any) -> Any:
            command = original(client, *args, **options)
            if not ledger.is_open or not args:
                return command
            after = self._follow(client, args)
            return command if after is None else _followed(command, after)

        return execute_command

    def _make_execute(self, original: Any) -> Callable[..., Any]:
        ledger = self._watch.ledger

        async def execute(pipe: Any, *args: Any, **kwargs: Any) -> Any:
            if not ledger.is_open:
                return await original(pipe, *args, **kwargs)
            followed = [self._follow(pipe, words) for words, _ in pipe.command_stack]
            results = await original(pipe, *args, **kwargs)
            for after, result in zip(followed, results, strict=False):
                if after is not None and not isinstance(result, Exception):
                    after(result)
            return results

        return execute

    def _follow(self, client: Any, args: tuple[Any, ...]) -> _After | None:
        """Return what to call with the answer to a command; None when it is no matter."""
        word = str(args[0]).upper()
        if word not in _FOLLOWED or len(args) < 2:
            return None
        if word in {"SET", "SETNX"}:
            return self._claiming(client, word, args)
        if not self._names:
            return None
        first = 3 if word.startswith("EVAL") else 1
        last = None if word in {"DEL", "UNLINK"} else first + 1
        # As they are now: by the time the answer is read, somebody else's to the same
        # key may have been read before.
        found = [
            claim
            for key in args[first:last]
            if _text(key) in self._names
            and (resource := self._resources.get(_key(client, key))) is not None
            and (claim := self._claims.get(resource)) is not None
        ]
        task = current_task()
        if not found or task is None:
            return None
        if word == "GET":
            return lambda _: found[0].readers.add(task)
        if word in {"EXPIRE", "PEXPIRE"}:
            return lambda done: self._extend(found[0], word, args[2], is_done=done)
        tokens = frozenset(map(_text, args[4:])) if word.startswith("EVAL") else None
        if tokens is not None and not _deletes(args, task):
            return None
        place, own = own_place(task), _own.get()
        return lambda done: self._release(
            found, task, place, own=own, tokens=tokens, is_done=bool(done)
        )

    def _claiming(self, client: Any, word: str, args: tuple[Any, ...]) -> _After | None:
        """Follow ``SET key token NX`` or ``SETNX key token``."""
        options = [_text(one).upper() for one in args[3:]]
        task = current_task()
        if (
            task is None
            or len(args) < 3
            or (word == "SET" and ("NX" not in options or "GET" in options))
            or any(_is_lock(frame) for frame in _callers())
        ):
            return None
        resource = self._resource(client, args[1])
        poll = self._polls.get(task)
        is_again = poll is not None and poll.resource is resource
        number = poll.number if poll is not None and is_again else next(_numbers)
        own = _own.get()
        if number not in own:
            _own.set((*own[1 - MAX_OWN :], number))
        place = own_place(task)
        site = self._sites.setdefault(place, Site())
        held = self._watch.ledger.held_by.get(task)
        if held and site.is_lease and not is_again:
            self._watch.nested(held, resource, task, place.code, place.offset)
        claim = Claim(
            resource,
            number,
            weakref.ref(task),
            name_of(task),
            place,
            site,
            _text(args[2]),
            current_operation(),
            _lifetime_s(args[3:], options),
        )

        def after(is_got: object) -> None:
            if is_got:
                claim.until_s += time.monotonic()
                self._take(claim, task)
            else:
                self._refuse(claim, task)

        return after

    def _take(self, claim: Claim, task: _Task) -> None:
        poll = self._polls.pop(task, None)
        if poll is not None and poll.wait is not None:
            self._watch.unblock(poll.wait)
        self._lapse(claim.resource)
        claim.site.taken += 1
        self._claims[claim.resource] = claim
        if claim.site.is_lease:
            self._enter(claim)

    def _refuse(self, claim: Claim, task: _Task) -> None:
        now_s = time.monotonic()
        poll = self._polls.get(task)
        if poll is None or poll.resource is not claim.resource:
            if poll is not None:
                self._give_up(task, poll)
            self._sweep()
            self._polls[task] = _Poll(claim.resource, claim.number, now_s)
            return
        pause_s, poll.asked_s = now_s - poll.asked_s, now_s
        held = self._claims.get(claim.resource)
        for site in {claim.site} if held is None else {claim.site, held.site}:
            site.is_asked_again = True
            self._make_lease(site)
        waits = self._watch.ledger.waits
        if poll.wait is None or waits.get(task) is not poll.wait:
            place = claim.place
            poll.wait = self._watch.block(
                claim.resource, task, place.code, place.offset
            )
        if poll.wait is not None:
            poll.wait.until_s = now_s + 2 * pause_s + GRACE_S

    def _sweep(self) -> None:
        """Forget what tasks polled for that have ended: a wait would keep them."""
        for task, poll in list(self._polls.items()):
            if task.done():
                self._give_up(task, poll)

    def _give_up(self, task: _Task, poll: _Poll) -> None:
        self._polls.pop(task, None)
        if poll.wait is not None and self._watch.ledger.waits.get(task) is poll.wait:
            self._watch.give_up(poll.wait)

    @staticmethod
    def _extend(claim: Claim, word: str, lifetime: Any, *, is_done: object) -> None:
        if not is_done:
            return
        claim.is_late = claim.is_late or claim.until_s == math.inf
        claim.until_s = time.monotonic() + _seconds(word, lifetime)
        if claim.unit is not None:
            claim.unit.until_s = claim.until_s

    def _release(
        self,
        claims: Iterable[Claim],
        task: _Task,
        place: Place,
        *,
        own: tuple[int, ...],
        tokens: frozenset[str] | None,
        is_done: bool,
    ) -> None:
        """Note that keys were deleted, by a script if ``tokens`` were given to it."""
        alarms = self._watch.alarms
        for claim in claims:
            is_own = claim.number in own or claim.token in (tokens or ())
            if (is_done or is_own) and self._claims.get(claim.resource) is claim:
                self._lapse(claim.resource)
            lapsed = self._lapsed.get(claim.resource, deque())
            if is_own:
                if claim in lapsed:
                    lapsed.remove(claim)  # it did not run out, it was given back
                claim.site.given_back += 1
                self._make_lease(claim.site)
                tell_expiry(alarms, claim)
                if is_done and tokens is None and task not in claim.readers:
                    tell_unchecked(alarms, claim, place)
                poll = self._polls.get(task)
                if poll is not None:
                    self._give_up(task, poll)  # it lets go of what it has instead
            elif is_done and claim.task is None:
                claim.site.is_handed_over = True
            elif is_done and task not in claim.readers:
                earlier = next((one for one in lapsed if one.number in own), None)
                tell_stranger(alarms, claim, task, place, earlier)

    def _lapse(self, resource: Resource) -> None:
        """Strike the claim of a key."""
        claim = self._claims.pop(resource, None)
        if claim is None:
            return
        if claim.unit is not None:
            self._watch.ledger.take(claim.unit)
            claim.unit = None  # it would keep the task
        lapsed = self._lapsed.setdefault(resource, deque(maxlen=MAX_LAPSED))
        lapsed.append(claim)

    def _make_lease(self, site: Site) -> None:
        if site.is_lease:
            return
        site.is_lease = True
        for claim in self._claims.values():
            if claim.site is site:
                self._enter(claim)

    def _enter(self, claim: Claim) -> None:
        """Enter a claim in the books, where others may be seen to wait for it."""
        task = claim.task
        if task is not None and claim.unit is None:
            claim.unit = Unit.of(claim.resource, task, claim.place, claim)
            claim.unit.until_s = claim.until_s
            self._watch.ledger.give(claim.unit)

    def _resource(self, client: Any, key: Any) -> Resource:
        known = _key(client, key)
        found = self._resources.get(known)
        if found is None:
            if len(self._resources) >= MAX_LEASES:
                self._forget()
            found = self._resources[known] = self._watch.enrol_lease(_text(key))
            found.is_polled = True
            self._names.add(found.name)
        return found

    def _forget(self) -> None:
        """Forget the oldest half of the keys, those that nobody has before others."""
        order = sorted(
            self._resources.items(), key=lambda item: item[1] in self._claims
        )
        for known, resource in order[: MAX_LEASES // 2]:
            self._lapse(resource)
            self._lapsed.pop(resource, None)
            del self._resources[known]
        self._names = {one.name for one in self._resources.values()}


_FOLLOWED = frozenset(
    {
        "SET",
        "SETNX",
        "GET",
        "GETDEL",
        "DEL",
        "UNLINK",
        "EVAL",
        "EVALSHA",
        "EXPIRE",
        "PEXPIRE",
    }
)


async def _followed(command: Awaitable[Any], after: _After) -> Any:
    result = await command
    after(result)
    return result


def _text(key: Any) -> str:
    if isinstance(key, (bytes, bytearray, memoryview)):
        return bytes(key).decode(errors="replace")
    return str(key)


def _key(client: Any, key: Any) -> tuple[object, ...]:
    return (*server_of(client), _text(key))


def _own_of(task: _Task) -> tuple[int, ...]:
    context = context_of(task)
    return () if context is None else context.get(_own, ())


def _lifetime_s(args: tuple[Any, ...], options: list[str]) -> float:
    """Return how long a key lives by the options of its SET (s)."""
    for index, word in enumerate(options[:-1]):
        if word in {"EX", "PX"}:
            return _seconds(word, args[index + 1])
    return _SOME_S if {"EXAT", "PXAT"} & set(options) else math.inf


def _seconds(word: str, lifetime: Any) -> float:
    try:
        return float(lifetime) * _UNITS_S[word]
    except (TypeError, ValueError):
        return _SOME_S  # the server is to say what is wrong with it


def _callers() -> Iterator[FrameType]:
    task = current_task()
    return iter(()) if task is None else itertools.islice(running_frames(task), 6)


def _is_lock(frame: FrameType) -> bool:
    """Tell whether a frame is of redis-py's own lock, which ``Leases`` knows."""
    return frame.f_code.co_filename.endswith(_LOCK)


def _deletes(args: tuple[Any, ...], task: _Task) -> bool:
    """Tell whether a script deletes its key, rather than gives it more time.

    The text of ``EVALSHA`` is known to the object that sends it; where there is none,
    a release has the token for its only argument, and an extension a time as well.
    """
    if str(args[0]).upper() == "EVAL":
        return "del" in _text(args[1]).lower()
    for frame in itertools.islice(running_frames(task), 6):
        if _is_lock(frame):
            return False
        sender = frame.f_locals.get("self")
        if getattr(sender, "sha", None) == args[1]:
            return "del" in _text(getattr(sender, "script", "")).lower()
    return len(args) <= 5
