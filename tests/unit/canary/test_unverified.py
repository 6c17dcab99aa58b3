"""Owners are read from canaries without the seed."""

import pytest

from test_framework.canary import LENGTH, MARKER, MAX_USER, Mint, users_named


@pytest.mark.parametrize("user", [0, 7, 31, 32, 1023, 1024, 40_000, MAX_USER])
@pytest.mark.parametrize("seed", [1, 8842])
def test_owner_is_read_whatever_the_seed(user: int, seed: int) -> None:
    """Of text and of bytes, wherever the canary stands."""
    text = f"note <{Mint(seed).mint(user, 3)}>"

    assert list(users_named(text)) == [user]
    assert list(users_named(text.encode())) == [user]


def test_every_canary_of_a_text_is_read() -> None:
    """Several owners are told in their order, also without a gap."""
    mint = Mint(8842)
    text = mint.mint(31, 0) + mint.mint(7, 1) + " and " + mint.mint(31, 2)

    assert list(users_named(text)) == [31, 7, 31]


@pytest.mark.parametrize(
    "text",
    ["", "note", MARKER, f"{MARKER}0007", Mint(8842).mint(7, 3)[: LENGTH - 1]],
)
def test_what_is_no_canary_names_nobody(text: str) -> None:
    """A marker alone, or a canary that was cut, is none."""
    assert list(users_named(text)) == []
    assert list(users_named(text.encode())) == []
