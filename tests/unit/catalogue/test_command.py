"""``isolation-audit patterns`` lists and explains."""

import pytest
from click.testing import CliRunner, Result

from test_framework.catalogue import load_patterns
from test_framework.cli import cli
from test_framework.core import UsageError


def run(*words: str) -> Result:
    """Run the command."""
    return CliRunner().invoke(cli, ["patterns", *words])


def test_patterns_are_listed_by_theme() -> None:
    """Each has a line, below what its theme is about."""
    result = run()

    assert result.exit_code == 0
    lines = result.output.splitlines()
    assert lines.index(
        "Read, await, act: what was read is no longer true when it is acted upon"
    ) < lines.index("  P03  lost update")
    assert sum(line.startswith("  ") for line in lines) == len(load_patterns())


def test_list_is_narrowed_to_an_area_and_a_detector() -> None:
    """Both must fit."""
    result = run("--area", "WebSocket connection state", "--detector", "access")

    listed = {line.split()[0] for line in result.output.splitlines() if line[:1] == " "}
    assert "W08" in listed
    assert listed == {
        one.id
        for one in load_patterns()
        if "WebSocket connection state" in one.areas and "access" in one.detectors
    }


def test_one_pattern_is_explained_with_code_and_mend() -> None:
    """Who reads it sees what happens, why, and which lines mend it."""
    result = run("p04")

    assert result.exit_code == 0
    for part in (
        "P04  augmented assignment across await",
        "Mend: Await first, then add.",
        "https://github.com/eslint/eslint/issues/11899",
        "    alice                           bob",
        "    -    self.total += await self.price(user)  # loads total before it awaits",
    ):
        assert part in result.output


def test_unknown_pattern_is_a_mistake_with_near_names() -> None:
    """The message, and with it exit code 2, is that of find_pattern."""
    result = run("lost updates")

    assert isinstance(result.exception, UsageError)
    assert "P03 (lost update)" in str(result.exception)


@pytest.mark.parametrize(
    "option", [("--area", "user context"), ("--detector", "locks")]
)
def test_one_pattern_is_not_filtered(option: tuple[str, str]) -> None:
    """An option that would do nothing is refused."""
    result = run("P03", *option)

    assert isinstance(result.exception, UsageError)
    assert "P03" in str(result.exception)
