"""Verifies the audit log: ``python -m app.storage.check_audit [NUMBER:DIGEST]``.

It prints the newest anchor. Keep that outside of the database and pass it the next time:
then the last anchors cannot have been taken away either. Exit code 0 says that the log is
sound, 1 that it is not, 2 that it could not be read.
"""

import asyncio
import sys

from app.security import AnchorKey, Secrets
from app.settings import Settings, SettingsError
from app.storage.chain import Verification, verify_audit
from app.storage.engine import StorageError, check_role, open_engine
from app.storage.sessions import SessionFactory

_USAGE = "Usage: python -m app.storage.check_audit [NUMBER:DIGEST]"


async def check_audit(
    settings: Settings, *, kept: tuple[int, bytes] | None = None
) -> Verification:
    """Verify the log of the database that the settings name.

    Raises:
        StorageError: Postgres cannot be used.
    """
    secrets = await asyncio.to_thread(Secrets.of, settings)
    engine = open_engine(
        settings.service_database_url,
        pool_size=1,
        pool_timeout_s=settings.database_pool_timeout_s,
        password=secrets.database,
    )
    try:
        await check_role(engine)
        async with SessionFactory(engine).for_audit() as session:
            key = AnchorKey(settings.audit_secret)
            return await verify_audit(session, key, kept=kept)
    finally:
        await engine.dispose()


def _main(arguments: list[str]) -> int:
    try:
        kept = _parse(arguments)
    except ValueError:
        sys.stderr.write(f"{_USAGE}\n")
        return 2
    try:
        found = asyncio.run(check_audit(Settings.from_environment(), kept=kept))
    except (SettingsError, StorageError) as exc:
        sys.stderr.write(f"{exc}\n")
        return 2
    for flaw in found.flaws:
        sys.stdout.write(f"{flaw}\n")
    said = "is NOT sound" if found.flaws else "is sound"
    sys.stdout.write(
        f"The audit log {said}: {found.entries} entries in {found.chains} chains.\n"
    )
    if found.anchor is not None:
        number, digest = found.anchor
        sys.stdout.write(f"Newest anchor: {number}:{digest.hex()}\n")
    return 1 if found.flaws else 0


def _parse(arguments: list[str]) -> tuple[int, bytes] | None:
    if not arguments:
        return None
    (given,) = arguments
    number, _, digest = given.partition(":")
    return int(number), bytes.fromhex(digest)


if __name__ == "__main__":
    raise SystemExit(_main(sys.argv[1:]))
