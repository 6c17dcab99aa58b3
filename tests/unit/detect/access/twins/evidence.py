"""A read, an await and a write of one place, with a loss and without one."""

import asyncio
import contextlib
from dataclasses import dataclass, field

from tests.unit.detect.access.twins.pair import Pair


@dataclass
class Shop:
    """What all share."""

    failures: int = 0
    opened_at: float | None = None
    used: int = 0
    pending: int = 0
    last: str = ""
    theme: str = "light"
    closed: bool = False
    config: dict[str, str] | None = None
    free: list[int] = field(default_factory=list)
    rows: dict[int, int] = field(default_factory=dict)
    seats: list[int | None] = field(default_factory=lambda: [None] * 4)
    page: dict[str, int] = field(default_factory=dict)
    parts: list[str] = field(default_factory=list)
    log: list[str] = field(default_factory=list)


async def add_to_old_value(shop: Shop, user: int) -> None:
    used = shop.used
    total = [used, user]
    await asyncio.sleep(0)
    shop.used = sum(total)


async def break_circuit(shop: Shop, _: int) -> None:
    if shop.opened_at is not None and shop.failures > 5:
        return
    await asyncio.sleep(0)
    shop.failures = 0
    shop.opened_at = None


async def label_with_old_value(shop: Shop, user: int) -> None:
    before = shop.last
    await asyncio.sleep(0)
    shop.last = f"{before}, {user}"


async def show_last(shop: Shop, user: int) -> None:
    shop.last = f"job {user}"
    shop.log.append(shop.last)
    await asyncio.sleep(0)
    shop.last = f"done {user}"


async def spend_beyond_limit(shop: Shop, _: int) -> None:
    if shop.used + 1 > 2:
        return
    await asyncio.sleep(0)
    shop.used += 1


async def spend_within_limit(shop: Shop, _: int) -> None:
    await asyncio.sleep(0)
    if shop.used + 1 > 2:
        return
    shop.used += 1


async def count_failures(shop: Shop, _: int) -> None:
    if shop.failures >= 5:
        return
    await asyncio.sleep(0)
    shop.failures += 1


async def reserve(shop: Shop, _: int) -> None:
    if shop.used + shop.pending + 1 > 100:
        return
    shop.pending += 1
    await asyncio.sleep(0)
    shop.used += 1
    shop.pending -= 1


async def configure_differently(shop: Shop, user: int) -> None:
    if shop.config is None:
        loaded = await asyncio.sleep(0, {"owner": str(user)})
        shop.config = loaded


async def configure_alike(shop: Shop, _: int) -> None:
    if shop.config is None:
        loaded = await asyncio.sleep(0, {"greeting": "hello"})
        shop.config = loaded


async def make_in_another_method(shop: Shop, user: int) -> None:
    if shop.config is None:
        await _configure(shop, user)


async def _configure(shop: Shop, user: int) -> None:
    await asyncio.sleep(0)
    shop.config = {"owner": str(user)}


async def close_once(shop: Shop, _: int) -> None:
    if shop.closed:
        return
    await asyncio.sleep(0)
    shop.closed = True


async def number_by_highest(shop: Shop, user: int) -> None:
    number = max(shop.rows, default=0) + 1
    await asyncio.sleep(0)
    shop.rows[number] = user


async def number_at_once(shop: Shop, user: int) -> None:
    await asyncio.sleep(0)
    shop.rows[max(shop.rows, default=0) + 1] = user


async def take_seat(shop: Shop, user: int) -> None:
    seat = shop.seats.index(None)
    await asyncio.sleep(0)
    shop.seats[seat] = user


async def take_seat_at_once(shop: Shop, user: int) -> None:
    await asyncio.sleep(0)
    shop.seats[shop.seats.index(None)] = user


async def number_if_missing(shop: Shop, user: int) -> None:
    try:
        assert shop.rows[0]
    except KeyError:
        await asyncio.sleep(0)
        shop.rows[0] = user


async def number_if_still_missing(shop: Shop, user: int) -> None:
    try:
        assert shop.rows[0]
    except KeyError:
        await asyncio.sleep(0)
        shop.rows.setdefault(0, user)


async def leave_by_index(shop: Shop, user: int) -> None:
    shop.free.append(user)
    index = shop.free.index(user)
    await asyncio.sleep(0)
    with contextlib.suppress(IndexError):
        shop.free.pop(index)


async def leave_by_value(shop: Shop, user: int) -> None:
    shop.free.append(user)
    present = list(shop.free)
    await asyncio.sleep(0, present)
    for one in present:
        if one == user:
            shop.free.remove(one)


async def borrow_free(shop: Shop, user: int) -> None:
    if shop.free:
        one = shop.free.pop()
    else:
        one = await asyncio.sleep(0, user)
    await asyncio.sleep(0)
    shop.free.append(one)


async def borrow_last(shop: Shop, user: int) -> None:
    if not shop.free:
        shop.free.append(user)
    if len(shop.free) > 0:
        await asyncio.sleep(0)
        with contextlib.suppress(IndexError):
            shop.free.pop()


async def fill_page(shop: Shop, user: int) -> str:
    shop.page["user"] = user
    await asyncio.sleep(0)
    return f"{shop.page}"


async def fill_copy(shop: Shop, user: int) -> str:
    page = {**shop.page, "user": user}
    await asyncio.sleep(0)
    return f"{page}"


