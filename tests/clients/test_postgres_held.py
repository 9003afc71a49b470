"""Statements that wait for a person: real clients, PostgreSQL 15 and 18, and the command line."""

import asyncio
import json
import os
import re
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import asyncpg
import psycopg
import pytest
from conftest import BINARY
from postgres_kit import SECRET, Gateway, Issuer, Server

WRITER_SECRET = "the-other-password-0123456789"

ROLES = f"""
create role writer login password '{WRITER_SECRET}';
grant select, update on notes to writer;
create table who (id serial, name text default current_user);
grant select on who to app;
grant select, insert, update on who to writer;
grant usage on sequence who_id_seq to writer;
create function public.sleeper(float) returns text language sql
  as 'select pg_sleep($1); select current_user::text';
"""

RULES = """
[[rule]]
id = "ask-first"
effect = "require_approval"
who  = { groups = ["clerks"] }
what = { resource = ["orders"], statement = ["delete", "copy_in"], table = ["public.notes"] }
then = { approval = { approvers = ["leads"], wait = "5m", ttl = "5m" } }

[[rule]]
id = "ask-narrow"
effect = "require_approval"
who  = { groups = ["clerks"] }
what = { resource = ["orders"], statement = ["insert"], table = ["public.who"] }
then = { credential = "writer", approval = { approvers = ["leads"], wait = "5m", ttl = "5m" } }

[[rule]]
id = "ask-slow"
effect = "require_approval"
who  = { groups = ["clerks"] }
what = { resource = ["orders"], statement = ["update"], table = ["public.notes"], function = ["public.sleeper"] }
then = { approval = { approvers = ["leads"], wait = "5m", ttl = "5m" } }

[[rule]]
id = "ask-shape"
effect = "require_approval"
who  = { groups = ["batch"] }
what = { resource = ["orders"], statement = ["delete"], table = ["public.notes"] }
then = { approval = { approvers = ["leads"], wait = "5m", ttl = "5m", uses = 5, scope = "shape" } }

[[rule]]
id = "ask-cursor"
effect = "require_approval"
who  = { groups = ["readers-by-hand"] }
what = { resource = ["orders"], statement = ["select"], table = ["public.notes"] }
then = { approval = { approvers = ["leads"], wait = "5m", ttl = "5m" } }

[[rule]]
id = "look"
effect = "allow"
who  = { groups = ["clerks", "batch"] }
what = { resource = ["orders"], statement = ["select"] }

[[rule]]
id = "add"
effect = "allow"
who  = { groups = ["clerks"] }
what = { resource = ["orders"], statement = ["insert"], table = ["public.notes"] }
"""

MORE = """
[limits]
hold_ms = 20000
hold_transaction_ms = 1500

[[credential]]
name = "writer"
kind = "password"
user = "writer"
secret = "file:writer"
"""

ADMIN = """
issuer = "corp"
viewers = ["leads"]
public_url = "https://gw.example.com"
"""


class People:
    """Who decides, by the command line."""

    def __init__(self, gateway):
        self.gateway = gateway

    def weirgate(self, *arguments, who="lea", groups=("leads",)):
        return subprocess.run(
            [BINARY, *arguments, "--admin", f"http://127.0.0.1:{self.gateway.admin}"],
            capture_output=True, text=True, timeout=60, check=False,
            env={**os.environ, "WEIRGATE_TOKEN": self.gateway.issuer.token(who, *groups)},
        )

    def listed(self, state):
        told = self.weirgate("approvals", "list", "--state", state, "--json")
        assert told.returncode == 0, told.stderr
        return [json.loads(line) for line in told.stdout.splitlines()]

    def pending(self, count=1):
        deadline = time.monotonic() + 20
        while len(found := self.listed("pending")) != count:
            assert time.monotonic() < deadline, found
            time.sleep(0.05)
        return found

    def decide(self, vote, request):
        told = self.weirgate("approvals", vote, request["id"], "--reason", "seen")
        assert told.returncode == 0, told.stderr

    def approve(self, count=1):
        found = self.pending(count)
        for request in found:
            self.decide("approve", request)
        return found[0]

    def deny(self):
        found = self.pending()[0]
        self.decide("deny", found)
        return found

    def state(self, request):
        told = self.weirgate("approvals", "show", request["id"], "--json")
        assert told.returncode == 0, told.stderr
        return json.loads(told.stdout.splitlines()[0])["state"]


