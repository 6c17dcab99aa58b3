"""Processes that stand for election; ``python -m tests.integration.control.candidates``.

Each is a process of its own, forked when everything is imported, and tells on standard
output what its controllers log. A goal that begins with ``[kill]`` or ``[stop]`` ends
or stops the process that plans it first, in the middle of its work: between reading
the intent and writing what became of it.
"""

import asyncio
import json
import logging
import os
import signal
import sys
from pathlib import Path

from app.control import Change, Controllers, PhrasePlanner
from tests.integration.control.world import connected

_log = logging.getLogger("app.control")
_SIGNALS = {"[kill]": signal.SIGKILL, "[stop]": signal.SIGSTOP}


class _Mishaps(PhrasePlanner):
    """Sends its process a signal, once for each kind."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    async def plan(self, goal: str) -> Change:
        """Return what is wanted."""
        mishap, _, words = goal.partition(" ")
        if mishap not in _SIGNALS:
            return await super().plan(goal)
        try:
            (self._folder / mishap).touch(exist_ok=False)
        except FileExistsError:
            pass
        else:
            _log.info(mishap)
            os.kill(os.getpid(), _SIGNALS[mishap])
        return await super().plan(words)


class _Lines(logging.Handler):
    """Writes each event as one line, in one piece: others write there too."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write an event."""
        event = {"pid": os.getpid(), "event": record.getMessage()}
        event.update(getattr(record, "fields", {}))
        os.write(1, json.dumps(event).encode() + b"\n")


async def _stand(kind: str, name: str, lease_s: float, folder: Path) -> None:
    async with connected(os.environ["DATABASE_URL"], os.environ["REDIS_URL"]) as world:
        controllers = Controllers(
            world.election(kind, name, lease_s),
            sessions=world.sessions,
            planner=_Mishaps(folder),
        )
        await controllers.start(world.context)
        terminated = asyncio.Event()
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, terminated.set)
        await terminated.wait()
        await controllers.close()


def _main() -> None:
    kind, name, lease_s, folder, count = sys.argv[1:]
    logger = logging.getLogger("app")
    logger.setLevel("INFO")
    logger.addHandler(_Lines())
    for _ in range(int(count)):
        if os.fork() == 0:
            asyncio.run(_stand(kind, name, float(lease_s), Path(folder)))
            os._exit(0)
    for _ in range(int(count)):
        os.wait()


if __name__ == "__main__":
    _main()
