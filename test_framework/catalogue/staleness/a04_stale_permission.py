"""A04: permission checked, then awaited, then used.

alice                           bob
if user:
await documents.read("alice")
if user not in self.readers:
await external("SELECT body")
                                if user:
                                await documents.revoke("alice")
                                await external("DELETE grant")
                                self.readers.discard(user)
return self.hand_out(user)
self.was_reader.append(user in self.readers)
return "body"
-> read after revocation
"""

from test_framework.catalogue.pattern import Area, Pattern
from test_framework.catalogue.world import visits
from test_framework.explore import external


class _Documents:
    """Alice may be removed from a document while she reads it."""

    def __init__(self) -> None:
        self.readers = {"alice"}
        self.was_reader: list[bool] = []

    async def read(self, user: str) -> str | None:
        if user not in self.readers:
            return None
        await external("SELECT body")
        return self.hand_out(user)

    def hand_out(self, user: str) -> str:
        self.was_reader.append(user in self.readers)
        return "body"

    async def revoke(self, user: str) -> None:
        await external("DELETE grant")
        self.readers.discard(user)


class _CheckingDocuments(_Documents):
    async def read(self, user: str) -> str | None:
        await external("SELECT body")
        return self.hand_out(user) if user in self.readers else None


async def _read_or_revoke(documents: _Documents, user: int) -> None:
    if user:
        await documents.revoke("alice")
    else:
        await documents.read("alice")


def _only_readers_read(documents: _Documents) -> None:
    assert all(documents.was_reader), "read after revocation"


PATTERN = Pattern(
    id="A04",
    title="permission checked, then awaited, then used",
    mechanism=(
        "The grant is looked up, the body is fetched, and the grant is gone by then."
    ),
    fix="Check where the body is handed out.",
    areas=(Area.USER_CONTEXT,),
    detectors=(
        "explorer",
        "access",
    ),
    source="https://cwe.mitre.org/data/definitions/367.html",
    vulnerable=visits(_Documents, _read_or_revoke, _only_readers_read),
    safe=visits(_CheckingDocuments, _read_or_revoke, _only_readers_read),
    module=__name__,
    beyond={
        "checkers": "an answer that is under way while the right ends may be of before"
    },
)
