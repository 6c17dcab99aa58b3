"""Anomalies of histories of registers that need no cycle of transactions.

Named and meant as in Adya ("Weak Consistency", MIT 1999) and in Kingsbury and Alvaro
("Elle", VLDB 2020, section 5).
"""

import numpy as np

from test_framework.check.transactions.dependencies import Edge, Flags
from test_framework.check.transactions.direct import SHOWN, Finding
from test_framework.check.transactions.log import NOTHING, Kind, Status
from test_framework.check.transactions.register_versions import Registers
from test_framework.check.transactions.witnesses import Narrator


def find_register_anomalies(
    registers: Registers, narrator: Narrator, is_cyclic: Flags
) -> list[Finding]:
    """Return all anomalies that are seen without a cycle of transactions.

    Args:
        registers: The history.
        narrator: Tells the witnesses.
        is_cyclic: Keys whose versions come before themselves; shape ``(k,)``.
    """
    findings = [
        _tell_cyclic(registers, narrator, is_cyclic),
        _find_aborted(registers, narrator),
        _find_intermediate(registers, narrator),
        _find_internal(registers, narrator),
        _find_lost_updates(registers, narrator),
    ]
    return [finding for finding in findings if finding.count]


def _tell_cyclic(registers: Registers, narrator: Narrator, is_cyclic: Flags) -> Finding:
    """Tell which keys have no order of versions."""
    name, log = "cyclic-versions", registers.log
    keys = np.flatnonzero(is_cyclic)
    anomalies = []
    for key in keys[:SHOWN].tolist():
        place = int(np.flatnonzero(log.key == key)[0])
        claim = (
            f"What transactions read and wrote of {narrator.key(place)}, with what is "
            "assumed of each key, puts some version before itself. T1 is the first of "
            "them."
        )
        anomalies.append(narrator.tell(name, claim, [(place, "T1")]))
    return Finding(name, len(keys), tuple(anomalies))


def _find_aborted(registers: Registers, narrator: Narrator) -> Finding:
    """Find reads of what a refused transaction wrote."""
    name, log, writes = "G1a", registers.log, registers.writes
    version, place = registers.read_version, registers.read_place
    is_known = (version != NOTHING) & (version < len(writes.place))
    version, place = version[is_known], place[is_known]
    maker = writes.transaction[version]
    is_refused = log.status[maker] == Status.FAIL
    anomalies = []
    shown = (column[is_refused][:SHOWN].tolist() for column in (version, place))
    for slot, seen in zip(*shown, strict=True):
        made = int(writes.place[slot])
        claim = (
            f"T2 read {narrator.value(seen)} of {narrator.key(seen)}, that T1 wrote, "
            "and T1 was refused."
        )
        anomalies.append(
            narrator.tell(name, claim, [(made, "T1"), (seen, "T2")], Edge.WR)
        )
    return Finding(name, int(np.count_nonzero(is_refused)), tuple(anomalies))


def _find_intermediate(registers: Registers, narrator: Narrator) -> Finding:
    """Find reads of what its writer then overwrote itself."""
    name, log, writes = "G1b", registers.log, registers.writes
    version, place = registers.read_version, registers.read_place
    is_known = (version != NOTHING) & (version < len(writes.place))
    version, place = version[is_known], place[is_known]
    maker = writes.transaction[version]
    is_early = ~writes.is_final[version] & (maker != log.transaction[place])
    is_early &= log.status[maker] != Status.FAIL
    anomalies = []
    shown = (column[is_early][:SHOWN].tolist() for column in (version, place))
    for slot, seen in zip(*shown, strict=True):
        made = int(writes.place[slot])
        later = made + 1
        while log.kind[later] != Kind.WRITE or log.key[later] != log.key[made]:
            later += 1
        claim = (
            f"T2 read {narrator.value(seen)} of {narrator.key(seen)}, that T1 wrote "
            f"before it wrote {narrator.value(later)}."
        )
        anomalies.append(
            narrator.tell(name, claim, [(made, "T1"), (seen, "T2")], Edge.WR)
        )
    return Finding(name, int(np.count_nonzero(is_early)), tuple(anomalies))


def _find_internal(registers: Registers, narrator: Narrator) -> Finding:
    """Find reads that contradict what their own transaction read or wrote before.

    Also those of what it wrote only later.
    """
    name, log, writes = "internal", registers.log, registers.writes
    place, begin = registers.runs.place, registers.runs.begin
    is_ok = log.status[log.transaction[place]] == Status.OK
    is_read = is_ok & (log.kind[place] == Kind.READ)
    follows = np.zeros(len(place), dtype=np.bool_)
    follows[1:] = begin[1:] == begin[:-1]
    differs = np.zeros(len(place), dtype=np.bool_)
    differs[1:] = log.value[place[1:]] != log.value[place[:-1]]
    wrong = place[is_read & follows & differs]
    version, read = registers.read_version, registers.read_place
    is_early = registers.is_outer & (version != NOTHING)
    is_early &= version < len(writes.place)
    early = read[is_early]
    own = writes.transaction[version[is_early]] == log.transaction[early]
    wrong = np.unique(np.concatenate((wrong, early[own])))
    anomalies = []
    for seen in wrong[:SHOWN].tolist():
        number = int(log.transaction[seen])
        others = [
            narrator.tell_operation(other)
            for other in range(int(log.first[number]), int(log.first[number + 1]))
            if other != seen and log.key[other] == log.key[seen]
        ]
        claim = (
            f"T1 read {narrator.value(seen)} of {narrator.key(seen)}, which does not "
            f"agree with what else it did of it: {', '.join(others)}."
        )
        anomalies.append(narrator.tell(name, claim, [(seen, "T1")]))
    return Finding(name, len(wrong), tuple(anomalies))


def _find_lost_updates(registers: Registers, narrator: Narrator) -> Finding:
    """Find transactions that read the same version and each wrote over it."""
    name, log = "lost-update", registers.log
    version_at = np.full(len(log.kind), NOTHING)
    version_at[registers.read_place] = registers.read_version
    outer = np.zeros(len(log.kind), dtype=np.bool_)
    outer[registers.read_place[registers.is_outer]] = True
    place, begin = registers.runs.place, registers.runs.begin
    is_write = log.kind[place] == Kind.WRITE
    # The first write of a run, after the read that the run begins with.
    spots = np.flatnonzero(is_write)
    _, first = np.unique(begin[spots], return_index=True)
    spots = spots[first]
    read = place[begin[spots]]
    fits = outer[read] & (version_at[read] != NOTHING)
    read, write = read[fits], place[spots[fits]]
    order = np.argsort(version_at[read], kind="stable")
    read, write = read[order], write[order]
    version = version_at[read]
    groups = np.unique(version[1:][version[1:] == version[:-1]])
    anomalies = []
    for group in groups[:SHOWN].tolist():
        at = int(np.searchsorted(version, group))
        claim = (
            f"T1 and T2 both read {narrator.value(int(read[at]))} of "
            f"{narrator.key(int(read[at]))}; T1 then wrote "
            f"{narrator.value(int(write[at]))} and T2 "
            f"{narrator.value(int(write[at + 1]))}: one did not see the other."
        )
        proofs = [(int(read[at]), "T1"), (int(read[at + 1]), "T2")]
        anomalies.append(narrator.tell(name, claim, proofs))
    return Finding(name, len(groups), tuple(anomalies))
