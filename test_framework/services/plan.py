"""How the service under test is to be run."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

MOST_WORKERS = 128
"""Processes of Python that one machine starts in good time."""


@dataclass(frozen=True, slots=True)
class HostPlan:
    """How to run the service under test.

    Attributes:
        target: ``module:attribute``, an ASGI application or what makes one.
        workers: Processes (count, 1 to ``MOST_WORKERS``).
        app_dir: Folder that the module is imported from, and current folder.
        env: Variables of the service on top of ours.
        secrets: Names of variables that get a fresh random value of 48 characters,
            the same in all workers; a value given in ``env`` stays.
        uvicorn: More options of ``uvicorn.Config``.
        port: TCP port; 0 takes a free one.
        detectors: Detectors to run inside of the workers, by name, each with its
            options; see ``detect.make``.
        start_limit_s: Seconds until every worker must accept connections.
    """

    target: str
    workers: int = 2
    app_dir: Path = field(default_factory=Path.cwd)
    env: Mapping[str, str] = field(default_factory=dict)
    secrets: tuple[str, ...] = ()
    uvicorn: Mapping[str, object] = field(default_factory=dict)
    port: int = 0
    detectors: Mapping[str, Mapping[str, object]] = field(default_factory=dict)
    start_limit_s: float = 30.0
