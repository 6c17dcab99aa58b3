"""Passwords of Postgres and Redis are exchanged while a hundred users work.

Every piece of work logs in anew, which pools of connections seldom do. Now the server
is told first, now the file is written first.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import asyncpg
import pytest
from pydantic import SecretStr
from redis.asyncio import Redis
from redis.exceptions import AuthenticationError
from sqlalchemy import make_url, text
from sqlalchemy.exc import DBAPIError

from app.cache import connect
from app.security import Secret
from app.settings import Settings
from app.storage import open_engine
from app.storage.engine import SERVICE_ROLE
from tests.integration.app.service import running
from tests.integration.security.crowd import enrol
from tests.integration.security.secret_twins import OnlyCurrent

pytestmark = [pytest.mark.integration, pytest.mark.slow]
USERS = 100
ROTATIONS = 4
AT_ONCE = 5
"""How many log in at one time."""
REFUSED = (DBAPIError, asyncpg.PostgresError, AuthenticationError)


@dataclass(frozen=True)
class Login:
    """A login whose password is exchanged.

    Attributes:
        url: Where the server listens: with the name of the login and no password.
        file: Where the service reads the password.
        tell: Tells the server a new password.
    """

    url: str
    file: Path
    tell: Callable[[str], Awaitable[object]]

    async def rotate(
        self,
        *,
        server_first: bool,
        between: Callable[[], Awaitable[None]] = lambda: asyncio.sleep(0.05),
    ) -> None:
        """Exchange the password, and wait ``between`` the server and the file."""
        password = uuid4().hex
        if server_first:
            await self.tell(password)
            await between()
            self.file.write_text(password, encoding="ascii")
        else:
            self.file.write_text(password, encoding="ascii")
            await between()
            await self.tell(password)


@contextlib.asynccontextmanager
async def postgres_login(settings: Settings, folder: Path) -> AsyncIterator[Login]:
    """Make a role that may log in and become the role of the service."""
    shared = settings.database_url.get_secret_value()
    name = f"login_{uuid4().hex}"
    url = make_url(shared).set(username=name, password=None)
    owner = await asyncpg.connect(shared)

    async def tell(password: str) -> None:
        await owner.execute(f"ALTER ROLE {name} PASSWORD '{password}'")

    login = Login(url.render_as_string(), folder / "postgres", tell)
    try:
        await owner.execute(f"CREATE ROLE {name} LOGIN")
        await login.rotate(server_first=True)
        yield login
    finally:
        await owner.execute(f"DROP ROLE {name}")
        await owner.close()


@contextlib.asynccontextmanager
async def redis_login(settings: Settings, folder: Path) -> AsyncIterator[Login]:
    """Make a user of the access list that may do everything."""
    shared = settings.redis_url.get_secret_value()
    name = f"login-{uuid4().hex}"
    url = make_url(shared).set(username=name, password="wrong")
    async with Redis.from_url(shared) as owner:

        async def tell(password: str) -> None:
            await owner.acl_setuser(
                name,
                enabled=True,
                reset_passwords=True,
                passwords=[f"+{password}"],
                keys=["*"],
                channels=["*"],
                categories=["+@all"],
            )

        login = Login(url.render_as_string(hide_password=False), folder / "redis", tell)
        try:
            await login.rotate(server_first=True)
            yield login
        finally:
            await owner.acl_deluser(name)


@contextlib.asynccontextmanager
async def postgres_worker(
    login: Login, secret: Secret
) -> AsyncIterator[Callable[[], Awaitable[object]]]:
    """Return work for one user, over a pool of few connections."""
    engine = open_engine(
        login.url.replace("postgresql://", "postgresql+asyncpg://"),
        pool_size=AT_ONCE,
        pool_timeout_s=60,
        role=make_url(login.url).username or "",
        password=secret,
    )

    async def work() -> None:
        async with engine.connect() as connection:
            assert await connection.scalar(text("SELECT 1")) == 1
            # The next one logs in.
            await connection.invalidate()

    try:
        yield work
    finally:
        await engine.dispose()


@contextlib.asynccontextmanager
async def redis_worker(
    login: Login, secret: Secret
) -> AsyncIterator[Callable[[], Awaitable[object]]]:
    """Return work for one user, over a connection of its own."""
    turns = asyncio.Semaphore(AT_ONCE)

    async def work() -> None:
        async with turns, connect(login.url, connections=1, password=secret) as redis:
            assert await redis.ping()

    yield work


SERVERS = {
    "postgres": (postgres_login, postgres_worker),
    "redis": (redis_login, redis_worker),
}


async def work_through_rotations(
    settings: Settings, folder: Path, server: str, kind: type[Secret], *, users: int
) -> tuple[int, int]:
    """Let users work while the password is exchanged so often.

    Returns:
        How many pieces of work were done, and how many were refused.
    """
    done = refused = 0
    make_login, make_worker = SERVERS[server]
    async with make_login(settings, folder) as login:
        secret = kind(login.file)
        async with make_worker(login, secret) as work, asyncio.timeout(60):

            async def somebody_logs_in() -> None:
                # Who has a good secret waits for the second half. Others have all
                # tried when one more than can be under way was refused or let in.
                await asyncio.sleep(0.05)
                enough = done + refused + AT_ONCE + 1
                while kind is not Secret and done + refused < enough:  # noqa: ASYNC110  # the users log in
                    await asyncio.sleep(0.01)

            async def rotate() -> None:
                for number in range(ROTATIONS):
                    await login.rotate(
                        server_first=number % 2 == 0, between=somebody_logs_in
                    )
                    await secret.reload()

            async def user() -> None:
                nonlocal done, refused
                while True:
                    try:
                        await work()
                    except REFUSED:
                        refused += 1
                    else:
                        done += 1
                    if rotating.done():
                        return
                    await asyncio.sleep(0)

            rotating = asyncio.create_task(rotate())
            await asyncio.gather(rotating, *(user() for _ in range(users)))
        assert secret.current.number > ROTATIONS
    return done, refused


@pytest.mark.parametrize("server", SERVERS)
async def test_no_work_fails_for_a_new_password(
    settings: Settings, tmp_path: Path, server: str
) -> None:
    """A hundred users log in again and again: none is refused, whoever was first."""
    done, refused = await work_through_rotations(
        settings, tmp_path, server, Secret, users=USERS
    )

    assert refused == 0
    assert done >= USERS


@pytest.mark.power
@pytest.mark.parametrize("server", SERVERS)
async def test_new_password_without_grace_is_caught(
    settings: Settings, tmp_path: Path, server: str
) -> None:
    """A twin that shows what it has read and nothing else is refused in between."""
    _, refused = await work_through_rotations(
        settings, tmp_path, server, OnlyCurrent, users=10
    )

    assert refused > 0


@pytest.mark.parametrize("server", SERVERS)
async def test_wrong_password_is_told(
    settings: Settings, tmp_path: Path, server: str
) -> None:
    """A password that the server never accepts ends in its own refusal."""
    make_login, make_worker = SERVERS[server]
    async with make_login(settings, tmp_path) as login:
        login.file.write_text("wrong", encoding="ascii")
        secret = Secret(login.file, patience_s=(0.0,))
        async with make_worker(login, secret) as work:
            with pytest.raises(REFUSED):
                await work()


async def test_service_goes_on_with_new_passwords(
    settings: Settings, tmp_path: Path
) -> None:
    """The service itself, with both passwords in files: every answer is good."""
    async with (
        running(settings),
        postgres_login(settings, tmp_path) as database,
        redis_login(settings, tmp_path) as redis,
    ):
        owner = await asyncpg.connect(settings.database_url.get_secret_value())
        name = make_url(database.url).username
        await owner.execute(f"GRANT {SERVICE_ROLE} TO {name}")
        chosen = settings.model_copy(
            update={
                "database_url": SecretStr(database.url),
                "migration_database_url": settings.database_url,
                "redis_url": SecretStr(redis.url),
                "database_password_file": database.file,
                "redis_password_file": redis.file,
            }
        )
        async with running(chosen) as service, service.http() as http:
            visitors = await enrol(service, 10)
            statuses = set()
            for server_first in (True, False):
                await database.rotate(server_first=server_first)
                await redis.rotate(server_first=server_first)
                # Connections from before are closed, so all log in with the new one.
                await service.parts.engine.dispose()
                await service.parts.redis.connection_pool.disconnect()
                for path in ("/me", "/documents"):
                    answers = await asyncio.gather(
                        *(http.get(path, headers=each.header) for each in visitors)
                    )
                    statuses |= {answer.status_code for answer in answers}
        await owner.close()

    assert statuses == {200}
