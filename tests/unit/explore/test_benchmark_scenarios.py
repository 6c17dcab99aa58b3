"""The finding power that benchmarks/README.md states, in schedules instead of seconds."""

import asyncio
import statistics

import pytest

from benchmarks.explore_scenarios import RACES, VERDICTS, Program
from test_framework.explore import Conclusion, Report, explore

SEEDS = range(24)
MEAN_SCHEDULES = {name: 30 if name == "needle" else 20 for name in RACES}


def search(program: Program, *, seed: int, schedules: int = 2_000) -> Report:
    """Explore with every await at will; the bound in schedules, not in time."""
    return explore(
        program.main, fidelity="await", seed=seed, schedules=schedules, budget=60
    )


@pytest.mark.power
@pytest.mark.slow
@pytest.mark.parametrize("name", RACES)
def test_hidden_races_are_found_and_shrunk_within_the_targets(name: str) -> None:
    """Each race is found by every seed, soon, and told in at most four switches.

    With 24 fixed seeds the outcome is fixed as well.
    """
    witnesses = []
    for seed in SEEDS:
        report = search(RACES[name], seed=seed)
        assert report.witness is not None, report.text()
        witnesses.append(report.witness)

    assert statistics.mean(w.found_after for w in witnesses) <= MEAN_SCHEDULES[name]
    assert max(w.schedule.switches for w in witnesses) <= 4
    assert max(w.shrink_runs for w in witnesses) <= 60


@pytest.mark.parametrize("name", RACES)
def test_hidden_races_pass_on_plain_asyncio(name: str) -> None:
    """What the usual order shows would say nothing about an explorer."""
    asyncio.run(RACES[name].main())


@pytest.mark.parametrize("name", VERDICTS)
def test_programs_that_rivals_misjudge_are_judged_right(name: str) -> None:
    """Correct programs have no witness, wrong ones have one."""
    report = search(VERDICTS[name], seed=1, schedules=300)

    if VERDICTS[name].is_correct:
        assert report.conclusion in {Conclusion.PROVEN, Conclusion.SAMPLED}
    else:
        assert report.conclusion is Conclusion.FOUND, report.text()
