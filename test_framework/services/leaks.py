"""The leak watchers of a hosted service: who is named is told by the canaries.

``detect`` knows no canaries; here the two are put together.
"""

from typing import Any

from test_framework.canary import users_named
from test_framework.detect.leaks import Leaks


def watch_leaks(**options: Any) -> Leaks:  # noqa: ANN401  # those of Leaks
    """Return the leak watchers, not yet started; ``options`` are those of ``Leaks``."""
    return Leaks(recognise=users_named, **options)
