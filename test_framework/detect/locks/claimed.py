"""What is to be said of leases that a service makes of ``SET NX``; see ``claims``."""

import asyncio
import math
import time
import weakref
from dataclasses import dataclass, field
from typing import Any

from test_framework.detect.locks.alarms import Alarms, Cause
from test_framework.detect.locks.ledger import Ledger, Resource, Unit
from test_framework.detect.locks.stacks import Place, name_of

_Task = asyncio.Task[Any]


@dataclass(slots=True, eq=False)
class Site:
    """A line that claims keys, as far as its purpose is known.

    Attributes:
        is_lease: What it claims was asked for again, or deleted by who had it.
        is_asked_again: Who was refused asked again.
        is_handed_over: What it claims is given back after its task has ended.
        taken: How many keys it claimed.
        given_back: How many of them were deleted by who had them.
    """

    is_lease: bool = False
    is_asked_again: bool = False
    is_handed_over: bool = False
    taken: int = 0
    given_back: int = 0

    @property
    def gives_back(self) -> bool:
        """Whether its tasks are meant to give back what they claim before they end.

        A mark of what was done already is deleted now and then, when it failed; a
        lease is kept now and then, when something else did.
        """
        return not self.is_handed_over and (
            self.is_asked_again or 2 * self.given_back >= self.taken
        )


@dataclass(slots=True, eq=False)
class Claim:
    """A key that a task of this process has.

    Attributes:
        resource: The key.
        number: Tells it from others.
        holder: The task, while it lives.
        name: How the task is told.
        place: Where it claimed the key.
        site: What is known of that line.
        token: The value.
        operation: The audit's request.
        until_s: When it runs out, on the monotonic clock.
        is_late: Its expiry was set by a second command.
        readers: Tasks that looked at the value since.
        unit: Its entry in the books, once it is known to be a lease.
        is_told: That it was left was told.
    """

    resource: Resource
    number: int
    holder: "weakref.ref[_Task]"
    name: str
    place: Place
    site: Site
    token: str
    operation: int | None
    until_s: float
    is_late: bool = False
    readers: "weakref.WeakSet[_Task]" = field(default_factory=weakref.WeakSet)
    unit: Unit | None = None
    is_told: bool = False

    @property
    def task(self) -> _Task | None:
        """Its task, while that runs."""
        task = self.holder()
        return None if task is None or task.done() else task

    @property
    def operations(self) -> tuple[int, ...]:
        """Its request, for an alarm."""
        return () if self.operation is None else (self.operation,)


def tell_expiry(alarms: Alarms, claim: Claim) -> None:
    """Tell of a lease without an expiry, or with one that came late."""
    if claim.until_s != math.inf and not claim.is_late:
        return
    how = (
        "gets its expiry by a second command: a process that ends between the two"
        if claim.is_late
        else "has no expiry: a process that ends while it has it"
    )
    alarms.tell(
        Cause(
            "lease-without-expiry",
            "note" if claim.is_late else "warning",
            f"{claim.resource} {how} leaves it behind for ever",
            str(claim.place),
            (f"{claim.name} claimed it at {claim.place}",),
            operations=claim.operations,
        ),
        str(claim.place),
    )


def tell_left(alarms: Alarms, ledger: Ledger, claim: Claim) -> None:
    """Tell of a lease whose task has ended."""
    now_s = time.monotonic()
    waiting = [
        wait
        for wait in ledger.waits.values()
        if wait.resource is claim.resource and wait.until_s > now_s
    ]
    ends = (
        "has no expiry"
        if claim.until_s == math.inf
        else f"runs out in {claim.until_s - now_s:.1f} s"
    )
    alarms.tell(
        Cause(
            "lock-held-at-end",
            "error" if waiting else "warning",
            f"{claim.name} ended and still holds {claim.resource}, which {ends}",
            str(claim.place),
            (
                f"it acquired it at {claim.place}",
                *(
                    f"{name_of(one.task)} asks for it again and again at {one.place}"
                    for one in waiting
                ),
            ),
            "Release it in a finally clause, by a script that compares the token.",
            operations=claim.operations,
        ),
        str(claim.place),
    )


def tell_unchecked(alarms: Alarms, claim: Claim, place: Place) -> None:
    """Tell of a lease that its holder deletes without a look at its token."""
    if claim.until_s == math.inf:
        return  # it cannot have run out
    alarms.tell(
        Cause(
            "lease-released-unchecked",
            "warning",
            f"{claim.name} deletes {claim.resource} without a look at its token: "
            "had the lease run out, it would delete that of the next holder",
            str(place),
            (
                f"{claim.name} claimed it at {claim.place}",
                f"and deleted it at {place}",
            ),
            operations=claim.operations,
        ),
        str(claim.place),
        str(place),
    )


def tell_stranger(
    alarms: Alarms, claim: Claim, task: _Task, place: Place, lapsed: Claim | None
) -> None:
    """Tell of a lease that somebody else deletes.

    Args:
        alarms: Where to tell.
        claim: The lease.
        task: Who deletes it.
        place: Where.
        lapsed: The claim that the task had on the same key before.
    """
    if lapsed is None and not claim.site.is_lease:
        return  # a cache, of which somebody else deletes an entry
    who = name_of(task)
    evidence = [f"{claim.name} claimed it at {claim.place}"]
    if lapsed is not None:
        evidence.insert(0, f"{who} had claimed it before, at {lapsed.place}")
        evidence.append(f"the lease of {who} had run out by then")
    evidence.append(f"{who} deleted it at {place}")
    alarms.tell(
        Cause(
            "lock-released-by-stranger",
            "error" if lapsed is not None and claim.site.is_lease else "warning",
            f"{who} deleted {claim.resource}, which {claim.name} holds",
            str(place),
            tuple(evidence),
            "Give each lease a random token, and release it by a script that "
            "deletes the key only while it holds that token.",
            operations=claim.operations,
        ),
        str(claim.place),
        str(place),
    )
