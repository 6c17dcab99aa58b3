"""The wheel as a stranger gets it: built, installed, run elsewhere.

The service audited is ``examples/notes``, which knows neither this repository nor
its reference service. By default the wheel stands beside the packages of this
environment; the long test installs it into nothing, with what it asks for, from the
package index that made the development environment.
"""

import json
import os
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "notes"

pytestmark = [pytest.mark.integration, pytest.mark.slow]


def run(*words: str | Path, cwd: Path) -> "subprocess.CompletedProcess[str]":
    """Run a command with what a stranger's shell has: none of our variables."""
    ours = {"PYTHONPATH", "VIRTUAL_ENV", "DATABASE_URL", "REDIS_URL"}
    return subprocess.run(
        words,
        cwd=cwd,
        env={
            name: value
            for name, value in os.environ.items()
            if name not in ours and not name.startswith(("ISOLATION_", "PYTEST_"))
        },
        check=False,
        capture_output=True,
        text=True,
        timeout=300,
    )


def succeed(*words: str | Path, cwd: Path) -> None:
    """Run a command that must end well."""
    done = run(*words, cwd=cwd)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from the source."""
    folder = tmp_path_factory.mktemp("dist")
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation"]
    succeed(*build, "--outdir", folder, ROOT, cwd=folder)
    (path,) = folder.glob("isolation_audit-*.whl")
    return path


@pytest.fixture(scope="module")
def beside_ours(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The commands of an environment of the wheel, with our packages behind it.

    Ours come after its own on the path, and our own source is not among them: it is
    there by a ``.pth`` file, which is read for the environment's own packages only.
    """
    folder = tmp_path_factory.mktemp("beside")
    venv.create(folder)
    (packages,) = folder.glob("lib/python*/site-packages")
    pip = [sys.executable, "-m", "pip", "--python", str(folder / "bin" / "python")]
    succeed(*pip, "install", "--quiet", "--no-deps", "--no-index", wheel, cwd=folder)
    (packages / "ours.pth").write_text(sysconfig.get_path("purelib"), encoding="utf-8")
    return folder / "bin"


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The commands of an environment that holds the wheel, what it needs, and FastAPI."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, with_pip=True)
    commands = folder / "bin"
    succeed(
        *(commands / "python", "-m", "pip", "install", "--quiet", wheel, "fastapi"),
        *("--constraint", ROOT / "constraints.txt"),
        cwd=folder,
    )
    return commands


def audit(
    commands: Path, folder: Path, target: str
) -> "subprocess.CompletedProcess[str]":
    """Audit the example as its tutorial does, from a folder that holds only it."""
    for name in (f"{target}.py", "audit.py"):
        (folder / name).write_bytes((EXAMPLE / name).read_bytes())
    return run(
        *(commands / "isolation-audit", "run", "--target", f"{target}:create_app"),
        # It keeps its notes in memory, so it runs as one process.
        *("--workload", "audit.py", "--workers", "1", "--report", "out"),
        cwd=folder,
    )


def test_wheel_holds_the_framework_alone(wheel: Path) -> None:
    """The wheel brings ``test_framework`` with its types, and no other package."""
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()

    tops = {name.partition("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"test_framework"}
    assert "test_framework/py.typed" in names


def test_installed_audit_convicts_the_leaking_service(
    beside_ours: Path, tmp_path: Path
) -> None:
    """The installed command finds the example's mistake: exit code 1 and findings."""
    convict(beside_ours, tmp_path)


def test_installed_audit_acquits_the_fixed_service(
    beside_ours: Path, tmp_path: Path
) -> None:
    """The installed command finds nothing in the example's fixed sibling."""
    acquit(beside_ours, tmp_path)


@pytest.mark.long
@pytest.mark.usefixtures("patient")
def test_audit_installed_into_nothing_does_the_same(
    installed: Path, tmp_path: Path
) -> None:
    """What the wheel asks for is all it needs."""
    convict(installed, tmp_path)
    acquit(installed, tmp_path)


def convict(commands: Path, folder: Path) -> None:
    """Audit the leaking service, and require its one finding."""
    done = audit(commands, folder, "service")

    assert done.returncode == 1, done.stdout + done.stderr
    report = json.loads((folder / "out" / "audit.json").read_text(encoding="utf-8"))
    assert report["verdict"] == "invalid"
    (finding,) = report["findings"]
    assert finding["rule"].startswith("foreign-canary-in-")
    assert finding["victim"] != finding["observer"]


def acquit(commands: Path, folder: Path) -> None:
    """Audit the mended service, and require that nothing is found."""
    done = audit(commands, folder, "service_fixed")

    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads((folder / "out" / "audit.json").read_text(encoding="utf-8"))
    assert (report["verdict"], report["findings"]) == ("valid", [])
    assert report["users"] == 100


def pytest_of(commands: Path) -> tuple[str | Path, ...]:
    """Return how to run pytest with the packages of an environment."""
    return commands / "python", "-m", "pytest"


def test_installed_plugin_offers_its_fixtures(
    beside_ours: Path, tmp_path: Path
) -> None:
    """Pytest of the new environment knows the plugin by its entry point."""
    done = run(*pytest_of(beside_ours), "--fixtures", "-q", cwd=tmp_path)

    assert "swarm" in done.stdout
    helped = run(*pytest_of(beside_ours), "--help", cwd=tmp_path)
    assert "--run-seed" in helped.stdout


def test_installed_command_without_target_says_what_to_pass(
    beside_ours: Path, tmp_path: Path
) -> None:
    """Without anything to audit there is one sentence with the cure, and exit code 2."""
    done = run(beside_ours / "isolation-audit", "run", cwd=tmp_path)

    assert done.returncode == 2
    assert "--target" in done.stderr
    assert "Traceback" not in done.stderr
