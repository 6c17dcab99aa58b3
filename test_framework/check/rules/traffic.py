"""Rules about what users saw over the wire, and what was kept of them."""

from test_framework.check.rules.definition import Rule

TRAFFIC_RULES = (
    Rule(
        "foreign-canary-in-response",
        0,
        "a user received another user's data",
        (
            "alice  POST /notes  'secret of alice'",
            "bob    GET  /notes  answers with 'secret of alice'",
        ),
        "Look for state that outlives a request: a module global, an attribute of a "
        "shared object, a cache key without the user, a session setting kept by the "
        "connection pool, a query without an owner filter. Pass the user explicitly.",
        488,
    ),
    Rule(
        "foreign-canary-in-event",
        0,
        "a user's socket received another user's event",
        (
            "alice  starts a run",
            "bob    receives 'run completed: secret of alice' on his socket",
        ),
        "Address events by the owner's id from the run's own context, and look sockets "
        "up by it; no broadcast, no handler on a shared object, no last-socket variable.",
        488,
    ),
    Rule(
        "foreign-canary-in-header",
        0,
        "an answer's header carried another user's data",
        (
            "alice  GET /me  sets a value that the service keeps",
            "bob    GET /me  answers with 'x-user: alice'",
        ),
        "Build response headers from the request at hand; reset context variables at "
        "the start of each request, also on kept-alive connections.",
        488,
    ),
    Rule(
        "foreign-canary-in-cookie",
        0,
        "a user received another user's cookie",
        (
            "alice  logs in",
            "bob    GET /  answers with 'set-cookie: session=...alice'",
        ),
        "Set cookies on the response of the request at hand only, and mark such answers "
        "'Cache-Control: private, no-store'.",
        539,
    ),
    Rule(
        "foreign-canary-in-error",
        0,
        "an error answer carried another user's data",
        (
            "alice  GET /orders/wrong  fails, the service remembers why",
            "bob    GET /orders/other  fails with alice's details",
        ),
        "Make error bodies from the exception at hand only; keep no last error, no "
        "shared error context, and do not reuse exception instances.",
        209,
    ),
    Rule(
        "cached-for-another",
        0,
        "a shared cache may hand one user's answer to another",
        (
            "alice  GET /me  through a proxy; the answer says it may be stored",
            "bob    GET /me  receives alice's answer from the proxy",
        ),
        "Send 'Cache-Control: private, no-store' (or at least 'Vary: Authorization, "
        "Cookie') on every answer that depends on who asks.",
        524,
    ),
    Rule(
        "canary-shown-to-visitor",
        0,
        "a request without identity received a user's data",
        (
            "alice  GET /me  over a kept-alive upstream connection",
            "nobody GET /me  over the same connection answers as alice",
        ),
        "Reset identity at the start of each request (uvicorn: reset_contextvars=True), "
        "and refuse requests without credentials before anything is looked up.",
        488,
    ),
    Rule(
        "row-under-wrong-owner",
        1,
        "the database keeps one user's data under another user",
        (
            "alice  POST /notes 'secret of alice'",
            "row    notes(owner=bob, text='secret of alice')",
        ),
        "Set the user inside each transaction (SET LOCAL), never on a pooled "
        "connection, and take the owner from the request's own context.",
        668,
    ),
    Rule(
        "key-under-wrong-owner",
        1,
        "Redis keeps one user's data under another user's key",
        (
            "alice  GET /notes",
            "key    notes:bob  holds 'secret of alice'",
        ),
        "Build keys in one place from the user's own id, escape separators, and never "
        "normalise two different ids to one key.",
        668,
    ),
    Rule(
        "message-on-wrong-channel",
        1,
        "a message with one user's data was published on another user's channel",
        (
            "alice  starts a run",
            "channel events:bob  carries 'secret of alice'",
        ),
        "Publish through the emitter of the run's own context; derive the channel from "
        "the owner of the data, not from whoever is current.",
        668,
    ),
    Rule(
        "log-names-another-user",
        1,
        "a log line ties one user's data to another user",
        (
            "alice  GET /search?q=secret",
            "log    user=bob path=/search?q=secret",
        ),
        "Bind the user to each record explicitly, or reset logging context variables "
        "at the start of every request and task.",
        532,
    ),
    Rule(
        "identifier-collision",
        1,
        "two users were given the same identifier",
        (
            "alice  POST /runs  -> id 1700000000000",
            "bob    POST /runs  -> id 1700000000000",
        ),
        "Use uuid4 (or a database sequence) for identifiers; a clock, a counter read "
        "across an await or a truncated hash repeats under load.",
        694,
    ),
    Rule(
        "acted-more-than-once",
        1,
        "an operation that may succeed once succeeded more often",
        (
            "alice  POST /auth/refresh token-1  ok",
            "alice  POST /auth/refresh token-1  ok, at the same instant",
        ),
        "Decide the winner in one atomic step: UPDATE ... WHERE unused RETURNING, a "
        "unique constraint, or a Lua script; never read, await, then write.",
        367,
    ),
    Rule(
        "event-duplicated",
        2,
        "an event was delivered more than once on one socket",
        ("alice  receives event 7, then event 7 again",),
        "Give each socket one cursor over the user's event log and send only what lies "
        "after it; register each socket once.",
        837,
    ),
    Rule(
        "event-reordered",
        2,
        "events arrived in another order than they were numbered",
        ("alice  receives event 8, then event 7",),
        "Send from one task per socket in log order; do not create a task per event.",
        362,
    ),
    Rule(
        "not-linearizable",
        1,
        "an object answered as no object does whose calls come one at a time",
        (
            "alice  phone   appends 'a' to her thread     200",
            "alice  laptop  appends 'b' to her thread     200",
            "alice  phone   reads her thread              'a'",
            "alice  laptop  reads her thread              'b'",
        ),
        "Do what reads and writes in one statement or under a row lock; number items by "
        "the database in the order of their commits; read from where was written, not "
        "from a cache or a replica.",
        362,
    ),
    Rule(
        "event-lost",
        2,
        "an event a user was owed did not arrive",
        (
            "alice  receives event 6, then event 8",
            "alice  waits for 'run completed' in vain",
        ),
        "Deliver from a log with sequence numbers and let notifications only wake the "
        "sender; subscribe before reading the position to start from.",
        362,
    ),
    Rule(
        "left-behind",
        3,
        "something of departed users stayed in the service",
        (
            "alice  closes her socket and logs out",
            "service keeps a task and a subscription for her",
        ),
        "Tie tasks, subscriptions and registry entries to the connection or run they "
        "serve, and release them in 'finally', also on cancellation.",
        772,
    ),
    Rule(
        "own-data-wrong",
        4,
        "a user did not find its own data as it had left it",
        (
            "alice  POST /notes 'a'  ok",
            "alice  GET  /notes      does not hold 'a'",
        ),
        "Look for lost updates (read, await, write back), for state keyed by something "
        "that is not unique per user, and for a cache that is not invalidated.",
        362,
    ),
    Rule(
        "bystander-failed",
        5,
        "a request that nobody disturbed got no proper answer",
        (
            "alice  walks away in mid-request",
            "bob    waits, times out or gets a server error",
        ),
        "Release connections, slots and locks in 'finally'; drop a connection whose "
        "reply was not read; bound every wait.",
        404,
    ),
    Rule(
        "bystander-slowed",
        6,
        "other users' disconnects made innocent requests slow",
        (
            "alice  walks away in mid-request, again and again",
            "bob    waits ten times as long as before",
        ),
        "Give abandoned work back at once and bound each user's share of pools.",
        400,
    ),
)
