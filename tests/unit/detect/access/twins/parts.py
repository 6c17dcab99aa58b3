"""Things of several parts that belong together."""

import asyncio
from dataclasses import dataclass, field

from tests.unit.detect.access.twins.pair import Pair


@dataclass
class Provider:
    """Where to call and with which key; an operator replaces both."""

    address: str = "a.example"
    key: str = "key of a"
    calls: list[str] = field(default_factory=list)

    def reload(self, user: int) -> None:
        self.address, self.key = f"{user}.example", f"key of {user}"


async def call_in_parts(provider: Provider, user: int) -> None:
    if user == 1:
        await asyncio.sleep(0)
        provider.reload(user)
        return
    address = provider.address
    for _ in range(3):
        await asyncio.sleep(0)
    provider.calls.append(f"{address} {provider.key}")


async def call_at_once(provider: Provider, user: int) -> None:
    if user == 1:
        await asyncio.sleep(0)
        provider.reload(user)
        return
    address, key = provider.address, provider.key
    for _ in range(3):
        await asyncio.sleep(0)
    provider.calls.append(f"{address} {key}")


async def call_after_looking_again(provider: Provider, user: int) -> None:
    if user == 1:
        await asyncio.sleep(0)
        provider.reload(user)
        return
    address = provider.address
    for _ in range(3):
        await asyncio.sleep(0)
    key = provider.key
    if address != provider.address:
        return
    provider.calls.append(f"{address} {key}")


@dataclass
class Client:
    """Sends the headers that it holds."""

    headers: dict[str, str] = field(default_factory=dict)
    sent: list[dict[str, str]] = field(default_factory=list)

    async def get(self, extra: dict[str, str]) -> None:
        self.sent.append(self.headers | extra)
        self.sent.append({**self.headers, **extra})
        self.sent.append(dict(self.headers, **extra))


async def set_on_client(client: Client, user: int) -> None:
    client.headers["Authorization"] = f"token {user}"
    await asyncio.sleep(0)
    await client.get({})


async def set_on_call(client: Client, user: int) -> None:
    client.headers[f"X-Seen-{user}"] = "yes"
    await asyncio.sleep(0)
    await client.get({"Authorization": f"token {user}"})


@dataclass
class Sockets:
    """The newest socket of each user."""

    newest: dict[str, object] = field(default_factory=dict)
    target: str = ""


async def leave_blindly(sockets: Sockets, user: int) -> None:
    socket = sockets.newest["alice"] = object()
    await asyncio.sleep(0, user)
    assert sockets.newest["alice".lower()] or socket


async def leave_if_mine(sockets: Sockets, user: int) -> None:
    socket = sockets.newest["alice"] = object()
    sockets.target = f"of {user}"
    await asyncio.sleep(0, user)
    if sockets.newest.get("alice".lower()) is socket:
        del sockets.newest["alice".lower()]
    while sockets.target != f"of {user}":
        return


PAIRS = {
    "address and key": Pair(Provider, call_in_parts, call_at_once, "shared-read-torn"),
    "address looked at again": Pair(
        Provider, call_in_parts, call_after_looking_again, "shared-read-torn"
    ),
    "headers of a client": Pair(
        Client, set_on_client, set_on_call, "shared-write-clobbered"
    ),
    "socket of a user": Pair(
        Sockets, leave_blindly, leave_if_mine, "shared-write-clobbered"
    ),
}
