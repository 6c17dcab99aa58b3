"""The litmus tests: programs of one to three steps, known by what they may end with.

Registers hold 0 at first, and no value is written twice to one of them, so what a read
returned says which write it saw. Names are those of the literature; the last four are
the session guarantees, which are litmus tests with a program per session.

Sources: Alglave, Maranget and Tautschnig, "Herding cats", TOPLAS 2014 (SB, MP, LB, IRIW,
WRC, 2+2W, R, S and the coherence shapes CoRR, CoWW, CoRW, CoWR); Terry and others,
"Session guarantees for weakly consistent replicated data", PDIS 1994.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

from test_framework.core import UsageError

Outcome = tuple[int, ...]
"""What each read returned, program by program; then final values, where they count."""


@dataclass(frozen=True, slots=True)
class Step:
    """One read or write of one register.

    Attributes:
        register: Its name.
        value: What is written; None for a read.
    """

    register: str
    value: int | None = None

    @property
    def is_read(self) -> bool:
        """Whether it reads."""
        return self.value is None

    def __str__(self) -> str:
        """Say it as the literature does."""
        return (
            f"R {self.register}" if self.is_read else f"W {self.register}={self.value}"
        )


@dataclass(frozen=True, slots=True)
class Litmus:
    """One litmus test.

    Attributes:
        name: As the literature has it.
        asks: What it asks of a memory, in one sentence.
        programs: Steps of each worker, in program order.
        telling: The outcome it is known for, which no sequential memory shows.
        is_final_seen: Whether the last value of each register is part of the outcome.
    """

    name: str
    asks: str
    programs: tuple[tuple[Step, ...], ...]
    telling: Outcome
    is_final_seen: bool = False

    @property
    def registers(self) -> tuple[str, ...]:
        """Names of its registers, in order."""
        return tuple(
            sorted({step.register for program in self.programs for step in program})
        )

    @property
    def reads(self) -> tuple[tuple[int, int], ...]:
        """Worker and step of each read, in the order of an outcome."""
        return tuple(
            (worker, place)
            for worker, program in enumerate(self.programs)
            for place, step in enumerate(program)
            if step.is_read
        )

    def label(self, outcome: Outcome) -> str:
        """Say an outcome in words: ``P0:y=0 P1:x=0``."""
        names = [
            f"P{worker}:{self.programs[worker][place].register}"
            for worker, place in self.reads
        ]
        names += self.registers if self.is_final_seen else ()
        return " ".join(
            f"{name}={value}" for name, value in zip(names, outcome, strict=True)
        )

    def space(self) -> Iterator[Outcome]:
        """Yield every outcome of which each value was 0 or written to its register."""
        values = {
            register: (
                0,
                *(
                    step.value
                    for program in self.programs
                    for step in program
                    if step.register == register and step.value is not None
                ),
            )
            for register in self.registers
        }
        read = [
            values[self.programs[worker][place].register]
            for worker, place in self.reads
        ]
        last = (
            [values[name][1:] for name in self.registers] if self.is_final_seen else []
        )
        return product(*read, *last)

    def __str__(self) -> str:
        """Show its programs side by side."""
        return " || ".join(
            "; ".join(str(step) for step in program) for program in self.programs
        )


def _program(text: str) -> tuple[Step, ...]:
    steps = []
    for word in text.split(";"):
        kind, what = word.split()
        register, _, value = what.partition("=")
        steps.append(Step(register, int(value) if kind == "W" else None))
    return tuple(steps)


def _litmus(
    name: str, asks: str, text: str, telling: Outcome, *, final: bool = False
) -> Litmus:
    programs = tuple(_program(program) for program in text.split("||"))
    return Litmus(name, asks, programs, telling, is_final_seen=final)


LITMUS_TESTS = (
    _litmus(
        "SB",
        "store buffering: can both miss what the other has written before?",
        "W x=1; R y || W y=1; R x",
        (0, 0),
    ),
    _litmus(
        "MP",
        "message passing: can the flag be seen without the data it announces?",
        "W x=1; W y=1 || R y; R x",
        (1, 0),
    ),
    _litmus(
        "LB",
        "load buffering: can both see what the other writes after its read?",
        "R x; W y=1 || R y; W x=1",
        (1, 1),
    ),
    _litmus(
        "IRIW",
        "independent reads of independent writes: can two readers disagree on the order?",
        "W x=1 || W y=1 || R x; R y || R y; R x",
        (1, 0, 1, 0),
    ),
    _litmus(
        "WRC",
        "write to read causality: can a third miss what the second had seen?",
        "W x=1 || R x; W y=1 || R y; R x",
        (1, 1, 0),
    ),
    _litmus(
        "R",
        "can a read miss what came before the write that its own replaced?",
        "W x=1; W y=1 || W y=2; R x",
        (0, 1, 2),
        final=True,
    ),
    _litmus(
        "S",
        "can a write that follows a read lose to one that preceded what was read?",
        "W x=2; W y=1 || R y; W x=1",
        (1, 2, 1),
        final=True,
    ),
    _litmus(
        "2+2W",
        "can two registers disagree on which of two writers was last?",
        "W x=1; W y=2 || W y=1; W x=2",
        (1, 1),
        final=True,
    ),
    _litmus(
        "CoRR",
        "coherence: can one register go back while it is read twice?",
        "W x=1 || R x; R x",
        (1, 0),
    ),
    _litmus(
        "CoWW",
        "coherence: can the earlier of two writes last?",
        "W x=1; W x=2",
        (1,),
        final=True,
    ),
    _litmus(
        "CoRW",
        "coherence: can a write lose to the one that was read before it?",
        "R x; W x=1 || W x=2",
        (2, 2),
        final=True,
    ),
    _litmus(
        "CoWR",
        "coherence: can a read after an own write see one that lost to it?",
        "W x=1; R x || W x=2",
        (2, 1),
        final=True,
    ),
    _litmus(
        "RYW",
        "read your writes: can a session miss what it wrote itself?",
        "W x=1; R x",
        (0,),
    ),
    _litmus(
        "MR",
        "monotonic reads: can a session go back in a history of three values?",
        "W x=1; W x=2 || R x; R x",
        (2, 1),
    ),
    _litmus(
        "MW",
        "monotonic writes: can a later write of a session be seen without an earlier?",
        "W x=1; W y=1; W z=1 || R z; R y; R x",
        (1, 1, 0),
    ),
    _litmus(
        "WFR",
        "writes follow reads: can an answer be replaced by what it answers?",
        "W x=1 || R x; W x=2 || R x; R x",
        (1, 2, 1),
    ),
)


def litmus_named(name: str) -> Litmus:
    """Return a litmus test by its name.

    Raises:
        UsageError: There is none of that name.
    """
    for litmus in LITMUS_TESTS:
        if litmus.name == name:
            return litmus
    known = ", ".join(litmus.name for litmus in LITMUS_TESTS)
    message = f"There is no litmus test {name!r}. Take one of: {known}."
    raise UsageError(message)
