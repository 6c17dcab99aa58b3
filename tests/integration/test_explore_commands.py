"""explore on the command line and in pytest: what a user types, and what comes back."""

import io
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from test_framework.cli.exploring import _listener
from test_framework.core import UsageError
from test_framework.explore import Progress, explore, load_scenario

SUBJECT = """
import asyncio

import pytest

from test_framework.explore import Scenario, external


class Quota:
    def __init__(self):
        self.left, self.sold = 1, 0


async def buy(quota, user=0):
    if quota.left > 0:
        await external("charge")
        quota.left -= 1
        quota.sold += 1


def not_oversold(quota):
    assert quota.sold <= 1


CROWD = Scenario(Quota, buy, not_oversold, users=3)


@pytest.mark.explore(budget="1s")
async def test_oversold():
    quota = Quota()
    await asyncio.gather(buy(quota), buy(quota))
    assert quota.sold <= 1


@pytest.mark.explore(budget="1s")
async def test_sound():
    quota, lock = Quota(), asyncio.Lock()

    async def buy_locked():
        async with lock:
            await buy(quota)

    await asyncio.gather(buy_locked(), buy_locked())
    assert quota.sold <= 1
"""


@pytest.fixture
def subject(tmp_path: Path) -> Path:
    """A folder with one test file."""
    (tmp_path / "test_subject.py").write_text(SUBJECT, encoding="utf-8")
    return tmp_path


def command(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Run isolation-audit in a folder."""
    return subprocess.run(
        [sys.executable, "-m", "test_framework.cli", *words],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def run_tests(pytester: pytest.Pytester, *words: str, text: str) -> pytest.RunResult:
    """Run pytest on a subject."""
    pytester.makepyfile(test_subject=text)
    return pytester.runpytest_subprocess(
        "-p", "no:cacheprovider", "-W", "ignore::DeprecationWarning", *words
    )


def test_explore_command_finds_and_keeps_schedules(subject: Path) -> None:
    """Every scenario of a file is explored; what fails is kept as a file."""
    ran = command(subject, "explore", "test_subject.py", "--seed", "1")

    assert ran.returncode == 1, ran.stderr
    assert ran.stdout.count("FOUND") == 2
    assert ran.stdout.count("PROVEN") == 1
    kept = sorted(path.name for path in (subject / "reports").iterdir())
    assert kept == [
        "test_subject-py-CROWD.schedule",
        "test_subject-py-test_oversold.schedule",
    ]


def test_printed_replay_line_repeats_the_failure(subject: Path) -> None:
    """The command under a finding, typed as it stands, fails in the same way."""
    ran = command(subject, "explore", "test_subject.py::CROWD", "--seed", "1")
    line = re.search(r"Replay +isolation-audit (replay \S+)", ran.stdout)
    assert line is not None

    again = command(subject, *line[1].split())

    assert again.returncode == 1
    verdict, _, failure = again.stdout.splitlines()[0].partition("  ")
    assert verdict == "FOUND"
    assert failure in ran.stdout.splitlines()


def test_kept_schedule_replays_and_becomes_a_test(subject: Path) -> None:
    """The file of a schedule is as good as its token, and can be made a test."""
    command(subject, "explore", "test_subject.py::test_oversold", "--seed", "1")
    path = "reports/test_subject-py-test_oversold.schedule"

    again = command(subject, "replay", path, "--as-test", "test_regression.py")

    assert again.returncode == 1
    assert "def test_oversold_stays_mended" in (
        subject / "test_regression.py"
    ).read_text(encoding="utf-8")


def written(subject: Path, name: str) -> subprocess.CompletedProcess[str]:
    """Let the schedule of test_oversold become the test of this name."""
    command(subject, "explore", "test_subject.py::test_oversold", "--seed", "1")
    path = "reports/test_subject-py-test_oversold.schedule"
    return command(subject, "replay", path, "--as-test", name)


def verify(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Run pytest in a folder."""
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *words],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.long
def test_written_test_goes_into_a_new_folder_and_runs_from_anywhere(
    subject: Path,
) -> None:
    """The folder is made; the test finds its scenario from any working folder."""
    ran = written(subject, "regressions/deep/test_quota.py")

    assert ran.returncode == 1, ran.stderr
    elsewhere = subject / "elsewhere"
    elsewhere.mkdir()
    again = verify(elsewhere, "../regressions/deep/test_quota.py")
    assert "AssertionError: FOUND  assertion: " in again.stdout, again.stdout


