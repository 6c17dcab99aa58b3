"""Histories in every format come out as the same calls and transactions."""

import json
from pathlib import Path

import pytest

from test_framework.check.formats import read_history, write_history
from test_framework.check.linear import Call
from test_framework.check.transactions import LogBuilder, Status, TransactionLog
from test_framework.core import UsageError


def calls_of(tmp_path: Path, text: str, name: str = "history") -> list[Call]:
    """Return the calls that a text holds, whatever its format."""
    history = read(tmp_path, text, name)
    assert not isinstance(history, TransactionLog)
    return list(history)


def log_of(tmp_path: Path, text: str) -> TransactionLog:
    """Return the transactions that a text holds, whatever its format."""
    history = read(tmp_path, text, "history")
    assert isinstance(history, TransactionLog)
    return history


def read(tmp_path: Path, text: str, name: str) -> list[Call] | TransactionLog:
    """Write a text and read it as a history."""
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    history = read_history(path)
    return history if isinstance(history, TransactionLog) else list(history)


EDN = """
{:process 0 :type :invoke :f :write :value 1}
{:process 1 :type :invoke :f :read :value nil}
{:process :nemesis :type :info :f :start}
{:process 0 :type :ok :f :write :value 1}
{:process 1 :type :ok :f :read :value 1}
{:process 1 :type :invoke :f :cas :value [1 2]}
{:process 1 :type :fail :f :cas :value [1 2]}
{:process 0 :type :invoke :f :cas :value [1 3]}
{:process 0 :type :info :f :cas :value :timed-out}
"""
WRITE = Call(0, "write", 1, 1, 0, 3, None, 0)
READ = Call(1, "read", None, 1, 1, 4, None, 1)
LOST = Call(0, "cas", (1, 3), None, 7, None, None, 7)


def as_json(text: str) -> list[object]:
    """Return the events of an EDN text of this page as JSON has them."""
    for colon in (":process ", ":type ", ":f ", ":value "):
        text = text.replace(colon, f', "{colon[1:-1]}": ').replace("{, ", "{")
    words = "nemesis invoke write read start timed-out cas ok fail info"
    for word in words.split(" "):
        text = text.replace(f" :{word}", f' "{word}"')
    text = text.replace("nil", "null").replace("[1 2]", "[1, 2]")
    return [
        json.loads(line.replace("[1 3]", "[1, 3]").replace(" ,", ","))
        for line in text.split("\n")
        if line
    ]


@pytest.mark.parametrize("form", ["lines", "vector", "json", "json-lines"])
def test_events_of_jepsen_become_calls(tmp_path: Path, form: str) -> None:
    """In EDN and JSON, one a line or all in one; what failed did not happen."""
    text = {
        "lines": EDN,
        "vector": f"[{EDN}]",
        "json": json.dumps(as_json(EDN)),
        "json-lines": "\n".join(json.dumps(event) for event in as_json(EDN)),
    }[form]

    assert calls_of(tmp_path, text) == [WRITE, READ, LOST]


def test_log_of_porcupine_tells_why_a_cas_failed(tmp_path: Path) -> None:
    """There a compare-and-set that failed found another value: a read of a kind."""
    text = (
        "INFO  jepsen.util - 0\t:invoke\t:cas\t[1 2]\n"
        "INFO  jepsen.util - 1\t:invoke\t:write\t7\n"
        "INFO  jepsen.util - 0\t:fail\t:cas\t[1 2]\n"
        "INFO  jepsen.util - 1\t:info\t:write\t:timed-out\n"
    )

    assert calls_of(tmp_path, text) == [
        Call("0", "cas", (1, 2), result=False, invoked=0, completed=2, index=0),
        Call("1", "write", 7, None, 1, None, None, 1),
    ]


def test_keys_stand_beside_values_or_in_them(tmp_path: Path) -> None:
    """Porcupine has a key of its own, jepsen.independent pairs of key and value."""
    porcupine = (
        '{:process 0, :type :invoke, :f :get, :key "k", :value nil}\n'
        '{:process 0, :type :ok, :f :get, :key "k", :value "x"}\n'
    )
    independent = (
        "{:process 0, :type :invoke, :f :write, :value [:k 5]}\n"
        "{:process 0, :type :ok, :f :write, :value [:k 5]}\n"
        "{:process 0, :type :invoke, :f :read, :value [:k nil]}\n"
        "{:process 0, :type :ok, :f :read, :value [:k 5]}\n"
    )

    (get,) = calls_of(tmp_path, porcupine)
    write, read_ = calls_of(tmp_path, independent)

    assert (get.key, get.argument, get.result) == ("k", None, "x")
    assert (write.key, write.argument) == ("k", 5)
    assert (read_.key, read_.argument, read_.result) == ("k", None, 5)


