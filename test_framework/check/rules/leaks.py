"""Rules about what outlives the user or the request that it was made for."""

from test_framework.check.rules.definition import Rule

LEAK_RULES = (
    Rule(
        "pool-state-kept",
        2,
        "a pooled database session hands one user's state to the next",
        (
            "alice  SELECT set_config('app.user_id', 'alice', false)   connection 1",
            "alice  returns connection 1 to the pool; ROLLBACK keeps the setting",
            "bob    gets connection 1 and is alice to row-level security",
        ),
        "Keep to the transaction: SET LOCAL, set_config(..., true), "
        "pg_advisory_xact_lock, ON COMMIT DROP; or let the pool's reset run DISCARD ALL.",
        488,
    ),
    Rule(
        "residue-of-departed",
        3,
        "data of departed users is still held in memory",
        (
            "alice    POST /notes  'secret of alice'",
            "alice    logs out",
            "service  LAST_NOTES[0] still holds 'secret of alice'",
        ),
        "Remove the entry when its user or request ends, or hold it weakly. A cache that "
        "is keyed by user and bounded by time or size is declared in allowed_residue of "
        "[tool.isolation-audit.detector_options.leaks].",
        772,
    ),
    Rule(
        "context-kept-alive",
        3,
        "an object that belongs to one request outlived it",
        (
            "alice    GET /me  works in a context of her own",
            "service  REGISTRY[...] holds that context after the answer",
        ),
        "Hand the context on as an argument and let nothing long-lived keep it: no "
        "attribute of a shared object, no closure, no task without an end.",
        772,
    ),
    Rule(
        "leaked-task",
        3,
        "a task outlived the request that started it",
        (
            "alice    starts a run and logs out",
            "service  the task that served her still waits, in her context",
        ),
        "Await or cancel the task in 'finally' of whoever started it, or start it in "
        "the lifespan when it serves everybody.",
        772,
    ),
    Rule(
        "leaked-file",
        3,
        "files or sockets stayed open",
        (
            "alice    sends a file and logs out",
            "service  its descriptor is still open",
        ),
        "Close files and sockets with 'with' or in 'finally', also on cancellation.",
        772,
    ),
    Rule(
        "memory-growth",
        3,
        "memory grows with every round of the same work",
        (
            "round 1..n  the same requests by the same users",
            "service     holds a little more after each",
        ),
        "See the lines that allocated it: a list that is only appended to, a cache "
        "without a bound, a listener that is never removed.",
        401,
    ),
    Rule(
        "connection-left",
        3,
        "connections stayed open, or hold what they should have given back",
        (
            "alice    asks for a report",
            "service  opens a connection of her own and never closes it",
        ),
        "Take connections from one pool with 'async with', and close those that are "
        "not pooled in 'finally'.",
        772,
    ),
    Rule(
        "key-without-expiry",
        3,
        "keys of departed users stay until somebody deletes them",
        (
            "alice    logs out",
            "service  session:alice is still there, and PTTL says -1",
        ),
        "Give keys of sessions and caches a lifetime (SET ... EX), and refresh it where "
        "they are used. Where Redis is the database, this is as it should be.",
        772,
    ),
)
