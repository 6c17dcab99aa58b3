"""Intents and node sets over HTTP, with real controllers on real Postgres and Redis."""

import asyncio
from typing import Any

import httpx
import pytest

from app.settings import Settings
from app.storage import Leadership
from tests.integration.app.service import Member, Service, running
from tests.integration.control.world import LIMIT_S, until

pytestmark = [pytest.mark.integration, pytest.mark.slow]

FOREIGN = "00000000-0000-4000-8000-000000000000"


@pytest.fixture
def leading(settings: Settings) -> Settings:
    """Return settings of a service that stands for election."""
    return settings.model_copy(update={"leader_election": "postgres"})


async def _want(member: Member, goal: str, **headers: str) -> dict[str, Any]:
    """Submit an intent, wait until it is applied or refused, and return it."""
    answer = await member.http.post("/intents", json={"goal": goal}, headers=headers)
    assert answer.status_code == 202, answer.text
    async with asyncio.timeout(LIMIT_S):
        while True:
            shown = await member.http.get(answer.headers["location"])
            intent: dict[str, Any] = shown.json()
            if intent["phase"] != "pending":
                return intent
            await asyncio.sleep(0.02)


async def _converged(member: Member, name: str) -> list[int]:
    """Wait until a node set is as it shall be, and return its nodes."""
    async with asyncio.timeout(LIMIT_S):
        while True:
            shown = (await member.http.get(f"/node-sets/{name}")).json()
            wanted = (shown["generation"], shown["replicas"])
            if (shown["observed_generation"], shown["ready_replicas"]) == wanted:
                answer = await member.http.get(f"/node-sets/{name}/nodes")
                nodes: list[int] = answer.json()
                return nodes
            await asyncio.sleep(0.02)


async def _scale(
    member: Member, name: str, by: int, token: int | None = None
) -> httpx.Response:
    body = {"by": by} if token is None else {"by": by, "token": token}
    return await member.http.post(f"/node-sets/{name}/scale", json=body)


async def test_words_become_nodes(leading: Settings) -> None:
    """What is said is what is wanted, and what is wanted is what there is, soon."""
    async with running(leading) as service, service.member() as ada:
        intent = await _want(ada, "Run 13 workers in web")
        assert (intent["phase"], intent["node_set"], intent["replicas"]) == (
            "applied",
            "web",
            13,
        )
        assert await _converged(ada, "web") == list(range(13))

        await _want(ada, "remove two nodes from web")
        assert await _converged(ada, "web") == list(range(11))

        await _want(ada, "Stop web!")
        assert await _converged(ada, "web") == []
        generations = (await ada.http.get("/node-sets")).json()
    assert [one["generation"] for one in generations] == [3]


async def test_what_cannot_be_is_refused_with_a_reason(leading: Settings) -> None:
    """Words that mean nothing, and numbers out of bounds, change nothing."""
    async with running(leading) as service, service.member() as ada:
        odd = await _want(ada, "make me happy")
        low = await _want(ada, "remove 1 node from web")
        high = await _want(ada, "run 101 nodes in web")

        assert {one["phase"] for one in (odd, low, high)} == {"refused"}
        assert "I do not understand" in odd["problem"]
        assert "would be -1 nodes" in low["problem"]
        assert "would be 101 nodes" in high["problem"]
        assert (await ada.http.get("/node-sets")).json() == []


async def test_maintenance_keeps_nodes_as_they_are(leading: Settings) -> None:
    """While a node set is leased its nodes stay; released, they follow at once."""
    async with running(leading) as service, service.member() as ada:
        assert (await _scale(ada, "web", 2)).json()["replicas"] == 2
        assert await _converged(ada, "web") == [0, 1]
        leased = await ada.http.post("/node-sets/web/lease", json={"holder": "laptop"})
        token = leased.json()["lease_token"]
        assert (leased.status_code, token) == (201, 1)

        assert (await _scale(ada, "web", 1, token)).json()["replicas"] == 3
        # Whatever is reconciled meanwhile, another node set is when it has had its turn.
        await _scale(ada, "other", 1)
        await _converged(ada, "other")
        kept = (await ada.http.get("/node-sets/web/nodes")).json()
        released = await ada.http.delete("/node-sets/web/lease", params={"token": 1})
        after = await _converged(ada, "web")

    assert kept == [0, 1]
    assert released.status_code == 204
    assert after == [0, 1, 2]


