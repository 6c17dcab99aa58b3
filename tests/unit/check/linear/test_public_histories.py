"""The search gives the verdicts of the public histories that Porcupine ships."""

import csv

import pytest

from test_framework.check.formats import read_history
from test_framework.check.linear import (
    CasRegister,
    KeyValue,
    check_linearizability,
)
from test_framework.check.transactions import TransactionLog
from tests.unit.check.corpus import public_history

ETCD = [
    f"jepsen/etcd_{number:03}.log" for number in range(103) if number != 95
]  # its file is empty
STORES = [
    f"kv/c{count}-{kind}.txt" for count in ("01", "10", "50") for kind in ("ok", "bad")
]


@pytest.mark.parametrize("name", [*ETCD, *STORES])
def test_public_history_has_its_known_verdict(name: str) -> None:
    """A register of etcd under Jepsen, or a store of texts with up to 50 clients."""
    with public_history("porcupine", "verdicts.csv").open(encoding="utf-8") as file:
        verdicts = dict(csv.reader(file))
    calls = read_history(public_history("porcupine", name))
    assert not isinstance(calls, TransactionLog)

    checked = check_linearizability(
        calls, KeyValue() if name in STORES else CasRegister()
    )

    expected = {"true": "valid", "false": "invalid"}[verdicts[name]]
    assert checked.verdict == expected
