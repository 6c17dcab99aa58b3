"""Events to users: a numbered log per user in Redis, and wake-ups to their sockets."""

from app.realtime.emitter import UserEmitter
from app.realtime.events import Event, EventLog
from app.realtime.follow import follow
from app.realtime.hub import Hub

__all__ = ["Event", "EventLog", "Hub", "UserEmitter", "follow"]
