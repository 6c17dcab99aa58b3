"""Orders and faults of requests, and what the check of a scenario waits for."""

import asyncio
import contextlib
import contextvars
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any

import pytest

from test_framework.explore import (
    Asgi,
    Cancel,
    Conclusion,
    Disconnect,
    Expire,
    Scenario,
    Schedule,
    explore,
    external,
)
from test_framework.explore.asgi.service import GRACE_S
from test_framework.explore.execution import Runner
from test_framework.explore.faults import FaultPoints
from test_framework.explore.loop import ExplorationLoop
from test_framework.explore.loop.clock import START_S
from test_framework.explore.scenario import main_of
from test_framework.explore.schedule import Fidelity, Interrupt
from test_framework.explore.schedulers import Stock
from test_framework.explore.stock import StockLoop
from tests.unit.explore.asgi_app import (
    Receive,
    Send,
    answer,
    mirror,
    read,
    run,
)


def test_request_is_a_task_of_its_own_with_the_context_of_the_server() -> None:
    """Tasks are named by user and request; what a user sets in its context stays there."""
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("v", default="none")

    async def app(_: dict[str, Any], __: Receive, send: Send) -> None:
        await answer(send, variable.get().encode())

    async def visit(asgi: Asgi, user: int) -> None:
        variable.set("client")
        browser = asgi.browser(user)
        assert (await browser.get("/a")).text == "none"
        assert (await browser.get("/a")).text == "none"

    loop = ExplorationLoop(Fidelity.FIFO)
    scenario = Scenario(lambda: Asgi(app, lifespan=False), visit)
    assert Runner(main_of(scenario, None), loop).run(Stock()) is None

    assert [loop.name(number) for number in range(len(loop.tasks))] == [
        "main",
        "user[0]",
        "user[1]",
        "user[0]/GET /a",
        "user[1]/GET /a",
        "user[0]/GET /a[1]",
        "user[1]/GET /a[1]",
    ]


