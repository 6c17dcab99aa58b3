"""Messages of a thread: one order, whoever reads it and whenever."""

import asyncio
from uuid import uuid4

import pytest

from app.settings import Settings
from app.storage import add_message, list_messages
from tests.integration.app.service import Service, running

pytestmark = [pytest.mark.integration, pytest.mark.slow]


async def _add(service: Service, user_id: str, thread_id: str, content: str) -> None:
    async with service.context(user_id) as context:
        await add_message(
            context, thread_id, message_id=str(uuid4()), role="user", content=content
        )


async def _read(service: Service, user_id: str, thread_id: str) -> list[str]:
    async with service.context(user_id) as context:
        messages = await list_messages(context, thread_id, limit=100)
    return [message.content for message in messages or []]


async def test_message_never_appears_before_one_that_was_read(
    settings: Settings,
) -> None:
    """What is appended while another append is under way comes after it, and waits.

    A position drawn before the commit let [1 3 5] be read and then [1 3 4 5]: a list
    that no order of appends explains. An audit found it (``not-linearizable``).
    """
    async with running(settings) as service, service.member() as ada:
        thread = await ada.new("/threads", title="t")
        async with service.context(ada.user_id) as context:
            await add_message(
                context, thread, message_id=str(uuid4()), role="user", content="first"
            )
            second = asyncio.create_task(_add(service, ada.user_id, thread, "second"))
            await asyncio.wait({second}, timeout=0.3)
            # In a task of its own: one that has a connection asks for no second one.
            reading = asyncio.create_task(_read(service, ada.user_id, thread))
            seen_early = await reading
        await second

        assert seen_early == []
        assert await _read(service, ada.user_id, thread) == ["first", "second"]
