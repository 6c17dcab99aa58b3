"""Pipelines around a language model: breakers, batchers, streams, budgets, late results."""

import asyncio
from collections.abc import Callable

from test_framework.catalogue.pattern import Pattern
from test_framework.catalogue.world import NAMES, visits
from test_framework.explore import external


class _Breaker:
    """After an outage one call at a time may probe the provider."""

    def __init__(self) -> None:
        self.state = "open"
        self.probes = 0

    def admit(self) -> bool:
        return self.state in {"open", "closed"}

    async def call(self) -> None:
        if not self.admit():
            return
        if self.state != "closed":
            self.probes += 1
            assert self.probes == 1, "the provider is run over while it recovers"
        await external("call the model")
        self.state = "closed"


class _ProbingBreaker(_Breaker):
    def admit(self) -> bool:
        if self.state == "probing":
            return False
        if self.state == "open":
            self.state = "probing"
        return True


async def _call(breaker: _Breaker, user: int) -> None:  # noqa: ARG001  # any user
    await breaker.call()


HALF_OPEN = Pattern(
    id="L03",
    title="circuit breaker half-open stampede",
    summary=(
        "All callers see that the breaker may try again, and all of them do. Mark the "
        "probe before the first await."
    ),
    source="https://github.com/safe-global/safe-client-gateway/pull/3442",
    vulnerable=visits(_Breaker, _call),
    safe=visits(_ProbingBreaker, _call),
)


class _Batcher:
    """Sends the prompts of two users together; the model answers as it gets ready."""

    def __init__(self) -> None:
        self.prompts: list[str] = []
        self.waiters: list[asyncio.Future[str]] = []
        self.answers: list[str] = []

    async def infer(self, prompt: str) -> str:
        await external("the model answers")
        self.answers.append(f"answer to {prompt}")
        return f"answer to {prompt}"

    async def run(self, prompts: list[str]) -> list[str]:
        await asyncio.gather(*(self.infer(prompt) for prompt in prompts))
        return self.answers

    async def ask(self, prompt: str) -> str:
        waiter: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self.prompts.append(prompt)
        self.waiters.append(waiter)
        if len(self.prompts) == 2:
            for waiting, answer in zip(
                self.waiters, await self.run(self.prompts), strict=True
            ):
                waiting.set_result(answer)
        return await waiter


class _IdBatcher(_Batcher):
    async def run(self, prompts: list[str]) -> list[str]:
        return list(await asyncio.gather(*(self.infer(prompt) for prompt in prompts)))


async def _ask(batcher: _Batcher, user: int) -> None:
    got = await batcher.ask(NAMES[user])
    assert got == f"answer to {NAMES[user]}", f"{NAMES[user]} got {got}"


MISALIGNED_BATCH = Pattern(
    id="L04",
    title="results of a batch reach the wrong callers",
    summary=(
        "Answers are collected as they come and zipped to the callers as they asked. "
        "Match them by the prompt that they answer."
    ),
    source="https://github.com/inferencerlabs/inferencer-feedback/issues/127",
    vulnerable=visits(_Batcher, _ask),
    safe=visits(_IdBatcher, _ask),
)


class _Embedder:
    """Batches texts: the second text or a timer sends the batch."""

    def __init__(self) -> None:
        self.batch: list[tuple[str, asyncio.Future[str]]] = []

    async def flush(self) -> None:
        batch = list(self.batch)
        await external("POST /embeddings")
        for text, waiter in batch:
            waiter.set_result(f"vector of {text}")
        self.batch.clear()

    async def embed(self, text: str) -> str:
        waiter: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self.batch.append((text, waiter))
        if len(self.batch) < 2:
            await asyncio.wait({waiter}, timeout=1)
        if not waiter.done():
            await self.flush()
        return await waiter


class _SwappingEmbedder(_Embedder):
    async def flush(self) -> None:
        batch, self.batch = self.batch, []
        await external("POST /embeddings")
        for text, waiter in batch:
            waiter.set_result(f"vector of {text}")


async def _embed(embedder: _Embedder, user: int) -> None:
    got = await embedder.embed(NAMES[user])
    assert got == f"vector of {NAMES[user]}", f"{NAMES[user]} got {got}"


DOUBLE_FLUSH = Pattern(
    id="L05",
    title="batch flushed by its timer and by its size",
    summary=(
        "A batch that is being sent still takes texts and is sent again; one flush "
        "answers what the other will answer. Swap the list before the await."
    ),
    source="https://cwe.mitre.org/data/definitions/362.html",
    vulnerable=visits(_Embedder, _embed),
    safe=visits(_SwappingEmbedder, _embed),
    kind="exception",
)


