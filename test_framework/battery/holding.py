"""Judges locks by their history: who held what from when to when, and who waited.

What is certain of a hold lies between the return of the acquire and the call of the
release; two such spans of one lock never overlap. O(n log n) in the calls.
"""

import itertools
import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from test_framework.battery.judging import item_of
from test_framework.battery.patience import Hang
from test_framework.check.linear import Call
from test_framework.check.witness import Anomaly, Checked, Item, Link
from test_framework.core import NS_PER_S, Verdict

ACQUIRES = {"acquire": "release", "acquire_write": "release_write"}
SHARED = {"acquire_read": "release_read"}
_RELEASES = {**ACQUIRES, **SHARED}

CERTAIN_SHARE = 0.9
"""Of the life of a lease: the clocks of its server and of its holder differ, and tick."""


@dataclass(frozen=True, slots=True)
class Hold:
    """A time for which a worker had the lock for certain.

    Attributes:
        acquire: How it was got.
        release: How it was given back; None if it was not.
        end: When it may no longer have had it, nanoseconds; infinite if never.
        is_shared: Whether other readers may have it as well.
    """

    acquire: Call
    release: Call | None
    end: float
    is_shared: bool

    @property
    def begin(self) -> int:
        """When it had it for certain, nanoseconds."""
        return self.acquire.completed or 0


def is_granted(call: Call) -> bool:
    """Whether a call got the lock, as far as is known."""
    return call.kind in _RELEASES and call.is_known and call.result is not False


def holds_of(calls: Sequence[Call], *, ttl_s: float | None = None) -> list[Hold]:
    """Return all holds, by their begin.

    Args:
        calls: The history, by the time of invocation.
        ttl_s: After how long a lease ends by itself; counted from when it was asked
            for, as it may have been granted then.
    """
    by_worker: dict[object, list[Call]] = defaultdict(list)
    for call in calls:
        if is_granted(call) or call.kind in _RELEASES.values():
            by_worker[call.process].append(call)
    holds = []
    for own in by_worker.values():
        for call, following in itertools.zip_longest(own, own[1:]):
            if call.kind not in _RELEASES:
                continue
            is_released = following is not None and (
                following.kind == _RELEASES[call.kind]
            )
            end = following.invoked if is_released else math.inf
            if ttl_s is not None:
                end = min(end, _certain_until(call, ttl_s))
            holds.append(
                Hold(call, following if is_released else None, end, call.kind in SHARED)
            )
    holds.sort(key=lambda hold: hold.begin)
    return holds


def _certain_until(grant: Call, ttl_s: float) -> float:
    """Return until when a lease has not ended, nanoseconds."""
    return grant.invoked + ttl_s * CERTAIN_SHARE * NS_PER_S


def check_exclusion(holds: Sequence[Hold]) -> Checked:
    """Judge that nobody had the lock while another one had it to itself."""
    found: list[tuple[Hold, Hold]] = []
    latest: Hold | None = None
    latest_alone: Hold | None = None
    for hold in holds:
        # Of a lease that ended before its grant arrived nothing is certain.
        if hold.end <= hold.begin:
            continue
        before = latest_alone if hold.is_shared else latest
        if before is not None and before.end > hold.begin:
            found.append((before, hold))
        if latest is None or hold.end > latest.end:
            latest = hold
        if not hold.is_shared and (latest_alone is None or hold.end > latest_alone.end):
            latest_alone = hold
    return Checked(
        "exclusion",
        "one holder at a time",
        Verdict.INVALID if found else Verdict.VALID,
        anomalies=(_held_twice(*found[0], len(found)),) if found else (),
        facts={"holds": len(holds)},
    )


def _held_twice(first: Hold, second: Hold, count: int) -> Anomaly:
    one, other = first.acquire.process, second.acquire.process
    items = [item_of(first.acquire, "T1"), item_of(second.acquire, "T2")]
    if first.release is not None:
        items.append(item_of(first.release, "T3"))
        until = "called T3 to give it back after that"
    else:
        until = "had not given it back by then"
    return Anomaly(
        "lock held twice",
        f"worker {other} got the lock while worker {one} had it ({count:,} times)",
        tuple(items),
        (Link(0, 1, "realtime", f"worker {one} had it when T2 returned: it {until}"),),
    )


