"""The Postgres reader sees every row once, or says why it cannot."""

import secrets
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import asyncpg
import pytest

from test_framework.clients.sql import LONGEST_ROW, ForeignKey, SqlReader
from test_framework.core import TargetError, UsageError

pytestmark = pytest.mark.integration


@dataclass(frozen=True, slots=True)
class Place:
    """A schema of one test.

    Attributes:
        name: Its name.
        url: Its database.
        sql: An open connection to make things with.
    """

    name: str
    url: str
    sql: Any


@pytest.fixture
async def place(database_url: str) -> AsyncIterator[Place]:
    """An empty schema that is dropped again."""
    url = database_url.replace("+asyncpg", "")
    sql = await asyncpg.connect(url)
    name = f"readers_{secrets.token_hex(4)}"
    await sql.execute(f"CREATE SCHEMA {name}; SET search_path = {name}")
    yield Place(name, url, sql)
    await sql.execute(f"DROP SCHEMA {name} CASCADE")
    await sql.close()


async def _read(place: Place) -> dict[str, list[bytes]]:
    """Return the rows of each table of the schema, by its bare name."""
    found = {}
    async with SqlReader(place.url) as reader:
        for table in await reader.tables():
            schema, _, bare = table.partition(".")
            if schema == place.name:
                found[bare] = [row async for row in reader.rows(table)]
    return found


async def test_partitions_and_heirs_count_once(place: Place) -> None:
    """A row of a partition or of an inheriting table comes up exactly once."""
    await place.sql.execute(
        """
        CREATE TABLE parted(id int) PARTITION BY RANGE(id);
        CREATE TABLE parted_low PARTITION OF parted FOR VALUES FROM (0) TO (10);
        CREATE TABLE parted_high PARTITION OF parted FOR VALUES FROM (10) TO (20);
        INSERT INTO parted VALUES (1), (11);
        CREATE TABLE base(id int);
        CREATE TABLE heir(extra int) INHERITS (base);
        INSERT INTO base VALUES (1);
        INSERT INTO heir VALUES (2, 3);
        """
    )

    assert await _read(place) == {
        "base": [b'{"id":1}'],
        "heir": [b'{"id":2,"extra":3}'],
        "parted": [b'{"id":1}', b'{"id":11}'],
    }


async def test_odd_names_and_values_are_read(place: Place) -> None:
    """Quoted names, a column called like an alias, bytes, and views that are filled."""
    await place.sql.execute(
        r"""
        CREATE TABLE "Odd; t"(t text, bytes bytea);
        INSERT INTO "Odd; t" VALUES ('é', '\x7171');
        CREATE MATERIALIZED VIEW kept AS SELECT 1 AS one;
        CREATE MATERIALIZED VIEW empty AS SELECT 1 AS one WITH NO DATA;
        CREATE VIEW derived AS SELECT 1 AS one;
        """
    )

    assert await _read(place) == {
        '"Odd; t"': ['{"t":"é","bytes":"\\\\x7171"}'.encode()],
        "kept": [b'{"one":1}'],
    }


async def test_huge_row_is_cut(place: Place) -> None:
    """A row beyond the bound costs no more memory than the bound."""
    await place.sql.execute("CREATE TABLE big(v text)")
    await place.sql.execute("INSERT INTO big VALUES ($1)", "x" * (LONGEST_ROW + 9))

    assert [len(row) for row in (await _read(place))["big"]] == [LONGEST_ROW]


async def test_only_rows_that_hold_a_text_are_sent(place: Place) -> None:
    """Asked for a text, Postgres keeps every other row to itself."""
    await place.sql.execute(
        """
        CREATE TABLE notes(id int, body text);
        INSERT INTO notes VALUES (1, 'private'), (2, 'a needle here'), (3, NULL);
        """
    )

    async with SqlReader(place.url) as reader:
        rows = [r async for r in reader.rows(f"{place.name}.notes", holding="needle")]

    assert rows == [b'{"id":2,"body":"a needle here"}']