@pytest.mark.power
def test_arrivals_are_choices_at_fifo() -> None:
    """A check that only holds when requests do not overlap is broken at fifo."""

    async def app(scope: dict[str, Any], _: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            raise ValueError(scope["type"])
        value = state["value"]
        await asyncio.sleep(0)
        state["value"] = value + 1
        await answer(send)

    state = {"value": 0}

    def setup() -> Asgi:
        state["value"] = 0
        return Asgi(app)

    async def visit(asgi: Asgi, user: int) -> None:
        await asgi.browser(user).post("/add")

    def check(asgi: Asgi) -> None:
        assert state["value"] == len(asgi.tasks)

    report = explore(Scenario(setup, visit, check), budget=5, seed=1)

    assert report.witness is not None, report.text()
    assert report.witness.failure.kind == "assertion"
    assert report.witness.is_confirmed is True
    assert Schedule.parse(report.witness.schedule.text()) == report.witness.schedule


@pytest.mark.power
def test_later_user_may_arrive_first_at_fifo() -> None:
    """No network keeps the order in which users began, so no app may rely on it."""
    arrived: list[str] = []

    async def app(scope: dict[str, Any], _: Receive, send: Send) -> None:
        arrived.append(scope["path"])
        await answer(send)

    def setup() -> Asgi:
        arrived.clear()
        return Asgi(app, lifespan=False)

    async def visit(asgi: Asgi, user: int) -> None:
        await asgi.browser(user).get(f"/{user}")

    def check(_: Asgi) -> None:
        assert arrived == sorted(arrived)

    report = explore(Scenario(setup, visit, check), budget=5, seed=1)

    assert report.witness is not None, report.text()
    assert "user[1]/GET /1[0] 1" in report.witness.schedule.text()


def test_check_waits_for_work_after_the_reply() -> None:
    """What an app does after its reply is done before the check; other users may see it half done."""
    done: list[int] = []

    async def app(_: dict[str, Any], __: Receive, send: Send) -> None:
        await answer(send)
        await asyncio.sleep(5)
        done.append(1)

    def setup() -> Asgi:
        done.clear()
        return Asgi(app, lifespan=False)

    async def visit(asgi: Asgi, user: int) -> None:
        await asgi.browser(user).get("/")

    def check(_: Asgi) -> None:
        assert done == [1, 1]

    report = explore(Scenario(setup, visit, check), budget=5, seed=1)

    assert report.witness is None, report.text()


@pytest.mark.parametrize("fidelity", [Fidelity.FIFO, Fidelity.AWAIT])
def test_check_waits_for_tasks_that_a_request_started(fidelity: Fidelity) -> None:
    """Fire and forget is done before the check, even when a slow job is part of it."""

    @dataclass
    class World:
        asgi: Asgi
        done: list[str]

    @contextlib.asynccontextmanager
    async def setup() -> AsyncIterator[World]:
        tasks: list[asyncio.Task[None]] = []
        done: list[str] = []

        async def work() -> None:
            await asyncio.to_thread(done.append, "job")
            await asyncio.sleep(GRACE_S / 2)
            done.append("slept")

        async def app(_: dict[str, Any], __: Receive, send: Send) -> None:
            tasks.append(asyncio.create_task(work()))
            await answer(send)

        async with Asgi(app, lifespan=False) as asgi:
            yield World(asgi, done)

    async def visit(world: World, user: int) -> None:
        await world.asgi.browser(user).get("/")

    def check(world: World) -> None:
        assert sorted(world.done) == ["job", "slept"]

    report = explore(
        Scenario(setup, visit, check, users=1), fidelity=fidelity, budget=5, seed=1
    )

    assert report.conclusion is Conclusion.PROVEN, report.text()


@pytest.mark.parametrize("fidelity", [Fidelity.FIFO, Fidelity.AWAIT])
@pytest.mark.parametrize("is_idle", [True, False])
def test_consumer_that_a_request_started_may_live_for_ever(
    fidelity: Fidelity, *, is_idle: bool
) -> None:
    """A task that never ends holds up neither the check nor the end, and is no finding."""

    async def consume() -> None:
        while True:
            await (asyncio.Event().wait() if is_idle else asyncio.sleep(1))

    def setup() -> Asgi:
        tasks: list[asyncio.Task[None]] = []

        async def app(_: dict[str, Any], __: Receive, send: Send) -> None:
            if not tasks:
                tasks.append(asyncio.create_task(consume(), name="consumer"))
            await answer(send)

        return Asgi(app, lifespan=False)

    checks: list[float] = []

    async def visit(asgi: Asgi, user: int) -> None:
        await asgi.browser(user).get("/")

    report = explore(
        Scenario(
            setup, visit, lambda asgi: checks.append(asgi.now() - START_S), users=1
        ),
        fidelity=fidelity,
        budget=1,
        schedules=40,
        seed=1,
    )

    assert report.witness is None, report.text()
    assert report.conclusion is not Conclusion.INCONCLUSIVE, report.text()
    assert max(checks) == pytest.approx(GRACE_S, abs=1)


def test_faults_strike_requests_and_not_what_they_start() -> None:
    """A server can cancel a request and its client can leave; inner tasks are the app's."""
    loop = ExplorationLoop(Fidelity.FIFO)

    async def inner() -> None:
        async with asyncio.timeout(1):
            await external("SELECT")

    async def app(_: dict[str, Any], __: Receive, send: Send) -> None:
        await asyncio.create_task(inner(), name="inner")
        await answer(send)

    async def visit(asgi: Asgi, user: int) -> None:
        await asgi.browser(user).get("/")

    scenario = Scenario(lambda: Asgi(app, lifespan=False), visit, users=1)
    runner = Runner(main_of(scenario, None), loop)
    runner.points = FaultPoints("*", ())
    assert runner.run(Stock()) is None

    found = {(type(fault), fault.task) for fault in runner.points.found}
    assert found == {
        *((kind, "main") for kind in (Cancel, Interrupt)),
        *((kind, "user[0]") for kind in (Cancel, Interrupt)),
        *((kind, "user[0]/GET /") for kind in (Cancel, Interrupt)),
        (Disconnect, "user[0]/GET /"),
        (Expire, "user[0]/GET //inner"),
    }


class Pool:
    """One connection that requests borrow, and may return dirty."""

    def __init__(self) -> None:
        self.free = asyncio.Semaphore(1)
        self.pending = False

    async def query(self, *, is_safe: bool) -> None:
        """Ask the database; the answer must be read before the next question."""
        async with self.free:
            assert not self.pending
            self.pending = True
            try:
                await external("rows")
                self.pending = False
            finally:
                if is_safe:
                    self.pending = False


def pooled(*, is_safe: bool) -> tuple[Callable[[], Asgi], Callable[[Asgi], None]]:
    """Return setup and check of an app that ends its query when the client leaves."""
    pools: list[Pool] = []

    async def app(_: dict[str, Any], receive: Receive, send: Send) -> None:
        await receive()
        work = asyncio.create_task(pools[0].query(is_safe=is_safe), name="query")
        leaving = asyncio.ensure_future(receive())
        try:
            await asyncio.wait({work, leaving}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            leaving.cancel()
            work.cancel()
        await answer(send)

    def setup() -> Asgi:
        pools[:] = [Pool()]
        return Asgi(app, lifespan=False)

    def check(_: Asgi) -> None:
        assert not pools[0].pending, "the connection went back with an answer unread"

    return setup, check


async def ask(asgi: Asgi, user: int) -> None:
    """Send one request."""
    reply = await asgi.browser(user).get("/rows")
    assert reply.status == 200


@pytest.mark.power
def test_disconnect_that_leaves_a_connection_dirty_is_found() -> None:
    """A client that goes away at the wrong moment spoils the pool; the safe twin rolls back."""
    setup, check = pooled(is_safe=False)
    report = explore(Scenario(setup, ask, check), cancel="user*", budget=5, seed=1)

    assert report.witness is not None, report.text()
    assert report.witness.failure.kind == "assertion"
    runner = Runner(
        main_of(Scenario(setup, ask, check), None), ExplorationLoop(Fidelity.FIFO)
    )
    gone = Disconnect("user[0]/GET /rows", 1)
    failure = runner.run(Stock(), (gone,))
    assert runner.struck == [gone]
    assert failure is not None
    assert "an answer unread" in failure.message

    setup, check = pooled(is_safe=True)
    quiet = explore(Scenario(setup, ask, check), cancel="user*", budget=1, seed=1)
    assert quiet.witness is None, quiet.text()


@pytest.mark.parametrize("fidelity", [Fidelity.FIFO, Fidelity.AWAIT])
def test_faults_alone_are_no_findings(fidelity: Fidelity) -> None:
    """Cancelled, failed and left requests of a sound app are no bug of it."""

    async def app(_: dict[str, Any], receive: Receive, send: Send) -> None:
        body = await read(receive)
        await external("SELECT")
        await answer(send, body)

    async def visit(asgi: Asgi, user: int) -> None:
        browser = asgi.browser(user)
        canary = browser.canary()
        assert (await browser.post("/", body=canary)).text == canary

    report = explore(
        Scenario(lambda: Asgi(app, lifespan=False), visit),
        cancel=True,
        errors=("ConnectionResetError",),
        fidelity=fidelity,
        budget=0.5,
        seed=1,
    )

    assert report.witness is None, report.text()


def test_request_runs_on_the_stock_loop_and_on_plain_asyncio() -> None:
    """The same visit is possible where no explorer is: to debug, or to confirm."""

    async def visit(asgi: Asgi) -> int:
        return (await asgi.browser(0).post("/", body=b"x")).status

    loop: Any = StockLoop()
    assert run(mirror, visit, loop=loop) == 200

    async def main() -> int:
        async with Asgi(mirror) as asgi:
            return await visit(asgi)

    assert asyncio.run(main()) == 200
