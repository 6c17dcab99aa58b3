"""Evidence: a run that proved nothing is unknown, never green."""

import dataclasses

import pytest

from test_framework.check import judge, weigh
from test_framework.core import (
    ComplaintRecord,
    EndRecord,
    HandlerRecord,
    History,
    RunRecord,
    ShapeRecord,
    SurfaceRecord,
    Verdict,
)
from tests.unit.check.builder import MS, Builder, canary, seen, whole_run


def test_whole_run_is_valid() -> None:
    """Users who wrote, met and saw their own things prove isolation."""
    judgement = judge(whole_run(5).end())

    assert judgement.verdict is Verdict.VALID
    assert judgement.evidence.gaps == ()
    assert judgement.evidence.user_pairs_overlapped == 10
    assert judgement.evidence.in_flight_peak == 5


def gaps(history: History) -> str:
    """Return all gaps of an unknown run as one text."""
    judgement = judge(history)
    assert judgement.verdict is Verdict.UNKNOWN
    return " ".join(judgement.evidence.gaps)


@pytest.mark.power
def test_one_user_proves_nothing() -> None:
    """Contamination takes two."""
    assert "it takes two" in gaps(whole_run(1).end())


@pytest.mark.power
def test_empty_workload_proves_nothing() -> None:
    """No request, no proof."""
    assert "no request was recorded" in gaps(Builder(2).end())


@pytest.mark.power
def test_serial_users_prove_nothing() -> None:
    """Users one after the other never meet."""
    builder = Builder(3)
    for user in range(3):
        start = user * 100
        builder.op(user, planted=(canary(user),), start_ms=start, end_ms=start + 10)
        builder.op(user, seen=(seen(user),), start_ms=start + 20, end_ms=start + 30)

    assert "0 of 3 users had a request in flight" in gaps(builder.end())


@pytest.mark.power
def test_unplanted_canaries_prove_nothing() -> None:
    """Nothing can be recognised that was never written."""
    builder = Builder(2)
    for user in range(2):
        builder.op(user, start_ms=0, end_ms=50)

    assert "no canary left for the service" in gaps(builder.end())


@pytest.mark.power
def test_user_who_never_saw_its_own_voids_the_run() -> None:
    """The positive control holds for every user and channel."""
    builder = whole_run(3)
    builder.event(0, 1, seen=(seen(0),))
    builder.event(1, 1, seen=(seen(1),))
    builder.event(2, 1)

    assert "1 of 3 users never saw an own canary over websocket" in gaps(builder.end())


@pytest.mark.power
def test_unfinished_run_proves_nothing() -> None:
    """A run that was broken off says so."""
    builder = whole_run()
    builder.history.add(ShapeRecord("own-connections", (0, 1), 0, MS))
    builder.history.add(EndRecord(MS, complete=False, reason="the service died"))

    assert "the service died" in gaps(builder.history)


@pytest.mark.power
def test_requests_that_reached_no_process_prove_nothing() -> None:
    """In a hosted run the service's own processes must have seen the requests."""
    builder = whole_run()
    hosted = History.of_records(
        dataclasses.replace(record, hosted=True)
        if isinstance(record, RunRecord)
        else record
        for record in builder.end().records()
    )

    assert "0 of 4 answered requests were seen" in gaps(hosted)


@pytest.mark.power
def test_failing_workload_proves_nothing() -> None:
    """A workload that raises for many users did not exercise the service."""
    builder = whole_run()
    builder.history.add(ComplaintRecord(1, "s", "error", "KeyError: 'id'", None))

    assert "KeyError: 'id'" in gaps(builder.end())


@pytest.mark.power
def test_swept_channel_without_canary_voids_the_run() -> None:
    """A sweep of somebody else's database must not look like a pass."""
    builder = whole_run()
    builder.history.add(SurfaceRecord("postgres", "*"))

    assert "sweep of postgres found no canary" in gaps(builder.end())


def test_inapplicable_shape_is_told_and_no_gap() -> None:
    """A service without streams is not blamed for having none."""
    builder = whole_run()
    builder.history.add(
        ShapeRecord("streaming", (), 0, 1, applicable=False, reason="no stream")
    )

    evidence = weigh(builder.end())

    assert "shape streaming: no stream" in evidence.not_exercised
    assert evidence.gaps == ()


def test_overlap_is_what_the_service_saw() -> None:
    """Handler intervals win over the clients' view."""
    builder = Builder(2)
    a = builder.op(0, planted=(canary(0),), seen=(seen(0),), start_ms=0, end_ms=100)
    b = builder.op(1, planted=(canary(1),), seen=(seen(1),), start_ms=0, end_ms=100)
    builder.history.add(HandlerRecord(a.index, "http", 0, 10 * MS, 0))
    builder.history.add(HandlerRecord(b.index, "http", 10 * MS, 20 * MS, 0))

    evidence = weigh(builder.end())

    assert evidence.in_flight_peak == 1
    assert evidence.user_pairs_overlapped == 0


def test_users_of_sockets_only_meet_too() -> None:
    """A service without HTTP is proved by sockets that are open together."""
    builder = Builder(2)
    for user in range(2):
        connect = builder.op(
            user, "CONNECT /feed", channel="websocket", planted=(canary(user),)
        )
        builder.history.add(HandlerRecord(connect.index, "websocket", 0, 500 * MS, 0))
        builder.event(user, 1, socket=user + 1, seen=(seen(user),))

    judgement = judge(builder.end())

    assert judgement.verdict is Verdict.VALID
    assert judgement.evidence.user_pairs_overlapped == 1
    assert judgement.evidence.in_flight_peak == 0


def test_handlers_that_never_await_do_not_void_a_shape() -> None:
    """Requests that wait for one another in the service were sent together."""
    builder = Builder(2)
    for user in range(2):
        both = {"planted": (canary(user),), "start_ms": 0, "end_ms": 100}
        write = builder.op(user, "POST /notes", **both)
        read = builder.op(user, seen=(seen(user),), start_ms=100, end_ms=200)
        for op, start in ((write, 10 * user), (read, 100 + 10 * user)):
            builder.history.add(
                HandlerRecord(op.index, "http", start * MS, (start + 1) * MS, 0)
            )

    judgement = judge(builder.end())

    assert judgement.verdict is Verdict.VALID
    assert judgement.evidence.in_flight_peak == 1


def test_made_up_paths_are_no_endpoints() -> None:
    """What the audit invented to be refused is not listed as untested."""
    builder = whole_run()
    builder.op(0, "GET /notes/{id}", shape="error-paths", status=404, outcome="fail")

    evidence = weigh(builder.end())

    assert "GET /notes/{id}" not in {cell.name for cell in evidence.matrix}


def test_declared_endpoint_without_use_is_listed() -> None:
    """What the service has and nobody tried is printed."""
    builder = whole_run()
    builder.history.add(SurfaceRecord("http", "DELETE /notes/{id}"))

    evidence = weigh(builder.end())

    assert "http DELETE /notes/{id}: never used" in evidence.not_exercised
