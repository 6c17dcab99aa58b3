"""What a memory may do: small machines whose every run is walked.

A model is a machine in the sense of operational semantics: a state, and the moves that
lead on from it. The outcomes it allows are those at the ends of all its runs, so
"allowed" is computed and never copied from a table. Programs are of a few steps, and
states are walked once, so a walk takes milliseconds.

Each walk can be held to what is known of one execution: ``after`` says, for each event
of each worker, how many events of every worker were over when it began. An event takes
effect between its beginning and its end, so it can only follow those. With nothing
known, the walk gives what the model allows at all.

The events of a worker are its steps; with interactive transactions, its steps and then
its commit; with transactions that are sent as a whole, one.

Sources: Lamport, "How to make a multiprocessor computer that correctly executes
multiprocess programs", 1979 (sequential consistency; with times it is linearizability);
Sewell and others, "x86-TSO", CACM 2010; Berenson and others, "A critique of ANSI SQL
isolation levels", 1995 (snapshot isolation, first committer wins).
"""

import enum
import operator
from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import accumulate, product
from typing import Any, TypeVar

from test_framework.check.litmus.programs import Litmus, Outcome

After = tuple[tuple[tuple[int, ...], ...], ...]
"""By worker and event: how many events of each worker were over when it began."""


class Unit(enum.StrEnum):
    """What takes effect at one instant."""

    OPERATION = "each operation by itself"
    TRANSACTION = "a transaction per worker, step by step"
    BATCH = "a transaction per worker, sent as a whole"


@dataclass(frozen=True, slots=True)
class MemoryModel:
    """What a memory promises.

    Attributes:
        name: The standard term.
        unit: What takes effect at one instant.
        is_real_time: Whether a call that returned before another began also takes
            effect before it. Where it is not, only order that was forced counts.
        machine: Walks every run.
    """

    name: str
    unit: Unit
    is_real_time: bool
    machine: Callable[[Litmus, After], frozenset[Outcome]] = field(repr=False)

    def events(self, litmus: Litmus) -> tuple[int, ...]:
        """Return how many events each worker has."""
        if self.unit is Unit.BATCH:
            return tuple(1 for _ in litmus.programs)
        commit = self.unit is Unit.TRANSACTION
        return tuple(len(program) + commit for program in litmus.programs)

    def allowed(self, litmus: Litmus, after: After | None = None) -> frozenset[Outcome]:
        """Return the outcomes it allows.

        Args:
            litmus: The programs.
            after: What is known of the order of events; nothing by default.
        """
        if after is None:
            none = tuple(0 for _ in litmus.programs)
            after = tuple((none,) * count for count in self.events(litmus))
        return _walked(self.machine, litmus, after)


@lru_cache(maxsize=4096)
def _walked(
    machine: Callable[[Litmus, After], frozenset[Outcome]], litmus: Litmus, after: After
) -> frozenset[Outcome]:
    return machine(litmus, after)


S = TypeVar("S", bound=Hashable)


def _walk(start: S, moves: Callable[[S], Iterator[S]]) -> Iterator[S]:
    """Yield every state that no move leads on from."""
    seen, waiting = {start}, [start]
    while waiting:
        state, is_end = waiting.pop(), True
        for following in moves(state):
            is_end = False
            if following not in seen:
                seen.add(following)
                waiting.append(following)
        if is_end:
            yield state


Values = tuple[int, ...]
Counts = tuple[int, ...]
Reads = tuple[Values, ...]


class _Programs:
    """Programs with registers by number.

    Attributes:
        steps: By worker and place: register, and value written or None.
        width: Number of registers.
    """

    def __init__(self, litmus: Litmus) -> None:
        number = {name: place for place, name in enumerate(litmus.registers)}
        self.steps = tuple(
            tuple((number[step.register], step.value) for step in program)
            for program in litmus.programs
        )
        self.width = len(number)
        self.lengths = tuple(len(program) for program in self.steps)
        self.nothing = tuple(0 for _ in self.steps)
        self.no_reads: Reads = tuple(() for _ in self.steps)
        self.memory: Values = (0,) * self.width
        self.is_final_seen = litmus.is_final_seen

    def outcome(self, read: Reads, memory: Values) -> Outcome:
        """Return what was read, and what was last where that counts."""
        values = tuple(value for own in read for value in own)
        return values + memory if self.is_final_seen else values


def _with(values: tuple[Any, ...], place: int, value: object) -> tuple[Any, ...]:
    return (*values[:place], value, *values[place + 1 :])


def _may_begin(done: Counts, needed: Counts) -> bool:
    return all(map(operator.ge, done, needed))