async def test_lease_is_for_its_holder(settings: Settings) -> None:
    """A leased node set is not leased again, and an old token opens nothing."""
    async with running(settings) as service, service.member() as ada:
        await _scale(ada, "web", 1)
        path, body = "/node-sets/web/lease", {"holder": "laptop"}
        assert (await ada.http.post(path, json=body)).status_code == 201
        assert (await ada.http.post(path, json=body)).status_code == 409
        assert (await _scale(ada, "web", 1, 2)).status_code == 409
        assert (await ada.http.delete(path, params={"token": 2})).status_code == 409
        assert (await ada.http.delete(path, params={"token": 1})).status_code == 204
        assert (await ada.http.delete(path, params={"token": 1})).status_code == 409
        assert (await _scale(ada, "web", 1, 1)).status_code == 409
        again = await ada.http.post(path, json=body)

    assert again.json()["lease_token"] == 2


async def test_key_makes_an_intent_once(settings: Settings) -> None:
    """Twenty who send one intent under one key at one time submit one."""
    async with running(settings) as service, service.member() as ada:

        async def submit(goal: str = "add 1 node to web") -> httpx.Response:
            return await ada.http.post(
                "/intents", json={"goal": goal}, headers={"idempotency-key": "k-1"}
            )

        answers = await asyncio.gather(*(submit() for _ in range(20)))
        other = await submit("stop web")
        async with service.member() as bob:
            bobs = await bob.http.post(
                "/intents", json={"goal": "stop x"}, headers={"idempotency-key": "k-1"}
            )

    assert {answer.status_code for answer in answers} == {202}
    assert len({answer.json()["intent_id"] for answer in answers}) == 1
    assert other.status_code == 409
    assert bobs.status_code == 202


async def test_what_is_another_users_is_not_there(settings: Settings) -> None:
    """A stranger's intents and node sets are as absent as those that never were."""
    async with (
        running(settings) as service,
        service.member() as ada,
        service.member() as bob,
    ):
        submitted = await ada.http.post("/intents", json={"goal": "stop web"})
        own = submitted.headers["location"]
        await _scale(ada, "web", 3)
        await ada.http.post("/node-sets/web/lease", json={"holder": "x"})

        assert (await bob.http.get(own)).status_code == 404
        assert (await bob.http.delete(own)).status_code == 404
        assert (await bob.http.get("/intents")).json() == []
        assert (await bob.http.get("/node-sets")).json() == []
        for answer in (
            await bob.http.get("/node-sets/web"),
            await bob.http.get("/node-sets/web/nodes"),
            await bob.http.post("/node-sets/web/lease", json={"holder": "x"}),
            await bob.http.delete("/node-sets/web/lease", params={"token": 1}),
            await bob.http.get(f"/intents/{FOREIGN}"),
        ):
            assert answer.status_code == 404, answer.text
        # The same name is another node set.
        assert (await _scale(bob, "web", 1)).json()["replicas"] == 1
        assert (await ada.http.delete(own)).status_code == 204
        assert (await ada.http.get(own)).status_code == 404


async def test_bad_input_is_named(settings: Settings) -> None:
    """What cannot be is refused before it reaches the database."""
    bad: list[tuple[str, dict[str, Any]]] = [
        ("/intents", {"goal": ""}),
        ("/intents", {"goal": "x" * 1_001}),
        ("/intents", {"goal": "stop web", "phase": "applied"}),
        ("/node-sets/we_b/scale", {"by": 1}),
        ("/node-sets/web/scale", {"by": 101}),
        ("/node-sets/web/scale", {"by": 1, "token": 0}),
        ("/node-sets/web/lease", {"holder": "x", "ttl_s": 0}),
        ("/node-sets/web/lease", {"holder": "\x00"}),
    ]
    async with running(settings) as service, service.member() as ada:
        for path, body in bad:
            answer = await ada.http.post(path, json=body)

            assert answer.status_code == 422, (path, body)
            assert answer.json()["errors"]


async def test_services_hand_the_lead_over(leading: Settings) -> None:
    """When the service that leads stops, the other one leads, with a later epoch."""

    async def leadership(service: Service) -> Leadership:
        await until(lambda: service.parts.controllers.leadership is not None)
        found = service.parts.controllers.leadership
        assert found is not None
        return found

    async with running(leading) as one, running(leading) as two:
        await until(
            lambda: any(part.parts.controllers.leadership for part in (one, two))
        )
        first, second = (one, two) if one.parts.controllers.leadership else (two, one)
        before, metrics = await leadership(first), first.parts.controllers.metrics
        await first.parts.controllers.close()
        after = await leadership(second)

    assert after.epoch > before.epoch
    assert metrics is not None
    assert metrics.depth >= 0