@pytest.mark.long
def test_written_test_replaces_only_its_like(subject: Path) -> None:
    """A file of the user is left alone; a written test is written anew."""
    own = '"""Mine."""\n'
    (subject / "test_mine.py").write_text(own, encoding="utf-8")

    refused = written(subject, "test_mine.py")

    assert refused.returncode == 2
    assert "is no test that the explorer wrote" in refused.stderr
    assert (subject / "test_mine.py").read_text(encoding="utf-8") == own
    assert written(subject, "test_new.py").returncode == 1
    assert written(subject, "test_new.py").returncode == 1


def test_written_test_that_cannot_be_written_gets_a_sentence(subject: Path) -> None:
    """A file where a folder should be is the user's mistake, not a defect."""
    ran = written(subject, "test_subject.py/test_new.py")

    assert ran.returncode == 2, ran.stderr
    assert "cannot be written" in ran.stderr


RARE = """
import asyncio

from test_framework.explore import external


async def opens(door):
    await external("key")
    door.append("open")


async def enters(door):
    await external("walk")
    assert door


async def test_door():
    door = []
    await asyncio.gather(opens(door), enters(door))
"""


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ("enters(", "walks_in(", "FOUND  after"),
        pytest.param(
            "test_door(",
            "test_gate(",
            "has no scenario 'test_door'",
            marks=pytest.mark.long,
        ),
        pytest.param(
            "import asyncio",
            "import asincio",
            "No module named 'asincio'",
            marks=pytest.mark.long,
        ),
    ],
)
def test_written_test_that_looks_at_nothing_fails(
    tmp_path: Path, old: str, new: str, sentence: str
) -> None:
    """After a rename the bug is searched for anew, or the test says what is missing."""
    subject = tmp_path / "test_subject.py"
    subject.write_text(RARE, encoding="utf-8")
    command(tmp_path, "explore", "test_subject.py")
    kept = "reports/test_subject-py-test_door.schedule"
    command(tmp_path, "replay", kept, "--as-test", "test_new.py")
    subject.write_text(RARE.replace(old, new), encoding="utf-8")

    ran = verify(tmp_path, "test_new.py")

    assert ran.returncode == 1, ran.stdout
    assert sentence in ran.stdout
    assert "During handling" not in ran.stdout
    assert "loader.py" not in ran.stdout


ODD = """
import asyncio
import sys

import pytest


@pytest.mark.explore(speed="high")
async def test_typo():
    pass


@pytest.mark.explore("1s")
async def test_by_position():
    pass


async def test_skips_itself():
    pytest.skip("no luck today")


async def test_expects_to_fail():
    pytest.xfail("known")


@pytest.mark.skip(reason="too slow")
async def test_marked():
    assert False


async def test_fixture(tmp_path):
    pass


async def test_generator():
    yield


class TestQuota:
    async def test_method(self):
        pass


async def test_last():
    pass
"""


@pytest.fixture(scope="module")
def odd(tmp_path_factory: pytest.TempPathFactory) -> subprocess.CompletedProcess[str]:
    """What explore says of a file of tests that it cannot all explore."""
    folder = tmp_path_factory.mktemp("odd")
    (folder / "test_odd.py").write_text(ODD, encoding="utf-8")
    (folder / "test_absent.py").write_text(
        "import pytest\npytest.importorskip('no_such')\n", encoding="utf-8"
    )
    return command(folder, "explore", ".")


@pytest.mark.parametrize(
    "sentence",
    [
        "test_absent.py skipped: could not import 'no_such'",
        "test_odd.py::test_skips_itself\nskipped: no luck today\n",
        "test_odd.py::test_expects_to_fail\nxfailed: known\n",
        "test_odd.py::test_marked\nskipped: too slow\n",
        "test_odd.py::test_fixture takes tmp_path: run it with pytest.\n",
        "test_odd.py::test_generator has a yield, ",
        "test_odd.py::TestQuota::test_method is in a class: run it with pytest.\n",
        "test_odd.py::test_last\nPROVEN",
    ],
)
def test_what_is_not_explored_gets_a_line(
    odd: subprocess.CompletedProcess[str], sentence: str
) -> None:
    """What is left out or skips itself is named with its reason; the rest goes on."""
    assert sentence in odd.stdout
    assert "Traceback" not in odd.stderr


