"""Identical users on any Python: they need CPython 3.11, and others say so."""

import asyncio
import subprocess
import sys

import pytest

from test_framework.explore import Conclusion, Scenario, explore


def test_import_warns_of_nothing() -> None:
    """What is made to learn its type is closed: Python 3.12 tells of all that is not."""
    command = [sys.executable, "-W", "error", "-c", "import test_framework.explore"]
    done = subprocess.run(  # our own Python
        command, capture_output=True, text=True, check=True
    )

    assert done.stderr == ""


@pytest.mark.skipif(sys.version_info < (3, 12), reason="CPython 3.11 shows the stacks")
def test_python_that_hides_stacks_proves_nothing() -> None:
    """It is asked to leave symmetric=True out, and never says PROVEN."""

    async def visit(_: dict[str, int], __: int) -> None:
        await asyncio.sleep(0)

    report = explore(Scenario(dict, visit), symmetric=True, budget=60)

    assert report.conclusion is Conclusion.INCONCLUSIVE
    assert "leave symmetric=True out, or use CPython 3.11" in report.claim
