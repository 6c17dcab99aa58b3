"""A11: actor of the audit log read after the await.

alice                           bob
                                await ledger.transfer(NAMES[user])
                                self.actor = user
                                await external("UPDATE accounts")
await ledger.transfer(NAMES[user])
self.actor = user
await external("UPDATE accounts")
                                self.entries.append(f"{user}'s money moved by {self.a...
self.entries.append(f"{user}'s money moved by {self.actor}")
-> bob did not move it: ["bob's money moved by alice", "alice's money moved by alice"]
"""

from dataclasses import dataclass, field

from test_framework.catalogue.pattern import Area, Hosted, Pattern
from test_framework.catalogue.world import NAMES, visits
from test_framework.explore import external


@dataclass
class _Ledger:
    """Books transfers; the middleware says who acts."""

    actor: str = ""
    entries: list[str] = field(default_factory=list)

    async def transfer(self, user: str) -> None:
        self.actor = user
        await external("UPDATE accounts")
        self.entries.append(f"{user}'s money moved by {self.actor}")


@dataclass
class _CapturingLedger(_Ledger):
    async def transfer(self, user: str) -> None:
        self.actor = user
        actor = self.actor
        await external("UPDATE accounts")
        self.entries.append(f"{user}'s money moved by {actor}")


async def _transfer(ledger: _Ledger, user: int) -> None:
    await ledger.transfer(NAMES[user])


def _moves_of(ledger: _Ledger, user: int) -> list[str]:
    return [move for move in ledger.entries if move.startswith(f"{NAMES[user]}'s")]


def _moved_by_owner(ledger: _Ledger) -> None:
    for user in NAMES[: len(ledger.entries)]:
        assert f"{user}'s money moved by {user}" in ledger.entries, (
            f"{user} did not move it: {ledger.entries}"
        )


PATTERN = Pattern(
    id="A11",
    title="actor of the audit log read after the await",
    mechanism=(
        "The audit entry asks who acts after the statement has run, when it is somebody "
        "else."
    ),
    fix="Capture the actor on entry.",
    areas=(Area.USER_CONTEXT,),
    detectors=("explorer", "access", "swarm", "checkers"),
    source="https://cwe.mitre.org/data/definitions/778.html",
    vulnerable=visits(_Ledger, _transfer, _moved_by_owner),
    safe=visits(_CapturingLedger, _transfer, _moved_by_owner),
    module=__name__,
    hosted=Hosted(shown=_moves_of),
)
