"""``watch``: the sentinel of a live service, put together from options.

Exit codes: 0 when it was told to stop; 4 when the service was never reached (without
``--wait``); after ``--rounds`` also 1 when a critical alert lasts, and 3 when the last
round proved nothing.
"""

import asyncio
import contextlib
import dataclasses
import os
import random
import signal
import sys
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import httpx
from rich.text import Text

from test_framework.cli.output import make_console
from test_framework.config import Config, load_config
from test_framework.core import TargetError, UsageError, Verdict, fresh_seed
from test_framework.sentinel import (
    DEFAULT_MEMORY,
    KEY_VARIABLE,
    SAFE_SHAPES,
    Accounts,
    Change,
    Courier,
    Forecast,
    LiveAuditor,
    Memory,
    Metrics,
    Policy,
    Refusal,
    Round,
    Schedule,
    Sentinel,
    ServiceGauges,
    StateFolder,
    SystemTime,
    Tier,
    bare_url,
    find_trends,
    forecast_capacity,
    parse_duration,
)
from test_framework.swarm import Target, load_plan

if TYPE_CHECKING:
    from test_framework.swarm import Plan

WEBHOOK_VARIABLE = "ISOLATION_WEBHOOK"
FLUSH_S = 5.0
_COLOURS = {Tier.CRITICAL: "bold red", Tier.WARNING: "yellow", Tier.TREND: "cyan"}

_at_least_one = click.IntRange(min=1)


@click.command()
@click.option("--target", help="URL of the running service.")
@click.option("--workload", help="Audit file: login and workload in Python.")
@click.option("--interval", default="60s", show_default=True, help="Start to start.")
@click.option("--users", default=5, show_default=True, help="Synthetic users.")
@click.option(
    "--rate",
    default=20.0,
    show_default=True,
    help="Requests per second of all users, in the mean.",
)
@click.option(
    "--shapes",
    default=",".join(SAFE_SHAPES),
    show_default=True,
    help="Traffic shapes; others than these disturb people.",
)
@click.option(
    "--state", default="sentinel", show_default=True, help="Folder of what is kept."
)
@click.option(
    "--metrics-port",
    type=click.IntRange(0, 65535),
    help="Serve Prometheus metrics; 0 for any.",
)
@click.option("--metrics-host", default="127.0.0.1", show_default=True)
@click.option(
    "--webhook",
    help=f"URL that alerts are posted to; or set {WEBHOOK_VARIABLE}.",
)
@click.option(
    "--resolve-after",
    type=_at_least_one,
    default=3,
    show_default=True,
    help="Clean rounds in a row that cure an alert.",
)
@click.option(
    "--repeat-after",
    default="4h",
    show_default=True,
    help="Tell a lasting alert again.",
)
@click.option(
    "--unknown-rounds",
    type=_at_least_one,
    default=3,
    show_default=True,
    help="Rounds in a row that prove nothing and are an alert.",
)
@click.option("--ramp", default="", help="Users of rounds for capacity: 5,10,20.")
@click.option(
    "--ramp-every",
    default=10,
    show_default=True,
    help="Each how manieth round is of the ramp.",
)
@click.option("--service-metrics", help="URL of the service's own metrics.")
@click.option(
    "--memory-gauge",
    default=DEFAULT_MEMORY,
    show_default=True,
    help="Its gauge of memory, in bytes.",
)
@click.option("--pool-gauge", help="Its gauge of connections in use.")
@click.option("--pool-size", type=_at_least_one, help="Connections in its pool.")
@click.option("--load-gauge", help="Its gauge of requests in flight.")
@click.option(
    "--sweep",
    is_flag=True,
    help="Look for our canaries in the database of DATABASE_URL.",
)
@click.option("--wait", is_flag=True, help="Wait for a service that is not up yet.")
@click.option("--rounds", type=_at_least_one, help="End after so many rounds.")
def watch(**options: Any) -> None:  # noqa: ANN401  # click's own types
    """Audit a live service with a few synthetic users, round after round."""
    config = load_config(
        **{name: options[name] for name in ("target", "workload", "users", "shapes")}
    )
    if not config.is_url or config.workload is None:
        message = (
            f"target={config.target!r}, workload={options['workload']!r}: a watch needs "
            "the URL of a service that runs and an audit file. Pass --target "
            "http://host:port --workload AUDIT.py."
        )
        raise UsageError(message)
    plan = load_plan(
        config.workload,
        users=config.users,
        shapes=config.shapes,
        limits_s=config.limits_s,
    )
    sys.exit(asyncio.run(_Watch(options, config, plan).run()))


