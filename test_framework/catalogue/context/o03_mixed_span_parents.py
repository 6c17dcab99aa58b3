"""O03: span under the parent of another run.

alice                           bob
                                await tracer.run(NAMES[user])
                                self.open = f"run of {user}"
                                await external("plan")
await tracer.run(NAMES[user])
self.open = f"run of {user}"
await external("plan")
                                self.parents.append((f"tool of {user}", self.open))
self.parents.append((f"tool of {user}", self.open))
-> the tool of bob is shown under the run of alice
"""

from test_framework.catalogue.pattern import Area, Hosted, Pattern
from test_framework.catalogue.world import NAMES, visits
from test_framework.explore import external


class _Tracer:
    """Knows the span that is open."""

    def __init__(self) -> None:
        self.open = ""
        self.parents: list[tuple[str, str]] = []

    async def run(self, user: str) -> None:
        self.open = f"run of {user}"
        await external("plan")
        self.parents.append((f"tool of {user}", self.open))


class _PassingTracer(_Tracer):
    async def run(self, user: str) -> None:
        span = f"run of {user}"
        await external("plan")
        self.parents.append((f"tool of {user}", span))


async def _run(tracer: _Tracer, user: int) -> None:
    await tracer.run(NAMES[user])


def _parents_of(tracer: _Tracer, user: int) -> list[str]:
    return [span for child, span in tracer.parents if child == f"tool of {NAMES[user]}"]


def _spans_fit(tracer: _Tracer) -> None:
    for child, parent in tracer.parents:
        owner = child.removeprefix("tool of ")
        assert parent == f"run of {owner}", f"the {child} is shown under the {parent}"


PATTERN = Pattern(
    id="O03",
    title="span under the parent of another run",
    mechanism=(
        "The tracer keeps the open span in an attribute, so a child span that starts "
        "after an await hangs under the run that opened its span last."
    ),
    fix=("Keep the open span in a ContextVar, or pass it along."),
    areas=(Area.USER_CONTEXT, Area.AGENT_STATE),
    detectors=("explorer", "access", "swarm"),
    source="https://github.com/getsentry/sentry-python/issues/4718",
    vulnerable=visits(_Tracer, _run, _spans_fit),
    safe=visits(_PassingTracer, _run, _spans_fit),
    module=__name__,
    hosted=Hosted(shown=_parents_of),
)