def _sequential(litmus: Litmus, after: After) -> frozenset[Outcome]:
    """Each step takes effect at once and for all."""
    programs = _Programs(litmus)

    def moves(
        state: tuple[Counts, Values, Reads],
    ) -> Iterator[tuple[Counts, Values, Reads]]:
        done, memory, read = state
        for worker, steps in enumerate(programs.steps):
            place = done[worker]
            if place == len(steps) or not _may_begin(done, after[worker][place]):
                continue
            register, value = steps[place]
            ahead = _with(done, worker, place + 1)
            if value is None:
                seen = (*read[worker], memory[register])
                yield ahead, memory, _with(read, worker, seen)
            else:
                yield ahead, _with(memory, register, value), read

    start = (programs.nothing, programs.memory, programs.no_reads)
    return frozenset(
        programs.outcome(read, memory) for _, memory, read in _walk(start, moves)
    )


_Buffers = tuple[tuple[tuple[int, int], ...], ...]
_Stored = tuple[Counts, Values, _Buffers, Reads]


def _total_store_order(litmus: Litmus, after: After) -> frozenset[Outcome]:
    """Writes wait in a queue per worker, which only that worker's reads look into.

    A step whose beginning was made to wait for another's end sees it out of its queue.
    """
    programs = _Programs(litmus)
    written = tuple(
        tuple(accumulate((value is not None for _, value in steps), initial=0))
        for steps in programs.steps
    )

    def is_out(done: Counts, buffers: _Buffers, needed: Counts) -> bool:
        return _may_begin(done, needed) and all(
            written[worker][done[worker]] - len(buffers[worker])
            >= written[worker][needed[worker]]
            for worker in range(len(done))
        )

    def moves(state: _Stored) -> Iterator[_Stored]:
        done, memory, buffers, read = state
        for worker, steps in enumerate(programs.steps):
            own = buffers[worker]
            if own:
                (register, value), *rest = own
                stored = _with(memory, register, value)
                yield done, stored, _with(buffers, worker, tuple(rest)), read
            place = done[worker]
            if place == len(steps):
                continue
            needed = _with(after[worker][place], worker, 0)
            if not is_out(done, buffers, needed):
                continue
            register, written_value = steps[place]
            ahead = _with(done, worker, place + 1)
            if written_value is not None:
                queued = (*own, (register, written_value))
                yield ahead, memory, _with(buffers, worker, queued), read
                continue
            latest = [value for name, value in own if name == register]
            value = latest[-1] if latest else memory[register]
            yield ahead, memory, buffers, _with(read, worker, (*read[worker], value))

    empty: _Buffers = tuple(() for _ in programs.steps)
    start = (programs.nothing, programs.memory, empty, programs.no_reads)
    return frozenset(
        programs.outcome(read, memory) for _, memory, _, read in _walk(start, moves)
    )


def _coherent(litmus: Litmus, after: After) -> frozenset[Outcome]:
    """Each register is sequential by itself, and nothing orders one by another."""
    each = []
    for name in litmus.registers:
        kept = tuple(
            tuple(place for place, step in enumerate(program) if step.register == name)
            for program in litmus.programs
        )
        part = Litmus(
            name,
            litmus.asks,
            tuple(
                tuple(program[place] for place in places)
                for program, places in zip(litmus.programs, kept, strict=True)
            ),
            (),
            is_final_seen=True,
        )
        known = tuple(
            tuple(
                tuple(
                    sum(own < count for own in kept[other])
                    for other, count in enumerate(after[worker][place])
                )
                for place in places
            )
            for worker, places in enumerate(kept)
        )
        each.append((part.reads, kept, _sequential(part, known)))
    found = set()
    for choice in product(*(outcomes for _, _, outcomes in each)):
        values: dict[tuple[int, int], int] = {}
        for (reads, kept, _), outcome in zip(each, choice, strict=True):
            for (worker, place), value in zip(reads, outcome, strict=False):
                values[worker, kept[worker][place]] = value
        read = tuple(values[place] for place in litmus.reads)
        last = tuple(outcome[-1] for outcome in choice)
        found.add(read + last if litmus.is_final_seen else read)
    return frozenset(found)


_Snapshot = tuple[Values, Counts] | None
_Unwritten = tuple[tuple[int | None, ...], ...]
_Versioned = tuple[Counts, Values, Counts, tuple[_Snapshot, ...], _Unwritten, Reads]


