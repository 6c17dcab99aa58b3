"""Make a failing schedule short: few switches, few faults.

Delta debugging (Zeller and Hildebrandt, TSE 2002) over segments instead of single
choices: drop segments, join those of one task, drop faults. What is left out is
filled in by running tasks to their end, so a segment that stays is a switch that the
bug needs. A candidate counts when it fails in the same way: same kind, same place.
"""

from collections.abc import Callable
from dataclasses import replace

from test_framework.explore.schedule import Schedule, Segment

MAX_RUNS = 400
# So few are rid of their segments as soon one by one.
_FEW_TASKS = 4

Fails = Callable[[Schedule], bool]


def shrink(
    schedule: Schedule, fails: Fails, *, max_runs: int = MAX_RUNS
) -> tuple[Schedule, int]:
    """Return a schedule that still fails and cannot lose a segment, and the runs spent.

    Args:
        schedule: A schedule that fails.
        fails: Tells whether a schedule fails in the same way; makes one run.
        max_runs: Bound of the runs; the best so far is returned when it is reached.
    """
    search = _Search(schedule, fails, max_runs)
    search.drop_faults()
    search.drop_bystanders()
    while search.drop_segments() or search.join_segments():
        pass
    search.shorten_segments()
    return search.best, search.runs


class _Search:
    def __init__(self, schedule: Schedule, fails: Fails, max_runs: int) -> None:
        self.best = schedule
        self.runs = 0
        self._fails = fails
        self._max_runs = max_runs
        self._tried: set[Schedule] = {schedule}

    def _try(self, candidate: Schedule) -> bool:
        if candidate in self._tried or self.runs >= self._max_runs:
            return False
        self._tried.add(candidate)
        self.runs += 1
        if self._fails(candidate):
            self.best = candidate
            return True
        return False

    def _try_segments(self, segments: list[Segment]) -> bool:
        return self._try(replace(self.best, segments=_joined(segments)))

    def drop_faults(self) -> None:
        """Try without each fault."""
        for fault in self.best.faults:
            rest = tuple(other for other in self.best.faults if other is not fault)
            self._try(replace(self.best, faults=rest))

    def drop_bystanders(self) -> None:
        """Drop all segments of half of the tasks, of a quarter, and so on.

        Most of many tasks have nothing to do with the failure, and one run may show it
        of ten of them, where by segments it takes a run for each.
        """
        self._cut_tail()
        names = list(dict.fromkeys(segment.name for segment in self.best.segments))
        size = len(names) // 2
        while size and len(names) > _FEW_TASKS:
            index = 0
            while index < len(names):
                dropped = set(names[index : index + size])
                rest = [s for s in self.best.segments if s.name not in dropped]
                if self._try_segments(rest):
                    del names[index : index + size]
                else:
                    index += size
            size //= 2

    def drop_segments(self) -> bool:
        """Drop ever smaller runs of segments; True when any went."""
        # What follows the last switch that matters is nearly always superfluous.
        any_went = self._cut_tail()
        size = max(1, len(self.best.segments) // 2)
        while True:
            index = 0
            while index < len(self.best.segments):
                segments = list(self.best.segments)
                if self._try_segments(segments[:index] + segments[index + size :]):
                    any_went = True
                else:
                    index += size
            if size == 1:
                return any_went
            size //= 2

    def _cut_tail(self) -> bool:
        """Find by bisection the shortest prefix that fails; True when it got shorter."""
        segments = self.best.segments
        low, high = 0, len(segments)
        while low < high:
            middle = (low + high) // 2
            if self._try(replace(self.best, segments=segments[:middle])):
                high = middle
            else:
                low = middle + 1
        return len(self.best.segments) < len(segments)

    def join_segments(self) -> bool:
        """Let a task go on at once to where a later segment of it ends."""
        segments = list(self.best.segments)
        for first, segment in enumerate(segments):
            for second in range(first + 2, len(segments)):
                other = segments[second]
                if other.name != segment.name:
                    continue
                longer = Segment(segment.name, segment.steps + other.steps)
                rest = segments[first + 1 : second] + segments[second + 1 :]
                if self._try_segments([*segments[:first], longer, *rest]):
                    return True
                break
        return False

    def shorten_segments(self) -> None:
        """Halve and then lower the steps of each segment while it still fails."""
        for index in range(len(self.best.segments)):
            while (steps := self.best.segments[index].steps) > 1:
                if not (
                    (
                        steps > 3 and self._with_steps(index, steps // 2)
                    )  # halving pays from here
                    or self._with_steps(index, steps - 1)
                ):
                    break

    def _with_steps(self, index: int, steps: int) -> bool:
        segments = list(self.best.segments)
        segments[index] = Segment(segments[index].name, steps)
        return self._try(replace(self.best, segments=tuple(segments)))


def _joined(segments: list[Segment]) -> tuple[Segment, ...]:
    joined: list[Segment] = []
    for segment in segments:
        if joined and joined[-1].name == segment.name:
            joined[-1] = Segment(segment.name, joined[-1].steps + segment.steps)
        else:
            joined.append(segment)
    return tuple(joined)
