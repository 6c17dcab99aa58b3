"""Versions are ordered by time as all pairs of transactions say, with fewer pairs."""

import random

from test_framework.check.transactions import FOREVER
from test_framework.check.transactions.register_versions import (
    Contacts,
    Registers,
    order_by_time,
    order_own,
)
from tests.unit.check.transactions.drawing import draw_wild_registers

Pairs = set[tuple[int, int]]


def close(pairs: Pairs) -> Pairs:
    """Return what follows from pairs."""
    while True:
        more = pairs | {
            (one, four) for one, two in pairs for three, four in pairs if two == three
        }
        if more == pairs:
            return pairs
        pairs = more


def test_order_by_time_is_that_of_all_pairs() -> None:
    """What is left out follows from the rest, and nothing else does."""
    orders = 0
    for seed in range(150):
        log = draw_wild_registers(random.Random(seed))
        contacts = Contacts.of(Registers.of(log))
        own = set(zip(*(side.tolist() for side in order_own(contacts)), strict=True))
        rows = list(
            zip(
                contacts.transaction.tolist(),
                contacts.key.tolist(),
                contacts.first.tolist(),
                contacts.last.tolist(),
                strict=True,
            )
        )
        expected = {
            (last, first)
            for one, key, _, last in rows
            for two, other, first, _ in rows
            if key == other
            and log.completed[one] < log.invoked[two]
            and log.completed[one] != FOREVER
        }

        before, after = order_by_time(log, contacts)

        found = set(zip(before.tolist(), after.tolist(), strict=True))
        assert close(found | own) == close(expected | own), seed
        assert found <= expected
        orders += len(expected)
    assert orders > 100
