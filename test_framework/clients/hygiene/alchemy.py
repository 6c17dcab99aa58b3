"""Listens to the pools of SQLAlchemy, by its documented events."""

from collections.abc import Callable
from typing import Any

from test_framework.clients.hygiene.places import (
    Place,
    calling_place,
    kinds_of,
    settings_in,
)
from test_framework.clients.hygiene.state import (
    Kind,
    Leftover,
    session_state,
    undisturbed,
)
from test_framework.clients.hygiene.watcher import Watcher

_STATE = "isolation-audit state"
_PLACES = "isolation-audit places"
_LAST = "last"


def watch_pools(watcher: Watcher) -> Callable[[], None]:
    """Listen to all pools and engines, and return what ends that.

    Raises:
        ImportError: SQLAlchemy is not installed.
    """
    # Optional: a service without it is audited as well.
    from sqlalchemy import Engine, Pool, event  # noqa: PLC0415  # see above
    from sqlalchemy.exc import MissingGreenlet  # noqa: PLC0415  # see above

    def state_of(adapted: Any) -> frozenset[Leftover] | None:  # noqa: ANN401  # an adapted connection
        connection: Any = getattr(adapted, "driver_connection", None)
        if not _is_asyncpg(connection):
            name = type(connection if connection is not None else adapted).__module__
            watcher.missed(f"connections of {name.partition('.')[0]} were not asked")
            return None
        if connection.is_closed():
            return None
        try:
            state: frozenset[Leftover] = adapted.run_async(
                lambda driver: undisturbed(session_state(driver, watcher.settings))
            )
        except MissingGreenlet:
            watcher.missed("a connection came back by way of the garbage collector")
            return None
        except Exception as exc:  # noqa: BLE001  # the service must not notice that we look
            watcher.missed(f"Postgres did not say what a session keeps ({exc})")
            return None
        return state

    def checkout(adapted: Any, record: Any, _: object) -> None:  # noqa: ANN401  # SQLAlchemy's own
        record.info.setdefault(_PLACES, {})[_LAST] = calling_place()
        if _STATE not in record.info:
            record.info[_STATE] = state_of(adapted) or frozenset()

    def checkin(adapted: Any, record: Any) -> None:  # noqa: ANN401  # SQLAlchemy's own
        # A connection that was invalidated comes back as None and is not used again.
        state = None if adapted is None else state_of(adapted)
        if state is None:
            return
        places: dict[str, Place] = record.info.get(_PLACES, {})

        def place_of(kind: Kind) -> Place:
            return places.get(kind) or places.get(_LAST) or calling_place()

        watcher.returned(record.info.get(_STATE, frozenset()), state, place_of)
        record.info[_STATE] = state

    def statement(
        connection: Any,  # noqa: ANN401  # SQLAlchemy's own
        _cursor: object,
        text: str,
        parameters: object,
        _context: object,
        _many: bool,  # noqa: FBT001  # SQLAlchemy's own
    ) -> None:
        kinds = kinds_of(text)
        if not kinds:
            return
        if "setting" in kinds:
            watcher.settings.update(settings_in(text, parameters))
        places = connection.connection.info.setdefault(_PLACES, {})
        places.update(dict.fromkeys(kinds, calling_place()))

    listeners: tuple[tuple[Any, str, Callable[..., None]], ...] = (
        (Pool, "checkout", checkout),
        (Pool, "checkin", checkin),
        (Engine, "before_cursor_execute", statement),
    )
    for target, name, listener in listeners:
        event.listen(target, name, listener)

    def stop() -> None:
        for target, name, listener in listeners:
            event.remove(target, name, listener)

    return stop


def _is_asyncpg(connection: object) -> bool:
    return any(
        cls.__module__.startswith("asyncpg.") for cls in type(connection).__mro__
    )
