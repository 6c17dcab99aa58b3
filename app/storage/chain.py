"""The chains of the audit log in Postgres: verifying and anchoring them.

Entries are linked by the database as their transaction commits (migration 0004). This
reads all of it from one snapshot, so writers are neither stopped nor half seen.
"""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import groupby
from typing import Any

from sqlalchemy import Row, exists, func, insert, select
from sqlalchemy.ext.asyncio import AsyncSession

from app.security import Anchor, AnchorKey, Entry, Flaw, FlawKind, Head, find_flaw
from app.security.audit import GENESIS
from app.storage.sessions import SessionFactory
from app.storage.tables import (
    audit_anchored_heads,
    audit_anchors,
    audit_heads,
    audit_links,
    audit_log,
)

KEPT_FLAWS = 100
# Any constant will do, as long as nothing else in the database locks the same one.
_ANCHORING = 7_463_524_192
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class Verification:
    """The outcome of a verification.

    Attributes:
        chains: Chains that were read (count).
        entries: Entries that were hashed (count).
        anchor: The number and digest of the newest anchor, to keep elsewhere; None
            before the first.
        flaws: The first wrong entry of each chain that is wrong, at most
            ``KEPT_FLAWS``.
    """

    chains: int
    entries: int
    anchor: tuple[int, bytes] | None
    flaws: tuple[Flaw, ...]


async def verify_audit(
    session: AsyncSession, key: AnchorKey, *, kept: tuple[int, bytes] | None = None
) -> Verification:
    """Read the whole audit log and return what is wrong with it.

    Args:
        session: From ``SessionFactory.for_audit``: one snapshot of all users' rows.
        key: What anchors are signed with.
        kept: An anchor that somebody has kept outside of the database.
    """
    anchors = await _read_anchors(session)
    wrong = key.find_flaw(anchors, kept=kept)
    flaws = [] if wrong is None else [wrong]
    anchored: dict[str, dict[int, bytes]] = {}
    for anchor in anchors:
        for head in anchor.heads:
            anchored.setdefault(head.user_id, {})[head.seq] = head.hash
    heads = {head.user_id: head for head in await _read_heads(session)}
    entries = chains = 0
    unseen = heads.keys() | anchored.keys()
    async for user_id, chain in _read_chains(session):
        unseen -= {user_id}
        chains += 1
        entries += len(chain)
        flaw = find_flaw(chain, heads.get(user_id), anchored.get(user_id, {}))
        flaws += [] if flaw is None else [flaw]
    # Chains of which nothing is left but the head, or what an anchor saw.
    flaws += [Flaw(FlawKind.TRUNCATION, user_id, 1) for user_id in sorted(unseen)]
    flaws += await _read_unlinked(session)
    newest = (anchors[-1].number, anchors[-1].digest) if anchors else None
    return Verification(chains, entries, newest, tuple(flaws[:KEPT_FLAWS]))


async def anchor_heads(sessions: SessionFactory, key: AnchorKey) -> Anchor | None:
    """Sign where the chains are now; None when none has moved.

    Of several workers that want to at one time one does; the others find nothing new.
    No chain is locked: what moves meanwhile is for the next anchor.
    """
    async with sessions.for_anchoring() as session:
        lock = select(func.pg_advisory_xact_lock(_ANCHORING))
        await session.execute(lock)
        seen = audit_anchored_heads.c
        is_anchored = exists().where(
            seen.user_id == audit_heads.c.user_id, seen.seq == audit_heads.c.seq
        )
        moved = [
            Head(*row)
            for row in await session.execute(
                select(
                    audit_heads.c.user_id, audit_heads.c.seq, audit_heads.c.hash
                ).where(~is_anchored)
            )
        ]
        if not moved:
            return None
        last = (
            await session.execute(
                select(audit_anchors.c.number, audit_anchors.c.digest)
                .order_by(audit_anchors.c.number.desc())
                .limit(1)
            )
        ).first()
        number, previous = (0, GENESIS) if last is None else last
        anchor = key.anchor(previous, number + 1, moved)
        await session.execute(
            insert(audit_anchors).values(
                number=anchor.number, digest=anchor.digest, signature=anchor.signature
            )
        )
        await session.execute(
            insert(audit_anchored_heads),
            [
                {
                    "number": anchor.number,
                    "user_id": head.user_id,
                    "seq": head.seq,
                    "hash": head.hash,
                }
                for head in anchor.heads
            ],
        )
    return anchor


async def _read_anchors(session: AsyncSession) -> list[Anchor]:
    heads: dict[int, list[Head]] = {}
    columns = audit_anchored_heads.c
    rows = await session.execute(
        select(columns.number, columns.user_id, columns.seq, columns.hash)
    )
    for number, *head in rows:
        heads.setdefault(number, []).append(Head(*head))
    anchors = await session.execute(
        select(
            audit_anchors.c.number, audit_anchors.c.digest, audit_anchors.c.signature
        ).order_by(audit_anchors.c.number)
    )
    return [
        Anchor(number, tuple(heads.get(number, ())), digest, signature)
        for number, digest, signature in anchors
    ]


async def _read_heads(session: AsyncSession) -> list[Head]:
    columns = audit_heads.c
    rows = await session.execute(select(columns.user_id, columns.seq, columns.hash))
    return [Head(*row) for row in rows]


async def _read_chains(
    session: AsyncSession,
) -> AsyncIterator[tuple[str, list[Entry]]]:
    """Yield the chains one after the other; one of them is in memory at a time."""
    links, log = audit_links.c, audit_log.c
    every = (
        select(
            links.seq,
            links.user_id,
            log.id,
            log.request_id,
            log.action,
            log.subject,
            log.at,
            links.hash,
        )
        .join_from(
            audit_links,
            audit_log,
            (log.id == links.entry_id) & (log.user_id == links.user_id),
            isouter=True,
        )
        .order_by(links.user_id, links.seq)
        .execution_options(yield_per=2_000)
    )
    chain: list[Entry] = []
    stream = await session.stream(every)
    async for rows in stream.partitions():
        for user_id, group in groupby(map(_entry, rows), lambda entry: entry.user_id):
            if chain and chain[0].user_id != user_id:
                yield chain[0].user_id, chain
                chain = []
            chain += group
    if chain:
        yield chain[0].user_id, chain


def _entry(row: Row[*tuple[Any, ...]]) -> Entry:
    seq, user_id, entry_id, request_id, action, subject, at, hash_ = row
    at_us = 0 if at is None else (at - _EPOCH) // _MICROSECOND
    return Entry(seq, user_id, entry_id, request_id, action, subject, at_us, hash_)


async def _read_unlinked(session: AsyncSession) -> list[Flaw]:
    is_linked = exists().where(audit_links.c.entry_id == audit_log.c.id)
    rows = await session.execute(
        select(audit_log.c.user_id, audit_log.c.id)
        .where(~is_linked)
        .order_by(audit_log.c.id)
        .limit(KEPT_FLAWS)
    )
    return [Flaw(FlawKind.UNLINKED, user_id, 0, row_id) for user_id, row_id in rows]
