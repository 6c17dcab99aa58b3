"""List-append histories: which anomalies, so which isolation levels.

Each transaction appends unique values to lists and reads whole lists. Their reads tell
the order of versions, so all dependencies are known and each level is decided in time
O(operations log operations), however many orders there are.

Source: Kingsbury and Alvaro, "Elle: Inferring Isolation Anomalies from Experimental
Observations", VLDB 2020. We place appends that nobody saw after all that were seen, and
join real time through instants, with O(transactions) edges.
"""

import numpy as np

from test_framework.check.transactions.answers import answer, find_flaws
from test_framework.check.transactions.appending import Lists, find_dependencies
from test_framework.check.transactions.cycles import find_cycles
from test_framework.check.transactions.dependencies import Edges, Graph, order_sessions
from test_framework.check.transactions.direct import find_direct
from test_framework.check.transactions.levels import find_model
from test_framework.check.transactions.log import (
    FOREVER,
    NOTHING,
    Kind,
    Status,
    TransactionLog,
)
from test_framework.check.transactions.own import find_internal, find_lost_updates
from test_framework.check.transactions.witnesses import Narrator
from test_framework.check.witness import Checked


def check_list_append(
    log: TransactionLog, model: str = "strict-serializable"
) -> Checked:
    """Judge a list-append history.

    All levels are judged, whichever is demanded; the verdict is about the latter.

    Args:
        log: The history. Values of one key must be unique.
        model: What was promised; one of ``levels.MODELS``.

    Returns:
        The verdict, every kind of anomaly with a few witnesses each (those that break
        the model first), the models that hold, and the weakest that are broken. It is
        unknown where the history is empty, holds operations on registers, reads values
        that nobody appended, or appends one twice, unless it is invalid all the same.

    Raises:
        UsageError: The model is not known.
    """
    find_model(model)
    flaws = find_flaws(log)
    is_register = (log.kind == Kind.WRITE) | (
        (log.kind == Kind.READ) & (log.value >= 0)
    )
    if np.any(is_register):
        place = int(np.argmax(is_register))
        flaws.append(
            f"Transaction {log.index[log.transaction[place]]} would "
            f"{Narrator(log).tell_operation(place)}, which is no list. Use the checker "
            "of registers."
        )
    if flaws:
        return answer("list-append", model, log, flaws=flaws)
    lists = Lists.of(log)
    narrator = Narrator(log)
    edges, rivals, nodes = find_dependencies(lists)
    # What was refused is nobody's past, and what may yet happen is not over.
    completed = np.where(log.status == Status.OK, log.completed, FOREVER)
    edges = Edges.join(edges, order_sessions(log))
    cycles = find_cycles(Graph(edges, rivals, nodes, log.invoked, completed))
    findings = [
        *find_direct(lists, narrator),
        find_internal(lists, narrator),
        find_lost_updates(lists, narrator),
    ]
    return answer(
        "list-append",
        model,
        log,
        flaws=_find_flaws(lists, narrator),
        findings=[finding for finding in findings if finding.count],
        cycles=cycles,
        facts={"dependencies": len(edges)},
    )


def _find_flaws(lists: Lists, narrator: Narrator) -> list[str]:
    """Return why the orders of versions are not certain."""
    flaws, appends, log = [], lists.appends, lists.log
    double = np.flatnonzero(appends.is_double)
    if len(double):
        place = int(appends.place[double[0]])
        flaws.append(
            f"Transaction {log.index[log.transaction[place]]} appends "
            f"{narrator.value(place)} to {narrator.key(place)}, and so does another "
            f"operation ({len(double)} such appends). Give each append its own value."
        )
    nobody = np.flatnonzero(lists.orders.slot == NOTHING)
    key, value = lists.orders.key[nobody], lists.orders.value[nobody]
    if len(nobody):
        read = lists.orders.longest[key[0]]
        place = int(lists.reads.place[read])
        flaws.append(
            f"Transaction {log.index[log.transaction[place]]} read "
            f"{log.values[int(value[0])]} in {narrator.key(place)}, which no transaction "
            f"appended ({len(nobody)} such elements). Record all that write."
        )
    return flaws
