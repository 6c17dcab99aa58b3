"""Identities: who is named in a row, key, channel or log line."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from test_framework.core import VISITOR, History, Operation
from test_framework.swarm.identities import Identities, departed


def test_users_are_found_by_any_identity() -> None:
    """A name and an id both name their user."""
    identities = Identities({3: ["alice", "id-0003"], 4: ["carol"]})

    assert identities.find(b"alice wrote") == (3,)
    assert identities.find(b'{"user_id": "id-0003", "to": "carol"}') == (3, 4)
    assert identities.find(b"nobody here") == ()


@pytest.mark.parametrize("text", [b"malice", b"alicex", b"xalice9"])
def test_part_of_a_longer_word_names_nobody(text: bytes) -> None:
    """A name inside a longer word is chance."""
    assert Identities({3: ["alice"]}).find(text) == ()


def test_longer_name_may_mean_the_shorter() -> None:
    """A key that holds "ada:" may be one of "ada" too, so both are named."""
    identities = Identities({1: ["user-ada"], 2: ["user-ada:"]})

    assert identities.find(b"u:user-ada:threads") == (1, 2)
    assert identities.find(b"u:user-ada.threads") == (1,)


def test_case_tells_users_apart() -> None:
    """Names that differ by case are different users."""
    identities = Identities({1: ["x-ada"], 2: ["x-ADA"]})

    assert identities.find(b"x-ADA") == (2,)


@pytest.mark.parametrize(
    "written",
    ["jos\u00e9@x".encode(), b'"jos\\u00e9@x"', b"/u/jos%C3%A9%40x/"],
)
def test_name_is_found_in_every_spelling(written: bytes) -> None:
    """UTF-8, JSON escapes and URL quoting all name the user."""
    assert Identities({5: ["jos\u00e9@x"]}).find(written) == (5,)


def test_identities_are_blanked_to_a_pattern() -> None:
    """Keys of different users become one surface."""
    identities = Identities({1: ["id-one"], 2: ["id-two"]})

    assert identities.blank(b"u:id-one:events") == "u:{user}:events"
    assert identities.blank(b"u:id-two:events") == "u:{user}:events"


def test_ids_and_numbers_are_blanked_too() -> None:
    """Keys of one kind become one surface, whatever they are numbered with."""
    identities = Identities({1: ["id-one"]})

    assert (
        identities.blank(b"run:0168e2ac-ebab-4f56-a638-caeeb6281ca5:v2:17")
        == "run:{id}:v2:{id}"
    )


def test_short_identities_are_left_out() -> None:
    """An identity of three characters turns up by chance."""
    assert Identities({1: ["ada"]}).find(b"ada") == ()


def test_no_identity_names_nobody() -> None:
    """Without users nothing is found and nothing is blanked."""
    identities = Identities({})

    assert identities.find(b"anything") == ()
    assert identities.blank(b"anything") == "anything"


names = st.lists(
    st.text("ab:_*.[\\", min_size=4, max_size=7), min_size=1, max_size=6, unique=True
)


@given(names)
def test_every_name_is_found_between_separators(all_names: list[str]) -> None:
    """The trie loses no name, whatever characters it is made of."""
    identities = Identities({n: [name] for n, name in enumerate(all_names)})

    for number, name in enumerate(all_names):
        assert number in identities.find(f"|{name}|".encode())


def test_what_the_service_made_for_a_user_names_it() -> None:
    """Identifiers of what was created, and none of those who are nobody."""
    history = History()
    for user, created in ((3, "t-1"), (3, None), (VISITOR, "t-2")):
        history.add(
            Operation(
                index=0,
                user=user,
                channel="http",
                endpoint="POST /threads",
                path="/threads",
                shape="login",
                invoked_ns=0,
                first_byte_ns=0,
                completed_ns=0,
                outcome="ok",
                created_id=created,
            )
        )

    assert departed(history, {3: ["alice"], 4: ["carol"]}) == {
        3: {"alice", "t-1"},
        4: {"carol"},
    }
