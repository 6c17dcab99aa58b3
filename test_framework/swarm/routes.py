"""Which lines of the service answer the endpoints of a run, where it is hosted."""

from typing import TYPE_CHECKING

from test_framework.core import HandlerRecord, History, Operation, RouteRecord

if TYPE_CHECKING:
    from test_framework.services import Host


def record_routes(host: "Host", history: History) -> None:
    """Add a route for each endpoint and each function that answered it.

    Args:
        host: The service's processes.
        history: Holds the operations of the run and when their handlers ran.
    """
    endpoints = {op.index: op.endpoint for op in history.of(Operation)}
    known = host.routes()
    told: set[RouteRecord] = set()
    for record in history.of(HandlerRecord):
        handler = known.get((record.worker, record.handler))
        if handler is None or record.op not in endpoints:
            continue
        route = RouteRecord(
            endpoints[record.op], handler.endpoint, handler.before, handler.around
        )
        if route not in told:
            told.add(route)
            history.add(route)
