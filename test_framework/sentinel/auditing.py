"""Holds one round: an audit at a low rate, judged, and reduced to a ``Round``.

Only traffic that a service must bear at any time: own connections and bursts of reads
by a handful of synthetic users, who log in and out like anybody. Shapes that disturb
others (walking away in mid-request, odd names, wrong bodies) run when asked for only.
"""

import asyncio
import math
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import TYPE_CHECKING

from test_framework.check import Judgement, judge
from test_framework.core import (
    NS_PER_S,
    VISITOR,
    History,
    Operation,
    ResidueRecord,
    TargetError,
    UsageError,
    Verdict,
    fresh_seed,
)
from test_framework.sentinel.accounts import Accounts, secrets_of, without
from test_framework.sentinel.pace import Pace
from test_framework.sentinel.rounds import Round, Trouble
from test_framework.swarm import User, run_audit

if TYPE_CHECKING:
    from test_framework.sentinel.gauges import Readings, ServiceGauges
    from test_framework.sentinel.state import StateFolder
    from test_framework.sentinel.timing import Timekeeper
    from test_framework.swarm import Plan, Target

SAFE_SHAPES = ("own-connections", "read-bursts")
ROUND_LIMIT_S = 300.0
"""A round that takes longer is broken off: a watch that hangs is silent."""


class LiveAuditor:
    """Audits a running service, one round at a time.

    Args:
        target: The service; its name holds no credentials.
        plan: The audit file, with the ordinary number of users.
        folder: Where histories of rounds go.
        gauges: The service's own metrics.
        accounts: Accounts to use again, where the audit file can.
        rate_per_s: Requests per second of an ordinary round, in the mean.
        repeat: Command that repeats the audit of a seed with a number of users.
        time: Instants and pauses.

    Raises:
        UsageError: The rate is no number above zero.
    """

    def __init__(  # its parts are put together in one place, the command line
        self,
        target: "Target",
        plan: "Plan",
        *,
        folder: "StateFolder",
        gauges: "ServiceGauges",
        accounts: Accounts,
        rate_per_s: float,
        repeat: Callable[[int, int], str],
        time: "Timekeeper",
    ) -> None:
        if not 0 < rate_per_s < math.inf:  # written so that nan is refused too
            message = (
                f"rate={rate_per_s:g}: requests per second are a number above zero. "
                "Pass --rate 20."
            )
            raise UsageError(message)
        self._target = target
        self._plan = plan
        self._folder = folder
        self._gauges = gauges
        self._accounts = accounts
        self._rate_per_s = rate_per_s
        self._repeat = repeat
        self._time = time
        self._pace: Pace | None = None
        self._has_held = False

    async def hold(self, number: int, users: int) -> Round:
        """Hold one round.

        Raises:
            UsageError: The audit file is wrong. In a later round, with a file that
                worked before, that is an unknown round instead.
        """
        # As many waves as ever, of more users: then the rate grows with them.
        rate = self._rate_per_s * users / self._plan.users
        pace = self._pace = Pace(rate, self._time)
        path = self._folder.history_path(number)
        seed, members = fresh_seed(), list[User]()
        started_at, started_s = self._time.wall_s(), self._time.now_s()
        history = History(path)
        try:
            reason, is_reached, readings = await self._audit(
                history, self._paced(users, pace, members), seed
            )
        except BaseException:
            path.unlink(missing_ok=True)
            raise
        finally:
            history.close()
        self._has_held = True
        return self._reduced(
            Round(
                number=number,
                started_at=started_at,
                seconds=round(self._time.now_s() - started_s, 3),
                users=users,
                seed=seed,
                verdict=Verdict.UNKNOWN,
                is_reached=is_reached,
                reason=reason,
                memory_bytes=readings.memory_bytes,
                pool_use=readings.pool_use,
                load=readings.load,
                history=path.name,
            ),
            history,
            judge(history),
            secrets_of(members),
        )

    async def drain(self) -> None:
        """Send nothing more, and wait a little for the answers under way."""
        if self._pace is not None:
            await self._pace.drain()

    async def _audit(
        self, history: History, plan: "Plan", seed: int
    ) -> "tuple[str, bool, Readings]":
        """Return why the audit ended early, whether it was answered, and gauges."""
        reason, is_reached = "", True
        async with self._gauges.read() as readings:
            try:
                async with asyncio.timeout(ROUND_LIMIT_S):
                    await run_audit(
                        self._target,
                        plan,
                        seed=seed,
                        history=history,
                        repeat=self._repeat(seed, plan.users),
                    )
            except TargetError as exc:
                reason, is_reached = str(exc), False
            except TimeoutError:
                reason = f"the round took longer than {ROUND_LIMIT_S:.0f} s"
            except UsageError as exc:
                if not self._has_held:
                    raise
                reason = str(exc)
        return reason, is_reached, readings

    def _paced(self, users: int, pace: Pace, members: list[User]) -> "Plan":
        plan = self._plan

        async def login(user: User) -> None:
            members.append(user)
            # Users with colliding names, of a shape that was asked for, keep theirs.
            if plan.reuses_accounts and user.index < users:
                self._accounts.lend(user)
            user.http.event_hooks = {"request": [pace.before], "response": [pace.after]}
            await plan.login(user)

        return replace(plan, users=users, login=login)

    def _reduced(
        self,
        one: Round,
        history: History,
        judgement: Judgement,
        secrets: Iterable[str],
    ) -> Round:
        evidence = judgement.evidence
        verdict = judgement.verdict
        reason = one.reason or next(iter(evidence.gaps), "")
        if one.reason and verdict is Verdict.VALID:
            verdict = Verdict.UNKNOWN
        if verdict is Verdict.VALID:
            self._folder.history_path(one.number).unlink(missing_ok=True)
        self._folder.forget_old_histories()
        return replace(
            one,
            verdict=verdict,
            is_conclusive=one.is_reached and not reason,
            reason=without(secrets, reason),
            troubles=tuple(
                Trouble(
                    rule=finding.rule,
                    claim=without(secrets, finding.claim),
                    evidence=tuple(without(secrets, line) for line in finding.evidence),
                    fix=finding.fix,
                    count=finding.count,
                )
                for finding in judgement.findings
            ),
            requests=evidence.requests,
            in_flight=evidence.in_flight_peak,
            pairs_met=evidence.user_pairs_overlapped,
            pairs=evidence.user_pairs,
            p95_ms={row.endpoint: row.p95_ms for row in judgement.latencies},
            latencies_s=_latencies(history),
            left_behind=sum(record.count for record in history.of(ResidueRecord)),
            history="" if verdict is Verdict.VALID else one.history,
        )


def _latencies(history: History) -> dict[str, tuple[float, ...]]:
    groups: dict[str, list[float]] = defaultdict(list)
    for operation in history.of(Operation):
        if (
            operation.channel == "http"
            and operation.user != VISITOR
            and not operation.disturbed
            and operation.outcome != "info"
        ):
            groups[operation.endpoint].append(operation.latency_ns / NS_PER_S)
    return {endpoint: tuple(values) for endpoint, values in groups.items()}
