"""Run a twin as a service would: several users at once, on plain asyncio.

Nobody chooses orders here. The world outside takes its time, drawn from a seed, so that
the users overlap; clocks are virtual, so nobody waits for it. This is what detectors
that watch running processes are measured with.
"""

import asyncio
import builtins
import contextvars
import fnmatch
import random
import selectors
from collections.abc import Callable, Sequence
from typing import Any

from test_framework.catalogue.pattern import Pattern, Twin
from test_framework.catalogue.world import GAP_S
from test_framework.core import InternalError
from test_framework.detect import operation_scope

ANSWER_S = 5 * GAP_S
"""Virtual seconds that the world outside takes at most: so long that users overlap."""

PROMPT_S = 1e-4
"""Virtual seconds of an answer where nobody else is there; each takes so much longer."""

LIFETIME_S = 40 * ANSWER_S
"""Virtual seconds after which those who have not ended never will."""

ERROR_ODDS = 0.3
"""How often the world outside answers with an error where a pattern needs one."""

AtEnd = Callable[[Any, bool], None]
"""Gets the state, and whether there are users who will never end."""


def run_naturally(
    pattern: Pattern,
    twin: Twin = "vulnerable",
    *,
    seed: int,
    at_end: AtEnd | None = None,
) -> BaseException | None:
    """Let the users of a twin work at the same time, and return what went wrong.

    Where the pattern needs a cancellation, one task that fits is cancelled at some
    moment; where it needs an error, some answers are one.

    Args:
        pattern: Whose twin.
        twin: Which one.
        seed: Of how long the world outside takes, and of faults.
        at_end: Called inside of the loop when all users have ended or never will,
            before anything that is left is cancelled.

    Returns:
        What a user or the check raised; None when all is well.
    """
    loop = _NaturalLoop(pattern, random.Random(seed))
    try:
        return loop.run_until_complete(_visit(pattern, twin, loop, at_end))
    finally:
        loop.close()


def run_in_turn(
    pattern: Pattern, twin: Twin, users: Sequence[int]
) -> tuple[object, list[object]] | None:
    """Let users visit a twin one after the other, as ``Hosted`` says what that is.

    Args:
        pattern: Whose twin; it is hosted.
        twin: Which one.
        users: Their numbers, in order.

    Returns:
        The answer to the last visit, and what each user of the scenario reads then;
        None where a visit fails or never ends.
    """
    loop = _NaturalLoop(pattern, random.Random(0), is_prompt=True)
    try:
        return loop.run_until_complete(_in_turn(pattern, twin, users))
    finally:
        loop.close()


async def _in_turn(
    pattern: Pattern, twin: Twin, users: Sequence[int]
) -> tuple[object, list[object]] | None:
    scenario = pattern.safe if twin == "safe" else pattern.vulnerable
    visit = pattern.visit(twin)
    shown = pattern.hosted.shown if pattern.hosted else None
    state: Any = scenario.setup()
    answer: object = None
    try:
        for number in users:
            async with asyncio.timeout(LIFETIME_S):
                # A task, as each request has a context of its own.
                answer = await asyncio.create_task(visit(state, number))
            # What goes on in the background has ended when the next one comes.
            await asyncio.sleep(GAP_S)
        everybody = range(pattern.crowd)
        read = [shown(state, number) if shown else None for number in everybody]
    except Exception:  # noqa: BLE001  # what a program raises is its answer
        return None
    finally:
        await _cancel_the_rest()
    return answer, read


async def _cancel_the_rest() -> None:
    left = asyncio.all_tasks() - {asyncio.current_task()}
    for task in left:
        task.cancel()
    await asyncio.gather(*left, return_exceptions=True)


