"""The audit trail: who did what, written in the transaction that did it.

An action that is rolled back leaves no entry, and an action that is committed cannot
lack one. Rows can be added and read by their user; nobody may change them. As the
transaction commits, the database links each to the one before in the user's chain
(migration 0004), so it shows if somebody did: see ``app.storage.chain``.
"""

from dataclasses import dataclass, field, replace

from sqlalchemy import insert
from sqlalchemy.ext.asyncio import AsyncSession

from app.context import ContextError
from app.storage.tables import audit_log


@dataclass(frozen=True, slots=True)
class UserAuditTrail:
    """The trail of one user's request."""

    user_id: str
    request_id: str
    session: AsyncSession | None = field(default=None, repr=False)

    def bound_to(self, session: AsyncSession | None) -> "UserAuditTrail":
        """Return the same trail writing through another session."""
        return replace(self, session=session)

    async def record(self, action: str, subject: str) -> None:
        """Write one action within the current transaction.

        Raises:
            ContextError: The trail has no session.
        """
        if self.session is None:
            message = f"{action!r} cannot be recorded outside a transaction."
            raise ContextError(message)
        await self.session.execute(
            insert(audit_log).values(
                user_id=self.user_id,
                request_id=self.request_id,
                action=action,
                subject=subject,
            )
        )
