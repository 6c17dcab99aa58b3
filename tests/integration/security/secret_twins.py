"""Twins of secrets in files: without the grace between the server and the file."""

from collections.abc import AsyncGenerator

from app.security import Secret, SecretVersion


class OnlyCurrent(Secret):
    """Shows the newest version that it knows, and nothing else."""

    async def attempts(self) -> AsyncGenerator[SecretVersion, None]:
        yield self.current
