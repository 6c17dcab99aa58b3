"""Lengths of time as a user writes them."""

import pytest

from test_framework.explore.budget import seconds_of


@pytest.mark.parametrize(
    ("budget", "seconds"),
    [("5", 5), (" 1.5 ", 1.5), ("500ms", 0.5), ("1m", 60), ("2min", 120), ("1h", 3600)],
)
def test_budget_is_read_as_it_is_meant(budget: str, seconds: float) -> None:
    """A number alone is seconds, and a minute has both of its usual names."""
    assert seconds_of(budget) == pytest.approx(seconds)
