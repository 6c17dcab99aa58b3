"""The watch on virtual time: rounds, pauses, restarts, and what is told."""

import asyncio

import pytest

from test_framework.core import TargetError, UsageError
from test_framework.sentinel import (
    Memory,
    Notice,
    Policy,
    Round,
    Schedule,
    Symptom,
    Tier,
)
from tests.unit.sentinel.virtual import (
    LEAK,
    SLOW,
    Script,
    VirtualTime,
    a_round,
    down,
    make_sentinel,
    unknown,
)


def leaking(number: int) -> Round:
    """Return a round in which one user received another's data."""
    return a_round(number, LEAK)


def told(memory: Memory) -> list[str]:
    """Return what stands in the outbox."""
    return [f"{notice.event} {notice.alert}" for notice in memory.outbox]


async def test_rounds_start_one_interval_apart() -> None:
    """Rounds of 5 s start each 60 s, not each 65 s."""
    time = VirtualTime()
    script = Script(time)

    await make_sentinel(script, time).run(asyncio.Event(), rounds=4)

    assert script.started_s == [0, 60, 120, 180]


async def test_slow_rounds_leave_starts_out() -> None:
    """A round of 150 s is never overlapped; starts that passed are counted, not made up."""
    time = VirtualTime()
    script = Script(time, takes_s=150)
    memory = Memory("http://notes")

    await make_sentinel(script, time, memory).run(asyncio.Event(), rounds=3)

    assert script.started_s == [0, 180, 360]
    assert script.most_at_work == 1
    assert memory.totals["rounds_skipped"] == 4


async def test_jitter_delays_and_does_not_add_up() -> None:
    """With jitter each start lies within a tenth of an interval after its plan."""
    time = VirtualTime()
    script = Script(time)
    schedule = Schedule(interval_s=60, users=5, jitter=0.1)

    await make_sentinel(script, time, schedule=schedule).run(
        asyncio.Event(), rounds=200
    )

    delays = [start - 60 * n for n, start in enumerate(script.started_s)]
    assert all(0 <= delay <= 6 for delay in delays)
    assert len(set(delays)) > 100


async def test_ramp_takes_its_turn() -> None:
    """Each third round is one of the ramp; the others have the ordinary users."""
    time = VirtualTime()
    script = Script(time)
    schedule = Schedule(interval_s=60, users=5, ramp=(10, 20), ramp_every=3)

    await make_sentinel(script, time, schedule=schedule).run(asyncio.Event(), rounds=9)

    assert script.users == [5, 5, 10, 5, 5, 20, 5, 5, 10]


async def test_leak_fires_and_resolves() -> None:
    """A leak of two rounds is told once and resolved after three clean ones."""
    time = VirtualTime()
    script = Script(time, [leaking, leaking])
    memory = Memory("http://notes")

    await make_sentinel(script, time, memory).run(asyncio.Event(), rounds=6)

    assert told(memory) == [f"firing {LEAK.rule}", f"resolved {LEAK.rule}"]
    assert memory.outbox[0].tier is Tier.CRITICAL
    assert memory.outbox[1].rounds == 2


async def test_alert_survives_a_restart() -> None:
    """An alert that was told is not told again by the next process, and is resolved."""
    time = VirtualTime()
    memory = Memory("http://notes")
    await make_sentinel(Script(time, [leaking]), time, memory).run(
        asyncio.Event(), rounds=1
    )

    await make_sentinel(Script(time, [leaking]), time, memory).run(
        asyncio.Event(), rounds=4
    )

    assert told(memory) == [f"firing {LEAK.rule}", f"resolved {LEAK.rule}"]
    assert [one.number for one in memory.rounds] == [1, 2, 3, 4, 5]


async def test_stored_before_it_is_told() -> None:
    """The state holds a message before anybody hears of it: a crash loses none."""
    time = VirtualTime()
    memory = Memory("http://notes")
    stored: list[list[str]] = []
    heard: list[list[str]] = []
    sentinel = make_sentinel(
        Script(time, [leaking]),
        time,
        memory,
        save=lambda kept: stored.append(told(kept)),
        on_round=lambda _, __: heard.append(stored[-1]),
    )

    await sentinel.run(asyncio.Event(), rounds=1)

    assert heard == [[f"firing {LEAK.rule}"]]


async def test_service_never_reached_ends_the_watch() -> None:
    """A first round that reaches nobody is a mistake of the command, and says so."""
    time = VirtualTime()

    with pytest.raises(TargetError, match=r"never reached.*--wait"):
        await make_sentinel(Script(time, [down]), time).run(asyncio.Event())


async def test_patient_watch_waits_for_the_service() -> None:
    """With --wait the watch warns, keeps trying, and resolves when the service is up."""
    time = VirtualTime()
    memory = Memory("http://notes")

    await make_sentinel(
        Script(time, [down, down]), time, memory, policy=Policy(is_patient=True)
    ).run(asyncio.Event(), rounds=5)

    assert told(memory) == ["firing service-down", "resolved service-down"]


