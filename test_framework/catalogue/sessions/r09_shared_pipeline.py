"""R09: shared pipeline object.

alice                           bob
                                loaded = await pipelines.load(NAMES[user])
                                pipeline = self.pipeline()
                                return self.queued
                                pipeline.append(f"name of {user}")
                                await external("look up the shard")
loaded = await pipelines.load(NAMES[user])
pipeline = self.pipeline()
return self.queued
pipeline.append(f"name of {user}")
await external("look up the shard")
                                pipeline.append(f"mail of {user}")
                                sent = list(pipeline)
                                pipeline.clear()
                                await external("EXEC")
pipeline.append(f"mail of {user}")
sent = list(pipeline)
pipeline.clear()
await external("EXEC")
                                return sent
return sent
-> alice got ['mail of alice']
"""

from test_framework.catalogue.pattern import Area, Hosted, Pattern
from test_framework.catalogue.world import NAMES, visits
from test_framework.explore import external


class _Pipelines:
    """One pipeline object for the application: queue commands, then execute."""

    def __init__(self) -> None:
        self.queued: list[str] = []

    def pipeline(self) -> list[str]:
        return self.queued

    async def load(self, user: str) -> list[str]:
        pipeline = self.pipeline()
        pipeline.append(f"name of {user}")
        await external("look up the shard")
        pipeline.append(f"mail of {user}")
        sent = list(pipeline)
        pipeline.clear()
        await external("EXEC")
        return sent


class _PipelinePerCall(_Pipelines):
    def pipeline(self) -> list[str]:
        return []


async def _load_own(pipelines: _Pipelines, user: int) -> list[str]:
    loaded = await pipelines.load(NAMES[user])
    assert loaded == [f"name of {NAMES[user]}", f"mail of {NAMES[user]}"], (
        f"{NAMES[user]} got {loaded}"
    )
    return loaded


PATTERN = Pattern(
    id="R09",
    title="shared pipeline object",
    mechanism=(
        "Commands of two users are queued in one pipeline and executed by whoever comes "
        "first, who gets the results of both."
    ),
    fix="Make a pipeline for each call.",
    areas=(Area.DATABASE_SESSION,),
    detectors=("explorer", "access", "swarm"),
    source="https://redis.io/docs/latest/develop/using-commands/pipelining/",
    vulnerable=visits(_Pipelines, _load_own),
    safe=visits(_PipelinePerCall, _load_own),
    module=__name__,
    hosted=Hosted(),
)