def test_transactions_become_columns(tmp_path: Path) -> None:
    """By completion, as answered if they were; an empty list is not an unknown one."""
    log = log_of(
        tmp_path,
        """
        {:process 0 :type :invoke :f :txn :value [[:append :x 1] [:r :y nil]]}
        {:process 1 :type :invoke :f :txn :value [[:r :x nil]]}
        {:process 1 :type :ok :f :txn :value [[:r :x [1 2]]]}
        {:process 0 :type :ok :f :txn :value [[:append :x 1] [:r :y nil]]}
        {:process 1 :type :invoke :f :txn :value [[:append :x 3]]}
        {:process 1 :type :fail :f :txn :value [[:append :x 3]]}
        {:process 0 :type :invoke :f :txn :value [[:append :x 4]]}
        """,
    )

    found = [log.read(number) for number in range(len(log))]

    assert [(one.session, one.status.name) for one in found] == [
        (1, "OK"),
        (0, "OK"),
        (1, "FAIL"),
        (0, "INFO"),
    ]
    assert found[0].operations == (("r", "x", (1, 2)),)
    assert found[1].operations == (("append", "x", 1), ("r", "y", ()))
    assert [(one.invoked, one.completed) for one in found][-1] == (6, None)


def test_scans_are_read_in_either_word(tmp_path: Path) -> None:
    """With lists as a mapping or as pairs; what was not found is kept."""
    log = log_of(
        tmp_path,
        """
        {:process 0 :type :invoke :f :txn :value [[:append "t/x" 1] [:append "u" 1]]}
        {:process 0 :type :ok :f :txn :value [[:append "t/x" 1] [:append "u" 1]]}
        {:process 1 :type :invoke :f :txn :value [[:rp :true nil]]}
        {:process 1 :type :ok :f :txn :value [[:rp :true {"t/x" [1]}]]}
        {:process 2 :type :invoke :f :txn :value [[:scan {:starts "t/"} nil]]}
        {:process 2 :type :ok :f :txn :value [[:scan {:starts "t/"} []]]}
        """,
    )

    assert [log.read(n).operations for n in (1, 2)] == [
        (("r", "t/x", (1,)), ("absent", "u", None)),
        (("absent", "t/x", None),),
    ]


def test_transactions_without_processes_come_one_by_one(tmp_path: Path) -> None:
    """As in the example of Elle's paper."""
    log = log_of(
        tmp_path,
        """
        {:index 0 :type :invoke :value [[:w 1 2]]}
        {:index 1 :type :ok :value [[:w 1 2]]}
        {:index 2 :type :invoke :value [[:r 1 nil]]}
        {:index 3 :type :ok :value [[:r 1 2]]}
        """,
    )

    assert [log.read(n).operations for n in range(2)] == [
        (("w", 1, 2),),
        (("r", 1, 2),),
    ]


def test_calls_come_back_as_they_were_written(tmp_path: Path) -> None:
    """Texts, numbers, sequences, sets and unknown outcomes survive."""
    calls = [
        Call("alice", "write", ("a", (1, None)), "ok", 3, 9, "k", 0),
        Call(7, "read", None, frozenset({1, "x"}), 4, None, None, 1),
    ]

    write_history(tmp_path / "own.jsonl", calls)

    assert read_history(tmp_path / "own.jsonl") == calls


def test_transactions_come_back_as_they_were_written(tmp_path: Path) -> None:
    """With sessions, users, times, and how they ended."""
    builder = LogBuilder()
    builder.add("a", [("append", "x", 1), ("r", "x", (1,))], invoked=3, completed=9)
    builder.add("b", [("w", "y", 2)], status=Status.FAIL, invoked=4, completed=5)
    builder.add("a", [("r", "y", None)], status=Status.INFO, user=7, invoked=10)
    builder.add("b", [("scan", ["x", "z"], {"z": [1]})], invoked=11, completed=12)
    log = builder.build()

    write_history(tmp_path / "own.jsonl", log)
    again = read_history(tmp_path / "own.jsonl")

    assert isinstance(again, TransactionLog)
    assert [again.read(n) for n in range(4)] == [log.read(n) for n in range(4)]


def test_value_that_json_has_not_is_refused(tmp_path: Path) -> None:
    """Bytes would not come back as they went."""
    call = Call(0, "write", b"x", None, 0, 1)

    with pytest.raises(UsageError, match=r"b'x' is a bytes, which JSON has not"):
        write_history(tmp_path / "own.jsonl", [call])


