"""What auditors see: whether the audit log is sound, and what was refused."""

from fastapi import APIRouter
from pydantic import BaseModel

from app.api.dependencies import PartsOf, Plain, Work
from app.api.openapi import answers
from app.api.schemas import Limit
from app.security import FlawKind, Permission
from app.storage import (
    RefusedInMinute,
    Verification,
    list_refusals,
    read_authority,
    verify_audit,
)

router = APIRouter(prefix="/audit", tags=["audit"], responses=answers(403))


class FirstFlaw(BaseModel):
    """The first wrong entry of a chain; of the chain of anchors without a user."""

    kind: FlawKind
    user_id: str
    seq: int
    row: int | None


class AuditVerified(BaseModel):
    """The outcome; ``anchor`` is for keeping elsewhere."""

    is_sound: bool
    chains: int
    entries: int
    anchor: str | None
    flaws: list[FirstFlaw]

    @classmethod
    def of(cls, found: Verification) -> "AuditVerified":
        """Return an outcome as it is shown."""
        newest = found.anchor and f"{found.anchor[0]}:{found.anchor[1].hex()}"
        return cls(
            is_sound=not found.flaws,
            chains=found.chains,
            entries=found.entries,
            anchor=newest,
            flaws=[
                FirstFlaw(
                    kind=flaw.kind,
                    user_id=flaw.user_id,
                    seq=flaw.seq,
                    row=flaw.entry_id,
                )
                for flaw in found.flaws
            ],
        )


@router.get("/verification")
async def get_verification(context: Plain, parts: PartsOf) -> AuditVerified:
    """Verify the audit log of all users, from its first entry to its last."""
    async with parts.sessions.for_audit(context.user_id) as session:
        # The roles are in the snapshot that is verified: nothing needs to be held.
        reading = context.child(session=session)
        authority = await read_authority(reading, parts.policies, is_held=False)
        authority.require(Permission.VERIFY_AUDIT)
        return AuditVerified.of(await verify_audit(session, parts.anchor_key))


@router.get("/refusals")
async def get_refusals(
    context: Work, parts: PartsOf, limit: Limit = 100
) -> list[RefusedInMinute]:
    """List what was refused of late: bad tokens and passwords, by minute and source."""
    return await list_refusals(context, parts.policies, limit=limit)