class _Watch:
    """One run of the command: its parts, and what they tell each other.

    Args:
        options: Of the command line, by name.
        config: Target and audit file.
        plan: The audit file as it was read.
    """

    def __init__(
        self, options: Mapping[str, Any], config: Config, plan: "Plan"
    ) -> None:
        self._options = options
        self._config = dataclasses.replace(config, target=bare_url(config.target))
        self._plan = plan
        self._console = make_console()
        self._time = SystemTime()
        self._rng = random.Random(fresh_seed())
        self._schedule = Schedule(
            interval_s=parse_duration(options["interval"]),
            users=config.users,
            ramp=_numbers("ramp", options["ramp"]),
            ramp_every=options["ramp_every"],
        )
        self._policy = Policy(
            resolve_after=options["resolve_after"],
            repeat_after_s=parse_duration(options["repeat_after"]),
            unknown_rounds=options["unknown_rounds"],
            is_patient=options["wait"],
        )
        self._target = Target(
            base_url=config.target,
            name=self._config.target,
            database_url=_database_url() if options["sweep"] else None,
            is_shared=True,
        )
        self._gauges = _gauges(options, self._say)
        self._metrics = Metrics()
        self._foretold: dict[str, Forecast | Refusal] = {}

    async def run(self) -> int:
        """Watch until the end; return the exit code."""
        folder = StateFolder(Path(self._options["state"]))
        try:
            memory = folder.load(self._config.target, say=self._say)
            self._serve_metrics(memory)
            stop = asyncio.Event()
            with _stopping(stop):
                await self._hold_rounds(folder, memory, stop)
            return 0 if stop.is_set() else _exit_code(memory)
        finally:
            self._metrics.close()
            folder.close()

    async def _hold_rounds(
        self, folder: StateFolder, memory: Memory, stop: asyncio.Event
    ) -> None:
        async with httpx.AsyncClient() as client:
            courier = self._courier(client, folder, memory)

            def on_round(one: Round, changes: list[Change]) -> None:
                self._tell(one, changes, memory)
                if courier is not None:
                    courier.wake()
                else:
                    memory.outbox.clear()

            sentinel = Sentinel(
                self._auditor(folder),
                memory,
                schedule=self._schedule,
                policy=self._policy,
                time=self._time,
                rng=self._rng,
                save=folder.save,
                find_more=lambda rounds: find_trends(
                    rounds, users=self._schedule.users
                ),
                on_round=on_round,
                say=self._say,
            )
            rounds = self._options["rounds"]
            if courier is None:
                await sentinel.run(stop, rounds=rounds)
                return
            try:
                # In a group: a courier that dies must not leave a watch that is mute.
                async with asyncio.TaskGroup() as group:
                    delivering = group.create_task(courier.run(), name="courier")
                    await sentinel.run(stop, rounds=rounds)
                    delivering.cancel()
            except* (TargetError, UsageError) as several:
                raise several.exceptions[0] from several
            await courier.flush(FLUSH_S)

    def _auditor(self, folder: StateFolder) -> LiveAuditor:
        key = os.environ.get(KEY_VARIABLE, "").encode() or os.urandom(32)

        def repeat(seed: int, users: int) -> str:
            return dataclasses.replace(self._config, users=users).repeat(seed)

        return LiveAuditor(
            self._target,
            self._plan,
            folder=folder,
            gauges=self._gauges,
            accounts=Accounts(key),
            rate_per_s=self._options["rate"],
            repeat=repeat,
            time=self._time,
        )

    def _courier(
        self, client: httpx.AsyncClient, folder: StateFolder, memory: Memory
    ) -> Courier | None:
        url = self._options["webhook"] or os.environ.get(WEBHOOK_VARIABLE)
        if not url:
            return None
        return Courier(
            url,
            memory,
            client=client,
            time=self._time,
            rng=self._rng,
            save=folder.save,
            say=self._say,
        )

    def _serve_metrics(self, memory: Memory) -> None:
        port = self._options["metrics_port"]
        if port is None:
            return
        self._metrics.publish(memory, {})
        host = self._options["metrics_host"]
        port = self._metrics.serve(host, port)
        self._say(f"Metrics are on http://{host}:{port}/metrics.")

    def _tell(self, one: Round, changes: list[Change], memory: Memory) -> None:
        capacity = self._capacity(one, memory)
        self._metrics.observe(one)
        self._metrics.publish(memory, capacity)
        self._say(_round_line(one))
        for change in changes:
            symptom = change.alert.symptom
            self._console.print(
                Text.assemble(
                    f"  {change.event} ",
                    (symptom.tier.upper(), _COLOURS[symptom.tier]),
                    f"  {symptom.key}: {symptom.claim}",
                ),
                soft_wrap=True,
            )
        if one.users != self._schedule.users:
            for limit, found in capacity.items():
                self._say(f"Capacity by {limit}: {_told(found)}")

    def _capacity(self, one: Round, memory: Memory) -> dict[str, Forecast | Refusal]:
        """Foretell anew after a round that has something to add."""
        is_measured = one.users != self._schedule.users or one.load is not None
        is_first = self._schedule.ramp and not self._foretold
        if is_measured or is_first:
            self._foretold = forecast_capacity(
                memory.rounds,
                gates_s=self._plan.p95_gates_s,
                pool_size=self._options["pool_size"],
                seed=memory.number,
            )
        return self._foretold

    def _say(self, sentence: str) -> None:
        now = datetime.fromtimestamp(self._time.wall_s(), UTC)
        self._console.print(
            Text(f"{now:%Y-%m-%dT%H:%M:%SZ}  {sentence}"), soft_wrap=True
        )


