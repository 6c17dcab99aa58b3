"""The pytest plugin: real services, the service under test, and swarms as fixtures.

Fixtures: ``services`` (real Postgres and Redis), ``target`` (the service under test,
from ``ISOLATION_TARGET`` or pyproject.toml), ``swarm`` (runs audits on it) and
``faults`` (disturbs it for some lines of a test).
``--isolation-matrix`` adds tests of a Postgres and of a service's sessions. A
test marked ``isolation`` that ran no swarm, or only such that proved nothing, fails:
a green test must mean something. A test marked ``explore`` runs under the explorer,
any other async test with detectors around it.

Every pytest run of a project loads this module, so it imports the framework only
when a fixture is asked for.
"""

import contextlib
import inspect
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from test_framework.pytest_detect import Tracking
    from test_framework.pytest_faults import Faults
    from test_framework.pytest_swarm import Swarm
    from test_framework.services import Services
    from test_framework.swarm import Target

TRACKING: "pytest.StashKey[Tracking]" = pytest.StashKey()
"""What ``--track`` follows through all tests."""

_WARNING = "isolation-audit "
"""Begins the names of test properties that hold warnings of detectors."""

_SWARM: "pytest.StashKey[Swarm]" = pytest.StashKey()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options of the plugin."""
    group = parser.getgroup("isolation", "multi-user isolation")
    group.addoption(
        "--run-seed", type=int, default=None, help="Seed of all swarms of this session."
    )
    group.addoption(
        "--isolation-users", type=int, default=None, help="Users of each swarm."
    )
    group.addoption(
        "--isolation-faults",
        metavar="NAMES",
        help="Faults of each swarm: all, or names with commas.",
    )
    group.addoption(
        "--isolation-fault-seconds",
        type=float,
        metavar="SECONDS",
        help="How long users work around each fault.",
    )
    group.addoption(
        "--explore-replay",
        metavar="SCHEDULE",
        help="Token or file of a schedule; tests marked explore follow it once.",
    )
    group.addoption(
        "--detect",
        metavar="NAMES",
        default="locks",
        help="Detectors around each async test, with commas, or none.  [default: locks]",
    )
    group.addoption(
        "--track",
        metavar="PACKAGE",
        action="append",
        default=[],
        help="Package whose shared state to follow; repeatable.",
    )
    group.addoption(
        "--explore-budget", help="Time for each test marked explore, such as 30s."
    )
    group.addoption(
        "--isolation-matrix",
        metavar="DSN",
        help="Add a test for each anomaly and level of the Postgres there.",
    )
    group.addoption(
        "--isolation-sessions",
        metavar="MODULE:FACTORY",
        help="Play the matrix through the sessions of a service.",
    )
    group.addoption(
        "--isolation-level",
        metavar="LEVEL",
        help="Level of the matrix, and what the service relies on.",
    )


@pytest.hookimpl(tryfirst=True)
def pytest_load_initial_conftests(early_config: pytest.Config) -> None:
    """Begin to track before a conftest imports the package."""
    packages = early_config.known_args_namespace.track
    if not packages:
        return
    from test_framework.core import UsageError  # noqa: PLC0415  # see above
    from test_framework.pytest_detect import Tracking  # noqa: PLC0415  # see above

    try:
        early_config.stash[TRACKING] = Tracking(packages)
    except UsageError as exc:
        raise pytest.UsageError(str(exc)) from exc


def pytest_configure(config: pytest.Config) -> None:
    """Declare the marker."""
    config.addinivalue_line(
        "markers",
        "isolation(users=100, faults='all'): the test must run a swarm that proves "
        "something.",
    )
    config.addinivalue_line(
        "markers",
        "explore(budget='5s', fidelity='fifo', cancel=False, ...): run the "
        "async test under many orders of its tasks; takes the options of explore().",
    )
    config.addinivalue_line(
        "markers",
        "detect(*names): detectors around this async test; without names, none.",
    )


def pytest_collection_modifyitems(
    session: pytest.Session, config: pytest.Config, items: list[pytest.Item]
) -> None:
    """Add the cells of the isolation matrix."""
    dsn = config.getoption("--isolation-matrix")
    sessions = config.getoption("--isolation-sessions")
    if dsn is None:
        if sessions is not None:
            message = (
                "--isolation-sessions plays the matrix, which needs a table: add "
                "--isolation-matrix=DSN with a role that may create one."
            )
            raise pytest.UsageError(message)
        return
    from test_framework.core import UsageError  # noqa: PLC0415  # see above
    from test_framework.pytest_matrix import Playing, matrix_items  # noqa: PLC0415  # see above

    try:
        playing = Playing(dsn, sessions, config.getoption("--isolation-level"))
    except UsageError as exc:
        raise pytest.UsageError(str(exc)) from exc
    items.extend(matrix_items(session, playing))


@pytest.fixture(scope="session")
def services() -> "Iterator[Services]":
    """Real Postgres and Redis: the given ones, else started for this session."""
    from test_framework.services import running_services  # noqa: PLC0415  # see above

    with running_services() as running:
        yield running


@pytest.fixture(scope="session")
def target(request: pytest.FixtureRequest) -> "Iterator[Target]":
    """The service under test, given by ISOLATION_TARGET or hosted by pyproject.toml.

    When a test of the session wants faults, proxies stand before it and what it uses.
    """
    from test_framework.config import load_config  # noqa: PLC0415  # see above
    from test_framework.core import IsolationError  # noqa: PLC0415  # see above
    from test_framework.staging import staged  # noqa: PLC0415  # see above

    with contextlib.ExitStack() as stack:
        try:
            is_disturbed = any(map(_faults_of, request.session.items))
            config = load_config(faults="all" if is_disturbed else None)
            running = stack.enter_context(staged(config))
        except IsolationError as exc:
            pytest.fail(str(exc), pytrace=False)
        yield running


@pytest.fixture(scope="session")
def faults() -> "Iterator[Faults]":
    """The service under test behind proxies of its own, to be disturbed."""
    from test_framework.config import load_config  # noqa: PLC0415  # see above
    from test_framework.core import IsolationError  # noqa: PLC0415  # see above
    from test_framework.pytest_faults import Faults  # noqa: PLC0415  # see above
    from test_framework.staging import staged  # noqa: PLC0415  # see above

    with contextlib.ExitStack() as stack:
        try:
            running = stack.enter_context(staged(load_config(faults=("all",))))
        except IsolationError as exc:
            pytest.fail(str(exc), pytrace=False)
        yield Faults(running)


def _faults_of(item: pytest.Item) -> str | None:
    """Return the faults that a test wants: its own, else those of the command line."""
    marker = item.get_closest_marker("isolation")
    own: str | None = None if marker is None else marker.kwargs.get("faults")
    given: str | None = item.config.getoption("--isolation-faults")
    return own or given


@pytest.fixture
def swarm(request: pytest.FixtureRequest, target: "Target", tmp_path: Path) -> "Swarm":
    """A swarm on the service under test."""
    from test_framework.core import fresh_seed  # noqa: PLC0415  # see above
    from test_framework.pytest_swarm import Swarm  # noqa: PLC0415  # see above

    marker = request.node.get_closest_marker("isolation")
    users = request.config.getoption("--isolation-users")
    if users is None:
        users = marker.kwargs.get("users", 100) if marker is not None else 100
    seed = request.config.getoption("--run-seed")
    if seed is None:
        seed = fresh_seed()
    made = Swarm(
        target,
        users=users,
        seed=seed,
        folder=tmp_path,
        faults=_faults_of(request.node),
        fault_seconds=request.config.getoption("--isolation-fault-seconds"),
        repeat=f'pytest "{request.node.nodeid}" --run-seed={seed}',
    )
    request.node.stash[_SWARM] = made
    return made


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Explore a marked test instead of running it once on the loop of asyncio."""
    marker = pyfuncitem.get_closest_marker("explore")
    if marker is None:
        return None
    from test_framework.pytest_explore import explore_item  # noqa: PLC0415  # see above

    explore_item(pyfuncitem, marker)
    return True


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None]:
    """Fail a test that claims to audit isolation and proved nothing."""
    if item.get_closest_marker("explore") is not None:
        from test_framework.pytest_explore import refuse_unittest  # noqa: PLC0415  # see above

        refuse_unittest(item)
    with contextlib.ExitStack() as stack:
        if inspect.iscoroutinefunction(getattr(item, "obj", None)):
            from test_framework.pytest_detect import watched  # noqa: PLC0415  # see above

            tracking = item.config.stash.get(TRACKING, None)
            stack.enter_context(watched(item, tracking, prefix=_WARNING))
        yield
    if item.get_closest_marker("isolation") is None:
        return
    swarm = item.stash.get(_SWARM, None)
    judgements = swarm.judgements if swarm is not None else []
    if not judgements:
        pytest.fail(
            "The test is marked isolation and ran no swarm, so it proved nothing. "
            "Take the 'swarm' fixture and await swarm.require_isolation(...).",
            pytrace=False,
        )
    if all(judgement.verdict == "unknown" for judgement in judgements):
        gaps = "; ".join(judgements[-1].evidence.gaps)
        pytest.fail(f"The swarm proved nothing: {gaps}.", pytrace=False)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Tell what the detectors saw that could happen, each cause once."""
    causes: dict[str, tuple[object, list[str]]] = {}
    for reports in terminalreporter.stats.values():
        for report in reports:
            if getattr(report, "when", None) != "call":
                continue
            for name, claim in report.user_properties:
                if name.startswith(_WARNING):
                    causes.setdefault(name, (claim, []))[1].append(report.nodeid)
    tracking = terminalreporter.config.stash.get(TRACKING, None)
    unwatched = tracking.unwatched() if tracking is not None else ()
    if unwatched:
        terminalreporter.section("not tracked")
    for sentence in unwatched:
        terminalreporter.line(sentence)
    if causes:
        terminalreporter.section("isolation-audit warnings")
    for name, (claim, tests) in causes.items():
        more = f" and {len(tests) - 1} more" if len(tests) > 1 else ""
        terminalreporter.line(name.removeprefix(_WARNING))
        terminalreporter.line(f"  {claim}")
        terminalreporter.line(f"  in {tests[0]}{more}")
