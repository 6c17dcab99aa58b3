"""Rules about locks, pools and tasks that wait for each other."""

from test_framework.check.rules.definition import Rule

LOCK_RULES = (
    Rule(
        "deadlock",
        2,
        "tasks wait for each other and never go on",
        (
            "alice's request holds lock A and waits for lock B",
            "bob's request   holds lock B and waits for lock A",
        ),
        "Take locks in one order everywhere. Await no child, no queue and no second "
        "connection while holding what the other side needs to finish.",
        833,
    ),
    Rule(
        "database-deadlock",
        2,
        "Postgres broke a deadlock by failing a statement",
        (
            "alice's request updates row 1, then row 2",
            "bob's request   updates row 2, then row 1: one of them fails",
        ),
        "Lock rows in one order: sort the keys, or SELECT ... ORDER BY id FOR UPDATE "
        "first. Retry the transaction that failed.",
        833,
    ),
    Rule(
        "database-lock-left",
        3,
        "a database session keeps locks, or waits for one, after its request is over",
        (
            "alice's request updates row 1 and is cancelled before it commits",
            "alice           logs out; her transaction is still open",
            "bob's request   updates row 1 and waits for a transaction nobody ends",
        ),
        "Open transactions with 'async with', so that they end on errors and on "
        "cancellation too; set idle_in_transaction_session_timeout and lock_timeout.",
        667,
    ),
    Rule(
        "lock-order-inversion",
        3,
        "two locks are taken in opposite orders",
        (
            "alice's request took lock A, then lock B, and gave both back",
            "bob's request   took lock B, then lock A; had they met, both hung",
        ),
        "Take them in one order everywhere, or hold one more lock around both.",
        833,
    ),
    Rule(
        "lock-order-undeclared",
        5,
        "several locks of one kind are held at once, in no declared order",
        (
            "alice's request holds the lock of room 1 and takes that of room 2",
            "nothing says that bob's takes them the same way round",
        ),
        "Sort what is to be locked, and declare it: ordered(asyncio.Lock(), key), or "
        "the line that makes the locks in sorted_classes.",
        833,
    ),
    Rule(
        "permit-nested",
        3,
        "a task that has a connection or permit asks the same pool for a second one",
        (
            "alice's request has the last connection but one and asks for another",
            "bob's request   has the last one and asks for another: both wait",
        ),
        "Pass the connection on, or give the inner work a pool of its own.",
        833,
    ),
    Rule(
        "task-stall",
        2,
        "tasks wait for what nobody is left to do",
        (
            "alice's request waits for an event",
            "nothing is ready, no timer runs, no socket is open: nobody sets it",
        ),
        "Look at the line at which each task stands: notify under the same lock, set "
        "the event in a finally clause, start the consumer before the queue is full.",
        833,
    ),
    Rule(
        "lock-held-at-end",
        3,
        "a task ended and still holds a lock",
        (
            "alice's request takes the lock and fails before it releases it",
            "bob's request   waits for a lock that nobody is going to release",
        ),
        "Acquire with 'async with', or release in a finally clause.",
        667,
    ),
    Rule(
        "lock-released-by-stranger",
        3,
        "a task released a lock that another one holds",
        (
            "alice's request holds the lock and is in the middle of its work",
            "bob's request   releases it, and carol's walks in",
        ),
        "Release a lock in the task that acquired it, with 'async with'.",
        667,
    ),
    Rule(
        "lease-without-expiry",
        4,
        "a lease of Redis stays for ever when its holder dies",
        (
            "alice's request SET lease:room 1 NX, and its process is killed",
            "bob's request   asks for lease:room until somebody deletes it by hand",
        ),
        "Give the expiry in the same command: SET key token NX EX 30.",
        667,
    ),
    Rule(
        "lease-released-unchecked",
        4,
        "a lease of Redis is deleted without a look at whose it is",
        (
            "alice's request takes lease:room for 5 s and is slow",
            "bob's request   takes it when it has run out",
            "alice's request DEL lease:room: it is bob's, and carol walks in",
        ),
        "Give each lease a random token, and delete it by a script that compares the "
        "token first, or use redis.asyncio.lock.Lock, which does.",
        667,
    ),
    Rule(
        "lock-held-across-await",
        4,
        "a lock was held while its holder awaited something slow",
        (
            "alice's request holds the lock and awaits the model's answer",
            "bob's request   waits as long, though it has nothing to do with alice",
        ),
        "Await first and lock afterwards, or give each user a lock of his own.",
        667,
    ),
)
