"""A user's client speaks to the service under test and to nobody else."""

import random
import socket

import httpx
import pytest

from test_framework.clients.http import Caller, RecordingTransport
from test_framework.clients.recorder import Recorder
from test_framework.clients.routes import Address, DirectRoute
from test_framework.core import History, MonotonicClock, Operation, TargetError


async def test_request_for_another_host_is_refused() -> None:
    """A login at a foreign host must not end up at the service under test."""
    history = History()
    recorder = Recorder(
        history,
        seed=random.Random(1).getrandbits(32),
        clock=MonotonicClock(),
        is_tagging=False,
    )
    route = DirectRoute(Address("127.0.0.1", 9, None, ""))
    transport = RecordingTransport(recorder, Caller(0, route), host="127.0.0.1")
    async with httpx.AsyncClient(transport=transport) as client:
        with pytest.raises(httpx.UnsupportedProtocol, match=r"not to .idp\.example."):
            await client.post("http://idp.example/token")

    assert history.of(Operation) == []


async def test_service_that_is_down_is_named_as_the_caller_knows_it() -> None:
    """A proxy of ours is nobody whom the caller could start."""
    with socket.socket() as bound:  # nobody listens, and nobody else may
        bound.bind(("127.0.0.1", 0))
        port = bound.getsockname()[1]
        address = Address("127.0.0.1", port, None, "", "http://127.0.0.1:8000")

        with pytest.raises(TargetError) as caught:
            await address.connect()

    assert str(caught.value) == (
        "The service at http://127.0.0.1:8000 does not accept connections (Connection "
        "refused). Start it, or correct --target."
    )
