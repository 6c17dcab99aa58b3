"""L13: two conversations get one thread id.

alice                           bob
                                history = await threads.open(NAMES[user])
                                thread = self.new_id()
                                return len(self.histories) + 1
                                await external("INSERT thread")
history = await threads.open(NAMES[user])
thread = self.new_id()
return len(self.histories) + 1
await external("INSERT thread")
                                history = self.histories.setdefault(thread, [])
                                history.append(f"question of {user}")
                                await external("call the model")
history = self.histories.setdefault(thread, [])
history.append(f"question of {user}")
await external("call the model")
                                return history
return history
-> alice reads ['question of bob', 'question of alice']
"""

import itertools

from test_framework.catalogue.pattern import Area, Hosted, Pattern
from test_framework.catalogue.world import NAMES, visits
from test_framework.explore import external


class _Threads:
    """Histories of conversations, by their ids."""

    def __init__(self) -> None:
        self.histories: dict[int, list[str]] = {}

    def new_id(self) -> int:
        return len(self.histories) + 1

    async def open(self, user: str) -> list[str]:
        thread = self.new_id()
        await external("INSERT thread")
        history = self.histories.setdefault(thread, [])
        history.append(f"question of {user}")
        await external("call the model")
        return history


class _CountingThreads(_Threads):
    def __init__(self) -> None:
        super().__init__()
        self.ids = itertools.count(1)

    def new_id(self) -> int:
        return next(self.ids)


async def _open(threads: _Threads, user: int) -> list[str]:
    history = await threads.open(NAMES[user])
    assert history == [f"question of {NAMES[user]}"], f"{NAMES[user]} reads {history}"
    return history


PATTERN = Pattern(
    id="L13",
    title="two conversations get one thread id",
    mechanism=(
        "The id of a conversation is counted from those that are stored, and the "
        "store is awaited in between; two users write one history."
    ),
    fix=("Make an id that nobody else can make, before the first await."),
    areas=(Area.AGENT_STATE,),
    detectors=("explorer", "swarm", "checkers"),
    source="https://cwe.mitre.org/data/definitions/340.html",
    vulnerable=visits(_Threads, _open),
    safe=visits(_CountingThreads, _open),
    module=__name__,
    hosted=Hosted(),
)
