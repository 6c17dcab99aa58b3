"""Audit files: read with care, refused with the line and the cure."""

import re
import sys
from pathlib import Path

import pytest

from test_framework.core import UsageError
from test_framework.swarm import Plan, User, load_plan

GOOD = """
PUBLIC = ["GET /news"]
HEALTH = "/health"
EVENT_SEQUENCE = "seq"
P95_GATES_S = {"*": 1.0}
REUSE_ACCOUNTS = True

async def login(user): ...
async def workload(user): ...
async def cleanup(user): ...
"""

BARE = "async def workload(user): ...\n"


def write(folder: Path, text: str) -> Path:
    """Write an audit file."""
    path = folder / "audit_file.py"
    path.write_text(text)
    return path


def test_audit_file_becomes_a_plan(tmp_path: Path) -> None:
    """Hooks and options of the file stand in the plan."""
    plan = load_plan(write(tmp_path, GOOD), users=7)

    assert plan.users == 7
    assert plan.public == ("GET /news",)
    assert plan.health == "/health"
    assert plan.event_sequence == "seq"
    assert plan.p95_gates_s == {"*": 1.0}
    assert plan.workload_name == "audit_file.py"
    assert plan.reuses_accounts
    assert plan.cleanup is not None


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("async def workload(user:\n", "line 1 is not valid Python"),
        ("x = 1\nimport no_such_module\n", "line 2 failed on import"),
        ("async def login(user): ...\n", "defines no workload"),
        ("def workload(user): ...\n", "must be 'async def workload"),
        ("async def workload(): ...\n", "must be 'async def workload"),
        ("async def workload(user): ...\nHEALTH = 3\n", "HEALTH = 3"),
        (
            "async def workload(user): ...\nPUBLIC = 'GET /x'\n",
            "must be a list of texts. Write PUBLIC = ['GET /x']",
        ),
        ("async def workload(user): ...\nPUBLIC = [1]\n", "must be a list of texts"),
        ("async def workload(user): ...\nOPENAPI = 1\n", "must be a text"),
        ("x = 1\0", "audit_file.py' is not valid Python: source code"),
        ("async def workload(user): ...\nFLOORS_S = 0.5\n", "FLOORS_S = 0.5"),
    ],
)
def test_malformed_audit_file_gets_one_sentence(
    tmp_path: Path, text: str, words: str
) -> None:
    """Each mistake is named with its line or value."""
    with pytest.raises(UsageError, match="audit_file") as caught:
        load_plan(write(tmp_path, text))

    assert words in str(caught.value)


def test_missing_audit_file_names_the_option(tmp_path: Path) -> None:
    """A path that leads nowhere says what to pass."""
    with pytest.raises(UsageError, match="Pass --workload FILE"):
        load_plan(tmp_path / "absent.py")


async def _nothing(_: User) -> None: ...


def test_no_users_is_refused() -> None:
    """Zero users cannot even prove nothing."""
    with pytest.raises(UsageError, match="users=0"):
        Plan(workload=_nothing, users=0)


def test_unknown_shape_is_refused_with_the_list() -> None:
    """A misspelt shape gets the names that exist."""
    with pytest.raises(UsageError, match="'burst' is not a traffic shape"):
        Plan(workload=_nothing, shapes=("burst",))


@pytest.mark.parametrize("seconds", [0, -1.5, "2", True, float("nan"), float("inf")])
def test_limit_that_is_no_time_is_refused(seconds: object) -> None:
    """A gate or floor is a number of seconds above zero."""

    async def workload(_: User) -> None: ...

    with pytest.raises(UsageError, match=r"floors_s\['GET /x'\] = .* above zero"):
        Plan(workload, floors_s={"GET /x": seconds})  # type: ignore[dict-item]  # on purpose


def test_audit_file_wins_over_limits_of_the_repository(tmp_path: Path) -> None:
    """Limits of pyproject.toml stand where the audit file says nothing else."""
    limits_s = {"p95_gates_s": {"*": 9.0, "GET /x": 2.0}, "floors_s": {"GET /x": 0.1}}

    plan = load_plan(write(tmp_path, GOOD), limits_s=limits_s)

    assert plan.p95_gates_s == {"*": 1.0, "GET /x": 2.0}
    assert plan.floors_s == {"GET /x": 0.1}
    assert plan.p50_gates_s == {}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("RECOVERY_LEVEL = 'note'", "'error' or a 'warning'"),
        ("RECOVERY_GATES_S = {'*': 0}", "must be seconds"),
        ("async def probe():\n    ...", "async def probe(user)"),
        ("EVENT_RESUME = 1", "must be a text"),
    ],
)
def test_wrong_words_about_faults_are_refused(
    tmp_path: Path, text: str, words: str
) -> None:
    """What an audit file says about faults is checked before anything starts."""
    path = tmp_path / "audit.py"
    path.write_text(f"async def workload(user):\n    ...\n\n{text}\n")

    with pytest.raises(UsageError, match=re.escape(words)):
        load_plan(path)


def test_time_of_a_fault_is_some_seconds(tmp_path: Path) -> None:
    """Without any time nothing would be under way."""
    path = tmp_path / "audit.py"
    path.write_text("async def workload(user):\n    ...\n")

    with pytest.raises(UsageError, match="fault_seconds=0"):
        load_plan(path, faults=("all",), fault_seconds=0)


def test_time_of_a_fault_ends(tmp_path: Path) -> None:
    """A run that lasts for ages was mistyped."""
    path = tmp_path / "audit.py"
    path.write_text("async def workload(user):\n    ...\n")

    assert load_plan(path, faults=("all",), fault_seconds=3600).fault_seconds == 3600
    with pytest.raises(UsageError, match=r"fault_seconds=1e\+300: at most 3600"):
        load_plan(path, faults=("all",), fault_seconds=1e300)


def test_audit_file_imports_its_neighbour(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What several audit files share lies beside them, and stays out of the rest."""
    monkeypatch.delitem(sys.modules, "neighbour_of_audits", raising=False)
    (tmp_path / "neighbour_of_audits.py").write_text("HEALTH = '/up'\n")
    before = list(sys.path)

    plan = load_plan(write(tmp_path, "from neighbour_of_audits import HEALTH\n" + BARE))

    assert plan.health == "/up"
    assert sys.path == before


def test_neighbour_hides_nothing_that_is_installed(tmp_path: Path) -> None:
    """A folder with a json.py beside the audit file does not change what json is."""
    (tmp_path / "graphlib.py").write_text("raise OSError\n")

    load_plan(write(tmp_path, "import graphlib\n" + BARE))
