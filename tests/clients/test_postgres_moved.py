"""Masks while somebody else changes the database under them."""

import os
import signal
import time
from pathlib import Path

import psycopg
import pytest
from conftest import BINARY
from postgres_kit import Gateway, Issuer, Server
from test_postgres import EMAIL, message, raw_login, through, until_ready


@pytest.fixture(scope="module")
def issuer(tmp_path_factory):
    return Issuer(tmp_path_factory.mktemp("issuer"))


@pytest.fixture(scope="module", params=["15", "18"])
def server(request, tmp_path_factory):
    programs = None
    if request.param == "18":
        native = Path(os.environ["NODE_PATH"]) / "@embedded-postgres" / "linux-x64" / "native"
        programs = native / "bin"
    one = Server(tmp_path_factory.mktemp("postgres"), programs=programs)
    yield one
    one.stop()


@pytest.fixture
def gateway(tmp_path_factory, server, issuer):
    one = Gateway(BINARY, tmp_path_factory.mktemp("gateway"), server, issuer)
    yield one
    one.stop()


def masked(gateway, issuer, group="masked"):
    return psycopg.connect(**through(gateway, issuer.token("mia", group)), autocommit=True)


def one(connection, query):
    return connection.execute(query).fetchone()


def check(gateway):
    return gateway.command("check", "-c", gateway.config, "--connect")


def simple(gateway, token, text):
    """All that comes back for a simple query, as bytes."""
    connection, _ = raw_login(gateway, token)
    with connection:
        connection.sendall(message(b"Q", text.encode() + b"\0"))
        return b"".join(tag + body for tag, body in until_ready(connection))


def test_a_mask_follows_its_table_and_column_to_other_names(gateway, server, issuer):
    with masked(gateway, issuer) as connection:
        assert one(connection, "select email from customers where id = 17") == ("[REDACTED]",)
    server.psql("orders", """
        create schema moved;
        grant usage on schema moved to app;
        alter table customers rename column email to mail;
        alter table customers rename to clients;
        alter table clients set schema moved;
    """)
    try:
        for _ in range(2):
            with masked(gateway, issuer) as connection:
                query = "select mail, upper(mail), id from moved.clients where id = 17"
                assert one(connection, query) == ("[REDACTED]", None, 17)
                assert one(connection, "select email from contacts where id = 17") == ("[REDACTED]",)
                with pytest.raises(psycopg.errors.InsufficientPrivilege):
                    connection.execute("copy moved.clients to stdout")
            # It is in the file a moment later.
            deadline = time.monotonic() + 10
            while not (told := check(gateway)).stdout.count(" by now ") and time.monotonic() < deadline:
                time.sleep(0.1)
            assert told.returncode == 1
            assert "`public.customers.email` is `moved.clients.mail` by now in `orders`" in told.stdout
            # A restart knows it, too.
            gateway.stop()
            gateway.start()
        # Another table takes the name: both are masked.
        server.psql("orders", """
            create table customers (id int, email text, ssn text);
            insert into customers values (1, 'c17@example.com', 'x');
            grant select on customers to app;
        """)
        with masked(gateway, issuer) as connection:
            assert one(connection, "select email, id from customers") == ("[REDACTED]", 1)
            query = "select mail, ssn from moved.clients where id = 17"
            assert one(connection, query) == ("[REDACTED]", "[REDACTED]")
        # Gone, all of it: nobody knows where the values went.
        server.psql("orders", """
            alter table customers rename to copied;
            create table kept as select * from moved.clients;
            drop table copied;
            alter table moved.clients drop column mail cascade;
        """)
        with pytest.raises(psycopg.OperationalError) as refused:
            masked(gateway, issuer)
        assert "the masks must be looked at" in str(refused.value)
    finally:
        server.psql("orders", """
            drop table if exists customers, copied;
            alter table moved.clients add column if not exists mail text;
            update moved.clients set mail = 'c' || id || '@example.com';
            alter table moved.clients set schema public;
            alter table clients rename to customers;
            alter table customers rename column mail to email;
            drop schema moved;
            create or replace view contacts as select id, email, upper(ssn) as shouted from customers;
            grant all on all tables in schema public to app;
            drop table if exists kept;
        """)


