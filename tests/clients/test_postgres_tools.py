"""What an operator does with a database from the command line: replay, check, the demo."""

import asyncio
import datetime
import json
import os
import signal
import subprocess
import time
from pathlib import Path

import asyncpg
import pg8000.dbapi
import psycopg
import pytest
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


def through(gateway, token, **more):
    return {
        "host": "127.0.0.1", "port": gateway.port, "dbname": "orders", "user": "anybody",
        "password": token, "sslmode": "disable", **more,
    }


def direct(server):
    return {
        "host": "127.0.0.1", "port": server.port, "dbname": "orders", "user": "app",
        "password": SECRET,
    }


def connections(gateway, subject):
    """The ids of connecting, which stand for all statements of a connection."""
    return [
        row["id"] for row in gateway.sessions()
        if row["sub"] == subject and row["method"] == "connect"
    ]


def replay(gateway, id_, server, *more, user="app"):
    os.environ["REPLAY_SECRET"] = SECRET
    url = f"postgres://{user}@127.0.0.1:{server.port}/orders"
    return gateway.command(
        "sessions", "replay", id_, "-c", gateway.config, "--to", url,
        "--credential", "env:REPLAY_SECRET", *more,
    )


def lines(told):
    return [json.loads(line) for line in told.stdout.splitlines()]


def test_recorded_statements_answer_the_same_on_the_same_server(gateway, server, issuer):
    with psycopg.connect(**through(gateway, issuer.token("rep", "admins")), autocommit=True) as one:
        one.execute("select 1; select id, name from customers where id < 4 order by id", prepare=False)
        for number in (1, 2, 3, 4, 5, 6, 7):
            one.execute("select name, id from customers where id = %s", (number,), prepare=True)
        one.execute("select id, total from orders where id = %s", (5,), binary=True)
        one.execute("set datestyle to 'German'")
        one.execute("select date '2024-02-29'")
        with pytest.raises(psycopg.errors.UndefinedTable):
            one.execute("select * from nowhere")
        with one.transaction():
            one.execute("select count(*) from orders")
    (id_,) = connections(gateway, "rep")
    told = replay(gateway, id_, server, "--json")
    assert told.returncode == 0, told.stdout + told.stderr
    units = lines(told)
    assert {unit["verdict"] for unit in units} == {"same"}, told.stdout
    texts = [unit["statement"] for unit in units]
    # Seven and one, and a Parse that psycopg sends in a cycle of its own.
    assert sum("where id = $1" in text for text in texts) == 9
    assert "select date '2024-02-29'" in texts and "BEGIN" in texts
    assert any(unit["recorded"][0]["outcome"] == "error 42P01" for unit in units)
    assert SECRET not in told.stdout + told.stderr
    # One statement alone: what it runs was prepared in an exchange before.
    rows = [row for row in gateway.sessions() if row["sub"] == "rep" and row["method"] == "select"]
    told = replay(gateway, rows[5]["id"], server)
    assert told.returncode == 0 and "1 statements: 1 same" in told.stdout, told.stdout + told.stderr
    told = replay(gateway, rows[5]["id"], server, "--connection")
    assert told.returncode == 0 and f"{len(units)} statements" in told.stdout, told.stdout


def asyncpg_program(ways):
    async def run():
        one = await asyncpg.connect(
            host=ways["host"], port=ways["port"], database="orders", user="x",
            password=ways["password"], ssl=False,
        )
        get = await one.prepare("select id, name from customers where id = $1")
        for number in (1, 2):
            assert await get.fetchrow(number)
        async with one.transaction():
            async for row in one.cursor("select id from customers order by id", prefetch=30):
                assert row
        await one.fetch("select $1::text, $2::numeric, $3::date", "x", 1.5, datetime.date(2024, 2, 29))
        await one.executemany("select $1::int", [(1,), (2,), (3,)])
        await one.close()

    asyncio.run(run())


def pg8000_program(ways):
    one = pg8000.dbapi.connect(
        host=ways["host"], port=ways["port"], database="orders", user="x",
        password=ways["password"], ssl_context=False,
    )
    cursor = one.cursor()
    for number in (1, 2):
        cursor.execute("select id, name from customers where id = %s", (number,))
        assert cursor.fetchall()
    one.rollback()
    one.close()


def pipelined(ways):
    with psycopg.connect(**ways, autocommit=True) as one, one.pipeline():
        for number in range(1, 20):
            one.execute("select id, name from customers where id = %s", (number,))