@pytest.fixture(scope="module")
def issuer(tmp_path_factory):
    return Issuer(tmp_path_factory.mktemp("issuer"))


@pytest.fixture(scope="module", params=["15", "18"])
def server(tmp_path_factory, request):
    native = Path(os.environ["NODE_PATH"]) / "@embedded-postgres" / "linux-x64" / "native"
    programs = native / "bin" if request.param == "18" else None
    one = Server(tmp_path_factory.mktemp(f"postgres-{request.param}"), programs=programs)
    hba = (
        "host all app,writer 127.0.0.1/32 scram-sha-256\n"
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
    secret = folder / "writer"
    secret.write_text(WRITER_SECRET)
    secret.chmod(0o600)
    one = Gateway(BINARY, folder, server, issuer, more=RULES, upstream=MORE, admin=ADMIN)
    yield one
    one.stop()


@pytest.fixture
def people(gateway):
    """Nothing waits, and nothing is granted."""
    one = People(gateway)
    told = one.weirgate("grants", "revoke", "--all")
    assert told.returncode in (0, 1), told.stderr
    one.pending(0)
    return one


@pytest.fixture
def ways(gateway, issuer):
    # A caller of each test's own: a denial is remembered for a while.
    who = f"cleo-{time.monotonic_ns()}"
    return {
        "host": "127.0.0.1", "port": gateway.port, "dbname": "orders", "user": "anybody",
        "password": issuer.token(who, "clerks"), "sslmode": "disable",
    }


@pytest.fixture
def root(server):
    info = f"host=127.0.0.1 port={server.port} dbname=orders user=postgres"
    with psycopg.connect(info, autocommit=True) as connection:
        connection.execute("truncate who; truncate notes")
        connection.execute("insert into notes select n, 'note ' || n from generate_series(1, 20) n")
        yield connection


@pytest.fixture
def pool():
    with ThreadPoolExecutor(8) as one:
        yield one


def notes(root):
    return root.execute("select count(*) from notes").fetchone()[0]


def connect(ways, **more):
    told = []
    connection = psycopg.connect(**ways, autocommit=True, **more)
    # What a notice says is not there any more behind the call.
    connection.add_notice_handler(lambda one: told.append((one.severity_nonlocalized, one.message_primary)))
    return connection, told


def psql(ways, text):
    info = " ".join(f"{key}={value}" for key, value in ways.items() if key != "password")
    return subprocess.run(
        ["psql", "-X", "-v", "VERBOSITY=verbose", "-c", text, info],
        capture_output=True, text=True, timeout=60, check=False,
        env={**os.environ, "PGPASSWORD": ways["password"]},
    )


def test_psql_hears_a_notice_and_goes_on_when_a_person_approved(ways, people, root, pool):
    held = pool.submit(psql, ways, "delete from notes where id = 1")
    request = people.pending()[0]
    assert notes(root) == 20
    assert request["summary"].endswith("-- the statement:\ndelete from notes where id = 1")
    people.decide("approve", request)
    told = held.result()
    assert told.returncode == 0 and told.stdout == "DELETE 1\n", told
    assert request["id"] in told.stderr and "NOTICE" in told.stderr
    assert f"https://gw.example.com/approvals/{request['id']}" in told.stderr
    assert notes(root) == 19


def test_psql_hears_of_a_denial_and_which_request_it_was(ways, people, root, pool):
    held = pool.submit(psql, ways, "delete from notes where id = 1")
    request = people.deny()
    told = held.result()
    assert told.returncode == 1 and "42501" in told.stderr, told
    assert re.search(rf"HINT: .*{request['id']}", told.stderr)
    assert notes(root) == 20


@pytest.mark.parametrize("parameters", [None, (2,)])
@pytest.mark.parametrize("approved", [True, False])
def test_psycopg_waits(ways, people, root, pool, parameters, approved):
    connection, told = connect(ways)
    text = "delete from notes where id = " + ("%s" if parameters else "2")
    held = pool.submit(connection.execute, text, parameters)
    request = people.approve() if approved else people.deny()
    if approved:
        assert held.result().rowcount == 1
    else:
        with pytest.raises(psycopg.errors.InsufficientPrivilege) as error:
            held.result()
        assert request["id"] in error.value.diag.message_hint
    assert [(kind, request["id"] in said) for kind, said in told] == [("NOTICE", True)]
    assert notes(root) == (19 if approved else 20)
    # The connection lives.
    assert connection.execute("select 1").fetchone() == (1,)
    if parameters:
        assert "-- $1 = '2'" in request["summary"], request["summary"]
    connection.close()


def test_a_pipeline_waits_as_one_transaction(ways, people, root, pool):
    connection, _ = connect(ways)

    def run(number):
        with connection.pipeline():
            connection.execute(f"insert into notes values ({100 + number}, 'x')")
            connection.execute("delete from notes where id = %s", (number,))
            after = connection.execute("select count(*) from notes")
            return after.fetchone()[0]

    held = pool.submit(run, 3)
    people.approve()
    assert held.result() == 20
    held = pool.submit(run, 4)
    people.deny()
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        held.result()
    assert notes(root) == 20, "what stood before it is undone"
    assert connection.execute("select 1").fetchone() == (1,)
    connection.close()


def test_asyncpg_waits(ways, people, root):
    async def run():
        notices = []
        connection = await asyncpg.connect(
            host=ways["host"], port=ways["port"], database="orders", user="x",
            password=ways["password"], ssl=False, timeout=60,
        )
        connection.add_log_listener(lambda _, message: notices.append(message))
        asks = lambda value: asyncio.create_task(
            connection.execute("delete from notes where id = $1", value)
        )
        held = asks(4)
        request = await asyncio.to_thread(people.approve)
        assert "-- $1 = '4'" in request["summary"], "the value is shown as people read it"
        assert await held == "DELETE 1"
        held = asks(5)
        denied = await asyncio.to_thread(people.deny)
        with pytest.raises(asyncpg.InsufficientPrivilegeError) as error:
            await held
        assert denied["id"] in error.value.hint
        assert [request["id"] in str(notices[0]), denied["id"] in str(notices[1])] == [True, True]
        assert await connection.fetchval("select 1") == 1
        await connection.close()

    asyncio.run(run())
    assert notes(root) == 19


def test_a_cursor_is_one_use(gateway, issuer, people, root, ways):
    ways["password"] = issuer.token(f"hand-{time.monotonic_ns()}", "readers-by-hand")

    async def run():
        connection = await asyncpg.connect(
            host=ways["host"], port=ways["port"], database="orders", user="x",
            password=ways["password"], ssl=False, timeout=60,
        )
        async with connection.transaction():
            found = []

            async def read():
                async for row in connection.cursor("select id from notes order by id", prefetch=6):
                    found.append(row["id"])

            held = asyncio.create_task(read())
            await asyncio.to_thread(people.approve)
            await held
        await connection.close()
        return found

    assert asyncio.run(run()) == list(range(1, 21))
    connection, _ = connect(ways)
    with ThreadPoolExecutor(1) as pool, connection.transaction():
        with connection.cursor("by_name") as cursor:
            held = pool.submit(cursor.execute, "select id from notes order by id")
            people.approve()
            held.result()
            cursor.itersize = 7
            assert [row[0] for row in cursor] == list(range(1, 21))
    connection.close()


def test_a_narrower_credential_is_used_in_fact(ways, people, root, pool):
    connection, _ = connect(ways)
    for parameters in (None, ("x",), ("y",)):
        text = "insert into who default values returning name"
        if parameters:
            text = "insert into who (name) values (current_user || %s) returning name"
        held = pool.submit(lambda text=text, of=parameters: connection.execute(text, of).fetchone())
        request = people.approve()
        assert request["credential"] == "writer" and "credential writer" in request["summary"]
        assert held.result() == ("writer" + (parameters or ("",))[0],)
    # By its name, prepared at home.
    connection.prepare_threshold = 0
    held = pool.submit(lambda: connection.execute(text, ("z",)).fetchone())
    people.approve()
    assert held.result() == ("writerz",)
    held = pool.submit(lambda: connection.execute(text, ("zz",)).fetchone())
    people.deny()
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        held.result()
    assert connection.execute("select current_user").fetchone() == ("app",)
    with pytest.raises(psycopg.errors.InsufficientPrivilege, match="of its own|credential"):
        with connection.transaction():
            connection.execute("insert into who default values")
    people.pending(0)
    connection.close()


def test_asyncpg_by_a_narrower_credential(ways, people, root):
    async def run():
        connection = await asyncpg.connect(
            host=ways["host"], port=ways["port"], database="orders", user="x",
            password=ways["password"], ssl=False, timeout=60,
        )
        text = "insert into who (id, name) values ($1, current_user || $2) returning name"
        found = []
        for number in (1, 2):
            held = asyncio.create_task(connection.fetchval(text, number, "!"))
            request = await asyncio.to_thread(people.approve)
            assert f"-- $1 = '{number}'\n-- $2 = '!'\n" in request["summary"], request["summary"]
            found.append(await held)
        found.append(await connection.fetchval("select current_user"))
        await connection.close()
        return found

    assert asyncio.run(run()) == ["writer!", "writer!", "app"]


def test_a_cancel_ends_the_wait_and_the_request(ways, people, root, pool):
    connection, _ = connect(ways)
    held = pool.submit(connection.execute, "delete from notes where id = 6")
    request = people.pending()[0]
    connection.cancel()
    with pytest.raises(psycopg.errors.QueryCanceled):
        held.result()
    assert people.state(request) == "cancelled"
    assert connection.execute("select 1").fetchone() == (1,)
    connection.close()


def test_who_leaves_takes_it_back(ways, people, root):
    info = " ".join(f"{key}={value}" for key, value in ways.items() if key != "password")
    child = subprocess.Popen(
        ["psql", "-X", "-c", "delete from notes where id = 7", info],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        env={**os.environ, "PGPASSWORD": ways["password"]},
    )
    request = people.pending()[0]
    child.kill()
    child.wait()
    people.pending(0)
    assert people.state(request) == "cancelled"
    assert notes(root) == 20


def test_in_a_transaction_the_wait_is_short_and_the_request_stays(ways, people, root, pool):
    connection, _ = connect(ways)
    connection.execute("begin")
    connection.execute("insert into notes values (200, 'x')")
    began = time.monotonic()
    with pytest.raises(psycopg.errors.InsufficientPrivilege) as error:
        connection.execute("delete from notes where id = 8")
    assert 1 < time.monotonic() - began < 15
    request = people.pending()[0]
    assert request["id"] in error.value.diag.message_hint
    with pytest.raises(psycopg.errors.InFailedSqlTransaction):
        connection.execute("select 1")
    connection.execute("rollback")
    assert notes(root) == 20
    # Approved later: the same statement again goes at once.
    people.decide("approve", request)
    connection.execute("begin")
    assert connection.execute("delete from notes where id = 8").rowcount == 1
    connection.execute("commit")
    assert people.state(request) == "consumed" and notes(root) == 19
    connection.close()


def test_a_changed_value_is_another_request(ways, people, root, pool):
    connection, _ = connect(ways)
    held = pool.submit(connection.execute, "delete from notes where id = %s", (9,))
    first = people.pending()[0]
    connection.cancel()
    with pytest.raises(psycopg.errors.QueryCanceled):
        held.result()
    held = pool.submit(connection.execute, "delete from notes where id = %s", (9,))
    first = people.approve()
    held.result()
    held = pool.submit(connection.execute, "delete from notes where id = %s", (10,))
    second = people.pending()[0]
    assert second["id"] != first["id"] and second["fingerprint"] != first["fingerprint"]
    assert notes(root) == 19
    people.deny()
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        held.result()
    connection.close()


def test_two_connections_use_a_grant_as_often_as_it_says(issuer, ways, people, root, pool):
    ways["password"] = issuer.token(f"batch-{time.monotonic_ns()}", "batch")
    done = []

    def work(first):
        connection, _ = connect(ways)
        try:
            for number in range(first, 21, 2):
                connection.execute(f"delete from notes where id = {number}")
                done.append(number)
        except psycopg.errors.InsufficientPrivilege:
            pass
        connection.close()

    workers = [pool.submit(work, first) for first in (1, 2)]
    first = people.approve()
    assert first["scope"] == "shape"
    second = people.pending()[0]
    assert second["id"] != first["id"]
    time.sleep(0.3)
    assert (len(done), notes(root)) == (5, 15), "as many as the grant says"
    people.decide("deny", second)
    for one in workers:
        one.result()
    assert notes(root) == 15


def test_a_revoked_grant_cuts_what_runs_within_a_second(ways, people, root, pool):
    connection, _ = connect(ways)
    text = "update notes set body = public.sleeper(30) where id = 11"
    held = pool.submit(connection.execute, text)
    people.approve()
    running = "select count(*) from pg_stat_activity where state = 'active' and query like 'update notes%'"
    deadline = time.monotonic() + 10
    while root.execute(running).fetchone()[0] != 1:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    told = people.weirgate("grants", "revoke", "--all")
    began = time.monotonic()
    assert told.returncode == 0, told.stderr
    with pytest.raises(psycopg.Error):
        held.result()
    while root.execute(running).fetchone()[0] != 0:
        assert time.monotonic() - began < 5
        time.sleep(0.02)
    assert time.monotonic() - began < 2
    assert root.execute("select body from notes where id = 11").fetchone() == ("note 11",)


def test_data_of_a_copy_goes_when_it_was_approved(ways, people, root, pool):
    connection, _ = connect(ways)

    def load():
        with connection.cursor().copy("copy notes from stdin") as copy:
            copy.write_row((300, "x"))
            copy.write_row((301, "y"))

    held = pool.submit(load)
    people.approve()
    held.result()
    assert notes(root) == 22
    held = pool.submit(load)
    people.deny()
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        held.result()
    assert connection.execute("select 1").fetchone() == (1,)
    connection.close()


def test_at_the_end_of_the_gateway_the_request_stays(gateway, ways, people, root, pool):
    connection, _ = connect(ways)
    held = pool.submit(connection.execute, "delete from notes where id = 12")
    request = people.pending()[0]
    gateway.stop()
    with pytest.raises(psycopg.OperationalError) as error:
        held.result()
    assert request["id"] in str(error.value), error.value
    gateway.start()
    deadline = time.monotonic() + 20
    while people.weirgate("approvals", "list").returncode == 2:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert people.pending()[0]["id"] == request["id"]
    people.decide("approve", request)
    assert notes(root) == 20
    connection, _ = connect(ways)
    assert connection.execute("delete from notes where id = 12").rowcount == 1
    assert people.state(request) == "consumed" and notes(root) == 19
    connection.close()


def test_the_record_tells_question_use_and_end(gateway, ways, people, root, pool):
    connection, _ = connect(ways)
    held = pool.submit(connection.execute, "delete from notes where id = 13")
    request = people.approve()
    held.result()
    connection.close()
    told = gateway.command("sessions", "show", request["id"], "-c", gateway.config)
    assert told.returncode == 0, told.stderr
    found = [one for one in gateway.sessions() if one["request_ids"] == [request["exchange"]]]
    assert found or request["exchange"] in json.dumps(gateway.sessions())
    assert gateway.command("verify", "-c", gateway.config).returncode == 0
