"""What faults can reach: the service, what it uses, and the proxies between them."""

import random
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from test_framework.faults.proxy import Proxy
    from test_framework.services import Host, Services


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """What a fault may lay hands on; None where it cannot.

    Attributes:
        host: The service's worker processes.
        services: Postgres and Redis as this run started them.
        database_url: Postgres itself, past any proxy, as a superuser or the owner.
        redis_url: Redis itself, past any proxy.
        service_url: The service itself, past any proxy; None takes the host's.
        database_proxy: Stands between the service and Postgres.
        redis_proxy: Stands between the service and Redis.
        service_proxy: Stands between users and the service.
        rng: What faults draw from: which worker, which way, where to cut.
    """

    host: "Host | None" = None
    services: "Services | None" = None
    database_url: str | None = None
    redis_url: str | None = None
    service_url: str | None = None
    database_proxy: "Proxy | None" = None
    redis_proxy: "Proxy | None" = None
    service_proxy: "Proxy | None" = None
    rng: random.Random = field(default_factory=lambda: random.Random(0))
