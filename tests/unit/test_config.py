"""Configuration: pyproject.toml, the environment, then the command line."""

import re
from dataclasses import fields
from pathlib import Path

import pytest

from test_framework.cli.audits import run
from test_framework.config import Config, load_config
from test_framework.core import UsageError
from test_framework.swarm import SHAPES

TABLE = """
[tool.isolation-audit]
target = "app:app"
workload = "audit.py"
services = ["postgres"]
env = { A = "1" }
"""


def project(folder: Path, text: str = TABLE) -> Path:
    """Write a pyproject.toml and return a folder inside the project."""
    (folder / "pyproject.toml").write_text(text)
    inside = folder / "deep" / "inside"
    inside.mkdir(parents=True)
    return inside


def test_nearest_pyproject_gives_the_defaults(tmp_path: Path) -> None:
    """A table above the current folder configures the audit."""
    config = load_config(start=project(tmp_path), environ={})

    assert config.target == "app:app"
    assert config.workload == tmp_path / "audit.py"
    assert config.services == ("postgres",)
    assert config.env == {"A": "1"}
    assert config.root == tmp_path
    assert config.users == 100


def test_environment_wins_over_pyproject(tmp_path: Path) -> None:
    """ISOLATION_TARGET points the audit somewhere else."""
    environ = {"ISOLATION_TARGET": "http://127.0.0.1:8000"}

    config = load_config(start=project(tmp_path), environ=environ)

    assert config.target == "http://127.0.0.1:8000"
    assert config.is_url


def test_command_line_wins_over_everything(tmp_path: Path) -> None:
    """An option that was given is used."""
    config = load_config(
        start=project(tmp_path),
        environ={"ISOLATION_TARGET": "http://a"},
        target="other:app",
        users=3,
        seed=None,
        shapes="own-connections,streaming",
    )

    assert (config.target, config.users) == ("other:app", 3)
    assert config.shapes == ("own-connections", "streaming")


def test_latency_limits_are_tables_by_endpoint(tmp_path: Path) -> None:
    """Gates and floors of a repository stand in its pyproject.toml."""
    table = TABLE + 'p99_gates_s = { "*" = 2 }\nfloors_s = { "GET /x" = 0.1 }\n'

    config = load_config(start=project(tmp_path, table), environ={})

    assert config.limits_s == {"p99_gates_s": {"*": 2}, "floors_s": {"GET /x": 0.1}}


