"""The audit log as hash chains: what a sound one looks like, and where one breaks.

Each user has a chain: entry ``seq`` holds the hash of its own content and of the entry
before it, so nothing in the middle can be changed, moved or taken out without changing
every hash after it (Schneier and Kelsey, "Secure Audit Logs to Support Computer
Forensics", ACM TISSEC 1999). One chain for all users would make every writer wait for
every other one, for no more detection.

A chain does not know its own end. Its *head* says where that is, and an *anchor* says
where all heads were at one time; anchors are chained and signed with a key that is not
in the database. So who can write to every table can still not shorten a chain, or write
it anew, to before the last anchor. What came after the last anchor is guarded by heads
alone, and the last anchors themselves by whoever has kept one: see ``kept``.

All of this is arithmetic; ``app.storage.chain`` reads the rows. The database computes
the same hashes as it links entries (migration 0004).
"""

import hashlib
import hmac
import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from uuid import UUID

GENESIS = bytes(32)
"""What the first entry, and the first anchor, hold for the one before."""


class FlawKind(StrEnum):
    """What is wrong with a chain."""

    GAP = "gap"
    """A number is missing, or a link whose entry is gone."""
    FORK = "fork"
    """Two entries have one number."""
    EDIT = "edit"
    """An entry is not what was hashed."""
    ORDER = "order"
    """An entry stands where another one was hashed."""
    TRUNCATION = "truncation"
    """The chain ends before its head or before an anchor."""
    UNLINKED = "unlinked"
    """An entry is in no chain."""
    REWRITTEN = "rewritten"
    """The chain is sound in itself, but an anchor saw another one."""
    ANCHOR = "anchor"
    """An anchor is missing, or is not signed by us."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One link of a chain with the entry it holds.

    Attributes:
        seq: Its number in the chain, counted from 1.
        user_id: Whose chain it is (UUID text).
        entry_id: The row in the log; None when there is none.
        at_us: When the action was done (microseconds since the epoch).
        hash: What was written as its hash.
    """

    seq: int
    user_id: str
    entry_id: int | None
    request_id: str
    action: str
    subject: str
    at_us: int
    hash: bytes


@dataclass(frozen=True, slots=True)
class Head:
    """How far a chain goes: the number and the hash of its last entry."""

    user_id: str
    seq: int
    hash: bytes


@dataclass(frozen=True, slots=True)
class Anchor:
    """Where chains were at one time.

    Attributes:
        number: Its number, counted from 1.
        heads: The heads that had moved since the anchor before, by user.
        digest: The hash over the anchor before and the heads.
        signature: The digest, signed.
    """

    number: int
    heads: tuple[Head, ...]
    digest: bytes
    signature: bytes


@dataclass(frozen=True, slots=True)
class Flaw:
    """The first wrong place of a chain.

    Attributes:
        kind: What is wrong.
        user_id: Whose chain; empty for anchors.
        seq: The number of the first wrong entry or anchor; 0 for an unlinked entry.
        entry_id: The row of the entry, where there is one.
    """

    kind: FlawKind
    user_id: str
    seq: int
    entry_id: int | None = None

    def __str__(self) -> str:
        """Return it as a sentence."""
        where = f"chain of user {self.user_id}" if self.user_id else "chain of anchors"
        row = "" if self.entry_id is None else f" (row {self.entry_id})"
        return f"{self.kind}: entry {self.seq}{row} of the {where}."


def hash_entry(previous: bytes, entry: Entry) -> bytes:
    """Return the hash of an entry that follows the one whose hash is given.

    Numbers have one size and texts carry their length, so no two entries are hashed
    from the same bytes.
    """
    parts = [
        previous,
        struct.pack(">q", entry.seq),
        UUID(entry.user_id).bytes,
        struct.pack(">qq", entry.entry_id or 0, entry.at_us),
    ]
    for text in (entry.request_id, entry.action, entry.subject):
        encoded = text.encode()
        parts += (struct.pack(">i", len(encoded)), encoded)
    return hashlib.sha256(b"".join(parts)).digest()


