"""How long a run may be nobody's, and how long its process may stand still."""

from app.agents.leases import LEASE_S, RENEW_S, SWEEP_S

STALL_S = 3.0
"""A loop that stands still for so long is slow, and not dead."""

RECOVERY_S = 10.0
TIDYING_S = 4.0
"""Left for ending fifty runs and telling of them, on a machine that is busy."""


def test_stalled_process_keeps_its_runs() -> None:
    """A stall just before a renewal ends well before the lease does."""
    assert RENEW_S + STALL_S < LEASE_S


def test_runs_of_a_killed_process_are_told_in_time() -> None:
    """One killed just after a renewal is missed early enough to end its runs."""
    assert LEASE_S + SWEEP_S + TIDYING_S < RECOVERY_S
