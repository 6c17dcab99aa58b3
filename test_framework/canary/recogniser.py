"""Finds canaries in bytes that came from a service and says whose they are.

A scan is a handful of searches for the marker, one per spelling, each a C loop that
skips most of the bytes; none depends on how many users there are. Only where a
marker stands is anything decoded, and the tag decides: whoever cannot compute it
cannot make a sighting. Compressed parts are opened and scanned again, two levels
deep.

The marker itself may be damaged (a repeated letter lost to a cut or a changed case);
owner, sequence and tag may not.
"""

import bisect
import operator
import re
from collections.abc import Iterator
from typing import NamedTuple

from test_framework.canary.compression import (
    Allowance,
    Stream,
    find_streams,
    has_magic,
)
from test_framework.canary.encodings import (
    BASE64_NEEDLES,
    BASE64_RUN,
    BASE64_TEXT,
    HEX,
    HTML_ENTITY,
    JSON_ESCAPE,
    PERCENT,
    UTF_16,
    Spelling,
    decode_base64,
    join_lines,
)
from test_framework.canary.mint import BODY_LENGTH, LENGTH, MARKER, Canary, Mint
from test_framework.canary.needle import Needle

_MARKER = MARKER.encode()
_MARKER_BYTES = len(_MARKER)
# One letter less than the marker, so that "Qqqq..." made by title case is found too.
_RAW = _MARKER[1:]
_RAW_UPPER = Needle(_RAW.upper(), b"Q")
_RAW_RUN = re.compile(rb"[qQ]+")
# Letters of base64 that hold the rest of a marker (up to 2 bytes) and a body, with
# room for line breaks.
_BASE64_WINDOW = 48
_MAX_LEVELS = 2
_CACHE_ENTRIES = 65536
# Numbers, for the reason that ``Needle.gate`` gives.
_NUL, _PERCENT_SIGN, _AMPERSAND, _BACKSLASH = b"\0%&\\"
_offset = operator.attrgetter("offset")


class Sighting(NamedTuple):
    """A canary and where it stood.

    Attributes:
        canary: Whose it is and which.
        encoding: How it was spelled: ``raw``, ``case-folded``, ``base64``, ``hex``,
            ``utf-16``, ``percent``, ``json-escape``, ``html-entity``, ``gzip``,
            ``zlib``, or two of them joined by ``of``, outer first.
        offset: Offset of its first byte; of the first byte of the outermost
            compressed stream that holds it.
    """

    canary: Canary
    encoding: str
    offset: int


