"""Histories of registers: which anomalies, and which isolation levels, if they tell.

Each transaction writes unique values to registers and reads them. A read tells one
version and not those before it, so the order of versions is inferred where it can be,
and anomalies follow from it. What is found is certain, under the assumptions the caller
makes; that nothing is found proves a level only where the order of all versions is
known, or where a serial execution is found. Elsewhere the answer is ``unknown``, and
``check_black_box``, which searches through all orders, may know more.

Source: Kingsbury and Alvaro, "Elle", VLDB 2020, section 5.
"""

from dataclasses import dataclass

import numpy as np

from test_framework.check.transactions.answers import answer, find_flaws
from test_framework.check.transactions.cycles import find_cycles
from test_framework.check.transactions.dependencies import (
    Edges,
    Graph,
    Rivals,
    order_sessions,
)
from test_framework.check.transactions.levels import find_model, name_anomaly
from test_framework.check.transactions.log import (
    FOREVER,
    LISTS,
    NOTHING,
    Ints,
    Kind,
    Status,
    TransactionLog,
)
from test_framework.check.transactions.register_anomalies import find_register_anomalies
from test_framework.check.transactions.register_edges import (
    find_cyclic,
    find_partial,
    find_register_dependencies,
    keys_of,
)
from test_framework.check.transactions.register_versions import (
    Contacts,
    Registers,
    VersionOrder,
    order_by_sessions,
    order_by_time,
    order_initial,
    order_own,
)
from test_framework.check.transactions.replay import can_replay
from test_framework.check.transactions.witnesses import Narrator
from test_framework.check.witness import Checked

CHECKER = "registers"


@dataclass(frozen=True, slots=True)
class Assumptions:
    """What is known of each register by itself, whatever the isolation level is.

    Attributes:
        reads_precede_writes: What a transaction read of a key comes before what it
            wrote there. So it is wherever versions are ordered as they were committed.
        is_sequential: Each session meets the versions of a key in their order, within
            each transaction too.
        is_linearizable: So does everybody in real time.
    """

    reads_precede_writes: bool = True
    is_sequential: bool = False
    is_linearizable: bool = False


def check_registers(
    log: TransactionLog,
    model: str = "strict-serializable",
    *,
    assumptions: Assumptions | None = None,
) -> Checked:
    """Judge a history of registers.

    All levels are judged, whichever is demanded; the verdict is about the latter.

    Args:
        log: The history. Values of one key must be unique, and None is the initial one.
        model: What was promised; one of ``MODELS``.
        assumptions: More about the order of versions; by default that reads of a
            transaction precede its writes.

    Returns:
        The verdict, every kind of anomaly with a few witnesses each (those that break
        the model first), the models that certainly hold, and the weakest that are
        broken. It is unknown where the history does not tell, is empty, holds lists,
        reads values that nobody wrote, or writes one twice.

    Raises:
        UsageError: The model is not known.
    """
    find_model(model)
    flaws = find_flaws(log)
    is_list = np.isin(log.kind, LISTS)
    if np.any(is_list):
        place = int(np.argmax(is_list))
        flaws.append(
            f"Transaction {log.index[log.transaction[place]]} would "
            f"{Narrator(log).tell_operation(place)}, which is no register. Use the "
            "checker of lists."
        )
    is_null = np.array([value is None for value in log.values], dtype=np.bool_)
    wrote = np.flatnonzero((log.kind == Kind.WRITE) & (log.value >= 0))
    null = wrote[is_null[log.value[wrote]]] if len(wrote) else wrote
    if len(null):
        flaws.append(
            f"Transaction {log.index[log.transaction[null[0]]]} writes null, which "
            "cannot be told from what a register holds first. Write something else."
        )
    if flaws:
        return answer(CHECKER, model, log, flaws=flaws)
    registers, narrator = Registers.of(log), Narrator(log)
    order = _order_versions(registers, assumptions or Assumptions())
    is_cyclic = find_cyclic(registers, order)
    sound = ~is_cyclic[keys_of(registers, order.before)]
    order = VersionOrder(order.before[sound], order.after[sound])
    edges, nodes = find_register_dependencies(registers, order)
    edges = Edges.join(edges, order_sessions(log))
    completed = np.where(log.status == Status.OK, log.completed, FOREVER)
    nothing = np.zeros(0, dtype=np.int64)
    cycles = find_cycles(
        Graph(edges, Rivals(nothing, nothing, nothing), nodes, log.invoked, completed)
    )
    flaws = _find_flaws(registers, narrator)
    partial = find_partial(registers, order)
    undecided: tuple[str, ...] = ()
    if len(partial) and not flaws:
        undecided = _find_undecided(registers, edges)
    key = str(log.keys[int(partial[0])]) if len(partial) else ""
    return answer(
        CHECKER,
        model,
        log,
        flaws=flaws,
        findings=find_register_anomalies(registers, narrator, is_cyclic),
        cycles=cycles,
        undecided=undecided,
        doubt=(
            f"Reads do not tell the order of all versions of {key} ({len(partial)} such "
            "keys), and no serial execution was found. Read each key before you write "
            "it, append to lists, or use check_black_box."
        ),
        facts={"dependencies": len(edges), "keys of partial order": len(partial)},
    )


def _order_versions(registers: Registers, assumptions: Assumptions) -> VersionOrder:
    contacts = Contacts.of(registers)
    is_met_in_order = assumptions.is_sequential or assumptions.is_linearizable
    parts: list[tuple[Ints, Ints]] = []
    if assumptions.reads_precede_writes or is_met_in_order:
        parts.append(order_own(contacts))
    if is_met_in_order:
        parts.append(order_by_sessions(registers.log, contacts))
    if assumptions.is_linearizable:
        parts.append(order_by_time(registers.log, contacts))
    known = VersionOrder.join(*parts)
    initial = order_initial(registers, known)
    return VersionOrder.join((known.before, known.after), initial)


def _find_undecided(registers: Registers, edges: Edges) -> tuple[str, ...]:
    """Return the worst anomalies there may be although no cycle shows them.

    Levels up to read committed need no order of versions but one that agrees with all
    dependencies, and there is one as long as these have no cycle.
    """
    is_timed = np.any(registers.log.completed != FOREVER)
    for strength in (2, 1, 0) if is_timed else (1, 0):
        if can_replay(registers, edges, strength):
            is_all = strength == 2 or not is_timed
            return () if is_all else (name_anomaly("G-single", strength + 1),)
    return (name_anomaly("G-single", 0),)


def _find_flaws(registers: Registers, narrator: Narrator) -> list[str]:
    """Return why what was read is not certain."""
    flaws, writes, log = [], registers.writes, registers.log
    double = np.flatnonzero(writes.is_double)
    if len(double):
        place = int(writes.place[double[0]])
        flaws.append(
            f"Transaction {log.index[log.transaction[place]]} writes "
            f"{narrator.value(place)} to {narrator.key(place)}, and so does another "
            f"operation ({len(double)} such writes). Give each write its own value."
        )
    is_unknown = registers.read_version == NOTHING
    code = (
        log.key[registers.read_place] * (len(log.values) + 1)
        + (log.value[registers.read_place])
    )
    nobody: Ints = registers.read_place[is_unknown & ~np.isin(code, writes.code)]
    if len(nobody):
        place = int(nobody[0])
        flaws.append(
            f"Transaction {log.index[log.transaction[place]]} read "
            f"{narrator.value(place)} of {narrator.key(place)}, which no transaction "
            f"wrote ({len(nobody)} such reads). Record all that write."
        )
    return flaws
