"""How documents are cut, and what embeddings say."""

import random

import pytest

from app.llm import HashingEmbedder
from app.llm.embeddings import DIMENSIONS, embedding_of
from app.storage.passages import PASSAGE_CHARS, cut


@pytest.mark.parametrize("seed", range(20))
def test_pieces_joined_are_the_text(seed: int) -> None:
    """Nothing is lost, nothing is long, and no word of ordinary length is cut."""
    rng = random.Random(seed)
    words = ["x" * rng.randint(1, 60) for _ in range(rng.randint(0, 300))]
    body = "".join(word + rng.choice([" ", "\n", ". "]) for word in words)

    pieces = list(cut(body))

    assert "".join(pieces) == body
    assert all(0 < len(piece) <= PASSAGE_CHARS for piece in pieces)
    assert [word for piece in pieces for word in piece.split()] == body.split()


def test_endless_word_is_cut() -> None:
    """A text without blanks is cut by length."""
    assert [len(piece) for piece in cut("x" * 2_000)] == [800, 800, 400]


async def test_embeddings_are_deterministic_directions() -> None:
    """The same text is the same point of length one; other words point elsewhere."""
    a, b, other, nothing = await HashingEmbedder().embed(
        ["Soup and salt", "salt, and soup!", "brakes of cars", "?!"]
    )

    assert a == b == embedding_of("soup and salt")
    assert len(a) == DIMENSIONS
    assert sum(x * x for x in a) == pytest.approx(1)
    assert abs(sum(x * y for x, y in zip(a, other, strict=True))) < 0.9
    assert not any(nothing)
