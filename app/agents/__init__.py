"""Agents: an engine per user that works on runs with tools over the user's own data."""

from app.agents.engine import ClosedError, ExecutionEngine, Workshop
from app.agents.registry import EngineFactory, EngineRegistry, create_engine
from app.agents.tools import STANDARD_TOOLS, Tool, ToolError, passage_search

__all__ = [
    "STANDARD_TOOLS",
    "ClosedError",
    "EngineFactory",
    "EngineRegistry",
    "ExecutionEngine",
    "Tool",
    "ToolError",
    "Workshop",
    "create_engine",
    "passage_search",
]
