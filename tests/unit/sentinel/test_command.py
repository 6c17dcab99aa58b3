"""Each wrong option of ``watch`` is refused in a sentence, before anything is sent."""

from pathlib import Path

import pytest
from click.testing import CliRunner
from prometheus_client import generate_latest

from test_framework.cli.watch import _exit_code, _Watch, watch
from test_framework.config import load_config
from test_framework.core import UsageError
from test_framework.sentinel import (
    Alert,
    Change,
    Memory,
    Round,
    Symptom,
    Tier,
    parse_duration,
)
from test_framework.swarm import load_plan
from tests.unit.sentinel.virtual import EPOCH_S, LEAK, a_round, unknown

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


def an_alert(tier: Tier) -> Alert:
    """Return an alert that lasts."""
    symptom = Symptom(LEAK.rule, tier, "a leak", LEAK.claim)
    return Alert(symptom, since=EPOCH_S, told_at=EPOCH_S)


@pytest.mark.parametrize(
    ("last", "alerts", "code"),
    [
        (a_round(1), [], 0),
        (a_round(1), [Tier.WARNING, Tier.TREND], 0),
        (a_round(1), [Tier.WARNING, Tier.CRITICAL], 1),
        (unknown(1), [], 3),
        (unknown(1), [Tier.CRITICAL], 1),
    ],
    ids=["calm", "warnings", "critical", "unknown", "unknown and critical"],
)
def test_end_says_what_lasts(last: Round, alerts: list[Tier], code: int) -> None:
    """After the last of ``--rounds`` the worst that lasts decides the exit code."""
    memory = Memory("http://notes")
    memory.remember(last)
    memory.alerts |= {str(tier): an_alert(tier) for tier in alerts}

    assert _exit_code(memory) == code


def a_watch(*options: str) -> _Watch:
    """Return what the command would run."""
    given = ["--target", "http://ada:s3cret@notes", "--workload", str(AUDIT), *options]
    context = watch.make_context("watch", given)
    config = load_config(target=context.params["target"], workload=str(AUDIT), users=5)
    return _Watch(context.params, config, load_plan(AUDIT, users=5))


def a_memory() -> Memory:
    """Return a memory in which P95 is fifty times the users, in milliseconds."""
    memory = Memory("http://notes")
    for number, users in enumerate((5, 10, 20) * 3, 1):
        memory.remember(
            a_round(number, users=users, p95_ms={"GET /notes": users * 50.0})
        )
    return memory


def test_round_of_the_ramp_tells_the_capacity(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """After a round with more users it is told, and shown, where the gate is reached."""
    memory = a_memory()
    one = a_watch("--ramp", "5,10,20")

    one._tell(memory.rounds[-1], [], memory)

    told = capsys.readouterr().out
    assert "round 9: valid, 20 users" in told
    assert "P95 up to 1000 ms (GET /notes)" in told
    assert "Capacity by p95: 100 users (100 to 100)." in told
    page = generate_latest(one._metrics.registry).decode()
    assert 'capacity_users{bound="estimate",limit="p95"} 1' in page


def test_round_without_a_ramp_tells_no_capacity(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Who asks for no forecast gets none, and alerts are told with their tier."""
    memory = a_memory()
    change = Change("firing", an_alert(Tier.CRITICAL))

    a_watch()._tell(a_round(10), [change], memory)

    told = capsys.readouterr().out
    assert "Capacity" not in told
    assert f"firing CRITICAL  {LEAK.rule}: {LEAK.claim}" in told


def test_target_is_told_without_its_password() -> None:
    """State, metrics and messages name the service by its bare address."""
    one = a_watch()

    assert one._target.name == "http://notes"
    assert one._target.base_url == "http://ada:s3cret@notes"
    assert "s3cret" not in one._config.repeat(1)