def find_flaw(
    entries: Sequence[Entry], head: Head | None, anchored: Mapping[int, bytes]
) -> Flaw | None:
    """Return the first wrong entry of one user's chain, None when it is sound.

    Args:
        entries: All links of the chain by ``seq``, with equal ones in any order; at
            least one, unless ``head`` says that there were.
        head: The chain's head; None when it has none.
        anchored: The hashes that anchors saw, by ``seq``.

    Cost: one hash per entry; where an entry is wrong, one more for each.
    """
    user_id = entries[0].user_id if entries else head.user_id if head else ""
    previous, expected = GENESIS, 1
    for entry in entries:
        if entry.seq != expected:
            kind = FlawKind.FORK if entry.seq < expected else FlawKind.GAP
            return Flaw(kind, user_id, min(entry.seq, expected), entry.entry_id)
        if entry.entry_id is None:
            return Flaw(FlawKind.GAP, user_id, expected)
        if hash_entry(previous, entry) != entry.hash:
            return Flaw(
                _kind_of(previous, entry, entries), user_id, expected, entry.entry_id
            )
        if anchored.get(expected, entry.hash) != entry.hash:
            return Flaw(FlawKind.REWRITTEN, user_id, expected, entry.entry_id)
        previous, expected = entry.hash, expected + 1
    end = max([head.seq if head else 0, *anchored])
    if end >= expected:
        return Flaw(FlawKind.TRUNCATION, user_id, expected)
    told = head or Head(user_id, 0, GENESIS)
    if told.seq < expected - 1:
        # Entries after the head were added past the service.
        return Flaw(FlawKind.REWRITTEN, user_id, told.seq + 1)
    if told.hash != previous:
        return Flaw(FlawKind.REWRITTEN, user_id, told.seq, entries[-1].entry_id)
    return None


def _kind_of(previous: bytes, wrong: Entry, entries: Iterable[Entry]) -> FlawKind:
    """Tell an entry that was moved here from one that was changed."""
    if any(
        hash_entry(previous, _moved(other, wrong.seq)) == wrong.hash
        for other in entries
        if other.entry_id is not None and other is not wrong
    ):
        return FlawKind.ORDER
    return FlawKind.EDIT


def _moved(entry: Entry, seq: int) -> Entry:
    return Entry(
        seq,
        entry.user_id,
        entry.entry_id,
        entry.request_id,
        entry.action,
        entry.subject,
        entry.at_us,
        entry.hash,
    )


class AnchorKey:
    """Signs anchors; the database never holds it."""

    def __init__(self, secret: str) -> None:
        """Derive the key from a secret of the settings."""
        label = b"isolation-audit audit anchors"
        self._key = hmac.digest(secret.encode(), label, "sha256")

    def anchor(self, previous: bytes, number: int, heads: Iterable[Head]) -> Anchor:
        """Return a signed anchor that follows the one whose digest is given."""
        by_user = tuple(sorted(heads, key=lambda head: head.user_id))
        digest = hashlib.sha256(previous + struct.pack(">q", number))
        for head in by_user:
            digest.update(UUID(head.user_id).bytes)
            digest.update(struct.pack(">q", head.seq) + head.hash)
        signature = hmac.digest(self._key, digest.digest(), "sha256")
        return Anchor(number, by_user, digest.digest(), signature)

    def find_flaw(
        self, anchors: Iterable[Anchor], *, kept: tuple[int, bytes] | None = None
    ) -> Flaw | None:
        """Return the first wrong anchor, None when all are sound.

        Args:
            anchors: All anchors by number.
            kept: Number and digest of an anchor that somebody has kept elsewhere, which
                must be among them.
        """
        previous, number = GENESIS, 0
        for number, anchor in enumerate(anchors, 1):
            made = self.anchor(previous, number, anchor.heads)
            if (
                anchor.number != number
                or anchor.digest != made.digest
                or not hmac.compare_digest(anchor.signature, made.signature)
                or (kept and kept[0] == number and kept[1] != made.digest)
            ):
                return Flaw(FlawKind.ANCHOR, "", number)
            previous = made.digest
        if kept and kept[0] > number:
            return Flaw(FlawKind.ANCHOR, "", number + 1)
        return None
