"""Judges a history of registers by any of five isolation levels, the weakest first.

``weak`` decides three of them in polynomial time. Snapshot isolation and serializability
are NP-hard for such histories (Papadimitriou 1979; Biswas and Enea 2019): what causal
consistency leaves open becomes a ``polygraph``, is pruned, and the rest is searched
within limits of time and memory that end in ``unknown``.
"""

from dataclasses import replace

from test_framework.check.linear import Limits
from test_framework.check.transactions.log import TransactionLog
from test_framework.check.transactions.polygraph import (
    Chains,
    Polygraph,
    build_polygraph,
)
from test_framework.check.transactions.polygraph_pruning import prune
from test_framework.check.transactions.polygraph_search import search
from test_framework.check.transactions.polygraph_witness import (
    Teller,
    tell_lost_update,
)
from test_framework.check.transactions.weak import (
    CHECKER,
    WEAK,
    IsolationLevel,
    judge_weak,
    say_doubt,
)
from test_framework.check.transactions.weak_reads import ReadsFrom, find_readers
from test_framework.check.witness import Anomaly, Checked
from test_framework.core import NS_PER_S, Clock, MonotonicClock, Verdict

_BYTES_PER_PAIR = 400
"""Measured for a million pairs of blind writes: their options, and copies of these."""


def check_black_box(
    log: TransactionLog,
    level: IsolationLevel = IsolationLevel.SERIALIZABLE,
    *,
    limits: Limits | None = None,
    clock: Clock | None = None,
) -> Checked:
    """Judge whether a history of registers shows an isolation level.

    Nothing but the values that were read is looked at, so times need not be known.

    Args:
        log: Reads and writes of registers; values unique for each key.
        level: The one that is demanded.
        limits: Of time and memory, for the levels that are NP-hard.
        clock: Measures the time.

    Returns:
        With ``holds`` the levels up to the demanded one that the history shows, and with
        ``broken`` the weakest one that it does not. ``unknown`` when limits ended the
        search, when python-sat (the extra ``sat``) is needed and missing, when nothing
        was read, or when reads could not be matched with one writer.

    Raises:
        UsageError: The history holds lists.
    """
    reads = find_readers(log)
    judging = _Judging(reads, limits or Limits(), clock or MonotonicClock())
    checked = judging.judge(level)
    order = list(IsolationLevel)
    weaker = order[: order.index(level)]
    if checked.verdict is Verdict.VALID:
        return replace(checked, holds=(level, *reversed(weaker)))
    held: list[IsolationLevel] = []
    for one in weaker:
        lesser = judging.judge(one)
        if lesser.verdict is Verdict.INVALID:
            return replace(checked, holds=tuple(reversed(held)), broken=(one,))
        if lesser.verdict is Verdict.UNKNOWN:
            return replace(checked, holds=tuple(reversed(held)))
        held.append(one)
    broken = (level,) if checked.verdict is Verdict.INVALID else ()
    return replace(checked, holds=tuple(reversed(held)), broken=broken)


class _Judging:
    """Judges one history by several levels within one set of limits."""

    def __init__(self, reads: ReadsFrom, limits: Limits, clock: Clock) -> None:
        self._reads = reads
        self._limits = limits
        self._clock = clock
        self._end = clock.now_ns() + round(limits.seconds * NS_PER_S)
        self._known: dict[IsolationLevel, Checked] = {}

    def judge(self, level: IsolationLevel) -> Checked:
        """Judge by one level; what was judged before is not judged again."""
        if level not in self._known:
            is_weak = level in WEAK
            self._known[level] = (
                judge_weak(self._reads, level) if is_weak else self._judge_hard(level)
            )
        return self._known[level]

    def _is_over(self) -> bool:
        return self._clock.now_ns() > self._end

    def _judge_hard(self, level: IsolationLevel) -> Checked:
        weaker = self.judge(IsolationLevel.CAUSAL)
        if weaker.verdict is Verdict.UNKNOWN:
            # Its clocks would not fit; program order and reads-from have no cycle here.
            weaker = self.judge(IsolationLevel.READ_ATOMIC)
        if weaker.verdict is Verdict.INVALID:
            return replace(weaker, model=level)
        if not self._reads.answered:
            return self._answer(level)
        chains = Chains(self._reads)
        if chains.lost_update is not None:
            found = tell_lost_update(self._reads, *chains.lost_update)
            return self._answer(level, anomalies=(found,))
        need = self._needed_bytes(chains, level)
        if need > self._limits.memory_bytes:
            return self._answer(
                level,
                reason=f"{self._reads.initial} transactions with "
                f"{chains.count_open_pairs()} pairs of writes in unknown order take "
                f"{need >> 20} MiB, more than the {self._limits.memory_bytes >> 20} MiB "
                "allowed. Raise memory_bytes, judge a part of the history, or record "
                "writes that read what they overwrite.",
            )
        return self._judge_polygraph(build_polygraph(chains, level), level)

    def _needed_bytes(self, chains: Chains, level: IsolationLevel) -> int:
        nodes = self._reads.initial * (
            2 if level is IsolationLevel.SNAPSHOT_ISOLATION else 1
        )
        return (
            nodes * (nodes // 64 + 1) * 8 + chains.count_open_pairs() * _BYTES_PER_PAIR
        )

    def _judge_polygraph(self, graph: Polygraph, level: IsolationLevel) -> Checked:
        facts = {"choices": graph.pairs}
        pruned = prune(graph, self._is_over)
        teller = Teller(self._reads, graph, pruned)
        if pruned.closure is None:
            return self._answer(level, facts, anomalies=teller.tell_known())
        if pruned.contradiction is not None:
            found = teller.tell_contradiction(pruned.contradiction)
            return self._answer(level, facts, anomalies=(found,))
        facts["choices left"] = len(set((pruned.option // 2).tolist()))
        if pruned.is_stopped:
            return self._answer(level, facts, reason=self._say_over(facts))
        if not len(pruned.option):
            return self._answer(level, facts)
        try:
            found_choice = search(graph.shape, pruned, pruned.closure, self._is_over)
        except ImportError:
            return self._answer(
                level,
                facts,
                reason=f"Pruning left {facts['choices left']} choices of the order of "
                "writes, and searching them takes python-sat, which is not installed. "
                "Install isolation-audit[sat].",
            )
        facts |= {"rounds": found_choice.rounds, "cycles": found_choice.cycles}
        if found_choice.is_over:
            return self._answer(level, facts, reason=self._say_over(facts))
        if found_choice.proof:
            found = teller.tell_proof(found_choice.proof)
            return self._answer(level, facts, anomalies=(found,))
        return self._answer(level, facts)

    def _say_over(self, facts: dict[str, int]) -> str:
        return (
            f"{self._limits.seconds:g} s were not enough to decide "
            f"{facts['choices left']} choices of the order of writes. Raise the limit, "
            "or record writes that read what they overwrite, which leaves no choice."
        )

    def _answer(
        self,
        level: IsolationLevel,
        facts: dict[str, int] | None = None,
        *,
        anomalies: tuple[Anomaly, ...] = (),
        reason: str = "",
    ) -> Checked:
        reason = "" if anomalies else reason or say_doubt(self._reads)
        verdict = Verdict.UNKNOWN if reason else Verdict.VALID
        if anomalies:
            verdict = Verdict.INVALID
        counts = {"transactions": self._reads.initial, **(facts or {})}
        return Checked(CHECKER, level, verdict, reason, anomalies, facts=counts)
