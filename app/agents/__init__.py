"""Agents: an engine per user that works on runs with tools over the user's own data."""

from app.agents.engine import ClosedError, ExecutionEngine, Workshop
from app.agents.leases import RENEW_S, SWEEP_S, Leases, RunLeases
from app.agents.registry import EngineFactory, EngineRegistry, create_engine
from app.agents.sweeper import sweep_orphans
from app.agents.tools import STANDARD_TOOLS, Tool, ToolError, passage_search

__all__ = [
    "RENEW_S",
    "STANDARD_TOOLS",
    "SWEEP_S",
    "ClosedError",
    "EngineFactory",
    "EngineRegistry",
    "ExecutionEngine",
    "Leases",
    "RunLeases",
    "Tool",
    "ToolError",
    "Workshop",
    "create_engine",
    "passage_search",
    "sweep_orphans",
]
