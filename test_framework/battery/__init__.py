"""Conformance tests of what concurrent code is built of: atomics, channels, locks, order.

A ``RaceTestRunner`` runs a function as many concurrent tasks, threads or processes,
writes down every operation and measures how concurrent it was. The tests on top of it
take any implementation of a small protocol and judge its history by the checkers of
``check``: that no error was seen is never enough.
"""

from test_framework.battery.atomic import AtomicRaceTest
from test_framework.battery.channel import ChannelRaceTest
from test_framework.battery.config import RaceTestConfig, WorkerKind
from test_framework.battery.journal import Journal, Pending, RefusedError
from test_framework.battery.mutex import MutexRaceTest
from test_framework.battery.ordering import OrderingRaceTest, OrderingReport
from test_framework.battery.overlap import Overlap, measure_overlap
from test_framework.battery.patience import Hang
from test_framework.battery.report import RaceFailure, RaceReport, common_checks
from test_framework.battery.runner import RaceRun, RaceTestRunner
from test_framework.battery.worker import CANCELLED, SETUP, Work, Worker, WorkerError

__all__ = [
    "CANCELLED",
    "SETUP",
    "AtomicRaceTest",
    "ChannelRaceTest",
    "Hang",
    "Journal",
    "MutexRaceTest",
    "OrderingRaceTest",
    "OrderingReport",
    "Overlap",
    "Pending",
    "RaceFailure",
    "RaceReport",
    "RaceRun",
    "RaceTestConfig",
    "RaceTestRunner",
    "RefusedError",
    "Work",
    "Worker",
    "WorkerError",
    "WorkerKind",
    "common_checks",
    "measure_overlap",
]
