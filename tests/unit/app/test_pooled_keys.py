"""Pooled keys: how long one rests, what is told when none is left, and no key shown."""

import asyncio
import contextlib
import logging

import pytest
from pydantic import SecretStr

from app.llm import KeysBusyError, ModelNotAskedError, PooledKeys
from app.main import _provider
from app.security import Secrets
from app.settings import Settings

NAMES = ("first-hunter2", "second-hunter2")


class Clock:
    """A clock that is set."""

    now = 0.0

    def __call__(self) -> float:
        """Tell the time."""
        return self.now


def pooled(clock: Clock, *names: str, requests: int = 1) -> PooledKeys:
    """Return keys that are lent by a clock."""
    secrets = [SecretStr(name) for name in names]
    return PooledKeys(secrets, requests=requests, clock=clock)


async def lent(keys: PooledKeys) -> str:
    """Return the key that is lent next, without what every header has."""
    async with asyncio.timeout(20), keys.lent() as headers:
        assert set(headers) == {"authorization"}
        return headers["authorization"].removeprefix("Bearer ")


def shown(name: str) -> dict[str, str]:
    """Return the headers that show a key."""
    return {"authorization": f"Bearer {name}"}


@pytest.mark.parametrize(
    ("asked_s", "rest_s"),
    [(None, 1.0), (0.0, 1.0), (7.0, 7.0), (86_400.0, 60.0)],
    ids=["no time", "none worth the name", "a time", "a day"],
)
async def test_throttled_key_rests_for_its_time(
    asked_s: float | None, rest_s: float
) -> None:
    """For as long as it was asked, and for a second at least and a minute at most."""
    clock = Clock()
    keys = pooled(clock, *NAMES)

    assert keys.rest(shown(NAMES[0]), asked_s)

    clock.now = rest_s - 0.001
    assert [await lent(keys) for _ in range(3)] == [NAMES[1]] * 3
    clock.now = rest_s
    assert await lent(keys) == NAMES[0]


async def test_keys_that_all_rest_name_the_first_time() -> None:
    """Who asks is told at once when the first of them may be asked again."""
    clock = Clock()
    keys = pooled(clock, *NAMES)
    keys.rest(shown(NAMES[0]), 9.0)
    keys.rest(shown(NAMES[1]), 5.0)
    clock.now = 2.0

    with pytest.raises(KeysBusyError, match="Try again later") as caught:
        await lent(keys)

    assert caught.value.retry_after_s == 3.0


async def test_refused_keys_are_told_by_number(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The log says which key was refused, once, and shows none; then no key is left."""
    logger = logging.getLogger("app.llm")
    logger.addHandler(caplog.handler)  # whether or not a service has set logging up
    keys = pooled(Clock(), *NAMES)

    for name in (NAMES[1], NAMES[1], NAMES[0]):
        assert keys.refuse(shown(name))
    with pytest.raises(
        ModelNotAskedError, match="keys that it accepts into MODEL_KEYS"
    ):
        await lent(keys)

    logger.removeHandler(caplog.handler)
    told = [r for r in caplog.records if r.msg == "model_key.refused"]
    assert {r.__dict__["fields"]["number"] for r in told} == {1, 2}
    assert "hunter2" not in f"{caplog.text} {keys!r} {vars(keys._pool)}"


async def test_service_is_wired_to_its_keys() -> None:
    """MODEL_KEYS and MODEL_REQUESTS_PER_KEY become the credentials of the provider."""
    settings = Settings(
        database_url=SecretStr("postgresql://db.invalid/app"),
        redis_url=SecretStr("redis://redis.invalid/0"),
        signing_keys=SecretStr("s" * 40),
        model_url="http://model.invalid/v1",
        model_keys=SecretStr(",".join(NAMES)),
        model_requests_per_key=2,
    )
    async with contextlib.AsyncExitStack() as stack:
        provider = _provider(settings, Secrets(), stack)
        assert provider is not None
        keys = provider._credentials
        assert isinstance(keys, PooledKeys)
        held = [await stack.enter_async_context(keys.lent()) for _ in range(4)]
        fifth = asyncio.create_task(lent(keys))
        await asyncio.sleep(0)
        assert not fifth.done()
        fifth.cancel()

    assert held == [shown(name) for name in (*NAMES, *NAMES)]


async def test_key_named_twice_is_one_key() -> None:
    """It has the places of one, and is refused once."""
    keys = pooled(Clock(), NAMES[0], NAMES[0], NAMES[1])

    keys.refuse(shown(NAMES[0]))

    assert keys.tries == 3
    assert [await lent(keys) for _ in range(2)] == [NAMES[1]] * 2
