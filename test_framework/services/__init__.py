"""Real Postgres and Redis, and the service under test as real processes."""

from test_framework.services.binaries import Binaries, find_postgres, find_redis
from test_framework.services.doctor import Check, examine
from test_framework.services.hosting import Host, hosting
from test_framework.services.launcher import Services, running_services
from test_framework.services.plan import HostPlan
from test_framework.services.probe import Probe, read_records
from test_framework.services.process import AlarmReport, Census

__all__ = [
    "AlarmReport",
    "Binaries",
    "Census",
    "Check",
    "Host",
    "HostPlan",
    "Probe",
    "Services",
    "examine",
    "find_postgres",
    "find_redis",
    "hosting",
    "read_records",
    "running_services",
]
