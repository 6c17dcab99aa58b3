"""Five users of a FastAPI application in one process, by ASGI without any client.

An HTTP client would cost more than application and loop together, and all contenders
the same. The application is made once; what a run changes is made anew.
"""

from collections.abc import MutableMapping
from typing import Any

from fastapi import FastAPI

from benchmarks.explore_scenarios import Program, turns

USERS = 5
app = FastAPI()


@app.get("/quota/{user}")
async def quota(user: int) -> dict[str, int]:
    """Answer after two waits for the outside."""
    await turns(2)
    return {"user": user, "left": 3}


async def get(statuses: list[int], user: int) -> None:
    """Ask for the quota of a user and note the status."""
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "GET",
        "scheme": "http",
        "path": f"/quota/{user}",
        "raw_path": f"/quota/{user}".encode(),
        "query_string": b"",
        "root_path": "",
        "headers": [(b"host", b"localhost")],
        "client": ("127.0.0.1", 50_000 + user),
        "server": ("127.0.0.1", 80),
    }

    async def receive() -> MutableMapping[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            statuses.append(message["status"])

    await app(scope, receive, send)


def _user(number: int) -> Any:  # noqa: ANN401  # a Worker of the list of statuses
    async def ask(statuses: list[int]) -> None:
        await get(statuses, number)

    return ask


WEB_PROGRAMS = {
    "five users": Program(
        list,
        tuple(_user(number) for number in range(USERS)),
        lambda statuses: statuses == [200] * USERS,
        is_correct=True,
    )
}
"""Programs that need the web stack."""
