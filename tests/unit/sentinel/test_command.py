"""Each wrong option of ``watch`` is refused in a sentence, before anything is sent."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from test_framework.cli.watch import watch
from test_framework.core import UsageError
from test_framework.sentinel import parse_duration

AUDIT = Path(__file__).parents[2] / "targets" / "notes_audit.py"


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--interval", "soon"], "'soon' is no duration"),
        (["--interval", "0.5s"], r"interval=0\.5 s"),
        (["--repeat-after", "4 weeks"], "'4 weeks' is no duration"),
        (["--users", "1"], "users=1: a round takes 2 to"),
        (["--ramp", "5,many"], "ramp='5,many': numbers with commas"),
        (["--ramp", "5", "--ramp-every", "1"], "ramp_every=1"),
        (["--rate", "0"], "rate=0"),
        (["--rate", "nan"], "rate=nan"),
        (["--shapes", "read-bursts,storms"], "'storms' is not a traffic shape"),
        (["--target", "app.main:create_app"], "a watch needs the URL"),
        (["--workload", "nowhere.py"], "There is no audit file"),
        (["--pool-gauge", "pool"], "--pool-gauge 'pool' is read from"),
        (["--load-gauge", "load"], "--load-gauge 'load' is read from"),
        (["--pool-size", "10"], "Pass --pool-gauge NAME"),
        (["--service-metrics", "notes:80"], "--service-metrics 'notes:80' is no http"),
        (["--sweep"], "DATABASE_URL, which is not set"),
        (["--webhook", "ftp://hooks/"], "scheme 'ftp' is no http"),
        (["--state", "audit.py/state"], "state folder .* cannot be written"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_wrong_option_is_one_sentence(
    options: list[str],
    sentence: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The value is named, with what was expected."""
    monkeypatch.chdir(tmp_path)
    for name in ("DATABASE_URL", "ISOLATION_TARGET", "ISOLATION_WEBHOOK"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "audit.py").touch()
    given = ["--target", "http://127.0.0.1:1", "--workload", str(AUDIT)]

    result = CliRunner().invoke(watch, [*given, *options])

    assert isinstance(result.exception, UsageError)
    with pytest.raises(UsageError, match=sentence):
        raise result.exception


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90", 90), ("60s", 60), ("1.5m", 90), ("4h", 14400), ("1d", 86400)],
)
def test_duration_is_read(text: str, seconds: float) -> None:
    """A number has a unit, or is in seconds."""
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "s", "-5s", "5 s", "1e3", "٣s", "9" * 400])
def test_other_durations_are_refused(text: str) -> None:
    """What is no duration is quoted, with what one looks like."""
    with pytest.raises(UsageError, match=r"is no duration\. Write"):
        parse_duration(text)
