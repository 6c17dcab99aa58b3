"""B12: job carries the rights of yesterday.

alice                           bob
await (jobs.demote("alice") if user else jobs.export("alice"))
queued = self.roles[user]
await external("wait for a worker")
                                await (jobs.demote("alice") if user else jobs.export(...
                                await external("UPDATE role")
                                self.roles[user] = "guest"
if self.role(user, queued) == "administrator":
return queued
self.was_allowed.append(self.roles[user] == "administrator")
-> a guest has exported everything
"""

from test_framework.catalogue.pattern import Area, Pattern
from test_framework.catalogue.world import visits
from test_framework.explore import external


class _Jobs:
    """Runs exports in the background, for administrators."""

    def __init__(self) -> None:
        self.roles = {"alice": "administrator"}
        self.was_allowed: list[bool] = []

    def role(self, user: str, queued: str) -> str:  # noqa: ARG002  # the twin asks again
        return queued

    async def export(self, user: str) -> None:
        queued = self.roles[user]
        await external("wait for a worker")
        if self.role(user, queued) == "administrator":
            self.was_allowed.append(self.roles[user] == "administrator")

    async def demote(self, user: str) -> None:
        await external("UPDATE role")
        self.roles[user] = "guest"


class _AskingJobs(_Jobs):
    def role(self, user: str, queued: str) -> str:  # noqa: ARG002  # may be old
        return self.roles[user]


async def _export_or_demote(jobs: _Jobs, user: int) -> None:
    await (jobs.demote("alice") if user else jobs.export("alice"))


def _only_administrators(jobs: _Jobs) -> None:
    assert all(jobs.was_allowed), "a guest has exported everything"


PATTERN = Pattern(
    id="B12",
    title="job carries the rights of yesterday",
    mechanism=(
        "A job is queued with the roles that its user has, and it runs when they have "
        "been taken away."
    ),
    fix=("Queue the id of the user, and ask for the roles where the job runs."),
    areas=(Area.USER_CONTEXT, Area.AGENT_STATE),
    detectors=("explorer",),
    source="https://cwe.mitre.org/data/definitions/613.html",
    vulnerable=visits(_Jobs, _export_or_demote, _only_administrators),
    safe=visits(_AskingJobs, _export_or_demote, _only_administrators),
    module=__name__,
    beyond={
        "swarm": "an export that is under way while the right ends may be of before",
        "checkers": "an export that is under way while the right ends may be of before",
    },
)
