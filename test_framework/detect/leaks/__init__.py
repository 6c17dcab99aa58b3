"""Leak watchers: what outlives its user, and who holds it.

Users leave; their data, contexts, tasks and files must leave with them. Each watcher
names the holder, as a path from a module or the application and as a source line.
"""

from test_framework.detect.leaks.checking import LeakError, leak_check
from test_framework.detect.leaks.detector import Leaks
from test_framework.detect.leaks.files import OpenFile, open_files
from test_framework.detect.leaks.growth import Growth, Trend, fit_trend, measure_growth
from test_framework.detect.leaks.modules import relative_site
from test_framework.detect.leaks.residue import Holding, Recognise, Survey, survey
from test_framework.detect.leaks.tasks import LeakedTask, describe_task

__all__ = [
    "Growth",
    "Holding",
    "LeakError",
    "LeakedTask",
    "Leaks",
    "OpenFile",
    "Recognise",
    "Survey",
    "Trend",
    "describe_task",
    "fit_trend",
    "leak_check",
    "measure_growth",
    "open_files",
    "relative_site",
    "survey",
]
