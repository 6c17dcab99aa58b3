"""L14: late result overwrites a newer run.

alice                           bob
await conversation.ask(f"question {user}")
self.runs += 1
run = self.runs
self.question = question
await external("call the model")
                                await conversation.ask(f"question {user}")
                                self.runs += 1
                                run = self.runs
                                self.question = question
                                await external("call the model")
                                if self.is_current(run):
                                return True
                                self.answer = f"answer to {question}"
if self.is_current(run):
return True
self.answer = f"answer to {question}"
-> question 1 shows answer to question 0
"""

from test_framework.catalogue.pattern import Area, Hosted, Pattern
from test_framework.catalogue.world import visits
from test_framework.explore import external


class _Conversation:
    """Shows the answer to the question that was asked last."""

    def __init__(self) -> None:
        self.question = ""
        self.answer = ""
        self.runs = 0

    def is_current(self, run: int) -> bool:  # noqa: ARG002  # compared by the twin
        return True

    async def ask(self, question: str) -> None:
        self.runs += 1
        run = self.runs
        self.question = question
        await external("call the model")
        if self.is_current(run):
            self.answer = f"answer to {question}"


class _NewestConversation(_Conversation):
    def is_current(self, run: int) -> bool:
        return run == self.runs


async def _ask_next(conversation: _Conversation, user: int) -> None:
    await conversation.ask(f"question {user}")


def _answer_fits(conversation: _Conversation) -> None:
    question, answer = conversation.question, conversation.answer
    assert answer == f"answer to {question}", f"{question} shows {answer}"


PATTERN = Pattern(
    id="L14",
    title="late result overwrites a newer run",
    mechanism=(
        "A slow run ends after the one that was started later and replaces its result."
    ),
    fix="Count runs and keep only what the newest brings.",
    areas=(Area.AGENT_STATE,),
    detectors=("explorer", "checkers"),
    source="https://cwe.mitre.org/data/definitions/362.html",
    vulnerable=visits(_Conversation, _ask_next, _answer_fits),
    safe=visits(_NewestConversation, _ask_next, _answer_fits),
    module=__name__,
    hosted=Hosted(shown=lambda one, _: (one.question, one.answer)),
)
