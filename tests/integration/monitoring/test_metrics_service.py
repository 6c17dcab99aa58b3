"""Metrics of the running service: what clients saw is what the workers counted."""

import asyncio
import contextlib
import random
import signal
from collections import Counter
from collections.abc import AsyncIterator, Iterable
from pathlib import Path

import httpx
import psutil
import pytest
from prometheus_client.parser import text_string_to_metric_families
from pydantic import SecretStr

from app.llm import ModelUnavailableError
from app.monitoring.metrics import total
from app.settings import Settings
from test_framework.services import HostPlan, hosting
from tests.integration.app.service import Member, Service, running, serving

pytestmark = [pytest.mark.integration, pytest.mark.slow]

TOKEN = "t" * 40
USERS = 50
ROOT = Path(__file__).parents[3]


def counted(settings: Settings, folder: Path) -> Settings:
    """Return settings of a worker that counts in a folder."""
    return settings.model_copy(
        update={
            "metrics_dir": folder,
            "metrics_token": SecretStr(TOKEN),
            # Slow machines make users wait, and must not make answers of it.
            "database_pool_timeout_s": 60,
        }
    )


class Scrape:
    """What a worker shows."""

    def __init__(self, text: str) -> None:
        """Parse Prometheus' format."""
        self._families = list(text_string_to_metric_families(text))

    def total(self, sample: str, **labels: str) -> float:
        """Return the sum of a sample's series."""
        return total(self._families, sample, **labels)

    def labels(self) -> set[str]:
        """Return every value of every label."""
        return {
            value
            for family in self._families
            for one in family.samples
            for value in one.labels.values()
        }


async def scrape(url: str) -> Scrape:
    """Read the metrics of whichever worker answers."""
    headers = {"authorization": f"Bearer {TOKEN}"}
    async with httpx.AsyncClient(headers=headers, trust_env=False) as http:
        answer = await http.get(f"{url}/metrics", timeout=20)
    assert answer.status_code == 200, answer.text
    return Scrape(answer.text)


async def _until_idle(urls: Iterable[str]) -> list[Scrape]:
    """Return the scrapes of all workers once nothing but a scrape is in flight.

    Connections of requests whose clients left are given back a moment later, and each
    worker says how many are in use from time to time only.
    """
    shown = []
    for _ in range(400):
        shown = [await scrape(url) for url in urls]
        if all(
            one.total("http_requests_in_flight") == 1
            and one.total("pool_connections_in_use") == 0
            for one in shown
        ):
            break
        await asyncio.sleep(0.05)
    return shown


@contextlib.asynccontextmanager
async def two_workers(
    settings: Settings, folder: Path
) -> AsyncIterator[tuple[Service, Service]]:
    """Yield two workers that count in one folder."""
    both = counted(settings, folder)
    async with serving(both) as first, serving(both) as second:
        yield first, second


async def _work(member: Member, seen: Counter[str], number: int) -> None:
    """Do some things and count the answers; every third client leaves in the middle."""
    answer = await member.http.post("/threads", json={"title": "t"})
    seen[f"POST /threads {answer.status_code}"] += 1
    if number % 3 == 0:
        with contextlib.suppress(httpx.HTTPError, TimeoutError):
            async with asyncio.timeout(random.Random(number).uniform(0, 0.01)):
                await member.http.get("/documents")
    answer = await member.http.get(f"/threads/{answer.json()['thread_id']}")
    seen[f"GET /threads/{{thread_id}} {answer.status_code}"] += 1


async def test_workers_count_what_clients_saw(
    settings: Settings, tmp_path: Path
) -> None:
    """Either worker shows the exact sum of what fifty clients of both were answered.

    A third of them leaves requests unfinished; in the end nothing is in flight.
    """
    seen: Counter[str] = Counter()
    async with two_workers(settings, tmp_path) as workers:

        async def one(number: int) -> None:
            async with workers[number % 2].member() as member:
                await _work(member, seen, number)

        await asyncio.gather(*(one(number) for number in range(USERS)))
        shown = await _until_idle([worker.base_url for worker in workers])

    for told in shown:
        for name, count in seen.items():
            method, endpoint, status = name.split(" ")
            labels = {"method": method, "endpoint": endpoint, "status": status}
            assert told.total("http_requests_total", **labels) == count, name
        assert told.total("http_requests_total", endpoint="/auth/login") == USERS
        assert told.total("http_requests_in_flight") == 1  # the scrape itself
        assert told.total("pool_connections_in_use") == 0


async def test_no_label_names_a_user(settings: Settings, tmp_path: Path) -> None:
    """Whatever a user asks for, no id, name or path of it becomes a label."""
    async with running(counted(settings, tmp_path)) as service:
        async with service.member() as ada:
            thread = await ada.new("/threads", title="CANARYTITLE")
            for path in (f"/threads/{thread}", f"/nothing/{thread}", "/CANARYPATH"):
                await ada.http.get(path)
            await ada.http.request("CANARY", "/threads")
            user_id, username = ada.user_id, ada.username
        async with service.http(authorization=f"Bearer {TOKEN}") as http:
            labels = Scrape((await http.get("/metrics")).text).labels()

    text = " ".join(labels)
    assert not [s for s in (thread, user_id, username, "CANARY") if s in text]
    assert {"/threads/{thread_id}", "none", "OTHER"} <= labels


