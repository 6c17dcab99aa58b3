"""Histories of transactions: which isolation level do they show, which do they break?

Loads numpy, so nothing that every run needs imports this room.
"""

from test_framework.check.transactions.levels import MODELS
from test_framework.check.transactions.lists import check_list_append
from test_framework.check.transactions.log import (
    FOREVER,
    LISTS,
    NOTHING,
    UNKNOWN,
    Kind,
    LogBuilder,
    Micro,
    Status,
    Transaction,
    TransactionLog,
)
from test_framework.check.transactions.registers import (
    Assumptions,
    check_registers,
)

__all__ = [
    "FOREVER",
    "LISTS",
    "MODELS",
    "NOTHING",
    "UNKNOWN",
    "Assumptions",
    "Kind",
    "LogBuilder",
    "Micro",
    "Status",
    "Transaction",
    "TransactionLog",
    "check_list_append",
    "check_registers",
]
