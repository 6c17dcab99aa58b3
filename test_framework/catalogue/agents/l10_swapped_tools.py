"""L10: tool results matched by their order.

alice                alice, task 2        alice, task 3
balances = await tools.run(["alice", "bob"])
calls = [self.call(number, account) for number, account in enumerate(accounts)]
return [(await done)[1] for done in asyncio.as_completed(calls)]
                     await external("run the tool")
                                          await external("run the tool")
                                          return number, f"balance of {account}"
                     return number, f"balance of {account}"
-> swapped
"""

import asyncio

from test_framework.catalogue.pattern import Area, Hosted, Pattern
from test_framework.catalogue.world import visits
from test_framework.explore import external


class _Tools:
    """Runs the tool calls of an answer in parallel and gives their results back."""

    async def call(self, number: int, account: str) -> tuple[int, str]:
        await external("run the tool")
        return number, f"balance of {account}"

    async def run(self, accounts: list[str]) -> list[str]:
        calls = [self.call(number, account) for number, account in enumerate(accounts)]
        return [(await done)[1] for done in asyncio.as_completed(calls)]


class _NumberedTools(_Tools):
    async def run(self, accounts: list[str]) -> list[str]:
        calls = [self.call(number, account) for number, account in enumerate(accounts)]
        results = [await done for done in asyncio.as_completed(calls)]
        return [result for _, result in sorted(results)]


async def _run_tools(tools: _Tools, user: int) -> list[str]:  # noqa: ARG001  # one user
    balances = await tools.run(["alice", "bob"])
    assert balances == ["balance of alice", "balance of bob"], "swapped"
    return balances


PATTERN = Pattern(
    id="L10",
    title="tool results matched by their order",
    mechanism=(
        "Parallel tool calls end in any order and are taken for the calls in theirs."
    ),
    fix="Match results by the id of the call.",
    areas=(Area.AGENT_STATE,),
    detectors=(
        "explorer",
        "checkers",
    ),
    source="https://platform.openai.com/docs/guides/function-calling",
    vulnerable=visits(_Tools, _run_tools, users=1),
    safe=visits(_NumberedTools, _run_tools, users=1),
    module=__name__,
    hosted=Hosted(),
    beyond={"swarm": "both accounts are of one user"},
)
