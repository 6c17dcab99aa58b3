"""docs/catalogue.md says what is there."""

import re
from pathlib import Path

from test_framework.catalogue import load_patterns

DOCUMENT = Path(__file__).parents[3] / "docs" / "catalogue.md"


def test_document_lists_exactly_the_patterns() -> None:
    """One line per pattern, with title and needs as the code has them."""
    rows = re.findall(
        r"^\| ([A-Z]\d\d) \| (.+) \| (.+) \|$",
        DOCUMENT.read_text(encoding="utf-8"),
        re.MULTILINE,
    )

    assert sorted(rows) == sorted(
        (pattern.id, pattern.title, str(pattern.needs)) for pattern in load_patterns()
    )
