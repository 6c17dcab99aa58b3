"""explore on the command line and in pytest: what a user types, and what comes back."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

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
    assert again.stdout.splitlines()[0] in ran.stdout


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


def verify(folder: Path, name: str) -> subprocess.CompletedProcess[str]:
    """Run one test file from a folder."""
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", name],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_written_test_goes_into_a_new_folder_and_runs_from_anywhere(
    subject: Path,
) -> None:
    """The folder is made; the test finds its scenario from any working folder."""
    ran = written(subject, "regressions/deep/test_quota.py")

    assert ran.returncode == 1, ran.stderr
    elsewhere = subject / "elsewhere"
    elsewhere.mkdir()
    again = verify(elsewhere, "../regressions/deep/test_quota.py")
    assert "AssertionError: assertion: " in again.stdout, again.stdout


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
        ("enters(", "walks_in(", "no longer fits at entry"),
        ("test_door(", "test_gate(", "has no scenario 'test_door'"),
        ("import asyncio", "import asincio", "No module named 'asincio'"),
    ],
)
def test_written_test_that_looks_at_nothing_fails(
    tmp_path: Path, old: str, new: str, sentence: str
) -> None:
    """After a rename the schedule proves nothing, and the test says so in a sentence."""
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


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("explore", "no_such.py"), "There is no file 'no_such.py'"),
        (("explore", "test_subject.py::nothing"), "it has CROWD, test_oversold"),
        (("explore", "test_subject.py", "--budget", "long"), "budget='long'"),
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
        ('budget="1s"', 'speed="high"', "*unexpected keyword argument 'speed'*"),
        ('(budget="1s")', '("1s")', "*takes the options of explore() by name*"),
        ("async def test_sound():", "def test_sound():", "*is no async function*"),
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
