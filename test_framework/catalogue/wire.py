"""What both ends of a hosted twin agree on: pace, patience, how answers are written."""

import dataclasses
import json
from collections import deque

PACE = 0.0005
"""Seconds that a second of a pattern takes in a service."""

LEAVING_PACE = 0.003
"""The same where users leave in mid-request, so that they do so in the middle of it."""

PATIENCE_S = 2.0
"""Whom a twin keeps waiting for longer is answered with 504, as by a load balancer."""


def encode(content: object) -> str:
    """Return what a client gets to see of something, as JSON.

    Args:
        content: JSON values, dataclasses, sets (which are sorted) and deques of them.

    Raises:
        TypeError: There is something else in it.
    """
    return json.dumps(content, default=_plain, sort_keys=True)


def _plain(value: object) -> object:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dataclasses.asdict(value)
    if isinstance(value, set | frozenset):
        return sorted(value, key=repr)
    if isinstance(value, deque):
        return list(value)
    raise TypeError(f"{value!r} is nothing that a client can be shown.")
