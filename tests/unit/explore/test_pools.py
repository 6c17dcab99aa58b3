"""Pools that are asked, when their users are done, whether they are clean."""

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from test_framework.core import UsageError
from test_framework.explore import (
    Conclusion,
    Report,
    Scenario,
    as_test,
    explore,
    external,
    load_scenario,
    replay,
    watch_pool,
)

ROOT = Path(__file__).parents[3]


class Pool:
    """Connections that are counted.

    Args:
        opens_safely: Whether what is lent is given back when opening it fails.
    """

    def __init__(self, *, opens_safely: bool) -> None:
        self.size = self.free = 2
        self.opens_safely = opens_safely

    @contextlib.asynccontextmanager
    async def borrow(self) -> AsyncIterator[None]:
        """Lend a connection."""
        self.free -= 1
        if not self.opens_safely:
            await external("open")
        try:
            if self.opens_safely:
                await external("open")
            yield
        finally:
            self.free += 1

    def is_clean(self) -> bool:
        """Tell whether everything was given back."""
        return self.free == self.size


def watched(*, opens_safely: bool) -> Callable[[], Pool]:
    """Return a setup that makes such a pool and watches it."""

    def setup() -> Pool:
        pool = Pool(opens_safely=opens_safely)
        watch_pool(pool, clean=pool.is_clean)
        return pool

    return setup


async def use(pool: Pool, user: int) -> None:  # noqa: ARG001  # the face of a user
    """Borrow and give back."""
    async with pool.borrow():
        await external("query")


LOSES_SLOTS = Scenario(watched(opens_safely=False), use, users=2)
KEEPS_SLOTS = Scenario(watched(opens_safely=True), use, users=2)


def with_cancellations(scenario: Scenario[Pool], *, users: int = 2) -> Report:
    """Explore with every cancellation of a user."""
    return explore(
        scenario, users=users, cancel="user[?]", budget="10s", schedules=2_000, seed=1
    )


def test_slot_that_a_cancellation_loses_is_found() -> None:
    """The failure names the pool, the fault, its task and its line."""
    report = with_cancellations(LOSES_SLOTS)

    assert report.conclusion is Conclusion.FOUND, report.text()
    assert report.witness is not None
    failure = report.witness.failure
    assert failure.kind == "dirty-pool"
    assert failure.message == (
        "Pool is not clean when its users are done: clean answers False."
    )
    _, stroke = failure.details
    task, _, rest = stroke.partition(" was cancelled at ")
    assert task.startswith("user[")
    assert Path(__file__).name in rest
    assert rest.endswith('  await external("open")')
    assert [line.task for line in report.witness.story if line.fault] == [task]


def test_pool_that_gives_everything_back_is_quiet() -> None:
    """The safe sibling holds under every cancellation."""
    report = with_cancellations(KEEPS_SLOTS, users=1)

    assert report.conclusion is Conclusion.PROVEN, report.text()
    assert not any("nothing was asked" in note for note in report.notes)


def test_lost_slot_is_replayed_and_becomes_a_test() -> None:
    """The schedule repeats the failure, and the written test fails with it."""
    report = with_cancellations(LOSES_SLOTS)
    assert report.witness is not None
    schedule = report.witness.schedule

    outcome = replay(LOSES_SLOTS, schedule.token())

    assert outcome.failure == report.witness.failure
    assert "is not clean" in outcome.text()
    folder = Path(sys.modules[__name__].__file__ or "").parent
    names: dict[str, object] = {"__file__": str(folder / "test_written.py")}
    exec(as_test(schedule, outcome.failure, folder), names)  # noqa: S102  # the file that is written
    written = next(value for name, value in names.items() if name.startswith("test_"))
    assert callable(written)
    with pytest.raises(AssertionError, match="is not clean"):
        written()


def test_example_of_the_docs_finds_what_they_say(tmp_path: Path) -> None:
    """The program of docs/explore.md prints the lines that stand below it."""
    page = (ROOT / "docs" / "explore.md").read_text(encoding="utf-8")
    _, _, section = page.partition("## Pools after a fault\n")
    program = section.partition("```python\n")[2].partition("```")[0]
    printed = section.partition("$ python pools.py\n")[2].partition("```")[0]
    file = tmp_path / "pools.py"
    file.write_text(program.partition("print(")[0], encoding="utf-8")

    report = explore(load_scenario(f"{file}::queries"), cancel="user*", seed=1)

    said = report.text().replace(f"{tmp_path}/", "").replace(f"{tmp_path.name}/", "")
    assert said.startswith(printed)