async def test_metrics_are_for_operators(settings: Settings, tmp_path: Path) -> None:
    """Without the token of the operators nobody reads metrics, users included."""
    async with (
        running(counted(settings, tmp_path)) as service,
        service.member() as ada,
        service.http() as stranger,
    ):
        refused = [await ada.http.get("/metrics"), await stranger.get("/metrics")]
    async with running(settings) as service, service.http() as http:
        hidden = await http.get("/metrics", headers={"authorization": "Bearer "})

    assert [answer.status_code for answer in refused] == [401, 401]
    assert hidden.status_code == 404


async def test_cancelled_runs_leave_nothing_in_flight(
    settings: Settings, tmp_path: Path
) -> None:
    """Runs that end in any way are counted once each, and none stays in flight."""
    async with running(counted(settings, tmp_path)) as service:

        async def one(number: int) -> None:
            async with service.member() as member:
                thread = await member.new("/threads", title="t")
                run = await member.new(f"/threads/{thread}/runs", goal="read notes")
                if number % 2:
                    await member.http.post(f"/runs/{run}/cancel")
                await member.http.get(f"/runs/{run}/events")

        await asyncio.gather(*(one(number) for number in range(12)))
        async with service.http(authorization=f"Bearer {TOKEN}") as http:
            told = Scrape((await http.get("/metrics")).text)
            for _ in range(400):
                if told.total("agent_runs_in_flight") == 0:
                    break
                await asyncio.sleep(0.05)
                told = Scrape((await http.get("/metrics")).text)

    assert told.total("agent_runs_total") == 12
    assert told.total("agent_runs_in_flight") == 0


async def test_parts_are_sampled_at_a_scrape(
    settings: Settings, tmp_path: Path
) -> None:
    """What can be read at any time is read when it is asked for."""
    async with (
        running(counted(settings, tmp_path)) as service,
        service.member() as ada,
        service.http(authorization=f"Bearer {TOKEN}") as http,
    ):
        before = Scrape((await http.get("/metrics")).text)
        breaker = service.parts.model_guards.breaker
        assert breaker is not None
        for _ in range(100):
            with contextlib.suppress(ModelUnavailableError), breaker.attempt():
                raise ModelUnavailableError
            if breaker.state == "open":
                break
        async with service.context(ada.user_id):
            after = Scrape((await http.get("/metrics")).text)

    assert before.total("circuit_breaker_state", breaker="model") == 0
    assert after.total("circuit_breaker_state", breaker="model") == 2
    assert before.total("pool_connections_in_use", pool="database") == 0
    assert after.total("pool_connections_in_use", pool="database") == 1


def _kill(pid: int) -> None:
    psutil.Process(pid).send_signal(signal.SIGKILL)


@pytest.mark.long
async def test_killed_worker_takes_no_count_with_it(
    settings: Settings, tmp_path: Path
) -> None:
    """Of two real workers on one port one is killed under load.

    Every answer that a client got is counted, those of the dead worker too. What it
    counts beyond that are answers that the kill kept from their clients.
    """
    plan = HostPlan(
        "app.main:create_app",
        app_dir=ROOT,
        env={
            "DATABASE_URL": settings.database_url.get_secret_value(),
            "REDIS_URL": settings.redis_url.get_secret_value(),
            "SIGNING_KEYS": settings.signing_keys.get_secret_value(),
            "PASSWORD_MEMORY_KIB": "8",
            "PASSWORD_PASSES": "1",
            "METRICS_DIR": str(tmp_path / "metrics"),
            "METRICS_TOKEN": TOKEN,
        },
    )
    answered, lost, is_busy = 0, 0, asyncio.Event()
    (tmp_path / "work").mkdir()
    with hosting(plan, work_dir=tmp_path / "work") as host:

        async def ask(http: httpx.AsyncClient) -> None:
            nonlocal answered, lost
            for _ in range(40):
                try:
                    answer = await http.get(f"{host.url}/runs")
                except httpx.HTTPError:
                    lost += 1
                else:
                    assert answer.status_code == 401
                    answered += 1
                if answered == 10 * USERS:
                    is_busy.set()

        async def kill() -> None:
            await is_busy.wait()
            await asyncio.to_thread(_kill, host.pids[0])

        # A connection each time, so that the kernel spreads them over the workers.
        limits = httpx.Limits(max_keepalive_connections=0)
        async with (
            httpx.AsyncClient(trust_env=False, timeout=20, limits=limits) as http,
            asyncio.timeout(100),
        ):
            await asyncio.gather(kill(), *(ask(http) for _ in range(USERS)))
        (told,) = await _until_idle([host.url])
        alive = len(list((tmp_path / "metrics").glob("*-*.lock")))

    count = told.total("http_requests_total", endpoint="/runs", status="401")
    assert lost > 0
    assert answered <= count <= answered + lost
    assert told.total("http_requests_in_flight") == 1
    assert alive == 1
