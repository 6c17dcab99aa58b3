"""Starts the servers, waits for its parent to go, and takes everything down.

A program of its own, run as ``python -I -S guardian.py`` in its own session, so that
the servers end whatever becomes of the audit: it holds the read end of a pipe whose
write end only the audit has, and when the audit closes it, or is killed and the
kernel does, the guardian stops the servers and removes their data. When the guardian
itself is killed, the kernel ends the servers (Linux: ``PR_SET_PDEATHSIG``) and the
next guardian removes what they left.

It stays whole in one file and imports nothing of this package: it must start in a
few milliseconds and outlive everything. It reads one JSON line, writes one when the servers are ready
(``{"ready": ...}``) or cannot be started (``{"error": ...}``), one more for each
server that dies by itself (``{"died": ...}``), and one in answer to each further line it
reads, which has a server restarted, or the disk of Postgres filled or freed
(``{"done": ...}`` or ``{"error": ...}``).

The signal at the parent's death is sent when the *thread* that forked ends, hence
every fork happens here, in the only thread.
"""

import contextlib
import ctypes
import fcntl
import json
import os
import resource
import secrets
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

PREFIX = "isolation-services-"
MEMORY_FOLDER = Path("/dev/shm")  # noqa: S108  # a fresh 0700 folder is made in it
MEMORY_NEEDED = 512 * 1024 * 1024
PORT_ATTEMPTS = 5
START_LIMIT_S = 45.0
STOP_LIMIT_S = 8.0
TAIL_BYTES = 4000

# A run is thrown away, so nothing has to survive a power cut. What was acknowledged
# survives the end of the server all the same, hence synchronous_commit: a commit is
# handed to the kernel, which without fsync costs one write.
POSTGRES_SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "max_connections": "300",
    "shared_buffers": "64MB",
    "fsync": "off",
    "synchronous_commit": "on",
    "full_page_writes": "off",
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "jit": "off",
    "log_lock_waits": "on",
    "deadlock_timeout": "200ms",
}


class StartError(Exception):
    """Raised when a server cannot be started: the message quotes its log."""

    def __init__(self, server: str, message: str) -> None:
        super().__init__(message)
        self.server = server


class Server:
    """One running server; the base of the two below."""

    name = ""
    stop_signal = signal.SIGTERM

    def __init__(self, config: dict[str, Any], base: Path) -> None:
        self.config = config
        self.base = base
        self.log = base / f"{self.name}.log"
        self.password = secrets.token_urlsafe(18)
        self.port = 0
        self._process: subprocess.Popen[bytes] | None = None
        self.started = time.monotonic()
        self.seconds = 0.0

    @property
    def process(self) -> "subprocess.Popen[bytes]":
        """The process, once it was launched."""
        if self._process is None:
            message = f"{self.name} was not started"
            raise StartError(self.name, message)
        return self._process

    def start(self) -> None:
        """Start on a free port."""
        self.port = free_port()
        self.begin()

    def begin(self) -> None:
        """Start on the port it has."""
        raise NotImplementedError

    def halt(self, *, keep: bool) -> None:
        """End it in the middle of its work; what it holds is kept or lost."""
        raise NotImplementedError

    def restart(self, *, keep: bool) -> None:
        """End it and start it on the same port, to the same password."""
        self.halt(keep=keep)
        self.started = time.monotonic()
        self.begin()
        self.await_ready(attempts=1)

    def is_ready(self) -> bool:
        """Whether it serves."""
        raise NotImplementedError

    def url(self) -> str:
        """Return where it serves."""
        raise NotImplementedError

    def launch(self, command: list[str], **how: Any) -> None:  # noqa: ANN401  # options of Popen
        """Start the program with its output in the log."""
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(  # noqa: S603  # the server that was found
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd="/",
                # Safe: this process has one thread.
                preexec_fn=die_with_parent(self.stop_signal),  # noqa: PLW1509  # see above
                **how,
            )

    def await_ready(self, attempts: int = PORT_ATTEMPTS) -> None:
        """Wait until it serves; take another port when ours was lost to a race."""
        for attempt in range(attempts):
            deadline = time.monotonic() + START_LIMIT_S
            while self.process.poll() is None:
                if self.is_ready():
                    self.seconds = time.monotonic() - self.started
                    return
                if time.monotonic() > deadline:
                    message = f"it was not ready after {START_LIMIT_S:.0f} s"
                    raise StartError(self.name, f"{message}\n{self.tail()}")
                time.sleep(0.003)  # noqa: TID251  # no loop here, and a server gives no sign
            if attempt + 1 == attempts or "ddress already in use" not in self.tail():
                break
            self.log.write_bytes(b"")
            self.start()
        raise StartError(self.name, self.tail() or "it ended without a word")

    def tail(self) -> str:
        """Return the last lines of the log."""
        try:
            with self.log.open("rb") as log:
                log.seek(max(0, self.log.stat().st_size - TAIL_BYTES))
                return log.read().decode(errors="replace").strip()
        except OSError:
            return ""

    def stop(self) -> None:
        """End it: kindly, then firmly."""
        self.end(self.stop_signal, signal.SIGQUIT, signal.SIGKILL)

    def end(self, *numbers: signal.Signals) -> None:
        """Send one signal after the other until it has ended."""
        for number in numbers:
            if self._process is None or self._process.poll() is not None:
                return
            self._process.send_signal(number)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(STOP_LIMIT_S)


