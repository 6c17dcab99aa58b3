"""Drive an ASGI app in process under the explorer: N users, no client library.

``Asgi(app)`` starts the app, ``asgi.browser(user)`` speaks to it. Every request is a
task of its own, its arrival is a choice of the scheduler, its client may go away at any
suspension, and everything that a user is given is searched for what belongs to others.
"""

from test_framework.explore.asgi.browser import Browser
from test_framework.explore.asgi.connection import (
    AppError,
    ConnectionLostError,
    Failed,
    ProtocolError,
)
from test_framework.explore.asgi.cookies import CookieJar
from test_framework.explore.asgi.http import Reply, Stream
from test_framework.explore.asgi.lifespan import LifespanError
from test_framework.explore.asgi.messages import App, Headers
from test_framework.explore.asgi.ownership import ForeignCanaryError
from test_framework.explore.asgi.service import Asgi
from test_framework.explore.asgi.websocket import (
    WebSocket,
    WebSocketClosedError,
    WebSocketRejectedError,
)

__all__ = [
    "App",
    "AppError",
    "Asgi",
    "Browser",
    "ConnectionLostError",
    "CookieJar",
    "Failed",
    "ForeignCanaryError",
    "Headers",
    "LifespanError",
    "ProtocolError",
    "Reply",
    "Stream",
    "WebSocket",
    "WebSocketClosedError",
    "WebSocketRejectedError",
]