@contextlib.contextmanager
def _stopping(stop: asyncio.Event) -> Iterator[None]:
    """Set ``stop`` at the first SIGINT or SIGTERM; a second one ends the process."""
    loop = asyncio.get_running_loop()
    numbers = (signal.SIGINT, signal.SIGTERM)

    def on_signal() -> None:
        stop.set()
        for number in numbers:
            loop.remove_signal_handler(number)

    for number in numbers:
        loop.add_signal_handler(number, on_signal)
    try:
        yield
    finally:
        for number in numbers:
            loop.remove_signal_handler(number)


def _exit_code(memory: Memory) -> int:
    if any(alert.symptom.tier is Tier.CRITICAL for alert in memory.alerts.values()):
        return Verdict.INVALID.exit_code
    if not memory.rounds[-1].is_conclusive:
        return Verdict.UNKNOWN.exit_code
    return 0


def _round_line(one: Round) -> str:
    words = [
        f"round {one.number}: {one.result}",
        f"{one.users} users",
        f"{one.requests} requests in {one.seconds:.1f} s",
        f"{one.pairs_met} of {one.pairs} pairs met",
    ]
    if one.p95_ms:
        endpoint, p95_ms = max(one.p95_ms.items(), key=lambda item: item[1])
        words.append(f"P95 up to {p95_ms:.0f} ms ({endpoint})")
    if one.reason:
        words.append(one.reason)
    return ", ".join(words)


def _told(found: Forecast | Refusal) -> str:
    if isinstance(found, Refusal):
        return found.reason
    return f"{found.estimate:.0f} users ({found.low:.0f} to {found.high:.0f})."


def _gauges(options: Mapping[str, Any], say: Callable[[str], None]) -> ServiceGauges:
    if options["service_metrics"] is None:
        for name in ("pool_gauge", "load_gauge"):
            if options[name] is not None:
                message = (
                    f"--{name.replace('_', '-')} {options[name]!r} is read from the "
                    "service's own metrics. Pass --service-metrics URL."
                )
                raise UsageError(message)
    if options["pool_size"] is not None and options["pool_gauge"] is None:
        message = (
            f"--pool-size {options['pool_size']} says how large the pool is, and not "
            "how much of it is in use. Pass --pool-gauge NAME."
        )
        raise UsageError(message)
    return ServiceGauges(
        options["service_metrics"],
        memory=options["memory_gauge"],
        pool=options["pool_gauge"],
        load=options["load_gauge"],
        say=say,
    )


def _database_url() -> str:
    url = os.environ.get("DATABASE_URL")
    if not url:
        message = (
            "--sweep looks into the database of DATABASE_URL, which is not set. Set it "
            "to a role that may read, or leave --sweep out."
        )
        raise UsageError(message)
    return url


def _numbers(name: str, text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(",") if part.strip())
    except ValueError as exc:
        message = f"{name}={text!r}: numbers with commas are meant, such as 5,10,20."
        raise UsageError(message) from exc
