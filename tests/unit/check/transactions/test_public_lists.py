"""The checker of lists gives the verdicts that Elle gives on its own histories."""

from typing import NamedTuple

import pytest

from test_framework.check.formats import read_history
from test_framework.check.transactions import TransactionLog, check_list_append
from tests.unit.check.corpus import public_history


class Public(NamedTuple):
    """What is known of a public history."""

    holds: set[str]
    breaks: set[str]
    anomalies: set[str]


PAPER = Public(
    {"read-committed"},
    {"snapshot-isolation", "serializable", "strict-serializable"},
    {"G-single"},
)
KNOWN = {
    "elle/paper-example.edn": PAPER,
    "elle-cli/elle/paper-example.edn": PAPER,
    "elle-cli/elle/paper-example.json": PAPER,
    "elle/si-without-g-single.edn": Public(
        {"read-committed", "snapshot-isolation"},
        {"serializable", "strict-serializable"},
        {"G2-item", "G-single-realtime"},
    ),
    "elle-cli/elle/list-append-gh-30.edn": Public(
        {"snapshot-isolation"}, {"serializable"}, {"G2-item"}
    ),
    "elle/huge-scc.edn": Public(
        {"read-committed", "snapshot-isolation", "serializable"},
        {"strict-serializable"},
        {"G2-item-realtime"},
    ),
}


@pytest.mark.parametrize("name", KNOWN)
def test_public_lists_have_their_known_verdict(name: str) -> None:
    """Each level that Elle says holds or is broken, with its anomalies."""
    known = KNOWN[name]
    log = read_history(public_history(*name.split("/")))
    assert isinstance(log, TransactionLog)

    checked = {
        model: check_list_append(log, model) for model in known.holds | known.breaks
    }

    assert {model for model, one in checked.items() if one.verdict == "valid"} == (
        known.holds
    )
    assert {model for model, one in checked.items() if one.verdict == "invalid"} == (
        known.breaks
    )
    strictest = check_list_append(log)
    assert known.anomalies <= {one.name for one in strictest.anomalies}
    assert known.holds <= set(strictest.holds)


def test_huge_component_is_explained_by_its_shortest_cycle() -> None:
    """Elle gives this one up after ten seconds: one stale read explains it."""
    log = read_history(public_history("elle", "huge-scc.edn"))
    assert isinstance(log, TransactionLog)

    checked = check_list_append(log)

    worst = checked.anomalies[0]
    assert worst.name == "G-single-realtime"
    assert [link.because for link in worst.links] == [
        "T1 read [] of 7, before T2 appended 1 to it",
        "T2 was over at 14, before T1 began at 5342",
    ]