class _Streaming:
    """Tokens of all streams come over one queue to the response that asks next."""

    def __init__(self) -> None:
        self.queue: asyncio.Queue[str] = asyncio.Queue()

    def queue_of(self, user: str) -> "asyncio.Queue[str]":  # noqa: ARG002  # of each in the twin
        return self.queue

    async def generate(self, user: str) -> None:
        for number in range(2):
            await external("next token")
            self.queue_of(user).put_nowait(f"{user} {number}")

    async def respond(self, user: str) -> list[str]:
        model = asyncio.create_task(self.generate(user))
        tokens = [await self.queue_of(user).get() for _ in range(2)]
        await model
        return tokens


class _QueuePerStream(_Streaming):
    def __init__(self) -> None:
        super().__init__()
        self.queues: dict[str, asyncio.Queue[str]] = {}

    def queue_of(self, user: str) -> "asyncio.Queue[str]":
        return self.queues.setdefault(user, asyncio.Queue())


async def _chat(streaming: _Streaming, user: int) -> None:
    name = NAMES[user]
    got = await streaming.respond(name)
    assert got == [f"{name} 0", f"{name} 1"], f"{name} got {got}"


MIXED_STREAMS = Pattern(
    id="L06",
    title="chunks of two streams interleave",
    summary=(
        "Two responses take tokens from one queue, so each shows words of the other. "
        "Use a queue for each stream."
    ),
    source="https://cwe.mitre.org/data/definitions/488.html",
    vulnerable=visits(_Streaming, _chat),
    safe=visits(_QueuePerStream, _chat),
)


class _Budget:
    """Tokens that a tenant may use; a call costs what it turns out to cost."""

    def __init__(self) -> None:
        self.left = 100

    async def complete(self) -> None:
        if self.left >= 60:
            await external("call the model")
            self.left -= 60


class _ReservingBudget(_Budget):
    async def complete(self) -> None:
        if self.left >= 60:
            self.left -= 60
            await external("call the model")


async def _complete(budget: _Budget, user: int) -> None:  # noqa: ARG001  # any user of the tenant
    await budget.complete()


def _not_overdrawn(budget: _Budget) -> None:
    assert budget.left >= 0, f"{budget.left} tokens are left"


OVERDRAWN_BUDGET = Pattern(
    id="L09",
    title="token budget overdrawn",
    summary=(
        "The budget is checked before the call and booked after it, so that parallel "
        "calls all pass. Reserve first, settle later."
    ),
    source="https://cwe.mitre.org/data/definitions/770.html",
    vulnerable=visits(_Budget, _complete, _not_overdrawn),
    safe=visits(_ReservingBudget, _complete, _not_overdrawn),
)


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


async def _run_tools(tools: _Tools, user: int) -> None:  # noqa: ARG001  # one user
    balances = await tools.run(["alice", "bob"])
    assert balances == ["balance of alice", "balance of bob"], "swapped"


SWAPPED_TOOLS = Pattern(
    id="L10",
    title="tool results matched by their order",
    summary=(
        "Parallel tool calls end in any order and are taken for the calls in theirs. "
        "Match results by the id of the call."
    ),
    source="https://platform.openai.com/docs/guides/function-calling",
    vulnerable=visits(_Tools, _run_tools, users=1),
    safe=visits(_NumberedTools, _run_tools, users=1),
)


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


LATE_RESULT = Pattern(
    id="L14",
    title="late result overwrites a newer run",
    summary=(
        "A slow run ends after the one that was started later and replaces its result. "
        "Count runs and keep only what the newest brings."
    ),
    source="https://cwe.mitre.org/data/definitions/362.html",
    vulnerable=visits(_Conversation, _ask_next, _answer_fits),
    safe=visits(_NewestConversation, _ask_next, _answer_fits),
)


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


async def _talk(memory: _Memory, user: int) -> None:
    await memory.chat(NAMES[user])


def _pairs_fit(memory: _Memory) -> None:
    turns = memory.history
    for question, answer in zip(turns[::2], turns[1::2], strict=False):
        name = question.removeprefix("question of ")
        assert answer == f"answer to {name}", "the model reads the words of another"


SHARED_MEMORY = Pattern(
    id="L01",
    title="turns of a shared history interleave",
    summary=(
        "A question is stored, the model is called, and the question of somebody else "
        "stands between it and its answer. Store both in one step."
    ),
    source="https://github.com/langchain-ai/langchain/issues/11650",
    vulnerable=visits(_Memory, _talk, _pairs_fit),
    safe=visits(_PairingMemory, _talk, _pairs_fit),
)


PATTERNS = (
    SHARED_MEMORY,
    HALF_OPEN,
    MISALIGNED_BATCH,
    DOUBLE_FLUSH,
    MIXED_STREAMS,
    OVERDRAWN_BUDGET,
    SWAPPED_TOOLS,
    LATE_RESULT,
)
