"""The chains of the audit log: each way of tampering is named, at its first entry."""

from collections.abc import Callable, Mapping
from dataclasses import replace

import pytest

from app.security import (
    Anchor,
    AnchorKey,
    Entry,
    Flaw,
    FlawKind,
    Head,
    find_flaw,
    hash_entry,
)
from app.security.audit import GENESIS

ADA = "00000000-0000-0000-0000-00000000000a"
KEY = AnchorKey("s" * 40)

Entries = list[Entry]
Tamper = Callable[[Entries], Entries]


def chain(length: int, *, salt: str = "") -> Entries:
    """Return a sound chain."""
    entries: Entries = []
    previous = GENESIS
    for seq in range(1, length + 1):
        bare = Entry(seq, ADA, 100 + seq, "r", "did" + salt, f"thing {seq}", seq, b"")
        previous = hash_entry(previous, bare)
        entries.append(replace(bare, hash=previous))
    return entries


def head_of(entries: Entries) -> Head:
    """Return the head that a chain has as it is."""
    return Head(ADA, entries[-1].seq, entries[-1].hash)


def rehashed(entries: Entries) -> Entries:
    """Return entries with all numbers and hashes made to fit, as a forger would."""
    made: Entries = []
    previous = GENESIS
    for seq, entry in enumerate(entries, 1):
        bare = replace(entry, seq=seq)
        previous = hash_entry(previous, bare)
        made.append(replace(bare, hash=previous))
    return made


def find(
    entries: Entries, *, head: Head | None = None, anchored: Mapping[int, bytes] = {}
) -> Flaw | None:
    """Judge a chain whose head is that of the sound one."""
    return find_flaw(entries, head or head_of(chain(6)), anchored)


def test_sound_chain_has_no_flaw() -> None:
    """A chain as it was written is sound, with anchors at any of its entries."""
    entries = chain(6)
    anchored = {entry.seq: entry.hash for entry in entries}

    assert find(entries) is None
    assert find(entries, anchored=anchored) is None


def _edit(name: str, value: object) -> Tamper:
    def edit(entries: Entries) -> Entries:
        changed = replace(entries[2], **{name: value})  # type: ignore[arg-type]  # any field
        return [*entries[:2], changed, *entries[3:]]

    return edit


def _swap(entries: Entries) -> Entries:
    """Let two links hold each other's entry; numbers and hashes stay."""
    third, fourth = entries[2], entries[3]
    return [
        *entries[:2],
        replace(fourth, seq=3, hash=third.hash),
        replace(third, seq=4, hash=fourth.hash),
        *entries[4:],
    ]


TAMPERED: dict[str, tuple[Tamper, FlawKind, int]] = {
    "one taken out": (lambda e: e[:2] + e[3:], FlawKind.GAP, 3),
    "first taken out": (lambda e: e[1:], FlawKind.GAP, 1),
    "entry gone": (_edit("entry_id", None), FlawKind.GAP, 3),
    "number given twice": (lambda e: [*e[:3], e[2], *e[3:]], FlawKind.FORK, 3),
    "action": (_edit("action", "other"), FlawKind.EDIT, 3),
    "subject": (_edit("subject", "thing 3 "), FlawKind.EDIT, 3),
    "request": (_edit("request_id", "q"), FlawKind.EDIT, 3),
    "instant": (_edit("at_us", 4), FlawKind.EDIT, 3),
    "row": (_edit("entry_id", 999), FlawKind.EDIT, 3),
    "hash": (_edit("hash", bytes(32)), FlawKind.EDIT, 3),
    "two swapped": (_swap, FlawKind.ORDER, 3),
    "last taken out": (lambda e: e[:-1], FlawKind.TRUNCATION, 6),
    "all taken out": (lambda _: [], FlawKind.TRUNCATION, 1),
    "closed up": (lambda e: rehashed(e[:2] + e[3:]), FlawKind.TRUNCATION, 6),
    "rewritten": (lambda e: rehashed(_edit("action", "x")(e)), FlawKind.REWRITTEN, 6),
    "added": (lambda e: rehashed([*e, e[0]]), FlawKind.REWRITTEN, 7),
}


