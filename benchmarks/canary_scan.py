"""Speed of the canary scan: by number of users, by size of the answer, with a rival.

Run ``python -m benchmarks.canary_scan``. The rival is what one would write first: a
random value for each thing planted, all of them in one alternation for ``re``, over
the same answers in the same run. It sees the raw spelling only, and its cost grows
with the number of users.
"""

import argparse
import base64
import json
import random
import re
import time
import uuid
from collections.abc import Callable, Sequence

from test_framework.canary import Mint, Recogniser

SEED = 8842
TRAFFIC_BYTES = 4_000_000
RIVAL_BYTES = 40_000
ROUNDS = 5
CANARIES_EACH = 30
PROSE = (
    "The agent read three documents and wrote a summary for the user. Open questions "
    "were answered in March; the release moves from Berlin to New York, where John "
    "keeps the plan. Please check the quarterly numbers before the next meeting, "
    "because two of them changed after the review and nobody has told the customer "
    "so far. He asked for a short list of tasks with owners and dates, and for the "
    "reason why each of them is late. Everything else can wait until the end of May."
)
WORDS = PROSE.split()


def answer(rng: random.Random, size: int, canaries: Sequence[str]) -> bytes:
    """Return a JSON answer of about ``size`` bytes that holds the canaries."""
    items: list[dict[str, object]] = []
    length = 0
    left = list(canaries)
    while length < size:
        item: dict[str, object] = {
            "id": f"{rng.getrandbits(128):032x}",
            "created_at": f"2026-11-25T01:{rng.randrange(60):02}:07.123456Z",
            "title": " ".join(rng.choices(WORDS, k=6)),
            "score": rng.random(),
        }
        if left:
            item["note"] = f"kept for {left.pop()}"
        items.append(item)
        length += len(json.dumps(item)) + 2
    return json.dumps({"items": items}).encode()


def canaries_of(rng: random.Random, users: int, count: int) -> list[str]:
    """Return canaries of one user out of ``users``."""
    user = rng.randrange(users)
    return [Mint(SEED).mint(user, rng.randrange(CANARIES_EACH)) for _ in range(count)]


def answers(users: int, low: int, high: int, total: int) -> list[bytes]:
    """Return JSON answers of ``low`` to ``high`` bytes with 1 to 3 canaries each."""
    rng = random.Random(SEED)
    bodies: list[bytes] = []
    size = 0
    while size < total:
        planted = canaries_of(rng, users, rng.randint(1, 3))
        bodies.append(answer(rng, rng.randint(low, high), planted))
        size += len(bodies[-1])
    return bodies


def noise(total: int) -> list[bytes]:
    """Return bodies that are random bytes, half of them in base64."""
    rng = random.Random(SEED)
    pairs = total // 2 // 30_000
    binary = [rng.randbytes(30_000) for _ in range(pairs)]
    return binary + [base64.b64encode(body[:22_500]) for body in binary]


def mix(users: int, total: int) -> list[bytes]:
    """Return an audit's traffic: by bytes 38 % small, 60 % of 300 kB, 2 % noise."""
    return [
        *answers(users, 300, 4000, total * 38 // 100),
        *answers(users, 290_000, 310_000, total * 60 // 100),
        *noise(max(total * 2 // 100, 60_000)),
    ]


def measure(scan: Callable[[bytes], object], bodies: Sequence[bytes]) -> float:
    """Return the seconds of the fastest of ``ROUNDS`` passes after one to warm up."""
    best = float("inf")
    for _ in range(ROUNDS + 1):
        start = time.perf_counter()
        for body in bodies:
            scan(body)
        best = min(best, time.perf_counter() - start)
    return best


def row(name: str, bodies: Sequence[bytes]) -> str:
    """Return one line of the table."""
    seconds = measure(Recogniser(SEED).scan, bodies)
    size = sum(map(len, bodies))
    return (
        f"| {name} | {size // len(bodies):,} | {seconds / len(bodies) * 1e6:.1f} "
        f"| {size / seconds / 1e9:.2f} |"
    )


def rival_row(users: int) -> str:
    """Return one line that compares with an alternation of everybody's values."""
    bodies = answers(users, 300, 4000, RIVAL_BYTES)
    mint = Mint(SEED)
    # Values without a marker, as one would invent them first: 32 hex digits.
    names = {
        mint.mint(user, number).encode(): uuid.uuid5(
            uuid.NAMESPACE_OID, f"{user}/{number}"
        ).hex.encode()
        for user in range(users)
        for number in range(CANARIES_EACH)
    }
    marked = re.compile(rb"q{16}\w{20}")
    named = [marked.sub(lambda match: names[match[0]], body) for body in bodies]
    rival = re.compile(b"|".join(names.values()))
    ours = measure(Recogniser(SEED).scan, bodies)
    theirs = measure(lambda body: list(rival.finditer(body)), named)
    return (
        f"| {users:,} | {len(names):,} | {RIVAL_BYTES / ours / 1e9:.2f} "
        f"| {RIVAL_BYTES / theirs / 1e9:.5f} | {theirs / ours:,.0f} |"
    )


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bytes", type=int, default=TRAFFIC_BYTES)
    total = parser.parse_args().bytes
    print("| traffic | bytes each | µs each | GB/s |\n|---|--:|--:|--:|")
    for users in (10, 100, 10_000):
        print(row(f"mix, {users:,} users", mix(users, total)))
    for low, high in (
        (300, 500),
        (900, 1100),
        (3500, 4000),
        (28_000, 32_000),
        (290_000, 310_000),
    ):
        print(row("JSON, 100 users", answers(100, low, high, total // 2)))
    print(row("binary and base64 noise", noise(total // 4)))
    print("\n| users | canaries in the rival | GB/s | rival GB/s | ratio |")
    print("|--:|--:|--:|--:|--:|")
    for users in (10, 100, 300):
        print(rival_row(users))


if __name__ == "__main__":
    main()
