"""``check`` on histories of anything: verdict, proof, page, and one sentence for a mistake."""

import os
import re
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from test_framework.check import judge
from test_framework.cli import cli
from test_framework.core import UsageError
from test_framework.report import write_reports
from tests.unit.check.builder import whole_run

SOUND = """
{:type :invoke, :f :txn, :value [[:append :x 1]], :process 0, :index 0}
{:type :ok, :f :txn, :value [[:append :x 1]], :process 0, :index 1}
{:type :invoke, :f :txn, :value [[:r :x nil]], :process 1, :index 2}
{:type :ok, :f :txn, :value [[:r :x [1]]], :process 1, :index 3}
"""
STALE = (
    SOUND
    + """
{:type :invoke, :f :txn, :value [[:append :x 2]], :process 0, :index 4}
{:type :ok, :f :txn, :value [[:append :x 2]], :process 0, :index 5}
{:type :invoke, :f :txn, :value [[:r :x nil]], :process 1, :index 6}
{:type :ok, :f :txn, :value [[:r :x [1]]], :process 1, :index 7}
{:type :invoke, :f :txn, :value [[:r :x nil]], :process 0, :index 8}
{:type :ok, :f :txn, :value [[:r :x [1 2]]], :process 0, :index 9}
"""
)


def _check(path: Path, *options: str) -> Result:
    return CliRunner().invoke(cli, ["check", str(path), *options])


def _written(folder: Path, text: str, name: str = "history.edn") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def test_sound_history_is_valid(tmp_path: Path) -> None:
    """Exit code 0, what was looked at, and what it is consistent with."""
    ended = _check(_written(tmp_path, SOUND))

    assert ended.exit_code == 0
    assert "VALID   list-append, strict-serializable" in ended.output
    assert "history.edn: 2 transactions" in ended.output


@pytest.mark.power
def test_broken_history_is_told_in_sentences_and_drawn(tmp_path: Path) -> None:
    """Exit code 1, the calls, why they cannot be, and a page that holds the same."""
    page = tmp_path / "page.html"

    ended = _check(_written(tmp_path, STALE), "--page", str(page))

    assert ended.exit_code == 1
    assert "INVALID" in ended.output
    assert "T1 read [1] of x, before T2 appended 2 to it" in ended.output
    assert "T1 read [1] of x, before T2 appended 2 to it" in page.read_text("utf-8")


def test_weaker_demand_is_met(tmp_path: Path) -> None:
    """A stale read is no offence against plain serializability."""
    ended = _check(_written(tmp_path, STALE), "--model", "serializable")

    assert ended.exit_code == 0


@pytest.mark.parametrize(
    ("text", "options", "words"),
    [
        ("", (), "is empty, so it proves nothing"),
        ("nonsense", (), "line 1: .nonsense. is no event"),
        (SOUND[:100], (), "line"),
        (SOUND, ("--model", "tree"), "--model tree: it is not known"),
        (SOUND, ("--format", "csv"), "No format is named 'csv'"),
        (SOUND, ("--report", "out"), "--report: not for other histories"),
        (SOUND, ("--seconds", "0"), "--seconds 0: pass a number above 0"),
        (SOUND, ("--seconds", "nan"), "--seconds nan: pass a number"),
        (SOUND, ("--memory", "-5"), "--memory -5: pass a number above 0"),
        (SOUND, ("--page", "/nowhere/page.html"), "cannot be written"),
    ],
)
def test_mistake_is_one_sentence(
    tmp_path: Path, text: str, options: tuple[str, ...], words: str
) -> None:
    """Nothing that a user gets wrong ends in a traceback, or in a verdict."""
    ended = _check(_written(tmp_path, text), *options)

    assert isinstance(ended.exception, UsageError), ended.output
    assert re.search(words, str(ended.exception))


def test_missing_file_is_one_sentence(tmp_path: Path) -> None:
    """The path is named."""
    ended = _check(tmp_path / "absent.edn")

    assert isinstance(ended.exception, UsageError)
    assert "absent.edn" in str(ended.exception)


def test_options_of_other_histories_are_refused_for_audits(tmp_path: Path) -> None:
    """An audit has its own demands."""
    path = _written(tmp_path, '{"type":"run"}\n', "history.jsonl")

    ended = _check(path, "--model", "register")

    assert isinstance(ended.exception, UsageError)
    assert "--model: not for audits" in str(ended.exception)


def test_pipe_is_refused(tmp_path: Path) -> None:
    """What can be read once only is no history, and nothing waits for its writer."""
    path = tmp_path / "pipe"
    os.mkfifo(path)

    ended = _check(path)

    assert isinstance(ended.exception, UsageError)
    assert "is neither a file nor a folder" in str(ended.exception)


NAMED = """
{:process 0, :type :invoke, :f :read, :value nil}
{:process "ann", :type :invoke, :f :write, :value 1}
{:process :nemesis, :type :info, :f :partition}
{:process "ann", :type :ok, :f :write, :value 1}
{:process 0, :type :ok, :f :read, :value 1}
"""
WRITES = """
{:process 0, :type :invoke, :f :write, :value 1}
{:process 0, :type :ok, :f :write, :value 1}
"""


def test_clients_may_have_names(tmp_path: Path) -> None:
    """Only the nemesis is no client."""
    ended = _check(_written(tmp_path, NAMED))

    assert ended.exit_code == 0
    assert "2 calls" in ended.output


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (WRITES, "No call returned anything that could be wrong"),
        (WRITES.replace(":ok", ":fail"), "No operation took effect"),
    ],
)
def test_history_that_proves_nothing_is_unknown(
    tmp_path: Path, text: str, words: str
) -> None:
    """Writes alone, or nothing at all, never look green."""
    ended = _check(_written(tmp_path, text))

    assert ended.exit_code == 3
    assert words in ended.output


def test_terminal_and_page_are_not_commanded(tmp_path: Path) -> None:
    """Keys and values may hold anything; nothing of it reaches a terminal raw."""
    page = tmp_path / "page.html"
    text = STALE.replace(":x", '"\\u001b[31mX"')
    lines = _written(tmp_path, LINES, "history.jsonl")

    ended = _check(_written(tmp_path, text))
    odd = _check(lines, "--page", str(page))

    assert (ended.exit_code, odd.exit_code) == (1, 1)
    assert "\x1b" not in ended.output
    assert "\\x1b[31mX" in ended.output
    assert page.exists()


LINES = r"""{"history": "transactions", "format": 1}
{"session":"a","operations":[["append","\ud800","\ud801"]],"invoked":0,"completed":1}
{"session":"b","operations":[["r","\ud800",[]]],"invoked":2,"completed":3}
{"session":"b","operations":[["r","\ud800",["\ud801"]]],"invoked":4,"completed":5}
"""


def test_report_of_a_run_is_told_from_its_history(tmp_path: Path) -> None:
    """It is whole and it is no history: the sentence names the file that is."""
    builder = whole_run(2)
    write_reports(tmp_path, judge(builder.history), builder.history)

    with pytest.raises(UsageError) as caught:
        CliRunner().invoke(
            cli, ["check", str(tmp_path / "audit.json")], catch_exceptions=False
        )

    assert "is what was judged of a run, and not its history" in str(caught.value)
    assert str(tmp_path / "history.jsonl") in str(caught.value)
