"""Recording clients: every call of a user becomes an operation of the history.

``http`` and ``websocket`` are what users speak with, over ``routes`` that decide
whose requests share a connection; ``sql`` and ``redis`` read what a service keeps.
They record; they judge nothing.
"""

from test_framework.clients.endpoints import Endpoints, declared_operations
from test_framework.clients.http import (
    BURST_HEADER,
    OPERATION_HEADER,
    TIMEOUT_S,
    Call,
    Caller,
    Gate,
    RecordingTransport,
    encode_request,
    renumbered,
    send_again,
)
from test_framework.clients.recorder import HEADERS, Part, Recorder
from test_framework.clients.redis import ClientState, RedisReader
from test_framework.clients.routes import (
    Address,
    CachingRoute,
    DirectRoute,
    Passage,
    Route,
    SharedRoute,
    WireRequest,
)
from test_framework.clients.sql import ForeignKey, Sessions, SqlReader
from test_framework.clients.websocket import Events, EventTimeoutError, open_events
from test_framework.clients.wire import CollateralError, Exchange, Wire, WireError

__all__ = [
    "BURST_HEADER",
    "HEADERS",
    "OPERATION_HEADER",
    "TIMEOUT_S",
    "Address",
    "CachingRoute",
    "Call",
    "Caller",
    "ClientState",
    "CollateralError",
    "DirectRoute",
    "Endpoints",
    "EventTimeoutError",
    "Events",
    "Exchange",
    "ForeignKey",
    "Gate",
    "Part",
    "Passage",
    "Recorder",
    "RecordingTransport",
    "RedisReader",
    "Route",
    "Sessions",
    "SharedRoute",
    "SqlReader",
    "Wire",
    "WireError",
    "WireRequest",
    "declared_operations",
    "encode_request",
    "open_events",
    "renumbered",
    "send_again",
]
