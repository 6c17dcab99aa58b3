"""What one direction of a connection does to the bytes that travel it.

The words are those of Toxiproxy where it has one: latency, jitter, bandwidth, limit
data, slow close; its ``timeout`` toxic without a time is a black hole here, because TCP
calls it so.
"""

from dataclasses import dataclass

from test_framework.core import UsageError


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """One direction; the default passes everything on at once.

    Attributes:
        latency_s: Every byte comes so much later (seconds, >= 0).
        jitter_s: And up to so much more, drawn for each piece; the order stays.
        bytes_per_s: Rate that bytes pass at; None for as fast as they come.
        is_black_hole: Nothing passes and nothing is refused: bytes wait where they
            are, the end of the stream too, and go on when this ends, as TCP sends
            again what was lost.
        cut_after_bytes: Each connection is cut with a reset after as many bytes as it
            draws from this range (both ends belong to it, >= 0), counted from when the
            link became such; None cuts none.
        slow_close_s: The end of the stream comes so much later (seconds, >= 0).
    """

    latency_s: float = 0.0
    jitter_s: float = 0.0
    bytes_per_s: float | None = None
    is_black_hole: bool = False
    cut_after_bytes: tuple[int, int] | None = None
    slow_close_s: float = 0.0

    def __post_init__(self) -> None:
        """Refuse what no link can be.

        Raises:
            UsageError: A time is negative, a rate is not positive, or a range is empty.
        """
        for name in ("latency_s", "jitter_s", "slow_close_s"):
            seconds = getattr(self, name)
            if not seconds >= 0:
                message = f"{name}={seconds!r}: a delay takes 0 seconds or more."
                raise UsageError(message)
        if self.bytes_per_s is not None and not self.bytes_per_s > 0:
            message = (
                f"bytes_per_s={self.bytes_per_s!r}: a rate is positive. For a link that "
                "passes nothing use is_black_hole=True."
            )
            raise UsageError(message)
        if self.cut_after_bytes is not None:
            low, high = self.cut_after_bytes
            if not 0 <= low <= high:
                message = (
                    f"cut_after_bytes={self.cut_after_bytes!r}: give the least and the "
                    "greatest count, such as (0, 4096)."
                )
                raise UsageError(message)

    @property
    def delays(self) -> bool:
        """Whether bytes may have to wait."""
        return bool(
            self.latency_s or self.jitter_s or self.bytes_per_s or self.is_black_hole
        )


CLEAR = Link()
"""Passes everything on at once."""
