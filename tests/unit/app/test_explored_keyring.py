"""The key ring under every order: a look is shared, never too old, never torn apart."""

import asyncio
from typing import Self

import pytest

from app.security import AccessTokens, KeyRing, KeySet, TokenError
from test_framework.explore import Report, Scenario, explore, external, invariant
from tests.unit.app.exploring import USERS_ALONE, assert_found
from tests.unit.app.keys_twins import HastyRing, TwoFieldsRing
from tests.unit.app.parts import key_of

_KEYS = ("first", "second", "third")


class _Rotation:
    """A store whose key is exchanged while workers sign and verify.

    Attributes:
        reads: How many reads are under way (count).
    """

    def __init__(self, kind: type[KeyRing]) -> None:
        self._kind = kind
        self._age = 0
        self.reads = 0
        self.clock_s = 0.0

    async def __aenter__(self) -> Self:
        first = KeySet.of(key_of("first"))
        self.ring = self._kind(first, self._load, gap_s=0, clock=lambda: self.clock_s)
        self.tokens = AccessTokens(self.ring, lifetime_s=60, now=lambda: 1_000)
        invariant(self._is_single)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.ring.aclose()

    def rotate(self) -> str:
        """Let the next key sign, and return a token of it from another worker."""
        self._age += 1
        elsewhere = AccessTokens(
            KeyRing(self._stored()), lifetime_s=60, now=lambda: 1_000
        )
        return elsewhere.issue("ada", "login")

    def _stored(self) -> KeySet:
        names = _KEYS[: self._age + 1]
        return KeySet.of(key_of(names[-1]), (key_of(name).public for name in names))

    async def _load(self, read_at_s: float) -> KeySet:
        del read_at_s
        self.reads += 1
        try:
            await external("ask")
            # From when the database looked, which is before the answer has come.
            found = self._stored()
            await external("answer")
            return found
        finally:
            self.reads -= 1

    def _is_single(self) -> bool:
        return self.reads <= 1


def _explored(kind: type[KeyRing], *, cancel: str | bool = False) -> Report:
    """Let users meet tokens of a key that was stored a moment ago, and issue some."""

    async def meet(rotation: _Rotation, user: int) -> None:
        token = rotation.rotate() if user < 2 else rotation.tokens.issue("ada", "l")
        claims = await rotation.tokens.recognise(token)
        assert claims.user_id == "ada"

    scenario = Scenario(lambda: _Rotation(kind), meet, users=3)
    return explore(scenario, fidelity="await", cancel=cancel, schedules=150, seed=1)


def test_new_key_is_known_to_whoever_asks() -> None:
    """A token of a key that was stored before it was shown is never refused."""
    report = _explored(KeyRing)

    assert report.witness is None, report.text()


def test_users_that_leave_take_no_keys_from_others() -> None:
    """Whoever is cancelled while it waits, the others get their answer."""
    report = _explored(KeyRing, cancel=USERS_ALONE)

    assert report.witness is None, report.text()


@pytest.mark.power
def test_joining_a_read_under_way_is_found() -> None:
    """A twin that joins a read which may have looked too early refuses good tokens."""
    assert_found(_explored(HastyRing), "exception", "not valid")


@pytest.mark.power
def test_keys_exchanged_in_two_steps_are_found() -> None:
    """A twin that exchanges the key and its name apart signs what nobody can verify."""
    assert_found(_explored(TwoFieldsRing), "exception", "not valid")


async def test_flood_of_invented_keys_costs_few_reads() -> None:
    """Three hundred tokens of as many keys, and one read; no more within the gap."""
    reads, now_s = 0, 0.0

    async def load(read_at_s: float) -> KeySet:
        nonlocal reads
        reads += 1
        return KeySet.of(key_of("first"), read_at_s=read_at_s)

    ring = KeyRing(KeySet.of(key_of("first")), load, gap_s=0, clock=lambda: now_s)
    tokens = AccessTokens(ring, lifetime_s=60, now=lambda: 1_000)
    forged = [
        AccessTokens(
            KeyRing(KeySet.of(key_of(f"forged {n}"))), lifetime_s=60, now=lambda: 1_000
        ).issue("ada", "login")
        for n in range(300)
    ]

    answers = await asyncio.gather(
        *map(tokens.recognise, forged), return_exceptions=True
    )

    assert all(isinstance(answer, TokenError) for answer in answers)
    assert reads == 1


async def test_name_that_no_key_has_costs_no_read() -> None:
    """Only a thumbprint is worth a look."""

    async def load(read_at_s: float) -> KeySet:
        raise AssertionError(read_at_s)

    ring = KeyRing(KeySet.of(key_of("first")), load)

    assert await ring.find("' OR 1=1 --") is ring.current


async def test_cancelled_caller_takes_no_look_from_others() -> None:
    """Two wait for one look; the first leaves, and the second gets the keys."""
    answer = asyncio.Event()

    async def load(read_at_s: float) -> KeySet:
        await answer.wait()
        return KeySet.of(key_of("second"), read_at_s=read_at_s)

    ring = KeyRing(KeySet.of(key_of("first")), load, gap_s=0)
    kid = key_of("second").kid
    leaving, staying = (asyncio.create_task(ring.find(kid)) for _ in range(2))
    await asyncio.sleep(0)
    leaving.cancel()
    await asyncio.gather(leaving, return_exceptions=True)
    answer.set()

    assert (await staying).signing.kid == kid


async def test_keys_that_cannot_be_read_are_no_forgery() -> None:
    """Who waits for a read that fails is told so, and the next one reads again."""
    is_down = True

    async def load(read_at_s: float) -> KeySet:
        if is_down:
            raise OSError
        return KeySet.of(key_of("second"), read_at_s=read_at_s)

    ring = KeyRing(KeySet.of(key_of("first")), load, gap_s=0)
    with pytest.raises(OSError, match=r"^$"):
        await ring.find(key_of("second").kid)
    is_down = False

    assert key_of("second").kid in (await ring.find(key_of("second").kid)).verifying
