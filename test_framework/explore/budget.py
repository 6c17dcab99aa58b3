"""How long an exploration may take: seconds, or words such as ``5s`` and ``500ms``."""

import re

from test_framework.core import UsageError

_UNITS = {"ms": 0.001, "": 1.0, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0}


def seconds_of(budget: str | float) -> float:
    """Return a budget in seconds.

    Raises:
        UsageError: It is not a positive length of time.
    """
    if isinstance(budget, str):
        match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*(ms|s|m|min|h|)\s*", budget)
        seconds = float(match[1]) * _UNITS[match[2]] if match is not None else 0.0
    else:
        try:
            seconds = float(budget)
        except TypeError:
            # Nobody checks the type of what stands in a marker.
            seconds = 0.0
    if not 0 < seconds < float("inf"):
        raise UsageError(
            f"budget={budget!r}: expected a positive length of time such as '5s', "
            "'500ms', '2min' or a number of seconds."
        )
    return seconds
