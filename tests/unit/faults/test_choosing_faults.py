"""Faults are chosen by name, and refuse what they cannot disturb."""

from collections.abc import Callable

import pytest

from test_framework.core import UsageError
from test_framework.faults import (
    FAULTS,
    ClockJump,
    DroppedSockets,
    Fault,
    Field,
    Link,
    Partition,
    PauseRedis,
    SlowNetwork,
    chosen,
    striking,
)


def test_faults_go_by_their_names() -> None:
    """Each is registered as what it calls itself, with a promise in one sentence."""
    for name, make in FAULTS.items():
        fault = make()

        assert fault.name == name
        assert fault.promise.endswith(".")


def test_all_chooses_every_fault_in_order() -> None:
    """The word all means each of them once."""
    assert [fault.name for fault in chosen("all")] == list(FAULTS)


def test_names_are_chosen_in_the_fixed_order() -> None:
    """However they are written, the faults come in the order of the table."""
    first, second = list(FAULTS)[:2]

    assert [f.name for f in chosen(f" {second},{first} ")] == [first, second]


@pytest.mark.parametrize("names", ["", "no-such-fault", "slow-network,no-such-fault"])
def test_unknown_names_are_refused_with_the_known(names: str) -> None:
    """Who mistypes a name reads all there are."""
    with pytest.raises(UsageError, match="slow-network, narrow-network"):
        chosen(names)


@pytest.mark.parametrize("name", FAULTS)
def test_every_fault_says_what_it_lacks(name: str) -> None:
    """On an empty field none strikes, and each says why in a sentence."""
    reason = FAULTS[name]().lacks(Field())

    assert reason is not None
    assert reason.endswith(".")


@pytest.mark.parametrize("name", FAULTS)
async def test_healing_nothing_does_nothing(name: str) -> None:
    """On an empty field a heal without a strike returns."""
    await FAULTS[name]().heal(Field())


async def test_striking_refuses_what_lacks_its_means() -> None:
    """The block does not run undisturbed."""
    with pytest.raises(UsageError, match="slow-network cannot strike here: no proxy"):
        async with striking(SlowNetwork(), Field()):
            pytest.fail("the block ran")


@pytest.mark.parametrize(
    "wrong",
    [
        {"latency_s": -1.0},
        {"jitter_s": float("nan")},
        {"bytes_per_s": 0.0},
        {"cut_after_bytes": (5, 4)},
    ],
)
def test_links_that_cannot_be_are_refused(wrong: dict[str, float]) -> None:
    """The message names the field and its value."""
    with pytest.raises(UsageError, match=next(iter(wrong))):
        Link(**wrong)  # type: ignore[arg-type]  # wrong on purpose


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: ClockJump(by_s=0), "by_s=0"),
        (lambda: PauseRedis(pause_s=0), "pause_s=0"),
        (lambda: DroppedSockets(every_s=-1), "every_s=-1"),
        (lambda: SlowNetwork(["moon"]), "moon.*database, redis, service"),  # type: ignore[list-item]  # wrong on purpose
        (lambda: Partition([]), "name one or more"),
    ],
)
def test_options_that_cannot_be_are_refused(
    make: Callable[[], Fault], words: str
) -> None:
    """A fault that would disturb nothing is not made."""
    with pytest.raises(UsageError, match=words):
        make()