def cursors(ways):
    with psycopg.connect(**ways) as one:
        with one.cursor("named") as cursor:
            cursor.itersize = 20
            cursor.execute("select id, email from customers order by id")
            assert len(list(cursor)) == 100


@pytest.mark.parametrize("program", [asyncpg_program, pg8000_program, pipelined, cursors])
def test_what_other_drivers_send_is_replayed(gateway, server, issuer, program):
    name = program.__name__
    program(through(gateway, issuer.token(name, "admins")))
    (id_,) = connections(gateway, name)
    told = replay(gateway, id_, server, "--json")
    assert told.returncode == 0, told.stdout + told.stderr
    assert {unit["verdict"] for unit in lines(told)} == {"same"}, told.stdout
    assert sum(unit["recorded"][0]["rows"] for unit in lines(told)) >= 2


def test_what_differs_is_named(gateway, server, issuer):
    with psycopg.connect(**through(gateway, issuer.token("dif", "admins")), autocommit=True) as one:
        one.execute("select id, name from customers where id < 4 order by id")
        one.execute("select id from customers where name = 'name 50'")
        one.execute("select total from orders where id = 1")
        one.execute("select * from notes")
    (id_,) = connections(gateway, "dif")
    server.psql("orders", """
        update customers set name = 'other' where id = 2;
        update customers set name = 'moved' where id = 50;
        alter table notes rename to notes2;
    """)
    try:
        told = replay(gateway, id_, server, "--json")
    finally:
        server.psql("orders", """
            update customers set name = 'name 2' where id = 2;
            update customers set name = 'name 50' where id = 50;
            alter table notes2 rename to notes;
        """)
    assert told.returncode == 1, told.stdout + told.stderr
    differences = [unit["differences"] for unit in lines(told)]
    assert differences == [["values"], ["tag", "rows"], [], ["outcome"]], told.stdout


def test_without_write_nothing_is_written_and_with_it_what_was_is(gateway, server, issuer):
    with psycopg.connect(**through(gateway, issuer.token("wri", "admins"))) as one:
        one.execute("insert into notes values (%s, %s)", (100, "one"))
        one.execute("select body from notes where id = 100")
        one.commit()
        with pytest.raises(psycopg.errors.UniqueViolation):
            one.execute("insert into notes values (100, 'again')")
        with pytest.raises(psycopg.errors.InFailedSqlTransaction):
            one.execute("select 1")
        one.commit()
        one.execute("delete from notes where id = 100")
        one.commit()
    (id_,) = connections(gateway, "wri")
    told = replay(gateway, id_, server, "--json")
    units = lines(told)
    whys = [unit["why"] for unit in units if unit["verdict"] == "not_run"]
    assert whys == ["it may write"] * 3, told.stdout
    # The transaction fails here too, where a statement that is not run had failed it.
    by_text = {unit["statement"]: unit["verdict"] for unit in units}
    assert by_text["select 1"] == "same", told.stdout
    with psycopg.connect(**direct(server), autocommit=True) as look:
        assert look.execute("select count(*) from notes where id = 100").fetchone() == (0,)
    told = replay(gateway, id_, server, "--write", "--json")
    assert told.returncode == 0, told.stdout + told.stderr
    assert {unit["verdict"] for unit in lines(told)} == {"same"}


def test_what_a_refusal_rolled_back_is_not_committed_now(gateway, server, issuer):
    with psycopg.connect(**through(gateway, issuer.token("pip", "readers")), autocommit=True) as one:
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            with one.pipeline():
                one.execute("insert into notes values (%s, %s)", (200, "x"))
                one.execute("delete from customers where id = %s", (1,))
    with psycopg.connect(**direct(server), autocommit=True) as look:
        assert look.execute("select count(*) from notes").fetchone() == (0,)
    (id_,) = connections(gateway, "pip")
    told = replay(gateway, id_, server, "--json", "--write")
    verdicts = {unit["statement"]: unit["verdict"] for unit in lines(told)}
    assert verdicts["insert into notes values ($1, $2)"] == "same", told.stdout
    assert verdicts["delete from customers where id = $1"] == "not_run", told.stdout
    with psycopg.connect(**direct(server), autocommit=True) as look:
        assert look.execute("select count(*) from notes").fetchone() == (0,)


