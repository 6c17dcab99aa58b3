"""Leak watchers: what outlives its user, and who holds it.

Users leave; their data, contexts, tasks and files must leave with them. Each watcher
names the holder, as a path from a module or the application and as a source line.
"""

from test_framework.detect.leaks.detector import Leaks
from test_framework.detect.leaks.modules import relative_site
from test_framework.detect.leaks.residue import Holding, Recognise, Survey, survey
from test_framework.detect.leaks.tasks import LeakedTask, describe_task

__all__ = [
    "Holding",
    "LeakedTask",
    "Leaks",
    "Recognise",
    "Survey",
    "describe_task",
    "relative_site",
    "survey",
]
