"""Contexts that reach further than the request they were made for."""

from contextvars import ContextVar

current_user: ContextVar[str] = ContextVar("current_user")
