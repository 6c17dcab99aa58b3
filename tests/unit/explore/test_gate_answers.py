"""Where answers end: of Redis, Postgres, HTTP and WebSocket, byte by byte."""

import pytest

from test_framework.explore.gate.answers import Answers, Opaque
from test_framework.explore.gate.probing import set_aside
from test_framework.explore.gate.recognise import recognise


def asked(*requests: bytes) -> Answers:
    """Return the answers of a connection on which ``requests`` have left."""
    answers = recognise(requests[0])
    for request in requests:
        answers.sent(request)
    return answers


def due_until(answers: Answers, reply: bytes) -> int:
    """Return after how many bytes of ``reply``, given one by one, nothing is due."""
    for count in range(len(reply)):
        if not answers.is_due:
            return count
        answers.received(reply[count : count + 1])
    assert not answers.is_due
    return len(reply)


def resp(*words: bytes) -> bytes:
    """Return a command of Redis."""
    parts = [b"$%d\r\n%s\r\n" % (len(word), word) for word in words]
    return b"*%d\r\n" % len(words) + b"".join(parts)


@pytest.mark.parametrize(
    "reply",
    [
        b"+OK\r\n",
        b"-ERR unknown command\r\n",
        b":1\r\n",
        b"$-1\r\n",
        b"$4\r\n\r\n\r\n\r\n",
        b"*-1\r\n",
        b"*2\r\n$1\r\na\r\n*1\r\n:1\r\n",
        b"%1\r\n+key\r\n*0\r\n",
        b"|1\r\n+ttl\r\n:3\r\n+value\r\n",
        b"=5\r\ntxt:a\r\n",
        b"#t\r\n",
    ],
)
def test_reply_of_redis_ends_with_its_last_byte(reply: bytes) -> None:
    """Every kind of value, none of them a byte too early."""
    answers = asked(resp(b"GET", b"k"))

    assert due_until(answers, reply) == len(reply)


def test_pipeline_of_redis_ends_with_its_last_reply() -> None:
    """Three commands that leave together have three replies."""
    answers = asked(resp(b"SET", b"k", b"1") + resp(b"GET", b"k") + resp(b"PING"))
    replies = b"+OK\r\n$1\r\n1\r\n+PONG\r\n"

    assert due_until(answers, replies) == len(replies)


def test_message_of_a_channel_is_no_reply() -> None:
    """It may come at any time, before the reply to a command too."""
    answers = asked(resp(b"SUBSCRIBE", b"a", b"b"))
    message = resp(b"message", b"a", b"text")
    confirmation = b"*3\r\n$9\r\nsubscribe\r\n$1\r\na\r\n:1\r\n"

    assert answers.may_push
    assert due_until(answers, confirmation + message + confirmation) == len(
        confirmation + message + confirmation
    )


def test_push_of_resp3_is_no_reply() -> None:
    """An invalidation of client-side caching comes between the replies."""
    answers = asked(resp(b"GET", b"k"))
    push = b">2\r\n$10\r\ninvalidate\r\n*1\r\n$1\r\nk\r\n"

    assert due_until(answers, push + b"+OK\r\n") == len(push) + 5


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (resp(b"GET", b"visits"), "GET visits"),
        (resp(b"set", b"visits", b"secret"), "SET visits"),
        (resp(b"MULTI") + resp(b"INCR", b"k") + resp(b"EXEC"), "MULTI, INCR k, EXEC"),
        (resp(b"AUTH", b"secret"), "AUTH"),
        (resp(b"HELLO", b"3", b"AUTH", b"u", b"secret"), "HELLO"),
        (b"GET /note/1?key=secret HTTP/1.1\r\n\r\n", "GET /note/1"),
        (b"anything", "send"),
    ],
)
def test_request_is_described_with_its_key_and_no_secret(
    data: bytes, words: str
) -> None:
    """A reader sees what requests have in common, and no value or password."""
    assert recognise(data).describe(data) == words


def message(kind: bytes, body: bytes = b"") -> bytes:
    """Return a message of Postgres."""
    return kind + (len(body) + 4).to_bytes(4) + body


START = (8).to_bytes(4) + (196608).to_bytes(4)
SSL = (8).to_bytes(4) + (80877103).to_bytes(4)
READY = message(b"Z", b"I")
KEY = message(b"K", (4711).to_bytes(4) + b"keys")


def session() -> Answers:
    """Return the answers of a connection of Postgres that is ready."""
    answers = asked(START)
    answers.received(message(b"R", (0).to_bytes(4)) + KEY + READY)
    assert not answers.is_due
    return answers


