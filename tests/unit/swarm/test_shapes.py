"""Traffic shapes: the names and requests they are made of."""

import unicodedata

import pytest

from test_framework.clients.routes import WireRequest
from test_framework.swarm.shapes import (
    colliding_names,
    with_body,
    with_target,
    wrong_target,
)


def request() -> WireRequest:
    """Return a small write."""
    return WireRequest(
        "POST",
        "/notes",
        b"POST /notes HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\nx-a: b\r\n\r\n",
        b"{}",
        (("host", "x"), ("content-length", "2"), ("x-a", "b")),
    )


def test_colliding_names_are_alike_and_different() -> None:
    """All names differ as text; some are equal by case or normal form."""
    names = colliding_names("stem")

    assert len(set(names)) == len(names)
    folded = {unicodedata.normalize("NFKC", name).casefold() for name in names}
    assert len(folded) < len(names)


def test_colliding_names_differ_between_runs() -> None:
    """The stem keeps names of two runs apart."""
    assert not set(colliding_names("a1")) & set(colliding_names("b2"))


def test_body_is_replaced_with_its_length() -> None:
    """A request with another body announces its true length, once."""
    changed = with_body(request(), b"12345")

    assert changed.body == b"12345"
    assert changed.head.count(b"content-length") == 1
    assert b"content-length: 5\r\n" in changed.head
    assert changed.head.endswith(b"\r\n\r\n")


def test_target_is_replaced_and_headers_stay() -> None:
    """A request for another path keeps everything else."""
    changed = with_target(request(), "/other")

    assert changed.head.startswith(b"POST /other HTTP/1.1\r\nhost: x\r\n")
    assert changed.target == "/other"


@pytest.mark.parametrize(
    ("endpoint", "target", "expected"),
    [
        ("GET /notes/{id}", "/notes/7", "/notes/X"),
        ("GET /notes/{id}/text", "/notes/7/text", "/notes/X/text"),
        ("GET /a/{a}/b/{b}", "/a/1/b/2?q=1", "/a/1/b/X"),
        ("GET /notes", "/notes?limit=3", "/notes/X"),
        ("GET /notes/{id}", "/api/v1/notes/7", "/api/v1/notes/X"),
    ],
)
def test_wrong_target_replaces_the_last_identifier(
    endpoint: str, target: str, expected: str
) -> None:
    """A refusal is provoked on the resource itself, under any prefix."""
    assert wrong_target(endpoint, target, "X") == expected
