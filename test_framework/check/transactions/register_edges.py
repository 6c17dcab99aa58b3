"""Dependencies between the transactions of a history of registers.

Write-read edges are certain: values are unique. Write-write and read-write edges follow
from the order of versions, as far as that is known.
"""

import numpy as np

from test_framework.check.transactions.cycles import find_components
from test_framework.check.transactions.dependencies import Edge, Edges, Flags
from test_framework.check.transactions.log import NOTHING, Ints
from test_framework.check.transactions.register_versions import (
    Registers,
    VersionOrder,
)
from test_framework.check.transactions.relays import relay_reads


def find_cyclic(registers: Registers, order: VersionOrder) -> Flags:
    """Tell which keys have versions that come before themselves; shape ``(k,)``."""
    labels = find_components(order.before, order.after, registers.versions)
    is_on_cycle = np.bincount(labels)[labels] > 1
    is_cyclic = np.zeros(len(registers.log.keys), dtype=np.bool_)
    is_cyclic[keys_of(registers, np.flatnonzero(is_on_cycle))] = True
    return is_cyclic


def keys_of(registers: Registers, version: Ints) -> Ints:
    """Return the key of each version."""
    key = np.concatenate((registers.writes.key, np.arange(len(registers.log.keys))))
    return np.asarray(key[version])


def find_register_dependencies(
    registers: Registers, order: VersionOrder
) -> tuple[Edges, int]:
    """Return the edges that values prove, and the number of nodes with relays."""
    log, writes = registers.log, registers.writes
    made = len(writes.place)
    seen, place = registers.read_version, registers.read_place
    is_known = (seen != NOTHING) & registers.is_outer
    seen, place = seen[is_known], place[is_known]
    reader = log.transaction[place]
    # Of what was written by one that took effect; the initial one is nobody's.
    takes = np.append(writes.transaction, np.full(len(log.keys), NOTHING))
    at = np.append(writes.place, np.full(len(log.keys), NOTHING))
    real = np.append(registers.took_effect, False)
    is_real = real[takes[seen]] & (takes[seen] != reader)
    saw = Edges.of(
        Edge.WR,
        takes[seen[is_real]],
        reader[is_real],
        at[seen[is_real]],
        place[is_real],
    )
    before, after = order.before, order.after
    fits = real[takes[after]] & ((before >= made) | real[takes[before]])
    before, after = before[fits], after[fits]
    both = (before < made) & (takes[before] != takes[after])
    first, second = before[both], after[both]
    wrote = Edges.of(Edge.WW, takes[first], takes[second], at[first], at[second])
    relayed, nodes = relay_reads(
        len(log), (reader, seen, place), (takes[after], before, at[after])
    )
    return Edges.join(saw, wrote, relayed), nodes


def find_partial(registers: Registers, order: VersionOrder) -> Ints:
    """Return keys of which not all versions are in one known order.

    That is so unless each version leads to the next one, from the initial one on.
    """
    log, made = registers.log, len(registers.writes.place)
    installed = np.flatnonzero(registers.is_installed())
    key = registers.writes.key[installed]
    # Most often each version but one has one that was written on top of it.
    own = order.before < made
    follows, led = (
        np.bincount(side[own], minlength=made)[installed]
        for side in (order.after, order.before)
    )
    versions = np.bincount(key, minlength=len(log.keys))
    roots = np.bincount(key[follows == 0], minlength=len(log.keys))
    branched = np.bincount(key[(follows > 1) | (led > 1)], minlength=len(log.keys))
    doubtful = np.flatnonzero((roots > 1) | (branched > 0) & (versions > 1))
    is_doubtful = np.zeros(len(log.keys), dtype=np.bool_)
    is_doubtful[doubtful] = True
    chosen = own & is_doubtful[keys_of(registers, order.before)]
    return doubtful[
        ~_are_chains(
            order.before[chosen], order.after[chosen], installed, key, doubtful
        )
    ]


def _are_chains(
    before: Ints, after: Ints, installed: Ints, key: Ints, doubtful: Ints
) -> Flags:
    """Tell of which keys the order has one way through all versions only."""
    following: dict[int, list[int]] = {}
    waiting: dict[int, int] = {}
    for one, two in zip(before.tolist(), after.tolist(), strict=True):
        following.setdefault(one, []).append(two)
        waiting[two] = waiting.get(two, 0) + 1
    members: dict[int, list[int]] = {number: [] for number in doubtful.tolist()}
    for version, owner in zip(installed.tolist(), key.tolist(), strict=True):
        if owner in members:
            members[owner].append(version)
    verdicts = []
    for versions in members.values():
        ready = [one for one in versions if not waiting.get(one)]
        placed = 0
        while len(ready) == 1:
            placed += 1
            last = ready.pop()
            for version in following.get(last, ()):
                waiting[version] -= 1
                if not waiting[version]:
                    ready.append(version)
        verdicts.append(placed == len(versions))
    return np.array(verdicts, dtype=np.bool_)
