"""The wire: routes, the WebSocket and problem documents. It translates, no more."""

from app.api.dependencies import build_context
from app.api.parts import Parts
from app.api.routes import add_api

__all__ = ["Parts", "add_api", "build_context"]