def _transactions(
    litmus: Litmus, after: After, *, is_snapshot: bool
) -> frozenset[Outcome]:
    """Writes lock their register and are seen by others from the commit on.

    A read sees own writes, else what is committed now, or was when the transaction
    began. With snapshots, a register that was committed since cannot be written: such
    a run has no end, as one that deadlocks; who retries begins another.
    """
    programs = _Programs(litmus)

    def step(state: _Versioned, worker: int, place: int) -> _Versioned | None:
        done, memory, versions, snapshots, unwritten, read = state
        register, value = programs.steps[worker][place]
        ahead = _with(done, worker, place + 1)
        began = snapshots[worker]
        own = unwritten[worker][register]
        if value is None:
            base = memory if began is None else began[0]
            seen = (*read[worker], base[register] if own is None else own)
            reads = _with(read, worker, seen)
            return ahead, memory, versions, snapshots, unwritten, reads
        is_locked = any(
            writes[register] is not None
            for other, writes in enumerate(unwritten)
            if other != worker
        )
        if is_locked or (
            began is not None and began[1][register] != versions[register]
        ):
            return None
        mine = _with(unwritten[worker], register, value)
        return ahead, memory, versions, snapshots, _with(unwritten, worker, mine), read

    def commit(state: _Versioned, worker: int) -> _Versioned:
        done, memory, versions, snapshots, unwritten, read = state
        for register, value in enumerate(unwritten[worker]):
            if value is not None:
                memory = _with(memory, register, value)
                versions = _with(versions, register, versions[register] + 1)
        return (
            _with(done, worker, done[worker] + 1),
            memory,
            versions,
            _with(snapshots, worker, None),
            _with(unwritten, worker, (None,) * programs.width),
            read,
        )

    def moves(state: _Versioned) -> Iterator[_Versioned]:
        done, memory, versions, snapshots, unwritten, read = state
        for worker, length in enumerate(programs.lengths):
            place = done[worker]
            if place > length or not _may_begin(done, after[worker][place]):
                continue
            if place == length:
                yield commit(state, worker)
            elif is_snapshot and snapshots[worker] is None:
                taken = _with(snapshots, worker, (memory, versions))
                yield done, memory, versions, taken, unwritten, read
            else:
                following = step(state, worker, place)
                if following is not None:
                    yield following

    start: _Versioned = (
        programs.nothing,
        programs.memory,
        programs.memory,
        tuple(None for _ in programs.steps),
        tuple((None,) * programs.width for _ in programs.steps),
        programs.no_reads,
    )
    return frozenset(
        programs.outcome(read, memory)
        for done, memory, _, _, _, read in _walk(start, moves)
        if all(map(operator.gt, done, programs.lengths))
    )


def _read_committed(litmus: Litmus, after: After) -> frozenset[Outcome]:
    return _transactions(litmus, after, is_snapshot=False)


def _snapshot(litmus: Litmus, after: After) -> frozenset[Outcome]:
    return _transactions(litmus, after, is_snapshot=True)


def _serial(litmus: Litmus, after: After) -> frozenset[Outcome]:
    """One whole program after another, in any order that the known one leaves open."""
    programs = _Programs(litmus)
    wholes = tuple(len(events) for events in after)

    def moves(
        state: tuple[Counts, Values, Reads],
    ) -> Iterator[tuple[Counts, Values, Reads]]:
        done, memory, read = state
        for worker, steps in enumerate(programs.steps):
            over = tuple(map(operator.ge, after[worker][0], wholes))
            if done[worker] or not _may_begin(done, over):
                continue
            own: Values = ()
            stored = memory
            for register, value in steps:
                if value is None:
                    own = (*own, stored[register])
                else:
                    stored = _with(stored, register, value)
            yield _with(done, worker, 1), stored, _with(read, worker, own)

    start = (programs.nothing, programs.memory, programs.no_reads)
    return frozenset(
        programs.outcome(read, memory) for _, memory, read in _walk(start, moves)
    )


SEQUENTIAL = MemoryModel(
    "linearizable registers", Unit.OPERATION, is_real_time=True, machine=_sequential
)
"""Each read and write at one instant between its ends."""

TOTAL_STORE_ORDER = MemoryModel(
    "x86-TSO", Unit.OPERATION, is_real_time=False, machine=_total_store_order
)
"""Memory that two processors of that kind share, without fences."""

COHERENT = MemoryModel(
    "coherence", Unit.OPERATION, is_real_time=False, machine=_coherent
)
"""Each register by itself; what shards, caches and weaker processors give."""

READ_COMMITTED = MemoryModel(
    "read committed", Unit.TRANSACTION, is_real_time=True, machine=_read_committed
)

SNAPSHOT = MemoryModel(
    "snapshot isolation", Unit.TRANSACTION, is_real_time=True, machine=_snapshot
)

SERIALIZABLE = MemoryModel(
    "strict serializability", Unit.TRANSACTION, is_real_time=True, machine=_serial
)

ATOMIC_BATCH = MemoryModel(
    "atomic batches", Unit.BATCH, is_real_time=True, machine=_serial
)
"""Programs sent as a whole and run one after the other, such as MULTI and scripts."""
