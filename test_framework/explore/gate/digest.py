"""A fingerprint of a run: equal when the same things left in the same order."""

import hashlib
from collections.abc import Iterable

from test_framework.explore.gate.loop import GateLoop
from test_framework.explore.schedulers import option_name


def run_digest(loop: GateLoop, values: Iterable[object] = ()) -> str:
    """Return a digest of the decisions of the last run, and of values that it saw.

    Args:
        loop: What made the run.
        values: What the scenario noted, such as answers; told apart by their ``repr``.
    """
    digest = hashlib.sha256()
    for number in loop.order:
        digest.update(option_name(loop, number).encode() + b"\0")
    for value in values:
        digest.update(b"\1" + repr(value).encode())
    return digest.hexdigest()
