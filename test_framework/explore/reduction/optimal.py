"""Run one order of each class of orders that differ only in steps that do not conflict.

Optimal dynamic partial order reduction (Abdulla, Aronis, Jonsson and Sagonas, POPL
2014; JACM 2017). After each run every race of it, two conflicting steps that could
change places, asks for a run in which they do. A wakeup tree at each point keeps the
beginnings that are still to be run, so that no two runs are of one class; sleeping
steps are those whose continuations were run already.

Where this leaves the paper: a step may touch many locations, and after its first
conflict it may touch others than it did. So a wakeup sequence may not fit when it is
run; what does not fit is dropped, for the run that is made instead shows the conflict
and asks again. A lock is not ready until it is free, so what races are its
acquisitions. The end of main ends a run, so it conflicts with every step.
"""

from dataclasses import dataclass, field

from test_framework.explore.decisions import Choose
from test_framework.explore.loop import ExplorationLoop
from test_framework.explore.reduction.happens_before import Event, unknown_step
from test_framework.explore.reduction.tracked import Recorder, RedundantError


@dataclass(slots=True)
class Branch:
    """A step of a wakeup tree and what is to follow it."""

    event: Event
    children: "list[Branch]" = field(default_factory=list)


@dataclass(slots=True)
class _Point:
    """The state before a step of the current run.

    Attributes:
        asleep: Steps, by process, whose continuations were run.
        pending: Beginnings still to be run from here, oldest first.
    """

    asleep: dict[int, Event]
    pending: list[Branch]


class Optimal:
    """A scheduler that makes a run of the next class, until there is none.

    Args:
        recorder: Keeps the steps of the runs.

    Attributes:
        classes: Digests of the classes run so far.
        repeated: Runs of a class that had been run before.
        cut: Runs ended early because they could only repeat.
        parted: Wakeup sequences that did not fit.
        has_strayed: A run did not repeat the steps that it was to repeat.
    """

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        self._points: list[_Point] = []
        self._events: list[Event] = []
        self._prefix: list[int] = []
        self._kept = 0
        self._is_first = True
        self.classes: set[int] = set()
        self.repeated = 0
        self.cut = 0
        self.parted = 0
        self.has_strayed = False

    def begin(self, loop: ExplorationLoop) -> Choose:  # noqa: ARG002  # the protocol
        """Return a function that follows the wakeup sequence, then the oldest step."""
        recorder, prefix = self._recorder, self._prefix
        points, kept = self._points, self._kept
        recorder.begin_run(kept, points[kept].asleep if points else {})
        processes = recorder.processes

        def choose(options: list[int]) -> int:
            recorder.close()
            index = len(recorder.events)
            if index < len(prefix):
                wanted = prefix[index]
                for position, number in enumerate(options):
                    if processes[number] == wanted:
                        return position
            asleep = recorder.sleeping
            if not asleep and not recorder.is_redundant and not recorder.waiting:
                return 0
            best = -1
            for position, number in enumerate(options):
                if recorder.is_blocked(number):
                    if best < 0:
                        best = position
                elif processes[number] not in asleep:
                    return position
            if best < 0 or recorder.is_redundant:
                recorder.is_redundant = True
                raise RedundantError
            # It goes on waiting.
            return best

        return choose

    def advance(self, *, was_cut: bool = False) -> bool:
        """Learn from the last run and go to the next class; False when all were run.

        Args:
            was_cut: The last run ended before it was over.
        """
        if self._is_first:
            self._is_first = False
            return True
        self._learn(was_cut=was_cut)
        return self._go_back()

    def _learn(self, *, was_cut: bool) -> None:
        events = self._events = self._recorder.events
        made = [event.process for event in events[: self._kept]]
        if made != self._prefix[: self._kept]:
            self.has_strayed = True
        self._place(events)
        if was_cut:
            self.cut += 1
            return
        if self._recorder.order.digest in self.classes:
            self.repeated += 1
        self.classes.add(self._recorder.order.digest)
        for late in events[self._kept :]:
            for index in late.races:
                self._ask(events[index], late)
        self._ask_for_the_unseen(events)

    def _place(self, events: list[Event]) -> None:
        """Give every new step its point, with what of the wakeup tree was left there."""
        points, kept = self._points, self._kept
        if not points:
            points.append(_Point({}, []))
        below = None
        fits = True
        for index in range(kept, len(events)):
            event = events[index]
            point = points[index]
            if fits and index < len(self._prefix):
                if event.process != self._prefix[index]:
                    fits = False
                    self.parted += 1
                    if index == kept:
                        point.pending.pop(0)
                    else:
                        point.pending = []
                else:
                    below = point.pending.pop(0)
            else:
                below = None
            points.append(
                _Point(
                    {
                        process: other
                        for process, other in point.asleep.items()
                        if process != event.process and not other.conflicts(event)
                    },
                    below.children if below is not None and fits else [],
                )
            )
        if len(events) <= kept and self._prefix:
            points[kept].pending.pop(0)
            self.parted += 1

    def _ask(self, early: Event, late: Event) -> None:
        """Ask for a run in which two racing steps change places."""
        index = early.index
        events = self._events
        sequence = [
            event for event in events[index + 1 :] if not event.past >> index & 1
        ]
        sequence.append(late)
        self._insert(self._points[index], sequence)

    def _ask_for_the_unseen(self, events: list[Event]) -> None:
        """Ask for the steps that the end of the run, or a held lock, kept from going."""
        recorder = self._recorder
        if not events:
            return
        last = len(events) - 1
        for number in recorder.left:
            step = unknown_step(recorder.processes[number], number, len(events))
            self._insert(self._points[last], [step])
        for number, holder in recorder.blocked:
            step = unknown_step(recorder.processes[number], number, len(events))
            self._ask(events[holder], step)

    def _insert(self, point: _Point, sequence: list[Event]) -> None:
        for process, event in point.asleep.items():
            if _begins(process, event, sequence) is not None:
                return
        branches = point.pending
        while True:
            for branch in branches:
                position = _begins(branch.event.process, branch.event, sequence)
                if position is None:
                    continue
                if position >= 0:
                    sequence.pop(position)
                branches = branch.children
                if not branches or not sequence:
                    return
                break
            else:
                for event in sequence:
                    branch = Branch(event)
                    branches.append(branch)
                    branches = branch.children
                return

    def _go_back(self) -> bool:
        """Go to the deepest point at which a beginning is left to be run."""
        points, events = self._points, self._events
        for index in range(len(points) - 1, -1, -1):
            del points[index + 1 :]
            point = points[index]
            if index < len(events):
                point.asleep[events[index].process] = events[index]
            if point.pending:
                self._kept = index
                self._prefix = [event.process for event in events[:index]]
                branches = point.pending
                while branches:
                    self._prefix.append(branches[0].event.process)
                    branches = branches[0].children
                return True
        return False


def _begins(process: int, event: Event, sequence: list[Event]) -> int | None:
    """Tell whether a step may begin a sequence without changing what it leads to.

    Returns:
        Its position in the sequence; -1 when it is not in it and conflicts with nothing
        there; None when it may not begin it.
    """
    for position, other in enumerate(sequence):
        if other.process == process:
            return position
        if event.conflicts(other):
            return None
    return -1
