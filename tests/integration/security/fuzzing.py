"""Schemathesis against a running service: its own process, real HTTP, two users.

They are peers: what one of them made, the other must not be given. The first is an admin,
so that operations for admins are reached as well. They log in through the service's own
endpoint, and again when something has logged them out.
"""

import asyncio
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

from app.security import Role
from app.settings import Settings
from app.storage.grant import grant
from tests.integration.app.service import PASSWORD, Service

SEED = 2_026
PEERS = ("ada", "bob")
# Whether a key was used with other words before, no schema can tell: 422 by
# draft-ietf-httpapi-idempotency-key-header.
REFUSED_KEYS = """
[[operations]]
include-name = "POST /intents"
checks.positive_data_acceptance.expected-statuses = ["2xx", 409, 422]
"""


@dataclass(frozen=True)
class Fuzzed:
    """What a run found.

    Attributes:
        found: The kind of each failure and the operation that showed it.
        tested: Operations that were tried (count).
        is_complete: It went through all that was asked for, and met no error of its own.
        output: What it printed.
    """

    found: frozenset[tuple[str, str]]
    tested: int
    is_complete: bool
    output: str


async def fuzz(
    service: Service,
    settings: Settings,
    folder: Path,
    *,
    max_examples: int,
    options: Sequence[str] = (),
    timeout_s: float = 110.0,
) -> Fuzzed:
    """Run all checks and all phases against a service and return what they found."""
    names = {name: f"{name}-{uuid4().hex}" for name in PEERS}
    async with service.http() as http:
        for username in names.values():
            body = {"username": username, "password": PASSWORD}
            answer = await http.post("/auth/register", json=body)
            assert answer.status_code == 201, answer.text
    await grant(settings, names[PEERS[0]], Role.ADMIN)
    (folder / "auth.json").write_text(json.dumps(_logins(names)))
    (folder / "schemathesis.toml").write_text(
        f'[auth.wfc]\npath = "auth.json"\npeers = {json.dumps(PEERS)}\n{REFUSED_KEYS}'
    )
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "schemathesis.cli"),
        *("--config-file", "schemathesis.toml"),
        *("run", f"{service.base_url}/openapi.json"),
        *("--checks", "all", "--workers", "1", "--no-color"),
        *("--seed", str(SEED), "--max-examples", str(max_examples)),
        *("--generation-database", "none", "--continue-on-failure"),
        *("--report", "json", "--report-json-path", "report.json"),
        *options,
        cwd=folder,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        async with asyncio.timeout(timeout_s):
            output, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    told = json.loads((folder / "report.json").read_text())
    return Fuzzed(
        frozenset(
            (failure["type"], operation)
            for failure in told["failures"]
            for operation in failure["operations"]
        ),
        told["operations"]["tested"],
        told["complete"] and not told["errors"],
        output.decode(),
    )


def _logins(names: dict[str, str]) -> dict[str, Any]:
    return {
        "schemaVersion": "0.0.1",
        "authTemplate": {
            "loginEndpointAuth": {
                "endpoint": "/auth/login",
                "verb": "POST",
                "contentType": "application/json",
                "token": {
                    "extractFrom": "body",
                    "extractSelector": "/access_token",
                    "sendIn": "header",
                    "sendName": "Authorization",
                    "sendTemplate": "Bearer {token}",
                },
            }
        },
        "auth": [
            {
                "name": name,
                "loginEndpointAuth": {
                    "payloadUserPwd": {
                        "username": username,
                        "password": PASSWORD,
                        "usernameField": "username",
                        "passwordField": "password",
                    }
                },
            }
            for name, username in names.items()
        ],
    }
