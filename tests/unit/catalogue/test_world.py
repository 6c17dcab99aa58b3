"""The fake services keep what they promise: each command is one step."""

from test_framework.catalogue.world import Store


async def test_store_adds_and_returns_the_sum() -> None:
    """Numbers begin at 0."""
    store = Store()

    assert await store.add("hits", 2) == 2
    assert await store.add("hits", 3) == 5


async def test_only_the_first_sets_an_absent_key() -> None:
    """Who comes second is told so, even with an equal value."""
    store = Store()

    assert await store.set_if_absent("lock", "alice")
    assert not await store.set_if_absent("lock", "bob")
    assert not await store.set_if_absent("lock", "alice")
    assert await store.get("lock") == "alice"


async def test_pop_takes_the_value_away() -> None:
    """A value is given out once."""
    store = Store(code="1234")

    assert await store.pop("code") == "1234"
    assert await store.pop("code") is None


async def test_swap_needs_the_old_value() -> None:
    """A swap with an outdated value changes nothing."""
    store = Store(row=1)

    assert not await store.swap("row", 0, 2)
    assert await store.swap("row", 1, 2)
    assert await store.get("row") == 2