def test_wrong_marker_stops_only_its_own_test(
    odd: subprocess.CompletedProcess[str],
) -> None:
    """Each wrong marker gets its sentence, and the exit code is that of a mistake."""
    assert odd.returncode == 2
    assert (
        "isolation-audit: The explore marker of test_typo: explore() got an unexpected "
        "keyword argument 'speed'."
    ) in odd.stderr
    assert "The explore marker of test_by_position got ('1s',)" in odd.stderr


PACKAGED = """
from .shop import buy


async def test_shop():
    assert await buy() == 1
"""


def test_module_in_a_package_may_import_relatively(tmp_path: Path) -> None:
    """Where __init__.py stands a module is imported by its name in the package."""
    (tmp_path / "shop_tests").mkdir()
    (tmp_path / "shop_tests/shop.py").write_text("async def buy():\n    return 2\n")
    test = tmp_path / "shop_tests/test_shop.py"
    test.write_text(PACKAGED, encoding="utf-8")

    alone = command(tmp_path, "explore", "shop_tests/test_shop.py")
    (tmp_path / "shop_tests/__init__.py").touch()
    packed = command(tmp_path, "explore", "shop_tests/test_shop.py")

    assert alone.returncode == 2
    assert "Put an __init__.py into its folder" in alone.stderr
    assert packed.stdout.splitlines()[1].startswith("FOUND"), packed.stderr


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("import no_such_thing", "Install no_such_thing, or run from the folder in"),
        (
            "raise SystemExit(3)",
            "it ends the program (SystemExit: 3) when it is loaded",
        ),
        ("1 / 0", "ZeroDivisionError: division by zero. Correct it first."),
        ("async def test_x():\n    yield", "test_x has a yield"),
        ("async def test_x(tmp_path):\n    pass", "test_x takes tmp_path: run it with"),
    ],
)
def test_module_that_cannot_be_loaded_gets_a_sentence(
    tmp_path: Path, text: str, sentence: str
) -> None:
    """Why a module gives no scenario is told with its cure."""
    path = tmp_path / "test_broken.py"
    path.write_text(text, encoding="utf-8")

    with pytest.raises(UsageError) as refused:
        load_scenario(f"{path}::test_x")

    assert sentence in str(refused.value)


IN_CLASSES = """
class TestQuota:
    async def test_method(self):
        pass

    @staticmethod
    async def test_static():
        pass
"""


def test_only_what_needs_an_object_is_refused_in_a_class(tmp_path: Path) -> None:
    """A method needs the object that pytest makes; a static one is a function."""
    path = tmp_path / "test_classes.py"
    path.write_text(IN_CLASSES, encoding="utf-8")

    assert callable(load_scenario(f"{path}::TestQuota::test_static"))
    with pytest.raises(UsageError, match="test_method is in a class: run it with py"):
        load_scenario(f"{path}::TestQuota::test_method")


def test_progress_counts_one_as_one() -> None:
    """The first run is told in the singular."""
    with Console(file=io.StringIO()).status("") as status:
        _listener(status)(Progress(1, 1, 0.0, 5.0))
        assert str(status.status).startswith("1 run, 1 distinct order, ")
        _listener(status)(Progress(1200, 2, 0.0, 5.0))
        assert str(status.status).startswith("1,200 runs, 2 distinct orders, ")


NAMELESS = """
from test_framework.explore import Scenario


async def user(state, number):
    assert not state


def made():
    return Scenario(lambda: [1], user)
"""


