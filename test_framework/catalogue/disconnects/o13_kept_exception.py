"""O13: stored exception keeps the request alive.

alice                           bob
await status.serve(NAMES[user])
await self.pay(user)
card = f"card of {user}"
await external("charge the card")
raise ValueError(card)
<- ValueError
self.keep(exc)
self.errors.append(error)
                                await status.serve(NAMES[user])
                                await self.pay(user)
                                card = f"card of {user}"
                                await external("charge the card")
                                raise ValueError(card)
                                <- ValueError
                                self.keep(exc)
                                self.errors.append(error)
-> everybody reads ['card of alice', 'card of bob']
"""

from test_framework.catalogue.pattern import ANY_ORDER, Area, Pattern
from test_framework.catalogue.world import NAMES, visits
from test_framework.explore import external


class _Status:
    """Shows the errors of the last hour."""

    def __init__(self) -> None:
        self.errors: list[object] = []

    def keep(self, error: Exception) -> None:
        self.errors.append(error)

    async def pay(self, user: str) -> None:
        card = f"card of {user}"
        await external("charge the card")
        raise ValueError(card)

    async def serve(self, user: str) -> None:
        try:
            await self.pay(user)
        except ValueError as exc:
            self.keep(exc)


class _TerseStatus(_Status):
    def keep(self, error: Exception) -> None:
        self.errors.append(type(error).__name__)


async def _serve(status: _Status, user: int) -> None:
    await status.serve(NAMES[user])


def _no_card_is_shown(status: _Status) -> None:
    shown = [str(error) for error in status.errors]
    assert shown == ["ValueError", "ValueError"], f"everybody reads {shown}"


PATTERN = Pattern(
    id="O13",
    title="stored exception keeps the request alive",
    mechanism=(
        "The last errors are kept for a status page as exception objects, with their "
        "messages, their frames and all that these refer to."
    ),
    fix=("Keep the kind and the time of an error, not the object."),
    areas=(Area.AGENT_STATE, Area.USER_CONTEXT),
    detectors=("explorer", "leaks"),
    source="https://docs.python.org/3/library/traceback.html#traceback.clear_frames",
    vulnerable=visits(_Status, _serve, _no_card_is_shown),
    safe=visits(_TerseStatus, _serve, _no_card_is_shown),
    module=__name__,
    needs=ANY_ORDER,
)
