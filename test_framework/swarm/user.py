"""One authenticated user of the service under test: what workloads are written with."""

import asyncio
import secrets
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import parse_qs, urlsplit

import httpx

from test_framework.clients.http import TIMEOUT_S, Caller, RecordingTransport
from test_framework.clients.routes import DirectRoute
from test_framework.clients.websocket import Events, open_events
from test_framework.core import UsageError, stream
from test_framework.swarm.objects import Call, Objects, Value

if TYPE_CHECKING:
    import random

    from test_framework.clients.recorder import Recorder
    from test_framework.clients.routes import Address
    from test_framework.swarm.crowd import Burst, Crowd


class ExpectationError(AssertionError):
    """Raised when a workload's own expectation does not hold; becomes a finding."""


class Stage(Protocol):
    """What a user needs of the run it is in; ``Scene`` is one."""

    base_url: str
    seed: int
    address: "Address"
    recorder: "Recorder"
    event_sequence: str | None
    event_type: str
    event_resume: str | None

    def burst(self, name: str, expected: int) -> "Burst":
        """Return a gate for ``expected`` requests."""
        ...


class User:
    """A user: an identity, an own HTTP client, own sockets, own canaries.

    Attributes:
        index: Number of the user in the run, from 0.
        name: Login name; unique in the run and different from run to run.
        password: Random password; it never enters the history.
        http: A stock ``httpx.AsyncClient`` on the service; set headers on it.
        rng: The user's own stream of choices, from the seed of the run.
        has_entered: Whether the login hook came to its end.
        state: A free namespace for what one hook wants to tell the next.
    """

    def __init__(self, scene: Stage, index: int, name: str) -> None:
        self.index = index
        self.name = name
        self.password = secrets.token_urlsafe(16)
        self.rng: random.Random = stream(scene.seed, "user", index)
        self.state = SimpleNamespace()
        self.identities: set[str] = {name}
        self.crowd: Crowd | None = None
        self.has_entered = False
        self._scene = scene
        self._objects = Objects(scene.recorder, index)
        self.direct = DirectRoute(scene.address)
        self.caller = Caller(index, self.direct)
        self.http = httpx.AsyncClient(
            base_url=scene.base_url,
            transport=RecordingTransport(
                scene.recorder,
                self.caller,
                host=httpx.URL(scene.base_url).host,
            ),
            timeout=TIMEOUT_S,
            trust_env=False,
        )

    def __repr__(self) -> str:
        return f"<User {self.index} {self.name!r}>"

    @property
    def shape(self) -> str:
        """Name of the traffic shape that is running."""
        return self._scene.recorder.shape

    def canary(self, purpose: str, *, public: bool = False) -> str:
        """Return a fresh value that names this user wherever it turns up.

        Args:
            purpose: What it is planted as, for the witness: ``"note"``.
            public: True when other users may see it by design.

        Returns:
            Letters and digits; put it into anything that you write.
        """
        return self._scene.recorder.canary(self.index, purpose, public=public)

    def own(self, *identities: str) -> None:
        """Declare values that name this user inside the service, such as its id.

        Rows, keys, channels and log lines that hold one belong to this user.
        """
        values: tuple[object, ...] = identities  # an audit file is not type-checked
        for identity in values:
            if not isinstance(identity, str) or not identity:
                message = (
                    f"user.own({identity!r}): an identity is a non-empty string, "
                    "such as the user id that login returned."
                )
                raise UsageError(message)
            self.identities.add(identity)

    def ws(
        self, path: str, *, headers: dict[str, str] | None = None
    ) -> AbstractAsyncContextManager[Events]:
        """Open a WebSocket with this user's headers and cookies.

        Args:
            path: Path and query, such as ``"/ws?after=3"``.
            headers: Further headers.

        Raises:
            TargetError: The handshake was refused.
        """
        kept = {
            name: value
            for name, value in self.http.headers.items()
            if name in {"authorization", "x-request-id", "origin"}
        }
        cookies = "; ".join(f"{c.name}={c.value}" for c in self.http.cookies.jar)
        if cookies:
            kept["cookie"] = cookies
        parts = urlsplit(self._scene.base_url)
        scheme = "wss" if parts.scheme == "https" else "ws"
        return open_events(
            self._scene.recorder,
            user=self.index,
            url=f"{scheme}://{parts.netloc}{parts.path.rstrip('/')}{path}",
            path=path.partition("?")[0],
            headers={**kept, **(headers or {})},
            tls=self._scene.address.tls,
            sequence_field=self._scene.event_sequence,
            type_field=self._scene.event_type,
            resumes_after=self._resumes_after(path),
        )

    def _resumes_after(self, path: str) -> int | None:
        """Return the number of the event that a socket resumes after, if it says.

        Zero asks for all events there are, and nobody knows the number of the first.
        """
        name = self._scene.event_resume
        if name is None or self._scene.event_sequence is None:
            return None
        given = parse_qs(urlsplit(path).query).get(name, [""])[-1]
        return int(given) or None if given.isdecimal() else None

    async def rendezvous(self, name: str) -> None:
        """Wait for all users; this user's next request is released with theirs."""
        if self.crowd is None:
            return
        if self.caller.route is self.direct:
            await self.direct.warm()
            self.caller.gate = await self.crowd.meet(name)
        else:
            # A held request would block a shared connection for all behind it.
            await self.crowd.meet(name)

    def expect(self, claim: object, message: str) -> None:
        """Require that ``claim`` is true.

        Raises:
            ExpectationError: It is not; recorded against this user's last request.
        """
        if not claim:
            raise ExpectationError(message)

    def calling(
        self, model: str, key: str, kind: str, argument: Value = None
    ) -> AbstractContextManager[Call]:
        """Record what is done to an object of the service; judged when the run is over.

        ``with user.calling("list", path, "append", text): await user.http.post(...)``.
        Tasks of one user count as processes of their own. What raises, or is cancelled,
        has an unknown outcome.

        Args:
            model: What kind of object: ``list`` (append, read), ``register`` (write,
                read), ``counter`` (increment, read), ``mutex`` (acquire, release),
                ``set`` (add, remove, contains, read) or ``queue`` (enqueue, dequeue).
            key: Which object; one that several users share has one key for all.
            kind: What is called.
            argument: What it is given; unique per object for what is written.

        Returns:
            A context whose value takes ``.result``, ``.refused()`` and ``.lost()``.

        Raises:
            UsageError: There is no such kind of object, or it cannot do that.
        """
        return self._objects.calling(model, key, kind, argument)

    async def once(
        self,
        method: str,
        url: str,
        *,
        times: int = 4,
        **options: Any,  # noqa: ANN401  # what httpx takes
    ) -> list[httpx.Response]:
        """Send one request several times at one instant; at most one may succeed.

        Args:
            method: HTTP method.
            url: Path on the service.
            times: How many equal requests (count, >= 2).
            **options: What ``httpx.AsyncClient.request`` takes.

        Returns:
            The answers in no order.
        """
        burst: Burst = self._scene.burst(f"once-{self.index}", times)
        group = f"{method} {url} by {self.index} #{self._scene.recorder.number()}"
        route, self.caller.route = self.caller.route, self.direct
        try:
            return list(
                await asyncio.gather(
                    *(
                        self.http.request(
                            method,
                            url,
                            extensions={
                                "isolation_gate": burst,
                                "isolation_once": group,
                            },
                            **options,
                        )
                        for _ in range(times)
                    )
                )
            )
        finally:
            self.caller.route = route

    async def close(self) -> None:
        """Close the client and its connections."""
        await self.http.aclose()
        self.direct.close()