@pytest.mark.parametrize(("tamper", "kind", "seq"), TAMPERED.values(), ids=TAMPERED)
def test_tampering_is_named(tamper: Tamper, kind: FlawKind, seq: int) -> None:
    """Every change of a chain whose head is left alone is found where it begins."""
    flaw = find(tamper(chain(6)))

    assert flaw is not None
    assert (flaw.kind, flaw.seq, flaw.user_id) == (kind, seq, ADA)


FORGED: dict[str, tuple[Tamper, FlawKind, int]] = {
    "shortened": (lambda e: e[:3], FlawKind.TRUNCATION, 4),
    "changed": (lambda e: rehashed(_edit("action", "x")(e)), FlawKind.REWRITTEN, 4),
    "closed up": (lambda e: rehashed(e[1:]), FlawKind.REWRITTEN, 4),
}


@pytest.mark.parametrize(("tamper", "kind", "seq"), FORGED.values(), ids=FORGED)
def test_forged_head_meets_the_anchor(tamper: Tamper, kind: FlawKind, seq: int) -> None:
    """Who makes the head fit as well cannot make the anchor fit."""
    sound = chain(6)
    anchored = {4: sound[3].hash}
    forged = tamper(sound)

    flaw = find(forged, head=head_of(forged), anchored=anchored)

    assert flaw is not None
    assert (flaw.kind, flaw.seq) == (kind, seq)


def test_what_follows_the_last_anchor_is_not_guarded() -> None:
    """The limit, stated: newer than the last anchor, a forged head hides a lost tail."""
    sound = chain(6)
    shortened = sound[:5]

    assert find(shortened, head=head_of(shortened), anchored={4: sound[3].hash}) is None


def test_no_two_entries_hash_alike() -> None:
    """Text cannot move from one field into the next: each carries its length."""
    (entry,) = chain(1)
    moved = replace(entry, action=entry.action + "t", subject=entry.subject[1:])

    assert entry.action + entry.subject == moved.action + moved.subject
    assert hash_entry(GENESIS, entry) != hash_entry(GENESIS, moved)


def anchors(count: int, key: AnchorKey = KEY) -> list[Anchor]:
    """Return anchors of a growing chain."""
    made = []
    previous = GENESIS
    for number in range(1, count + 1):
        anchor = key.anchor(previous, number, [head_of(chain(number))])
        made.append(anchor)
        previous = anchor.digest
    return made


UNSIGNED: dict[str, tuple[Callable[[list[Anchor]], list[Anchor]], int]] = {
    "first gone": (lambda a: a[1:], 1),
    "one gone": (lambda a: [a[0], *a[2:]], 2),
    "two swapped": (lambda a: [a[1], a[0], a[2]], 1),
    "heads": (lambda a: [a[0], replace(a[1], heads=()), a[2]], 2),
    "signature": (lambda a: [a[0], replace(a[1], signature=bytes(32)), a[2]], 2),
    "another key": (lambda _: anchors(3, AnchorKey("x" * 40)), 1),
}


@pytest.mark.parametrize(("tamper", "number"), UNSIGNED.values(), ids=UNSIGNED)
def test_forged_anchor_is_named(
    tamper: Callable[[list[Anchor]], list[Anchor]], number: int
) -> None:
    """An anchor that is missing, moved, changed or signed by another is found."""
    flaw = KEY.find_flaw(tamper(anchors(3)))

    assert flaw == Flaw(FlawKind.ANCHOR, "", number)


def test_kept_anchor_guards_the_last_ones() -> None:
    """Anchors themselves can only be shortened where nobody has kept one."""
    made = anchors(3)
    last = KEY.anchor(GENESIS, 1, [head_of(chain(1))])
    kept = (3, made[2].digest)

    assert KEY.find_flaw(made, kept=kept) is None
    assert KEY.find_flaw(made[:2], kept=kept) == Flaw(FlawKind.ANCHOR, "", 3)
    assert KEY.find_flaw([last], kept=(1, bytes(32))) == Flaw(FlawKind.ANCHOR, "", 1)