async def fill_by_keyword(shop: Shop, user: int) -> dict[str, int]:
    shop.page.update(user=user)
    await asyncio.sleep(0)
    return {**shop.page}


async def fill_own_keyword(shop: Shop, user: int) -> dict[str, int]:
    shop.page.update(title=1)
    page = dict(shop.page)
    page.update(user=user)
    await asyncio.sleep(0)
    return page


async def collect_in_shared(shop: Shop, user: int) -> str:
    shop.parts.clear()
    shop.parts.append(f"{user}")
    await asyncio.sleep(0)
    shop.parts.append(f"{user}")
    return "".join(shop.parts)


async def collect_in_own(shop: Shop, user: int) -> str:
    parts = [f"{user}"]
    shop.parts.append("seen")
    await asyncio.sleep(0)
    shop.parts.append("seen again")
    return "".join(parts)


async def set_theme(shop: Shop, user: int) -> None:
    theme = f"theme {user}"
    if theme == shop.theme:
        return
    await asyncio.sleep(0)
    shop.theme = theme


async def add_to_theme(shop: Shop, user: int) -> None:
    theme = shop.theme
    await asyncio.sleep(0)
    shop.theme = theme + f" and {user}"


class Counter:
    """Has its defaults in the class."""

    count = 0
    client: object | None = None
    made: object


async def count_from_default(counter: Counter, _: int) -> None:
    count = counter.count
    await asyncio.sleep(0)
    counter.count = count + 1


async def count_at_once(counter: Counter, _: int) -> None:
    await asyncio.sleep(0)
    counter.count = counter.count + 1


async def make_client(counter: Counter, _: int) -> None:
    if counter.client is None:
        await asyncio.sleep(0)
        counter.client = object()


async def make_client_if_still_missing(counter: Counter, _: int) -> None:
    if counter.client is None:
        await asyncio.sleep(0)
        if counter.client is None:
            counter.client = object()


async def count_by_name(counter: Counter, _: int) -> None:
    count = getattr(counter, "count")  # noqa: B009  # how it is read here
    await asyncio.sleep(0)
    setattr(counter, "count", count + 1)  # noqa: B010  # how it is written here


async def count_by_name_at_once(counter: Counter, _: int) -> None:
    await asyncio.sleep(0)
    setattr(counter, "count", getattr(counter, "count") + 1)  # noqa: B009, B010  # as above


async def fill_if_it_has_none(counter: Counter, _: int) -> None:
    if not hasattr(counter, "made"):
        await asyncio.sleep(0)
        counter.made = object()


async def fill_if_it_still_has_none(counter: Counter, _: int) -> None:
    if not hasattr(counter, "made"):
        await asyncio.sleep(0)
        if not hasattr(counter, "made"):
            counter.made = object()


async def count_by_match(shop: Shop, _: int) -> None:
    shop.page.setdefault("count", 0)
    match shop.page:
        case {"count": int(count)}:
            await asyncio.sleep(0)
            shop.page["count"] = count + 1
        case _:
            pass


async def count_by_match_at_once(shop: Shop, _: int) -> None:
    shop.page.setdefault("count", 0)
    await asyncio.sleep(0)
    match shop.page:
        case {"count": int(count)}:
            shop.page["count"] = count + 1
        case _:
            pass


async def count_after_a_look(shop: Shop, user: int) -> None:
    if shop.used < 100:
        used = shop.used
        await asyncio.sleep(0, user)
        shop.used = used + 1


LOST, CLOBBERED = "shared-update-lost", "shared-write-clobbered"
PAIRS = {
    "value through a list": Pair(Shop, add_to_old_value, break_circuit, LOST),
    "value in a text": Pair(Shop, label_with_old_value, show_last, LOST),
    "value in a sum": Pair(Shop, add_to_theme, set_theme, LOST),
    "limit that is passed": Pair(Shop, spend_beyond_limit, spend_within_limit, LOST),
    "values that differ": Pair(Shop, configure_differently, configure_alike, LOST),
    "question in the caller": Pair(Shop, make_in_another_method, close_once, LOST),
    "number by the highest": Pair(Shop, number_by_highest, number_at_once, LOST),
    "seat by its index": Pair(Shop, take_seat, take_seat_at_once, LOST),
    "key that raises": Pair(Shop, number_if_missing, number_if_still_missing, LOST),
    "index of old": Pair(Shop, leave_by_index, leave_by_value, LOST),
    "free list": Pair(Shop, borrow_last, borrow_free, LOST),
    "page in a text": Pair(Shop, fill_page, fill_copy, CLOBBERED),
    "page by keyword": Pair(Shop, fill_by_keyword, fill_own_keyword, CLOBBERED),
    "list begun anew": Pair(Shop, collect_in_shared, collect_in_own, CLOBBERED),
    "counter of a class": Pair(Counter, count_from_default, count_at_once, LOST),
    "client of a class": Pair(Counter, make_client, make_client_if_still_missing, LOST),
    "attribute by name": Pair(Counter, count_by_name, count_by_name_at_once, LOST),
    "attribute that is asked for": Pair(
        Counter, fill_if_it_has_none, fill_if_it_still_has_none, LOST
    ),
    "second read of a step": Pair(Shop, count_after_a_look, spend_within_limit, LOST),
    "match on a key": Pair(Shop, count_by_match, count_by_match_at_once, LOST),
}
OUTLIVED = (count_failures, reserve)
"""Sound, though the check is of before the await: at most a warning."""