def test_scenario_without_a_name_says_why_there_is_no_replay(tmp_path: Path) -> None:
    """A Scenario that a function makes cannot be found again, and the report says so."""
    path = tmp_path / "nameless.py"
    path.write_text(NAMELESS, encoding="utf-8")
    space: dict[str, Any] = {}
    exec(compile(NAMELESS, path, "exec"), space)  # noqa: S102  # a module of no name

    report = explore(space["made"](), budget=1)

    assert report.conclusion == "FOUND"
    assert "No replay: give the Scenario a name at module level." in report.text()


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("explore", "no_such.py"), "There is no file 'no_such.py'"),
        (("explore", "test_subject.py::nothing"), "it has CROWD, test_oversold"),
        (("explore", "test_subject.py", "--budget", "long"), "budget='long'"),
        (
            ("explore", "test_subject.py:test_sound"),
            "Did you mean test_subject.py::test_sound?",
        ),
        (
            ("explore", "test_subject.py::test_sound", "--users", "3"),
            "--users: there is no Scenario here",
        ),
        (
            ("explore", "test_subject.py::test_sound", "--symmetric"),
            "--symmetric: there is no Scenario here",
        ),
        (("explore", "test_subject.py", "--fidelity", "wrong"), "is not one of 'fifo'"),
        (("explore", "test_subject.py", "--users", "0"), "0 is not in the range"),
        (
            ("explore", "test_subject.py", "--report", "test_subject.py/reports"),
            "The report folder 'test_subject.py/reports' cannot be written",
        ),
        (("replay", "x1.broken"), "not a complete token"),
        (("replay", "nonsense"), "neither the token of a schedule"),
        (("replay", sys.executable), "cannot be read as a schedule"),
    ],
)
def test_wrong_words_get_a_sentence(
    subject: Path, words: tuple[str, ...], sentence: str
) -> None:
    """A user's mistake is one sentence and exit code 2."""
    ran = command(subject, *words)

    assert ran.returncode == 2
    assert sentence in ran.stderr
    assert "Traceback" not in ran.stderr
    assert "FOUND" not in ran.stdout


def test_live_finding_leaves_no_schedule(subject: Path) -> None:
    """What real time showed cannot be repeated, so no file promises that it can."""
    ran = command(subject, "explore", "test_subject.py::test_oversold", "--io", "live")

    assert ran.returncode == 1, ran.stderr
    assert "FOUND" in ran.stdout
    assert "File" not in ran.stdout
    assert not (subject / "reports").exists()


def test_stale_replay_is_unknown(subject: Path) -> None:
    """A schedule that no longer fits and does not fail proves nothing: exit code 3."""
    text = (
        "scenario = test_subject.py::test_sound\nfidelity = fifo\nturns 1\n"
        "buy_locked[7]/charge[0] 1\nturns 1\n"
    )
    (subject / "stale.schedule").write_text(text, encoding="utf-8")

    ran = command(subject, "replay", "stale.schedule")

    assert ran.returncode == 3, ran.stdout
    assert "no longer fits" in ran.stdout


def test_marked_tests_are_explored(pytester: pytest.Pytester) -> None:
    """A marked test fails with its witness; a sound one passes with its verdict."""
    ran = run_tests(pytester, "-rP", "--run-seed=1", text=SUBJECT)

    ran.assert_outcomes(passed=1, failed=1)
    ran.stdout.fnmatch_lines(["*FOUND*", "*Again   pytest *--run-seed=1*", "*PROVEN*"])
    ran.stdout.fnmatch_lines(["*Replay  isolation-audit replay x1.*"])


def test_test_with_fixtures_replays_through_pytest(pytester: pytest.Pytester) -> None:
    """Where a test takes fixtures the replay line is one of pytest, and works."""
    text = SUBJECT.replace(
        "async def test_oversold():", "async def test_oversold(tmp_path):"
    )
    ran = run_tests(pytester, "-k", "oversold", text=text)
    line = re.search(r'Replay  pytest "(\S+)" (--explore-replay=\S+)', ran.stdout.str())
    assert line is not None

    again = run_tests(pytester, line[1], line[2], text=text)

    again.assert_outcomes(failed=1)
    again.stdout.fnmatch_lines(["*assertion: *"])


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ('budget="1s"', 'budget="1 fortnight"', "*budget='1 fortnight'*"),
        pytest.param(
            'budget="1s"',
            'speed="high"',
            "*unexpected keyword argument 'speed'*",
            marks=pytest.mark.long,
        ),
        pytest.param(
            '(budget="1s")',
            '("1s")',
            "*takes the options of explore() by name*",
            marks=pytest.mark.long,
        ),
        pytest.param(
            "async def test_sound():",
            "def test_sound():",
            "*is no async function*",
            marks=pytest.mark.long,
        ),
    ],
)
def test_wrong_marker_gets_a_sentence(
    pytester: pytest.Pytester, old: str, new: str, sentence: str
) -> None:
    """A wrong option of the marker fails the test with one sentence."""
    text = SUBJECT.replace(old, new)
    if new.startswith("def"):
        text = text.replace("await asyncio.gather(buy_locked(), buy_locked())", "pass")

    ran = run_tests(pytester, "-k", "sound", text=text)

    ran.assert_outcomes(failed=1)
    ran.stdout.fnmatch_lines([sentence])


