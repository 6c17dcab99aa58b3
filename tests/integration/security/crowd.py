"""Users who are logged in already: rows and tokens, without the cost of their logins."""

from dataclasses import dataclass
from uuid import uuid4

from app.storage import Account, add_account
from tests.integration.app.service import Service

NO_HASH = "no password"


@dataclass(frozen=True)
class Visitor:
    """A user with one login.

    Attributes:
        session_id: The login: the family of its refresh tokens.
    """

    user_id: str
    username: str
    session_id: str
    access_token: str
    refresh_token: str

    @property
    def header(self) -> dict[str, str]:
        """What a request of the user carries."""
        return {"authorization": f"Bearer {self.access_token}"}


async def enrol(service: Service, users: int) -> list[Visitor]:
    """Return so many new users of a service, in one transaction."""
    async with service.parts.sessions.for_auth() as session:
        visitors = []
        for _ in range(users):
            user_id, username = str(uuid4()), f"user-{uuid4().hex}"
            await add_account(session, Account(user_id, username, NO_HASH))
            visitors.append((user_id, username))
        logins = [(user, name, str(uuid4())) for user, name in visitors]
        return [
            Visitor(
                user_id,
                username,
                session_id,
                service.parts.access_tokens.issue(user_id, session_id),
                await service.parts.refresh_tokens.issue(session, user_id, session_id),
            )
            for user_id, username, session_id in logins
        ]
