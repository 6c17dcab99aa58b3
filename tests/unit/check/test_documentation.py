"""What the page about checkers shows is what its programs print."""

import contextlib
import io
import re
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[3] / "docs" / "checkers.md"
EXAMPLES = re.findall(
    r"```python\n(.*?)```\n\n```text\n(.*?)```",
    PAGE.read_text(encoding="utf-8"),
    re.DOTALL,
)


@pytest.mark.parametrize("number", range(4))
def test_example_prints_what_the_page_shows(number: int) -> None:
    """Programs and outputs stand in pairs; there may be more of them."""
    program, output = EXAMPLES[number]
    printed = io.StringIO()

    with contextlib.redirect_stdout(printed):
        exec(compile(program, str(PAGE), "exec"), {})  # noqa: S102  # our own page

    assert printed.getvalue() == output