class Redis(Server):
    """Redis or Valkey, which share configuration and wire."""

    name = "redis"

    def begin(self) -> None:
        """Write a fresh configuration and start."""
        lines = [
            f"port {self.port}",
            "bind 127.0.0.1",
            f"requirepass {self.password}",
            f'dir "{self.base}"',
            'save ""',
            "appendonly no",
            "maxclients 2000",
        ]
        if self.config["major"] >= 7:
            lines.append("enable-debug-command local")
        # In a file, because command lines can be read by everybody.
        path = self.base / "redis.conf"
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
        self.launch([self.config["program"], str(path)])

    def is_ready(self) -> bool:
        """Whether it answers to its password."""
        return b"PONG" in self.ask("PING", until=b"PONG", limit_s=0.5)

    def halt(self, *, keep: bool) -> None:
        """End it; what it held is written to a file that it reads at its start."""
        if keep:
            self.ask("SHUTDOWN SAVE", until=b"-ERR", limit_s=STOP_LIMIT_S)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(STOP_LIMIT_S)
            if self.process.poll() is None:
                raise StartError(self.name, f"it does not end\n{self.tail()}")
            return
        self.end(signal.SIGKILL)
        (self.base / "dump.rdb").unlink(missing_ok=True)

    def ask(self, command: str, *, until: bytes, limit_s: float) -> bytes:
        """Return what it answers, up to some word or to its silence."""
        answer = b""
        try:
            with socket.create_connection(("127.0.0.1", self.port), limit_s) as wire:
                wire.settimeout(limit_s)
                wire.sendall(f"AUTH {self.password}\r\n{command}\r\n".encode())
                while until not in answer:
                    part = wire.recv(256)
                    if not part:
                        break
                    answer += part
        except OSError:
            pass
        return answer

    def url(self) -> str:
        """Return where it serves."""
        return f"redis://:{self.password}@127.0.0.1:{self.port}/0"


