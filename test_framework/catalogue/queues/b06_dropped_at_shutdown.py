"""B06: shutdown drops accepted work.

alice                bob                  worker
                                          while True:
                                          mail = await self.mails.get()
if user:
mailer.accept("reset link of alice")
if self.is_open:
self.mails.put_nowait(mail)
self.accepted.append(mail)
                                          await external("SMTP")
                     if user:
                     await mailer.shut_down()
                     self.is_open = False
                     self.worker.cancel()
                     await asyncio.wait({mailer.worker})
-> accepted, and never sent
"""

import asyncio

from test_framework.catalogue.pattern import Area, Hosted, Pattern
from test_framework.catalogue.world import visits
from test_framework.explore import external


class _Mailer:
    """Accepts mails and sends them in the background until it is shut down."""

    def __init__(self) -> None:
        self.mails: asyncio.Queue[str] = asyncio.Queue()
        self.accepted: list[str] = []
        self.sent: list[str] = []
        self.is_open = True
        self.worker = asyncio.get_running_loop().create_task(self.work())

    async def work(self) -> None:
        while True:
            mail = await self.mails.get()
            await external("SMTP")
            self.sent.append(mail)
            self.mails.task_done()

    def accept(self, mail: str) -> None:
        if self.is_open:
            self.mails.put_nowait(mail)
            self.accepted.append(mail)

    async def shut_down(self) -> None:
        self.is_open = False
        self.worker.cancel()


class _DrainingMailer(_Mailer):
    async def shut_down(self) -> None:
        self.is_open = False
        await self.mails.join()
        self.worker.cancel()


async def _send_or_stop(mailer: _Mailer, user: int) -> None:
    if user:
        await mailer.shut_down()
        await asyncio.wait({mailer.worker})
    else:
        mailer.accept("reset link of alice")


def _accepted_is_sent(mailer: _Mailer) -> None:
    assert mailer.sent == mailer.accepted, "accepted, and never sent"


PATTERN = Pattern(
    id="B06",
    title="shutdown drops accepted work",
    mechanism="The worker is cancelled while what was accepted still waits.",
    fix="Close the entrance, drain the queue, then stop the worker.",
    areas=(Area.AGENT_STATE, Area.ENGINE_REGISTRY),
    detectors=("explorer", "checkers"),
    source="https://github.com/fastapi/fastapi/issues/11143",
    vulnerable=visits(_Mailer, _send_or_stop, _accepted_is_sent),
    safe=visits(_DrainingMailer, _send_or_stop, _accepted_is_sent),
    module=__name__,
    hosted=Hosted(shown=lambda mailer, _: (mailer.accepted, mailer.sent)),
)
