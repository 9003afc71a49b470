"""Rules with a credential of their own: real clients, PostgreSQL 15 and 18, two roles."""

import asyncio
import os
import subprocess
import threading
import time
from pathlib import Path

import asyncpg
import psycopg
import pytest
from conftest import BINARY
from postgres_kit import SECRET, Gateway, Issuer, Server

PURGER_SECRET = "the-other-password-0123456789"

ROLES = f"""
create role purger login password '{PURGER_SECRET}';
grant select, delete, update on notes to purger;
create table who (id serial, name text default current_user);
grant select, insert, delete, update on who to app, purger;
grant usage on sequence who_id_seq to app, purger;
create function public.sleeper(float) returns text language sql
  as 'select pg_sleep($1); select current_user::text';
"""

RULES = """
[[rule]]
id = "purge"
effect = "allow"
who  = { groups = ["clerks"] }
what = { resource = ["orders"], statement = ["delete", "update"], function = ["public.sleeper", "current_user"] }
then = { credential = "purger" }

[[rule]]
id = "purge-plain"
effect = "allow"
who  = { groups = ["clerks"] }
what = { resource = ["orders"], statement = ["delete", "update"] }
then = { credential = "purger" }

[[rule]]
id = "look"
effect = "allow"
who  = { groups = ["clerks"] }
what = { resource = ["orders"], statement = ["select", "insert"] }
"""

CREDENTIAL = """
[[credential]]
name = "purger"
kind = "password"
user = "purger"
secret = "file:purger"
"""


@pytest.fixture(scope="module")
def issuer(tmp_path_factory):
    return Issuer(tmp_path_factory.mktemp("issuer"))


@pytest.fixture(scope="module", params=["15", "18"])
def server(tmp_path_factory, request):
    native = Path(os.environ["NODE_PATH"]) / "@embedded-postgres" / "linux-x64" / "native"
    programs = native / "bin" if request.param == "18" else None
    one = Server(tmp_path_factory.mktemp(f"postgres-{request.param}"), programs=programs)
    hba = (
        "host all app,purger 127.0.0.1/32 scram-sha-256\n"
        "host all postgres 127.0.0.1/32 trust\n"
    )
    one.write(one.data / "pg_hba.conf", hba)
    one.run("pg_ctl", "-D", one.data, "reload")
    one.psql("orders", ROLES)
    yield one
    one.stop()


@pytest.fixture(scope="module")
def gateway(tmp_path_factory, server, issuer):
    folder = tmp_path_factory.mktemp("gateway")
    secret = folder / "purger"
    secret.write_text(PURGER_SECRET)
    secret.chmod(0o600)
    one = Gateway(BINARY, folder, server, issuer, more=RULES, upstream=CREDENTIAL)
    yield one
    one.stop()


@pytest.fixture
def ways(gateway, issuer):
    return {
        "host": "127.0.0.1", "port": gateway.port, "dbname": "orders", "user": "anybody",
        "password": issuer.token("cleo", "clerks"), "sslmode": "disable",
    }


@pytest.fixture
def root(server):
    info = f"host=127.0.0.1 port={server.port} dbname=orders user=postgres"
    with psycopg.connect(info, autocommit=True) as connection:
        connection.execute("truncate who; truncate notes")
        yield connection


def sessions_of(root, role):
    found = root.execute("select count(*) from pg_stat_activity where usename = %s", (role,))
    return found.fetchone()[0]


def eventually(told, wanted):
    deadline = time.monotonic() + 20
    while told() != wanted:
        assert time.monotonic() < deadline, (told(), wanted)
        time.sleep(0.05)


def test_each_statement_runs_by_the_credential_of_its_rule(ways, root):
    eventually(lambda: sessions_of(root, "purger"), 0)
    with psycopg.connect(**ways, autocommit=True) as connection:
        connection.execute("insert into who default values")
        assert sessions_of(root, "purger") == 0, "it is opened by its first statement"
        for _ in range(3):
            for binary in (False, True):
                by = connection.execute(
                    "update who set name = name returning current_user::text", binary=binary
                ).fetchone()
                assert by == ("purger",)
                assert connection.execute("select current_user::text").fetchone() == ("app",)
        assert (sessions_of(root, "purger"), sessions_of(root, "app")) == (1, 1)
    eventually(lambda: sessions_of(root, "purger"), 0)
    eventually(lambda: sessions_of(root, "app"), 0)