class Postgres(Server):
    """Postgres on a copy of the template, under a password of its own."""

    name = "postgres"
    # SIGINT is its fast shutdown; SIGTERM would wait for clients.
    stop_signal = signal.SIGINT

    def __init__(self, config: dict[str, Any], base: Path) -> None:
        super().__init__(config, base)
        self.data = base / "postgres"
        self.how: dict[str, Any] = {}
        if config["user"] is not None:
            user = config["user"]
            self.how = {"user": user, "group": user, "extra_groups": []}
        self.scram: list[str] = []
        if config["major"] >= 16:
            # 4096 rounds cost 4 ms a connection and protect nothing here.
            self.scram = ["-c", "scram_iterations=1"]

    def prepare(self) -> None:
        """Copy the template and set the password before any port opens."""
        try:
            with Path(self.config["lock"]).open("rb") as lock:
                fcntl.flock(lock, fcntl.LOCK_SH)
                self.copy(self.config["template"], str(self.data))
        except OSError as exc:
            message = f"its template cannot be copied: {exc}"
            raise StartError(self.name, message) from exc
        rules = "host all all 127.0.0.1/32 scram-sha-256\n"
        (self.data / "pg_hba.conf").write_text(rules, encoding="ascii")
        done = subprocess.run(  # noqa: S603  # the Postgres that was found
            [
                *(self.config["program"], "--single", "-D", str(self.data)),
                *("-c", "fsync=off", *self.scram, "postgres"),
            ],
            input=f"ALTER ROLE postgres PASSWORD '{self.password}'\n".encode(),
            capture_output=True,
            cwd="/",
            check=False,
            **self.how,
        )
        if done.returncode != 0 or b"ERROR" in done.stderr:
            told = (done.stderr or done.stdout).decode(errors="replace")
            raise StartError(self.name, told[-TAIL_BYTES:].strip())

    def copy(self, source: str, target: str) -> None:
        """Copy a folder for the user the server runs as; times are not kept."""
        # A thousand files: building a Path for each costs more than the copy.
        os.mkdir(target, 0o700)  # noqa: PTH102  # see above
        for entry in os.scandir(source):
            path = f"{target}/{entry.name}"
            if entry.is_dir(follow_symlinks=False):
                self.copy(entry.path, path)
            else:
                shutil.copyfile(entry.path, path)
                self.give(path)
        self.give(target)

    def give(self, path: str) -> None:
        """Hand a file to the user the server runs as."""
        if self.config["user"] is not None:
            os.chown(path, self.config["user"], self.config["user"])

    def halt(self, *, keep: bool) -> None:
        """End it at once, as a crash does; it recovers from its log at its start."""
        if not keep:
            raise StartError(self.name, "it keeps what it holds whenever it restarts")
        self.end(signal.SIGQUIT, signal.SIGKILL)
        # One that was killed left it behind, and it says ready.
        (self.data / "postmaster.pid").unlink(missing_ok=True)

    def begin(self) -> None:
        """Start on what the folder holds."""
        options = list(self.scram)
        for name, value in {**POSTGRES_SETTINGS, "port": str(self.port)}.items():
            options += ["-c", f"{name}={value}"]
        command = [self.config["program"], "-D", str(self.data), *options]
        self.launch(command, **self.how)

    def is_ready(self) -> bool:
        """Whether the server's own status line says so."""
        try:
            status = (self.data / "postmaster.pid").read_text(encoding="utf-8")
            return status.splitlines()[7].strip() == "ready"
        except (OSError, IndexError):
            return False

    def fill(self, files: list[str]) -> None:
        """Let no file grow: relations are as large as a file may become.

        The largest file of all sets the limit, and at least that of the log, so that
        the server can write wherever it could: only what is new has no room. Empty
        pages at the end of a relation are what a crash leaves as well; they are put to
        use by the next vacuum.

        Args:
            files: Relations, relative to the data folder.
        """

        def work() -> None:
            limit = largest(self.data)
            # Whatever the postmaster starts from now on inherits it.
            self.limit(limit)
            for name in files:
                path = self.data / name
                if path.exists() and path.stat().st_size < limit:
                    os.truncate(path, limit)

        self.as_user(work)

    def free(self) -> None:
        """Let files grow again."""
        self.as_user(lambda: self.limit(None))

    def limit(self, size: int | None) -> None:
        """Limit the size of files for all processes of the server; None lifts it."""
        postmaster = self.process.pid
        for pid in (postmaster, *children(postmaster)):
            with contextlib.suppress(ProcessLookupError):
                # The kernel returns the old ones: the hard limit stays.
                _, hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)
                soft = hard if size is None else size
                resource.prlimit(pid, resource.RLIMIT_FSIZE, (soft, hard))

    def as_user(self, work: Callable[[], None]) -> None:
        """Do something as the user of the server, whom alone the kernel lets do it.

        Without CAP_SYS_RESOURCE, root may not limit the processes of others.
        """
        user = self.config["user"]
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            try:
                if user is not None:
                    os.setgroups([])
                    os.setresgid(user, user, user)
                    os.setresuid(user, user, user)
                work()
            except BaseException as exc:  # noqa: BLE001  # told to the parent
                os.write(writer, str(exc).encode() or b"it failed")
            finally:
                os._exit(0)
        os.close(writer)
        with os.fdopen(reader, "rb") as told:
            problem = told.read().decode()
        os.waitpid(child, 0)
        if problem:
            raise StartError(self.name, problem)

    def url(self) -> str:
        """Return where it serves."""
        return f"postgresql://postgres:{self.password}@127.0.0.1:{self.port}/postgres"


def largest(folder: Path) -> int:
    """Return the size of the largest file in a folder (bytes)."""
    size = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            # A server at work removes files.
            with contextlib.suppress(FileNotFoundError):
                size = max(size, (Path(parent) / name).stat().st_size)
    return size


def children(pid: int) -> list[int]:
    """Return the processes that a process started (Linux)."""
    listed = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii")
    return [int(word) for word in listed.split()]


def die_with_parent(number: signal.Signals) -> Callable[[], None]:
    """Return what a child does before it becomes the server."""
    guardian = os.getpid()

    def prepare() -> None:
        # Ctrl-C in a terminal must not reach the servers before the audit.
        os.setpgid(0, 0)
        if LIBC is not None:
            LIBC.prctl(1, int(number), 0, 0, 0)
            if os.getppid() != guardian:
                os._exit(1)

    return prepare


LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None


