"""Public histories with known verdicts, beside the project where they are had."""

from pathlib import Path

import pytest

HISTORIES = Path(__file__).parents[4] / "shared" / "histories"


def public_history(*parts: str) -> Path:
    """Return the path of a public history, or skip the test."""
    path = HISTORIES.joinpath(*parts)
    if not path.exists():
        pytest.skip(f"The public history {'/'.join(parts)} is not beside the project.")
    return path
