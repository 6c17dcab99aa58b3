"""Policies that decide who goes next: fixed, random, PCT, POS, URW, replay.

A scheduler is asked once per run for a function that picks a position among the
options. All random ones draw from one stream for a whole exploration, so a run is
repeated from its recorded schedule and never from a seed of its own.

* ``Uniform`` picks any option with equal odds.
* ``Pct`` gives tasks distinct random priorities and demotes the running one at
  ``depth - 1`` random steps; a bug of that depth is hit with probability at least
  1/(n k^(depth-1)) (Burckhardt et al., ASPLOS 2010).
* ``Pos`` gives every pending step a priority of its own (Yuan et al., CAV 2018),
  here without knowledge of races.
* ``Urw`` picks a task with odds proportional to the steps it has left, which makes all
  interleavings equally likely when the counts are right (Zhao et al., ASPLOS 2025:
  "selectively uniform random walk"). The counts come from earlier runs.
"""

import random
from collections import Counter
from typing import Protocol

from test_framework.explore.decisions import CLOCK, CONTINUE, Choose
from test_framework.explore.loop import ExplorationLoop
from test_framework.explore.schedule import Segment

TURNS = "turns"
CLOCK_NAME = "clock"


def option_name(loop: ExplorationLoop, number: int) -> str:
    """Return how a schedule calls an option."""
    if number == CONTINUE:
        return TURNS
    if number == CLOCK:
        return CLOCK_NAME
    return loop.name(number)


class Scheduler(Protocol):
    """A policy; makes a choice function for each run."""

    def begin(self, loop: ExplorationLoop) -> Choose:
        """Return the choice function of the run that begins now on ``loop``."""
        ...


class Stock:
    """The order of plain asyncio: whoever became ready first."""

    def begin(self, loop: ExplorationLoop) -> Choose:  # noqa: ARG002  # the protocol
        """Return a function that always takes the first option."""
        return lambda _: 0


class Reverse:
    """The opposite: whoever became ready last; the clock only when nothing else can."""

    def begin(self, loop: ExplorationLoop) -> Choose:  # noqa: ARG002  # the protocol
        """Return a function that takes the last option that is not the clock."""
        return lambda options: len(options) - 1 - (options[-1] == CLOCK)


class Stay:
    """Run each task until it blocks, oldest first; no preemption."""

    def begin(self, loop: ExplorationLoop) -> Choose:
        """Return a function that stays with the last task while it can go."""
        return lambda options: stay(loop, options)


class OneByOne:
    """Each user with all that it started to its end, then the next: nobody overlaps."""

    def begin(self, loop: ExplorationLoop) -> Choose:
        """Return a function that takes what belongs to the first user."""

        def rank(number: int) -> tuple[bool, int]:
            if number in {CONTINUE, CLOCK}:
                return number == CLOCK, CONTINUE
            task = loop.owner(number)
            while loop.parents[task] > 0:
                task = loop.parents[task]
            return False, task

        return lambda options: options.index(min(options, key=rank))


def stay(loop: ExplorationLoop, options: list[int]) -> int:
    """Return the position of the last task that went, else of the oldest one."""
    if options[0] == CONTINUE:
        return 0
    order = loop.order
    if order and order[-1] >= 0 and order[-1] in options:
        return options.index(order[-1])
    return options.index(min(options, key=_age))


def _age(number: int) -> tuple[int, int]:
    """Tasks before events before the clock, each by age."""
    return (number == CLOCK, number if number >= 0 else _AFTER_TASKS - number)


_AFTER_TASKS = 1_000_000


class Uniform:
    """Any option with equal odds.

    Args:
        rng: The only source of choice.
    """

    def __init__(self, rng: random.Random) -> None:
        self._random = rng.random

    def begin(self, loop: ExplorationLoop) -> Choose:  # noqa: ARG002  # the protocol
        """Return a function that draws a position."""
        draw = self._random
        return lambda options: int(draw() * len(options))


class Profile:
    """How many steps each task takes, learned from runs.

    Attributes:
        counts: Steps by number of the task; ``CONTINUE`` and ``CLOCK`` are counted too.
        steps: Steps of a whole run.
    """

    def __init__(self) -> None:
        self.counts: dict[int, int] = {}
        self.steps = 1

    def learn(self, order: list[int]) -> None:
        """Take the counts of a finished run."""
        self.counts.update(Counter(order))
        self.steps = max(1, len(order))


