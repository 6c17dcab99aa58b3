"""B13: consumer puts into its own full queue.

alice                bob                  worker
                                          while True:
                                          has_links, job = await self.pages.get()
                     job: Job = asyncio.get_running_loop().create_future()
                     await crawler.pages.put((True, job))
                     await job
                                          await external("GET page")
job: Job = asyncio.get_running_loop().create_future()
await crawler.pages.put((True, job))
await job
                                          if has_links:
                                          await self.follow(job)
                                          await self.pages.put((False, job))
-> Deadlock: nothing can go; main, work[0], alice, bob wait for ever.
"""

import asyncio

from test_framework.catalogue.pattern import Area, Hosted, Pattern
from test_framework.catalogue.queues import Job
from test_framework.catalogue.world import visits
from test_framework.explore import external


class _Crawler:
    """Fetches pages, and the pages that they link to, over one bounded queue."""

    def __init__(self) -> None:
        self.pages: asyncio.Queue[tuple[bool, Job]] = asyncio.Queue(maxsize=1)
        self.worker = asyncio.get_running_loop().create_task(self.work())

    async def follow(self, job: Job) -> None:
        await self.pages.put((False, job))

    async def work(self) -> None:
        while True:
            has_links, job = await self.pages.get()
            await external("GET page")
            if has_links:
                await self.follow(job)
            else:
                job.set_result("text")


class _SeparateCrawler(_Crawler):
    async def follow(self, job: Job) -> None:
        await external("GET page")
        job.set_result("text")


async def _crawl(crawler: _Crawler, user: int) -> None:  # noqa: ARG001  # any user
    job: Job = asyncio.get_running_loop().create_future()
    await crawler.pages.put((True, job))
    await job


PATTERN = Pattern(
    id="B13",
    title="consumer puts into its own full queue",
    mechanism=("The only consumer waits for room in the queue that it should empty."),
    fix="Keep what the consumer makes itself out of the bounded queue.",
    areas=(Area.AGENT_STATE,),
    detectors=("explorer", "locks"),
    source="https://cwe.mitre.org/data/definitions/833.html",
    vulnerable=visits(_Crawler, _crawl),
    safe=visits(_SeparateCrawler, _crawl),
    kind="deadlock",
    module=__name__,
    hosted=Hosted(),
)
