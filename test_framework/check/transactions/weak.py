"""READ COMMITTED, READ ATOMIC and causal consistency of black-box register histories.

Nothing but values says who read whose write, and no times are needed. Each level asks for
one order of commits that extends program order and reads-from; ``weak_orders`` lists what
that order must hold besides, and a cycle among these edges is the proof that none exists.

All three take polynomial time, as these levels are the strongest that do: snapshot
isolation and serializability are NP-hard (Biswas and Enea, OOPSLA 2019) and stand in
``polygraph``.
"""

import enum
from collections.abc import Callable

import numpy as np

from test_framework.check.transactions.log import NOTHING, Ints, TransactionLog
from test_framework.check.transactions.weak_cycles import find_cycles, find_way
from test_framework.check.transactions.weak_orders import (
    CommitEdges,
    Reason,
    atomic_edges,
    causal_edges,
    monotonic_edges,
    vector_clocks,
)
from test_framework.check.transactions.weak_reads import ReadsFrom, find_readers
from test_framework.check.transactions.weak_witness import Narrator, tell_misread
from test_framework.check.witness import Anomaly, Checked
from test_framework.core import Verdict

CHECKER = "black-box registers"

MEMORY_BYTES = 1 << 30
"""Most that vector clocks may take (bytes)."""


class IsolationLevel(enum.StrEnum):
    """Isolation levels of histories of registers, the weakest first.

    All of them ask for program order of sessions as well, as the papers do that define
    them without times; so the last two have the names of Elle's strong session levels.
    """

    READ_COMMITTED = "read-committed"
    READ_ATOMIC = "read-atomic"
    CAUSAL = "causal"
    SNAPSHOT_ISOLATION = "strong-session-snapshot-isolation"
    SERIALIZABLE = "strong-session-serializable"


WEAK = (
    IsolationLevel.READ_COMMITTED,
    IsolationLevel.READ_ATOMIC,
    IsolationLevel.CAUSAL,
)

_NAMES = {
    Reason.READ_BEFORE: "non-monotonic read",
    Reason.READ: "fractured read",
    Reason.SESSION: "fractured read",
    Reason.CAUSAL: "causality violation",
}


def check_weak(log: TransactionLog, level: IsolationLevel) -> Checked:
    """Judge whether a history of registers shows one of the three weak levels.

    Args:
        log: Transactions of reads and writes; values unique for each key.
        level: One of ``WEAK``.

    Returns:
        ``unknown`` when nothing was read, when reads could not be matched with one
        writer, or when vector clocks would not fit into ``MEMORY_BYTES``.

    Raises:
        UsageError: The history holds lists.
    """
    return judge_weak(find_readers(log), level)


def judge_weak(reads: ReadsFrom, level: IsolationLevel) -> Checked:
    """Judge a history whose reads were matched already."""
    facts: dict[str, int | float | str] = {
        "transactions": reads.initial,
        "sessions": len(np.unique(reads.session)),
        "reads of others": len(reads.reader),
    }
    wrong = find_misreads(reads)
    if wrong:
        return Checked(CHECKER, level, Verdict.INVALID, anomalies=wrong, facts=facts)
    cycles = _cycles(reads, CommitEdges.joined([]))
    if not cycles and level is IsolationLevel.CAUSAL:
        sessions = facts["sessions"]
        need = 4 * (reads.initial + 1) * int(sessions)
        if need > MEMORY_BYTES:
            reason = (
                f"Vector clocks of {reads.initial} transactions in {sessions} sessions "
                f"take {need >> 20} MiB, more than the {MEMORY_BYTES >> 20} MiB allowed. "
                "Judge a part of the history, or read-atomic."
            )
            return Checked(CHECKER, level, Verdict.UNKNOWN, reason, facts=facts)
    if not cycles:
        edges = _EDGES[level](reads)
        facts["commit edges"] = len(edges.source)
        cycles = _cycles(reads, edges)
    if cycles:
        found = tuple(cycles)
        return Checked(CHECKER, level, Verdict.INVALID, anomalies=found, facts=facts)
    doubt = say_doubt(reads)
    verdict = Verdict.UNKNOWN if doubt else Verdict.VALID
    return Checked(CHECKER, level, verdict, doubt, facts=facts)


def find_misreads(reads: ReadsFrom) -> tuple[Anomaly, ...]:
    """Return the witnesses of reads that are wrong at every level."""
    return tuple(tell_misread(misread, reads) for misread in reads.misreads)


def say_doubt(reads: ReadsFrom) -> str:
    """Return why nothing found proves nothing; empty where every read has one writer."""
    log = reads.log
    if not reads.answered:
        return (
            "No transaction that committed has a read with an answer, so there is "
            "nothing to judge. Record reads as well as writes, and see that some commit."
        )
    if not len(reads.ambiguous):
        return ""
    place = int(reads.ambiguous[0])
    key, value = log.keys[int(log.key[place])], int(log.value[place])
    several = (
        f"{key!r} held nothing at first and None was written to it"
        if value == NOTHING
        else f"several transactions wrote {log.values[value]!r} to {key!r}"
    )
    return (
        f"Reads could not be matched with one writer, {len(reads.ambiguous)} of them: "
        f"{several}. No fault was found without these reads. Record a history whose "
        "writes to a key are all different."
    )


