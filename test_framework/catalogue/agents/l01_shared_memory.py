"""L01: turns of a shared history interleave.

alice                           bob
                                await memory.chat(NAMES[user])
                                answer = self.ask(user)
                                self.history.append(f"question of {user}")
                                return self.history.append
                                await external("call the model")
await memory.chat(NAMES[user])
answer = self.ask(user)
self.history.append(f"question of {user}")
return self.history.append
await external("call the model")
                                answer(f"answer to {user}")
answer(f"answer to {user}")
-> the model reads the words of another
"""

from collections.abc import Callable
from itertools import pairwise

from test_framework.catalogue.pattern import Area, Hosted, Pattern
from test_framework.catalogue.world import NAMES, visits
from test_framework.explore import external


class _Memory:
    """History of a chat: a question is stored before its answer is there."""

    def __init__(self) -> None:
        self.history: list[str] = []

    def ask(self, user: str) -> Callable[[str], None]:
        self.history.append(f"question of {user}")
        return self.history.append

    async def chat(self, user: str) -> None:
        answer = self.ask(user)
        await external("call the model")
        answer(f"answer to {user}")


class _PairingMemory(_Memory):
    def ask(self, user: str) -> Callable[[str], None]:
        return lambda text: self.history.extend((f"question of {user}", text))


def _what_follows(memory: _Memory, user: int) -> str | None:
    return dict(pairwise(memory.history)).get(f"question of {NAMES[user]}")


async def _talk(memory: _Memory, user: int) -> None:
    await memory.chat(NAMES[user])


def _pairs_fit(memory: _Memory) -> None:
    turns = memory.history
    for question, answer in zip(turns[::2], turns[1::2], strict=False):
        name = question.removeprefix("question of ")
        assert answer == f"answer to {name}", "the model reads the words of another"


PATTERN = Pattern(
    id="L01",
    title="turns of a shared history interleave",
    mechanism=(
        "A question is stored, the model is called, and the question of somebody else "
        "stands between it and its answer."
    ),
    fix="Store both in one step.",
    areas=(Area.AGENT_STATE,),
    detectors=("explorer", "swarm"),
    source="https://github.com/langchain-ai/langchain/issues/11650",
    vulnerable=visits(_Memory, _talk, _pairs_fit),
    safe=visits(_PairingMemory, _talk, _pairs_fit),
    module=__name__,
    hosted=Hosted(shown=_what_follows),
)
