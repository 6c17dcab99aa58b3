"""A hundred users on WebSockets of the whole service: each gets its own events only.

The service runs as real worker processes on real Postgres and Redis (or is given by
ISOLATION_TARGET); users register and log in for real. Each user watches an agent run
on two sockets at one time, drops one in the middle and resumes it. The twin hosts
the same service with a mistake in it, and the same checking function finds that.
"""

import dataclasses
import functools
import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi import FastAPI

from app.api import Parts
from app.main import create_app
from app.realtime import Event, EventLog
from audits.reference import login, logout
from test_framework.check import Judgement
from test_framework.config import load_config
from test_framework.core import Verdict
from test_framework.pytest_swarm import Swarm
from test_framework.services import Services
from test_framework.staging import staged
from test_framework.swarm import Plan, Target, User
from tests.machine import machine_slowness

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

USERS = 100
FEW = 12
"""Users where the twin is to be caught: two would do."""
SOCKETS_EACH = 3
"""Two at one time, and the one that resumes."""
P95_GATES_S = {"POST /threads/{thread_id}/runs": 2.0, "*": 5.0}
EVENTS_OF_A_RUN = 11
"""Started, then three turns with three uses of a tool, and completed."""


async def watch_a_run_on_two_sockets(user: User, *, patience_s: float = 30) -> None:
    """Start a run with all others, watch it on two sockets, drop and resume one."""
    secret = user.canary("document")
    await user.http.post("/documents", json={"title": "Notes", "body": f"On {secret}."})
    thread = (
        await user.http.post("/threads", json={"title": user.canary("thread")})
    ).json()
    async with user.ws("/ws") as staying:
        start = (await staying.receive())["after"]
        async with user.ws("/ws") as dropped:
            await dropped.receive()
            await user.rendezvous("start runs")
            answer = await user.http.post(
                f"/threads/{thread['thread_id']}/runs",
                json={"goal": f"Search my documents for {secret}"},
            )
            user.expect(answer.status_code == 202, "my run was refused")
            run = answer.json()["run_id"]
            before = await dropped.until(
                lambda event: event["seq"] >= start + 3, timeout_s=patience_s
            )
            dropped.cut()
        # Where it stood, on whichever worker takes the connection.
        async with user.ws(f"/ws?after={before[-1]['seq']}") as resumed:
            await resumed.receive()
            after = await resumed.until(_ends, timeout_s=patience_s)
        whole = await staying.until(_ends, timeout_s=patience_s)
        more = await staying.drain(quiet_s=0.05)

    _expect_complete(user, run, whole, socket="the socket that stayed")
    _expect_complete(user, run, [*before, *after], socket="the one that resumed")
    user.expect(not more, f"events came after the end: {more}")
    user.expect(secret in whole[-1]["data"]["result"], "the result is not about mine")
    await user.rendezvous("read back")
    result = (await user.http.get(f"/runs/{run}")).text
    user.expect(secret in result, "my run's row is not about my document")


def _ends(event: dict[str, object]) -> bool:
    return event["type"] in {"run.completed", "run.failed", "run.cancelled"}


def _expect_complete(
    user: User, run: str, events: list[dict[str, object]], *, socket: str
) -> None:
    """Require all events of the run, in order, each once."""
    user.expect({event["run_id"] for event in events} == {run}, f"{socket}: not my run")
    numbers = [int(str(event["seq"])) for event in events]
    user.expect(
        len(numbers) == EVENTS_OF_A_RUN
        and all(b == a + 1 for a, b in itertools.pairwise(numbers)),
        f"{socket} got the numbers {numbers}",
    )
    user.expect(
        events[0]["type"] == "run.started" and events[-1]["type"] == "run.completed",
        f"{socket} got {[event['type'] for event in events]}",
    )


PLAN = Plan(
    workload=watch_a_run_on_two_sockets,
    login=login,
    logout=logout,
    workload_name="a run on two sockets",
    shapes=("own-connections",),
    event_sequence="seq",
)


def assert_sockets_are_isolated(judgement: Judgement, *, users: int) -> None:
    """Check that a run of that many users proved isolation, with nothing missing."""
    found = [f"{f.rule}: {f.evidence}" for f in judgement.findings]
    assert not found, found
    evidence = judgement.evidence
    assert not evidence.gaps, evidence.gaps
    assert judgement.verdict is Verdict.VALID
    assert evidence.users == users
    assert evidence.websockets == SOCKETS_EACH * users
    # A "ready" on each socket; the run's events whole on two of them: 100 %. What
    # reached the dropped socket after it was last read comes on top.
    assert evidence.events >= users * (SOCKETS_EACH + 2 * EVENTS_OF_A_RUN)
    assert evidence.success_share == 1.0
    assert evidence.user_pairs_overlapped >= 0.95 * evidence.user_pairs
    for burst in evidence.bursts:
        assert burst.size == users
        assert burst.in_flight >= 0.95 * users, burst


@pytest.mark.isolation(users=USERS)
async def test_no_socket_gets_anothers_event(swarm: Swarm) -> None:
    """A hundred users on three hundred sockets each get their run, whole and once."""
    slowness = machine_slowness()
    gates = {endpoint: slowness * gate for endpoint, gate in P95_GATES_S.items()}
    judgement = await swarm.audit(
        dataclasses.replace(PLAN, users=swarm.users, p95_gates_s=gates)
    )

    assert_sockets_are_isolated(judgement, users=swarm.users)


class _LastReaderLog(EventLog):
    """Keeps the user it reads for in itself while it asks where the log ends."""

    _user_id = ""

    async def read(self, user_id: str, *, after: int, limit: int = 200) -> list[Event]:
        self._user_id = user_id
        await self.end(user_id)
        return await super().read(self._user_id, after=after, limit=limit)


def create_misrouting_app() -> FastAPI:
    """Return the service with a log that reads for whoever asked last."""

    def replace(parts: Parts) -> Parts:
        return dataclasses.replace(parts, events=_LastReaderLog(parts.redis))

    return create_app(replace=replace)


@pytest.fixture
def misrouting(services: Services) -> Iterator[Target]:
    """The service with the mistake, in real worker processes."""
    config = dataclasses.replace(
        load_config(),
        target=f"{__name__}:{create_misrouting_app.__name__}",
        root=Path(__file__).parents[2],
    )
    given = {
        "DATABASE_URL": str(services.database_url),
        "REDIS_URL": str(services.redis_url),
    }
    with staged(config, environ=given) as target:
        yield target


@pytest.mark.power
async def test_misrouted_events_are_caught(misrouting: Target, tmp_path: Path) -> None:
    """The service that keeps the last reader in a shared object fails the same check."""
    swarm = Swarm(
        misrouting, users=FEW, seed=7, folder=tmp_path, repeat="see the test's name"
    )
    # Events that went to another socket never come: that need not take long to see.
    workload = functools.partial(watch_a_run_on_two_sockets, patience_s=2)
    judgement = await swarm.audit(
        dataclasses.replace(PLAN, users=FEW, workload=workload)
    )

    assert judgement.verdict is Verdict.INVALID
    with pytest.raises(AssertionError, match="foreign-canary-in-event"):
        assert_sockets_are_isolated(judgement, users=FEW)
