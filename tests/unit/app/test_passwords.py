"""Password hashes: salted, verified, and a bounded number at a time."""

import asyncio
import threading

import pytest

from app.security import PasswordHasher


def hasher(concurrency: int | None = None) -> PasswordHasher:
    """Return a hasher as cheap as argon2 allows."""
    return PasswordHasher(memory_kib=8, passes=1, concurrency=concurrency)


async def test_right_password_alone_verifies() -> None:
    """The right password verifies, a wrong one and a broken hash do not."""
    known = await hasher().hash("correct horse")

    assert await hasher().verify("correct horse", known)
    assert not await hasher().verify("wrong horse", known)
    assert not await hasher().verify("correct horse", "no hash at all")


async def test_hash_is_salted_argon2id() -> None:
    """One password hashed twice gives two hashes, both argon2id."""
    first, second = await asyncio.gather(hasher().hash("x"), hasher().hash("x"))

    assert first != second
    assert first.startswith("$argon2id$")


async def test_absent_user_is_never_right() -> None:
    """Without a hash no password is right, though the work is done."""
    assert not await hasher().verify("anything", None)


async def test_hashes_at_one_time_are_bounded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """No more hashes run at a time than allowed, and that many do."""
    subject = hasher(concurrency=2)
    lock = threading.Lock()
    both = threading.Barrier(2, timeout=5)
    running, peak = 0, 0

    class Argon:
        def hash(self, _: str) -> str:
            nonlocal running, peak
            with lock:
                running += 1
                peak = max(peak, running)
            both.wait()
            with lock:
                running -= 1
            return "hash"

    monkeypatch.setattr(subject, "_argon", Argon())

    await asyncio.gather(*(subject.hash("x") for _ in range(8)))

    assert peak == 2
