"""Open files and sockets of this process, told apart by what they are open to.

Read from ``/proc`` and therefore whole on Linux only; elsewhere the descriptors are
known and not what is behind them. The names of the files that users send are theirs, so
files are told by their folder.
"""

import os
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Kind = Literal["file", "accepted connection", "connection", "listener", "other"]

Place = tuple[Kind, str]
"""What is open, and to where."""

_LISTENS = "0A"


@dataclass(frozen=True, slots=True)
class OpenFile:
    """One descriptor.

    Attributes:
        kind: What is behind it; ``other`` are pipes, devices and what is unknown.
        place: The folder of a file, ``host:port`` of the other side of a connection we
            made, our own port of one that we accepted.
        identity: Tells it from all others, also from a later one of the same number.
    """

    kind: Kind
    place: str
    identity: tuple[int, str]


@dataclass(frozen=True, slots=True)
class _Socket:
    local: str
    remote: str
    is_listener: bool


def open_files() -> list[OpenFile]:
    """Return the open descriptors of this process, in order of number."""
    targets = dict(_targets())
    ours = _sockets({_inode(target) for target in targets.values()})
    ports = {_port(one.local) for one in ours.values() if one.is_listener}
    return [
        OpenFile(*_describe(target, ours.get(_inode(target)), ports), (number, target))
        for number, target in sorted(targets.items())
    ]


def count_places(files: list[OpenFile]) -> Counter[Place]:
    """Return how many of them are open to each place."""
    return Counter((file.kind, file.place) for file in files)


def is_whole() -> bool:
    """Whether this system tells what is behind a descriptor."""
    return Path("/proc/self/fd").is_dir()


def _targets() -> list[tuple[int, str]]:
    targets = []
    folder = Path("/proc/self/fd" if is_whole() else "/dev/fd")
    for entry in list(folder.iterdir()):
        try:
            target = str(entry.readlink()) if is_whole() else ""
            # Listing the folder opens one more, which is gone by now.
            os.fstat(int(entry.name))
        except OSError:
            continue
        targets.append((int(entry.name), target))
    return targets


def _describe(target: str, connection: _Socket | None, ports: set[str]) -> Place:
    if connection is not None:
        if connection.is_listener:
            return "listener", connection.local
        if _port(connection.local) in ports:
            return "accepted connection", f"port {_port(connection.local)}"
        return "connection", connection.remote
    if target.startswith("/") and not target.startswith(("/dev/", "/proc/", "/sys/")):
        # "/a/b (deleted)" lies in /a like any other.
        return "file", str(Path(target).parent)
    return "other", target.partition(":")[0]


def _inode(target: str) -> str:
    return target.removeprefix("socket:[").removesuffix("]")


def _sockets(inodes: Collection[str]) -> dict[str, _Socket]:
    """Return TCP sockets by inode; the system lists those of all processes."""
    found = {}
    for name in ("tcp", "tcp6"):
        try:
            lines = Path(f"/proc/self/net/{name}").read_text("ascii").splitlines()[1:]
        except OSError:
            continue
        for line in lines:
            fields = line.split()
            if fields[9] not in inodes:
                continue
            found[fields[9]] = _Socket(
                _address(fields[1]), _address(fields[2]), fields[3] == _LISTENS
            )
    return found


def _address(text: str) -> str:
    """Return ``host:port`` of an address as the kernel writes it."""
    host, _, port = text.partition(":")
    # Four bytes at a time in the order of the machine; of IPv6 the last four say
    # enough for the addresses that services use on one machine.
    raw = int(host[-8:], 16).to_bytes(4, "little")
    return f"{'.'.join(str(byte) for byte in raw)}:{int(port, 16)}"


def _port(address: str) -> str:
    return address.rpartition(":")[2]
