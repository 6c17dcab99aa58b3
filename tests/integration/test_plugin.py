"""The pytest plugin: a green test has proved something, on real processes."""

from pathlib import Path

import pytest

pytestmark = [pytest.mark.integration, pytest.mark.slow]

REPOSITORY = Path(__file__).parents[2]
NOTES_AUDIT = REPOSITORY / "tests" / "targets" / "notes_audit.py"

PROJECT = f"""
[tool.isolation-audit]
target = "tests.targets.notes:create_app"
workload = "{NOTES_AUDIT}"
workers = 1
env = {{ PYTHONPATH = "{REPOSITORY}" }}

[tool.pytest.ini_options]
asyncio_mode = "auto"
asyncio_default_fixture_loop_scope = "function"
"""

BARE_PROJECT = f"""
[tool.isolation-audit]
target = "tests.targets.notes:create_app"
workers = 1
env = {{ PYTHONPATH = "{REPOSITORY}" }}

[tool.pytest.ini_options]
asyncio_default_fixture_loop_scope = "function"
"""

HEAD = f"""
import asyncio
import pytest
from pathlib import Path
from test_framework.swarm import load_plan

AUDIT = Path({str(NOTES_AUDIT)!r})
SHAPES = ("own-connections", "read-bursts")
"""


def run(
    pytester: pytest.Pytester,
    body: str,
    *arguments: str,
    monkeypatch: pytest.MonkeyPatch,
    project: str = PROJECT,
) -> pytest.RunResult:
    """Run one test file in a process of its own."""
    for name in ("DATABASE_URL", "REDIS_URL", "ISOLATION_TARGET"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PYTHONPATH", str(REPOSITORY))
    pytester.makefile(".toml", pyproject=project)
    pytester.makepyfile(HEAD + body)
    return pytester.runpytest_subprocess("-q", *arguments, timeout=60)


def test_sound_service_passes(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A swarm with a valid verdict makes the test green."""
    result = run(
        pytester,
        """
@pytest.mark.isolation(users=6)
async def test_isolation(swarm):
    judgement = await swarm.require_isolation(AUDIT, shapes=SHAPES)
    assert judgement.evidence.users == 6
""",
        monkeypatch=monkeypatch,
    )

    result.assert_outcomes(passed=1)


@pytest.mark.power
def test_marked_test_without_swarm_fails(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A test that claims isolation and ran nothing must not pass."""
    result = run(
        pytester,
        """
@pytest.mark.isolation
async def test_isolation():
    assert True
""",
        monkeypatch=monkeypatch,
    )

    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*ran no swarm, so it proved nothing*"])


@pytest.mark.power
@pytest.mark.parametrize(
    ("workload", "words"),
    [
        ("async def workload(user): pass", "planted no canary"),
        (
            """
import httpx
async def workload(user):
    note = user.canary("note")
    fake = httpx.AsyncClient(
        base_url="http://x",
        transport=httpx.MockTransport(lambda r: httpx.Response(200, text=note)),
    )
    async with fake:
        await fake.post("/notes", json={"text": note})
        assert note in (await fake.get("/notes")).text
""",
            "no canary left for the service",
        ),
        (
            """
lock = asyncio.Lock()
async def workload(user):
    async with lock:
        note = user.canary("note")
        await user.http.post("/notes", json={"text": note})
        await user.http.get("/notes")
""",
            "0 of 5 users had a request in flight",
        ),
    ],
    ids=["empty", "mocked", "serial"],
)
def test_faked_audit_fails(
    pytester: pytest.Pytester,
    monkeypatch: pytest.MonkeyPatch,
    workload: str,
    words: str,
) -> None:
    """An empty, a mocked and a serial workload prove nothing and fail."""
    result = run(
        pytester,
        f"""
{workload}

@pytest.mark.isolation(users=5)
async def test_isolation(swarm):
    await swarm.audit(
        workload, login=load_plan(AUDIT).login, shapes=("own-connections",)
    )
""",
        monkeypatch=monkeypatch,
    )

    result.assert_outcomes(failed=1)
    assert words in " ".join(result.stdout.str().split())


@pytest.mark.power
def test_single_user_fails(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One user alone cannot see another's data."""
    result = run(
        pytester,
        """
@pytest.mark.isolation(users=1)
async def test_isolation(swarm):
    await swarm.require_isolation(AUDIT, shapes=SHAPES)
""",
        monkeypatch=monkeypatch,
    )

    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*it takes two to see another's data*"])


def test_example_of_the_readme_runs_without_our_settings(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A target and the marks are all that a project must set."""
    result = run(
        pytester,
        """
@pytest.mark.asyncio
@pytest.mark.isolation(users=6)
async def test_no_user_reads_anothers_notes(swarm):
    await swarm.require_isolation(AUDIT, shapes=SHAPES)
""",
        monkeypatch=monkeypatch,
        project=BARE_PROJECT,
    )

    result.assert_outcomes(passed=1)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("await swarm.audit(Path('absent.py'))", "There is no audit file"),
        ("await swarm.audit(AUDIT, shapes=('sideways',))", "is not a traffic shape"),
    ],
)
def test_mistake_in_a_test_is_one_sentence(
    pytester: pytest.Pytester,
    monkeypatch: pytest.MonkeyPatch,
    body: str,
    words: str,
) -> None:
    """A wrong file or option fails the test with its sentence, not with our frames."""
    result = run(
        pytester,
        f"""
async def test_isolation(swarm):
    {body}
""",
        monkeypatch=monkeypatch,
    )

    result.assert_outcomes(failed=1)
    assert words in " ".join(result.stdout.str().split())
    assert "Traceback" not in result.stdout.str()
    assert "pytest_swarm.py" not in result.stdout.str()


def test_seed_is_taken_from_the_command_line(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The repeat line of a finding can be typed."""
    result = run(
        pytester,
        """
async def test_seed(swarm):
    assert swarm.seed == 8842
""",
        "--run-seed=8842",
        monkeypatch=monkeypatch,
    )

    result.assert_outcomes(passed=1)


@pytest.mark.long
def test_marker_brings_faults_and_their_proxies(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A test that asks for faults gets a target that they can disturb."""
    body = """
@pytest.mark.isolation(users=4, faults="reset-connections,kill-worker")
async def test_chaos(swarm):
    judgement = await swarm.require_isolation(AUDIT, faults=("reset-connections",))
    (endured,) = judgement.faults
    assert endured.overlapped > 0
    assert swarm.target.field.service_proxy is not None
"""

    result = run(pytester, body, "--isolation-fault-seconds=3", monkeypatch=monkeypatch)

    result.assert_outcomes(passed=1)