async def test_limited_reader_does_not_wait_for_a_lock(place: Place) -> None:
    """A table that somebody else holds is given up, with a reason, and not waited for."""
    await place.sql.execute("CREATE TABLE held(id int)")

    async with place.sql.transaction():
        await place.sql.execute("LOCK TABLE held IN ACCESS EXCLUSIVE MODE")
        async with SqlReader(place.url, statement_limit_s=0.05) as reader:
            with pytest.raises(TargetError, match=r"held .*timeout"):
                [row async for row in reader.rows(f"{place.name}.held")]


async def test_hidden_rows_are_refused(place: Place) -> None:
    """A role that sees a part of the rows is told so instead of getting a part."""
    role = f"{place.name}_small"
    await place.sql.execute(
        f"""
        CREATE TABLE mine(id int);
        ALTER TABLE mine ENABLE ROW LEVEL SECURITY;
        CREATE ROLE {role} LOGIN PASSWORD 'small';
        GRANT USAGE ON SCHEMA {place.name} TO {role};
        GRANT SELECT ON mine TO {role};
        """
    )
    netloc = urlsplit(place.url).netloc.rpartition("@")[2]
    url = urlsplit(place.url)._replace(netloc=f"{role}:small@{netloc}").geturl()
    try:
        async with SqlReader(url) as reader:
            with pytest.raises(TargetError, match="BYPASSRLS"):
                [row async for row in reader.rows(f"{place.name}.mine")]
    finally:
        await place.sql.execute(f"DROP OWNED BY {role}; DROP ROLE {role}")


async def test_foreign_keys_are_mapped(place: Place) -> None:
    """Each key names its columns and those they point at, in order."""
    await place.sql.execute(
        """
        CREATE TABLE parent(a int, b int, PRIMARY KEY (b, a));
        CREATE TABLE child(x int, y int, FOREIGN KEY (y, x) REFERENCES parent(b, a));
        """
    )

    async with SqlReader(place.url) as reader:
        keys = await reader.foreign_keys()

    key = ForeignKey(
        f"{place.name}.child", ("y", "x"), f"{place.name}.parent", ("b", "a")
    )
    assert [each for each in keys if each.table.startswith(place.name)] == [key]


async def test_reader_writes_nothing(place: Place) -> None:
    """The connection of a reader refuses every write."""
    async with SqlReader(place.url) as reader:
        with pytest.raises(asyncpg.ReadOnlySQLTransactionError):
            await reader._connection.execute(f"CREATE TABLE {place.name}.t(id int)")


async def test_open_transaction_is_counted(place: Place) -> None:
    """A session that idles in a transaction is seen, and no longer when it ends."""
    async with SqlReader(place.url) as reader:
        before = await reader.idle_transactions()
        async with place.sql.transaction():
            await place.sql.fetchval("SELECT 1")
            during = await reader.idle_transactions()

    assert during == before + 1


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("user", "nobody:hunter2", "refuses the login"),
        ("port", "1", "cannot be reached"),
        ("path", "/nowhere", "refuses the login"),
    ],
)
async def test_refusal_hides_the_password(
    database_url: str, old: str, new: str, words: str
) -> None:
    """What Postgres refuses is one sentence with the place and without the secret."""
    parts = urlsplit(database_url)
    login, _, place = parts.netloc.rpartition("@")
    changed = {
        "user": parts._replace(netloc=f"{new}@{place}"),
        "port": parts._replace(netloc=f"{login}@127.0.0.1:{new}"),
        "path": parts._replace(path=new),
    }[old].geturl()

    with pytest.raises(TargetError) as caught:
        await SqlReader(changed).__aenter__()

    assert words in str(caught.value)
    secret = urlsplit(changed).password
    assert secret is None or secret not in str(caught.value)


@pytest.mark.parametrize(
    "url", ["mysql://u:hunter2@h/d", "postgresql://u:hunter2@h:99999/d", "hunter2"]
)
def test_other_url_is_refused(url: str) -> None:
    """What is no Postgres URL is the caller's mistake, and not repeated aloud."""
    with pytest.raises(UsageError, match="Pass postgresql://") as caught:
        SqlReader(url)

    assert "hunter2" not in str(caught.value)
