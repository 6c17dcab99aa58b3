"""Embeddings: texts as points, near one another when they are about the same.

``HashingEmbedder`` needs no model: each word falls onto a coordinate by its hash and
counts there with a sign (Weinberger et al., "Feature hashing for large scale multitask
learning", ICML 2009). Texts with the same words are near, that is all it knows.
"""

import asyncio
import hashlib
import math
import re
from collections.abc import Sequence
from typing import Protocol

DIMENSIONS = 64
_WORD = re.compile(r"\w+")

Embedding = tuple[float, ...]
"""A point; of length 1, or all zeros for a text without words."""


class Embedder(Protocol):
    """Makes embeddings."""

    @property
    def model(self) -> str:
        """What makes them: points of different models cannot be compared."""
        ...

    async def embed(self, texts: Sequence[str]) -> list[Embedding]:
        """Return an embedding for each text, in their order.

        Raises:
            ModelError: The model does not answer, or answers nonsense.
        """
        ...


class HashingEmbedder:
    """Makes embeddings in this process, the same ones in every process."""

    model = f"hashing-{DIMENSIONS}"

    async def embed(self, texts: Sequence[str]) -> list[Embedding]:
        """Return an embedding for each text, in their order."""
        points = []
        for text in texts:
            points.append(embedding_of(text))
            await asyncio.sleep(0)  # a thousand of them take a while
        return points


def embedding_of(text: str) -> Embedding:
    """Return the embedding of a text by the hashes of its words."""
    point = [0.0] * DIMENSIONS
    for word in _WORD.findall(text.lower()):
        digest = hashlib.blake2b(word.encode(), digest_size=4).digest()
        value = int.from_bytes(digest)
        point[(value >> 1) % DIMENSIONS] += 1.0 if value & 1 else -1.0
    length = math.sqrt(sum(number * number for number in point))
    return tuple(number / length for number in point) if length else tuple(point)
