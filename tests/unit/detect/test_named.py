"""Identifiers of users are found where they stand as whole words, and nowhere else."""

import uuid
from typing import Any

import pytest
from asyncpg.pgproto.pgproto import UUID

from test_framework.canary import users_named
from test_framework.detect.leaks import Leaks
from test_framework.detect.leaks.named import Named, text_of
from tests.unit.detect import leaking_program as program

ID = "0f8fad5b-d9cb-469f-a165-70867728950e"
NAMED = Named(
    {7: [ID, "iso1c2d3e4f-u07"], 8: ["V1StGXR8_Z5jdHi6B-myT", "iso1c2d3e4f-u08"]}
)


@pytest.mark.parametrize(
    ("text", "users"),
    [
        (ID, {7}),
        (f"thread-{ID}".encode(), {7}),
        (f'{{"id": "{ID}", "to": "iso1c2d3e4f-u08"}}', {7, 8}),
        ("key:V1StGXR8_Z5jdHi6B-myT", {8}),
        ("iso1c2d3e4f-u07", {7}),
    ],
)
def test_an_identifier_names_its_user(text: str | bytes, users: set[int]) -> None:
    """Whole, in bytes, within a text, and beside one that begins alike."""
    assert set(NAMED.find(text)) == users


@pytest.mark.parametrize(
    "text",
    [
        "",
        "70867728950e",
        "iso1c2d3e4f-u071",
        "xiso1c2d3e4f-u07",
        "iso1c2d3e4f",
        ID.upper(),
    ],
)
def test_a_part_of_an_identifier_names_nobody(text: str) -> None:
    """A run of it alone, or within a longer word, may be anybody's."""
    assert list(NAMED.find(text)) == []


def test_what_names_nobody_for_sure_is_left_out() -> None:
    """Numbers that are counted, words, and what two users were given."""
    named = Named({1: ["7", "123456", "ada", ID], 2: [ID]})

    assert len(named) == 0


@pytest.mark.parametrize("kind", [uuid.UUID, UUID], ids=["uuid", "asyncpg"])
def test_an_identifier_may_be_an_object(kind: Any) -> None:  # noqa: ANN401  # a class
    """Drivers return objects, and asyncpg one of its own."""
    assert text_of(kind(ID)) == ID


class Hostile(uuid.UUID):
    """An identifier with code of its own."""

    def __str__(self) -> str:
        raise AssertionError


def test_objects_of_the_service_are_not_asked() -> None:
    """A detector runs no code of the service."""
    assert text_of(Hostile(ID)) is None


@pytest.mark.power
def test_an_identifier_that_is_kept_is_residue() -> None:
    """It is told as a canary is, and no longer once the users are others."""
    leaks = Leaks(recognise=users_named, packages=[program.__name__])
    program.MODULE_LIST.append(ID)
    try:
        unknown = leaks.alarms()
        leaks.identify({7: [ID]})
        (alarm,) = leaks.alarms()
        leaks.identify({8: ["7c9e6679-7425-40de-944b-e07fc1f90ae7"]})
        others = leaks.alarms()
    finally:
        program.reset()

    assert (unknown, others) == ([], [])
    assert (alarm.rule, alarm.users) == ("residue-of-departed", (7,))
