"""How fast is this machine, now? One piece of work, always the same.

Latencies of two machines compare no better than their processors do. The work is what
a Python service spends its processor on: attribute-free arithmetic, a dictionary,
strings. Its best time of a few rounds is what the processor can do between whatever
else it does.
"""

import time

_ROUNDS = 7
_STEPS = 40_000


def calibrate_ms() -> float:
    """Return the milliseconds that this machine takes for a fixed piece of work.

    Takes about 50 ms.
    """
    return min(_round_ms() for _ in range(_ROUNDS))


def _round_ms() -> float:
    started = time.perf_counter()
    table: dict[int, str] = {}
    for step in range(_STEPS):
        key = step * 7919 % 1009
        table[key] = f"{table.get(key, '')[-7:]}{step}"
    return (time.perf_counter() - started) * 1000