def test_body_may_skip_or_expect_to_fail(pytester: pytest.Pytester) -> None:
    """What the body of an explored test says of itself is no finding."""
    text = """
        import pytest

        @pytest.mark.explore
        async def test_skips():
            pytest.skip("no luck")

        @pytest.mark.explore
        async def test_expects_to_fail():
            pytest.xfail("known")
    """

    ran = run_tests(pytester, text=text)

    ran.assert_outcomes(skipped=1, xfailed=1)


STRANGE = """
import asyncio
import unittest

import pytest

from test_framework.explore import external


class TestInAClass:
    @pytest.mark.explore(budget="1s")
    async def test_method(self):
        await external("x")
        assert False


class TestOld(unittest.TestCase):
    @pytest.mark.explore
    def test_old(self):
        pass


@pytest.mark.explore
async def test_generator():
    yield


@pytest.mark.explore(symmetric=True)
async def test_crowd():
    pass
"""


def test_what_pytest_cannot_explore_is_told_once(pytester: pytest.Pytester) -> None:
    """Each refusal is one sentence that names the test."""
    ran = run_tests(pytester, "-k", "not method", text=STRANGE)

    text = ran.stdout.str()
    ran.assert_outcomes(failed=3)
    assert "test_old is marked explore and is a method of unittest.TestCase" in text
    assert "test_generator is marked explore and has a yield" in text
    assert "do the same, and test_crowd starts its users itself" in text
    assert "During handling" not in text
    report = text.partition("short test summary")[0]
    assert report.count("starts its users itself") == 1


@pytest.mark.long
def test_test_in_a_class_replays_through_pytest(pytester: pytest.Pytester) -> None:
    """The command line cannot load a method, so the replay line is one of pytest."""
    ran = run_tests(pytester, "-k", "method", text=STRANGE)
    line = re.search(r'Replay  pytest "(\S+)" (--explore-replay=\S+)', ran.stdout.str())
    assert line is not None
    assert "isolation-audit replay" not in ran.stdout.str()

    again = run_tests(pytester, line[1], line[2], text=STRANGE)

    again.assert_outcomes(failed=1)


@pytest.mark.long
def test_replay_line_fits_the_folder_in_which_pytest_was_called(
    tmp_path: Path,
) -> None:
    """A relative import that only pytest resolves, and a root elsewhere, are minded."""
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    folder = tmp_path / "tests"
    folder.mkdir()
    (folder / "test_subject.py").write_text(SUBJECT, encoding="utf-8")

    ran = verify(folder, "test_subject.py::test_oversold")
    line = re.search(r"Replay +isolation-audit (replay \S+)", ran.stdout)
    assert line is not None, ran.stdout
    again = command(folder, *line[1].split())

    assert again.returncode == 1, again.stderr
    assert "assertion: " in again.stdout


@pytest.mark.long
def test_module_that_only_pytest_imports_replays_through_pytest(
    tmp_path: Path,
) -> None:
    """Without __init__.py the command line cannot resolve a relative import."""
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    folder = tmp_path / "tests"
    folder.mkdir()
    (folder / "shop.py").write_text("async def buy():\n    return 2\n")
    text = PACKAGED.replace("async def", "@pytest.mark.explore\nasync def")
    (folder / "test_shop.py").write_text(f"import pytest\n{text}", encoding="utf-8")

    ran = verify(tmp_path, "--import-mode=importlib", "tests/test_shop.py")

    assert 'Replay  pytest "tests/test_shop.py::test_shop" --explore-r' in ran.stdout
    assert "isolation-audit replay" not in ran.stdout


def test_stale_replay_under_pytest_fails(pytester: pytest.Pytester) -> None:
    """A schedule that no longer fits proves nothing, so the test is not green."""
    pytester.makefile(".schedule", stale="fidelity = fifo\ngone[7]/charge[0] 1\n")

    ran = run_tests(
        pytester, "-k", "sound", "--explore-replay=stale.schedule", text=SUBJECT
    )

    ran.assert_outcomes(failed=1)
    ran.stdout.fnmatch_lines(["*The schedule no longer fits*"])