def test_prepared_statements_stay_in_their_sessions(ways):
    with psycopg.connect(**ways, autocommit=True, prepare_threshold=0) as connection:
        connection.execute("insert into who default values")
        for number in range(40):
            by = connection.execute(
                f"update who set id = id where id > %s returning current_user::text, {number % 9}", (-1,)
            ).fetchone()
            assert by == ("purger", number % 9)
            by = connection.execute(f"select current_user::text, %s::int, {number % 9}", (number,))
            assert by.fetchone() == ("app", number, number % 9)
        def run(text):
            return connection.execute(text, prepare=False)

        run("prepare mine as update who set id = id returning current_user::text")
        assert run("execute mine").fetchone() == ("purger",)
        with pytest.raises(psycopg.errors.DuplicatePreparedStatement):
            run("prepare mine as select 1")
        run("deallocate mine")
        run("prepare mine as select current_user::text")
        assert run("execute mine").fetchone() == ("app",)
        run("deallocate all")
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            run("execute mine")
        by = run("update who set id = id returning current_user::text").fetchone()
        assert by == ("purger",)


def test_in_a_transaction_it_is_refused_and_nothing_is_committed(ways, root):
    with psycopg.connect(**ways) as connection:
        connection.execute("insert into who default values")
        with pytest.raises(psycopg.errors.InsufficientPrivilege) as refused:
            connection.execute("delete from who")
        assert "purge" in refused.value.diag.message_primary
        assert "transaction" in refused.value.diag.message_detail
        assert "outside of a transaction" in refused.value.diag.message_hint
        assert connection.info.transaction_status.name == "INERROR"
        with pytest.raises(psycopg.errors.InFailedSqlTransaction):
            connection.execute("select 1")
        connection.rollback()
        assert root.execute("select count(*) from who").fetchone() == (0,)
        # It goes on, and commits what is committed.
        connection.execute("insert into who default values")
        connection.commit()
        connection.autocommit = True
        assert connection.execute("delete from who returning current_user::text").fetchone() == ("purger",)
    assert root.execute("select count(*) from who").fetchone() == (0,)


def test_a_text_or_a_pipeline_of_both_is_refused_whole(ways, root):
    with psycopg.connect(**ways, autocommit=True) as connection:
        connection.execute("insert into who default values")
        for text in (
            "insert into who default values; delete from who",
            "delete from who; insert into who default values",
            "begin; delete from who; commit",
            "delete from who; select 1",
        ):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute(text)
        assert connection.info.transaction_status.name == "IDLE"
        assert root.execute("select count(*) from who").fetchone() == (1,)
        for first, second in (
            ("insert into who (name) values (%s)", "delete from who where name <> %s"),
            ("delete from who where name <> %s", "insert into who (name) values (%s)"),
        ):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                with connection.pipeline() as pipeline:
                    connection.execute(first, ("x",))
                    refused = connection.execute(second, ("x",))
                    pipeline.sync()
                    refused.fetchall()
            assert connection.info.transaction_status.name == "IDLE"
            # What stands before it in the same pipeline is one transaction with it.
            assert root.execute("select count(*) from who").fetchone() == (1,)


def test_a_pipeline_with_a_sync_between_goes_through_both(ways, root):
    with psycopg.connect(**ways, autocommit=True) as connection:
        with connection.pipeline() as pipeline:
            cursors = []
            for number in range(100):
                cursors.append(connection.execute("insert into who (name) values (%s) returning current_user::text", (str(number),)))
                pipeline.sync()
                cursors.append(connection.execute("update who set id = id where name = %s returning current_user::text", (str(number),)))
                pipeline.sync()
            told = [cursor.fetchall() for cursor in cursors]
        assert told == [[("app",)], [("purger",)]] * 100


def test_large_results_of_the_other_session_stream(ways, root):
    with psycopg.connect(**ways, autocommit=True) as connection:
        connection.execute("insert into who (name) select repeat('x', 1000) from generate_series(1, 20000)")
        rows = connection.execute("update who set id = id returning name").fetchall()
        assert len(rows) == 20_000 and all(len(row[0]) == 1000 for row in rows)
        assert connection.execute("select 1").fetchone() == (1,)


