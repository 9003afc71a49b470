"""Real clients of PostgreSQL through the gateway, and the same without it."""

import asyncio
import json
import os
import socket
import struct
import subprocess
import threading
import time
from pathlib import Path

import asyncpg
import pg8000.dbapi
import psycopg
import pytest
import sqlalchemy
from conftest import BINARY
from postgres_kit import SECRET, Gateway, Issuer, Server


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    one = Server(tmp_path_factory.mktemp("postgres"))
    yield one
    one.stop()


@pytest.fixture(scope="module")
def issuer(tmp_path_factory):
    return Issuer(tmp_path_factory.mktemp("issuer"))


@pytest.fixture(scope="module")
def gateway(tmp_path_factory, server, issuer):
    one = Gateway(BINARY, tmp_path_factory.mktemp("gateway"), server, issuer)
    yield one
    one.stop()


def direct(server, **more):
    return {
        "host": "127.0.0.1", "port": server.port, "dbname": "orders", "user": "app",
        "password": SECRET, **more,
    }


def through(gateway, token, tls=False, **more):
    """What a developer changes: the address and the password."""
    ways = {"sslmode": "disable"}
    if tls:
        ways = {"sslmode": "verify-full", "sslrootcert": str(gateway.ca)}
    return {
        "host": "localhost" if tls else "127.0.0.1",
        "port": gateway.tls_port if tls else gateway.port,
        "dbname": "orders", "user": "anybody", "password": token, **ways, **more,
    }


@pytest.fixture
def admin(issuer):
    return issuer.token("ada", "admins")


@pytest.fixture
def reader(issuer):
    return issuer.token("ria", "readers")


@pytest.fixture(params=["plain", "tls"])
def admin_ways(request, gateway, admin):
    return through(gateway, admin, tls=request.param == "tls")


# --- the same program, directly and through the gateway -------------------------------------------

PROGRAM = [
    ("select 1", None),
    ("select id, name, email from customers where id < %s order by id", (4,)),
    ("select count(*), sum(total) from orders", None),
    ("select %s::text, %s::int, %s::bytea, %s::jsonb", ("x", 7, b"\x00\xff", '{"a": [1, null]}')),
    ("select null, true, '{1,2}'::int[], '2024-02-29'::date, 1.5::numeric, interval '1 day'", None),
    ("select * from nowhere", None),
    ("selec 1", None),
    ("select 1/0", None),
    ("insert into notes values (%s, %s) returning id", (1, "one")),
    ("insert into notes values (%s, %s)", (1, "again")),
    ("update notes set body = upper(body) where id = %s", (1,)),
    ("with gone as (delete from notes where id = 1 returning *) select * from gone", None),
    ("select public.double(21)", None),
    ("select generate_series(1, 5)", None),
    ("create temp table scratch (a int)", None),
    ("insert into scratch select generate_series(1, 1000)", None),
    ("select sum(a) from scratch", None),
    ("explain (costs off) select * from customers where id = 1", None),
    ("show datestyle", None),
    ("set datestyle to 'German'", None),
    ("select date '2024-02-29'", None),
    ("do $$ begin raise notice 'hello'; end $$", None),
    ("", None),
    ("; ;", None),
    ("select 1; select 2", None),
    ("prepare p as select $1::int + 1", None),
    ("execute p(41)", None),
    ("deallocate p", None),
]


def outcome(connection, statement, values, **how):
    """Rows, status and error of one statement: what a caller can tell."""
    try:
        cursor = connection.execute(statement, values, **how)
    except psycopg.Error as error:
        return ("error", error.sqlstate, str(error.diag.message_primary))
    sets = []
    while True:
        rows = cursor.fetchall() if cursor.description else None
        names = [(c.name, c.type_code) for c in cursor.description or []]
        sets.append((cursor.statusmessage, names, rows))
        if not cursor.nextset():
            return sets


@pytest.mark.parametrize("binary", [False, True])
@pytest.mark.parametrize("prepare", [False, True])
def test_one_program_gives_the_same_results_directly_and_through(
    server, admin_ways, binary, prepare
):
    told = []
    for ways in (direct(server), admin_ways):
        with psycopg.connect(**ways, autocommit=True) as connection:
            results = []
            for statement, values in PROGRAM:
                if (binary or prepare) and statement.count(";"):
                    continue
                how = {"prepare": True} if prepare and values else {}
                results.append((statement, outcome(connection, statement, values, binary=binary, **how)))
            told.append(results)
    assert told[0] == told[1]


def test_transactions_behave_as_without_a_gateway(server, admin_ways):
    told = []
    for ways in (direct(server), admin_ways):
        steps = []
        with psycopg.connect(**ways) as connection:
            with connection.transaction():
                connection.execute("insert into notes values (10, 'in')")
                try:
                    with connection.transaction():
                        connection.execute("insert into notes values (10, 'twice')")
                except psycopg.errors.UniqueViolation:
                    steps.append("unique")
                steps.append(connection.execute("select count(*) from notes where id = 10").fetchone())
                raise psycopg.Rollback()
            steps.append(connection.execute("select count(*) from notes where id = 10").fetchone())
            steps.append(connection.info.transaction_status.name)
        told.append(steps)
    assert told[0] == told[1]


