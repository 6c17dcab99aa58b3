"""What a case of the verdict suite is: a scenario and the one right answer to it.

The line that the answer must name carries the comment ``# <- here`` in the source of the
case; a case without the mark must be answered without a line.
"""

import inspect
import sys
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict, TypeVar, Unpack

import pytest

from test_framework.explore import Conclusion, Scenario

_MARK = "# <- here"


class ExploreOptions(TypedDict, total=False):
    """Options of ``explore`` that a case may set."""

    users: int
    budget: str | float
    schedules: int
    fidelity: str
    cancel: bool | str
    errors: tuple[str, ...]
    max_steps: int


Source = Callable[[], Coroutine[Any, Any, object]] | Callable[[], Scenario[Any]]
"""An async function is a scenario by itself; a plain one makes a ``Scenario``."""

AnySource = TypeVar("AnySource", bound=Source)


@dataclass(frozen=True, slots=True)
class Case:
    """A scenario and what must be said about it.

    Attributes:
        source: The function that is or makes the scenario.
        conclusion: The one right conclusion.
        kind: Kind of the failure, for what is FOUND.
        says: Words that the report must hold.
        options: Options of the exploration.
        since: The first Python that can run it.
    """

    source: Source
    conclusion: Conclusion
    kind: str
    says: tuple[str, ...]
    options: ExploreOptions
    since: tuple[int, int]

    @property
    def name(self) -> str:
        """The name of the function."""
        return self.source.__name__

    def scenario(self) -> Any:  # noqa: ANN401  # async function or Scenario
        """Return what is to be explored."""
        if sys.version_info < self.since:
            pytest.skip(f"needs Python {'.'.join(map(str, self.since))}")
        return (
            self.source if inspect.iscoroutinefunction(self.source) else self.source()
        )

    def places(self) -> set[str]:
        """Return ``file:line`` of every marked line, the file without its folders."""
        lines, first = inspect.getsourcelines(self.source)
        file = Path(inspect.getfile(self.source)).name
        return {
            f"{file}:{number}"
            for number, line in enumerate(lines, first)
            if line.rstrip().endswith(_MARK)
        }


CASES: dict[str, Case] = {}
"""By the name of the function."""


def case(
    conclusion: Conclusion,
    *,
    kind: str = "",
    says: str | tuple[str, ...] = (),
    since: tuple[int, int] = (3, 11),
    **options: Unpack[ExploreOptions],
) -> Callable[[AnySource], AnySource]:
    """Add a scenario to the suite.

    Args:
        conclusion: The one right conclusion.
        kind: Kind of the failure, for what is FOUND.
        says: Words that the report must hold.
        since: The first Python that can run it.
        **options: Options of the exploration.
    """
    words = (says,) if isinstance(says, str) else says

    def add(source: AnySource) -> AnySource:
        made = Case(source, conclusion, kind, words, options, since)
        # A second case of a name would silently take the place of the first.
        assert made.name not in CASES, made.name
        CASES[made.name] = made
        return source

    return add
