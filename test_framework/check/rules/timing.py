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
    Rule(
        "slower-than-baseline",
        6,
        "an endpoint became slower than in the baseline",
        (
            "last week  100 users  GET /notes  P50 30 ms",
            "today      100 users  GET /notes  P50 52 ms, all others as before",
        ),
        "Look at what changed on this endpoint's way: a query without its index, one "
        "query per row, a lock, a blocking call. If it is meant to take longer, pass "
        "--update-baseline.",
        400,
    ),
    Rule(
        "slower-throughout",
        6,
        "all endpoints became slower than in the baseline",
        (
            "last week  100 users  all endpoints  P50 30 ms",
            "today      100 users  all endpoints  P50 70 ms, on a machine as fast",
        ),
        "Look at what all requests pass: middleware, authentication, the pool, the "
        "server's options; and whether something else kept the machine busy.",
        400,
    ),
    Rule(
        "baseline-of-another-machine",
        6,
        "latencies could not be compared: the machines are too different",
        (
            "baseline   a fixed piece of work takes 6 ms",
            "this run   it takes 14 ms: slower answers would prove nothing",
        ),
        "Keep one baseline per kind of machine, or make one here with "
        "--update-baseline.",
        1059,
    ),
    Rule(
        "blocking-call",
        6,
        "a call blocked the event loop of a process",
        (
            "alice  GET /report  reads a file for 80 ms inside of the loop",
            "bob    GET /me      waits 80 ms, and so does everybody else",
        ),
        "Await what the call waits for: asyncio.sleep, an asynchronous driver or "
        "client; or move it to asyncio.to_thread.",
        834,
    ),
    Rule(
        "held-loop",
        6,
        "one step held the event loop of a process",
        (
            "alice  POST /login  her password is hashed for 300 ms in the loop",
            "bob    GET  /me     waits 300 ms, and so does everybody else",
        ),
        "Move what computes to asyncio.to_thread, or to a process when it is Python's "
        "own computing; or give the loop back in between with asyncio.sleep(0).",
        834,
    ),
)