def check_progress(
    calls: Sequence[Call], hang: Hang | None, *, ttl_s: float | None = None
) -> Checked:
    """Judge that whoever waits gets a lock that nobody has.

    Args:
        calls: The history.
        hang: How the run was cut off; None if all came to their end.
        ttl_s: After how long a lease ends by itself.
    """
    name, model = "progress", "who waits gets a free lock"
    waiting = [] if hang is None else [p for p in hang.pending if p.kind in _RELEASES]
    if hang is None or not hang.is_quiet or not waiting:
        return Checked(name, model, Verdict.VALID)
    holders = [hold for hold in holds_of(calls, ttl_s=ttl_s) if hold.end > hang.at_ns]
    who = f"worker {waiting[0].worker}" + (
        f" and {len(waiting) - 1} more" if len(waiting) > 1 else ""
    )
    since_s = (hang.at_ns - hang.since_ns) / NS_PER_S
    if holders and waiting[0].kind in SHARED and all(one.is_shared for one in holders):
        lonely = Anomaly(
            "readers exclude each other",
            f"{who} waited to read for {since_s:.1f} s, while only readers had the lock",
            tuple(item_of(one.acquire, f"T{at}") for at, one in enumerate(holders, 1)),
        )
        return Checked(name, model, Verdict.INVALID, anomalies=(lonely,))
    if holders:
        held = ", ".join(f"worker {hold.acquire.process}" for hold in holders)
        reason = f"{who} waited for the lock, which {held} had and never gave back"
        return Checked(name, model, Verdict.UNKNOWN, reason=f"{reason}.")
    if ttl_s is not None and since_s < ttl_s:
        reason = f"{who} waited for a lease that ends after {ttl_s:g} s: raise quiet_s"
        return Checked(name, model, Verdict.UNKNOWN, reason=f"{reason}.")
    return Checked(
        name,
        model,
        Verdict.INVALID,
        anomalies=(
            Anomaly(
                "lost wake-up",
                f"{who} waited for the lock for {since_s:.1f} s in which nobody had it",
                _last_moves(calls, hang),
            ),
        ),
    )


def _last_moves(calls: Sequence[Call], hang: Hang) -> tuple[Item, ...]:
    """Return what may have lost a wake-up: the last cancelled call, and the last of all.

    Those that still wait are its victims.
    """
    waiting = {(one.worker, one.invoked) for one in hang.pending}
    moves = [one for one in calls if (one.process, one.invoked) not in waiting]
    cancelled = [one for one in moves if not one.is_known]
    known = [one for one in moves if one.is_known]
    last = sorted(cancelled[-1:] + known[-1:], key=lambda one: one.invoked)
    return tuple(item_of(one, f"T{at}") for at, one in enumerate(last, 1))


def check_fairness(calls: Sequence[Call], *, overtakes: int | None) -> Checked:
    """Judge how often others, who came later, got the lock before one that waited.

    Args:
        calls: The history.
        overtakes: How often is too often; None for a lock that promises nothing.
    """
    grants = [call for call in calls if is_granted(call)]
    most, victim = 0, None
    if grants:
        begins = np.array([call.invoked for call in grants])
        ends = np.array([call.completed for call in grants])
        in_order = np.sort(ends)
        # Grants during the wait, less those that had been asked for before.
        during = np.searchsorted(in_order, ends) - np.searchsorted(in_order, begins)
        earlier = np.arange(len(grants)) - np.searchsorted(in_order, begins)
        passed = during - earlier
        place = int(np.argmax(passed))
        most, victim = max(0, int(passed[place])), grants[place]
    is_starved = overtakes is not None and most > overtakes
    anomalies: tuple[Anomaly, ...] = ()
    if is_starved and victim is not None:
        anomalies = (
            Anomaly(
                "starvation",
                f"while worker {victim.process} waited for the lock, others who came "
                f"later got it {most:,} times; at most {overtakes:,} were promised",
                (item_of(victim, "T1"),),
            ),
        )
    return Checked(
        "fairness",
        "no worker starves",
        Verdict.INVALID if is_starved else Verdict.VALID,
        anomalies=anomalies,
        facts={"overtaken": most, "grants": len(grants)},
    )


