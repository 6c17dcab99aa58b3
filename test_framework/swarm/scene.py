"""What the users of one run share: the service's address, the recorder, the plan."""

import random
import secrets
import ssl
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from test_framework.clients.http import Caller
from test_framework.clients.routes import Address, DirectRoute
from test_framework.core import (
    VISITOR,
    MonotonicClock,
    TargetError,
    UsageError,
    UserRecord,
    stream,
)
from test_framework.swarm.crowd import Burst, Crowd
from test_framework.swarm.user import User

if TYPE_CHECKING:
    from collections.abc import Callable

    from test_framework.clients.recorder import Recorder
    from test_framework.swarm.plan import Plan


class Scene:
    """The stage of a run.

    Args:
        base_url: Where the service listens.
        recorder: Writes the history.
        plan: What to run.
        seed: Seed of the run.
        behind: URL of the service, when ``base_url`` is that of a proxy before it.
        is_alive: Raises ``TargetError`` when the service's processes have died.

    Raises:
        UsageError: The URL is not an http or https URL.
    """

    def __init__(
        self,
        base_url: str,
        recorder: "Recorder",
        plan: "Plan",
        *,
        seed: int,
        behind: str | None = None,
        is_alive: "Callable[[], None] | None" = None,
    ) -> None:
        parts = urlsplit(base_url)
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            message = (
                f"--target {base_url!r} is neither a URL nor module:app. Pass "
                "http://host:port or, to have it started, package.module:app."
            )
            raise UsageError(message)
        tls = ssl.create_default_context() if parts.scheme == "https" else None
        self.base_url = base_url
        try:
            self.address = Address.of(parts, tls, behind=behind)
        except ValueError as exc:
            message = f"--target {base_url!r}: {exc}. Pass a port up to 65535."
            raise UsageError(message) from exc
        self.recorder = recorder
        self.history = recorder.history
        self.clock = MonotonicClock()
        self.plan = plan
        self.event_sequence = plan.event_sequence
        self.event_type = plan.event_type
        self.event_resume = plan.event_resume
        self.seed = seed
        self.users: list[User] = []
        # Names differ from run to run, so that a service that keeps its data can be
        # audited again with the same seed.
        self.run_id = secrets.token_hex(4)
        self.departing: list[User] = []
        self._is_alive = is_alive
        self._bursts = 0

    def rng(self, *names: str | int) -> random.Random:
        """Return the stream of choices of the given names."""
        return stream(self.seed, *names)

    def add_user(self, index: int) -> User:
        """Make a regular user; it is recorded when its login has ended."""
        user = User(self, index, f"iso{self.run_id}-u{index:02d}")
        self.users.append(user)
        return user

    def add_extra(self, name: str) -> User:
        """Make a user of one shape only; it leaves with the others."""
        user = User(self, len(self.users) + len(self.departing), name)
        self.departing.append(user)
        return user

    def everybody(self) -> list[User]:
        """Return the regular users and those of single shapes."""
        return [*self.users, *self.departing]

    def entered(self) -> list[User]:
        """Return everybody who was let in."""
        return [user for user in self.everybody() if user.has_entered]

    def record_user(self, user: User, cohort: str) -> None:
        """Write down who the user is, with what names it inside the service."""
        self.history.add(
            UserRecord(
                user=user.index,
                name=user.name,
                cohort=cohort,
                identities=tuple(sorted(user.identities)),
            )
        )

    def burst(self, name: str, expected: int) -> Burst:
        """Return a gate for ``expected`` requests."""
        self._bursts += 1
        return Burst(
            f"{name}#{self._bursts}",
            expected,
            shape=self.recorder.shape,
            clock=self.clock,
            history=self.history,
        )

    def crowd(self, size: int) -> Crowd:
        """Return a crowd of ``size`` members."""
        return Crowd(size, self.burst)

    def visitor(self) -> Caller:
        """Return a caller without identity, on own connections."""
        return Caller(VISITOR, DirectRoute(self.address))

    def require_alive(self) -> None:
        """Check that the service still runs.

        Raises:
            TargetError: A worker process has died.
        """
        if self._is_alive is not None:
            self._is_alive()

    async def require_reachable(self) -> None:
        """Check that the service accepts connections.

        Raises:
            TargetError: It does not.
        """
        self.require_alive()
        try:
            wire = await self.address.connect()
        except TargetError:
            self.require_alive()
            raise
        wire.close()

    async def close(self) -> None:
        """Close every user's connections."""
        for user in self.everybody():
            await user.close()
