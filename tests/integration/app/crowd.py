"""Many users at once, made without hashing a hundred passwords."""

from dataclasses import dataclass
from uuid import uuid4

import asyncpg
from websockets.asyncio.client import connect

from tests.integration.app.service import Service

_ROWS = """
WITH given AS (SELECT * FROM unnest($1::uuid[], $2::uuid[]) AS given (user_id, family)),
known AS (INSERT INTO users (user_id, username, password_hash)
          SELECT user_id, user_id::text, '' FROM given)
INSERT INTO refresh_tokens (token_hash, user_id, family_id, expires_at)
SELECT sha256(family::text::bytea), user_id, family, now() + interval '1 hour' FROM given
"""


@dataclass(frozen=True)
class Guest:
    """A user with a login, as a token says it."""

    user_id: str
    session_id: str
    token: str

    def socket(self, service: Service, query: str = "") -> connect:
        """Return a WebSocket of the user, to enter."""
        return connect(
            service.base_url.replace("http", "ws", 1) + f"/ws{query}",
            additional_headers={"authorization": f"Bearer {self.token}"},
            compression=None,
            open_timeout=30,
            proxy=None,
        )


async def guests(service: Service, count: int) -> list[Guest]:
    """Return new users, each logged in."""
    ids = [(str(uuid4()), str(uuid4())) for _ in range(count)]
    url = service.parts.settings.owner_database_url.replace("+asyncpg", "")
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(
            _ROWS, [user_id for user_id, _ in ids], [family for _, family in ids]
        )
    finally:
        await connection.close()
    issue = service.parts.access_tokens.issue
    return [Guest(user_id, family, issue(user_id, family)) for user_id, family in ids]
