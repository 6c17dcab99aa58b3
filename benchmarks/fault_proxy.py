"""Cost of the fault proxy: bytes in bulk, a round trip, a new connection.

Run ``python -m benchmarks.fault_proxy``. Client and server run in one process of their
own each, the proxy in a thread of a third one, as in an audit; each thing is done
directly and through the proxy in turns, and the best of the rounds is taken. The ratio
is what to read, on a machine that others use as well. The proxy's CPU time is its
thread's.
"""

import argparse
import asyncio
import json
import multiprocessing
import socket
import threading
import time
from collections.abc import Callable
from multiprocessing.connection import Connection

from test_framework.faults import proxying

ROUNDS = 5
BULK_BYTES = 64 * 2**20
PIECE_BYTES = 256 * 1024
TRIPS = 2_000
CONNECTIONS = 500
IDLE = 2_000

Measure = Callable[[int], float]


def serve(ready: Connection) -> None:
    """Echo what is short, count what is long; in a process of its own."""

    async def answer(
        reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        while data := await reader.read(PIECE_BYTES):
            if len(data) <= 64:  # a round trip
                writer.write(data)
        writer.write(b"!")
        writer.close()

    async def run() -> None:
        server = await asyncio.start_server(answer, "127.0.0.1", 0, backlog=4096)
        ready.send(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    asyncio.run(run())


def bulk_mb_per_s(port: int) -> float:
    """Return the rate of a large upload (MB/s)."""
    piece = bytes(PIECE_BYTES)
    with socket.create_connection(("127.0.0.1", port)) as wire:
        started = time.perf_counter()
        for _ in range(BULK_BYTES // PIECE_BYTES):
            wire.sendall(piece)
        wire.shutdown(socket.SHUT_WR)
        wire.recv(1)
        return BULK_BYTES / 1e6 / (time.perf_counter() - started)


def trips_per_s(port: int) -> float:
    """Return how many round trips of 64 bytes one client makes in a second."""
    word = bytes(64)
    with socket.create_connection(("127.0.0.1", port)) as wire:
        wire.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        started = time.perf_counter()
        for _ in range(TRIPS):
            wire.sendall(word)
            wire.recv(64)
        return TRIPS / (time.perf_counter() - started)


def connections_per_s(port: int) -> float:
    """Return how many connections with one round trip are made in a second."""
    started = time.perf_counter()
    for _ in range(CONNECTIONS):
        with socket.create_connection(("127.0.0.1", port)) as wire:
            wire.sendall(b"x")
            wire.recv(1)
    return CONNECTIONS / (time.perf_counter() - started)


def client(port: int, name: str, told: Connection) -> None:
    """Measure one thing, in a process of its own."""
    told.send(MEASURES[name][0](port))


MEASURES: dict[str, tuple[Measure, str]] = {
    "upload of 64 MB": (bulk_mb_per_s, "MB/s"),
    "round trips of 64 bytes": (trips_per_s, "/s"),
    "connections": (connections_per_s, "/s"),
}


def measured(port: int, name: str) -> float:
    """Run a client and return what it measured."""
    here, there = multiprocessing.Pipe()
    process = multiprocessing.Process(target=client, args=(port, name, there))
    process.start()
    rate: float = here.recv()
    process.join()
    return rate


def proxy_cpu_s() -> float:
    """Return the CPU time of the proxy's thread so far."""
    (thread,) = [t for t in threading.enumerate() if t.name.startswith("fault-proxy")]
    clock = time.pthread_getcpuclockid(thread.ident or 0)
    return time.clock_gettime(clock)


def cost_of_idle(port: int) -> float:
    """Return the seconds that the proxy takes to have 2,000 connections and lose them."""
    before = proxy_cpu_s()
    wires = [socket.create_connection(("127.0.0.1", port)) for _ in range(IDLE)]
    for wire in wires:
        wire.sendall(b"x")
        wire.recv(1)
    for wire in wires:
        wire.close()
    return proxy_cpu_s() - before


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="print JSON")
    arguments = parser.parse_args()
    here, there = multiprocessing.Pipe()
    server = multiprocessing.Process(target=serve, args=(there,), daemon=True)
    server.start()
    direct = here.recv()
    rows = []
    with proxying(f"http://127.0.0.1:{direct}") as proxy:
        for name, (_, unit) in MEASURES.items():
            best = {"direct": 0.0, "proxied": 0.0}
            for _ in range(ROUNDS):
                best["direct"] = max(best["direct"], measured(direct, name))
                best["proxied"] = max(best["proxied"], measured(proxy.port, name))
            rows.append({"work": name, "unit": unit, **best})
        idle_s = cost_of_idle(proxy.port)
    server.terminate()
    server.join()
    if arguments.json:
        print(json.dumps({"rows": rows, "idle_s": idle_s}))
        return
    print("| work | direct | through the proxy | times as long |")
    print("|---|---|---|---|")
    for row in rows:
        direct_rate, rate = float(row["direct"]), float(row["proxied"])
        print(
            f"| {row['work']} | {direct_rate:,.0f} {row['unit']} | {rate:,.0f} "
            f"{row['unit']} | {direct_rate / rate:.1f} |"
        )
    print(
        f"\n{IDLE:,} connections: {idle_s / IDLE * 1e6:.0f} us CPU of the proxy each."
    )


if __name__ == "__main__":
    main()