class Recogniser:
    """Finds the canaries of one seed.

    Args:
        seed: The seed they were minted with; canaries of others are not seen.
    """

    def __init__(self, seed: int) -> None:
        self._mint = Mint(seed)
        # Bodies that were verified; a run sees the same canaries again and again.
        self._known: dict[bytes, Canary] = {}

    def scan(self, data: bytes) -> list[Sighting]:
        """Return every canary in ``data`` in order of offset, each place once.

        Args:
            data: Anything. Cost is linear in its length, at most 16 MiB are
                decompressed, and nothing in it raises.
        """
        found = self._plain(data)
        if has_magic(data):
            return self._with_streams(data, found, Allowance.for_data(data), level=1)
        return found

    def _plain(self, data: bytes) -> list[Sighting]:
        """Return the canaries that stand in ``data`` without compression."""
        raw = self._raw(data, _RAW)
        found: list[Sighting] = []
        if _RAW_UPPER.gate in data and _RAW_UPPER.find(data) >= 0:
            found += self._raw(data, _RAW_UPPER.text)
        for needle in BASE64_NEEDLES:
            if needle.gate in data:
                found += self._base64(data, needle)
        if data.find(HEX.needle) >= 0:
            found += self._spelled(data, HEX)
        if _PERCENT_SIGN in data:
            found += self._spelled(data, *PERCENT)
        if _BACKSLASH in data:
            found += self._spelled(data, *JSON_ESCAPE)
        if _AMPERSAND in data:
            found += self._spelled(data, *HTML_ENTITY)
        if _NUL in data:
            found += self._spelled(data, UTF_16)
        return _in_order(raw + found) if found else raw

    def _raw(self, data: bytes, needle: bytes) -> list[Sighting]:
        position = data.find(needle)
        found: list[Sighting] = []
        while position >= 0:
            end = position + _MARKER_BYTES
            body = data[end : end + BODY_LENGTH]
            canary = self._known.get(body)
            if canary is not None and data.startswith(_MARKER, position):
                # Nearly all there is in a run: keys of the cache are in lower case.
                found.append(Sighting(canary, "raw", position))
                position = data.find(needle, end)
                continue
            if canary is None:
                # Not seen before, or the run is longer or shorter than a marker.
                run = _RAW_RUN.match(data, position)
                end = run.end() if run else end
                body = data[end : end + BODY_LENGTH]
                canary = self._attribute(body)
            if canary is not None:
                start = max(end - _MARKER_BYTES, 0)
                is_raw = data[start : start + LENGTH] == _MARKER + body.lower()
                encoding = "raw" if is_raw else "case-folded"
                found.append(Sighting(canary, encoding, start))
            position = data.find(needle, end)
        return found

    def _base64(self, data: bytes, needle: Needle) -> Iterator[Sighting]:
        position = needle.find(data)
        while position >= 0:
            run = BASE64_RUN.match(data, position)
            end = run.end() if run else position
            text = BASE64_TEXT.match(data, end, end + _BASE64_WINDOW)
            decoded = decode_base64(join_lines(text[0])) if text else b""
            body = decoded.lstrip(b"qQ")
            canary = self._attribute(body[:BODY_LENGTH])
            if canary is not None:
                # First byte of the marker, counted from the group at `end`.
                first = len(decoded) - len(body) - _MARKER_BYTES
                start = end + first // 3 * 4 + first % 3
                yield Sighting(canary, "base64", max(start, 0))
            position = needle.find(data, end)

    def _spelled(self, data: bytes, *spellings: Spelling) -> list[Sighting]:
        found = []
        for spelling in spellings:
            position = data.find(spelling.needle)
            while position >= 0:
                run = spelling.run.match(data, position)
                end = run.end() if run else position
                match = spelling.body.match(data, end)
                if match:
                    canary = self._attribute(spelling.decode(match[0]))
                    if canary is not None:
                        start = end - _MARKER_BYTES * spelling.unit_bytes
                        found.append(Sighting(canary, spelling.name, max(start, 0)))
                position = data.find(spelling.needle, end)
        return found

    def _attribute(self, body: bytes) -> Canary | None:
        body = body.lower()
        canary = self._known.get(body)
        if canary is None and len(body) == BODY_LENGTH and body.isalnum():
            canary = self._mint.attribute(body)
            if canary is not None:
                if len(self._known) >= _CACHE_ENTRIES:
                    self._known.clear()
                self._known[body] = canary
        return canary

    def _with_streams(
        self, data: bytes, found: list[Sighting], allowance: Allowance, *, level: int
    ) -> list[Sighting]:
        """Add the canaries inside compressed streams to those found beside them."""
        inside: list[tuple[int, int, Sighting]] = []
        for stream in find_streams(data, allowance):
            # A stream may hold text as it is (stored blocks): that is found already.
            first = bisect.bisect_left(found, stream.start, key=_offset)
            last = bisect.bisect_left(found, stream.end, key=_offset)
            known = {sighting.canary for sighting in found[first:last]}
            for sighting in self._inside(stream, allowance, level=level):
                if sighting.canary not in known:
                    known.add(sighting.canary)
                    inside.append((stream.start, -stream.end, sighting))
        if not inside:
            return found
        # Or another stream as it is: then the outer one counts.
        inside.sort(key=operator.itemgetter(0, 1))
        told_until: dict[Canary, int] = {}
        found = list(found)
        for start, minus_end, sighting in inside:
            if start >= told_until.get(sighting.canary, 0):
                told_until[sighting.canary] = -minus_end
                found.append(sighting)
        return _in_order(found)

    def _inside(
        self, stream: Stream, allowance: Allowance, *, level: int
    ) -> Iterator[Sighting]:
        found = self._plain(stream.text)
        if level < _MAX_LEVELS:
            allowance.grow(stream.text)
            found = self._with_streams(stream.text, found, allowance, level=level + 1)
        for sighting in found:
            encoding = stream.name
            if sighting.encoding != "raw":
                encoding = f"{encoding} of {sighting.encoding}"
            yield Sighting(sighting.canary, encoding, stream.start)


def _in_order(found: list[Sighting]) -> list[Sighting]:
    """Sort by offset and keep one sighting of each canary at each offset."""
    found.sort(key=_offset)
    return [
        sighting
        for before, sighting in zip([None, *found], found, strict=False)
        if before is None
        or sighting.offset != before.offset
        or sighting.canary != before.canary
    ]