@pytest.mark.parametrize(
    ("statement", "words"),
    [
        (b"COMMIT;", "COMMIT"),
        (b'select n from "seats" where id = 1 for update', "SELECT seats"),
        (b"UPDATE public.seats SET n = n - 1", "UPDATE public.seats"),
        (b"INSERT INTO seats VALUES ('secret')", "INSERT seats"),
        (b"DROP TABLE IF EXISTS seats", "DROP seats"),
        (b"ALTER ROLE ada PASSWORD 'secret'", "ALTER"),
    ],
)
def test_statement_is_described_by_its_first_word_and_table(
    statement: bytes, words: str
) -> None:
    """Sent as text, prepared first, or prepared and executed at once."""
    answers = session()
    parse = message(b"P", b"name\0" + statement + b"\0\0\0")
    bind = message(b"B", b"\0name\0")

    assert answers.describe(message(b"Q", statement + b"\0")) == words
    assert answers.describe(parse + message(b"S")) == f"prepare {words}"
    assert answers.describe(bind + message(b"S")) == words
    assert answers.describe(parse + bind + message(b"S")) == words


@pytest.mark.parametrize(
    ("status", "unfinished"),
    [(b"I", ""), (b"T", "transaction"), (b"E", "failed transaction")],
)
def test_session_tells_whether_a_transaction_is_unfinished(
    status: bytes, unfinished: str
) -> None:
    """As its server said when it was ready last."""
    answers = session()
    answers.sent(message(b"Q", b"BEGIN\0"))
    assert not answers.unfinished

    answers.received(message(b"C", b"BEGIN\0") + message(b"Z", status))

    assert answers.unfinished == unfinished


@pytest.mark.parametrize(
    ("commands", "unfinished"),
    [
        ("GET", ""),
        ("MULTI", "MULTI"),
        ("MULTI GET", "MULTI"),
        ("MULTI GET EXEC", ""),
        ("MULTI DISCARD", ""),
        ("MULTI RESET", ""),
        ("WATCH", "WATCH"),
        ("WATCH UNWATCH", ""),
        ("WATCH MULTI", "MULTI"),
        ("WATCH MULTI UNWATCH", "MULTI"),
        ("WATCH MULTI EXEC", ""),
    ],
)
def test_queue_of_commands_is_unfinished_until_it_is_carried_out(
    commands: str, unfinished: str
) -> None:
    """Inside of MULTI an UNWATCH is only queued."""
    answers = asked(*(resp(word.encode()) for word in commands.split()))

    assert answers.unfinished == unfinished


def test_start_of_a_session_is_a_dialogue() -> None:
    """TLS is declined, a password is asked for, and at last the server is ready."""
    answers = asked(SSL)
    assert due_until(answers, b"N") == 1

    answers.sent(START)
    ask = message(b"R", (10).to_bytes(4) + b"SCRAM\0\0")
    assert due_until(answers, ask) == len(ask)
    answers.sent(message(b"p", b"proof"))
    accepted = message(b"R", (12).to_bytes(4)) + message(b"R", (0).to_bytes(4))
    assert due_until(answers, accepted + KEY + READY) == len(accepted + KEY + READY)

    assert answers.session == 4711


def test_query_ends_when_the_server_is_ready() -> None:
    """Not with the last row, nor with an error."""
    answers = session()
    answers.sent(message(b"Q", b"SELECT 1\0"))
    rows = message(b"T") + message(b"D") + message(b"C", b"SELECT 1\0") + READY

    assert due_until(answers, rows) == len(rows)


def test_flush_asks_for_what_was_sent_so_far() -> None:
    """Parse and Describe are answered by three messages and no ReadyForQuery."""
    answers = session()
    answers.sent(message(b"P", b"s\0SELECT 1\0") + message(b"D", b"Ss\0"))
    assert not answers.is_due
    answers.sent(message(b"H"))
    described = message(b"1") + message(b"t") + message(b"T")

    assert due_until(answers, described) == len(described)


def test_error_ends_what_a_flush_asked_for() -> None:
    """The server skips the rest until the client sends a Sync."""
    answers = session()
    answers.sent(message(b"P", b"\0SELEC\0") + message(b"D", b"S\0") + message(b"H"))
    error = message(b"E", b"SERROR\0VERROR\0\0")
    assert due_until(answers, error) == len(error)

    answers.sent(message(b"S"))

    assert due_until(answers, READY) == len(READY)


def test_copy_waits_for_the_client() -> None:
    """After CopyInResponse it is the turn of the client, until it is done."""
    answers = session()
    answers.sent(message(b"Q", b"COPY t FROM STDIN\0"))
    answers.received(message(b"G"))
    assert not answers.is_due

    answers.sent(message(b"d", b"1\n") + message(b"c"))

    assert answers.is_due


def test_end_of_a_session_is_its_end_of_file() -> None:
    """So what the server does at the end, such as to free locks, has been done."""
    answers = session()
    answers.sent(message(b"X"))

    assert answers.is_due