def test_refused_copied_and_masked_statements_are_not_run(gateway, server, issuer):
    with psycopg.connect(**through(gateway, issuer.token("ref", "readers")), autocommit=True) as one:
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            one.execute("delete from customers")
        with one.cursor().copy("copy notes to stdout") as copy:
            list(copy)
        one.execute("select 1")
    (id_,) = connections(gateway, "ref")
    told = replay(gateway, id_, server, "--json")
    assert told.returncode == 0, told.stdout + told.stderr
    verdicts = [(unit["statement"], unit["why"]) for unit in lines(told)]
    assert verdicts == [
        ("delete from customers", "it was refused then"),
        ("copy notes to stdout", "data of COPY is not replayed"),
        ("select 1", None),
    ]


def test_masked_rows_are_compared_but_for_what_masks_changed(gateway, server, issuer):
    with psycopg.connect(**through(gateway, issuer.token("mas", "masked")), autocommit=True) as one:
        one.execute("select id, name, email from customers order by id limit 3")
        one.execute("select id from customers where email = %s", ("c7@example.com",))
        one.execute("select id from orders where id = %s", (3,))
    (id_,) = connections(gateway, "mas")
    told = replay(gateway, id_, server, "--json")
    assert told.returncode == 0, told.stdout + told.stderr
    rows, literal, plain = lines(told)
    assert rows["verdict"] == "same" and rows["not_compared"] == ["email"], told.stdout
    assert literal["verdict"] == "not_run" and "masked" in literal["why"]
    assert plain["verdict"] == "same" and plain["not_compared"] == []
    told = replay(gateway, id_, server, "--json", "--masked")
    assert told.returncode == 1, told.stdout
    assert lines(told)[1]["differences"] == ["tag", "rows"]
    assert "@example.com" not in told.stdout


def test_to_the_gateway_itself_the_token_is_the_password(gateway, server, issuer):
    token = issuer.token("two", "masked")
    with psycopg.connect(**through(gateway, token), autocommit=True) as one:
        one.execute("select id, email from customers order by id limit 3")
    (id_,) = connections(gateway, "two")
    os.environ["REPLAY_TOKEN"] = token
    url = f"postgres://x@localhost:{gateway.tls_port}/orders"
    to = ("sessions", "replay", id_, "-c", gateway.config, "--to", url)
    secret = ("--credential", "env:REPLAY_TOKEN")
    told = gateway.command(*to, *secret, "--ca", gateway.ca, "--auth", "cleartext", "--json")
    assert told.returncode == 0, told.stdout + told.stderr
    (unit,) = lines(told)
    assert unit["verdict"] == "same" and unit["not_compared"] == []
    # The method must be allowed, the certificate known, the password right.
    other = gateway.folder / "other"
    assert gateway.command("cert", "dev", "--dir", other).returncode == 0
    for ways, says in [
        ((*secret, "--ca", gateway.ca), "cleartext, which is not allowed"),
        ((*secret, "--ca", other / "ca.pem", "--auth", "cleartext"), "TLS failed"),
        (("--ca", gateway.ca, "--auth", "cleartext"), "none is given"),
        # Plain text stays on the machine, and this listener speaks none.
        ((*secret, "--auth", "cleartext"), "28000"),
    ]:
        told = gateway.command(*to, *ways)
        assert told.returncode == 2 and says in told.stderr, (ways, told.stdout, told.stderr)
        assert token not in told.stderr


def test_a_replay_that_cannot_be_says_why(gateway, server, issuer):
    with psycopg.connect(**through(gateway, issuer.token("bad", "admins")), autocommit=True) as one:
        one.execute("select 1")
    (id_,) = connections(gateway, "bad")
    config = ("-c", gateway.config)
    for url, says in [
        (f"postgres://app:pw-in-url@127.0.0.1:{server.port}/orders", "holds a password"),
        (f"postgres://127.0.0.1:{server.port}/orders", "names no user"),
        ("postgres://app@127.0.0.1:1/orders", "cannot be reached"),
    ]:
        told = gateway.command("sessions", "replay", id_, *config, "--to", url)
        assert told.returncode == 2 and says in told.stderr, told.stderr
        assert "pw-in-url" not in told.stderr
    os.environ["REPLAY_WRONG"] = "not-the-password"
    url = f"postgres://app@127.0.0.1:{server.port}/orders"
    told = gateway.command(
        "sessions", "replay", id_, *config, "--to", url, "--credential", "env:REPLAY_WRONG"
    )
    assert told.returncode == 2 and "28P01" in told.stderr, told.stderr
    assert "not-the-password" not in told.stderr
    told = gateway.command("sessions", "replay", "ffff0000", *config, "--to", url)
    assert told.returncode == 1


