"""The command line: parse, call, print.

One module per kind of command; what the group holds is what there is. Exit codes: 0
valid, 1 invalid, 2 usage error, 3 unknown (the run proved nothing), 4 the service or
what it needs is down, 130 interrupted.
"""

import importlib
import sys
import traceback

import click

from test_framework.cli.output import (
    EXIT_INTERNAL,
    EXIT_TARGET,
    EXIT_USAGE,
    complain,
)
from test_framework.core import InternalError, TargetError, UsageError
from test_framework.interruption import EXIT_INTERRUPTED

__all__ = ["cli", "main"]


_COMMANDS = {
    "check": "histories:check",
    "doctor": "audits:doctor",
    "explain": "audits:explain",
    "explore": "exploring:explore_command",
    "matrix": "matrix:matrix",
    "patterns": "patterns:patterns",
    "replay": "exploring:replay_command",
    "run": "audits:run",
    "watch": "watch:watch",
}


class _Commands(click.Group):
    """Imports a command when it is called: an audit needs no explorer."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002  # click's own
        """Return the names of all commands."""
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002  # likewise
        """Return the command of a name; None when there is none."""
        module, _, attribute = _COMMANDS.get(cmd_name, "").partition(":")
        if not module:
            return None
        found: click.Command = getattr(
            importlib.import_module(f"{__name__}.{module}"), attribute
        )
        return found


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="isolation-audit")
def cli() -> None:
    """Prove that no user of a service sees, changes or receives another's data."""


def main() -> None:
    """Run the command line; a user's mistake gets one sentence, no traceback."""
    try:
        cli.main(standalone_mode=False)
    except click.exceptions.Abort:
        sys.exit(EXIT_INTERRUPTED)
    except click.ClickException as exc:
        exc.show()
        sys.exit(EXIT_USAGE)
    except UsageError as exc:
        complain(exc)
        sys.exit(EXIT_USAGE)
    except TargetError as exc:
        complain(exc)
        sys.exit(EXIT_TARGET)
    except InternalError as exc:
        complain(exc)
        sys.exit(EXIT_INTERNAL)
    except KeyboardInterrupt:
        complain("interrupted; nothing was left running.")
        sys.exit(EXIT_INTERRUPTED)
    except Exception as exc:  # noqa: BLE001  # whatever it is, it is not a finding: not exit 1
        frame = traceback.extract_tb(exc.__traceback__)[-1]
        error = InternalError(
            f"{type(exc).__name__}: {exc} (in {frame.name}, {frame.filename} line "
            f"{frame.lineno})."
        )
        complain(error)
        sys.exit(EXIT_INTERNAL)
