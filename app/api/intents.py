"""Intents: what a user wants of its node sets, in words; controllers see to it."""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Header, Response

from app.api.dependencies import PartsOf, Work
from app.api.openapi import answers
from app.api.problems import Problem, not_found
from app.api.schemas import Limit, NewIntent
from app.storage import (
    ConflictError,
    IdempotencyError,
    Intent,
    create_intent,
    delete_intent,
    find_intent,
    list_intents,
)

router = APIRouter(prefix="/intents", tags=["intents"])


@router.post("", status_code=202, responses=answers(409))
async def post_intent(
    new: NewIntent,
    context: Work,
    parts: PartsOf,
    response: Response,
    idempotency_key: Annotated[
        str | None, Header(pattern="^[!-~]+$", max_length=200)
    ] = None,
) -> Intent:
    """Submit an intent; one that is sent again under its Idempotency-Key is the same."""
    try:
        intent = await create_intent(
            context,
            intent_id=str(parts.new_id()),
            goal=new.goal,
            idempotency_key=idempotency_key,
        )
    except IdempotencyError as exc:
        raise Problem(409, f"{exc} Send a new key with new words.") from exc
    except ConflictError as exc:
        raise Problem(409, f"{exc} Send it again.") from exc
    response.headers["location"] = f"/intents/{intent.intent_id}"
    return intent


@router.get("")
async def get_intents(context: Work, limit: Limit = 100) -> list[Intent]:
    """List the newest intents."""
    return await list_intents(context, limit=limit)


@router.get("/{intent_id}")
async def get_intent(intent_id: UUID, context: Work) -> Intent:
    """Show an intent, and what became of it."""
    intent = await find_intent(context, str(intent_id))
    if intent is None:
        raise not_found("intent")
    return intent


@router.delete("/{intent_id}", status_code=204)
async def remove_intent(intent_id: UUID, context: Work) -> None:
    """Forget an intent; one that is pending is taken back, one that was applied stays so."""
    if not await delete_intent(context, str(intent_id)):
        raise not_found("intent")
