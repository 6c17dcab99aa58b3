"""R01: cache key without the tenant.

alice                           bob
got = await answers.ask(NAMES[user], "what do I earn?")
key = self.key(user, question)
return f"answer:{question}"
cached = await self.redis.get(key)
if cached is not None:
await external("call the model")
answer = f"your salary, {user}"
await self.redis.set(key, answer)
return answer
return got
                                got = await answers.ask(NAMES[user], "what do I earn?")
                                key = self.key(user, question)
                                return f"answer:{question}"
                                cached = await self.redis.get(key)
                                if cached is not None:
                                return str(cached)
-> bob is told: your salary, alice
"""

from test_framework.catalogue.pattern import ANY_ORDER, Area, Hosted, Pattern
from test_framework.catalogue.world import NAMES, Store, visits
from test_framework.explore import external


class _Answers:
    """Answers of a model, cached in Redis by the question."""

    def __init__(self) -> None:
        self.redis = Store()

    def key(self, user: str, question: str) -> str:  # noqa: ARG002  # the twin uses it
        return f"answer:{question}"

    async def ask(self, user: str, question: str) -> str:
        key = self.key(user, question)
        cached = await self.redis.get(key)
        if cached is not None:
            return str(cached)
        await external("call the model")
        answer = f"your salary, {user}"
        await self.redis.set(key, answer)
        return answer


class _PartitionedAnswers(_Answers):
    def key(self, user: str, question: str) -> str:
        return f"{user}:answer:{question}"


async def _ask(answers: _Answers, user: int) -> str:
    got = await answers.ask(NAMES[user], "what do I earn?")
    assert got == f"your salary, {NAMES[user]}", f"{NAMES[user]} is told: {got}"
    return got


PATTERN = Pattern(
    id="R01",
    title="cache key without the tenant",
    mechanism=(
        "Answers are cached by the question alone, so a user gets what was found for "
        "another who asked the same."
    ),
    fix="Begin the key with the caller, as the partition that nobody leaves.",
    areas=(Area.USER_CONTEXT, Area.AGENT_STATE),
    detectors=("explorer", "swarm", "timing"),
    source="https://github.com/vllm-project/semantic-router/issues/1448",
    vulnerable=visits(_Answers, _ask),
    safe=visits(_PartitionedAnswers, _ask),
    module=__name__,
    needs=ANY_ORDER,
    hosted=Hosted(),
)
