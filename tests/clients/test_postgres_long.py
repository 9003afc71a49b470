"""Rows of any size through the gateway under masks: what streams, in how much memory, what is refused."""

import os
from pathlib import Path

import psycopg
import pytest
from conftest import BINARY
from postgres_kit import Gateway, Issuer, Server
from test_postgres import through

# Far above what may be kept of a row, and a little above it.
HUGE, LONG = 300_000_000, 17_000_000
MASKED = "[REDACTED]"

TABLE = f"""
create table files (id int primary key, email text, body bytea, secret text, note text, size int);
insert into files values (1, 'ana@example.com', 'b', repeat('s', {HUGE}), 'n', 7);
insert into files values (2, 'bob@example.com', 'short', 'short', 'mail bob@example.com', 8);
insert into files select 3, 'eve@example.com', x::bytea, x, x, 9 from repeat('x ', {LONG} / 2) x;
grant all on files to app;
"""

RULES = """
[[rule]]
id = "files"
effect = "allow"
who  = { groups = ["files"] }
what = { resource = ["orders"] }
then = { mask = ["files"], record = "meta" }

[[rule]]
id = "ends"
effect = "allow"
who  = { groups = ["ends"] }
what = { resource = ["orders"] }
then = { mask = ["ends"] }

[[rule]]
id = "searched"
effect = "allow"
who  = { groups = ["searched"] }
what = { resource = ["orders"] }
then = { mask = ["found"], record = "meta" }
"""

MASKS = """
[[mask]]
name = "files"
columns = ["public.files.email", "public.files.secret"]
level = "direct"
operator = { columns = "redact" }
[[mask]]
name = "ends"
columns = ["public.files.secret"]
operator = { columns = "keep_last(4)" }
"""


@pytest.fixture(scope="module", params=[15, 18])
def place(request, tmp_path_factory):
    programs = None
    if request.param == 18:
        native = Path(os.environ["NODE_PATH"]) / "@embedded-postgres" / "linux-x64" / "native"
        programs = native / "bin"
    name = f"long-{request.param}"
    server = Server(tmp_path_factory.mktemp(f"{name}-server"), programs=programs)
    try:
        server.psql("orders", TABLE)
        issuer = Issuer(tmp_path_factory.mktemp(f"{name}-issuer"))
        folder = tmp_path_factory.mktemp(f"{name}-gateway")
        gateway = Gateway(BINARY, folder, server, issuer, more=RULES, upstream=MASKS)
        try:
            yield server, issuer, gateway
        finally:
            gateway.stop()
    finally:
        server.stop()


def peak(gateway):
    """The most memory that the gateway ever had, in MiB; its rings are of it."""
    status = Path(f"/proc/{gateway.process.pid}/status").read_text()
    line = next(line for line in status.splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) // 1024


def connect(place, group):
    _, issuer, gateway = place
    return psycopg.connect(**through(gateway, issuer.token(f"one-of-{group}", group)), autocommit=True)


def test_a_long_field_beside_a_masked_column_streams(place):
    before = peak(place[2])
    with connect(place, "files") as connection:
        huge = f"select id, email, repeat('b', {HUGE}) from files where id = %s"
        row = connection.execute(huge, (2,), binary=True).fetchone()
        assert row[:2] == (2, MASKED) and len(row[2]) == HUGE
        del row
        # A masked column may stand behind it as the last one.
        for columns, binary in (("email, body", False), ("body, email", False), ("body, email", True)):
            query = f"select id, {columns} from files where id > %s order by id"
            rows = connection.execute(query, (1,), binary=binary).fetchall()
            assert [row[0] for row in rows] == [2, 3] and all(MASKED in row for row in rows)
            assert max(map(len, rows[1][1:])) == LONG
    assert peak(place[2]) - before < 40


def test_a_long_field_that_is_masked_is_dropped_while_it_comes(place):
    before = peak(place[2])
    with connect(place, "files") as connection:
        cursor = connection.execute(
            "select secret, id, email, secret is null, size from files where id < 3 order by id",
            binary=True,
        )
        assert cursor.fetchall() == [(MASKED, 1, MASKED, False, 7), (MASKED, 2, MASKED, False, 8)]
        cursor = connection.execute("select email, secret, id from files where id = 3")
        assert cursor.fetchall() == [(MASKED, MASKED, 3)]
    assert peak(place[2]) - before < 40


REFUSED = [
    # Of what stands behind a long column the length is not known in time.
    ("files", "select body, email, size from files where id > 1 order by id", '"email" is masked', '"body"'),
    # Only the whole value tells what becomes of it.
    ("ends", "select id, secret from files where id > 1 order by id", '"secret" must be whole', "16777216"),
    ("searched", "select id, note from files where id > 1 order by id", '"note" must be whole', "16777216"),
]


@pytest.mark.parametrize("group, query, first, second", REFUSED)
def test_what_cannot_be_masked_in_bounds_fails_and_the_connection_goes_on(
    place, group, query, first, second
):
    before = peak(place[2])
    with connect(place, group) as connection:
        def refused(told):
            error = told.value
            assert error.sqlstate == "54000" and error.diag.severity == "ERROR"
            assert first in error.diag.message_detail and second in error.diag.message_detail

        for prepare in (False, True):
            with pytest.raises(psycopg.errors.ProgramLimitExceeded) as told:
                connection.execute(query, binary=prepare, prepare=prepare)
            refused(told)
            assert connection.info.transaction_status.name == "IDLE"
            assert connection.execute("select size from files where id = 2").fetchone() == (8,)
        # A transaction fails as by an error of the server.
        connection.execute("begin")
        connection.execute("update files set size = 6 where id = 2")
        with pytest.raises(psycopg.errors.ProgramLimitExceeded) as told:
            connection.execute(query)
        refused(told)
        assert connection.info.transaction_status.name == "INERROR"
        with pytest.raises(psycopg.errors.InFailedSqlTransaction):
            connection.execute("select 1")
        connection.execute("commit")
        assert connection.execute("select size from files where id = 2").fetchone() == (8,)
    assert peak(place[2]) - before < 80


def test_what_was_done_already_is_not_told_to_have_failed(place):
    with connect(place, "files") as connection:
        with pytest.raises(psycopg.Error) as told:
            connection.execute("update files set size = 9 where id = 3 returning body, email, size")
        assert told.value.diag.severity == "FATAL" and told.value.sqlstate == "54000"
        assert connection.closed
    with connect(place, "files") as connection:
        with pytest.raises(psycopg.Error):
            with connection.pipeline():
                connection.execute("update files set size = 9 where id = 3")
                connection.execute("select body, email, size from files where id = 3")
        assert connection.closed
