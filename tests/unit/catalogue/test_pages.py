"""docs/patterns says what the files of the patterns say."""

import re
from pathlib import Path

from test_framework.catalogue import find_pattern, load_patterns
from test_framework.catalogue.code import mend, vulnerable_code
from test_framework.catalogue.pages import make_pages, symbol, write_pages

FOLDER = Path(__file__).parents[3] / "docs" / "patterns"


def test_pages_are_fresh() -> None:
    """Every page is there as it would be written now: make docs."""
    written = {
        path.name: path.read_text(encoding="utf-8") for path in FOLDER.glob("*.md")
    }

    assert written == make_pages()


def test_writing_takes_away_pages_of_patterns_that_are_gone(tmp_path: Path) -> None:
    """What is no page of the catalogue any more does not stay in its folder."""
    (tmp_path / "P99.md").write_text("gone", encoding="utf-8")

    write_pages(tmp_path)

    assert {path.name for path in tmp_path.iterdir()} == set(make_pages())


def test_index_has_a_row_for_each_pattern() -> None:
    """Each pattern is linked, and each link has its page."""
    index = make_pages()["index.md"]

    linked = re.findall(r"^\| \[([A-Z]\d\d)\]\(\1\.md\) \|", index, re.MULTILINE)

    assert sorted(linked) == sorted(pattern.id for pattern in load_patterns())


def test_stars_of_task_names_are_no_markup() -> None:
    """Needs with patterns of names stand as code, in the index and on the page."""
    pages = make_pages()

    for text in (pages["X08.md"], pages["index.md"]):
        assert "| `cancel=user*/upload*` |" in text


def test_vulnerable_code_is_a_program_without_its_mend() -> None:
    """What another file of the theme defines is put in front; the safe twin is not."""
    code = vulnerable_code(find_pattern("P14"))

    assert code.startswith("class Credits:")
    assert "class _TwoLocksCredits(Credits):" in code
    assert "LockedCredits" not in code.replace("_TwoLocksCredits", "")
    assert "PATTERN" not in code


def test_mend_shows_the_lines_that_differ() -> None:
    """As a diff of the functions that the safe twin replaces."""
    assert mend(find_pattern("P04")).splitlines() == [
        " async def add(self, user: int) -> None:",
        "-    self.total += await self.price(user)  # loads total before it awaits",
        "+    price = await self.price(user)",
        "+    self.total += price",
    ]


def test_mend_by_a_mixed_in_class_shows_that_class() -> None:
    """Where the safe twin only mixes in another class, its code is what differs."""
    assert "+class DroppingPool(Pool):" in mend(find_pattern("X02"))


def test_every_pattern_has_code_and_a_mend() -> None:
    """There is none whose twins are the same, or whose code cannot be found."""
    bare = [
        one.id
        for one in load_patterns()
        if not vulnerable_code(one) or not re.search(r"^[+-]", mend(one), re.MULTILINE)
    ]

    assert bare == []


def test_matrix_tells_missed_from_untried_from_not_its_office() -> None:
    """An expected means without an outcome was not measured; others do not apply."""
    pattern = find_pattern("P03")

    shown = [
        symbol(pattern, "access", outcomes)
        for outcomes in (
            {"access": "found"},
            {"access": "hinted"},
            {"access": "missed"},
            {},
        )
    ]

    assert shown == ["●", "◐", "○", "?"]
    assert symbol(pattern, "access", {"access": "false alarm"}) == "✗"
    assert symbol(pattern, "leaks", {}) == "·"