@pytest.mark.parametrize("group", ["masked", "direct"])
def test_a_column_that_somebody_adds_is_null_until_it_is_known(gateway, server, issuer, group):
    server.psql("orders", "create view aside as select 1 as id; grant select on aside to app")
    try:
        with masked(gateway, issuer, group) as connection:
            assert one(connection, "select id from aside") == (1,)
            server.psql("orders", """
                alter table customers add column shout text generated always as (upper(email)) stored;
                alter table customers add column plain text default 'p';
            """)
            query = "select shout, plain, id from customers where id = 17"
            assert one(connection, query) == (None, None, 17)
            assert one(connection, query) == (None, "p", 17)
            server.psql("orders", """
                create or replace view aside as select id, email from customers where id = 17;
            """)
            assert one(connection, "select id, email from aside") == (17, None)
            row = one(connection, "select id, email from aside")
            assert row[0] == 17 and row[1] and EMAIL not in row[1]
    finally:
        server.psql("orders", """
            drop view aside;
            alter table customers drop column if exists shout, drop column if exists plain;
        """)


def test_what_rewrite_rules_give_out_for_a_write_is_withheld(gateway, server, issuer):
    server.psql("orders", """
        create table logbook (a int);
        create rule give as on insert to logbook do instead
          select email || '' as got, email from customers where id = 17;
        create view people as select id, name from customers;
        create rule back as on update to people do instead
          update customers set name = new.name where id = new.id returning id, email;
        grant all on logbook, people to app;
    """)
    try:
        for group in ("masked", "direct"):
            token = issuer.token("mia", group)
            told = simple(gateway, token, "insert into logbook values (1)")
            assert b"D" in told and b"c17@" not in told, told
            # The rule is there: without a mask it tells.
            assert EMAIL.encode() in simple(gateway, issuer.token("ada", "admins"), "insert into logbook values (1)")
            with masked(gateway, issuer, group) as connection:
                query = "update people set name = 'name 17' where id = 17 returning name"
                assert one(connection, query) == (None,)
                assert one(connection, "select name from people where id = 17") == ("name 17",)
    finally:
        server.psql("orders", "drop view people; drop table logbook")


def test_a_function_that_changes_the_search_path_ends_the_session(gateway, server, issuer):
    server.psql("orders", """
        create schema evil;
        create table evil.customers as select 1 as id, 'evil'::text as name;
        create function public.set_path(text) returns text language sql as
          $$ select set_config('search_path', $1, false) $$;
        grant usage on schema evil to app;
        grant select on evil.customers to app;
    """)
    try:
        ways = through(gateway, issuer.token("ada", "admins"))
        with psycopg.connect(**ways, autocommit=True) as connection:
            for _ in range(3):
                assert one(connection, "select set_path('public')") == ("public",)
                assert one(connection, "select name from customers where id = 1") == ("name 1",)
            with pytest.raises(psycopg.Error):
                connection.execute("select set_path('evil')")
                connection.execute("select name from customers where id = 1")
            assert connection.closed
        # Whole cycles in one write: the second waits for what the first did.
        connection, _ = raw_login(gateway, issuer.token("ada", "admins"))
        with connection:
            texts = [b"select set_path('evil')\0", b"select name from customers where id = 1\0"]
            connection.sendall(b"".join(message(b"Q", text) for text in texts))
            told = b""
            while part := connection.recv(65536):
                told += part
            assert b"FATAL" in told and b"DATA" not in told and b"name 1" not in told
            assert told.count(b"evil") <= 1
    finally:
        server.psql("orders", "drop function set_path(text); drop schema evil cascade")


def test_a_copy_ends_with_the_rule_that_let_it_in(gateway, issuer):
    ways = through(gateway, issuer.token("ria", "readers"))
    policy = gateway.folder / "policy.toml"
    with psycopg.connect(**ways, autocommit=True) as connection:
        with pytest.raises(psycopg.errors.InsufficientPrivilege) as refused:
            with connection.cursor().copy("copy notes from stdin") as copy:
                copy.write_row((1, "before"))
                # What stands in the client's buffer is not sent so far.
                copy.write("".join(f"{n}\tx\n" for n in range(1000, 60_000)))
                policy.write_text(policy.read_text() + """
[[rule]]
id = "no-more-copies"
effect = "deny"
what = { statement = ["copy_in"] }
""")
                gateway.process.send_signal(signal.SIGHUP)
                deadline = time.monotonic() + 60
                n = 100_000
                while time.monotonic() < deadline:
                    copy.write("".join(f"{n + k}\tx\n" for k in range(100)))
                    n += 100
                    time.sleep(0.01)
                    if "no-more-copies" in (gateway.folder / "log").read_text():
                        break
        assert "no-more-copies" in str(refused.value)
        # All of it is taken back, and the connection goes on.
        assert one(connection, "select count(*) from notes") == (0,)
