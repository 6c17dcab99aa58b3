"""The Redis reader sees every element of every key, or says why it cannot."""

import asyncio
import secrets
from collections import defaultdict
from collections.abc import AsyncIterator

import pytest
from redis.asyncio import Redis

from test_framework.clients.redis import RedisReader
from test_framework.core import TargetError, UsageError

pytestmark = pytest.mark.integration


@pytest.fixture
async def client(redis_url: str) -> AsyncIterator[Redis]:
    """A client to make things with."""
    client = Redis.from_url(redis_url)
    yield client
    await client.aclose()


@pytest.fixture
async def prefix(client: Redis) -> AsyncIterator[str]:
    """The beginning of all keys of one test, which are deleted again."""
    prefix = f"readers-{secrets.token_hex(4)}"
    yield prefix
    async for key in client.scan_iter(match=f"{prefix}*"):
        await client.delete(key)


async def test_every_type_is_read_whole(
    client: Redis, redis_url: str, prefix: str
) -> None:
    """Strings, hashes, lists, sets, sorted sets and streams, beyond one page."""
    await client.set(f"{prefix}:string", b"\xff\x00")
    await client.hset(f"{prefix}:hash", mapping={"field": "value"})
    await client.rpush(f"{prefix}:list", *range(1201))
    await client.sadd(f"{prefix}:set", *range(1201))
    await client.zadd(f"{prefix}:zset", {"member": 1.5})
    pipe = client.pipeline()
    for number in range(1001):
        pipe.xadd(f"{prefix}:stream", {"number": number, "word": "w"}, id=f"1-{number}")
    await pipe.execute()

    found = defaultdict(list)
    async with RedisReader(redis_url) as reader:
        async for key, content in reader.entries([prefix]):
            found[key.decode().rpartition(":")[2]].append(content)

    numbers = [b"%d" % number for number in range(1201)]
    assert found["string"] == [b"\xff\x00"]
    assert found["hash"] == [b"field\nvalue"]
    assert found["list"] == numbers
    assert sorted(found["set"], key=int) == numbers
    assert found["zset"] == [b"member"]
    assert len(found["stream"]) == 1001
    assert found["stream"][-1] == b"1-1000\nnumber\n1000\nword\nw"


async def test_prefix_is_taken_literally(
    client: Redis, redis_url: str, prefix: str
) -> None:
    """A prefix with pattern characters matches itself, and a key comes once."""
    for name in ("a*x", "abx", "[b]", "b"):
        await client.set(f"{prefix}:{name}", "1")

    async with RedisReader(redis_url) as reader:
        starred = [key async for key in reader.keys([f"{prefix}:a*"])]
        braced = [key async for key in reader.keys([f"{prefix}:[b]"])]
        twice = [key async for key in reader.keys([f"{prefix}:a", f"{prefix}:ab"])]

    assert starred == [f"{prefix}:a*x".encode()]
    assert braced == [f"{prefix}:[b]".encode()]
    assert sorted(twice) == [f"{prefix}:a*x".encode(), f"{prefix}:abx".encode()]


async def test_published_message_is_heard(
    client: Redis, redis_url: str, prefix: str
) -> None:
    """Whatever anybody publishes reaches the listener with its channel, as bytes."""
    async with RedisReader(redis_url) as reader:
        heard = reader.subscribe_all()
        first = asyncio.ensure_future(anext(heard))
        async with asyncio.timeout(5):
            # Redis says to how many it was delivered: nobody until it is subscribed.
            while not await client.publish(prefix, b"\xffhi"):  # noqa: ASYNC110  # see above
                await asyncio.sleep(0.005)
            message = await first
        await heard.aclose()

    assert message == (prefix.encode(), b"\xffhi")


async def test_subscribed_channel_is_listed(
    client: Redis, redis_url: str, prefix: str
) -> None:
    """A channel is listed while somebody subscribes to it."""
    subscriber = client.pubsub()
    await subscriber.subscribe(prefix)
    await subscriber.get_message(timeout=1)

    async with RedisReader(redis_url) as reader:
        assert prefix.encode() in await reader.channels()
    await subscriber.aclose()  # type: ignore[no-untyped-call]  # redis leaves it untyped


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("redis://nobody:hunter2@{place}/0", "refuses"),
        ("redis://u:hunter2@127.0.0.1:1/0", "cannot be reached"),
    ],
)
async def test_refusal_hides_the_password(redis_url: str, url: str, words: str) -> None:
    """What Redis refuses is one sentence with the place and without the secret."""
    place = redis_url.rpartition("@")[2].partition("/")[0].removeprefix("redis:")

    with pytest.raises(TargetError, match=words) as caught:
        await RedisReader(url.format(place=place)).__aenter__()

    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("url", ["http://u:hunter2@h", "redis://u:hunter2@h:99999"])
def test_other_url_is_refused(url: str) -> None:
    """What is no Redis URL is the caller's mistake, and not repeated aloud."""
    with pytest.raises(UsageError, match="Pass redis://") as caught:
        RedisReader(url)

    assert "hunter2" not in str(caught.value)