async def _visit(
    pattern: Pattern, twin: Twin, loop: "_NaturalLoop", at_end: AtEnd | None
) -> BaseException | None:
    scenario = pattern.safe if twin == "safe" else pattern.vulnerable
    state: Any = scenario.setup()
    users = []
    for number in range(scenario.users):
        with operation_scope(number):
            users.append(loop.create_task(scenario.user(state, number), name="user"))
    if pattern.needs.cancel:
        loop.cancel_one(pattern.needs.cancel)
    await asyncio.wait(users, timeout=LIFETIME_S)
    if at_end is not None:
        at_end(state, not all(task.done() for task in users))
    problem = _problem(users)
    if problem is None and scenario.check is not None:
        try:
            scenario.check(state)
        except AssertionError as exc:
            problem = exc
    await _cancel_the_rest()
    return problem


def _problem(users: "list[asyncio.Task[object]]") -> BaseException | None:
    for task in users:
        if not task.done():
            return TimeoutError(f"{task.get_coro()} never ended")
        if not task.cancelled() and task.exception() is not None:
            return task.exception()
    return None


class _NaturalLoop(asyncio.SelectorEventLoop):
    """A loop of plain asyncio whose clock jumps to the next timer.

    ``external()`` of the explorer asks its loop for an answer; here that is a wait.
    """

    def __init__(
        self, pattern: Pattern, rng: random.Random, *, is_prompt: bool = False
    ) -> None:
        self._now = 0.0
        self._is_prompt = is_prompt
        self._asked = 0
        super().__init__(_Jumping(self))
        self._rng = rng
        self._errors = pattern.needs.errors
        self._made: list[asyncio.Task[Any]] = []
        # A twin may lose exceptions; to say so is not this loop's office.
        self.set_exception_handler(lambda *_: None)

    def time(self) -> float:
        return self._now

    def jump(self, seconds: float) -> None:
        self._now += seconds

    async def external_event(self, label: str) -> None:
        self._asked += 1
        if self._is_prompt:
            # So answers come in the order in which they were asked for.
            await asyncio.sleep(self._asked * PROMPT_S)
        else:
            await asyncio.sleep(self._rng.uniform(0, ANSWER_S))
        if self._errors and self._rng.random() < ERROR_ODDS:
            raise _exception(self._rng.choice(self._errors))(label)

    def cancel_one(self, names: str) -> None:
        """Cancel a user, or a child of one, at some moment."""
        child = names.partition("/")[2]

        def strike() -> None:
            fitting = [task for task in self._made if _fits(task, child)]
            if fitting:
                self._rng.choice(fitting).cancel()

        self.call_later(self._rng.uniform(0, 2 * ANSWER_S), strike)

    def create_task(self, coro: Any, **options: Any) -> "asyncio.Task[Any]":
        task: asyncio.Task[Any] = super().create_task(coro, **options)
        self._made.append(task)
        return task

    def run_in_executor(  # type: ignore[override]  # the result is a future all the same
        self,
        executor: Any,  # noqa: ARG002  # a virtual thread is always free
        func: Callable[..., Any],
        *args: Any,
    ) -> "asyncio.Task[Any]":
        """Run a job after a wait: a thread would run while the clock jumps."""

        async def job() -> Any:
            await self.external_event("a thread")
            return contextvars.Context().run(func, *args)

        return self.create_task(job(), name="job")


def _fits(task: "asyncio.Task[Any]", child: str) -> bool:
    if task.done():
        return False
    if not child:
        return task.get_name() == "user"
    return fnmatch.fnmatchcase(getattr(task.get_coro(), "__name__", ""), child)


def _exception(name: str) -> type[Exception]:
    found: type[Exception] = getattr(builtins, name)
    return found


class _Jumping(selectors.DefaultSelector):
    """Never waits: tells its loop how long it would have."""

    def __init__(self, loop: _NaturalLoop) -> None:
        super().__init__()
        self._loop = loop

    def select(
        self, timeout: float | None = None
    ) -> "list[tuple[selectors.SelectorKey, int]]":
        ready = super().select(0)
        if timeout:
            self._loop.jump(timeout)
        elif timeout is None and not ready:
            raise InternalError(
                "A natural run waits for ever: a task that was left swallows its "
                "cancellation. Let the twin end it."
            )
        return ready
