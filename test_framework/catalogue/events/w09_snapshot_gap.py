"""W09: gap between snapshot and subscription.

alice                           bob
if user:
shown = await board.watch()
await external("SELECT messages")
                                if user:
                                await external("INSERT message")
shown = list(self.messages)
await external("SUBSCRIBE")
                                board.post("you are invited")
                                self.messages.append(message)
                                for queue in self.subscribers:
self.subscribers.append(shown)
return shown
await external("the user looks at it later")
-> a message that this user never sees
"""

from test_framework.catalogue.pattern import Area, Hosted, Pattern
from test_framework.catalogue.world import visits
from test_framework.explore import external


class _Board:
    """A client loads the messages there are and subscribes to those that come."""

    def __init__(self) -> None:
        self.messages: list[str] = []
        self.subscribers: list[list[str]] = []

    def post(self, message: str) -> None:
        self.messages.append(message)
        for queue in self.subscribers:
            queue.append(message)

    async def watch(self) -> list[str]:
        await external("SELECT messages")
        shown = list(self.messages)
        await external("SUBSCRIBE")
        self.subscribers.append(shown)
        return shown


class _SubscribingBoard(_Board):
    async def watch(self) -> list[str]:
        live: list[str] = []
        await external("SUBSCRIBE")
        self.subscribers.append(live)
        await external("SELECT messages")
        old = [message for message in self.messages if message not in live]
        live[:0] = old
        return live


async def _post_or_watch(board: _Board, user: int) -> None:
    if user:
        await external("INSERT message")
        board.post("you are invited")
    else:
        shown = await board.watch()
        await external("the user looks at it later")
        assert shown == board.messages, "a message that this user never sees"


PATTERN = Pattern(
    id="W09",
    title="gap between snapshot and subscription",
    mechanism=("A message that comes between loading and subscribing is in neither."),
    fix="Subscribe first, then load, and drop what is in both.",
    areas=(Area.WEBSOCKET,),
    detectors=("explorer", "checkers"),
    source="https://redis.io/docs/latest/develop/pubsub/",
    vulnerable=visits(_Board, _post_or_watch),
    safe=visits(_SubscribingBoard, _post_or_watch),
    module=__name__,
    hosted=Hosted(shown=lambda board, _: (board.subscribers, board.messages)),
)