class Urw:
    """Uniform over interleavings, as far as the profile is right.

    Args:
        rng: The only source of choice.
        profile: Steps that each task takes.
    """

    def __init__(self, rng: random.Random, profile: Profile) -> None:
        self._random = rng.random
        self._profile = profile

    def begin(self, loop: ExplorationLoop) -> Choose:
        """Return a function that weighs tasks by the steps they have left."""
        draw, order = self._random, loop.order
        left = self._profile.counts.copy()
        seen = 0

        def choose(options: list[int]) -> int:
            nonlocal seen
            while seen < len(order):
                number = order[seen]
                seen += 1
                left[number] = left.get(number, 1) - 1
            if len(options) == 2:  # the common case, without a list
                one, other = options
                # A task that outlives its profile still counts as one step.
                first, second = left.get(one, 1), left.get(other, 1)
                first = first if first > 0 else 1
                second = second if second > 0 else 1
                return draw() * (first + second) >= first
            weights = [max(left.get(number, 1), 1) for number in options]
            point = draw() * sum(weights)
            for position, weight in enumerate(weights):
                point -= weight
                if point < 0:
                    return position
            return len(options) - 1

        return choose


class Pct:
    """Random priorities with a few demotions.

    Args:
        rng: The only source of choice.
        profile: Its steps are the range in which demotions are drawn.
        depth: Bug depth d (count, >= 1); at most d - 1 demotions.
    """

    def __init__(self, rng: random.Random, profile: Profile, *, depth: int) -> None:
        self._rng = rng
        self._profile = profile
        self._depth = depth

    def begin(self, loop: ExplorationLoop) -> Choose:
        """Return a function that takes the option of highest priority."""
        draw, order = self._rng.random, loop.order
        # All steps are counted, contested or not: points drawn from contested steps
        # alone fall short of where late bugs are.
        steps = self._profile.steps
        points = sorted([1 + int(draw() * steps) for _ in range(self._depth - 1)])
        priorities: dict[int, float] = {}
        demoted = 0.0

        def choose(options: list[int]) -> int:
            nonlocal demoted
            while points and len(order) >= points[0]:
                points.pop(0)
                demoted -= 1
                priorities[order[-1]] = demoted
            for number in options:
                if number not in priorities:
                    priorities[number] = draw()
            return options.index(max(options, key=priorities.__getitem__))

        return choose


class Pos:
    """Every pending step has a random priority.

    Args:
        rng: The only source of choice.
    """

    def __init__(self, rng: random.Random) -> None:
        self._random = rng.random

    def begin(self, loop: ExplorationLoop) -> Choose:
        """Return a function that takes the pending step of highest priority."""
        draw, order = self._random, loop.order
        priorities: dict[int, float] = {}
        seen = 0

        def choose(options: list[int]) -> int:
            nonlocal seen
            while seen < len(order):
                priorities.pop(order[seen], None)
                seen += 1
            for number in options:
                if number not in priorities:
                    priorities[number] = draw()
            return options.index(max(options, key=priorities.__getitem__))

        return choose


class Replay:
    """Follow segments as far as they fit, then let each task run to its end.

    Args:
        segments: What to follow.

    Attributes:
        parted: Index of the first segment whose task could not go; None while all did.
    """

    def __init__(self, segments: tuple[Segment, ...]) -> None:
        self._segments = segments
        self._index = self._left = self._seen = 0
        self.parted: int | None = None

    def begin(self, loop: ExplorationLoop) -> Choose:
        """Return a function that follows the segments."""
        self.parted = None
        self._index, self._seen = 0, 0
        self._left = self._segments[0].steps if self._segments else 0

        def choose(options: list[int]) -> int:
            self._catch_up(loop)
            segments = self._segments
            while self._index < len(segments):
                if self._left > 0:
                    name = segments[self._index].name
                    for position, number in enumerate(options):
                        if option_name(loop, number) == name:
                            return position
                    if self.parted is None:
                        self.parted = self._index
                self._advance()
            return stay(loop, options)

        return choose

    def unused(self, loop: ExplorationLoop) -> int | None:
        """Return the index of the first segment that a finished run did not get to."""
        self._catch_up(loop)
        if self._left <= 0:
            self._advance()
        return self._index if self._index < len(self._segments) else None

    def _catch_up(self, loop: ExplorationLoop) -> None:
        # Steps without an alternative are in the schedule as well.
        order, segments = loop.order, self._segments
        while self._seen < len(order):
            while self._index < len(segments) and self._left <= 0:
                self._advance()
            if (
                self._index < len(segments)
                and option_name(loop, order[self._seen]) == segments[self._index].name
            ):
                self._left -= 1
            self._seen += 1

    def _advance(self) -> None:
        self._index += 1
        is_there = self._index < len(self._segments)
        self._left = self._segments[self._index].steps if is_there else 0


def segments_of(
    loop: ExplorationLoop, order: list[int] | None = None
) -> tuple[Segment, ...]:
    """Return the order of the last run, or another order of its tasks, as segments."""
    segments: list[Segment] = []
    for number in loop.order if order is None else order:
        name = option_name(loop, number)
        if segments and segments[-1].name == name:
            segments[-1] = Segment(name, segments[-1].steps + 1)
        else:
            segments.append(Segment(name, 1))
    return tuple(segments)
