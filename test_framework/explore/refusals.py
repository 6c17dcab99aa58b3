"""Which scenarios are not explored, since no answer would mean anything, and why.

A search repeats runs by their schedule. That needs a scenario which does the same when
the schedule is the same, and which makes all that it uses inside of the run.
"""

import re

from test_framework.explore.failures import Failure
from test_framework.explore.faults import FaultPoints
from test_framework.explore.loop import ExplorationLoop
from test_framework.explore.report import Conclusion
from test_framework.explore.schedule import Cancel
from test_framework.explore.story import Step
from test_framework.explore.waits import NOWHERE

_RAISED = {"exception", "assertion"}
_ADDRESS = re.compile(r"0x[0-9a-f]+")
_NAMES_TOLD = 8


class SettledError(Exception):
    """Ends a search with a conclusion."""

    def __init__(self, conclusion: Conclusion, claim: str) -> None:
        super().__init__(claim)
        self.conclusion = conclusion
        self.claim = claim


def require_setup(loop: ExplorationLoop, failure: Failure | None) -> None:
    """Refuse a scenario of which the first run fails before any user has begun.

    Raises:
        SettledError: Its ``setup`` raised.
    """
    is_setting_up = getattr(loop, "is_setting_up", False)
    if is_setting_up and failure is not None and failure.kind in _RAISED:
        at = f" at {failure.where}" if failure.where else ""
        raise SettledError(
            Conclusion.INCONCLUSIVE, f"setup failed: {failure.message}{at}"
        )


def require_own_thread(loop: ExplorationLoop) -> None:
    """Refuse a scenario into which a thread of its own calls.

    Raises:
        SettledError: One has.
    """
    if loop.stranger is not None:
        raise SettledError(
            Conclusion.INCONCLUSIVE,
            f"The thread {loop.stranger!r} called into the loop, and no "
            "scheduler decides when it does. Use asyncio.to_thread or "
            "run_in_executor, which the explorer runs as steps.",
        )


def require_end(failure: Failure | None) -> None:
    """Refuse a scenario that does not end in the order of plain asyncio.

    Raises:
        SettledError: It does not.
    """
    if failure is not None and failure.kind == "endless":
        raise SettledError(
            Conclusion.INCONCLUSIVE,
            f"{failure.message} It was at {failure.where}. Let the scenario end, or "
            "raise max_steps if it is that long.",
        )


def require_struck(pattern: str, points: FaultPoints | None) -> None:
    """Refuse a pattern for cancellations that has struck nobody: a wrong name.

    Args:
        pattern: As given; empty or ``*`` where any task was meant.
        points: Where faults could strike; None when none were asked for.

    Raises:
        SettledError: No task that ever waited has such a name.
    """
    if points is None or not pattern.strip("*"):
        return
    if not any(isinstance(fault, Cancel) for fault in points.found):
        names = ", ".join(list(points.names)[:_NAMES_TOLD]) or "none"
        raise SettledError(
            Conclusion.INCONCLUSIVE,
            f"cancel={pattern!r} is the name of no task that ever waited. Those were: "
            f"{names}. * and ? are wildcards, brackets stand for themselves.",
        )


def require_inside(failure: Failure) -> None:
    """Refuse a scenario whose lock or queue has met the loop of another run.

    Raises:
        SettledError: It has.
    """
    if "is bound to a different event loop" in failure.message:
        raise SettledError(
            Conclusion.INCONCLUSIVE,
            f"{failure.message} at {failure.where}: it was made outside of the scenario "
            "and outlives a run. Make it inside.",
        )


def _words(failure: Failure | None) -> str:
    """Say how a run ended, in words that do not change with where objects lie."""
    if failure is None:
        return "passed"
    return f"failed ({failure.kind}: {_ADDRESS.sub('0x..', failure.message)})"


def require_same_end(first: Failure | None, second: Failure | None) -> None:
    """Refuse a scenario of which one order ends in two ways: it remembers a run.

    Raises:
        SettledError: It does.
    """
    if _words(first) != _words(second):
        raise SettledError(
            Conclusion.INCONCLUSIVE,
            f"The first run {_words(first)}, and the same order then {_words(second)}: "
            "state outlives a run. Make it inside of the scenario; fixtures, globals "
            "and default arguments are made once.",
        )


def require_same(
    first: list[Step],
    second: list[Step],
    failures: tuple[Failure | None, Failure | None],
) -> None:
    """Refuse a scenario of which one schedule has two runs: something else decides.

    Raises:
        SettledError: They differ.
    """
    if first == second:
        return
    index = next(
        (
            i
            for i, pair in enumerate(zip(first, second, strict=False))
            if pair[0] != pair[1]
        ),
        min(len(first), len(second)),
    )

    def at(steps: list[Step]) -> str:
        if index >= len(steps):
            return "the run was over"
        name, where, code = steps[index]
        if where == NOWHERE:
            # Ours, which starts the users of a Scenario.
            return f"{name} waited for others"
        return f"{name} stood at {where} ({code})" if where else f"{name} ended"

    one, other = map(_words, failures)
    ends = "" if one == other else f" The first {one}, the second {other}."
    raise SettledError(
        Conclusion.INCONCLUSIVE,
        f"Two runs of one schedule differ at step {index + 1}: first {at(first)}, then "
        f"{at(second)}.{ends} Something outside of the loop decides: pass a seeded "
        "random.Random, sort what comes from sets, fix the time, and make all state "
        "inside of the scenario.",
    )
