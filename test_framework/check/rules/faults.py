"""Rules about what a service must keep while it is disturbed, and afterwards."""

from test_framework.check.rules.definition import Rule

FAULT_RULES = (
    Rule(
        "acknowledged-write-lost",
        1,
        "a write that was acknowledged is not there any more",
        (
            "alice   POST /notes 'a'  201",
            "nemesis kills the worker",
            "alice   GET  /notes      does not hold 'a'",
        ),
        "Answer only after the commit has returned; write before you acknowledge, not in "
        "a background task, a buffer or a queue in memory.",
        662,
    ),
    Rule(
        "deleted-data-returned",
        1,
        "what was deleted with an acknowledgement is there again",
        (
            "alice   DELETE /notes/1  204",
            "nemesis parts the service from Postgres",
            "alice   GET    /notes    holds note 1",
        ),
        "Commit a deletion before it is acknowledged, delete the cached copy after the "
        "row, and let no retry or replay of an older write make the row anew.",
        672,
    ),
    Rule(
        "write-applied-twice",
        1,
        "one write was applied more than once",
        (
            "alice   POST /notes 'a'  the answer of Postgres is lost",
            "service sends the insert again",
            "alice   GET  /notes      holds 'a' twice",
        ),
        "Retry only what is known not to have happened, or make it idempotent: an id "
        "made before the first attempt, and INSERT ... ON CONFLICT DO NOTHING.",
        837,
    ),
    Rule(
        "no-recovery",
        3,
        "the service did not recover after a fault was over",
        (
            "nemesis restarts Redis, which answers again",
            "alice   GET /notes  503, for as long as anybody asked",
        ),
        "Make broken connections anew, in every task that holds one; bound every wait; "
        "let no background task end for good at its first error.",
        404,
    ),
    Rule(
        "failed-after-recovery",
        5,
        "a request failed although the service had recovered",
        (
            "nemesis cuts the connections to Postgres, then heals",
            "alice   GET /notes  200: recovered",
            "bob     GET /notes  500: he was given a connection that is dead",
        ),
        "Give no connection back to a pool whose state is unknown: discard it after an "
        "error or a cancellation, and look whether it is closed before using it again.",
        460,
    ),
    Rule(
        "slow-recovery",
        6,
        "the service took too long to recover after a fault was over",
        (
            "nemesis heals the network",
            "alice   GET /notes  fails for 25 more seconds",
        ),
        "Cap backoff at a second or two, with jitter; bound connects and reads, so that "
        "nobody waits long for an answer that was lost.",
        400,
    ),
    Rule(
        "memory-kept",
        6,
        "memory did not come back after a fault was over",
        (
            "nemesis makes 500 requests fail",
            "worker  holds 60 MiB more than before, with all users as they were",
        ),
        "Look for what is kept of each failed request: exceptions with their frames, "
        "entries of registries and queues, buffers of connections never closed.",
        401,
    ),
)
