"""What a run proves: ``valid``, ``unknown`` or ``invalid``; merging keeps the worst.

Three values as in Jepsen: a run that proved nothing must never look green.
"""

import enum
from collections.abc import Iterable


class Verdict(enum.StrEnum):
    """The outcome of a run or of one checker."""

    VALID = "valid"
    UNKNOWN = "unknown"
    INVALID = "invalid"

    @property
    def exit_code(self) -> int:
        """The documented exit status of the command line for this verdict."""
        return {"valid": 0, "invalid": 1, "unknown": 3}[self.value]


_BADNESS = {Verdict.VALID: 0, Verdict.UNKNOWN: 1, Verdict.INVALID: 2}


def merge(verdicts: Iterable[Verdict]) -> Verdict:
    """Return the worst of the given verdicts; of none, ``unknown``."""
    return max(verdicts, key=_BADNESS.__getitem__, default=Verdict.UNKNOWN)
