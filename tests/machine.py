"""How busy the machine is, for gates on time that must hold on a shared one too."""

import time


def machine_slowness() -> float:
    """Return how many times longer than on an idle core pure computing takes now.

    Gates are for a machine of one's own. On a shared one other people's work must not
    fail them, while time in which the service only waits still counts in full.
    """
    wall_s, cpu_s = time.monotonic(), time.process_time()
    while time.process_time() - cpu_s < 0.1:
        pass
    return max(1.0, (time.monotonic() - wall_s) / (time.process_time() - cpu_s))
