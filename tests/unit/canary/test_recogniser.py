"""Every spelling is found, nothing else is, and no data makes it slow."""

import base64
import gzip
import json
import zlib
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from test_framework.canary import LENGTH, MAX_USER, Canary, Mint, Recogniser, Sighting
from test_framework.canary import recogniser as recogniser_module

SEED = 8842
MINT = Mint(SEED)
USERS = st.integers(0, MAX_USER)

# What stands around a canary. Markers and magics would be found in it by right, and
# a letter before or a digit after may be part of the same spelling: both are wanted.
AROUND = st.one_of(
    st.binary(max_size=40),
    st.text(alphabet='q0aZ+/=%\\&\n"{}:, ', max_size=40).map(str.encode),
)


def each(pattern: str) -> Callable[[bytes], bytes]:
    """Return an encoder that writes each byte by ``pattern``."""
    return lambda text: "".join(pattern % byte for byte in text).encode()


FLAT: dict[str, tuple[str, Callable[[bytes], bytes]]] = {
    "raw": ("raw", bytes),
    "upper": ("case-folded", bytes.upper),
    "title": ("case-folded", bytes.title),
    "hex": ("hex", lambda text: text.hex().encode()),
    "hex upper": ("hex", lambda text: text.hex().upper().encode()),
    "bytea": ("hex", lambda text: b"\\x" + text.hex().encode()),
    "percent": ("percent", each("%%%02x")),
    "percent upper": ("percent", lambda text: each("%%%02X")(text.upper())),
    "json": ("json-escape", each("\\u%04x")),
    "json in json": ("json-escape", each("\\\\u%04X")),
    "html": ("html-entity", each("&#%d;")),
    "html hex": ("html-entity", each("&#x%x;")),
    "html upper hex": ("html-entity", each("&#X%X;")),
    "utf-16-le": ("utf-16", lambda text: text.decode().encode("utf-16-le")),
    "utf-16-be": ("utf-16", lambda text: text.decode().encode("utf-16-be")),
}
# Bytes of the encoding before the first byte that is the canary's own.
LEAD = {"bytea": 2, "utf-16-be": 1}


@pytest.mark.parametrize("spelling", FLAT)
@given(before=AROUND, after=AROUND, user=USERS)
def test_each_spelling_is_found_anywhere(
    spelling: str, before: bytes, after: bytes, user: int
) -> None:
    """A canary is found with its owner and offset whatever stands around it."""
    encoding, encode = FLAT[spelling]
    data = before + encode(MINT.mint(user, 1).encode()) + after

    found = Recogniser(SEED).scan(data)

    offset = len(before) + LEAD.get(spelling, 0)
    assert found == [Sighting(Canary(user, 1), encoding, offset)]


@pytest.mark.parametrize("encode", [base64.b64encode, base64.urlsafe_b64encode])
@pytest.mark.parametrize("fold", [bytes.lower, bytes.upper])
@given(inner=st.binary(max_size=40), after=st.binary(max_size=9), before=AROUND)
def test_base64_is_found_at_each_alignment(
    encode: Callable[[bytes], bytes],
    fold: Callable[[bytes], bytes],
    inner: bytes,
    after: bytes,
    before: bytes,
) -> None:
    """In base64 a canary is found wherever it stands in what was encoded."""
    data = before + encode(inner + fold(MINT.mint(31, 1).encode()) + after)

    found = Recogniser(SEED).scan(data)

    # The letter that holds the first bits of byte n is letter n + n // 3.
    offset = len(before) + len(inner) + len(inner) // 3
    assert found == [Sighting(Canary(31, 1), "base64", offset)]


@pytest.mark.parametrize(
    "line_end",
    [b"\n", b"\r\n", b"\\n", b"\\r\\n"],
    ids=["lf", "crlf", "json-lf", "json-crlf"],
)
@pytest.mark.parametrize("columns", [64, 76])
@given(inner=st.binary(max_size=120))
def test_base64_is_found_across_lines(
    line_end: bytes, columns: int, inner: bytes
) -> None:
    """A line break inside the canary, as MIME and PEM make them, hides nothing."""
    text = base64.b64encode(inner + MINT.mint(31, 1).encode() + b"tail")
    lines = [text[at : at + columns] for at in range(0, len(text), columns)]

    found = Recogniser(SEED).scan(line_end.join(lines))

    assert [(seen.canary, seen.encoding) for seen in found] == [
        (Canary(31, 1), "base64")
    ]


