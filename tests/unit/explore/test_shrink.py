"""Shrinking: the fewest switches that fail, in few runs."""

from collections import Counter

from test_framework.explore import Cancel, Fidelity, Schedule, Segment
from test_framework.explore.shrink import shrink


def schedule(*segments: tuple[str, int], faults: tuple[Cancel, ...] = ()) -> Schedule:
    """Make a schedule of pairs."""
    return Schedule(
        Fidelity.AWAIT, tuple(Segment(name, steps) for name, steps in segments), faults
    )


def noise(pairs: int) -> list[tuple[str, int]]:
    """Return segments that matter to nobody."""
    return [(name, 1) for _ in range(pairs) for name in ("x", "y")]


def test_shrink_keeps_only_what_the_failure_needs() -> None:
    """Of 41 segments the one that matters is left, with its fewest steps."""
    long = schedule(*noise(10), ("b", 9), *noise(10))

    def fails(candidate: Schedule) -> bool:
        return any(s.name == "b" and s.steps >= 4 for s in candidate.segments)

    best, runs = shrink(long, fails)

    assert best.segments == (Segment("b", 4),)
    assert runs <= 60


def test_shrink_joins_segments_of_one_task() -> None:
    """Steps of one task that may as well be made at once become one segment."""
    parts = schedule(("a", 2), ("b", 1), ("a", 2), ("b", 1), ("a", 1))

    def fails(candidate: Schedule) -> bool:
        return sum(s.steps for s in candidate.segments if s.name == "a") >= 5

    best, _ = shrink(parts, fails)

    assert best.segments == (Segment("a", 5),)


def test_shrink_drops_bystanders_as_a_whole() -> None:
    """Tasks that must be left out with all of their segments or not at all go soon."""
    bystanders = [f"bystander[{n}]" for n in range(18)]
    crowded = schedule(*[(name, 1) for _ in range(6) for name in (*bystanders, "b")])

    def fails(candidate: Schedule) -> bool:
        steps: Counter[str] = Counter()
        for segment in candidate.segments:
            steps[segment.name] += segment.steps
        return steps["b"] >= 4 and all(steps[name] in {0, 6} for name in bystanders)

    best, runs = shrink(crowded, fails)

    assert best.segments == (Segment("b", 4),)
    assert runs <= 20


def test_shrink_drops_faults_that_do_not_matter() -> None:
    """A fault stays only when the failure needs it."""
    first, second = Cancel("a", 1), Cancel("b", 2)

    best, _ = shrink(
        schedule(("a", 1), faults=(first, second)),
        lambda candidate: second in candidate.faults,
    )

    assert best == schedule(faults=(second,))


def test_shrink_stops_at_its_bound() -> None:
    """Not more runs than allowed are made, and the best so far is returned."""
    calls = []

    def fails(candidate: Schedule) -> bool:
        calls.append(candidate)
        return len(candidate.segments) >= 30

    best, runs = shrink(schedule(*noise(30)), fails, max_runs=7)

    assert runs == len(calls) == 7
    assert len(best.segments) >= 30
