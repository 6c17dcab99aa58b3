"""Builds small histories by hand, one record at a time."""

from typing import Any

from test_framework.core import (
    FORMAT,
    CanaryRecord,
    EndRecord,
    History,
    Operation,
    RunRecord,
    Seen,
    ShapeRecord,
    UserRecord,
)

MS = 1_000_000


def canary(owner: int, sequence: int = 0) -> str:
    """Return the id of a user's canary."""
    return f"u{owner}/{sequence}"


def seen(owner: int, sequence: int = 0, *, where: str = "body") -> Seen:
    """Return a canary of ``owner`` as seen in something received."""
    return Seen(owner, canary(owner, sequence), "raw", where, 0)


class Builder:
    """A history under construction.

    Args:
        users: How many regular users it has.
    """

    def __init__(self, users: int = 2) -> None:
        self.history = History()
        self._next = 0
        self.history.add(
            RunRecord(
                format=FORMAT,
                seed=1,
                users=users,
                target="http://x",
                workload="workload",
                hosted=False,
                repeat="repeat me",
                started_ns=0,
            )
        )
        for user in range(users):
            self.history.add(
                UserRecord(user, f"name-{user}", "regular", (f"id-{user}",))
            )
            self.history.add(CanaryRecord(canary(user), user, "note"))

    def op(self, user: int, endpoint: str = "GET /notes", **fields: Any) -> Operation:  # noqa: ANN401  # the fields of Operation
        """Add one finished HTTP operation and return it."""
        self._next += 1
        start = round(fields.pop("start_ms", self._next * 10) * MS)
        end = round(fields.pop("end_ms", start // MS + 5) * MS)
        values: dict[str, Any] = {
            "index": self._next,
            "user": user,
            "channel": "http",
            "endpoint": endpoint,
            "path": endpoint.partition(" ")[2],
            "shape": "own-connections",
            "invoked_ns": start,
            "first_byte_ns": end,
            "completed_ns": end,
            "outcome": "ok",
            "status": 200,
        }
        operation = Operation(**(values | fields))
        self.history.add(operation)
        return operation

    def event(
        self,
        user: int,
        sequence: int | None,
        *,
        socket: int = 1,
        **fields: Any,  # noqa: ANN401  # the fields of Operation
    ) -> Operation:
        """Add one WebSocket event and return it."""
        return self.op(
            user,
            "EVENT /ws",
            channel="websocket",
            socket=socket,
            sequence=sequence,
            status=None,
            **fields,
        )

    def end(self, *, shape: str = "own-connections") -> History:
        """Add the shape and the foot, and return the history."""
        users = tuple(record.user for record in self.history.of(UserRecord))
        self.history.add(ShapeRecord(shape, users, 0, 1000 * MS))
        self.history.add(EndRecord(1000 * MS, complete=True))
        return self.history


def whole_run(users: int = 2) -> Builder:
    """Return a builder in which every user wrote, met the others and saw its own."""
    builder = Builder(users)
    for user in range(users):
        builder.op(user, "POST /notes", planted=(canary(user),), start_ms=10, end_ms=60)
        builder.op(user, "GET /notes", seen=(seen(user),), start_ms=70, end_ms=90)
    return builder
