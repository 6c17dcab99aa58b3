"""Cost of keys, certificates and secrets of the reference service.

Run ``python -m benchmarks.app_keys``. Tokens beside plain pyjwt, handshakes full and
resumed, with and without an exchange of the certificate meanwhile, keys of a pool beside
a plain queue; in CPU time of this process, which is client and server at once: the ratio
is what to read, on a machine that others use as well.
"""

import argparse
import asyncio
import contextlib
import datetime as dt
import functools
import gc
import ssl
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import jwt
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from cryptography.x509.oid import NameOID

from app.security import (
    AccessTokens,
    Certificates,
    KeyPair,
    KeyPool,
    KeyRing,
    KeySet,
    ResumingContext,
)
from app.security.tokens import AUDIENCE, ISSUER

ROUNDS = 5
TOKENS = 1_000
HANDSHAKES = 200
LEASES = 5_000
WAITERS = 100
HOST = "localhost"


def cost_us(work: Callable[[], object], count: int) -> float:
    """Return the CPU time of one of ``count`` pieces of work, microseconds."""
    gc.collect()
    started = time.process_time()
    for _ in range(count):
        work()
    return (time.process_time() - started) / count * 1e6


def best(measure: Callable[[], float], rounds: int) -> float:
    """Return the least of some measurements."""
    return min(measure() for _ in range(rounds))


def tokens_table(rounds: int) -> None:
    """Print what signing and verifying cost, beside the library alone."""
    pair, secret = KeyPair.generate(), "s" * 40
    ring = KeyRing(KeySet.of(pair))
    ours = AccessTokens(ring, lifetime_s=900)
    token = ours.issue("ada", "login")
    claims = jwt.decode(token, options={"verify_signature": False})
    plain = jwt.encode(claims, secret, "HS256")
    public, private = pair.public, pair.private

    def decode(text: str, key: object, algorithm: str) -> object:
        return jwt.decode(text, key, [algorithm], audience=AUDIENCE, issuer=ISSUER)  # type: ignore[arg-type]  # either kind

    def verify_rotating() -> object:
        # As often as it can be: a new snapshot for each token.
        ring._keys = KeySet.of(pair, [public])  # noqa: SLF001  # what a refresh does
        return ours.verify(token)

    works: list[tuple[str, Callable[[], object]]] = [
        ("sign, pyjwt HS256", lambda: jwt.encode(claims, secret, "HS256")),
        ("sign, pyjwt EdDSA", lambda: jwt.encode(claims, private, "EdDSA")),
        ("sign, ours", lambda: ours.issue("ada", "login")),
        ("verify, pyjwt HS256", lambda: decode(plain, secret, "HS256")),
        ("verify, pyjwt EdDSA", lambda: decode(token, public, "EdDSA")),
        ("verify, ours", lambda: ours.verify(token)),
        ("verify, ours, rotated before each", verify_rotating),
    ]
    costs = {name: float("inf") for name, _ in works}
    for _ in range(rounds):
        for name, work in works:
            costs[name] = min(costs[name], cost_us(work, TOKENS))
    print("| token | CPU | per second | to pyjwt EdDSA |")
    print("|---|--:|--:|--:|")
    for name, cost in costs.items():
        beside = costs[f"{name.partition(',')[0]}, pyjwt EdDSA"]
        print(f"| {name} | {cost:.1f} us | {1e6 / cost:,.0f} | {cost / beside:.2f} |")


def make_pair(folder: Path, number: int, *, is_rsa: bool = False) -> tuple[Path, Path]:
    """Write a certificate of its own signing and its key; return the paths."""
    key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey
    if is_rsa:
        key = rsa.generate_private_key(65_537, 2_048)
    else:
        key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, HOST)])
    now = dt.datetime.now(dt.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(number)
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    paths = folder / "tls.crt", folder / "tls.key"
    paths[0].write_bytes(certificate.public_bytes(Encoding.PEM))
    paths[1].write_bytes(
        key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    )
    return paths


def anybody(context: ssl.SSLContext) -> ssl.SSLContext:
    """Let a client trust whatever certificate it is shown."""
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


async def handshake_us(
    listening: ssl.SSLContext,
    client: ssl.SSLContext,
    between: Callable[[int], None] = lambda _: None,
) -> tuple[float, float]:
    """Return the CPU time of a handshake, microseconds, and the part resumed."""

    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"x")
        with contextlib.suppress(OSError):
            await reader.read(1)
        writer.close()

    server = await asyncio.start_server(greet, "127.0.0.1", 0, ssl=listening)
    port = server.sockets[0].getsockname()[1]
    resumed, spent_s = 0, 0.0
    for number in range(HANDSHAKES):
        between(number)
        started = time.process_time()
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", port, ssl=client, server_hostname=HOST
        )
        await reader.read(1)
        resumed += bool(writer.get_extra_info("ssl_object").session_reused)
        writer.close()
        await writer.wait_closed()
        spent_s += time.process_time() - started
    server.close()
    return spent_s / HANDSHAKES * 1e6, resumed / HANDSHAKES


