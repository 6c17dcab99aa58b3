"""What a run is pointed at: the service, and what of its insides may be looked at."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from test_framework.faults import Field
    from test_framework.services import Host


@dataclass(frozen=True, slots=True)
class Target:
    """The service under test.

    Attributes:
        base_url: Where it listens.
        name: How the caller called it: a URL or ``module:app``.
        database_url: Its Postgres, for the owner sweep; None sweeps none.
        redis_url: Its Redis, for the owner sweep; None sweeps none.
        log_paths: Its log files, if they can be read.
        host: Its worker processes, when this run started them.
        field: What faults may lay hands on; None where no fault may strike.
        is_shared: Whether it also serves people. Then the sweep asks the database for
            rows that hold a canary, with a time limit, and sees no other row.
    """

    base_url: str
    name: str
    database_url: str | None = None
    redis_url: str | None = None
    log_paths: tuple[Path, ...] = ()
    host: "Host | None" = None
    field: "Field | None" = None
    is_shared: bool = False
