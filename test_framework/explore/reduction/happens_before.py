"""Which steps of a run conflict, happen before each other, and could change places.

Accesses are bits, one per location, in four kinds: reads; writes; joins, which commute
with each other (children that add to one result); and guards, what a step needed before
it could do anything (without it there is no step, so there is nothing to reverse).

Happens-before is the least order that holds the steps of each process, the wake-ups and
the conflicts. It is kept as the set of earlier steps of each step, as bits of an
integer, which says what a vector clock says.
"""

EVERYTHING = -1
"""All locations."""

ALL_STEPS = 1
"""The location that every step reads; what writes it has an order with all others.

That is the end of main, which ends the run, and callbacks that cause callbacks, of
which the loop runs a step before the last.
"""


class Event:
    """One step of a run.

    Attributes:
        process: Who made it: the same number in all runs, for the same path of creators.
        number: The option of the scheduler that it was.
        index: Position in its run.
        reads: Locations read, guards included.
        writes: Locations written.
        joins: Locations contributed to.
        past: Earlier steps that happen before it.
        races: Earlier steps with which it could change places.
        digest: The same for equal steps with equal pasts, whatever the order of the run.
    """

    __slots__ = (
        "digest",
        "index",
        "joins",
        "number",
        "past",
        "process",
        "races",
        "reads",
        "writes",
    )

    def __init__(
        self, process: int, number: int, index: int, reads: int, writes: int, joins: int
    ) -> None:
        self.process = process
        self.number = number
        self.index = index
        self.reads = reads
        self.writes = writes
        self.joins = joins
        self.past = 0
        self.races: list[int] = []
        self.digest = 0

    def conflicts(self, other: "Event") -> bool:
        """Tell whether the order of the two matters."""
        return bool(
            self.process == other.process
            or self.writes & (other.reads | other.writes | other.joins)
            or other.writes & (self.reads | self.joins)
            or self.joins & other.reads
            or other.joins & self.reads
        )


def unknown_step(process: int, number: int, index: int) -> Event:
    """Return a step that nobody has seen yet: it may touch everything."""
    return Event(process, number, index, EVERYTHING, EVERYTHING, 0)


class HappensBefore:
    """The order of the steps of one run, step by step.

    Attributes:
        events: The steps so far.
        digest: The same for runs of one class.
    """

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.digest = 0
        self._closures: list[int] = []  # of each step: itself and its past
        self._last: dict[int, int] = {}
        self._last_of_all = 0
        # Steps by location: the last write, and what came since then.
        self._written: dict[int, int] = {}
        self._read: dict[int, int] = {}
        self._joined: dict[int, int] = {}

    def add(
        self, event: Event, wakers: int, guards: int, lock: int, holder: int
    ) -> None:
        """Put a step at the end and find its past and its races.

        Args:
            event: The step.
            wakers: Earlier steps without which it would not have been ready.
            guards: Locations whose earlier changes it could not go without.
            lock: Location of the lock that it began by taking; 0 for none.
            holder: The step that took that lock before; -1 for none.
        """
        bit = 1 << event.index
        needed = wakers | self.steps_of(event.process)
        # It could not have gone before the release, but before the acquisition.
        released = self._written.get(lock, 0)
        conflicts, enabling = self._conflicts(event, guards, bit)
        firm = (needed | enabling) & ~bit
        needed = firm | released
        past, digest, races = 0, 0, event.races
        left = (conflicts | needed) & ~bit
        closures = self._closures
        while left:
            latest = left.bit_length() - 1
            digest += self.events[latest].digest
            past |= closures[latest]
            left &= ~closures[latest]
            if not needed >> latest & 1:
                races.append(latest)
        if (
            holder >= 0
            and self.events[holder].process != event.process
            and holder not in races
            and not self.closure(firm) >> holder & 1
        ):
            races.append(holder)
        event.past = past
        event.digest = hash((event.process, digest))
        self._last[event.process] = bit
        self.events.append(event)
        closures.append(past | bit)
        self.digest += event.digest

    def _conflicts(self, event: Event, guards: int, bit: int) -> tuple[int, int]:
        """Return the earlier steps in conflict, and those behind its guards."""
        written, read, joined = self._written, self._read, self._joined
        enabling = 0
        reads, writes = event.reads & ~ALL_STEPS, event.writes & ~ALL_STEPS
        conflicts = self._last_of_all
        if event.writes & ALL_STEPS:
            conflicts = bit - 1
            self._last_of_all = bit
        while reads:
            location = reads & -reads
            reads ^= location
            before = written.get(location, 0) | joined.get(location, 0)
            if location & guards:
                enabling |= before
            else:
                conflicts |= before
            read[location] = read.get(location, 0) | bit
        joins = event.joins
        while joins:
            location = joins & -joins
            joins ^= location
            conflicts |= written.get(location, 0) | read.get(location, 0)
            joined[location] = joined.get(location, 0) | bit
        while writes:
            location = writes & -writes
            writes ^= location
            conflicts |= self.contributors(location) | read.get(location, 0)
            written[location] = bit
            read[location] = joined[location] = 0
        return conflicts, enabling

    def steps_of(self, process: int) -> int:
        """Return the last step of a process, as a bit; 0 for none."""
        return self._last.get(process, 0)

    def contributors(self, locations: int) -> int:
        """Return the steps that made some locations what they are."""
        steps = 0
        while locations:
            location = locations & -locations
            locations ^= location
            steps |= self._written.get(location, 0) | self._joined.get(location, 0)
        return steps

    def closure(self, steps: int) -> int:
        """Return some steps with all that happens before them."""
        closure = 0
        while steps:
            latest = steps.bit_length() - 1
            closure |= self._closures[latest]
            steps &= ~self._closures[latest]
        return closure
