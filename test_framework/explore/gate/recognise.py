"""Which protocol a connection speaks, by the first bytes that are sent."""

from test_framework.explore.gate.answers import Answers, Opaque
from test_framework.explore.gate.http1 import HttpAnswers, speaks_http
from test_framework.explore.gate.postgres import PostgresAnswers, speaks_postgres
from test_framework.explore.gate.resp import RespAnswers, speaks_resp


def recognise(data: bytes) -> Answers:
    """Return what counts the answers of the protocol that ``data`` begins."""
    if speaks_postgres(data):
        return PostgresAnswers()
    if speaks_resp(data):
        return RespAnswers()
    if speaks_http(data):
        return HttpAnswers()
    return Opaque()