OWN = '{"history":"calls","format":1}\n'
OWN_TRANSACTIONS = '{"history":"transactions","format":1}\n'
INVOKE = "{:process 0 :type :invoke :f :read :value nil}\n"
DONE = "{:process 0 :type :ok :f :read :value nil}\n"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "is empty, so it proves nothing"),
        ("; nothing but a remark\n[]", "It holds no operation"),
        ("<html>", "in no format that is known"),
        ("[{:process 0 :type", "line 1: the text ends inside"),
        (INVOKE + "[1 2]", "line 2: 1 is no event"),
        (INVOKE + "{:process 0 :type :done}", "line 2: Its type is 'done', not one of"),
        (INVOKE + INVOKE, "line 2: Process 0 invokes an operation while an earlier"),
        (DONE, "line 1: Process 0 completes an operation that it did not invoke"),
        (INVOKE + DONE + INVOKE + DONE + "]", "line 5: ']' closes nothing"),
        (
            INVOKE + "{:process 0 :type :ok :f :write :value 1}",
            "line 2: It completes 'write', but its process invoked 'read'",
        ),
        (
            INVOKE.replace("nil", "nil :time 9") + DONE.replace("nil", "nil :time 8"),
            "line 2: It completes at 8, before it was invoked at 9",
        ),
        (
            2
            * (
                "{:index 0 :process 0 :type :invoke :f :read}\n"
                "{:index 1 :process 0 :type :ok :f :read}\n"
            ),
            "line 3: Index 0 comes after index 1.*stands there twice",
        ),
        (
            INVOKE + DONE + "{:process 0 :type :invoke :f :txn :value [[:r 1 nil]]}",
            "line 1: This operation is no transaction",
        ),
        (
            "{:process 0 :type :invoke :f :txn :value [[:inc 1 nil]]}",
            r"line 1: \('inc', 1, None\) is no operation of a transaction",
        ),
        ("{:process 0 :type :invoke :f :txn :value 5}", "line 1: Its value is 5"),
        ("{:process 0 :type :invoke :f 5}", "line 1: Its f is 5"),
        ("{:process {} :type :invoke}", "line 1: Its process is {}"),
        ('[{"type": "invoke"},\n 7 8]', "line 2: Expecting ',' delimiter"),
        ('[{"type": "lost"}]', "event 1: Its type is 'lost'"),
        ('{"type": "invoke"}\n{"type"', "line 2: It is not JSON"),
        pytest.param(
            '{"type":' + "[" * 100_000, "line 1: It is not JSON", id="deep JSON"
        ),
        pytest.param(
            '[{"type":' + "9" * 5000 + "}]", "no JSON that can be read", id="long JSON"
        ),
        ("INFO  jepsen.util - 0 :invoke\n", "line 1: .* is no line of such a log"),
        ("INFO jepsen.util - 0 :ok :read (\n", "line 1: The text ends inside a '\\('"),
        ('{"history":"calls","format":9}', "line 1: format 9 is not read"),
        ('{"history":"logs","format":1}', "line 1: the history is of 'logs'"),
        (OWN, "holds no operation"),
        (OWN + '{"kind":"read","inv', "line 2: it is not JSON .* was cut"),
        (OWN + "[]", r"line 2: \[\] is not an object"),
        (OWN + '{"kind":"read"}', "line 2: a call needs kind"),
        (OWN + '{"kind":"read","invoked":1e3}', "line 2: a call needs kind"),
        (
            OWN + '{"kind":"read","invoked":5,"completed":4}',
            "line 2: it completes at 4, before it was invoked at 5",
        ),
        (
            OWN + '{"kind":"read","invoked":5,"completed":"x"}',
            "line 2: completed must be an integer",
        ),
        (OWN + '{"kind":"read","invoked":5,"end":9}', "line 2: 'end' is no field"),
        (
            OWN + '{"kind":"write","invoked":5,"argument":{"a":1}}',
            "line 2: {'a': 1} is an object",
        ),
        (OWN_TRANSACTIONS, "holds no operation"),
        (OWN_TRANSACTIONS + '{"operations":[["r",1]]}', "line 2: operations must be"),
        (
            OWN_TRANSACTIONS + '{"operations":[["inc",1,2]]}',
            "line 2: Transaction 0 has the operation 'inc'",
        ),
        (
            OWN_TRANSACTIONS + '{"operations":[],"status":"lost"}',
            "line 2: status must be ok, fail or info",
        ),
        (OWN_TRANSACTIONS + '{"operations":[],"user":"u"}', "line 2: user must be"),
        (
            OWN_TRANSACTIONS + '{"operations":[],"invoked":1' + "0" * 30 + "}",
            "line 2: status must be",
        ),
    ],
)
def test_what_is_no_history_gets_a_sentence(
    tmp_path: Path, text: str, words: str
) -> None:
    """The line, the wrong value and the cure; never a traceback, never a verdict."""
    with pytest.raises(UsageError, match=words):
        read(tmp_path, text, "history")


def test_bytes_and_missing_files_get_a_sentence(tmp_path: Path) -> None:
    """What is not text, not there, a folder, or of an unknown format."""
    (tmp_path / "bytes.edn").write_bytes(b"{:process \xff\xfe")

    with pytest.raises(UsageError, match="is not UTF-8 text"):
        read_history(tmp_path / "bytes.edn")
    with pytest.raises(UsageError, match="cannot be read: No such file"):
        read_history(tmp_path / "missing")
    with pytest.raises(UsageError, match="in no format that is known"):
        read_history(tmp_path)
    with pytest.raises(UsageError, match="No format is named 'xml'; known are lines"):
        read_history(tmp_path, format_name="xml")


def test_format_that_is_named_is_not_guessed(tmp_path: Path) -> None:
    """A text that begins like something else is read as what it is said to be."""
    path = tmp_path / "history.json"
    path.write_text("#_ignored " + EDN, encoding="utf-8")

    history = read_history(path, format_name="jepsen-edn")

    assert not isinstance(history, TransactionLog)
    assert len(history) == len([READ, WRITE, LOST])
