"""B02: worker dies silently.

alice                           worker
                                while True:
                                await self.render(await self.jobs.get())
job: Job = asyncio.get_running_loop().create_future()
renderer.jobs.put_nowait(job)
with contextlib.suppress(ConnectionError):
await job
                                await external("render")
                                <- ConnectionResetError
-> Deadlock: nothing can go; main, alice wait for ever.
"""

import asyncio
import contextlib

from test_framework.catalogue.pattern import Area, Needs, Pattern
from test_framework.catalogue.queues import Job
from test_framework.catalogue.world import visits
from test_framework.explore import external


class _Renderer:
    """One worker renders what requests wait for."""

    def __init__(self) -> None:
        self.jobs: asyncio.Queue[Job] = asyncio.Queue()
        self.worker = asyncio.get_running_loop().create_task(self.work())

    async def render(self, job: Job) -> None:
        await external("render")
        if not job.done():
            job.set_result("picture")

    async def work(self) -> None:
        while True:
            await self.render(await self.jobs.get())


class _ReportingRenderer(_Renderer):
    async def render(self, job: Job) -> None:
        try:
            await super().render(job)
        except ConnectionError as exc:
            if not job.done():
                job.set_exception(exc)


async def _get_picture(renderer: _Renderer, user: int) -> None:  # noqa: ARG001  # any user
    job: Job = asyncio.get_running_loop().create_future()
    renderer.jobs.put_nowait(job)
    with contextlib.suppress(ConnectionError):  # answered with 502
        await job


PATTERN = Pattern(
    id="B02",
    title="worker dies silently",
    mechanism=(
        "An error of one job ends the worker, nobody looks at its task, and all later "
        "requests wait for ever."
    ),
    fix="Hand the error to the job.",
    areas=(Area.AGENT_STATE,),
    detectors=("explorer", "locks"),
    source="https://docs.python.org/3/library/asyncio-dev.html#detect-never-retrieved-exceptions",
    vulnerable=visits(_Renderer, _get_picture),
    safe=visits(_ReportingRenderer, _get_picture),
    needs=Needs(errors=("ConnectionResetError",)),
    kind="deadlock",
    module=__name__,
)
