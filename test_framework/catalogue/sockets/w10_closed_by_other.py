"""W10: one close ends the stream of another.

alice                           bob
                                return await streams.watch()
                                upstream = self.open()
                                if self.shared is None or not self.shared.is_open:
                                self.shared = _Upstream()
                                return self.shared
                                self.watchers += 1
                                await external("next value")
return await streams.watch()
upstream = self.open()
if self.shared is None or not self.shared.is_open:
return self.shared
self.watchers += 1
await external("next value")
                                is_open = upstream.is_open
                                self.watchers -= 1
                                self.close(upstream)
                                upstream.is_open = False
                                return is_open
is_open = upstream.is_open
-> cut off by the leaving of somebody else
"""

from test_framework.catalogue.pattern import Area, Hosted, Pattern
from test_framework.catalogue.world import visits
from test_framework.explore import external


class _Upstream:
    """A stream from a data source."""

    def __init__(self) -> None:
        self.is_open = True


class _Streams:
    """Relays one shared upstream; who leaves closes it."""

    def __init__(self) -> None:
        self.shared: _Upstream | None = None
        self.watchers = 0

    def open(self) -> _Upstream:
        if self.shared is None or not self.shared.is_open:
            self.shared = _Upstream()
        return self.shared

    def close(self, upstream: _Upstream) -> None:
        upstream.is_open = False

    async def watch(self) -> bool:
        upstream = self.open()
        self.watchers += 1
        await external("next value")
        is_open = upstream.is_open
        assert is_open, "cut off by the leaving of somebody else"
        self.watchers -= 1
        self.close(upstream)
        return is_open


class _CountingStreams(_Streams):
    def close(self, upstream: _Upstream) -> None:
        if not self.watchers:
            upstream.is_open = False


async def _watch_values(streams: _Streams, user: int) -> bool:  # noqa: ARG001  # any user
    return await streams.watch()


PATTERN = Pattern(
    id="W10",
    title="one close ends the stream of another",
    mechanism=(
        "The disconnect handler of one client closes an object that others use."
    ),
    fix="Close it when the last one leaves.",
    areas=(Area.WEBSOCKET,),
    detectors=(
        "explorer",
        "checkers",
    ),
    source="https://cwe.mitre.org/data/definitions/826.html",
    vulnerable=visits(_Streams, _watch_values),
    safe=visits(_CountingStreams, _watch_values),
    module=__name__,
    hosted=Hosted(),
    beyond={"swarm": "nothing of anybody moves"},
)
