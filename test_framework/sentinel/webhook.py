"""Brings notices to a webhook: at least once, in order, over restarts and outages.

A notice stays in the stored outbox until the receiver has taken it, so a crash sends
it twice rather than never; its ``id`` tells. What a receiver refuses for its content is
given up, since it would block all that follow; anything else is tried again, with
pauses that double up to five minutes. The address may hold a secret and is never told.
"""

import asyncio
import json
import random
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

import httpx

from test_framework.core import UsageError
from test_framework.sentinel.alerts import Notice
from test_framework.sentinel.plain import to_plain
from test_framework.sentinel.state import Memory
from test_framework.sentinel.timing import Timekeeper

PAYLOAD_FORMAT = 1
MOST_WAITING = 1_000
TIMEOUT_S = 10.0
FIRST_PAUSE_S = 1.0
LONGEST_PAUSE_S = 300.0
_REFUSED = frozenset({400, 413, 415, 422})
"""Status codes that speak of the message and not of the receiver's condition."""


def payload(notice: Notice) -> dict[str, Any]:
    """Return a notice as the JSON that is posted; docs/sentinel.md describes it."""
    body: dict[str, Any] = to_plain(notice)
    for name in ("since", "at"):
        instant = datetime.fromtimestamp(body[name], UTC)
        body[name] = instant.isoformat(timespec="seconds")
    text = (
        f"[{notice.tier.upper()}] {notice.event}: {notice.alert} on {notice.target}: "
        f"{notice.claim}"
    )
    return {"format": PAYLOAD_FORMAT, "text": text, **body}


class Courier:
    """Empties the outbox of a memory.

    Args:
        url: The webhook.
        memory: Whose outbox it is; changed in place.
        client: Sends; the caller closes it.
        time: Instants and pauses.
        rng: Source of jitter.
        save: Stores the memory; an ``OSError`` of it is survived.
        say: Told sentences for the log.

    Raises:
        UsageError: The URL is not an http or https URL.
    """

    def __init__(  # its parts are put together in one place, the command line
        self,
        url: str,
        memory: Memory,
        *,
        client: httpx.AsyncClient,
        time: Timekeeper,
        rng: random.Random,
        save: Callable[[Memory], None],
        say: Callable[[str], None],
    ) -> None:
        parts = urlsplit(url)
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            message = (
                f"The webhook with scheme {parts.scheme!r} is no http or https URL. "
                "Pass --webhook https://host/path."
            )
            raise UsageError(message)
        self._url = url
        self._memory = memory
        self._client = client
        self._time = time
        self._rng = rng
        self._save = save
        self._say = say
        self._failures = 0
        self._woken = asyncio.Event()

    def wake(self) -> None:
        """Notices were put into the outbox; too many of them are thinned out."""
        outbox = self._memory.outbox
        while len(outbox) > MOST_WAITING:
            # Who missed a first message needs it; a repetition says nothing new.
            spare = next((n for n in outbox if n.event == "repeated"), outbox[0])
            outbox.remove(spare)
            self._memory.count("webhook_dropped")
        self._woken.set()

    async def run(self) -> None:
        """Deliver what is in the outbox, and what comes; ends by cancellation."""
        while True:
            await self._empty()
            self._woken.clear()
            if not self._memory.outbox:
                await self._woken.wait()

    async def flush(self, seconds: float) -> None:
        """Deliver what is left, for so long at most; what remains stays stored."""
        try:
            async with asyncio.timeout(seconds):
                await self._empty()
        except TimeoutError:
            count = len(self._memory.outbox)
            self._say(f"Messages that wait for the next start: {count}.")

    async def _empty(self) -> None:
        while self._memory.outbox:
            notice = self._memory.outbox[0]
            if await self._deliver(notice):
                self._failures = 0
                # By identity: the outbox may have been thinned out meanwhile.
                self._memory.outbox[:] = [
                    one for one in self._memory.outbox if one is not notice
                ]
                self._store()
            else:
                await self._time.sleep(self._pause_s())

    async def _deliver(self, notice: Notice) -> bool:
        """Return whether the notice is done with."""
        try:
            answer = await self._client.post(
                self._url,
                # ASCII: what httpx makes of text that is no text would raise.
                content=json.dumps(payload(notice)),
                headers={"content-type": "application/json"},
                timeout=TIMEOUT_S,
            )
        except (httpx.HTTPError, httpx.InvalidURL) as exc:
            self._fail(type(exc).__name__)
            return False
        if answer.is_success:
            if self._failures:
                self._say("The webhook takes messages again.")
            return True
        if answer.status_code in _REFUSED:
            self._memory.count("webhook_refused")
            self._say(
                f"The webhook refuses the message about {notice.alert!r} (HTTP "
                f"{answer.status_code}); it is given up. Correct the receiver."
            )
            return True
        self._fail(f"HTTP {answer.status_code}")
        return False

    def _fail(self, reason: str) -> None:
        self._failures += 1
        self._memory.count("webhook_failures")
        if self._failures == 1:
            self._say(
                f"The webhook does not take messages ({reason}); "
                f"{len(self._memory.outbox)} wait and are tried again."
            )

    def _pause_s(self) -> float:
        longest = min(
            LONGEST_PAUSE_S, FIRST_PAUSE_S * 2.0 ** min(self._failures - 1, 16)
        )
        return longest * self._rng.uniform(0.5, 1.0)

    def _store(self) -> None:
        try:
            self._save(self._memory)
        except OSError:  # the watch says so after each round
            self._memory.count("state_save_failures")