@pytest.mark.parametrize(
    ("statement", "label"),
    [
        (message(b"Q", b"begin;\0"), "postgres BEGIN"),
        (message(b"P", b"s\0  UPDATE t\0"), "postgres UPDATE"),
        (message(b"X"), "postgres close"),
    ],
)
def test_request_of_postgres_is_named_by_its_statement(
    statement: bytes, label: str
) -> None:
    """Names hold no values, which would differ from run to run."""
    assert session().label(statement) == label


def test_prepared_statement_is_named_like_its_text() -> None:
    """Bind names the statement that Parse gave its text."""
    answers = session()
    answers.sent(message(b"P", b"s\0SELECT 1\0") + message(b"S"))

    assert answers.label(message(b"B", b"\0s\0")) == "postgres SELECT"


CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
GET = b"GET / HTTP/1.1\r\nhost: a\r\n\r\n"


@pytest.mark.parametrize(
    ("request_", "reply"),
    [
        (GET, b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello"),
        (GET, b"HTTP/1.1 204 No Content\r\n\r\n"),
        (GET, b"HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 304 Not Modified\r\n\r\n"),
        (
            GET,
            CHUNKED + b"5;x=y\r\nhello\r\n0\r\n\r\n",
        ),
        (
            b"HEAD / HTTP/1.1\r\n\r\n",
            b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n",
        ),
        (
            b"POST / HTTP/1.1\r\ncontent-length: 2\r\n\r\nhi",
            b"HTTP/1.1 201 Created\r\ncontent-length: 0\r\n\r\n",
        ),
    ],
)
def test_response_ends_with_its_last_byte(request_: bytes, reply: bytes) -> None:
    """By length, by chunks, or without a body."""
    assert due_until(asked(request_), reply) == len(reply)


@pytest.mark.parametrize(
    "head",
    [
        b"HTTP/1.1 200 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
    ],
)
def test_response_may_end_with_its_connection(head: bytes) -> None:
    """Without a length, or when the server says that it closes."""
    answers = asked(GET)
    answers.received(head + b"")

    assert answers.is_due


def test_request_whose_body_is_held_is_not_answered_yet() -> None:
    """Its head has left alone; the server waits as well."""
    answers = asked(b"POST / HTTP/1.1\r\ncontent-length: 2\r\n\r\n")
    assert not answers.is_due

    answers.sent(b"hi")

    assert answers.is_due


UPGRADED = b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\n\r\n"


def frame(opcode: int, body: bytes = b"", *, masked: bool = False) -> bytes:
    """Return one frame of a WebSocket."""
    mask = b"\0\0\0\0" if masked else b""
    return bytes([0x80 | opcode, len(body) | masked << 7]) + mask + body


def test_message_of_a_websocket_is_answered_by_a_message() -> None:
    """A ping of the server is none, and what comes unasked owes nothing."""
    answers = asked(GET)
    answers.received(UPGRADED)
    assert answers.may_push
    assert not answers.is_due

    answers.sent(frame(1, b"hello", masked=True))
    reply = frame(9) + frame(1, b"x" * 100)

    assert due_until(answers, reply) == len(reply)


def test_long_frames_are_cut_by_their_length() -> None:
    """Lengths of 16 and of 64 bits."""
    answers = asked(GET)
    answers.received(UPGRADED)
    short = b"\x82\x7e" + (300).to_bytes(2) + b"x" * 300
    long = b"\x82\x7f" + (70_000).to_bytes(8) + b"x" * 70_000

    answers.sent(frame(2, masked=True) + frame(2, masked=True))
    answers.received(short)
    assert answers.is_due
    answers.received(long[:-1])
    assert answers.is_due
    answers.received(long[-1:])

    assert not answers.is_due


def test_closing_handshake_ends_with_the_connection() -> None:
    """The close frame of the server is not the end yet."""
    answers = asked(GET)
    answers.received(UPGRADED)
    answers.sent(frame(8, masked=True))
    answers.received(frame(8))

    assert answers.is_due


def test_unknown_bytes_have_no_end() -> None:
    """Something must come, and silence tells whether it was all."""
    answers = asked(b"\x16\x03\x01 hello")

    assert isinstance(answers, Opaque)
    assert answers.is_due
    assert not answers.has_end


def test_blocked_requests_are_set_aside_unless_a_cycle_holds_them() -> None:
    """A chain waits for others; a cycle, and who waits behind it, for the server."""
    chain = {"a": frozenset({"b"}), "b": frozenset({"free"}), "list": frozenset[str]()}
    cycle = {"x": frozenset({"y"}), "y": frozenset({"x"}), "z": frozenset({"x"})}

    assert set_aside({**chain, **cycle}) == {"a", "b", "list"}