def test_repeat_is_the_command_one_would_type(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The printed command names everything that decides the run."""
    monkeypatch.chdir(tmp_path)
    config = load_config(start=project(tmp_path), environ={}, users=12)

    assert config.repeat(77) == (
        "isolation-audit run --target app:app --workload audit.py --users 12 "
        "--seed 77 --services postgres --workers 2"
    )


@pytest.mark.parametrize(
    ("text", "given", "words"),
    [
        (TABLE + "floors_s = 0.1\n", {}, "must be a table of numbers"),
        ("", {}, "no service to audit"),
        ("", {"target": "127.0.0.1:8000"}, "Did you mean http://127.0.0.1:8000"),
        (TABLE + "userz = 3\n", {}, "unknown key 'userz'"),
        (TABLE, {"services": "mysql"}, "'mysql' is not a service"),
        ("[tool.isolation-audit\n", {}, "cannot be read as TOML"),
        (TABLE + "secrets = 3\n", {}, "secrets = 3 in "),
        ("", {}, "ISOLATION_TARGET; 'isolation-audit run' takes --target"),
    ],
)
def test_wrong_configuration_gets_one_sentence(
    tmp_path: Path, text: str, given: dict[str, str], words: str
) -> None:
    """What is missing or misspelt is named."""
    with pytest.raises(UsageError) as caught:
        load_config(start=project(tmp_path, text), environ={}, **given)

    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ('workers = "one"', "workers = 'one' in {} must be a whole number"),
        ("workers = 1.5", "workers = 1.5 in {} must be a whole number"),
        ('users = "ten"', "users = 'ten' in {} must be a whole number"),
        ("users = true", "users = True in {} must be a whole number"),
        ('port = "80"', "port = '80' in {} must be a whole number"),
        ('seed = "x"', "seed = 'x' in {} must be a whole number"),
        ('fault_seconds = "6"', "fault_seconds = '6' in {} must be a number"),
        ("env = 5", "env = 5 in {} must be a table of texts"),
        ("env = { A = [1] }", "env = {{'A': [1]}} in {} must be a table of texts"),
        ("uvicorn = 3", "uvicorn = 3 in {} must be a table"),
        ("workload = 5", "workload = 5 in {} must be a path"),
        ("target = 5", "target = 5 in {} must be a text"),
        ("secrets = 3", "secrets = 3 in {} must be a list of texts"),
        ("faults = [1]", "faults = [1] in {} must be a list of texts"),
        ("logs = [1]", "logs = [1] in {} must be a list of paths"),
        (
            "detector_options = 1",
            "detector_options = 1 in {} must be a table of tables",
        ),
        (
            'floors_s = {"*"="x"}',
            "floors_s = {{'*': 'x'}} in {} must be a table of num",
        ),
    ],
)
def test_value_of_another_type_is_named_with_its_file(
    tmp_path: Path, line: str, words: str
) -> None:
    """TOML takes any value for any key; the service is not started with it."""
    text = "[tool.isolation-audit]\n"
    if not line.startswith("target"):
        text += 'target = "app:app"\n'
    with pytest.raises(UsageError) as caught:
        load_config(start=project(tmp_path, f"{text}{line}\n"), environ={})

    expected = words.format(repr(str(tmp_path / "pyproject.toml")))
    assert str(caught.value).startswith(expected)


def test_every_field_of_the_configuration_can_be_written(tmp_path: Path) -> None:
    """Natural values of every type are taken: numbers in env, one name for a list."""
    config = load_config(
        start=project(
            tmp_path,
            """
[tool.isolation-audit]
target = "app:app"
seed = 3
fault_seconds = 6
env = { PORT = 80, SHARE = 0.5, NAME = "x" }
uvicorn = { ws = "wsproto", limit_concurrency = 5, reset_contextvars = true }
logs = "a.log"
secrets = "KEY"
detector_options = { leaks = { classes = ["a:B"] } }
floors_s = { "*" = 1 }
""",
        ),
        environ={},
    )

    assert config.env == {"PORT": "80", "SHARE": "0.5", "NAME": "x"}
    assert config.uvicorn["limit_concurrency"] == 5
    assert config.logs == (tmp_path / "a.log",)
    assert (config.seed, config.fault_seconds, config.secrets) == (3, 6, ("KEY",))


def test_track_starts_the_access_detector(tmp_path: Path) -> None:
    """Packages to track are options of a detector, beside those of the others."""
    config = load_config(
        start=project(tmp_path),
        environ={},
        track=["app"],
        detectors="checks:Mine",
        detector_options={"checks:Mine": {"limit": 3}},
    )

    assert config.watching == {
        "access": {"packages": ["app"]},
        "checks:Mine": {"limit": 3},
    }
    assert "--track app" in config.repeat(1)


def test_unknown_detector_is_refused(tmp_path: Path) -> None:
    """A misspelt detector would leave the service unwatched."""
    with pytest.raises(UsageError, match="'lokcs' is no detector"):
        load_config(start=project(tmp_path), environ={}, detectors="lokcs")


def test_faults_run_after_the_first_shape_only(tmp_path: Path) -> None:
    """Faults take the place of the other shapes, unless shapes are asked for."""
    inside = project(tmp_path)
    faults = load_config(start=inside, environ={}, faults="kill-worker, half-open")
    both = load_config(start=inside, environ={}, faults="all", shapes="disconnects")
    none = load_config(start=inside, environ={}, faults="none")

    assert faults.faults == ("kill-worker", "half-open")
    assert faults.shapes == SHAPES[:1]
    assert "--faults kill-worker,half-open --fault-seconds 6" in faults.repeat(1)
    assert "--shapes" not in faults.repeat(1)
    assert both.shapes == ("disconnects",)
    assert (none.faults, none.shapes) == ((), SHAPES)


def test_unknown_fault_is_refused_with_all_names(tmp_path: Path) -> None:
    """A mistyped fault is told before anything is started, with what there is."""
    with pytest.raises(UsageError, match=r"'earthquake' is no fault\. .*kill-worker"):
        load_config(start=project(tmp_path), environ={}, faults="earthquake")


def test_page_names_every_key_and_those_without_an_option() -> None:
    """The table of docs/audit-file.md holds what pyproject.toml may hold."""
    page = (Path(__file__).parents[2] / "docs" / "audit-file.md").read_text("utf-8")
    section = page.partition("## Where the target comes from")[2].partition("\n## ")[0]
    cells = re.findall(r"^\| (`.*?) \|", section, re.MULTILINE)
    (sentence,) = re.findall(r"^(.*) have no option", section, re.MULTILINE)
    keys = {field.name for field in fields(Config)} - {"root"}

    assert {name for cell in cells for name in re.findall("`(.*?)`", cell)} == keys
    assert set(re.findall("`(.*?)`", sentence)) == keys - {
        option.name for option in run.params
    }
