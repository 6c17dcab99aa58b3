"""Secrets in files that are exchanged while they are in use, as containers do it.

A use takes one version and keeps it: whoever reads the secret twice within one use may
get two. Which of the server and the file learns of a new secret first is not ours to say,
so a use that was refused tries the other versions: the one before, for a server that has
not heard yet, and for some seconds each that comes, for a file that is not written yet.
Connections that were opened with an old version stay; new ones are opened with the new.
"""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from app.settings import Settings, SettingsError

PATIENCE_S = (0.05, 0.1, 0.2, 0.4, 0.8, 1.6)
"""How long to wait before each further look, when no version is accepted."""


@dataclass(frozen=True, slots=True)
class SecretVersion:
    """A secret as it was at some time.

    Attributes:
        number: 1 for the first, and one more for each that came later.
    """

    number: int
    value: str = field(repr=False)


class Secret:
    """A secret in a file, as the file is by now, and as it was before."""

    def __init__(self, path: Path, *, patience_s: Sequence[float] = PATIENCE_S) -> None:
        """Read the file, which blocks.

        Raises:
            SettingsError: It cannot be read, or is empty.
        """
        self._path = path
        self._patience_s = tuple(patience_s)
        value = self._read()
        if not value:
            message = f"{path} is empty or cannot be read; expected a secret in it."
            raise SettingsError(message)
        # One object, so that a reader never sees a new version beside the wrong old one.
        self._versions: tuple[SecretVersion, ...] = (SecretVersion(1, value),)

    @property
    def versions(self) -> tuple[SecretVersion, ...]:
        """The current version, and the one before it if there was one."""
        return self._versions

    @property
    def current(self) -> SecretVersion:
        """The newest version. Take it once for one use."""
        return self._versions[0]

    async def reload(self) -> bool:
        """Read the file again; return whether there is a new version.

        A file that is empty or gone is about to be written: the version stays.
        """
        # In a thread: the file may be far away.
        value = await asyncio.to_thread(self._read)
        current = self._versions[0]
        if not value or value == current.value:
            return False
        self._versions = (SecretVersion(current.number + 1, value), current)
        return True

    async def attempts(self) -> AsyncGenerator[SecretVersion, None]:
        """Yield versions to try, one after the other, until the caller stops.

        It ends when the server has accepted none for so long that it never will.
        """
        for version in self.versions:
            yield version
        for pause_s in self._patience_s:
            await asyncio.sleep(pause_s)
            await self.reload()
            # Those that were refused as well: the server may have heard meanwhile.
            for version in self.versions:
                yield version

    def _read(self) -> str:
        try:
            return self._path.read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError):
            return ""


@dataclass(frozen=True, slots=True)
class Secrets:
    """The secrets of the service that are in files; None for those in the settings."""

    database: Secret | None = None
    redis: Secret | None = None
    model: Secret | None = None

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """Read the files that the settings name, which blocks.

        Raises:
            SettingsError: One of them cannot be read, or is empty.
        """

        def at(path: Path | None) -> Secret | None:
            return None if path is None else Secret(path)

        return cls(
            at(settings.database_password_file),
            at(settings.redis_password_file),
            at(settings.model_key_file),
        )

    def owner(self, settings: Settings) -> Secret | None:
        """The password of who migrates: the service's own, unless that is another role."""
        return None if settings.migration_database_url else self.database

    async def reload(self) -> None:
        """Read all files again."""
        for secret in (self.database, self.redis, self.model):
            if secret is not None:
                await secret.reload()
