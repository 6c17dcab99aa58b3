"""Events to users: a numbered log per user in Redis, and wake-ups to their sockets."""

from app.realtime.emitter import UserEmitter
from app.realtime.events import Event, EventLog
from app.realtime.follow import follow
from app.realtime.hub import Hub
from app.realtime.revocations import (
    EVERY_SESSION,
    announce_revoked,
    sessions_channel,
)
from app.realtime.sockets import FullError, Sockets

__all__ = [
    "EVERY_SESSION",
    "Event",
    "EventLog",
    "FullError",
    "Hub",
    "Sockets",
    "UserEmitter",
    "announce_revoked",
    "follow",
    "sessions_channel",
]