def _causal(reads: ReadsFrom) -> CommitEdges:
    return causal_edges(reads, vector_clocks(reads))


_EDGES: dict[IsolationLevel, Callable[[ReadsFrom], CommitEdges]] = {
    IsolationLevel.READ_COMMITTED: monotonic_edges,
    IsolationLevel.READ_ATOMIC: atomic_edges,
    IsolationLevel.CAUSAL: _causal,
}


def _cycles(reads: ReadsFrom, edges: CommitEdges) -> list[Anomaly]:
    """Return the witnesses of cycles in program order, reads-from and commit edges."""
    before, after = reads.session_edges()
    writer, reader, read = reads.read_edges()
    source = np.concatenate((before, writer, edges.source))
    target = np.concatenate((after, reader, reads.writer[edges.read]))
    found = find_cycles(source, target, reads.initial + 1)
    first = len(before), len(before) + len(writer)
    return [
        _tell_cycle(reads, source, target, cycle, first, read, edges) for cycle in found
    ]


def _tell_cycle(  # one argument per kind of edge
    reads: ReadsFrom,
    source: Ints,
    target: Ints,
    cycle: list[int],
    first: tuple[int, int],
    read: Ints,
    edges: CommitEdges,
) -> Anomaly:
    """Return the witness of one cycle, rotated to end with a commit edge if it can."""
    commits = [edge - first[1] for edge in cycle if edge >= first[1]]
    name = _NAMES[Reason(max(edges.reason[commits]))] if commits else "G1c"
    for number in commits:
        if reads.writer[edges.read[number]] == reads.initial:
            return _tell_missed(reads, edges, number, name)
    narrator = Narrator(reads)
    turn = next((at for at, edge in enumerate(cycle) if edge >= first[1]), -1) + 1
    cycle = cycle[turn:] + cycle[:turn]
    for edge in cycle:
        narrator.name(int(source[edge]))
    for edge in cycle:
        if edge < first[0]:
            narrator.tell_session(int(source[edge]), int(target[edge]))
        elif edge < first[1]:
            narrator.tell_read(int(read[edge - first[0]]))
        else:
            _tell_commit(narrator, reads, edges, edge - first[1])
    steps = " -> ".join(narrator.name(int(source[edge])) for edge in cycle)
    claim = (
        f"No order of commits fits: {steps} -> {narrator.name(int(source[cycle[0]]))}."
    )
    return narrator.anomaly(name, claim)


def _tell_missed(
    reads: ReadsFrom, edges: CommitEdges, number: int, name: str
) -> Anomaly:
    """Return the witness of a reader that saw no write though it saw the writer."""
    source, read = int(edges.source[number]), int(edges.read[number])
    reader = int(reads.reader[read])
    narrator = Narrator(reads)
    for before, by in _way(reads, source, reader):
        if by is None:
            narrator.tell_session(before, before + 1)
        else:
            narrator.tell_read(by)
    key = narrator.key(int(reads.key[read]))
    first, second = narrator.name(source), narrator.name(reader)
    because = f"{narrator.say_read(read)}, which {first} had overwritten."
    narrator.link(reader, source, "rw", because)
    claim = f"{second} read {key} as nobody had written it, though {first} had."
    return narrator.anomaly(name, claim)


def _tell_commit(
    narrator: Narrator, reads: ReadsFrom, edges: CommitEdges, number: int
) -> None:
    """Tell why a transaction committed before the writer that was read."""
    source, read = int(edges.source[number]), int(edges.read[number])
    reader, writer = int(reads.reader[read]), int(reads.writer[read])
    first, second = narrator.name(source), narrator.name(reader)
    reason = Reason(int(edges.reason[number]))
    if reason is Reason.READ_BEFORE:
        why = f"{second} had read from {first} before"
    elif reason is Reason.READ:
        why = f"{second} read from {first} as well"
    elif reason is Reason.SESSION:
        why = f"{first} came before {second} in its session"
    else:
        why = _say_past(narrator, reads, source, reader)
    narrator.link(
        source,
        writer,
        "co",
        f"{narrator.say_read(read)}, though {why}, and {first} wrote "
        f"{narrator.key(int(reads.key[read]))} too: so {first} must have committed "
        f"before {narrator.name(writer)}.",
    )


def _say_past(narrator: Narrator, reads: ReadsFrom, source: int, reader: int) -> str:
    """Return over which steps a transaction happened before another one."""
    steps = narrator.name(source)
    for before, by in _way(reads, source, reader):
        if by is None:
            steps += f" -session-> {narrator.name(before + 1)}"
        else:
            key = narrator.key(int(reads.key[by]))
            steps += f" -wr({key})-> {narrator.name(int(reads.reader[by]))}"
    return f"{narrator.name(source)} happened before it ({steps})"


def _way(reads: ReadsFrom, source: int, reader: int) -> list[tuple[int, int | None]]:
    """Return the shortest steps of program order and reads-from between two nodes.

    Each is the node it begins at, and the read it goes over, if any.
    """
    before, after = reads.session_edges()
    writer, to, read = reads.read_edges()
    way = find_way(
        np.concatenate((before, writer)),
        np.concatenate((after, to)),
        reads.initial + 1,
        source,
        reader,
    )
    return [
        (int(before[edge]), None)
        if edge < len(before)
        else (int(writer[edge - len(before)]), int(read[edge - len(before)]))
        for edge in way or ()
    ]