def test_copy_in_and_out_pass(admin_ways):
    rows = [(n, f"row {n}\t\\") for n in range(5000)]
    with psycopg.connect(**admin_ways) as connection:
        connection.execute("create temp table copied (id int, body text)")
        with connection.cursor().copy("copy copied from stdin") as copy:
            for row in rows:
                copy.write_row(row)
        with connection.cursor().copy("copy copied to stdout (format binary)") as copy:
            copy.set_types(["int4", "text"])
            assert list(copy.rows()) == rows
        with pytest.raises(psycopg.errors.InvalidTextRepresentation):
            with connection.cursor().copy("copy copied from stdin") as copy:
                copy.write("no number\n".encode() * 10)
                copy.write(b"x")
        connection.rollback()
        assert connection.execute("select 1").fetchone() == (1,)


def test_a_pipeline_passes_in_order(admin_ways):
    with psycopg.connect(**admin_ways, autocommit=True) as connection:
        with connection.pipeline():
            cursors = [connection.execute("select %s::int", (n,)) for n in range(300)]
            assert [cursor.fetchone()[0] for cursor in cursors] == list(range(300))


def test_large_results_and_large_values_stream(admin_ways):
    with psycopg.connect(**admin_ways, autocommit=True) as connection:
        with connection.cursor(binary=True) as cursor:
            big = cursor.execute("select repeat('x', 30000000)").fetchone()[0]
            assert len(big) == 30_000_000
        total = 0
        for row in connection.cursor().stream("select repeat('y', 1000) from generate_series(1, 50000)"):
            total += len(row[0])
        assert total == 50_000_000


def test_notifications_and_notices_come_at_any_time(server, admin_ways):
    with (
        psycopg.connect(**admin_ways, autocommit=True) as listener,
        psycopg.connect(**direct(server), autocommit=True) as sender,
    ):
        listener.execute("listen news")
        sender.execute("select pg_notify('news', 'while idle')")
        told = list(listener.notifies(timeout=10, stop_after=1))
        assert [(one.channel, one.payload) for one in told] == [("news", "while idle")]


def test_server_side_cursors_and_row_limits(admin_ways):
    with psycopg.connect(**admin_ways) as connection:
        with connection.cursor("rows") as cursor:
            cursor.itersize = 7
            assert [row[0] for row in cursor.execute("select generate_series(1, 50)")] == list(range(1, 51))


def test_asyncpg(gateway, admin):
    async def run():
        connection = await asyncpg.connect(
            host="127.0.0.1", port=gateway.port, database="orders", user="x", password=admin, ssl=False
        )
        rows = await connection.fetch("select id, name from customers where id = any($1) order by id", [1, 2])
        assert [tuple(row) for row in rows] == [(1, "name 1"), (2, "name 2")]
        async with connection.transaction():
            places = [row["g"] async for row in connection.cursor("select generate_series(1, 120) as g")]
        assert places == list(range(1, 121))
        statement = await connection.prepare("select $1::int * 2")
        assert [await statement.fetchval(n) for n in range(5)] == [0, 2, 4, 6, 8]
        with pytest.raises(asyncpg.DivisionByZeroError):
            await connection.fetchval("select 1/0")
        await connection.close()

    asyncio.run(run())


def test_sqlalchemy_and_pg8000(gateway, admin):
    engine = sqlalchemy.create_engine(
        "postgresql+psycopg://", creator=lambda: psycopg.connect(**through(gateway, admin))
    )
    table = sqlalchemy.Table("notes", sqlalchemy.MetaData(), autoload_with=engine)
    with engine.begin() as connection:
        connection.execute(table.insert(), [{"id": 50 + n, "body": f"b{n}"} for n in range(3)])
        found = connection.execute(sqlalchemy.select(table).where(table.c.id >= 50).order_by(table.c.id))
        assert [row.body for row in found] == ["b0", "b1", "b2"]
        connection.execute(table.delete().where(table.c.id >= 50))
    engine.dispose()
    plain = pg8000.dbapi.connect(
        host="127.0.0.1", port=gateway.port, database="orders", user="x", password=admin
    )
    cursor = plain.cursor()
    cursor.execute("select name from customers where id = %s", (3,))
    assert cursor.fetchall() == (["name 3"],) or cursor.fetchall() == [["name 3"]]
    plain.close()


def psql(gateway, token, *commands, tls=False):
    ways = through(gateway, token, tls=tls)
    info = " ".join(f"{key}={value}" for key, value in ways.items())
    arguments = [part for command in commands for part in ("-c", command)]
    return subprocess.run(
        ["psql", "-X", "-A", "-t", info, *arguments], capture_output=True, text=True, timeout=60, check=False
    )


def test_psql_and_its_catalog_commands_work_under_a_reading_rule(gateway, reader):
    told = psql(gateway, reader, "\\d", "\\d orders", "\\dt", "\\df", "\\dn", "\\l", "\\conninfo", tls=True)
    assert told.returncode == 0, told.stderr
    assert "customers" in told.stdout and "nextval" in told.stdout
    told = psql(gateway, reader, "select name from customers where id = 5")
    assert told.stdout == "name 5\n", told.stderr


