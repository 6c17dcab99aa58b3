"""Audit hosted twins with a real swarm: what users see of a pattern over the wire.

Each twin is a service behind real sockets (``hosting``). A swarm of canary users visits
it, a few to a room as the scenario wants it, all at one instant, for some rounds; where
the pattern needs a cancellation, one user of a room leaves in mid-request. What strikes
the state of WebSockets is visited over those. Two judges
look at what was recorded: the audit's own rules, and ``check.linear`` at the calls of
each round, whose specification is what the safe twin does for users in turn.
"""

import asyncio
import contextlib
import json
import re
import tempfile
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx

from test_framework.catalogue.matrix import AUDITS, ROUNDS, USERS
from test_framework.catalogue.pattern import TWINS, Area, Pattern, Twin
from test_framework.catalogue.sequential import READ, VISIT, InTurn
from test_framework.catalogue.wire import encode
from test_framework.catalogue.world import NAMES
from test_framework.check import (
    check_bystanders,
    check_contamination,
    check_delivery,
    check_expectations,
    check_identifiers,
    check_once,
)
from test_framework.check.linear import Call, check_linearizability
from test_framework.core import NS_PER_S, History, MonotonicClock, Verdict
from test_framework.services import Host, HostPlan, hosting, running_services
from test_framework.swarm import Events, Plan, Target, User, run_audit

FIRST_STAY_S = 0.05
"""Who leaves in mid-request in the first round has left by then."""

AT_ONCE = 4
"""Audits at a time: each waits more than it works."""

JUDGES = (
    check_contamination,
    check_identifiers,
    check_once,
    check_delivery,
    check_expectations,
    check_bystanders,
)
"""Those that look at what users saw; latencies are of the machine and not of a twin."""

NOT_LINEARIZABLE = "not-linearizable"
"""Beside the rules of the audit: no order of visits gives these answers."""


@dataclass(frozen=True, slots=True)
class Visits:
    """What was recorded of a twin.

    Attributes:
        pattern: Whose twin.
        history: All that the audit recorded.
        calls: What was asked and answered, round by round.
    """

    pattern: Pattern
    history: History
    calls: list[Call]

    def broken(self) -> set[str]:
        """Return the rules that were broken: of the audit, and ``NOT_LINEARIZABLE``."""
        rules = {sight.rule for judge in JUDGES for sight in judge(self.history)}
        model = InTurn(self.pattern)
        if model.is_sequential:
            judged = check_linearizability(self.calls, model)
            if judged.verdict is Verdict.INVALID:
                rules.add(NOT_LINEARIZABLE)
        return rules


@contextlib.contextmanager
def hosted_twins() -> Iterator[Host]:
    """Yield one worker process that serves all hosted twins, with a real Redis."""
    with (
        tempfile.TemporaryDirectory(prefix="iso-") as folder,
        running_services(("redis",)) as services,
    ):
        plan = HostPlan(
            target="test_framework.catalogue.hosting:app",
            workers=1,
            env={"PYTHONOPTIMIZE": "1", "REDIS_URL": str(services.redis_url)},
            uvicorn={"loop": "test_framework.catalogue.hosting:make_loop"},
        )
        with hosting(plan, work_dir=Path(folder)) as host:
            yield host


async def audit_twin(
    host: Host,
    pattern: Pattern,
    twin: Twin,
    *,
    users: int = USERS,
    rounds: int = ROUNDS,
    seed: int = 1,
) -> Visits:
    """Let a swarm visit a twin.

    Args:
        host: Serves the twins; see ``hosted_twins``.
        pattern: Whose twin; it is hosted.
        twin: Which one.
        users: How many users visit at once (count, >= 2).
        rounds: How often each does (count, >= 1).
        seed: Of canaries, bursts and cancellations.

    Raises:
        TargetError: The worker process ended.
    """
    crowd = _Crowd(pattern, rounds, audit=seed)
    history = History()
    await run_audit(
        Target(base_url=f"{host.url}/{pattern.id}/{twin}", name=f"{pattern.id} {twin}"),
        Plan(
            crowd.workload,
            login=crowd.login,
            users=users,
            shapes=("own-connections",),
            workload_name=pattern.id,
        ),
        seed=seed,
        history=history,
        repeat="make matrix",
    )
    host.require_alive()
    return Visits(pattern, history, crowd.calls())


