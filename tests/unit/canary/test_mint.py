"""What a canary says and who can make one."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from test_framework.canary import (
    LENGTH,
    MARKER,
    MAX_SEQUENCE,
    MAX_USER,
    Canary,
    Mint,
    Recogniser,
)
from test_framework.core import UsageError

USERS = st.integers(0, MAX_USER)
SEQUENCES = st.integers(0, MAX_SEQUENCE)
SEEDS = st.integers(0, 2**32 - 1)


def test_mint_keeps_its_golden_values() -> None:
    """Canaries of stored histories stay readable: the format does not change."""
    assert [Mint(5).mint(31, 3), Mint(8842).mint(10_000, 1_000_000)] == [
        "qqqqqqqqqqqqqqqq000z00031dzkcvnrt5m3",
        "qqqqqqqqqqqqqqqq09sgygj0xzbjwnz6p1jf",
    ]


def test_canary_reads_as_its_owner() -> None:
    """A canary prints as the user and its number."""
    assert str(Canary(31, 3)) == "u31/3"


@given(seed=SEEDS, user=USERS, sequence=SEQUENCES)
def test_canary_names_its_owner(seed: int, user: int, sequence: int) -> None:
    """Whoever has the seed reads the owner out of the value alone."""
    value = Mint(seed).mint(user, sequence)

    found = Recogniser(seed).scan(value.encode())

    assert [sighting.canary for sighting in found] == [Canary(user, sequence)]


@given(seed=SEEDS, user=USERS, sequence=SEQUENCES)
def test_canary_has_one_shape(seed: int, user: int, sequence: int) -> None:
    """A canary is a marker and lower-case letters and digits, always as long."""
    value = Mint(seed).mint(user, sequence)

    assert value.startswith(MARKER)
    assert len(value) == LENGTH
    assert value.isalnum()
    assert value.isascii()
    assert value == value.lower()


@given(seeds=st.lists(SEEDS, min_size=2, max_size=2, unique=True), user=USERS)
def test_canary_of_another_seed_is_nobodys(seeds: list[int], user: int) -> None:
    """A canary of another run is not attributed."""
    # Odds of a tag that fits by chance: 2**-60 per example, 100 examples.
    value = Mint(seeds[0]).mint(user, 0)

    assert Recogniser(seeds[1]).scan(value.encode()) == []


@given(
    user=USERS,
    place=st.integers(len(MARKER), LENGTH - 1),
    letter=st.sampled_from("0123456789abcdefghjkmnprstuvwxyz"),
)
def test_corrupted_canary_is_nobodys(user: int, place: int, letter: str) -> None:
    """A canary with one digit changed is not attributed, to its owner or another."""
    value = Mint(7).mint(user, 5)
    forged = value[:place] + letter + value[place + 1 :]

    found = Recogniser(7).scan(forged.encode())

    assert bool(found) == (forged == value)


@pytest.mark.parametrize(
    ("user", "sequence"),
    [(-1, 0), (MAX_USER + 1, 0), (0, -1), (0, MAX_SEQUENCE + 1)],
)
def test_mint_refuses_numbers_out_of_range(user: int, sequence: int) -> None:
    """A number that does not fit is the caller's mistake, named with its range."""
    with pytest.raises(UsageError, match="it must lie between 0 and 1048575"):
        Mint(1).mint(user, sequence)
