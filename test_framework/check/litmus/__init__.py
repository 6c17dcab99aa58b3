"""Litmus tests of memory: which outcomes of tiny programs does a memory allow?

``programs`` are the tests, ``models`` say what is allowed, ``judge`` compares what was
seen. Pure: what ran the programs and where does not matter here.
"""

from test_framework.check.litmus.judge import (
    LitmusRun,
    LitmusTable,
    Timing,
    check_litmus,
    interleavings,
)
from test_framework.check.litmus.models import (
    ATOMIC_BATCH,
    COHERENT,
    READ_COMMITTED,
    SEQUENTIAL,
    SERIALIZABLE,
    SNAPSHOT,
    TOTAL_STORE_ORDER,
    MemoryModel,
    Unit,
)
from test_framework.check.litmus.programs import (
    LITMUS_TESTS,
    Litmus,
    Outcome,
    Step,
    litmus_named,
)

__all__ = [
    "ATOMIC_BATCH",
    "COHERENT",
    "LITMUS_TESTS",
    "READ_COMMITTED",
    "SEQUENTIAL",
    "SERIALIZABLE",
    "SNAPSHOT",
    "TOTAL_STORE_ORDER",
    "Litmus",
    "LitmusRun",
    "LitmusTable",
    "MemoryModel",
    "Outcome",
    "Step",
    "Timing",
    "Unit",
    "check_litmus",
    "interleavings",
    "litmus_named",
]