# --- check --connect -------------------------------------------------------------------------------


def check(gateway, text, *more):
    path = gateway.folder / "check.toml"
    path.write_text(text)
    return path, gateway.command("check", "-c", path, "--connect", *more)


def test_check_connects_and_finds_the_masked_columns(gateway, server):
    text = gateway.config.read_text()
    path, told = check(gateway, text)
    assert told.returncode == 0, told.stdout + told.stderr
    line = f"resource orders: ok (127.0.0.1:{server.port}/orders as app, PostgreSQL "
    assert line in told.stdout and "plain text, 2 masked columns there)" in told.stdout
    # It has rights on the table: only `mask grants` takes these.
    assert "app may read public.customers.email, public.customers.ssn in the database" in told.stdout
    path, told = check(gateway, text, "--json")
    one = lines(told)[-1]
    assert (one["level"], one["resource"], one["role"]) == ("ok", "orders", "app")
    assert one["masked_columns"] == ["public.customers.email", "public.customers.ssn"]
    assert SECRET not in told.stdout + told.stderr


def test_check_names_columns_that_are_not_there(gateway):
    text = gateway.config.read_text()
    path, told = check(gateway, text.replace('"public.customers.ssn"', '"public.customers.sn"'))
    assert told.returncode == 1, told.stdout
    line = 1 + text[: text.index('columns = ["public.customers.email"')].count("\n")
    assert f"{path}:{line}: error: mask `pii`: the column `public.customers.sn`" in told.stdout
    path, told = check(gateway, text.replace('"public.customers.ssn"', '"public.custmers.ssn"'))
    assert told.returncode == 1, told.stdout
    assert "mask `pii`: `public.custmers.ssn` has no table in `orders`" in told.stdout
    # One mask may list the tables of several databases.
    more = """
[[resource]]
name = "system"
protocol = "postgres"
upstream = "postgres://127.0.0.1:PORT/postgres"
credential = { kind = "password", user = "app", secret = "file:secret" }
[[rule]]
id = "system-masked"
effect = "allow"
who = { groups = ["x"] }
what = { resource = ["system"] }
then = { mask = ["pii"] }
"""
    port = text.split("postgres://127.0.0.1:", 1)[1].split("/", 1)[0]
    path, told = check(gateway, text + more.replace("PORT", port))
    assert told.returncode == 0, told.stdout
    assert "resource system: ok" in told.stdout and "0 masked columns" in told.stdout


def test_check_says_why_nobody_would_get_in(gateway, server):
    text = gateway.config.read_text()
    wrong = gateway.folder / "wrong"
    wrong.write_text("not-the-password-0123")
    wrong.chmod(0o600)
    for changed, says in [
        (text.replace('"file:secret"', '"file:wrong"'), "28P01"),
        (text.replace('"file:secret"', '"file:none"'), "none"),
        (text.replace(f"127.0.0.1:{server.port}/orders", "127.0.0.1:1/orders"), "be reached"),
        (text.replace(f"{server.port}/orders", f"{server.port}/nowhere"), "3D000"),
        (text.replace('user = "app", ', 'user = "app", role = "nobody", '), "22023"),
    ]:
        path, told = check(gateway, changed)
        assert told.returncode == 1, told.stdout
        assert says in told.stdout, told.stdout
        assert f"{path}:" in told.stdout and "1 error" in told.stdout
        assert "not-the-password" not in told.stdout and SECRET not in told.stdout
    # Without the option nothing is opened and nobody is asked.
    assert gateway.command("check", "-c", path).returncode == 0


def test_check_speaks_tls_with_whom_the_resource_trusts(tmp_path_factory, gateway):
    tls = tmp_path_factory.mktemp("tls")
    assert gateway.command("cert", "dev", "--dir", tls).returncode == 0
    server = Server(tmp_path_factory.mktemp("postgres-tls"), tls=tls)
    try:
        text = gateway.config.read_text()
        start, rest = text.split("upstream = \"postgres://127.0.0.1:", 1)
        rest = rest.split("/orders\"", 1)[1]
        tls_line = f'\ntls = {{ ca = "{tls}/ca.pem", server_name = "localhost" }}'
        text = f'{start}upstream = "postgres://127.0.0.1:{server.port}/orders"{tls_line}{rest}'
        path, told = check(gateway, text)
        assert told.returncode == 0, told.stdout
        assert "TLS 1.3" in told.stdout
        path, told = check(gateway, text.replace(f"{tls}/ca.pem", f"{gateway.ca}"))
        assert told.returncode == 1 and "TLS failed" in told.stdout, told.stdout
        path, told = check(gateway, text.replace(tls_line, ""))
        assert told.returncode == 1 and "28000" in told.stdout, told.stdout
    finally:
        server.stop()


