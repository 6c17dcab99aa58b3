"""B04: two workers claim one job.

alice                           bob
                                job = await jobs.claim(f"worker {user}")
                                await external("SELECT ... WHERE worker IS NULL")
job = await jobs.claim(f"worker {user}")
await external("SELECT ... WHERE worker IS NULL")
                                job = next((job for job, taken in self.table.items() ...
                                if job is not None:
                                await external("UPDATE")
job = next((job for job, taken in self.table.items() if not taken), None)
if job is not None:
await external("UPDATE")
                                self.table[job] = worker
                                return job
                                if job is not None:
                                jobs.done.append(job)
self.table[job] = worker
return job
if job is not None:
jobs.done.append(job)
-> the mail went out twice
"""

from test_framework.catalogue.pattern import Area, Hosted, Pattern
from test_framework.catalogue.world import visits
from test_framework.explore import external


class _Jobs:
    """Workers take the oldest job that nobody has."""

    def __init__(self) -> None:
        self.table: dict[str, str | None] = {"export for alice": None}
        self.done: list[str] = []

    async def claim(self, worker: str) -> str | None:
        await external("SELECT ... WHERE worker IS NULL")
        job = next((job for job, taken in self.table.items() if not taken), None)
        if job is not None:
            await external("UPDATE")
            self.table[job] = worker
        return job


class _LockingJobs(_Jobs):
    async def claim(self, worker: str) -> str | None:
        await external("UPDATE ... FOR UPDATE SKIP LOCKED RETURNING")
        job = next((job for job, taken in self.table.items() if not taken), None)
        if job is not None:
            self.table[job] = worker
        return job


async def _work(jobs: _Jobs, user: int) -> None:
    job = await jobs.claim(f"worker {user}")
    if job is not None:
        jobs.done.append(job)


def _done_once(jobs: _Jobs) -> None:
    assert jobs.done == ["export for alice"], "the mail went out twice"


PATTERN = Pattern(
    id="B04",
    title="two workers claim one job",
    mechanism="SELECT shows a free job to two workers, and both UPDATE it.",
    fix="Select and mark in one statement, FOR UPDATE SKIP LOCKED.",
    areas=(Area.DATABASE_SESSION,),
    detectors=("explorer", "checkers"),
    source="https://doi.org/10.1145/3514221.3526120",
    vulnerable=visits(_Jobs, _work, _done_once),
    safe=visits(_LockingJobs, _work, _done_once),
    module=__name__,
    hosted=Hosted(shown=lambda jobs, _: jobs.done),
)
