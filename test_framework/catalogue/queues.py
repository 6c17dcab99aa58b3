"""Queues and their workers: jobs that hang, are dropped, or are done for somebody else."""

import asyncio
import contextlib

from test_framework.catalogue.pattern import Needs, Pattern
from test_framework.catalogue.world import visits
from test_framework.explore import external

_Job = asyncio.Future[str]


class _Renderer:
    """One worker renders what requests wait for."""

    def __init__(self) -> None:
        self.jobs: asyncio.Queue[_Job] = asyncio.Queue()
        self.worker = asyncio.get_running_loop().create_task(self.work())

    async def render(self, job: _Job) -> None:
        await external("render")
        if not job.done():
            job.set_result("picture")

    async def work(self) -> None:
        while True:
            await self.render(await self.jobs.get())


class _ReportingRenderer(_Renderer):
    async def render(self, job: _Job) -> None:
        try:
            await super().render(job)
        except ConnectionError as exc:
            if not job.done():
                job.set_exception(exc)


async def _get_picture(renderer: _Renderer, user: int) -> None:  # noqa: ARG001  # any user
    job: _Job = asyncio.get_running_loop().create_future()
    renderer.jobs.put_nowait(job)
    with contextlib.suppress(ConnectionError):  # answered with 502
        await job


DEAD_WORKER = Pattern(
    id="B02",
    title="worker dies silently",
    summary=(
        "An error of one job ends the worker, nobody looks at its task, and all later "
        "requests wait for ever. Hand the error to the job."
    ),
    source="https://docs.python.org/3/library/asyncio-dev.html#detect-never-retrieved-exceptions",
    vulnerable=visits(_Renderer, _get_picture),
    safe=visits(_ReportingRenderer, _get_picture),
    needs=Needs(errors=("ConnectionResetError",)),
    kind="deadlock",
)


class _Exports:
    """Two workers empty a queue of exports."""

    def __init__(self) -> None:
        self.jobs: asyncio.Queue[str] = asyncio.Queue()
        self.jobs.put_nowait("export of alice")

    async def work(self) -> None:
        while not self.jobs.empty():
            await external("reserve memory")
            await self.jobs.get()


class _PatientExports(_Exports):
    async def work(self) -> None:
        with contextlib.suppress(asyncio.QueueEmpty):
            while True:
                self.jobs.get_nowait()
                await external("reserve memory")


async def _empty_queue(exports: _Exports, user: int) -> None:  # noqa: ARG001  # any worker
    await exports.work()


EMPTY_THEN_GET = Pattern(
    id="B05",
    title="queue asked whether it is empty, then awaited",
    summary=(
        "Two workers see the last job, one takes it, and the other waits for ever. Take "
        "it with get_nowait, which asks and takes in one step."
    ),
    source="https://docs.python.org/3/library/asyncio-queue.html#asyncio.Queue.get_nowait",
    vulnerable=visits(_Exports, _empty_queue),
    safe=visits(_PatientExports, _empty_queue),
    kind="deadlock",
)


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


DROPPED_AT_SHUTDOWN = Pattern(
    id="B06",
    title="shutdown drops accepted work",
    summary=(
        "The worker is cancelled while what was accepted still waits. Close the "
        "entrance, drain the queue, then stop the worker."
    ),
    source="https://github.com/fastapi/fastapi/issues/11143",
    vulnerable=visits(_Mailer, _send_or_stop, _accepted_is_sent),
    safe=visits(_DrainingMailer, _send_or_stop, _accepted_is_sent),
)


class _Reconciler:
    """Brings a workspace to what its owner wants; one pass at a time."""

    def __init__(self) -> None:
        self.wanted = self.actual = "public"
        self.is_running = False

    async def apply(self) -> None:
        wanted = self.wanted
        await external("PUT access rule")
        self.actual = wanted

    async def notify(self) -> None:
        if self.is_running:
            return
        self.is_running = True
        await self.apply()
        self.is_running = False


class _RepeatingReconciler(_Reconciler):
    async def notify(self) -> None:
        if self.is_running:
            return
        self.is_running = True
        while self.actual != self.wanted:
            await self.apply()
        self.is_running = False


async def _want(reconciler: _Reconciler, user: int) -> None:
    reconciler.wanted = ("team only", "private")[user]
    await reconciler.notify()


def _is_as_wanted(reconciler: _Reconciler) -> None:
    assert reconciler.actual == reconciler.wanted, "others still see it"


LOST_KEY = Pattern(
    id="B11",
    title="change dropped while its key is worked on",
    summary=(
        "A change that comes while its object is being reconciled is taken for done. "
        "Look again after each pass, or mark the key dirty."
    ),
    source="https://pkg.go.dev/k8s.io/client-go/util/workqueue",
    vulnerable=visits(_Reconciler, _want, _is_as_wanted),
    safe=visits(_RepeatingReconciler, _want, _is_as_wanted),
)


class _Crawler:
    """Fetches pages, and the pages that they link to, over one bounded queue."""

    def __init__(self) -> None:
        self.pages: asyncio.Queue[tuple[bool, _Job]] = asyncio.Queue(maxsize=1)
        self.worker = asyncio.get_running_loop().create_task(self.work())

    async def follow(self, job: _Job) -> None:
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
    async def follow(self, job: _Job) -> None:
        await external("GET page")
        job.set_result("text")


async def _crawl(crawler: _Crawler, user: int) -> None:  # noqa: ARG001  # any user
    job: _Job = asyncio.get_running_loop().create_future()
    await crawler.pages.put((True, job))
    await job


SELF_BLOCK = Pattern(
    id="B13",
    title="consumer puts into its own full queue",
    summary=(
        "The only consumer waits for room in the queue that it should empty. Keep what "
        "the consumer makes itself out of the bounded queue."
    ),
    source="https://cwe.mitre.org/data/definitions/833.html",
    vulnerable=visits(_Crawler, _crawl),
    safe=visits(_SeparateCrawler, _crawl),
    kind="deadlock",
)


PATTERNS = (
    DEAD_WORKER,
    EMPTY_THEN_GET,
    DROPPED_AT_SHUTDOWN,
    LOST_KEY,
    SELF_BLOCK,
)
