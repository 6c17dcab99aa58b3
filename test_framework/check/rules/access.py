"""Rules about state that requests of one process share."""

from test_framework.check.rules.definition import Rule

ACCESS_RULES = (
    Rule(
        "shared-update-lost",
        1,
        "a request overwrote what another had written since it looked",
        (
            "alice  reads quota.used (7), awaits",
            "bob    writes quota.used (8)",
            "alice  writes quota.used (8): bob's request was never counted",
        ),
        "Await first, then read, decide and write in one step; or hold one asyncio.Lock "
        "from the read to the write, everywhere the value is written.",
        362,
    ),
    Rule(
        "shared-check-stale",
        7,
        "a request acted on a check that another may have outdated since",
        (
            "alice  if quota.pending + quota.used < limit: awaits",
            "bob    writes quota.used",
            "alice  writes quota.used, although she would perhaps decide otherwise now",
        ),
        "Check after the await, in the same step as the write. If the write is right "
        "whatever the check would say now, nothing is wrong.",
        362,
    ),
    Rule(
        "shared-write-clobbered",
        1,
        "a request read back what another had written in the place of its own value",
        (
            "alice  writes service.current_user = alice, awaits",
            "bob    writes service.current_user = bob",
            "alice  reads service.current_user: she goes on as bob",
        ),
        "Keep what belongs to a request in the request: pass it as an argument or in a "
        "context variable, never in an attribute of an object that all requests share.",
        488,
    ),
    Rule(
        "shared-read-torn",
        1,
        "a request read parts of two states that never belonged together",
        (
            "alice  reads provider.address (old), awaits",
            "bob    replaces provider.address and provider.key in one step",
            "alice  reads provider.key (new): she shows it to the old address",
        ),
        "Read what belongs together before the await, or keep it in one immutable "
        "object that is replaced as a whole and read once.",
        362,
    ),
    Rule(
        "shared-contents-mixed",
        1,
        "a request took for its answer what another had put into the same container",
        (
            "alice  pad = scratchpad.get(); pad.append(...), awaits",
            "bob    pad = scratchpad.get(); pad.append(...)",
            "alice  returns list(pad): bob's line is in there",
        ),
        "Make a container for each request: set the ContextVar on entry, give the object "
        "its own in __init__, copy what is shared before you add to it. If all are meant "
        "to read what all have added, as in a room, nothing is wrong.",
        488,
    ),
    Rule(
        "shared-iteration-changed",
        2,
        "a loop awaited while another request changed what it goes through",
        (
            "alice  for socket in room.sockets: await socket.send(...)",
            "bob    room.sockets.add(...) while she awaits",
            "alice  RuntimeError, or elements skipped or seen twice",
        ),
        "Go through a copy, 'for socket in list(room.sockets)', and expect that elements "
        "have left meanwhile.",
        362,
    ),
    Rule(
        "shared-read-unrepeatable",
        7,
        "a request read the same place twice and another had changed it in between",
        (
            "alice  reads config.limit (10), awaits",
            "bob    writes config.limit (20)",
            "alice  reads config.limit (20)",
        ),
        "If both reads must agree, read once and keep the value; if the newest value is "
        "wanted, nothing is wrong.",
        362,
    ),
)