def deflate(text: bytes) -> bytes:
    """Compress so that no copy of the text stays readable."""
    return zlib.compress(text * 2, 9)


NESTED: dict[str, Callable[[bytes], bytes]] = {
    "gzip": lambda text: gzip.compress(text * 2),
    "zlib": deflate,
    "base64 of gzip": lambda text: base64.b64encode(gzip.compress(text * 2)),
    "base64 of zlib": lambda text: base64.urlsafe_b64encode(deflate(text)),
    "gzip of base64": lambda text: gzip.compress(base64.b64encode(b"a" + text)),
    "zlib of hex": lambda text: zlib.compress(text.hex().encode()),
    "gzip of zlib": lambda text: gzip.compress(deflate(text)),
    "base64": lambda text: base64.b64encode(
        json.dumps({"note": text.decode()}).encode()
    ),
}


@pytest.mark.parametrize("encoding", NESTED)
@given(user=USERS, before=st.text(alphabet=' {}":,abc', max_size=20).map(str.encode))
def test_nested_canary_is_found_once(encoding: str, user: int, before: bytes) -> None:
    """Compressed and nested canaries are found, with the way in as encoding."""
    data = before + NESTED[encoding](MINT.mint(user, 2).encode()) + b" tail"

    found = Recogniser(SEED).scan(data)

    assert [(seen.canary, seen.encoding) for seen in found] == [
        (Canary(user, 2), encoding)
    ]
    if encoding != "base64":
        assert found[0].offset == len(before)


def test_large_stream_in_base64_is_read_to_its_end() -> None:
    """A canary at the end of a stream of many pieces is found, broken lines or not."""
    filler = "".join(f"{number * number:x}" for number in range(40_000)).encode()
    packed = gzip.compress(filler + MINT.mint(3, 4).encode())

    for text in (base64.b64encode(packed), base64.encodebytes(packed), packed):
        found = Recogniser(SEED).scan(b"{" + text + b"}")
        assert [seen.canary for seen in found] == [Canary(3, 4)]


def test_stream_cut_short_gives_what_it_holds() -> None:
    """A compressed answer that breaks off is read as far as it goes."""
    packed = gzip.compress(MINT.mint(3, 4).encode() + bytes(range(256)) * 40)

    found = Recogniser(SEED).scan(packed[:-30])

    assert [seen.canary for seen in found] == [Canary(3, 4)]


def test_stored_block_is_reported_once() -> None:
    """Text that a stream holds as it is counts as raw, not as compressed too."""
    packed = zlib.compress(MINT.mint(3, 4).encode(), 0)

    found = Recogniser(SEED).scan(packed)

    assert [(seen.canary, seen.encoding) for seen in found] == [(Canary(3, 4), "raw")]


def test_sightings_come_in_order_of_offset() -> None:
    """Canaries of several users and spellings are listed as they stand, each place."""
    values = [MINT.mint(user, 0).encode() for user in (9, 4, 7, 9)]
    data = b" ".join(
        [values[0], base64.b64encode(values[1]), values[2].hex().encode(), values[3]]
    )

    found = Recogniser(SEED).scan(data)

    assert [seen.canary.user for seen in found] == [9, 4, 7, 9]
    assert [seen.offset for seen in found] == sorted(seen.offset for seen in found)


def test_marker_longer_than_needed_is_one_place() -> None:
    """Upper and lower letters of a marker that meet do not count twice."""
    value = b"q" * 20 + b"Q" * 20 + MINT.mint(1, 1).encode().lstrip(b"q")

    found = Recogniser(SEED).scan(value)

    assert found == [Sighting(Canary(1, 1), "case-folded", 24)]