async def test_outage_after_a_restart_is_survived() -> None:
    """A sentinel restarted during an outage keeps trying: it knows the service."""
    time = VirtualTime()
    memory = Memory("http://notes", was_reached=True, number=7)

    await make_sentinel(Script(time, [down]), time, memory).run(
        asyncio.Event(), rounds=1
    )

    assert told(memory) == ["firing service-down"]


async def test_silent_sentinel_warns() -> None:
    """Three rounds in a row that prove nothing are an alert of their own."""
    time = VirtualTime()
    memory = Memory("http://notes")

    await make_sentinel(Script(time, [unknown] * 3), time, memory).run(
        asyncio.Event(), rounds=3
    )

    assert told(memory) == ["firing proves-nothing"]


async def test_full_disk_does_not_stop_the_watch() -> None:
    """A state that cannot be stored is said and counted, and rounds go on."""
    time = VirtualTime()
    memory = Memory("http://notes")
    said: list[str] = []

    def fail(_: Memory) -> None:
        raise OSError(28, "No space left on device")

    await make_sentinel(Script(time), time, memory, save=fail, say=said.append).run(
        asyncio.Event(), rounds=2
    )

    assert memory.number == 2
    assert memory.totals["state_save_failures"] == 3
    assert "No space left on device" in said[0]


async def test_stop_during_a_pause_ends_at_once() -> None:
    """Told to stop between two rounds, the watch holds no further one."""
    time = VirtualTime()
    stop = asyncio.Event()
    script = Script(time)
    sentinel = make_sentinel(script, time, on_round=lambda _, __: stop.set())

    await sentinel.run(stop)

    assert script.started_s == [0]


async def test_stop_during_a_round_drains_it_and_keeps_nothing() -> None:
    """A round that is broken off is drained first, and counts for nothing."""
    time = VirtualTime()
    stop = asyncio.Event()
    memory = Memory("http://notes")
    events: list[str] = []

    class Endless(Script):
        async def hold(self, number: int, users: int) -> Round:
            stop.set()
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                events.append("cancelled")
                raise
            return await super().hold(number, users)

        async def drain(self) -> None:
            events.append("drained")

    await make_sentinel(Endless(time), time, memory).run(stop)

    assert events == ["drained", "cancelled"]
    assert memory.rounds == []


async def test_wrong_audit_file_ends_the_watch() -> None:
    """What is wrong with the audit file is the caller's to mend: it is raised."""
    time = VirtualTime()

    def wrong(_: int) -> Round:
        message = "The login hook failed."
        raise UsageError(message)

    with pytest.raises(UsageError, match="login hook"):
        await make_sentinel(Script(time, [wrong]), time).run(asyncio.Event())


async def test_further_symptoms_become_alerts() -> None:
    """What other judges find in the rounds so far is told like any symptom."""
    time = VirtualTime()
    memory = Memory("http://notes")
    slope = Symptom("p95-trend", Tier.TREND, "a slope", "P95 grows")

    await make_sentinel(
        Script(time),
        time,
        memory,
        find_more=lambda rounds: [slope] if len(rounds) > 1 else [],
    ).run(asyncio.Event(), rounds=3)

    assert told(memory) == ["firing p95-trend"]


async def test_notice_carries_what_the_reader_needs() -> None:
    """A message names the rule, the proof, the service, the round and its history."""
    time = VirtualTime()
    memory = Memory("http://notes")
    script = Script(
        time, [lambda number: a_round(number, SLOW, history="000001.jsonl")]
    )

    await make_sentinel(script, time, memory).run(asyncio.Event(), rounds=1)

    (notice,) = memory.outbox
    assert isinstance(notice, Notice)
    assert (notice.alert, notice.tier, notice.claim) == (
        SLOW.rule,
        Tier.WARNING,
        SLOW.claim,
    )
    assert (notice.target, notice.round, notice.history) == (
        "http://notes",
        1,
        "000001.jsonl",
    )


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"interval_s": 0.2, "users": 5}, "interval=0.2 s"),
        ({"interval_s": float("nan"), "users": 5}, "interval=nan s"),
        ({"interval_s": 60, "users": 1}, "users=1: a round takes 2 to"),
        ({"interval_s": 60, "users": 5, "ramp": (10, 5000)}, "users=5000"),
        ({"interval_s": 60, "users": 5, "ramp_every": 1}, "ramp_every=1"),
    ],
)
def test_schedule_refuses_what_cannot_be(
    values: dict[str, float], sentence: str
) -> None:
    """A value out of range is named with what was expected."""
    with pytest.raises(UsageError, match=sentence):
        Schedule(**values)  # type: ignore[arg-type]  # by name
