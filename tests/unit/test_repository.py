"""Promises about the repository as a whole that no other tool checks."""

import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
# What tools write where a package index or a machine was known to them.
_HOSTS = re.compile(
    r"pypi\.org/simple|pythonhosted|devpi|artifactory|/pypi/|\bregistry = \{|"
    r"\b(extra-)?index-url\b|\bfind-links\b",
    re.IGNORECASE,
)
_HOMES = r"/(home|Users)/\w+/"
# Codes, and behind them a reason.
_EXCUSED = re.compile(r"#\s*(noqa: [A-Z]+\d+(, ?[A-Z]+\d+)*|type: ignore\[[\w, -]+\])")
_REASON = re.compile(r"\s+# \S.{2,}")


def tracked_files() -> list[Path]:
    """Return all files of the repository: committed, or new and not ignored."""
    git = shutil.which("git")
    if git is None or not (ROOT / ".git").exists():
        pytest.skip("the source is no git repository: there is no list of its files")
    listed = subprocess.run(
        [git, "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    )
    names = [name for name in listed.stdout.split("\0") if name]
    return [ROOT / name for name in names if (ROOT / name).is_file()]


def text_of(path: Path) -> str:
    """Return what a file says; of a binary one, nothing."""
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        return ""


def pins() -> dict[str, str]:
    """Return the locked versions."""
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pairs = (line.partition(";")[0].strip().split("==") for line in lines)
    return dict(pairs)


def test_no_file_names_an_index_or_machine() -> None:
    """No file holds the host of a package index or a path of somebody's machine."""
    here = [path for path in (ROOT, Path.home()) if len(path.parts) > 2]
    machine = re.compile(
        "|".join([_HOMES, *(rf"(?<![\w.]){re.escape(str(path))}\b" for path in here)])
    )

    found = [
        f"{path.relative_to(ROOT)}: {match.group()!r}"
        for path in tracked_files()
        if path != Path(__file__)
        for pattern in (_HOSTS, machine)
        for match in pattern.finditer(text_of(path))
    ]

    assert found == []


def test_every_lock_line_is_a_plain_pin() -> None:
    """constraints.txt holds ``name==version`` lines, sorted, and nothing else."""
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()

    odd = [line for line in lines if not re.match(r"[a-z0-9-]+==[\w.]+( ; .+)?$", line)]

    assert odd == []
    assert lines == sorted(lines, key=lambda line: line.partition("==")[0])


def test_every_requirement_is_locked() -> None:
    """Each package that pyproject.toml asks for has a locked version that fits."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    wanted = [
        *project["build-system"]["requires"],
        *project["project"]["dependencies"],
        *(
            one
            for extra in project["project"]["optional-dependencies"].values()
            for one in extra
        ),
        *(one for group in project["dependency-groups"].values() for one in group),
    ]
    locked = pins()

    unfit = [
        line
        for line in wanted
        for requirement in [Requirement(line)]
        if not requirement.specifier.contains(
            locked.get(canonicalize_name(requirement.name), "0")
        )
    ]

    assert unfit == []


def test_every_excuse_has_a_code_and_reason() -> None:
    """Each ``noqa`` and ``type: ignore`` names its code and says why."""
    found = []
    for path in tracked_files():
        if path.suffix != ".py" or path == Path(__file__):
            continue
        for number, line in enumerate(text_of(path).splitlines(), start=1):
            if not re.search(r"#\s*(noqa\b|type:\s*ignore)", line):
                continue
            excuse = _EXCUSED.search(line)
            if excuse is None or not _REASON.match(line, excuse.end()):
                found.append(f"{path.relative_to(ROOT)}:{number}: {line.strip()}")

    assert found == []


def test_readme_opens_with_the_two_commands() -> None:
    """README's first screen shows ``make audit`` and ``make test``, and CI runs it."""
    screen = (ROOT / "README.md").read_text(encoding="utf-8").splitlines()[:50]
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8")

    assert any("make audit" in line for line in screen)
    assert any("make test" in line for line in screen)
    assert "make test" in script
    assert "make check" in script


@pytest.mark.slow
@pytest.mark.parametrize(
    ("module", "planted", "contract"),
    [
        ("app/settings.py", "import test_framework.core", "never import each other"),
        ("test_framework/core/clock.py", "import httpx", "judges are pure"),
        ("test_framework/core/seed.py", "import socket", "judges are pure"),
        (
            "test_framework/check/names.py",
            "import test_framework.swarm",
            "rooms of the framework",
        ),
        ("app/settings.py", "import app.storage", "rooms of the reference service"),
    ],
)
def test_planted_import_breaks_its_contract(
    tmp_path: Path, module: str, planted: str, contract: str
) -> None:
    """An import against the design is refused by the contract that forbids it."""
    for package in ("app", "test_framework"):
        shutil.copytree(
            ROOT / package,
            tmp_path / package,
            ignore=shutil.ignore_patterns("__pycache__"),
        )
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    with (tmp_path / module).open("a", encoding="utf-8") as file:
        file.write(f"\n{planted}\n")

    done = subprocess.run(
        [Path(sys.executable).with_name("lint-imports"), "--no-cache", "--no-logo"],
        cwd=tmp_path,
        check=False,
        capture_output=True,
        text=True,
    )

    assert done.returncode == 1, done.stdout + done.stderr
    broken = [line for line in done.stdout.splitlines() if line.endswith("BROKEN")]
    assert any(contract in line for line in broken), done.stdout
