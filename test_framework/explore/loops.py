"""Which loop an exploration runs on, by its input and output.

* ``sim``: none. Thousands of runs a second; the world outside is ``external()``.
* ``gate``: real sockets and servers; requests leave one at a time, as scheduled.
"""

from typing import Any

from test_framework.core import UsageError
from test_framework.explore.gate import GateLoop
from test_framework.explore.loop import ExplorationLoop
from test_framework.explore.loop.limits import MAX_STEPS
from test_framework.explore.schedule import Fidelity


def make_loop(io: str, fidelity: Fidelity, *, max_steps: int = MAX_STEPS) -> Any:
    """Return a loop with the face of ``ExplorationLoop``.

    Args:
        io: ``sim`` or ``gate``.
        fidelity: Which orders are possible; real sockets know ``fifo`` alone.
        max_steps: Steps after which a run counts as endless.

    Raises:
        UsageError: There is no such loop.
    """
    if io == "sim":
        return ExplorationLoop(fidelity, max_steps=max_steps)
    if io == "live":
        raise UsageError("io='live' runs in real time, which no schedule repeats.")
    if io != "gate":
        raise UsageError(f"io={io!r}: expected 'sim', 'gate' or 'live'.")
    if fidelity is not Fidelity.FIFO:
        raise UsageError(
            f"fidelity={str(fidelity)!r} with io='gate': real sockets know no other "
            "order than 'fifo'. Leave fidelity out."
        )
    return GateLoop(max_steps=max_steps)