def test_a_cancel_reaches_the_session_that_works(ways):
    with psycopg.connect(**ways, autocommit=True) as connection:
        connection.execute("insert into who default values")
        for _ in range(3):
            started = threading.Timer(0.5, connection.cancel_safe)
            started.start()
            before = time.monotonic()
            with pytest.raises(psycopg.errors.QueryCanceled):
                connection.execute("update who set name = public.sleeper(30)")
            assert time.monotonic() - before < 20
            started.join()
            assert connection.execute("select current_user::text").fetchone() == ("app",)
            by = connection.execute("update who set name = public.sleeper(0) returning name").fetchone()
            assert by == ("purger",)


def test_home_lives_on_when_the_other_session_is_killed(ways, root):
    kill = "select pg_terminate_backend(pid) from pg_stat_activity where usename = 'purger'"
    with psycopg.connect(**ways, autocommit=True) as connection:
        connection.execute("insert into who default values")
        home = connection.execute("select pg_backend_pid()").fetchone()
        # While it works.
        started = threading.Timer(0.5, lambda: root.execute(kill))
        started.start()
        with pytest.raises(psycopg.OperationalError) as failed:
            connection.execute("update who set name = public.sleeper(30)")
        started.join()
        assert failed.value.sqlstate == "08006"
        assert "not known" in failed.value.diag.message_detail
        assert not connection.closed and connection.info.transaction_status.name == "IDLE"
        assert connection.execute("select pg_backend_pid()").fetchone() == home
        update = "update who set id = id returning current_user::text"
        assert connection.execute(update).fetchone() == ("purger",)
        # While it is aside: another one is opened, and nobody is told.
        assert root.execute(kill).rowcount == 1
        eventually(lambda: sessions_of(root, "purger"), 0)
        assert connection.execute("select pg_backend_pid()").fetchone() == home
        assert connection.execute(update).fetchone() == ("purger",)
        # In a pipeline, too.
        started = threading.Timer(0.5, lambda: root.execute(kill))
        started.start()
        with pytest.raises(psycopg.OperationalError):
            with connection.pipeline() as pipeline:
                connection.execute("update who set name = public.sleeper(%s)", (30,))
                pipeline.sync()
        started.join()
        assert connection.execute("select pg_backend_pid() where 1 = %s", (1,)).fetchone() == home


def test_a_killed_home_ends_the_connection(ways, root):
    with psycopg.connect(**ways, autocommit=True) as connection:
        connection.execute("insert into who default values")
        connection.execute("update who set id = id")
        root.execute("select pg_terminate_backend(pid) from pg_stat_activity where usename = 'app'")
        with pytest.raises(psycopg.OperationalError):
            connection.execute("update who set id = id")
            connection.execute("select 1")
        assert connection.closed
    eventually(lambda: sessions_of(root, "purger"), 0)


def test_notifications_come_whoever_works(ways, root):
    with psycopg.connect(**ways, autocommit=True) as connection:
        connection.execute("insert into who default values")
        # The caller may not LISTEN; what comes unasked is settings and notices of home.
        for number in range(20):
            connection.execute(f"set application_name = 'n{number}'")
            connection.execute("update who set id = id")
            assert connection.info.parameter_status("application_name") == f"n{number}"


def test_settings_of_the_start_are_those_of_both_sessions(ways):
    with psycopg.connect(**ways, autocommit=True, options="-c datestyle=German") as connection:
        connection.execute("insert into who default values")
        update = "update who set id = id returning date '2024-02-29'::text, current_setting('search_path')"
        assert connection.execute(update).fetchone() == ("29.02.2024", "public")
        assert connection.execute("select date '2024-02-29'::text").fetchone() == ("29.02.2024",)


