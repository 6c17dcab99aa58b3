"""Rules about time: too slow, too quick, one after another, slower than before."""

from test_framework.check.rules.definition import Rule

_SLOW = (
    "Look for blocking calls in the loop, for pools smaller than the load, and for "
    "locks held across awaits; or set {} in the audit file."
)

TIMING_RULES = (
    Rule(
        "p50-gate",
        6,
        "an endpoint's median is slower than its gate allows",
        ("100 users  GET /notes  P50 1.2 s, gate 1.0 s",),
        _SLOW.format("P50_GATES_S"),
        400,
    ),
    Rule(
        "p95-gate",
        6,
        "an endpoint is slower than its gate allows",
        ("100 users  GET /notes  P95 6.2 s, gate 5.0 s",),
        _SLOW.format("P95_GATES_S"),
        400,
    ),
    Rule(
        "p99-gate",
        6,
        "an endpoint's slowest answers are slower than its gate allows",
        ("100 users  GET /notes  P99 12.0 s, gate 10.0 s",),
        _SLOW.format("P99_GATES_S"),
        400,
    ),
    Rule(
        "faster-than-its-work",
        3,
        "an answer came before the work it stands for could be done",
        (
            "alice  POST /runs  answered after 900 ms, as every run",
            "bob    POST /runs  answered after 0.4 ms with a finished run",
        ),
        "Look for what answered instead of the work: a cache key without the user or "
        "the input, a future shared by callers, an error taken for success. If the "
        "work may honestly be that quick, lower FLOORS_S in the audit file.",
        345,
    ),
    Rule(
        "much-faster-than-others",
        6,
        "few answers of an endpoint came far faster than all others",
        (
            "99 users  GET /report  answered after about 80 ms",
            "bob       GET /report  answered after 0.5 ms: from whose work?",
        ),
        "If this endpoint has a cache, see that its key holds the user; if it has "
        "none, see what these answers were made of. FLOORS_S in the audit file makes "
        "it a finding.",
        524,
    ),
    Rule(
        "one-after-another",
        6,
        "requests that came together were answered one after another",
        (
            "alice  GET /notes  takes the lock, awaits the database for 40 ms",
            "bob    GET /notes  waits 40 ms for alice, then 40 ms of his own",
            "carol  GET /notes  waits 80 ms, and so on",
        ),
        "Hold no lock across an await that takes long, or one per user; give the pool "
        "more than one place; move blocking calls to asyncio.to_thread. Where work "
        "must be done one by one, say so to users with a queue.",
        412,
    ),
)
