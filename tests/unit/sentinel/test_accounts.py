"""Accounts come back by their key, and nothing secret of them is ever told."""

import pytest

from test_framework.clients.recorder import Recorder
from test_framework.core import History, MonotonicClock
from test_framework.sentinel.accounts import Accounts, bare_url, secrets_of, without
from test_framework.swarm import Plan, User
from test_framework.swarm.scene import Scene


async def _workload(_: User) -> None:
    """Do nothing."""


def a_user(index: int = 0) -> User:
    """Return a user that was never anywhere."""
    recorder = Recorder(History(), seed=1, clock=MonotonicClock(), is_tagging=False)
    plan = Plan(workload=_workload)
    return Scene("http://127.0.0.1:1", recorder, plan, seed=1).add_user(index)


def test_one_key_gives_one_account() -> None:
    """The same key gives the same name and password; so a restart can log in."""
    accounts = []
    for _ in range(2):
        user = a_user(3)
        Accounts(b"key").lend(user)
        accounts.append((user.name, user.password))

    assert accounts[0] == accounts[1]
    assert accounts[0][0].startswith("isosentinel-")
    assert accounts[0][0].endswith("-u03")


def test_lent_name_is_the_only_identity() -> None:
    """A user is known by the account's name and no more by the one it had."""
    user = a_user()
    Accounts(b"key").lend(user)

    assert user.identities == {user.name}


def test_other_key_or_number_gives_another_account() -> None:
    """Two sentinels, or two users of one, share neither name nor password."""
    lent = []
    for key, index in ((b"a", 0), (b"b", 0), (b"a", 1)):
        user = a_user(index)
        Accounts(key).lend(user)
        lent.append((user.name, user.password))

    assert len({name for name, _ in lent}) == 3
    assert len({password for _, password in lent}) == 3


def test_secrets_are_hidden() -> None:
    """Passwords, tokens and cookies vanish from a text; the rest of it stays."""
    user = a_user()
    user.http.headers["authorization"] = "Bearer eyJhbGciOi.token"
    user.http.cookies.set("session", "s3ss10n-value")
    text = f"{user.password} Bearer eyJhbGciOi.token s3ss10n-value u31/3"

    assert (
        without(secrets_of([user]), text) == "[hidden] Bearer [hidden] [hidden] u31/3"
    )


def test_unprintable_is_escaped() -> None:
    """Escape sequences, line ends and halves of characters are shown, not sent on."""
    assert without([], "a\x1b[2J\n\ud800é") == "a\\x1b[2J\\n\\ud800é"


@pytest.mark.parametrize(
    ("url", "bare"),
    [
        ("https://ada:secret@notes:8443/api?key=1#x", "https://notes:8443/api"),
        ("http://notes", "http://notes"),
        ("http://[::1]:80/", "http://[::1]:80/"),
    ],
)
def test_url_is_told_without_credentials(url: str, bare: str) -> None:
    """User, password and query of a URL are left out."""
    assert bare_url(url) == bare
