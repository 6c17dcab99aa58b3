"""How a run may end before its scenario does."""

from test_framework.explore.waits import Wait


def is_outcome_of_pytest(exc: BaseException) -> bool:
    """Tell whether ``pytest.skip`` or ``pytest.xfail`` raised, which is no failure.

    By name and module, for the explorer works where pytest is not installed; a class of
    the program may be called ``Skipped`` as well. Its own module pytest hides.
    """
    kind = type(exc)
    return (kind.__module__, kind.__name__) in {
        ("builtins", "Skipped"),
        ("_pytest.outcomes", "XFailed"),
    }


class RunOverError(Exception):
    """Raised when a run ends before the scenario does; never raised itself."""


class CutError(RunOverError):
    """Raised by a scheduler that has seen enough of a run."""


class StalledError(RunOverError):
    """Raised when main waits for what cannot come: a deadlock.

    Attributes:
        waits: Who waits for what, taken before the run was cleaned up.
        going: Names of tasks that still go on, such as a heartbeat; mostly none.
    """

    def __init__(
        self, waits: tuple[Wait, ...] = (), going: tuple[str, ...] = ()
    ) -> None:
        """Start without waits where nothing can go; the loop fills them in."""
        super().__init__("nothing can go")
        self.waits = waits
        self.going = going


class EndlessError(RunOverError):
    """Raised when a run exceeds its steps: a livelock, or work without end.

    Attributes:
        where: ``file:line`` at which the last task to run is suspended.
    """

    where = ""


class RunAgainError(RunOverError):
    """Raised when a run must be made again: its loop has learned to make it exactly.

    Happens at most once for a loop.
    """


class HookError(RunOverError):
    """Raised when what looks at the steps of a run fails itself: our fault."""


class MisuseError(SystemExit):
    """Raised where a program does what the explorer cannot repeat; a task passes it on.

    The message names the line and the cure. Not an ``Exception``, which the program
    might catch.
    """