class _Crowd:
    """What each user does, and what it was answered."""

    def __init__(self, pattern: Pattern, rounds: int, *, audit: int) -> None:
        self._audit = audit
        self._size = pattern.crowd
        self._leaves = bool(pattern.needs.cancel)
        self._is_live = Area.WEBSOCKET in pattern.areas
        self._rounds = rounds
        self._clock = MonotonicClock()
        self._visit_s = FIRST_STAY_S
        self._names: dict[str, str] = {}
        self._calls: list[Call] = []

    async def login(self, user: User) -> None:
        """Take a place in a room, under a name that is a canary."""
        room, number = self._place(user)
        name = user.canary("name")
        self._names[name] = NAMES[number]
        await user.http.put(f"/rooms/{room}/names/{number}", json=name)

    def _place(self, user: User) -> tuple[str, int]:
        """Return a room that no earlier audit has used, and the number in it."""
        room, number = divmod(user.index, self._size)
        return f"{self._audit}.{room}", number

    async def workload(self, user: User) -> None:
        """Visit and read, as often as there are rounds."""
        room, number = self._place(user)
        async with contextlib.AsyncExitStack() as sockets:
            line = _Line(user, f"/rooms/{room}/live/{number}", sockets)
            for which in range(self._rounds):
                place = f"/rooms/{room}/{which}"
                is_leaving = self._leaves and which % self._size == number
                stay_s = user.rng.uniform(0, self._visit_s) if is_leaving else None
                await user.rendezvous("visit")
                if self._is_live:
                    visit = line.ask(which)
                else:
                    visit = _text_of(user.http.post(f"{place}/visits/{number}"))
                if self._is_live or is_leaving:
                    # Who leaves goes before the burst, for which its time would run
                    # out, and a burst is of requests.
                    _step_out(user)
                is_answered = await self._visit(visit, place, number, stay_s)
                if not is_answered and not is_leaving:
                    # Who was let down does not come again, and waits in vain once.
                    return
                await user.rendezvous("read")
                await self._read(user, place, number)

    async def _visit(
        self,
        visit: Coroutine[Any, Any, str | None],
        place: str,
        number: int,
        stay_s: float | None,
    ) -> bool:
        """Tell whether it was answered."""
        invoked = self._clock.now_ns()
        answer = None
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(stay_s):
                answer = await visit
        if stay_s is None:
            # Who leaves later does so in the time that a visit takes on this machine.
            self._visit_s = (self._clock.now_ns() - invoked) / NS_PER_S
        self._note(VISIT, place, number, invoked, answer)
        return answer is not None

    async def _read(self, user: User, place: str, number: int) -> None:
        invoked = self._clock.now_ns()
        answer = await _text_of(user.http.get(f"{place}/shown/{number}"))
        self._note(READ, place, number, invoked, answer)

    def _note(
        self, kind: str, place: str, number: int, invoked: int, answer: str | None
    ) -> None:
        self._calls.append(
            Call(
                process=number,
                kind=kind,
                argument=number,
                result=answer,
                invoked=invoked,
                completed=None if answer is None else self._clock.now_ns(),
                key=place,
                index=len(self._calls),
            )
        )

    def calls(self) -> list[Call]:
        """Return what was recorded, with the names that users have in a specification."""
        if not self._names:
            return self._calls
        canaries = re.compile("|".join(self._names))

        def renamed(call: Call) -> Call:
            if call.result is None:
                return call
            text = canaries.sub(lambda found: self._names[found[0]], call.result)
            # Keys come in the order of the names that they have now.
            return replace(call, result=encode(json.loads(text)))

        return [renamed(call) for call in self._calls]


async def _text_of(asking: Awaitable[httpx.Response]) -> str | None:
    """Return an answer; None where there is none that says what happened."""
    answer = await asking
    return answer.text if answer.is_success else None


def _step_out(user: User) -> None:
    """Let the burst that a user stands in go without it."""
    gate, user.caller.gate = user.caller.gate, None
    if gate is not None:
        gate.excuse()


class _Line:
    """A WebSocket of a user, which is opened again when it was cut.

    Args:
        user: Whose.
        path: Where.
        sockets: Closes it at the end.
    """

    def __init__(
        self, user: User, path: str, sockets: contextlib.AsyncExitStack
    ) -> None:
        self._user, self._path, self._sockets = user, path, sockets
        self._events: Events | None = None

    async def ask(self, which: int) -> str | None:
        """Visit a round; to give up cuts the socket."""
        if self._events is None:
            opening = self._user.ws(self._path)
            self._events = await self._sockets.enter_async_context(opening)
        try:
            await self._events.send({"round": which})
            told = await self._events.receive()
        except asyncio.CancelledError:
            self._events.cut()
            self._events = None
            raise
        status = told["status"]
        self._user.expect(status == 200, f"a visit ended with {status}")
        return encode(told["content"])


def audit_twins(
    patterns: Sequence[Pattern], is_found: Callable[[Pattern, set[str]], bool]
) -> dict[str, dict[Twin, set[str]]]:
    """Return which rules both twins of each pattern break, by its id.

    Args:
        patterns: Which patterns; those that are not hosted are left out.
        is_found: Tells whether rules that the vulnerable twin broke are all that was
            hoped for; else it is audited again, up to ``AUDITS`` times.

    Raises:
        TargetError: The worker process does not start, or ended.
    """
    left = [pattern for pattern in patterns if pattern.hosted is not None]
    broken: dict[str, dict[Twin, set[str]]] = {
        pattern.id: {twin: set() for twin in TWINS} for pattern in left
    }
    with hosted_twins() as host:
        for seed in range(1, AUDITS + 1):
            for visits, twin in asyncio.run(_audit_all(host, left, seed)):
                broken[visits.pattern.id][twin] |= visits.broken()
            left = [
                one for one in left if not is_found(one, broken[one.id]["vulnerable"])
            ]
    return broken


async def _audit_all(
    host: Host, patterns: Sequence[Pattern], seed: int
) -> list[tuple[Visits, Twin]]:
    turns = asyncio.Semaphore(AT_ONCE)

    async def one(pattern: Pattern, twin: Twin) -> tuple[Visits, Twin]:
        async with turns:
            return await audit_twin(host, pattern, twin, seed=seed), twin

    return await asyncio.gather(
        *(one(pattern, twin) for pattern in patterns for twin in TWINS)
    )
