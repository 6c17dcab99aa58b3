"""A configuration is right, or says what is wrong with which value."""

import os
from typing import Any

import pytest

from test_framework.battery import RaceTestConfig
from test_framework.core import UsageError


def test_defaults_are_those_that_were_asked_for() -> None:
    """Four workers for each CPU, 1000 turns, 30 s, all checks, no binding."""
    config = RaceTestConfig()

    assert config.workers == 4 * (os.cpu_count() or 1)
    assert (config.iterations, config.timeout_s) == (1000, 30.0)
    assert config.detect_deadlocks
    assert config.check_ordering
    assert config.cpus == ()
    assert config.kind == "task"


def test_seeds_differ_unless_given() -> None:
    """Two configurations do not make the same choices by accident."""
    assert RaceTestConfig().seed != RaceTestConfig().seed
    assert RaceTestConfig(seed=7).seed == 7


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"workers": 0}, "workers=0: expected a whole number"),
        ({"workers": True}, "workers=True: expected a whole number"),
        ({"iterations": -1}, "iterations=-1: expected a whole number"),
        ({"iterations": 1.5}, "iterations=1.5: expected a whole number"),
        ({"timeout_s": 0}, "timeout_s=0: expected seconds"),
        ({"timeout_s": float("inf")}, "timeout_s=inf: expected seconds"),
        ({"quiet_s": float("nan")}, "quiet_s=nan: expected seconds"),
        ({"preemptions": 2}, "preemptions=2: expected a chance"),
        ({"pauses": 1.5}, "pauses=1.5: expected a chance"),
        ({"cancellations": -0.1}, "cancellations=-0.1: expected a chance"),
        ({"kind": "fibre"}, "kind='fibre': expected one of task, thread, process"),
        ({"cpus": (4096,)}, "may not run on CPU 4096"),
    ],
)
def test_wrong_value_is_named_with_its_cure(wrong: dict[str, Any], said: str) -> None:
    """A value out of range is a usage error that quotes it."""
    with pytest.raises(UsageError, match=r".") as caught:
        RaceTestConfig(**wrong)

    assert said in str(caught.value)