def test_asyncpg(ways):
    async def run():
        connection = await asyncpg.connect(
            host=ways["host"], port=ways["port"], database="orders", user="anybody",
            password=ways["password"], ssl=False,
        )
        try:
            await connection.execute("insert into who default values")
            update = await connection.prepare("update who set id = id where id > $1 returning current_user::text")
            look = await connection.prepare("select current_user::text, $1::int")
            for number in range(20):
                assert await update.fetchval(-1) == "purger"
                assert (await look.fetchrow(number))[:] == ("app", number)
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                async with connection.transaction():
                    await connection.execute("delete from who")
            assert await connection.fetchval("select count(*) from who") > 0
            with pytest.raises(asyncio.TimeoutError):
                await connection.execute("update who set name = public.sleeper(30)", timeout=0.5)
            assert await update.fetchval(-1) == "purger"
        finally:
            await connection.close()
        pool = await asyncpg.create_pool(
            host=ways["host"], port=ways["port"], database="orders", user="anybody",
            password=ways["password"], ssl=False, min_size=2, max_size=4,
        )
        async with pool:
            async def both(number):
                async with pool.acquire() as one:
                    by = await one.fetchval("update who set id = id where id > $1 returning current_user::text", -1)
                    return by, await one.fetchval("select current_user::text || $1::text", str(number))
            told = await asyncio.gather(*(both(number) for number in range(40)))
        assert told == [("purger", f"app{number}") for number in range(40)]

    asyncio.run(run())


def test_psql(ways):
    info = " ".join(f"{key}={value}" for key, value in ways.items())
    told = subprocess.run(
        ["psql", "-X", "-A", "-t", info],
        input=(
            "insert into who default values;\n"
            "update who set id = id where id = (select min(id) from who) returning current_user;\n"
            "select current_user;\n"
            "begin;\nupdate who set name = 'never';\nrollback;\n"
            "update who set id = id where id = (select min(id) from who) returning current_user;\n"
            "delete from who;\n"
        ),
        capture_output=True, text=True, timeout=60, check=False,
    )
    lines = told.stdout.splitlines()
    assert [line for line in lines if line in ("app", "purger")] == ["purger", "app", "purger"]
    assert lines[-1].startswith("DELETE ")
    assert "HINT:  Run it outside of a transaction" in told.stderr


def test_the_record_names_the_credential_of_each_statement_and_no_secret(gateway, ways):
    with psycopg.connect(**ways, autocommit=True) as connection:
        connection.execute("insert into who (name) values ('by-app')")
        connection.execute("update who set name = 'by-purger'")
    rows = [row for row in gateway.sessions() if row["sub"] == "cleo"][-4:]
    texts = {}
    for row in rows:
        told = gateway.command("sessions", "show", row["id"], "-c", gateway.config)
        assert told.returncode == 0, told.stderr
        texts[row["id"]] = told.stdout
    by = [text for text in texts.values() if "by-purger" in text]
    assert by and all("purger" in text.replace("by-purger", "") for text in by)
    assert not any("purger" in text for text in texts.values() if "by-app" in text)
    whole = "\n".join(texts.values())
    assert PURGER_SECRET not in whole and SECRET not in whole and ways["password"] not in whole
    told = gateway.command("verify", gateway.folder / "record")
    assert told.returncode == 0, told.stdout + told.stderr
    log = (gateway.folder / "log").read_text()
    assert PURGER_SECRET not in log and ways["password"] not in log


def test_one_that_cannot_log_in_fails_its_statement_alone(ways, server, root):
    root.execute("alter role purger connection limit 0")
    try:
        with psycopg.connect(**ways, autocommit=True) as connection:
            connection.execute("insert into who default values")
            with pytest.raises(psycopg.OperationalError) as failed:
                connection.execute("delete from who")
            assert failed.value.sqlstate == "08006"
            assert "purger" not in str(failed.value)
            assert connection.execute("select count(*) from who").fetchone() == (1,)
            root.execute("alter role purger connection limit -1")
            assert connection.execute("delete from who").rowcount == 1
    finally:
        root.execute("alter role purger connection limit -1")


def test_nothing_is_left_at_the_end(gateway, ways, root):
    def open_files():
        return len(os.listdir(f"/proc/{gateway.process.pid}/fd"))

    def busy():
        for _ in range(20):
            with psycopg.connect(**ways, autocommit=True) as connection:
                connection.execute("update who set id = id")
                connection.execute("select 1")

    busy()
    eventually(lambda: sessions_of(root, "purger") + sessions_of(root, "app"), 0)
    before = open_files()
    busy()
    eventually(lambda: sessions_of(root, "purger") + sessions_of(root, "app"), 0)
    eventually(lambda: open_files() <= before, True)