def handshakes_table(rounds: int) -> None:
    """Print what handshakes cost: plain, exchangeable, resumed, during exchanges."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        paths = make_pair(folder, 1)
        plain = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        plain.load_cert_chain(*paths)
        certificates = Certificates(*paths)
        other = folder / "rsa"
        other.mkdir()
        rsa_shown = Certificates(*make_pair(other, 1, is_rsa=True)).listening

        def rotate(number: int) -> None:
            if number % 10 == 0:
                make_pair(folder, number + 2)
                certificates.reload()

        def plain_client() -> ssl.SSLContext:
            return anybody(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT))

        def resuming() -> ssl.SSLContext:
            return anybody(ResumingContext())

        shown = certificates.listening
        kinds: dict[str, Callable[[], Awaitable[tuple[float, float]]]] = {
            "full, plain context": lambda: handshake_us(plain, plain_client()),
            "full, exchangeable": lambda: handshake_us(shown, plain_client()),
            "full, exchanged every 10": lambda: handshake_us(
                shown, plain_client(), rotate
            ),
            "resumed": lambda: handshake_us(shown, resuming()),
            "full, RSA 2048": lambda: handshake_us(rsa_shown, plain_client()),
            "resumed, RSA 2048": lambda: handshake_us(rsa_shown, resuming()),
            "resumed, exchanged every 10": lambda: handshake_us(
                shown, resuming(), rotate
            ),
        }

        async def measure(kind: str) -> tuple[float, float]:
            return await kinds[kind]()

        results = {kind: (float("inf"), 0.0) for kind in kinds}
        for _ in range(rounds):
            for kind in kinds:
                results[kind] = min(results[kind], asyncio.run(measure(kind)))
    beside = results["full, plain context"][0]
    print("\n| handshake, both sides | CPU | to a plain context | resumed |")
    print("|---|--:|--:|--:|")
    for kind, (cost, part) in results.items():
        print(f"| {kind} | {cost:.0f} us | {cost / beside:.2f} | {part:.1%} |")


def queue_us(keys: int) -> float:
    """Return the CPU time of a key taken from a plain queue, microseconds."""

    async def main() -> float:
        queue: asyncio.Queue[int] = asyncio.Queue()
        for key in range(keys):
            queue.put_nowait(key)

        async def work() -> None:
            for _ in range(LEASES // WAITERS):
                key = await queue.get()
                await asyncio.sleep(0)
                queue.put_nowait(key)

        started = time.process_time()
        await asyncio.gather(*(work() for _ in range(WAITERS)))
        return time.process_time() - started

    return asyncio.run(main()) / LEASES * 1e6


def lease_us(keys: int) -> float:
    """Return the CPU time of a lease, microseconds."""

    async def main() -> float:
        pool = KeyPool(range(keys))

        async def work() -> None:
            for _ in range(LEASES // WAITERS):
                async with pool.lease():
                    await asyncio.sleep(0)

        started = time.process_time()
        await asyncio.gather(*(work() for _ in range(WAITERS)))
        return time.process_time() - started

    return asyncio.run(main()) / LEASES * 1e6


def pool_table(rounds: int) -> None:
    """Print what a lease costs when a hundred want few keys."""
    print(f"\n| keys, {WAITERS} callers | queue | pool | ratio | leases per second |")
    print("|--:|--:|--:|--:|--:|")
    for keys in (1, 4, 16, 64):
        plain = best(functools.partial(queue_us, keys), rounds)
        pool = best(functools.partial(lease_us, keys), rounds)
        print(
            f"| {keys} | {plain:.1f} us | {pool:.1f} us | {pool / plain:.2f} | "
            f"{1e6 / pool:,.0f} |"
        )


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    rounds = parser.parse_args().rounds
    tokens_table(rounds)
    handshakes_table(rounds)
    pool_table(rounds)


if __name__ == "__main__":
    main()
