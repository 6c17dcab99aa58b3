"""Values that name their owner, and the eye that finds them again.

A ``Mint`` makes canaries, a ``Recogniser`` with the same seed finds them in any bytes
and says whose they are, however the service spelled them. Standard library only, and
no state but a bounded cache: the owner stands in the value, so there is no table.
"""

from test_framework.canary.mint import (
    LENGTH,
    MARKER,
    MAX_SEQUENCE,
    MAX_USER,
    Canary,
    Mint,
)
from test_framework.canary.recogniser import Recogniser, Sighting
from test_framework.canary.unverified import users_named

__all__ = [
    "LENGTH",
    "MARKER",
    "MAX_SEQUENCE",
    "MAX_USER",
    "Canary",
    "Mint",
    "Recogniser",
    "Sighting",
    "users_named",
]
