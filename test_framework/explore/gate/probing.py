"""Which requests wait inside of a server for another user, and so answer to nobody.

A row that another transaction has locked, a list that is empty: the answer will only
come after somebody else's request has left. A probe asks the server, on a connection of
its own; the gate then opens for the others. The probes for Postgres and Redis stand in
``test_framework.clients.blocked``, since this room knows no client of a database.
"""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Protocol, TypeVar

_Node = TypeVar("_Node")


class Connection(Protocol):
    """What a probe may know of a connection of the scenario."""

    @property
    def kind(self) -> str:
        """``postgres``, ``redis``, ``http`` or ``bytes``."""
        ...

    @property
    def session(self) -> int | None:
        """The process id of Postgres that serves it; None when unknown."""
        ...

    @property
    def address(self) -> tuple[str, int] | None:
        """Host and port of its own end, as the server sees them."""
        ...

    @property
    def peer_address(self) -> tuple[str, int] | None:
        """Host and port of the server."""
        ...


Waits = Mapping[Connection, frozenset[Connection]]
"""For each blocked connection those that it waits for; empty for whoever comes."""


class Probe(Protocol):
    """Asks one server which requests wait for another one."""

    @property
    def deadlock_timeout_s(self) -> float:
        """How long a request waits until the server looks for a cycle, seconds.

        It looks once in each wait, so whose wait closes a cycle after everybody else
        has been looked at is the one that it breaks. 0 when it never looks.
        """
        ...

    def waits(self, connections: Sequence[Connection]) -> Waits:
        """Return those of ``connections`` that cannot be answered now.

        Args:
            connections: All open connections of the scenario, to whichever server.
        """
        ...


def watch_waits(probe: Probe) -> None:
    """Ask ``probe`` in this run, for the servers that the scenario talks to.

    Called in the scenario, such as in its setup. Without the gate it does nothing.
    """
    probes = getattr(asyncio.get_running_loop(), "probes", None)
    if probes is not None:
        probes.append(probe)


def set_aside(waits: Mapping[_Node, frozenset[_Node]]) -> frozenset[_Node]:
    """Return the blocked connections that only another request can release.

    One in a cycle, or behind one, is not among them: the server will break the cycle by
    itself, and until it has, no decision is due.
    """
    free: set[_Node] = set()
    grows = True
    while grows:
        more = {
            connection
            for connection, blockers in waits.items()
            if connection not in free
            and all(blocker in free or blocker not in waits for blocker in blockers)
        }
        free |= more
        grows = bool(more)
    return frozenset(free)