def test_pool_that_is_never_clean_is_found_without_a_fault() -> None:
    """What was said of a pool holds in the usual order as well."""

    def setup() -> Pool:
        pool = Pool(opens_safely=True)
        watch_pool(pool, clean=lambda: pool.free > pool.size)
        return pool

    report = explore(Scenario(setup, use, users=1), seed=1)

    assert report.conclusion is Conclusion.FOUND, report.text()


def test_pool_that_raises_tells_its_own_words() -> None:
    """As a check does."""

    async def borrow_for_ever() -> None:
        pool = Pool(opens_safely=True)
        watch_pool(pool, clean=lambda: _complain("2 are out"))
        await external("work")

    report = explore(borrow_for_ever, seed=1)

    assert report.witness is not None
    assert report.witness.failure.message == (
        "Pool is not clean when its users are done: ValueError: 2 are out."
    )


def _complain(words: str) -> None:
    raise ValueError(words)


def test_connection_on_its_way_back_is_waited_for() -> None:
    """A cancelled user gives back in a task that the cancellation does not stop."""

    async def use_shielded(pool: Pool, user: int) -> None:  # noqa: ARG001  # the face of a user
        pool.free -= 1
        try:
            await external("query")
        finally:
            await asyncio.shield(asyncio.create_task(give_back(pool)))

    async def give_back(pool: Pool) -> None:
        await external("reset")
        pool.free += 1

    report = with_cancellations(
        Scenario(watched(opens_safely=True), use_shielded, users=2)
    )

    assert report.witness is None, report.text()
    assert report.conclusion is not Conclusion.INCONCLUSIVE


def test_task_that_never_ends_delays_the_question_only() -> None:
    """It outlives the user who started it; the pool is asked all the same."""

    async def start_heartbeat(pool: Pool, user: int) -> None:
        beats.append(asyncio.create_task(beat(), name="beat"))
        await use(pool, user)

    async def beat() -> None:
        for _ in range(1_000):
            await asyncio.sleep(0.3)

    beats: list[asyncio.Task[None]] = []
    scenario = Scenario(watched(opens_safely=False), start_heartbeat, users=1)

    report = explore(scenario, cancel="user[?]", schedules=50, seed=1)

    assert report.witness is not None, report.text()
    assert report.witness.failure.kind == "dirty-pool"


def test_plain_test_is_asked_when_it_ends() -> None:
    """Also when it ends with the cancellation of the one that borrows."""

    async def borrow_once() -> None:
        pool = watched(opens_safely=False)()
        await asyncio.create_task(use(pool, 0), name="user")

    report = explore(borrow_once, cancel="user", schedules=50, seed=1)

    assert report.witness is not None, report.text()
    assert report.witness.failure.kind == "dirty-pool"


def test_plain_test_with_users_still_at_work_is_not_asked() -> None:
    """The other user holds a connection by right, and loses it when all is ended."""

    async def borrow_together() -> None:
        pool = watched(opens_safely=False)()
        await asyncio.gather(*(use(pool, user) for user in range(2)))

    # The first user has opened its connection; the second one opens one.
    outcome = replay(borrow_together, "fidelity = fifo\ncancel in use[0] at 2\n")

    assert outcome.failure is None, outcome.text()
    assert any(line.startswith("    use[0]") for line in outcome.text().splitlines())


def test_async_question_is_refused() -> None:
    """Nothing would await it."""

    async def is_clean() -> bool:
        return True

    async def ask_in_vain() -> None:
        watch_pool(object(), clean=is_clean)

    report = explore(ask_in_vain, seed=1)

    assert report.conclusion is Conclusion.INCONCLUSIVE
    assert "is async" in report.claim


async def test_unknown_pool_needs_to_say_when_it_is_clean() -> None:
    """The message says which are known, and the cure."""
    with pytest.raises(UsageError, match=r"clean=lambda: pool\.free == pool\.size"):
        watch_pool(Pool(opens_safely=True))


async def test_nothing_is_asked_without_the_explorer() -> None:
    """A scenario is an ordinary program elsewhere."""
    watch_pool(object(), clean=lambda: _complain("asked"))
