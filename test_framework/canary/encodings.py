"""How a service may spell a canary: one ``Spelling`` per encoding.

A spelling says which bytes can only be a marker (``needle``), how far a marker goes
on (``run``), what follows it (``body``) and how to read that (``decode``). The
recogniser asks nothing else. All patterns are a fixed number of fixed alternatives
that begin with different bytes, so none can backtrack.

Not covered: a canary that is cut short, encrypted, in UTF-32, or spelled with only
some letters escaped.
"""

import binascii
import html
import re
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import unquote_to_bytes

from test_framework.canary.mint import BODY_LENGTH, MARKER
from test_framework.canary.needle import Needle

_TO_BASE64 = bytes.maketrans(b"-_", b"+/")
_BREAK = rb"\r?\n|(?:\\r)?\\n"

BASE64_RUN = re.compile(rb"(?:cXFx|UVFR|%b)+" % _BREAK)
BASE64_TEXT = re.compile(rb"(?:[A-Za-z0-9+/_-]++|%b)*+" % _BREAK)

_HEX_ESCAPE = re.compile(rb"\\+u00")


@dataclass(frozen=True, slots=True)
class Spelling:
    """One way to write a canary.

    Attributes:
        name: Name of the encoding, as findings show it.
        needle: Bytes that stand in every marker spelled so.
        run: Matches from the needle to the end of the marker.
        unit_bytes: Bytes for one letter of the marker.
        body: Matches what follows the marker.
        decode: Turns what ``body`` matched into the characters after the marker.
    """

    name: str
    needle: bytes
    run: re.Pattern[bytes]
    unit_bytes: int
    body: re.Pattern[bytes]
    decode: Callable[[bytes], bytes]


def decode_base64(text: bytes) -> bytes:
    """Decode base64 or base64url, padded or not; line breaks must be gone.

    Args:
        text: Letters of either alphabet from a group boundary on.

    Returns:
        What the whole bytes say; a cut last group gives what it holds.
    """
    text = text.rstrip(b"=").translate(_TO_BASE64)
    if len(text) % 4 == 1:
        text = text[:-1]
    return binascii.a2b_base64(text + b"=" * (-len(text) % 4))


def join_lines(text: bytes) -> bytes:
    """Remove line breaks, also those that JSON writes with a backslash."""
    return (
        text.replace(b"\\r\\n", b"")
        .replace(b"\\n", b"")
        .replace(b"\r", b"")
        .replace(b"\n", b"")
    )


def _ununicode(text: bytes) -> bytes:
    return unquote_to_bytes(_HEX_ESCAPE.sub(b"%", text))


def _unentity(text: bytes) -> bytes:
    return html.unescape(text.decode("ascii")).encode()


def _per_letter(
    name: str,
    unit: bytes,
    other: bytes,
    decode: Callable[[bytes], bytes],
) -> Spelling:
    """Describe a spelling that writes letters one after the other."""
    # The longer the needle, the more bytes each comparison of the search skips.
    return Spelling(
        name=name,
        needle=unit * (len(MARKER) - 1),
        run=re.compile(rb"(?:%b)+" % re.escape(unit)),
        unit_bytes=len(unit),
        body=re.compile(rb"(?:%b){%d}" % (other, BODY_LENGTH)),
        decode=decode,
    )


_LETTER = rb"[0-9A-Za-z]"
_PERCENT = rb"%[0-7][0-9A-Fa-f]|" + _LETTER
_UNICODE = rb"\\{1,2}u00[0-7][0-9A-Fa-f]|" + _LETTER
_ENTITY = rb"&#(?:[xX][0-9A-Fa-f]{2}|[0-9]{2,3});|" + _LETTER

# Two whole groups of a marker. Sixteen letters hold at least four at every alignment,
# so two stay side by side when a line ends somewhere in the marker.
BASE64_NEEDLES = (Needle(b"cXFx" * 2, b"X"), Needle(b"UVFR" * 2, b"V"))
HEX = _per_letter("hex", b"71", rb"[3-7][0-9A-Fa-f]", binascii.unhexlify)
UTF_16 = Spelling(
    # In both byte orders the letters of the marker stand apart by one NUL.
    name="utf-16",
    needle=b"q\0" * (len(MARKER) - 1),
    run=re.compile(rb"(?:q\0)+"),
    unit_bytes=2,
    body=re.compile(rb"%b(?:\0%b){%d}" % (_LETTER, _LETTER, BODY_LENGTH - 1)),
    decode=lambda text: text[::2],
)
PERCENT = tuple(
    _per_letter("percent", unit, _PERCENT, unquote_to_bytes)
    for unit in (b"%71", b"%51")
)
JSON_ESCAPE = tuple(
    _per_letter("json-escape", unit, _UNICODE, _ununicode)
    for unit in (rb"\u0071", rb"\\u0071")
)
HTML_ENTITY = tuple(
    _per_letter("html-entity", unit, _ENTITY, _unentity)
    for unit in (b"&#113;", b"&#x71;", b"&#X71;")
)