# --- demo ------------------------------------------------------------------------------------------


def servers(folder):
    """Command lines of PostgreSQL's processes that work in a folder."""
    found = []
    for place in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = place.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if "postgres" in line and str(folder) in line:
            found.append(line)
    return found


def demo(tmp_path, *more, **how):
    scratch = tmp_path / "scratch"
    scratch.mkdir(exist_ok=True)
    # The account of the server must get at its folder.
    for place in [scratch, *scratch.parents]:
        if place in (Path("/tmp"), Path("/")):
            break
        place.chmod(place.stat().st_mode | 0o011)
    environment = {**os.environ, "TMPDIR": str(scratch), **how.pop("env", {})}
    command = [BINARY, "demo", *more]
    return scratch, subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **how
    )


def test_the_tour_shows_a_database_and_leaves_nothing(tmp_path):
    scratch, process = demo(tmp_path, "--once")
    out, errors = process.communicate(timeout=120)
    assert process.returncode == 0, out + errors
    assert "Carla | [REDACTED] | [REDACTED] | 1984-02-29" in out
    assert "carla@example.com" not in out and "4111111111111111" not in out
    assert "rule no-deletes" in out and "(SQLSTATE 42501)" in out
    assert "select count(*) from customers: 3" in out
    assert "=> select id, name, email, card, born from customers order by id" in out
    assert not servers(scratch) and list(scratch.iterdir()) == []


@pytest.mark.parametrize("ends", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_and_removes_the_server(tmp_path, ends):
    scratch, process = demo(tmp_path, "--json")
    facts = json.loads(process.stdout.readline())
    assert facts["database_url"].startswith("postgres://127.0.0.1:")
    assert servers(scratch)
    host, port = facts["database_url"].split("//")[1].split("/")[0].split(":")
    ways = {"dbname": "shop", "user": "x", "sslmode": "disable", "password": facts["tokens"]["ana"]}
    with psycopg.connect(host=host, port=port, **ways, autocommit=True) as one:
        row = one.execute("select name, email from customers where id = 1").fetchone()
        assert row == ("Carla", "[REDACTED]")
    process.send_signal(ends)
    process.communicate(timeout=30)
    assert process.returncode == 0
    deadline = time.monotonic() + 10
    while servers(scratch) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not servers(scratch) and list(scratch.iterdir()) == []


def test_a_signal_ends_the_tour_wherever_it_is(tmp_path):
    def gone(scratch, process):
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)
        assert process.returncode == 1
        assert not servers(scratch) and list(scratch.iterdir()) == []

    scratch, process = demo(tmp_path)
    while "1. ana calls" not in process.stdout.readline():
        assert process.poll() is None
    gone(scratch, process)
    # While the server is made.
    scratch, process = demo(tmp_path)
    while not list(scratch.glob("weirgate-demo-pg-*")):
        assert process.poll() is None
        time.sleep(0.01)
    gone(scratch, process)


def test_a_demo_that_is_killed_leaves_no_server(tmp_path):
    scratch, process = demo(tmp_path, "--json")
    process.stdout.readline()
    assert servers(scratch)
    process.kill()
    process.communicate(timeout=30)
    deadline = time.monotonic() + 30
    left = lambda: servers(scratch) or list(scratch.glob("weirgate-demo-pg-*"))
    while left() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not left()


def test_a_server_that_cannot_be_started_is_said_and_the_tour_goes_on(tmp_path):
    # What is first on the path counts, and this is no server.
    programs = tmp_path / "bin"
    programs.mkdir()
    for name in ("initdb", "postgres", "pg_ctl"):
        (programs / name).write_text("#!/bin/sh\necho it is broken >&2\nexit 1\n")
        (programs / name).chmod(0o755)
    path = f"{programs}:{os.environ['PATH']}"
    scratch, process = demo(tmp_path, "--once", env={"PATH": path})
    out, errors = process.communicate(timeout=120)
    assert process.returncode == 0, out + errors
    assert "the tour leaves databases out: no server could be started (initdb: it is broken)" in out
    assert "[REDACTED]" not in out.split("what the record holds")[1]
    assert list(scratch.iterdir()) == []
