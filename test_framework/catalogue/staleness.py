"""What was looked up before an await is somebody else's, or gone, after it."""

import asyncio

from test_framework.catalogue.pattern import Pattern
from test_framework.catalogue.world import NAMES, visits
from test_framework.explore import external


class _Lobby:
    """Players wait for a match and may leave."""

    def __init__(self) -> None:
        self.waiting = list(NAMES)

    async def leave(self, user: str) -> str:
        index = self.waiting.index(user)
        await external("tell the friends")
        return self.waiting.pop(index)


class _NamedLobby(_Lobby):
    async def leave(self, user: str) -> str:
        await external("tell the friends")
        return self.waiting.pop(self.waiting.index(user))


async def _leave(lobby: _Lobby, user: int) -> None:
    gone = await lobby.leave(NAMES[user])
    assert gone == NAMES[user], f"{NAMES[user]} threw {gone} out"


STALE_INDEX = Pattern(
    id="P16",
    title="index kept across await",
    summary=(
        "A position is found, something is awaited, and another user stands at that "
        "position. Look it up again after the await."
    ),
    source="https://cwe.mitre.org/data/definitions/367.html",
    vulnerable=visits(_Lobby, _leave),
    safe=visits(_NamedLobby, _leave),
)


class _Slots:
    """Upload slots with small numbers, used again and again."""

    def __init__(self) -> None:
        self.owner: dict[int, str] = {}
        self.generation = 0
        self.files: dict[str, str] = {}

    def open(self, user: str) -> tuple[int, int]:
        slot = next(n for n in range(len(NAMES)) if n not in self.owner)
        self.owner[slot] = user
        self.generation += 1
        return slot, self.generation

    def close(self, slot: int) -> None:
        self.owner.pop(slot, None)

    def is_mine(self, slot: int, generation: int) -> bool:  # noqa: ARG002  # the twin compares it
        return slot in self.owner

    def store(self, slot: int, generation: int, data: str) -> None:
        if self.is_mine(slot, generation):
            self.files[self.owner[slot]] = data


class _CountedSlots(_Slots):
    def __init__(self) -> None:
        super().__init__()
        self.current: dict[int, int] = {}

    def open(self, user: str) -> tuple[int, int]:
        slot, generation = super().open(user)
        self.current[slot] = generation
        return slot, generation

    def is_mine(self, slot: int, generation: int) -> bool:
        return slot in self.owner and self.current[slot] == generation


async def _upload(slots: _Slots, user: int) -> None:
    slot, generation = slots.open(NAMES[user])

    async def receive() -> None:
        await external("next chunk")
        slots.store(slot, generation, f"file of {NAMES[user]}")

    chunk = asyncio.create_task(receive())
    await external("the client gives up or is done")
    slots.close(slot)
    await chunk


def _files_are_with_owners(slots: _Slots) -> None:
    for owner, data in slots.files.items():
        assert data == f"file of {owner}", f"{owner} got the {data}"


SLOT_REUSED = Pattern(
    id="P24",
    title="ABA on a reused slot",
    summary=(
        "A late answer finds its slot in use, as before, but by somebody else. Count "
        "generations and compare them."
    ),
    source="https://cwe.mitre.org/data/definitions/672.html",
    vulnerable=visits(_Slots, _upload, _files_are_with_owners),
    safe=visits(_CountedSlots, _upload, _files_are_with_owners),
)


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


STALE_PERMISSION = Pattern(
    id="A04",
    title="permission checked, then awaited, then used",
    summary=(
        "The grant is looked up, the body is fetched, and the grant is gone by then. "
        "Check where the body is handed out."
    ),
    source="https://cwe.mitre.org/data/definitions/367.html",
    vulnerable=visits(_Documents, _read_or_revoke, _only_readers_read),
    safe=visits(_CheckingDocuments, _read_or_revoke, _only_readers_read),
)


class _Flags:
    """A feature flag that an operator turns on: data of a user is then encrypted."""

    def __init__(self) -> None:
        self.encrypts = False
        self.stored: list[tuple[str, bool]] = []

    async def save(self, text: str) -> None:
        body = f"sealed {text}" if self.encrypts else text
        await external("reserve space")
        self.stored.append((body, self.encrypts))


class _ReadOnceFlags(_Flags):
    async def save(self, text: str) -> None:
        encrypts = self.encrypts
        body = f"sealed {text}" if encrypts else text
        await external("reserve space")
        self.stored.append((body, encrypts))


async def _save_or_turn_on(flags: _Flags, user: int) -> None:
    if user:
        await external("the operator")
        flags.encrypts = True
    else:
        await flags.save("diary")


def _label_fits_body(flags: _Flags) -> None:
    for body, is_sealed in flags.stored:
        assert body.startswith("sealed") == is_sealed, "plain text taken for sealed"


FLAG_READ_TWICE = Pattern(
    id="K08",
    title="feature flag read twice",
    summary=(
        "Two branches of one request ask for the flag and get different answers. Read "
        "it once, at the start of the request."
    ),
    source="https://cwe.mitre.org/data/definitions/367.html",
    vulnerable=visits(_Flags, _save_or_turn_on, _label_fits_body),
    safe=visits(_ReadOnceFlags, _save_or_turn_on, _label_fits_body),
)


PATTERNS = (
    STALE_INDEX,
    SLOT_REUSED,
    STALE_PERMISSION,
    FLAG_READ_TWICE,
)
