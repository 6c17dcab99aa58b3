"""One number decides every choice of a run; independent streams are derived by name.

Each consumer asks for its own stream, so adding a consumer does not change what
the others draw. ``random`` is the right tool: the choices must be repeatable, not
unpredictable.
"""

import hashlib
import json
import random
import secrets

SEED_BITS = 32


def fresh_seed() -> int:
    """Return a new unpredictable seed in ``[0, 2**32)``."""
    return secrets.randbits(SEED_BITS)


def stream(seed: int, *names: str | int) -> random.Random:
    """Return the random stream of the given names under ``seed``.

    Args:
        seed: The seed of the run.
        *names: What the stream is for, for example ``"user", 7``.

    Returns:
        A generator that no other name shares.
    """
    # JSON keeps ("a/b",) apart from ("a", "b") and 7 from "7".
    label = json.dumps([seed, *names])
    digest = hashlib.sha256(label.encode()).digest()
    return random.Random(int.from_bytes(digest[:16], "big"))
