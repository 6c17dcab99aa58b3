"""The three ways a run can fail that are not findings, one class each.

A wrong service is reported as a ``Finding``, which is data and never raised.
What is raised says who must act: the caller (``UsageError``), the owner of the
service or of a dependency (``TargetError``), or we (``InternalError``).
Messages are whole sentences: what is wrong with which value, what was expected,
what to do next.
"""


class IsolationError(Exception):
    """Root of everything this package raises on purpose; never raised itself."""


class UsageError(IsolationError, ValueError):
    """Raised when an argument, option or audit file is wrong: the caller's fault."""


class TargetError(IsolationError):
    """Raised when the service or a dependency is down or talks nonsense."""


class InternalError(IsolationError):
    """Raised when an invariant of this package is broken: our fault.

    The message asks for a bug report and carries the seed.
    """

    def __init__(self, problem: str, *, seed: int | None = None) -> None:
        """Keep ``problem`` and say how to report it."""
        suffix = "" if seed is None else f" The seed was {seed}."
        super().__init__(
            f"{problem} This is a defect of isolation-audit, not of your service."
            f"{suffix} Please report it with this line."
        )
