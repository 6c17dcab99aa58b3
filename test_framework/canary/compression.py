"""Reads gzip and zlib streams that stand anywhere in foreign bytes.

A magic number is two or three bytes, so most hits in binary data are chance and fail
within a few bytes. What must hold is that no data makes it slow: every scan has one
``Allowance`` of attempts, bytes fed and bytes produced, and stops when it is spent.
"""

import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Self

from test_framework.canary.encodings import BASE64_TEXT, decode_base64, join_lines
from test_framework.canary.needle import Needle

MAX_OUTPUT_BYTES = 16 * 1024 * 1024
_FIRST_BYTES = 64
_PIECE_BYTES = 16 * 1024

_AUTOMATIC = 32 + zlib.MAX_WBITS


@dataclass(slots=True)
class Allowance:
    """How much decompression one scan may still do.

    Attributes:
        attempts: Streams that may still be tried.
        input_bytes: Compressed bytes that may still be fed.
        output_bytes: Bytes that may still be produced.
    """

    attempts: int
    input_bytes: int
    output_bytes: int = MAX_OUTPUT_BYTES

    @classmethod
    def for_data(cls, data: bytes) -> Self:
        """Return what is in proportion to the size of ``data``."""
        allowance = cls(attempts=64, input_bytes=65536)
        allowance.grow(data)
        return allowance

    def grow(self, data: bytes) -> None:
        """Add what is in proportion to the size of ``data``."""
        # Random bytes hold a magic every 8,000 bytes or so: this allows for eight
        # times that, and for reading everything twice.
        self.attempts += len(data) // 1024
        self.input_bytes += 2 * len(data)

    @property
    def is_spent(self) -> bool:
        """Whether nothing more may be tried."""
        return min(self.attempts, self.input_bytes, self.output_bytes) <= 0


@dataclass(frozen=True, slots=True)
class Stream:
    """A compressed stream found in some data.

    Attributes:
        name: ``gzip``, ``zlib``, ``base64 of gzip`` or ``base64 of zlib``.
        start: Offset of its first byte.
        end: Offset behind the last byte that was read.
        text: What it holds, or the beginning of that.
    """

    name: str
    start: int
    end: int
    text: bytes


def has_magic(data: bytes) -> bool:
    """Tell cheaply whether ``data`` may hold a compressed stream."""
    # What is ASCII throughout is not compressed, unless it is in base64.
    magics = _BASE64_MAGICS if data.isascii() else _MAGICS
    for magic, _, _ in magics:  # noqa: SIM110  # any() costs a tenth of a small scan
        if magic.gate in data and magic.find(data) >= 0:
            return True
    return False


def find_streams(data: bytes, allowance: Allowance) -> Iterator[Stream]:
    """Yield the compressed streams in ``data``, one kind after the other."""
    for magic, name, slices in _MAGICS:
        if magic.gate in data:
            yield from _streams(data, magic, name, slices, allowance)


def _streams(
    data: bytes,
    magic: Needle,
    name: str,
    slices: Callable[[bytes, int], Iterator[bytes]],
    allowance: Allowance,
) -> Iterator[Stream]:
    start = magic.find(data)
    while start >= 0 and not allowance.is_spent:
        text, used = _inflate(slices(data, start), allowance)
        end = start + len(magic.text)
        if text:
            # Base64 is longer than what it holds, so this may fall short of the end
            # of the stream but never beyond.
            end = max(end, start + used)
            yield Stream(name, start, end, text)
        start = magic.find(data, end)


def _slices(data: bytes, start: int) -> Iterator[bytes]:
    # The first is short: most streams are chance and fail in it.
    position, size = start, _FIRST_BYTES
    while position < len(data):
        yield data[position : position + size]
        position, size = position + size, _PIECE_BYTES


def _decoded_slices(data: bytes, start: int) -> Iterator[bytes]:
    rest = b""
    for piece in _slices(data, start):
        match = BASE64_TEXT.match(piece)
        text = match[0] if match else b""
        letters = rest + join_lines(text)
        whole = len(letters) // 4 * 4
        yield decode_base64(letters[:whole])
        rest = letters[whole:]
        if len(text) < len(piece):
            break
    yield decode_base64(rest)


def _inflate(pieces: Iterable[bytes], allowance: Allowance) -> tuple[bytes, int]:
    """Decompress until the stream, the pieces or the allowance end.

    Returns:
        The text, and how many bytes of the pieces belong to the stream. Nonsense
        gives no text; a stream that breaks off gives what came before.
    """
    allowance.attempts -= 1
    engine = zlib.decompressobj(_AUTOMATIC)
    texts = []
    used = 0
    for piece in pieces:
        allowance.input_bytes -= len(piece)
        try:
            text = engine.decompress(piece, allowance.output_bytes)
        except zlib.error:
            break
        texts.append(text)
        allowance.output_bytes -= len(text)
        used += len(piece) - len(engine.unused_data)
        if engine.eof or allowance.is_spent:
            break
    return b"".join(texts), used


_BINARY_MAGICS = (
    (Needle(b"\x1f\x8b\x08", b"\x8b"), "gzip", _slices),
    (Needle(b"x\x9c", b"\x9c"), "zlib", _slices),
    (Needle(b"x\xda", b"\xda"), "zlib", _slices),
    (Needle(b"x\x01", b"\x01"), "zlib", _slices),
    (Needle(b"x^", b"^"), "zlib", _slices),
)
# The same at the beginning of a base64 value; the rare levels of zlib are left out.
_BASE64_MAGICS = (
    (Needle(b"H4sI", b"H"), "base64 of gzip", _decoded_slices),
    (Needle(b"eJ", b"J", b"[w-z]"), "base64 of zlib", _decoded_slices),
    (Needle(b"eN", b"N", b"[o-r]"), "base64 of zlib", _decoded_slices),
)
_MAGICS = _BINARY_MAGICS + _BASE64_MAGICS
