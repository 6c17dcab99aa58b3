"""Twins of the check whether a login goes on."""

from sqlalchemy.ext.asyncio import AsyncSession

from app.storage import RefreshTokens


class SignatureOnly(RefreshTokens):
    """Trusts the signature: a token lives until it expires, as it often does."""

    async def is_live(self, session: AsyncSession, family_id: str) -> bool:
        del session, family_id
        return True


class Remembering(RefreshTokens):
    """Asks once per login and process, so what another worker ended lives on here.

    A permission cache that outlives the change (the catalogue's R11).
    """

    def __init__(self, *, lifetime_s: int) -> None:
        super().__init__(lifetime_s=lifetime_s)
        self._known: dict[str, bool] = {}

    async def is_live(self, session: AsyncSession, family_id: str) -> bool:
        if family_id not in self._known:
            self._known[family_id] = await super().is_live(session, family_id)
        return self._known[family_id]
