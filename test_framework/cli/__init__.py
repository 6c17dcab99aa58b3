"""The command line: parse, call, print.

One module per kind of command; what the group holds is what there is. Exit codes: 0
valid, 1 invalid, 2 usage error, 3 unknown (the run proved nothing), 4 the service or
what it needs is down, 130 interrupted.
"""

import sys
import traceback

import click

from test_framework.cli import audits, exploring, histories, matrix, patterns, watch
from test_framework.cli.output import (
    EXIT_INTERNAL,
    EXIT_TARGET,
    EXIT_USAGE,
    complain,
)
from test_framework.core import InternalError, TargetError, UsageError
from test_framework.interruption import EXIT_INTERRUPTED

__all__ = ["cli", "main"]


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="isolation-audit")
def cli() -> None:
    """Prove that no user of a service sees, changes or receives another's data."""


for command in (
    audits.run,
    histories.check,
    audits.explain,
    audits.doctor,
    exploring.explore_command,
    exploring.replay_command,
    watch.watch,
    patterns.patterns,
    matrix.matrix,
):
    cli.add_command(command)


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
