"""The rule of detectors that people bring along."""

from test_framework.check.rules.definition import Rule

OWN_DETECTOR = "own-detector"

OWN_RULES = (
    Rule(
        OWN_DETECTOR,
        3,
        "a detector of your own raised an alarm",
        ("--detect checks.watch:Mine    runs inside of each worker",),
        "See what the alarm itself says.",
        1059,
    ),
)
