"""Whatever is sent, the service answers as its OpenAPI document says, and only its owner.

Schemathesis reads the document of a running service (real HTTP, Postgres and Redis) and
runs all of its checks, the one with two users too. Every sabotaged sibling has one
endpoint that the same run must find fault with.
"""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from app.settings import Settings
from tests.integration.app.service import Member, Service, serving
from tests.integration.security.fuzzing import fuzz
from tests.integration.security.openapi_twins import (
    create_brittle,
    create_ownerless,
    create_untold,
)

pytestmark = [pytest.mark.integration, pytest.mark.slow]

Create = Callable[[Settings], FastAPI]


async def test_service_answers_as_its_document_says(
    own_settings: Settings, tmp_path: Path
) -> None:
    """A short run over every operation finds nothing; ``long`` has the whole one."""
    async with serving(own_settings) as service:
        run = await fuzz(
            service,
            own_settings,
            tmp_path,
            max_examples=1,
            options=["--phases", "fuzzing", "--no-shrink"],
        )

        assert run.is_complete, run.output
        assert run.found == frozenset(), run.output
        assert run.tested == len(operations(service.app))


@pytest.mark.long
@pytest.mark.parametrize(
    ("phase", "paths"),
    [
        # In two parts: a test is given two minutes.
        ("coverage", "^/(threads|documents|runs)"),
        ("coverage", "^/(?!threads|documents|runs)"),
        ("fuzzing", "^/"),
        ("stateful", "^/"),
    ],
)
async def test_whole_fuzzing_finds_nothing(
    own_settings: Settings, tmp_path: Path, phase: str, paths: str
) -> None:
    """Each phase with many more requests: nothing is found."""
    async with serving(own_settings) as service:
        run = await fuzz(
            service,
            own_settings,
            tmp_path,
            max_examples=10,
            options=["--phases", phase, "--include-path-regex", paths, "--no-shrink"],
        )
        named = [one for one in operations(service.app) if re.search(paths, one[1])]

    assert run.is_complete, run.output
    assert run.found == frozenset(), run.output
    # Stateful scenarios go where links lead them, by chance.
    assert run.tested == len(named) or (phase == "stateful" and run.tested)


@pytest.mark.long
@pytest.mark.power
@pytest.mark.parametrize(
    ("create", "paths", "phases", "found"),
    [
        (
            create_ownerless,
            "^/documents$|^/documents/{document_id}$",
            "stateful",
            ("ObjectLevelAuthorizationViolation", "Stateful tests"),
        ),
        (
            create_brittle,
            "search",
            "fuzzing",
            ("ServerError", "GET /documents/search"),
        ),
        (create_untold, "^/me$", "fuzzing", ("IgnoredAuth", "GET /me")),
    ],
)
async def test_sabotaged_sibling_is_found(
    own_settings: Settings,
    tmp_path: Path,
    create: Create,
    paths: str,
    phases: str,
    found: tuple[str, str],
) -> None:
    """No owner is asked for, odd input fails, or no token is needed: each is named."""
    async with serving(own_settings, create=create) as service:
        run = await fuzz(
            service,
            own_settings,
            tmp_path,
            max_examples=5,
            options=["--include-path-regex", paths, "--phases", phases, "--no-shrink"],
        )

    assert found in run.found, run.output


def operations(app: FastAPI) -> list[tuple[str, str, dict[str, Any]]]:
    """Return the method, the path and the account of every operation."""
    return [
        (method.upper(), path, operation)
        for path, item in app.openapi()["paths"].items()
        for method, operation in item.items()
    ]


def example(schema: dict[str, Any], schemas: dict[str, Any]) -> Any:  # noqa: ANN401  # any JSON
    """Return something small that a schema allows, of the kinds that bodies here have."""
    if "$ref" in schema:
        return example(schemas[schema["$ref"].rpartition("/")[2]], schemas)
    if "anyOf" in schema:
        return example(schema["anyOf"][0], schemas)
    if "default" in schema or "enum" in schema or "const" in schema:
        return schema.get("default", schema.get("const", schema.get("enum", [0])[0]))
    match schema.get("type"):
        case "object":
            fields = schema.get("properties", {})
            return {
                name: example(fields[name], schemas)
                for name in schema.get("required", [])
            }
        case "array":
            item = schema.get("items", {})
            return [example(item, schemas)] * schema.get("minItems", 0)
        case "integer" | "number":
            return schema.get("minimum", 1)
        case "boolean":
            return False
        case _:
            return "x" * max(schema.get("minLength", 1), 1)


async def call(
    http: httpx.AsyncClient,
    app: FastAPI,
    operation: tuple[str, str, dict[str, Any]],
    ids: dict[str, str],
) -> httpx.Response | None:
    """Send the smallest request of an operation; None when it names an unknown thing."""
    method, path, account = operation
    try:
        url = path.format_map(ids)
    except KeyError:
        return None
    schemas = app.openapi()["components"]["schemas"]
    content = account.get("requestBody", {}).get("content", {})
    body = None
    if "application/json" in content:
        body = example(content["application/json"]["schema"], schemas)
    query = {
        one["name"]: example(one["schema"], schemas)
        for one in account.get("parameters", [])
        if one["in"] == "query" and one["required"]
    }
    return await http.request(method, url, json=body, params=query)


async def make_things(service: Service, member: Member) -> dict[str, str]:
    """Return the ids of one thing of each kind, made by every POST that makes one."""
    ids: dict[str, str] = {}
    posts = [one for one in operations(service.app) if one[0] == "POST"]
    # Shorter paths first: a run needs its thread.
    for one in sorted(posts, key=lambda each: len(each[1])):
        if one[1].startswith("/auth"):
            continue
        answer = await call(member.http, service.app, one, ids)
        if answer is not None and answer.is_success and answer.content:
            made = json.loads(answer.content)
            ids |= {
                name: str(value)
                for name, value in made.items()
                if name.endswith("_id") and name not in ids
            }
    return ids


async def served_to_another(service: Service) -> tuple[dict[str, str], set[str]]:
    """Return what a user made, and the operations that served it to another user."""
    async with service.member() as ada, service.member() as bob:
        ids = await make_things(service, ada)
        served = set()
        for one in operations(service.app):
            if not any(f"{{{name}}}" in one[1] for name in ids):
                continue
            answer = await call(bob.http, service.app, one, ids)
            if answer is not None and answer.status_code not in {403, 404}:
                served.add(f"{one[0]} {one[1]}")
        # They are there: it was not for want of them that nothing was served.
        for one in operations(service.app):
            if one[0] == "GET" and any(f"{{{name}}}" in one[1] for name in ids):
                answer = await call(ada.http, service.app, one, ids)
                assert answer is None or answer.is_success, (one[1], answer.text)
    return ids, served


async def test_no_operation_serves_anothers_thing(settings: Settings) -> None:
    """Each operation that names a thing refuses it to whoever did not make it."""
    async with serving(settings) as service:
        ids, served = await served_to_another(service)

    assert ids.keys() >= {"thread_id", "message_id", "document_id", "run_id"}
    assert served == set()


@pytest.mark.power
async def test_operation_for_whoever_knows_the_id_is_found(settings: Settings) -> None:
    """The same catches a sibling that asks for no owner, to read and to delete."""
    async with serving(settings, create=create_ownerless) as service:
        _, served = await served_to_another(service)

    assert served == {"GET /documents/{document_id}", "DELETE /threads/{thread_id}"}
