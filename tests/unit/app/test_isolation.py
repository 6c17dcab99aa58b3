"""The guard of isolation: a mismatch is refused, counted, logged and told."""

import dataclasses
import json
from pathlib import Path
from typing import Any, cast

import pytest

from app.agents import ExecutionEngine, Workshop
from app.context import ForeignPartError, UserExecutionContext
from app.monitoring import (
    IsolationError,
    IsolationGuard,
    Metrics,
    RunWatch,
    Tracing,
    configure_logging,
)
from app.monitoring.isolation import ALERT_S
from app.monitoring.metrics import total
from app.storage import Run
from tests.unit.app.parts import MemoryKeyspace, context_of

_WORKSHOP = Workshop(cast("Any", None), cast("Any", None), (), run_timeout_s=1)


def _violations(metrics: Metrics, place: str) -> float:
    return total(metrics._files.collect(), "isolation_violations_total", place=place)


@pytest.mark.parametrize("owner", ["bob", None, ""])
def test_mismatch_is_refused_and_counted(
    tmp_path: Path, owner: str | None, capsys: pytest.CaptureFixture[str]
) -> None:
    """Another's thing, and a thing of nobody, are refused, counted and logged."""
    configure_logging("INFO")
    metrics = Metrics.open(tmp_path)
    guard = IsolationGuard(metrics)

    with pytest.raises(IsolationError) as told:
        guard.require("event", owner=owner, user_id="ada")

    assert _violations(metrics, "event") == 1
    metrics.close()
    (line,) = map(json.loads, capsys.readouterr().out.splitlines())
    assert (line["level"], line["event"]) == ("CRITICAL", "isolation.violated")
    assert "ada" not in str(told.value)
    assert "bob" not in str(told.value)


def test_own_things_pass(tmp_path: Path) -> None:
    """What is the user's costs nothing and is counted nowhere."""
    metrics = Metrics.open(tmp_path)
    guard = IsolationGuard(metrics)

    guard.require("event", owner="ada", user_id="ada")

    assert _violations(metrics, "event") == 0
    assert list(guard.signals()) == []
    metrics.close()


def test_mismatch_is_critical_for_a_while() -> None:
    """A mismatch is a critical alert of its place until it is some minutes past."""
    now_s = 1_000.0
    guard = IsolationGuard(clock=lambda: now_s)
    guard.report("session", owner="bob", user_id="ada")

    during = [(one.tier, one.component) for one in guard.signals()]
    now_s += ALERT_S

    assert during == [("critical", "session")]
    assert list(guard.signals()) == []


def test_foreign_parts_of_contexts_are_noticed() -> None:
    """A context that was given another user's part is reported where it is caught."""
    guard = IsolationGuard()

    with pytest.raises(ForeignPartError) as caught:
        dataclasses.replace(context_of("ada"), keyspace=MemoryKeyspace("bob"))
    guard.notice(caught.value, user_id="ada")
    guard.notice(ValueError("nothing of the kind"), user_id="ada")

    assert [one.component for one in guard.signals()] == ["context"]


async def test_run_of_another_user_is_reported() -> None:
    """An engine that is given another user's run refuses it, and it is told."""
    guard = IsolationGuard()
    workshop = dataclasses.replace(_WORKSHOP, watch=RunWatch(None, guard))

    async def create(_: UserExecutionContext) -> Run:
        raise AssertionError

    with pytest.raises(ValueError, match="came to the engine"):
        await ExecutionEngine("bob", workshop).start(
            context_of("ada").child(run_id="r"), create
        )

    assert [one.component for one in guard.signals()] == ["engine"]


def test_trace_of_another_user_is_foreign() -> None:
    """Neither a span nor a context takes on the work of a second user."""
    with Tracing().request("GET") as trace:
        mine = trace.of("ada")

        with pytest.raises(ForeignPartError):
            mine.of("bob")
        with pytest.raises(ForeignPartError):
            dataclasses.replace(context_of("bob"), trace=mine)