def free_port() -> int:
    """Return a port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def make_base() -> Path:
    """Make the folder of this run: in memory when there is room."""
    parent = None
    with contextlib.suppress(OSError):
        if shutil.disk_usage(MEMORY_FOLDER).free >= MEMORY_NEEDED and os.access(
            MEMORY_FOLDER, os.W_OK | os.X_OK
        ):
            parent = MEMORY_FOLDER
    making = Path(tempfile.mkdtemp(prefix=f".{PREFIX}", dir=parent))
    # Held until the end of this process: a folder whose lock is free is a leftover. So
    # it gets the name by which leftovers are looked for once its lock is held; between
    # the two, another guardian that starts would take it for one.
    lock = os.open(making / "lock", os.O_CREAT | os.O_RDWR, 0o600)
    fcntl.flock(lock, fcntl.LOCK_EX)
    if os.geteuid() == 0:
        # Postgres runs as nobody and must pass through.
        making.chmod(0o711)
    return making.rename(making.with_name(making.name[1:]))


def sweep(parent: Path) -> None:
    """Remove folders whose guardian was killed."""
    for entry in os.scandir(parent):
        with contextlib.suppress(OSError):
            status = entry.stat(follow_symlinks=False)
            if not entry.name.startswith(PREFIX) or status.st_uid != os.geteuid():
                continue
            lock = os.open(f"{entry.path}/lock", os.O_RDWR | os.O_NOFOLLOW)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(entry.path, ignore_errors=True)
            finally:
                os.close(lock)


def say(message: dict[str, Any]) -> None:
    """Write one line to the parent, whole."""
    os.write(1, json.dumps(message).encode() + b"\n")


def start_all(config: dict[str, Any], base: Path, servers: list[Server]) -> None:
    """Start what is asked for; Redis comes up while Postgres is prepared."""
    kinds: tuple[type[Server], ...] = (Redis, Postgres)
    servers += [kind(config[kind.name], base) for kind in kinds if kind.name in config]
    for server in servers:
        if isinstance(server, Postgres):
            server.prepare()
        server.start()
    for server in servers:
        server.await_ready()


def watch(servers: list[Server], bell: int) -> None:
    """Return when the parent is gone; restart what it says; say which server died."""
    alive = list(servers)
    unread = b""
    while True:
        readable, _, _ = select.select([0, bell], [], [])
        if 0 in readable:
            part = os.read(0, 4096)
            if not part:
                return
            *lines, unread = (unread + part).split(b"\n")
            for line in lines:
                say(obey(json.loads(line), servers))
            alive = [server for server in servers if server.process.poll() is None]
        if bell in readable:
            os.read(bell, 4096)
        for server in list(alive):
            status = server.process.poll()
            if status is not None:
                alive.remove(server)
                say({"died": server.name, "status": status, "tail": server.tail()})


def obey(order: dict[str, Any], servers: list[Server]) -> dict[str, Any]:
    """Do to a server what the order says; return what became of it."""
    name = order["server"]
    try:
        for server in servers:
            if server.name != name:
                continue
            if order["do"] == "restart":
                server.restart(keep=order["keep"])
            elif isinstance(server, Postgres) and order["do"] == "fill":
                server.fill(order["files"])
            elif isinstance(server, Postgres) and order["do"] == "free":
                server.free()
            else:
                break
            return {"done": order["do"], "pid": server.process.pid}
    except (StartError, OSError) as exc:
        return {"error": str(exc), "server": name}
    return {"error": f"it cannot {order['do']} {name}", "server": name}


def leave(*_: object) -> None:
    """End in good order."""
    sys.exit(0)


def main() -> None:
    """Serve one parent."""
    os.umask(0o077)
    signal.signal(signal.SIGTERM, leave)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    bell, rope = os.pipe()
    os.set_blocking(rope, False)
    signal.set_wakeup_fd(rope, warn_on_full_buffer=False)
    line = sys.stdin.buffer.readline()
    if not line:
        return
    base: Path | None = None
    servers: list[Server] = []
    try:
        base = make_base()
        sweep(base.parent)
        start_all(json.loads(line), base, servers)
        say(
            {
                "ready": {
                    server.name: {
                        "url": server.url(),
                        "pid": server.process.pid,
                        "seconds": round(server.seconds, 4),
                    }
                    for server in servers
                },
                "base": str(base),
            }
        )
        watch(servers, bell)
    except StartError as exc:
        say({"error": str(exc), "server": exc.server})
    except OSError as exc:
        say({"error": str(exc), "server": ""})
    finally:
        # Nothing may stop the cleaning up, least of all an impatient second signal.
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        for server in servers:
            server.stop()
        if base is not None:
            shutil.rmtree(base, ignore_errors=True)


if __name__ == "__main__":
    main()
