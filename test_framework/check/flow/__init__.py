"""Flow between users: whatever one wrote and another read, unless it is declared."""

from test_framework.check.flow.judge import check_flow
from test_framework.check.flow.policy import Declared, FlowPolicy, Shared

__all__ = ["Declared", "FlowPolicy", "Shared", "check_flow"]
