"""Which database the deadlock watcher asks."""

import pytest

from test_framework.clients.deadlocks import ServiceDeadlockWatcher
from test_framework.core import UsageError
from test_framework.detect import make_detector


@pytest.mark.parametrize("url", ["mysql://u:secret@h/d", "u:secret@h"])
def test_url_of_another_database_is_refused(url: str) -> None:
    """A URL that is not Postgres's is refused, and its password not repeated."""
    with pytest.raises(UsageError, match="is not that of Postgres") as refused:
        make_detector("locks", {"postgres_url": url})

    assert "secret" not in str(refused.value)


@pytest.mark.parametrize("value", ["", "sqlite:///notes.db"])
def test_environment_without_postgres_is_no_error(
    monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    """Whatever DATABASE_URL says, locks are watched; what is not watched is told."""
    monkeypatch.setenv("DATABASE_URL", value)
    watcher = ServiceDeadlockWatcher()

    assert "no URL of a Postgres database" in str(watcher.coverage().unwatched)


def test_url_of_sqlalchemy_is_understood(monkeypatch: pytest.MonkeyPatch) -> None:
    """The driver in a URL is left out."""
    monkeypatch.setenv("DATABASE_URL", "postgresql+asyncpg://u:p@h/d")

    assert ServiceDeadlockWatcher()._url == "postgresql://u:p@h/d"
