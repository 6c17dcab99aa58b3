"""Swarm and checkers find patterns of the catalogue behind real sockets."""

import asyncio
from collections.abc import AsyncIterator

import pytest
import redis
import redis.asyncio

from test_framework.catalogue import find_pattern, load_matrix, load_patterns
from test_framework.catalogue.matrix import AUDITED, Outcome
from test_framework.catalogue.measure import measure_hosted
from test_framework.catalogue.pattern import Means
from test_framework.catalogue.redis_store import redis_store
from test_framework.catalogue.world import Store

pytestmark = [pytest.mark.integration, pytest.mark.power]

SHOWN = ("P01", "W08", "D05", "X01", "P09")
"""Contamination, also over WebSockets; an update lost; a disconnect; a failure."""


SHARES = 6
"""So many tests share all patterns, for none may take two minutes."""


@pytest.fixture(scope="module")
def measured() -> dict[str, dict[Means, Outcome | None]]:
    """Audit both twins of five patterns."""
    return measure_hosted([find_pattern(id_) for id_ in SHOWN])


@pytest.mark.parametrize(
    ("id_", "swarm", "checkers"),
    [
        ("P01", Outcome.FOUND, Outcome.FOUND),
        ("W08", Outcome.FOUND, Outcome.FOUND),
        ("D05", None, Outcome.FOUND),
        ("X01", Outcome.FOUND, Outcome.FOUND),
        ("P09", None, Outcome.FOUND),
    ],
)
def test_hosted_twin_is_told_from_its_mend(
    id_: str,
    swarm: Outcome | None,
    checkers: Outcome,
    measured: dict[str, dict[Means, Outcome | None]],
) -> None:
    """The bug is seen over the wire, by whose office it is; the mend is left alone."""
    assert measured[id_] == {"swarm": swarm, "checkers": checkers}


@pytest.mark.long
@pytest.mark.parametrize("share", range(SHARES))
def test_audits_find_what_the_matrix_says(share: int) -> None:
    """Each hosted pattern, by the means that ought to find it; no safe twin is hurt."""
    matrix = load_matrix()
    patterns = load_patterns()[share::SHARES]
    expected = {
        (one.id, means)
        for one in patterns
        for means in AUDITED
        if one.hosted is not None and means in one.detectors
        if matrix[one.id].get(means) == Outcome.FOUND
    }

    measured = measure_hosted(patterns)

    found = {
        (id_, means)
        for id_, outcomes in measured.items()
        for means in AUDITED
        if outcomes[means] == Outcome.FOUND
    }
    alarmed = [
        id_ for id_, by in measured.items() if Outcome.FALSE_ALARM in by.values()
    ]
    assert alarmed == []
    # The swarm finds D02 in the reference service, whose session holds more than one row.
    assert expected - found <= {("D02", "swarm")}


@pytest.fixture(params=["in memory", "Redis"])
async def store(request: pytest.FixtureRequest) -> AsyncIterator[type[Store]]:
    """The store of the patterns, and the one that hosted twins have in its place."""
    if request.param == "in memory":
        yield Store
        return
    url: str = request.getfixturevalue("redis_url")
    with redis.Redis.from_url(url) as blocking:
        async with redis.asyncio.Redis.from_url(url) as client:
            yield redis_store(client, blocking)


async def test_store_of_patterns_does_what_redis_does(store: type[Store]) -> None:
    """The one in memory passes for the other, command by command."""
    one, other = store(number=1, row={"owner": "alice"}), store()

    assert await one.add("number", 2) == 3
    assert await one.get("row") == {"owner": "alice"}
    assert await one.swap("row", {"owner": "bob"}, None) is False
    assert await one.swap("row", {"owner": "alice"}, {"owner": "bob"}) is True
    assert await one.set_if_absent("row", "taken") is False
    assert await one.set_if_absent("lock", "mine") is True
    assert await one.pop("lock") == "mine"
    assert await one.pop("lock") is None
    await one.set("flag", value=False)
    assert await one.get("flag") is False
    assert dict(one.data) == {"number": 3, "row": {"owner": "bob"}, "flag": False}
    assert dict(other.data) == {}


async def test_of_two_who_swap_one_at_a_time_one_loses(store: type[Store]) -> None:
    """A swap is atomic, with the network in between."""
    one = store(number=0)

    won = await asyncio.gather(*(one.swap("number", 0, n) for n in range(1, 6)))

    assert sum(won) == 1
    assert one.data["number"] == 1 + won.index(True)