def check_fencing(calls: Sequence[Call], *, ttl_s: float) -> Checked:
    """Judge that a lease that has ended acts no more once another one has.

    Args:
        calls: ``acquire``, which returns a token, ``act`` with one, ``release``.
        ttl_s: After how long a lease ends by itself.
    """
    grants = [call for call in calls if is_granted(call)]
    acts = [call for call in calls if call.kind == "act" and call.is_known]
    anomalies = [
        *_tokens_go_up(grants),
        *_old_tokens_act(acts),
        *_live_leases_refused(acts, grants, holds_of(calls, ttl_s=ttl_s), ttl_s),
    ]
    granted = {call.result: call.completed or 0 for call in grants}
    late = sum(
        act.invoked > granted[act.argument] + ttl_s * NS_PER_S
        for act in acts
        if act.argument in granted
    )
    verdict, reason = Verdict.INVALID if anomalies else Verdict.VALID, ""
    if not late and not anomalies:
        verdict = Verdict.UNKNOWN
        reason = (
            "no lease ended before its holder acted, so nothing is proved. Ask for more "
            "iterations."
        )
    return Checked(
        "fencing",
        "a lease that has ended acts no more",
        verdict,
        reason=reason,
        anomalies=tuple(anomalies),
        facts={"grants": len(grants), "acts": len(acts), "late acts": late},
    )


def _tokens_go_up(grants: Sequence[Call]) -> Iterator[Anomaly]:
    by_token = sorted(grants, key=lambda call: int(call.result))
    for one, other in itertools.pairwise(by_token):
        if one.result == other.result:
            yield Anomaly(
                "duplicate token",
                f"token {one.result} was given to two leases",
                _two(one, other),
            )
            return
    earliest: Call | None = None
    for call in reversed(by_token):
        if earliest is not None and (earliest.completed or 0) < call.invoked:
            yield Anomaly(
                "token went back",
                f"a lease has token {call.result}, which is lower than that of one "
                "that had been granted before it was asked for",
                _two(earliest, call),
            )
            return
        if earliest is None or (call.completed or 0) < (earliest.completed or 0):
            earliest = call


def _old_tokens_act(acts: Sequence[Call]) -> Iterator[Anomaly]:
    accepted = sorted(
        (act for act in acts if act.result), key=lambda act: int(act.argument)
    )
    earliest: Call | None = None
    for act in reversed(accepted):
        if (
            earliest is not None
            and earliest.argument > act.argument
            and (earliest.completed or 0) < act.invoked
        ):
            yield Anomaly(
                "expired lease acts",
                f"token {act.argument} was accepted after token {earliest.argument} "
                "had been: its lease had ended, and another one had begun",
                _two(earliest, act),
                (Link(0, 1, "realtime", "T1 was accepted before T2 was asked for"),),
            )
            return
        if earliest is None or (act.completed or 0) < (earliest.completed or 0):
            earliest = act


def _live_leases_refused(
    acts: Sequence[Call], grants: Sequence[Call], holds: Sequence[Hold], ttl_s: float
) -> Iterator[Anomaly]:
    granted = {grant.result: grant for grant in grants}
    for act in acts:
        grant = granted.get(act.argument)
        if act.result or grant is None or act.completed is None:
            continue
        others = any(
            other.result > act.argument and other.invoked < act.completed
            for other in grants
        )
        if not others or act.completed < _lives_until(grant, holds, ttl_s):
            yield Anomaly(
                "live lease refused",
                f"token {act.argument} was refused, and its lease had not ended"
                if others
                else f"token {act.argument} was refused although none is higher",
                _two(grant, act),
            )
            return


def _lives_until(grant: Call, holds: Sequence[Hold], ttl_s: float) -> float:
    """Return until when a lease that waited for others has not ended, nanoseconds.

    It was not granted while another one was held for certain. Nor was it before that
    one if it could not have ended by itself in between: so it was granted after it.
    """
    since: float = grant.invoked
    life_ns = ttl_s * CERTAIN_SHARE * NS_PER_S
    for hold in holds:
        is_before = hold.begin < min(since + life_ns, grant.completed or 0)
        if hold.acquire is not grant and is_before:
            since = max(since, min(hold.end, grant.completed or 0))
    return since + life_ns


def _two(one: Call, other: Call) -> tuple[Item, Item]:
    return item_of(one, "T1"), item_of(other, "T2")