def test_pgbench_runs_in_every_mode(gateway, server, admin):
    programs = server.programs
    subprocess.run(
        [programs / "pgbench", "-i", "-q", "-s", "1", "-h", "127.0.0.1", "-p", str(server.port), "-U", "postgres", "orders"],
        check=True, capture_output=True,
    )
    server.psql("orders", "grant all on all tables in schema public to app;")
    for mode in ("simple", "extended", "prepared"):
        told = subprocess.run(
            [programs / "pgbench", "-n", "-M", mode, "-c", "4", "-t", "50", "-h", "127.0.0.1", "-p", str(gateway.port), "-U", "x", "orders"],
            env={"PGPASSWORD": admin, "PGSSLMODE": "disable"}, capture_output=True, text=True, timeout=60, check=False,
        )
        assert told.returncode == 0, told.stderr
        assert "200/200" in told.stdout, told.stdout


def test_a_cancel_ends_what_is_in_hand_and_nothing_else(gateway, admin):
    ways = through(gateway, admin)
    with psycopg.connect(**ways, autocommit=True) as one, psycopg.connect(**ways, autocommit=True) as other:
        for _ in range(3):
            started = threading.Timer(0.5, one.cancel_safe)
            started.start()
            before = time.monotonic()
            with pytest.raises(psycopg.errors.QueryCanceled):
                one.execute("select pg_sleep(30)")
            assert time.monotonic() - before < 20
            started.join()
            assert one.execute("select 1").fetchone() == (1,)
        # With nothing in hand it is heard and does nothing.
        other.cancel_safe()
        assert other.execute("select 2").fetchone() == (2,)


def test_a_wrong_key_cancels_nothing(gateway, admin):
    connection, seen = raw_login(gateway, admin)
    pid, secret = struct.unpack(">II", dict(seen)[b"K"])
    connection.sendall(message(b"Q", b"select pg_sleep(1)\0"))
    for wrong in ((pid, secret ^ 1), (pid ^ 1, secret), (0, 0)):
        with socket.create_connection(("127.0.0.1", gateway.port), 10) as asker:
            asker.sendall(struct.pack(">IIII", 16, 80877102, *wrong))
            assert asker.recv(1) == b""
    assert [tag for tag, _ in until_ready(connection)] == [b"T", b"D", b"C", b"Z"]
    connection.sendall(message(b"Q", b"select pg_sleep(30)\0"))
    time.sleep(0.3)
    with socket.create_connection(("127.0.0.1", gateway.port), 10) as asker:
        asker.sendall(struct.pack(">IIII", 16, 80877102, pid, secret))
        assert asker.recv(1) == b""
    told = until_ready(connection)
    assert b"57014" in told[-2][1]
    connection.close()


def test_tls_to_the_server_is_verified_and_the_login_bound_to_it(tmp_path_factory, issuer, admin):
    certificates = tmp_path_factory.mktemp("certificates")
    subprocess.run([BINARY, "cert", "dev", "--dir", certificates], check=True, capture_output=True)
    server = Server(tmp_path_factory.mktemp("postgres-tls"), tls=certificates)
    try:
        tls = f'tls = {{ ca = "{certificates}/ca.pem", server_name = "localhost" }}'
        gateway = Gateway(BINARY, tmp_path_factory.mktemp("verified"), server, issuer, upstream=tls)
        try:
            with psycopg.connect(**through(gateway, admin, tls=True), autocommit=True) as connection:
                query = "select ssl from pg_stat_ssl where pid = pg_backend_pid()"
                assert connection.execute(query).fetchone() == (True,)
                started = threading.Timer(0.5, connection.cancel_safe)
                started.start()
                with pytest.raises(psycopg.errors.QueryCanceled):
                    connection.execute("select pg_sleep(30)")
                started.join()
        finally:
            gateway.stop()
        # Another authority's server, or one of another name, gets no login.
        other = tmp_path_factory.mktemp("other")
        subprocess.run([BINARY, "cert", "dev", "--dir", other], check=True, capture_output=True)
        for wrong in (
            f'tls = {{ ca = "{other}/ca.pem", server_name = "localhost" }}',
            f'tls = {{ ca = "{certificates}/ca.pem", server_name = "elsewhere.test" }}',
        ):
            gateway = Gateway(BINARY, tmp_path_factory.mktemp("wrong"), server, issuer, upstream=wrong)
            try:
                with pytest.raises(psycopg.OperationalError) as refused:
                    psycopg.connect(**through(gateway, admin))
                assert "cannot be reached" in str(refused.value)
            finally:
                gateway.stop()
    finally:
        server.stop()


def test_clients_of_node(gateway, reader):
    script = Path(__file__).with_name("database.cjs")
    told = subprocess.run(
        ["node", script], env={**os.environ, "PORT": str(gateway.port), "TOKEN": reader},
        capture_output=True, text=True, timeout=60, check=False,
    )
    assert told.returncode == 0, told.stderr
    assert json.loads(told.stdout) == {
        "pg": {
            "row": [{"id": 5, "name": "name 5"}],
            "prepared": [{"id": 6, "name": "name 6"}],
            "refused": "42501",
            "after": [{"n": 100}],
        },
        "postgres": {
            "rows": [{"id": 7, "name": "name 7"}, {"id": 8, "name": "name 8"}],
            "refused": "42501",
            "begun": [{"body": "js"}],
        },
    }


