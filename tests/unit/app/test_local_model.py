"""The local planner: real lookups first, then a note, then a summary."""

from app.agents import STANDARD_TOOLS
from app.llm import ChatMessage, LocalModel, Reply, ToolSpec
from app.llm.local import keywords

SPECS = [tool.spec for tool in STANDARD_TOOLS]


async def run(goal: str, tools: list[ToolSpec], output: str) -> list[Reply]:
    """Return the replies of a whole conversation whose tools all answer ``output``."""
    model, replies = LocalModel(), list[Reply]()
    conversation = [ChatMessage("user", goal)]
    while not replies or replies[-1].tool_calls:
        reply = await model.complete(conversation, tools=tools)
        replies.append(reply)
        conversation.append(ChatMessage("assistant", reply.content, reply.tool_calls))
        conversation += [
            ChatMessage("tool", output, call_id=call.call_id)
            for call in reply.tool_calls
        ]
    return replies


async def test_planner_looks_up_notes_and_sums_up() -> None:
    """The planner uses each tool once, in order, and ends with text."""
    replies = await run("Find CANARY77 in my documents", SPECS, "found CANARY99")

    used = [[call.name for call in reply.tool_calls] for reply in replies]
    assert used == [["search_documents", "read_thread"], ["write_note"], []]
    assert "CANARY77" in replies[-1].content
    assert "CANARY99" in replies[-1].content
    assert "CANARY99" in replies[1].tool_calls[0].arguments["text"]


async def test_planner_searches_words_of_goal() -> None:
    """The search carries the goal's own words without the filler."""
    replies = await run("please find all about CANARY77", SPECS, "")

    assert replies[0].tool_calls[0].arguments == {"query": "CANARY77"}


async def test_planner_without_tools_answers_at_once() -> None:
    """With nothing to use the planner answers in its first turn."""
    replies = await run("hello there", [], "")

    assert [reply.content for reply in replies] == ["Goal: hello there"]


async def test_planner_keeps_nothing_between_conversations() -> None:
    """One model object serving two users gives each only the own words."""
    model = LocalModel()
    tools: list[ToolSpec] = []

    await model.complete([ChatMessage("user", "ADASECRET")], tools=tools)
    reply = await model.complete([ChatMessage("user", "bob")], tools=tools)

    assert "ADASECRET" not in reply.content


def test_keywords_are_few_and_longest_first() -> None:
    """At most five words are searched: the longest, each once."""
    assert keywords("aaa bbbb ccccc dddddd eeeeeee ffffffff bbbb") == [
        "ffffffff",
        "eeeeeee",
        "dddddd",
        "ccccc",
        "bbbb",
    ]
