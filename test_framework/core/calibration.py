"""How fast is this machine? One piece of work, always the same.

Latencies of two machines compare no better than their processors do. The work is what
a Python service spends its processor on: arithmetic, a dictionary, strings. Time is
that of the processor and not of the wall, and the best of a few rounds, so what else
the machine does shows as little as it can.
"""

import time

_ROUNDS = 15
_STEPS = 40_000


def calibrate_ms() -> float:
    """Return the milliseconds of processor that a fixed piece of work takes here.

    Takes about 0.1 s.
    """
    return min(_round_ms() for _ in range(_ROUNDS))


def _round_ms() -> float:
    started = time.thread_time()
    table: dict[int, str] = {}
    for step in range(_STEPS):
        key = step * 7919 % 1009
        table[key] = f"{table.get(key, '')[-7:]}{step}"
    return (time.thread_time() - started) * 1000
