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


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("explore", "no_such.py"), "There is no file 'no_such.py'"),
        (("explore", "test_subject.py::nothing"), "it has CROWD, test_oversold"),
        (("explore", "test_subject.py", "--budget", "long"), "budget='long'"),
        (("replay", "x1.broken"), "not a complete token"),
        (("replay", "nonsense"), "neither the token of a schedule"),
    ],
)
def test_wrong_words_get_a_sentence(
    subject: Path, words: tuple[str, ...], sentence: str
) -> None:
    """A user's mistake is one sentence and exit code 2."""
    ran = command(subject, *words)

    assert ran.returncode == 2
    assert sentence in ran.stderr.replace("\n", " ")
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
