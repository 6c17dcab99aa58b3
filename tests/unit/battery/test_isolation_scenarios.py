"""The matrix without a database: its table, its pages, and what it is given."""

import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from test_framework.battery.isolation import (
    PUBLISHED,
    SCENARIOS,
    PostgresLevel,
    find_scenario,
    load_sessions,
)
from test_framework.battery.isolation.matrix import Cell, Matrix
from test_framework.cli.matrix import matrix
from test_framework.core import UsageError, Verdict


def test_stronger_level_allows_no_more() -> None:
    """What REPEATABLE READ allows, READ COMMITTED does; SERIALIZABLE allows nothing."""
    read, repeatable, serial = (PUBLISHED[level] for level in PostgresLevel)

    assert serial == frozenset()
    assert repeatable == {"G2-item", "G2", "G2-two-edges"}
    assert repeatable < read
    assert len(read) == 9


@pytest.mark.parametrize("name", [one.id for one in SCENARIOS])
def test_every_anomaly_has_a_page(name: str) -> None:
    """A page tells the claim, the interleaving line by line, the levels, the cure."""
    one = find_scenario(name.lower())

    page = CliRunner().invoke(matrix, ["--explain", name.upper()])

    assert page.exit_code == 0
    told = re.sub(r"\s+", " ", page.output)
    for part in (one.title, one.claim, one.harm, one.cure):
        assert part in told
    assert page.output.count("T1  ") >= 2
    assert page.output.count("can happen") == len(one.allowed_at)


def test_scenarios_end_every_transaction() -> None:
    """No step leaves a transaction open for the next scenario to wait for."""
    for one in SCENARIOS:
        last = {step.who: step.what for step in one.steps}
        assert set(last.values()) <= {"commit", "rollback"}, one.id


def test_unknown_anomaly_is_told_the_known() -> None:
    """A name that is none gets the list."""
    with pytest.raises(UsageError, match=r"'G9'.*G2-item"):
        find_scenario("G9")


def test_matrix_without_address_says_what_it_needs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Neither an address nor a page: one sentence, no traceback."""
    monkeypatch.delenv("DATABASE_URL", raising=False)

    result = CliRunner().invoke(matrix, [])

    assert isinstance(result.exception, UsageError)
    assert "set DATABASE_URL" in str(result.exception)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("no_such_module:sessions", "No module named 'no_such_module'"),
        ("os:no_such_thing", "no attribute 'no_such_thing'"),
        ("os:sep", "is a str, not a callable"),
        ("", "Pass module:factory"),
        ("os", "Pass module:factory"),
    ],
)
def test_factory_that_is_none_is_told(name: str, said: str) -> None:
    """What was wrong with --sessions, and what it should be."""
    with pytest.raises(UsageError) as caught:
        load_sessions(name)

    assert said in str(caught.value)


def test_verdict_is_about_what_a_level_forbids() -> None:
    """Write skew breaks SERIALIZABLE only; preventing it breaks nothing."""
    skew = find_scenario("G2-item")

    def verdict(level: PostgresLevel, *, is_allowed: bool) -> Verdict:
        return Matrix((Cell(skew, level, is_allowed, ""),)).verdict

    assert verdict(PostgresLevel.SERIALIZABLE, is_allowed=True) is Verdict.INVALID
    assert verdict(PostgresLevel.REPEATABLE_READ, is_allowed=True) is Verdict.VALID
    assert verdict(PostgresLevel.REPEATABLE_READ, is_allowed=False) is Verdict.VALID


def test_table_of_the_docs_is_the_published_one() -> None:
    """Each line of the page names anomalies and what the levels do about them."""
    page = (Path(__file__).parents[3] / "docs" / "isolation.md").read_text("utf-8")
    lines = [
        line.split("|")[1:-1] for line in page.splitlines() if "prevented |" in line
    ]

    told = {
        (name, level): word.strip() == "allowed"
        for names, *words in lines
        for name in re.findall(r"`([^`]+)`", names)
        for level, word in zip(PostgresLevel, words, strict=True)
    }

    assert told == {
        (one.id, level): level in one.allowed_at
        for one in SCENARIOS
        for level in PostgresLevel
    }
