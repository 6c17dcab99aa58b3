"""From cycles and other findings to the answer of a checker."""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from test_framework.check.transactions.cycles import Cycles
from test_framework.check.transactions.direct import Finding
from test_framework.check.transactions.levels import (
    find_model,
    judge_levels,
    rank_anomaly,
    rules_out,
)
from test_framework.check.transactions.log import (
    MOST_ABSENT,
    Kind,
    Status,
    TransactionLog,
)
from test_framework.check.transactions.witnesses import Narrator
from test_framework.check.witness import Anomaly, Checked
from test_framework.core import Verdict


def find_flaws(log: TransactionLog) -> list[str]:
    """Return why a history cannot be judged at all, whatever it holds."""
    flaws = []
    is_ok = log.status == Status.OK
    is_read = np.isin(log.kind, (Kind.READ, Kind.READ_LIST, Kind.ABSENT))
    if log.omitted:
        flaws.append(
            f"Its scans did not find {log.omitted:,} lists, more than the "
            f"{MOST_ABSENT:,} that are judged. Give scans a narrower scope."
        )
    if not np.any(is_ok):
        flaws.append(
            f"None of its {len(log)} transactions is known to have taken effect: there "
            "is nothing to judge. Record completions as well as invocations."
        )
    elif not np.any(is_read & is_ok[log.transaction]):
        flaws.append(
            f"None of its {np.count_nonzero(is_ok)} transactions that took effect read "
            "anything: writes alone are never wrong. Let the workload read as well."
        )
    late = np.flatnonzero(log.completed < log.invoked)
    if len(late):
        first = int(late[0])
        flaws.append(
            f"Transaction {log.index[first]} completes at {log.completed[first]}, "
            f"before it is invoked at {log.invoked[first]}. Record both on one "
            "monotonic clock."
        )
    return flaws


def answer(
    checker: str,
    model: str,
    log: TransactionLog,
    *,
    flaws: Sequence[str],
    findings: Iterable[Finding] = (),
    cycles: Cycles | None = None,
    undecided: Sequence[str] = (),
    doubt: str = "",
    facts: Mapping[str, int | float | str] | None = None,
) -> Checked:
    """Return what a checker says.

    What breaks the model makes the history invalid whatever else is wrong with it. One
    with flaws is never valid, and no level is said to hold.

    Args:
        checker: Its name.
        model: What is demanded.
        log: The history.
        flaws: Sentences on why the history cannot be judged as it is.
        findings: Anomalies that are no cycles.
        cycles: The others.
        undecided: Names of anomalies that there may be or not.
        doubt: Why; a sentence.
        facts: Counts for the reader.
    """
    demanded = find_model(model)
    narrator = Narrator(log)
    anomalies: list[Anomaly] = []
    counts: dict[str, int | float | str] = {}
    given_up: tuple[str, ...] = ()
    for finding in findings:
        counts[finding.name] = finding.count
        anomalies.extend(finding.anomalies)
    if cycles is not None:
        given_up = cycles.undecided
        for name, found in cycles.found.items():
            counts[name] = len(found)
            anomalies.extend(narrator.tell_cycle(cycle) for cycle in found)
        for name, pairs in cycles.choices.items():
            counts[name] = len(pairs)
            anomalies.extend(narrator.tell_choice(name, *pair) for pair in pairs)
        counts["transactions on cycles"] = cycles.tangled
    breaking = [one for one in anomalies if rules_out(demanded, one.name)]
    others = [one for one in anomalies if not rules_out(demanded, one.name)]
    holds, broken = judge_levels(
        {one.name for one in anomalies}, [*undecided, *given_up]
    )
    reasons = list(flaws)
    if demanded.name not in holds and not breaking:
        reasons.extend(
            f"Whether there is a {name} was not decided: its search was given up."
            for name in given_up
            if rules_out(demanded, name)
        )
        if any(rules_out(demanded, name) for name in undecided):
            reasons.append(doubt)
    verdict = (
        Verdict.INVALID if breaking else Verdict.UNKNOWN if reasons else Verdict.VALID
    )
    return Checked(
        checker,
        demanded.name,
        verdict,
        reason=" ".join(reasons) if verdict is Verdict.UNKNOWN else "",
        anomalies=tuple(
            sorted(breaking, key=lambda one: rank_anomaly(one.name))
            + sorted(others, key=lambda one: rank_anomaly(one.name))
        ),
        holds=() if flaws else holds,
        broken=broken,
        facts={
            "transactions": len(log),
            "operations": len(log.kind),
            "keys": len(log.keys),
            **(facts or {}),
            **counts,
        },
    )