def test_tokio_postgres(server, gateway, admin, reader):
    def told(password, port, *arguments):
        dsn = f"host=127.0.0.1 port={port} dbname=orders user=app password={password}"
        program = BINARY.parent / "examples" / "tokio_client"
        done = subprocess.run(
            [program, *arguments], env={**os.environ, "DSN": dsn}, capture_output=True, text=True,
            timeout=60, check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    directly, through_it = told(SECRET, server.port), told(admin, gateway.port)
    assert directly == through_it and "heard: (\"news\", \"told\")" in directly
    assert "cancelled: \"57014 canceling statement due to user request\"" in directly
    assert told(reader, gateway.port, "refused").count("refused: (\"42501\", true)") == 2


def test_a_graph_with_a_sql_tool_has_the_rights_of_the_user_behind_each_run(gateway, issuer):
    from langchain_core.messages import AIMessage
    from langchain_core.runnables import RunnableConfig
    from langchain_core.tools import tool
    from langgraph.graph import END, START, MessagesState, StateGraph
    from langgraph.prebuilt import ToolNode

    @tool
    def sql(query: str, config: RunnableConfig) -> str:
        """Run a query."""
        token = config["configurable"]["token"]
        with psycopg.connect(**through(gateway, token), autocommit=True) as connection:
            try:
                return str(connection.execute(query).fetchall())
            except psycopg.Error as error:
                return f"refused: {error.sqlstate}"

    def ask(state):
        call = {"name": "sql", "args": {"query": state["messages"][-1].content}, "id": "1", "type": "tool_call"}
        return {"messages": [AIMessage("", tool_calls=[call])]}

    graph = StateGraph(MessagesState)
    graph.add_node("ask", ask)
    graph.add_node("tools", ToolNode([sql]))
    graph.add_edge(START, "ask")
    graph.add_edge("ask", "tools")
    graph.add_edge("tools", END)
    graph = graph.compile()
    for groups, query, expected in (
        (["readers"], "select email from customers where id = 17", f"[('{EMAIL}',)]"),
        (["masked"], "select email from customers where id = 17", "[('[REDACTED]',)]"),
        (["readers"], "delete from customers where id = 17", "refused: 42501"),
    ):
        config = {"configurable": {"token": issuer.token("gus", *groups)}}
        told = graph.invoke({"messages": [("user", query)]}, config)
        assert told["messages"][-1].content == expected


def test_postgresql_18_and_its_own_client_library(tmp_path_factory, issuer, admin):
    native = Path(os.environ["NODE_PATH"]) / "@embedded-postgres" / "linux-x64" / "native"
    server = Server(tmp_path_factory.mktemp("postgres-18"), programs=native / "bin")
    try:
        gateway = Gateway(BINARY, tmp_path_factory.mktemp("gateway-18"), server, issuer)
        try:
            told = []
            for ways in (direct(server), through(gateway, admin)):
                with psycopg.connect(**ways, autocommit=True) as connection:
                    told.append([outcome(connection, statement, values) for statement, values in PROGRAM])
                    assert connection.info.server_version >= 180000
            assert told[0] == told[1]
            with psycopg.connect(**through(gateway, issuer.token("mia", "masked")), autocommit=True) as connection:
                row = connection.execute("select email, upper(email) from customers where id = 17").fetchone()
                assert row == ("[REDACTED]", None)
            # Protocol 3.2 on both legs: libpq 18 asks for the latest there is.
            ways = through(gateway, admin)
            info = " ".join(f"{key}={value}" for key, value in ways.items()) + " max_protocol_version=latest"
            told = subprocess.run(
                ["psql", "-X", "-A", "-t", info, "-c", "select 'by libpq ' || 18"],
                env={**os.environ, "LD_LIBRARY_PATH": str(native / "lib")},
                capture_output=True, text=True, timeout=60, check=False,
            )
            assert told.stdout == "by libpq 18\n", told.stderr
        finally:
            gateway.stop()
    finally:
        server.stop()


# --- refusals -------------------------------------------------------------------------------------


def test_a_refused_statement_keeps_the_connection_and_says_why(gateway, reader):
    with psycopg.connect(**through(gateway, reader), autocommit=True) as connection:
        for statement in (
            "delete from customers where id = 1",
            "insert into orders (customer, total) values (1, 1)",
            "select * from pg_authid join customers on true; drop table notes",
            "select pg_read_file('/etc/passwd')",
            "select * from secrets",
            "create table x (a int)",
            "do $$ begin end $$",
            "delete from notes",
            "with gone as (delete from customers returning *) select * from gone",
            "copy customers to stdout",
            "explain analyze delete from customers",
            "table pg_catalog.nowhere; update orders set total = 0 where id = 1",
        ):
            with pytest.raises(psycopg.errors.InsufficientPrivilege) as refused:
                connection.execute(statement)
            message = refused.value.diag.message_primary
            assert "request" in message, statement
            told = gateway.command(
                "policy", "explain", "-c", gateway.config, "--request",
                message.rsplit("request ", 1)[1].rstrip(")"),
            )
            assert told.returncode == 1 and "deny" in told.stdout, (statement, told)
        assert connection.execute("select count(*) from customers").fetchone() == (100,)


def test_what_undoes_the_gateway_is_refused_whatever_the_policy(gateway, admin):
    with psycopg.connect(**through(gateway, admin), autocommit=True) as connection:
        for statement in (
            "set role postgres",
            "set session authorization postgres",
            "reset role",
            "set search_path = pg_temp, public",
            "set standard_conforming_strings = off",
            "set client_encoding = 'SJIS'",
            "discard all",
            "copy notes to '/tmp/x'",
            "copy notes from program 'true'",
        ):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute(statement)
        connection.execute("set application_name = 'still here'")
        connection.execute("reset all")
        assert connection.execute("show search_path").fetchone() == ("public",)


def test_a_refusal_in_a_transaction_fails_it_as_an_error_would(gateway, server, reader):
    with psycopg.connect(**through(gateway, reader)) as connection:
        connection.execute("insert into notes values (900, 'to be rolled back')")
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute("delete from customers")
        assert connection.info.transaction_status.name == "INERROR"
        with pytest.raises(psycopg.errors.InFailedSqlTransaction):
            connection.execute("select 1")
        connection.rollback()
        assert connection.execute("select count(*) from notes where id = 900").fetchone() == (0,)


def test_a_refusal_in_a_pipeline_takes_what_came_before_back(gateway, reader):
    with psycopg.connect(**through(gateway, reader), autocommit=True) as connection:
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            with connection.pipeline() as pipeline:
                connection.execute("insert into notes values (%s, 'x')", (901,))
                connection.execute("insert into notes values (%s, 'y')", (902,))
                refused = connection.execute("delete from customers where id = %s", (1,))
                connection.execute("insert into notes values (%s, 'z')", (903,))
                pipeline.sync()
                refused.fetchone()
        assert connection.execute("select count(*) from notes where id > 900").fetchone() == (0,)
        assert connection.execute("select 1").fetchone() == (1,)


def test_nobody_gets_in_without_a_token_that_holds(gateway, issuer):
    for token in ("", "secret", SECRET, issuer.token("old", "admins", seconds=-3600)):
        with pytest.raises(psycopg.OperationalError) as refused:
            psycopg.connect(**through(gateway, token or "x"))
        assert "valid token" in str(refused.value)
    with pytest.raises(psycopg.OperationalError) as refused:
        psycopg.connect(**through(gateway, issuer.token("nobody", "strangers")))
    assert "policy does not permit" in str(refused.value)
    with pytest.raises(psycopg.OperationalError) as refused:
        psycopg.connect(**{**through(gateway, issuer.token("ada", "admins")), "dbname": "postgres"})
    assert "no such resource" in str(refused.value).lower()
    with pytest.raises(psycopg.OperationalError) as refused:
        psycopg.connect(**through(gateway, issuer.token("ada", "admins"), options="-c role=postgres"))
    assert "policy does not permit" in str(refused.value)
    # The TLS listener takes no token in the clear.
    ways = {**through(gateway, issuer.token("ada", "admins")), "port": gateway.tls_port}
    with pytest.raises(psycopg.OperationalError) as refused:
        psycopg.connect(**ways)
    assert "TLS" in str(refused.value)


def test_a_password_is_prepared_as_the_server_prepares_it(tmp_path_factory, server, issuer, admin):
    # RFC 4013: a roman numeral is its letters, a soft hyphen nothing, an accent one with its letter.
    folder = tmp_path_factory.mktemp("prepared")
    written, stored = "e\u0301te\u0301-\u2168-so\u00adft", "\u00e9t\u00e9-IX-soft"
    server.psql("postgres", f"alter role app password '{stored}'")
    gateway = Gateway(BINARY, folder, server, issuer, password=written)
    try:
        with psycopg.connect(**through(gateway, admin)) as connection:
            assert connection.execute("select current_user").fetchone() == ("app",)
    finally:
        gateway.stop()
        server.psql("postgres", f"alter role app password '{SECRET}'")


def test_a_token_that_expires_ends_the_session_at_the_next_statement(gateway, issuer):
    # The verifier allows half a minute of skew, so the token is old already.
    token = issuer.token("ada", "admins", seconds=-26)
    with psycopg.connect(**through(gateway, token), autocommit=True) as connection:
        assert connection.execute("select 1").fetchone() == (1,)
        with pytest.raises(psycopg.OperationalError) as ended:
            for _ in range(80):
                connection.execute("select pg_sleep(0.1)")
        assert "no longer valid" in str(ended.value)


def test_what_a_caller_says_of_its_work_narrows_what_it_may_do(gateway, reader):
    ask = "select count(*) from orders"
    for said in ({"application_name": "lg/t-1/tool:sql"}, {"options": "-c weirgate.node=tool:sql"}):
        with psycopg.connect(**through(gateway, reader, **said), autocommit=True) as connection:
            with pytest.raises(psycopg.errors.InsufficientPrivilege, match="no-tools"):
                connection.execute(ask)
    said = {"application_name": "lg/t-1/plan", "options": "-c weirgate.run=r7"}
    with psycopg.connect(**through(gateway, reader, **said), autocommit=True) as connection:
        for node, count in (("act", 500), ("tool%3Asql", None), ("act", 500)):
            commented = f"{ask} /*node='{node}',traceparent='00-{node}-01'*/"
            if count:
                assert connection.execute(commented).fetchone() == (count,)
            else:
                with pytest.raises(psycopg.errors.InsufficientPrivilege, match="no-tools"):
                    connection.execute(commented)
    told = [one for one in gateway.sessions() if one["run"] == "r7"]
    assert {"plan", "act", "tool:sql"} == {one["node"] for one in told}
    assert {one["thread"] for one in told} == {"t-1"}
    refused = next(one for one in told if one["decision"] == "deny")
    explained = gateway.command("policy", "explain", "-c", gateway.config, "--request", refused["id"])
    assert explained.returncode == 1 and "no-tools" in explained.stdout, explained.stdout


# --- the record, secrets --------------------------------------------------------------------------


def test_the_record_has_statements_values_rows_and_refusals(gateway, reader):
    with psycopg.connect(**through(gateway, reader), autocommit=True) as connection:
        connection.execute("select name, email from customers where id = %s", (17,))
        with pytest.raises(psycopg.errors.InsufficientPrivilege) as refused:
            connection.execute("drop table customers")
        connection.execute("select name from customers where id = 18")
    denied = refused.value.diag.message_primary.rsplit("request ", 1)[1].rstrip(")")
    rows = {row["id"]: row for row in gateway.sessions() if row["sub"] == "ria"}
    assert rows[denied]["decision"] == "deny" and rows[denied]["protocol"] == "postgres"
    texts = []
    for id_ in rows:
        told = gateway.command("sessions", "show", id_, "-c", gateway.config)
        assert told.returncode == 0, told.stderr
        texts.append(told.stdout)
    whole = "\n".join(texts)
    assert "=> select name, email from customers where id = $1" in whole
    assert "$1 = " in whole and "c17@example.com" in whole
    assert "drop table customers" in whole
    assert "name 18" in whole
    assert SECRET not in whole and reader not in whole
    told = gateway.command("verify", gateway.folder / "record")
    assert told.returncode == 0, told.stdout + told.stderr


def test_the_servers_log_has_no_token_and_the_gateways_no_secret(gateway, server, admin):
    with psycopg.connect(**through(gateway, admin), autocommit=True) as connection:
        connection.execute("select 'marker'")
    assert admin not in server.log()
    log = (gateway.folder / "log").read_text()
    assert SECRET not in log and admin not in log and "marker" not in log


# --- masks ----------------------------------------------------------------------------------------

EMAIL, SSN = "c17@example.com", "536-90-4017"


@pytest.mark.parametrize("binary", [False, True])
@pytest.mark.parametrize("prepare", [False, True])
def test_masked_columns_are_masked_by_their_origin_whatever_they_are_called(
    gateway, issuer, binary, prepare
):
    ways = through(gateway, issuer.token("mia", "masked"))
    with psycopg.connect(**ways, autocommit=True) as connection:
        for query, expected in (
            ("select id, email from customers where id = %s", (17, "[REDACTED]")),
            ("select ssn as name, name as ssn from customers where id = %s", ("[REDACTED]", "name 17")),
            ("select c.* from customers c where id = %s", (17, "name 17", "[REDACTED]", "[REDACTED]")),
            ("select x from (select email x from customers where id = %s) y", ("[REDACTED]",)),
            ("with q as (select email from customers where id = %s) select * from q", ("[REDACTED]",)),
            ("select email from contacts where id = %s", ("[REDACTED]",)),
            ("select upper(email), length(ssn), id from customers where id = %s", (None, None, 17)),
            ("select shouted from contacts where id = %s", (None,)),
            ("select count(*), 7, 'x' from customers where id = %s", (1, 7, "x")),
            ("select max(email) from customers where id = %s", (None,)),
            ("select c::text from customers c where id = %s", (None,)),
            ("select to_jsonb(c) from customers c where id = %s", (None,)),
            ("select name, total from orders join customers c on customer = c.id where c.id = %s limit 1", None),
            ("update customers set name = 'name 17' where id = %s returning email", ("[REDACTED]",)),
        ):
            for _ in range(2):
                row = connection.execute(query, (17,), binary=binary, prepare=prepare).fetchone()
                assert expected is None or row == expected, query
                assert EMAIL not in str(row) and SSN not in str(row)


def test_what_could_give_a_masked_column_away_is_refused_or_withheld(gateway, issuer):
    ways = through(gateway, issuer.token("mia", "masked"))
    with psycopg.connect(**ways, autocommit=True) as connection:
        for statement in (
            "copy customers to stdout",
            "copy (select email from customers) to stdout",
            "insert into notes select id, email from customers",
            "create temp table stolen as select * from customers",
            "update customers set name = email",
            "do $$ begin raise notice 'x'; end $$",
            "listen news",
            "select set_config('application_name', (select email from customers limit 1), false)",
        ):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute(statement)
        for statement in (
            "select email::int from customers where id = 17",
            "insert into customers values (17, 'n', 'c17@example.com', 'x')",
        ):
            with pytest.raises(psycopg.Error) as failed:
                connection.execute(statement)
            assert EMAIL not in str(failed.value) and "name 17" not in str(failed.value)
            assert failed.value.sqlstate in ("22P02", "23505")
        # A table made meanwhile is looked up before it is read.
        connection.execute("create temp table mine (a text)")
        connection.execute("insert into mine values ('plain')")
        assert connection.execute("select a from mine").fetchone() == ("plain",)
        connection.execute("drop table mine")


def test_a_column_of_no_use_is_an_output_or_refused(gateway, issuer):
    ways = through(gateway, issuer.token("nia", "no-use"))
    with psycopg.connect(**ways, autocommit=True) as connection:
        for query, expected in (
            ("select id, email from customers where id = %s order by id", (17, "[REDACTED]")),
            ("select * from customers where id = %s", (17, "name 17", "[REDACTED]", "[REDACTED]")),
            ("select email as x, id from contacts where id = %s", ("[REDACTED]", 17)),
            ("select count(*) from customers where id = %s", (1,)),
            ("update customers set name = 'name 17' where id = %s returning ssn", ("[REDACTED]",)),
        ):
            for _ in range(2):
                assert connection.execute(query, (17,)).fetchone() == expected, query
        for query in (
            "select id from customers where ssn = %s",
            "select id from customers where ssn = %s order by id",
            "select 1 from customers c where c::text like %s",
            "select 1 from customers c where c.row_to_json::text like %s",
            "select * from (select ssn as x from customers) q where x = %s",
            "with q as (select * from customers) select 1 from q where ssn = %s",
            "select 1 from contacts where email = %s",
            "delete from customers where ssn = %s",
        ):
            for value in (SSN, "nobody"):
                with pytest.raises(psycopg.errors.InsufficientPrivilege):
                    connection.execute(query, (value,))
        for query in (
            "select id from customers order by email",
            "select ssn, id from customers group by (1, 2)",
            "select distinct ssn from customers",
            "insert into customers values (17, 'n', 'x', 'x') on conflict do nothing",
        ):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute(query)
        # The connection goes on.
        assert connection.execute("select name from customers where id = 17").fetchone() == ("name 17",)


def test_the_direct_level_masks_the_column_and_nothing_computed(gateway, issuer):
    ways = through(gateway, issuer.token("dan", "direct"))
    with psycopg.connect(**ways, autocommit=True) as connection:
        row = connection.execute("select email, upper(email) from customers where id = 17").fetchone()
        assert row[0].endswith(".com") and "*" in row[0] and "c17" not in row[0]
        assert row[1] == EMAIL.upper()


def test_detectors_look_through_text_and_json(gateway, issuer):
    ways = through(gateway, issuer.token("fay", "found"))
    with psycopg.connect(**ways, autocommit=True) as connection:
        row = connection.execute(
            "select 'mail ' || email, jsonb_build_object('a', ssn), id from customers where id = 17"
        ).fetchone()
        assert row[0] == "mail [EMAIL]" and EMAIL not in str(row) and SSN not in str(row)
        assert row[2] == 17
        with pytest.raises(psycopg.Error) as failed:
            connection.execute("select email::int from customers where id = 17")
        assert EMAIL not in str(failed.value)


def test_the_record_of_a_masked_session_holds_no_masked_value(gateway, issuer):
    ways = through(gateway, issuer.token("rex", "masked"))
    with psycopg.connect(**ways, autocommit=True) as connection:
        connection.execute("select email from customers where email = 'c18@example.com'")
        connection.execute("select ssn from customers where ssn = %s", ("536-90-4018",))
        for _ in range(7):
            connection.execute("select name from customers where email = %s", ("c18@example.com",))
    rows = [row for row in gateway.sessions() if row["sub"] == "rex"]
    assert len(rows) > 8
    texts = [gateway.command("sessions", "show", row["id"], "-c", gateway.config).stdout for row in rows]
    whole = "\n".join(texts)
    assert "select email from customers where email = '[REDACTED]'" in whole
    assert "c18@example.com" not in whole and "536-90-4018" not in whole
    assert "[REDACTED]" in whole


def test_the_script_of_grants_keeps_the_columns_in_the_database_itself(gateway, server, issuer):
    told = gateway.command("mask", "grants", "-c", gateway.config, "--mask", "pii")
    assert told.returncode == 0, told.stderr
    server.psql("orders", told.stdout)
    try:
        with psycopg.connect(**direct(server), autocommit=True) as connection:
            assert connection.execute("select id, name from customers where id = 17").fetchone() == (17, "name 17")
            for stolen in ("email", "*", "upper(ssn)"):
                with pytest.raises(psycopg.errors.InsufficientPrivilege):
                    connection.execute(f"select {stolen} from customers")
    finally:
        server.psql("orders", "grant all on table customers to app;")


# --- raw bytes ------------------------------------------------------------------------------------


def message(tag, body=b""):
    return tag + struct.pack(">I", len(body) + 4) + body


def raw_login(gateway, token, minor=0, **params):
    pairs = {"user": "x", "database": "orders", **params}
    body = struct.pack(">I", (3 << 16) + minor)
    body += b"".join(f"{k}\0{v}\0".encode() for k, v in pairs.items()) + b"\0"
    connection = socket.create_connection(("127.0.0.1", gateway.port), 10)
    connection.sendall(struct.pack(">I", len(body) + 4) + body)
    seen = []
    while True:
        tag, body = read(connection)
        seen.append((tag, body))
        if tag == b"R" and body == b"\0\0\0\x03":
            connection.sendall(message(b"p", token.encode() + b"\0"))
        if tag == b"Z":
            return connection, seen


def exactly(connection, count):
    data = b""
    while len(data) < count:
        part = connection.recv(count - len(data))
        if not part:
            raise EOFError(data)
        data += part
    return data


def read(connection):
    head = exactly(connection, 5)
    return head[:1], exactly(connection, struct.unpack(">I", head[1:])[0] - 4)


def until_ready(connection):
    seen = []
    while True:
        seen.append(read(connection))
        if seen[-1][0] == b"Z":
            return seen


def test_minors_and_options_are_negotiated(gateway, admin):
    connection, seen = raw_login(gateway, admin, minor=9999, **{"_pq_.test": "1"})
    negotiated = dict(seen)[b"v"]
    assert struct.unpack(">II", negotiated[:8]) == ((3 << 16) + 2, 1)
    assert b"_pq_.test\0" in negotiated
    connection.close()
    for minor in (0, 2):
        connection, seen = raw_login(gateway, admin, minor=minor)
        assert b"v" not in dict(seen)
        connection.close()


def test_what_is_no_protocol_ends_the_connection(gateway, admin):
    for bytes_ in (
        b"GET / HTTP/1.1\r\n\r\n", b"\0" * 64, b"\xff" * 64,
        struct.pack(">II", 8, 196608), struct.pack(">II", 9, 196608) + b"x",
    ):
        with socket.create_connection(("127.0.0.1", gateway.port), 10) as connection:
            connection.sendall(bytes_)
            connection.shutdown(socket.SHUT_WR)
            while connection.recv(4096):
                pass
    for bytes_ in (message(b"Y"), b"Q\0\0\0\x01", message(b"Q", b"no end"), message(b"B", b"\0\0\xff"), b"Q\xff\xff\xff\xff"):
        connection, _ = raw_login(gateway, admin)
        connection.sendall(bytes_)
        tag, body = read(connection)
        assert tag == b"E" and b"FATAL" in body, bytes_
        connection.close()


def test_a_refused_message_anywhere_leaves_the_connection_in_step(gateway, reader):
    connection, _ = raw_login(gateway, reader)
    denied = message(b"P", b"\0delete from customers\0\0\0")
    bind = message(b"B", b"\0\0\0\0\0\0\0\0")
    execute = message(b"E", b"\0\0\0\0\0")
    allowed = message(b"P", b"\0select id from customers where id = 1\0\0\0")
    sync = message(b"S")
    cases = {
        denied + bind + execute + sync: [b"E", b"Z"],
        allowed + bind + execute + denied + bind + execute + sync: [b"1", b"2", b"D", b"C", b"E", b"Z"],
        denied + sync + allowed + bind + execute + sync: [b"E", b"Z", b"1", b"2", b"D", b"C", b"Z"],
        message(b"Q", b"delete from customers\0") + message(b"Q", b"select 1\0"): [b"E", b"Z", b"T", b"D", b"C", b"Z"],
        message(b"F", b"\0\0\0\1\0\0\0\0\0\0"): [b"E", b"Z"],
        message(b"B", b"\0never\0\0\0\0\0\0\0") + execute + sync: [b"E", b"Z"],
    }
    for sent, expected in cases.items():
        for step in (len(sent), 1):
            for at in range(0, len(sent), step):
                connection.sendall(sent[at:at + step])
            tags = []
            while tags.count(b"Z") < expected.count(b"Z"):
                tags.append(read(connection)[0])
            assert tags == expected, sent
    connection.close()


def test_a_prepared_statement_is_judged_where_it_is_executed(gateway, admin):
    connection, _ = raw_login(gateway, admin)
    connection.sendall(
        message(b"P", b"s1\0select id from customers where id = $1\0\0\0") + message(b"S")
    )
    until_ready(connection)
    for _ in range(3):
        connection.sendall(
            message(b"B", b"\0s1\0\0\0\0\x01\0\0\0\x017\0\0") + message(b"E", b"\0\0\0\0\0") + message(b"S")
        )
        seen = until_ready(connection)
        assert [tag for tag, _ in seen] == [b"2", b"D", b"C", b"Z"]
    connection.close()
    shown = [row for row in gateway.sessions() if row["sub"] == "ada"]
    assert json.dumps(shown)
