"""What is explored: an async test, or users on one state with a check at the end.

A coroutine function is a scenario by itself: its assertions are the check. Where
tasks may be cancelled the assertions after ``gather`` are not reached; then a
``Scenario`` is better, whose check always runs, or ``invariant`` inside of the test.
"""

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from test_framework.core import UsageError
from test_framework.explore.endings import MisuseError
from test_framework.explore.faults import follows
from test_framework.explore.pools import look_for_leftovers
from test_framework.explore.schedule import Fidelity
from test_framework.explore.service import Service
from test_framework.explore.waits import calling_frame, place, source

State = TypeVar("State")
# Context managers as well, but meant to be entered by users.
_PRIMITIVES = (asyncio.Lock, asyncio.Semaphore, asyncio.Condition)

CoroutineFunction = Callable[[], Coroutine[Any, Any, object]]


@dataclass(frozen=True, slots=True)
class Scenario(Generic[State]):
    """Users that do the same thing to one state.

    Attributes:
        setup: Makes the state of one run; sync or async. An async context manager is
            entered, users and check get what it returns (itself, if that is None), and
            then it is left. Locks and their kin are not entered.
        user: What one user does, given the state and the number of the user.
        check: Raises, or returns something false but None, when the state at the end is
            wrong.
        users: How many users.
    """

    setup: Callable[[], State | Awaitable[State] | AbstractAsyncContextManager[State]]
    user: Callable[[State, int], Coroutine[Any, Any, object]]
    check: Callable[[State], object] | None = None
    users: int = 2


def main_of(
    scenario: "CoroutineFunction | Scenario[Any]", users: int | None
) -> CoroutineFunction:
    """Return the coroutine function that is task 0 of every run.

    Raises:
        UsageError: ``scenario`` is neither, or the users make no sense.
    """
    if isinstance(scenario, Scenario):
        count = scenario.users if users is None else users
        if count < 1:
            raise UsageError(f"users={count}: at least one user is needed.")
        if not inspect.iscoroutinefunction(scenario.user):
            raise UsageError(
                f"user={scenario.user!r} is not async: expected an async function of "
                "the state and the number of the user."
            )
        if inspect.iscoroutinefunction(scenario.check):
            raise UsageError(
                f"check={scenario.check!r} is async, and nothing would await it: make "
                "it a plain function of the state."
            )
        return _crowd(scenario, count)
    if users is not None:
        raise UsageError(
            f"users={users} was given with a plain test, which starts its users itself. "
            "Pass Scenario(setup, user, check), or leave users out."
        )
    if not inspect.iscoroutinefunction(scenario):
        raise UsageError(
            f"{scenario!r} is not a scenario: expected an async function without "
            "arguments, or a Scenario(setup, user, check)."
        )
    needed = [
        name
        for name, parameter in inspect.signature(scenario).parameters.items()
        if parameter.default is parameter.empty
        and parameter.kind not in {parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD}
    ]
    if needed:
        raise UsageError(
            f"{scenario!r} takes {', '.join(needed)}: a scenario has no arguments and "
            "makes its state in its body. In pytest, @pytest.mark.explore fills in "
            "fixtures; or pass Scenario(setup, user, check)."
        )
    return scenario


def _crowd(scenario: Scenario[Any], count: int) -> CoroutineFunction:
    async def main() -> None:
        # For the search: what fails meanwhile is no finding about orders of users.
        loop: Any = asyncio.get_running_loop()
        loop.is_setting_up = True
        state = scenario.setup()
        if inspect.isawaitable(state):
            state = await state
        if is_entered(state):
            async with state as entered:
                loop.is_setting_up = False
                await _run_users(scenario, state if entered is None else entered, count)
        else:
            loop.is_setting_up = False
            await _run_users(scenario, state, count)

    return main


def is_entered(state: Any) -> bool:
    """Tell whether what ``setup`` returned is entered before the users come."""
    return isinstance(state, AbstractAsyncContextManager) and not isinstance(
        state, _PRIMITIVES
    )


async def _run_users(scenario: Scenario[Any], state: Any, count: int) -> None:
    tasks = [
        asyncio.create_task(arrive(scenario.user, state, n), name=f"user[{n}]")
        for n in range(count)
    ]
    results = await asyncio.gather(*tasks, return_exceptions=True)
    await conclude(scenario, state, results)


async def conclude(
    scenario: Scenario[Any], state: Any, results: Iterable[object]
) -> None:
    """Raise what users raised, and check the state.

    Args:
        scenario: Whose check is made.
        state: What the users worked on.
        results: What each user returned or raised, in the order of their numbers.
    """
    # Without a fault nobody may be cancelled: somebody else's clean-up did it.
    was_struck = bool(getattr(asyncio.get_running_loop(), "cancelled", None))
    errors = [
        result
        for result in results
        if isinstance(result, BaseException)
        and not (isinstance(result, asyncio.CancelledError) and was_struck)
    ]
    for error in errors:
        if not follows(error, (TimeoutError, asyncio.CancelledError)):
            # What a client makes of a broken connection is a consequence as well.
            await look_for_leftovers()
            raise error
    for service in getattr(asyncio.get_running_loop(), "services", ()):
        await service.settle()
    await look_for_leftovers()
    # What a fault may have caused does not excuse a wrong state.
    if scenario.check is not None:
        result = scenario.check(state)
        if inspect.isawaitable(result):
            raise MisuseError(
                f"check={scenario.check!r} is async, and nothing would await it: make it "
                "a plain function of the state."
            )
        if is_broken(result):
            raise AssertionError(f"The check returned {result!r}.")
    for error in errors:
        raise error


async def arrive(
    user: Callable[[Any, Any], Coroutine[Any, Any, object]],
    state: Any,
    number: object,
) -> None:
    """Come when the world outside says so, and do what a user does."""
    # In fifo users would start in order of their numbers; requests do not.
    # Not by external(), which may be answered with an error.
    loop: Any = asyncio.get_running_loop()
    is_fifo = getattr(loop, "fidelity", None) is Fidelity.FIFO
    if is_fifo and not isinstance(state, Service):
        await loop.external_event("arrival")
    await user(state, number)


async def external(label: str = "answer") -> None:
    """Wait for the world outside: a database, a socket, a human.

    Under the explorer the answer comes whenever the scheduler says, in every fidelity;
    elsewhere it is ``asyncio.sleep(0)``.

    Args:
        label: What is asked for; shown in witnesses.
    """
    loop = asyncio.get_running_loop()
    event = getattr(loop, "external_event", None)
    if event is None:
        await asyncio.sleep(0)
    else:
        await event(label)


def invariant(holds: Callable[[], object]) -> None:
    """Check something after every step of the run from now on.

    Args:
        holds: Raises, or returns something false but None, when it is broken; must not
            await and must change nothing. Without the explorer it is called once.

    Raises:
        AssertionError: It does not hold now, and the explorer is not running.
        MisuseError: It is async.
    """
    if inspect.iscoroutinefunction(holds):
        frame = calling_frame()
        raise MisuseError(
            f"{place(frame)} ({source(frame)}) registers an async invariant, and an "
            "invariant must not await: nothing would run it between two steps. Make it "
            "a plain function."
        )
    registered = getattr(asyncio.get_running_loop(), "invariants", None)
    if registered is not None:
        registered.append(holds)
    elif is_broken(holds()):
        raise AssertionError(f"invariant {holds!r} does not hold")


def is_broken(result: object) -> bool:
    """Tell whether an invariant returned that it does not hold."""
    return result is not None and not result
