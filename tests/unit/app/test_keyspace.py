"""The keyspace: no name leads out of a user's own keys."""

from redis.asyncio import Redis

from app.cache import UserKeyspace, user_prefix


async def test_key_never_leaves_its_user() -> None:
    """Whatever a key is called, it starts with its user's prefix."""
    async with Redis() as redis:
        keyspace = UserKeyspace(redis, "ada")
        names = ["x", "", "u:bob:x", "../u:bob:x", "*", "\n"]

        assert all(keyspace.key(name) == f"u:ada:{name}" for name in names)


def test_prefix_of_one_id_starts_no_other() -> None:
    """The separator ends an id, so "user-1" owns nothing of "user-10"."""
    assert not user_prefix("user-10").startswith(user_prefix("user-1"))
