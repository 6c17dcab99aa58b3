"""What a service kept and what it lost while it was disturbed.

The nemesis of a run writes down when it struck and healed and when the users' probes
succeeded again; what users did meanwhile is in the operations and calls. From these
alone each promise is judged, fault by fault, so a stored history gives the same table.

Source: Jepsen (nemesis and checkers over one history); Basiri et al., "Chaos
Engineering", IEEE Software 2016 (a steady state that must come back).
"""

from test_framework.check.faults.recovery import (
    check_faults,
    failed_requests,
    find_slow_recoveries,
    memory_growth,
)
from test_framework.check.faults.table import (
    PROMISES,
    Endured,
    Measured,
    measure_faults,
)
from test_framework.check.faults.windows import is_excused, is_under_fault
from test_framework.check.faults.writes import check_writes

__all__ = [
    "PROMISES",
    "Endured",
    "Measured",
    "check_faults",
    "check_writes",
    "failed_requests",
    "find_slow_recoveries",
    "is_excused",
    "is_under_fault",
    "measure_faults",
    "memory_growth",
]