@given(data=st.binary(max_size=4000))
def test_random_bytes_give_nothing(data: bytes) -> None:
    """Data that holds no canary gives no sighting and raises nothing."""
    # A sighting needs a tag that fits: 2**-60 for each marker, and a random marker
    # of 15 equal bytes is 2**-120 a place: 4,000 places x 100 examples is < 2**-160.
    assert Recogniser(SEED).scan(data) == []


def test_cache_is_bounded_and_refills(monkeypatch: pytest.MonkeyPatch) -> None:
    """More canaries than the cache holds are all recognised, again and again."""
    monkeypatch.setattr(recogniser_module, "_CACHE_ENTRIES", 8)
    recogniser = Recogniser(SEED)
    data = "".join(MINT.mint(user, 0) for user in range(50)).encode()

    for _ in range(2):
        found = recogniser.scan(data)
        assert [seen.canary.user for seen in found] == list(range(50))
    assert len(recogniser._known) <= 8


UNITS = {
    "marker": b"q",
    "upper marker": b"Q",
    "marker and blank": b"q" * 15 + b" ",
    "base64 marker": b"cXFx",
    "upper base64 marker": b"UVFR",
    "hex marker": b"71",
    "wide marker": b"q\0",
    "percent marker": b"%71",
    "json marker": b"\\u0071",
    "html marker": b"&#113;",
    "gzip magic": b"\x1f\x8b\x08",
    "gzip magic with a name": b"\x1f\x8b\x08\x08",
    "zlib magic": b"x\x9c",
    "base64 of gzip magic": b"H4sI",
    "base64 of zlib magic": b"eJx",
    "rare letters": b"JHNXVQ",
    "empty streams": zlib.compress(b""),
    "small streams": gzip.compress(b"q" * 15),
    "bombs": gzip.compress(b"q" * 1_000_000),
    "forged": b"q" * 16 + b"0" * 20,
}


class Work:
    """Counts what a scan does beyond searching."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.fed_bytes = 0
        self.made_bytes = 0
        self.attributions = 0
        original = Recogniser._attribute

        def attribute(recogniser: Recogniser, body: bytes) -> Canary | None:
            self.attributions += 1
            return original(recogniser, body)

        work = self

        class Engine:
            """A decompressor that counts."""

            def __init__(self, wbits: int) -> None:
                self._engine = decompressobj(wbits)

            def __getattr__(self, name: str) -> object:
                return getattr(self._engine, name)

            def decompress(self, piece: bytes, longest: int) -> bytes:
                work.fed_bytes += len(piece)
                text = self._engine.decompress(piece, longest)
                work.made_bytes += len(text)
                return text

        decompressobj = zlib.decompressobj
        monkeypatch.setattr(Recogniser, "_attribute", attribute)
        monkeypatch.setattr(zlib, "decompressobj", Engine)


@pytest.mark.parametrize("unit", UNITS)
def test_hostile_data_makes_bounded_work(
    unit: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Data made of markers or magics costs work in proportion to its length."""
    size = 200_000
    data = UNITS[unit] * (size // len(UNITS[unit]))
    work = Work(monkeypatch)

    found = Recogniser(SEED).scan(data)

    assert found == []
    # A marker is at least 15 bytes, so there is at most one attribution in so many
    # bytes of data and of decompressed text.
    text_bytes = size + work.made_bytes
    assert work.attributions <= text_bytes // 15 + 1
    assert work.made_bytes <= 16 * 1024 * 1024
    assert work.fed_bytes <= 4 * text_bytes + 2 * 65536


def test_data_that_turns_hostile_late_is_still_found() -> None:
    """Letters that are rare at first and common later do not hide a canary."""
    value = base64.b64encode(MINT.mint(5, 6).encode())
    quiet, loud = b"a" * 8192, b"XQVHJN " * 4000

    for data in (quiet + value, quiet + loud + value, loud + value + loud):
        found = Recogniser(SEED).scan(data)
        assert [seen.canary for seen in found] == [Canary(5, 6)]


def test_canary_cut_short_is_not_attributed() -> None:
    """What is left of a canary without its whole tag names nobody."""
    value = MINT.mint(5, 6).encode()

    for kept in range(LENGTH):
        assert Recogniser(SEED).scan(value[:kept]) == []
