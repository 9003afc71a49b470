"""A PostgreSQL server of the tests' own, a gateway in front of it, and tokens of an issuer."""

import base64
import getpass
import glob
import json
import os
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

ISSUER = "https://idp.test"
SECRET = "the-real-password-0123456789"

SCHEMA = """
create role app login password '{secret}';
create database orders;
\\c orders
create table customers (id int primary key, name text not null, email text, ssn text);
create table orders (id serial primary key, customer int references customers, total numeric(10,2) not null);
create table notes (id int primary key, body text);
create view contacts as select id, email, upper(ssn) as shouted from customers;
create function public.double(int) returns int language sql as 'select $1 * 2';
insert into customers select n, 'name ' || n, 'c' || n || '@example.com', '536-90-' || (4000 + n) from generate_series(1, 100) n;
insert into orders (customer, total) select 1 + n % 100, n * 1.5 from generate_series(1, 500) n;
grant all on all tables in schema public to app;
grant all on all sequences in schema public to app;
grant create on schema public to app;
"""

POLICY = """
[[rule]]
id = "all"
effect = "allow"
who  = {{ groups = ["admins"] }}
what = {{ resource = ["orders"], function = ["*"] }}

[[rule]]
id = "unread"
effect = "allow"
who  = {{ groups = ["admins"] }}
what = {{ resource = ["orders"], statement = ["unknown"] }}

[[rule]]
id = "everything-else"
effect = "allow"
who  = {{ groups = ["admins"] }}
what = {{ resource = ["orders"] }}

[[rule]]
id = "read"
effect = "allow"
who  = {{ groups = ["readers"] }}
what = {{ resource = ["orders"], statement = ["select"], table = ["public.customers", "public.orders", "pg_catalog.*", "information_schema.*"] }}

[[rule]]
id = "write-notes"
effect = "allow"
who  = {{ groups = ["readers"] }}
what = {{ resource = ["orders"], statement = ["insert", "update", "delete", "copy_in"], table = ["public.notes"] }}

[[rule]]
id = "read-notes"
effect = "allow"
who  = {{ groups = ["readers"] }}
what = {{ resource = ["orders"], statement = ["select", "copy_out"], table = ["public.notes"] }}

[[rule]]
id = "masked"
effect = "allow"
who  = {{ groups = ["masked"] }}
what = {{ resource = ["orders"] }}
then = {{ mask = ["pii"] }}

[[rule]]
id = "direct"
effect = "allow"
who  = {{ groups = ["direct"] }}
what = {{ resource = ["orders"] }}
then = {{ mask = ["direct"] }}

[[rule]]
id = "no-use"
effect = "allow"
who  = {{ groups = ["no-use"] }}
what = {{ resource = ["orders"] }}
then = {{ mask = ["no-use"] }}

[[rule]]
id = "found"
effect = "allow"
who  = {{ groups = ["found"] }}
what = {{ resource = ["orders"] }}
then = {{ mask = ["found"] }}

[[rule]]
id = "no-tools"
effect = "deny"
who  = {{ node = ["tool:*"] }}
what = {{ resource = ["orders"] }}

[[rule]]
id = "no-mass-delete"
effect = "deny"
who  = {{ groups = ["readers"] }}
what = {{ resource = ["orders"], statement = ["delete", "update"], where = "missing" }}
{more}
"""


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def binaries():
    """The folder of a server's programs; Debian keeps them out of the path."""
    found = sorted(glob.glob("/usr/lib/postgresql/*/bin/initdb"))
    named = shutil.which("initdb")
    if not found and not named:
        raise RuntimeError("no PostgreSQL server here: apt-get install postgresql-15")
    return Path(found[-1] if found else named).parent


class Server:
    """A cluster on a free port; ends with the tests."""

    def __init__(self, folder, tls=None, programs=None):
        """`tls`: a folder of `weirgate cert dev`; then nobody gets in without TLS."""
        self.folder = folder
        self.port = free_port()
        self.programs = programs or binaries()
        # A server does not run as root.
        self.prefix = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []
        if self.prefix:
            for place in [folder, *folder.parents]:
                if place == Path("/tmp") or place == Path("/"):
                    break
                place.chmod(place.stat().st_mode | 0o011)
            shutil.chown(folder, "postgres")
        self.data = folder / "data"
        self.run("initdb", "-D", self.data, "-U", "postgres", "-A", "trust", "-E", "UTF8")
        kind = "hostssl" if tls else "host"
        hba = f"{kind} all app 127.0.0.1/32 scram-sha-256\nhost all postgres 127.0.0.1/32 trust\n"
        self.write(self.data / "pg_hba.conf", hba)
        more = ""
        if tls:
            for name in ("cert.pem", "key.pem"):
                self.write(self.data / name, (tls / name).read_text())
            subprocess.run([*self.prefix, "chmod", "600", self.data / "key.pem"], check=True)
            more = " -c ssl=on -c ssl_cert_file=cert.pem -c ssl_key_file=key.pem"
        options = (
            f"-p {self.port} -k {folder} -c listen_addresses=127.0.0.1 -c fsync=off"
            " -c max_connections=60 -c log_statement=all" + more
        )
        log = folder / "log"
        self.run("pg_ctl", "-D", self.data, "-l", log, "-o", options, "-w", "start")
        try:
            self.psql("postgres", SCHEMA.format(secret=SECRET))
        except BaseException:
            self.stop()
            raise

    def write(self, path, text):
        subprocess.run(
            [*self.prefix, "tee", path], input=text, text=True, check=True, stdout=subprocess.DEVNULL
        )

    def run(self, program, *arguments):
        command = [*self.prefix, self.programs / program, *map(str, arguments)]
        # pg_ctl's server must not hold a pipe of ours open.
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stdin=subprocess.DEVNULL, cwd="/")

    def psql(self, database, script):
        subprocess.run(
            [
                *("psql", "-X", "-q", "-v", "ON_ERROR_STOP=1", "-h", "127.0.0.1"),
                *("-p", str(self.port), "-U", "postgres", "-d", database),
            ],
            input=script, text=True, check=True, stdout=subprocess.DEVNULL, timeout=60,
        )

    def log(self):
        command = [*self.prefix, "cat", self.folder / "log"]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout

    def stop(self):
        self.run("pg_ctl", "-D", self.data, "-m", "immediate", "-w", "stop")


class Issuer:
    """Mints tokens as an identity provider would (RFC 9068)."""

    def __init__(self, folder):
        self.key = Ed25519PrivateKey.generate()
        raw = self.key.public_key().public_bytes(
            serialization.Encoding.Raw, serialization.PublicFormat.Raw
        )
        x = base64.urlsafe_b64encode(raw).rstrip(b"=").decode()
        jwk = {"kty": "OKP", "crv": "Ed25519", "x": x, "kid": "one", "alg": "EdDSA", "use": "sig"}
        self.jwks = folder / "jwks.json"
        self.jwks.write_text(json.dumps({"keys": [jwk]}))

    def token(self, subject, *groups, seconds=600):
        now = int(time.time())
        claims = {
            "iss": ISSUER, "sub": subject, "aud": "weirgate", "client_id": "tests",
            "iat": now, "exp": now + seconds, "jti": f"{subject}-{now}-{seconds}",
            "groups": list(groups),
        }
        headers = {"typ": "at+jwt", "kid": "one"}
        return jwt.encode(claims, self.key, algorithm="EdDSA", headers=headers)


class Gateway:
    """`weirgate serve` in front of a server."""

    def __init__(self, binary, folder, server, issuer, more="", upstream="", password=SECRET, admin=""):
        self.binary = binary
        self.folder = folder
        self.issuer = issuer
        self.port = free_port()
        self.tls_port = free_port()
        self.admin = free_port()
        secret = folder / "secret"
        secret.write_text(password)
        secret.chmod(0o600)
        subprocess.run([binary, "cert", "dev", "--dir", folder / "tls"], check=True, capture_output=True)
        self.ca = folder / "tls" / "ca.pem"
        (folder / "policy.toml").write_text(POLICY.format(more=more))
        self.config = folder / "gateway.toml"
        self.config.write_text(f"""
include = ["policy.toml"]
[gateway]
workers = 2
data_dir = "record"
ring_dir = "{folder}"
[admin]
address = "127.0.0.1:{self.admin}"
{admin}
[[issuer]]
name = "corp"
issuer = "{ISSUER}"
audience = ["weirgate"]
algorithms = ["EdDSA"]
profile = "rfc9068"
groups_claim = "groups"
jwks_file = "{issuer.jwks}"
[[listener]]
name = "db"
address = "127.0.0.1:{self.port}"
protocol = "postgres"
insecure = true
[[listener]]
name = "db-tls"
address = "127.0.0.1:{self.tls_port}"
protocol = "postgres"
tls = {{ cert = "tls/cert.pem", key = "tls/key.pem" }}
[[resource]]
name = "orders"
protocol = "postgres"
upstream = "postgres://127.0.0.1:{server.port}/orders"
credential = {{ kind = "password", user = "app", secret = "file:secret" }}
{upstream}
[[mask]]
name = "pii"
columns = ["public.customers.email", "public.customers.ssn"]
operator = {{ columns = "redact" }}
[[mask]]
name = "direct"
columns = ["public.customers.email"]
level = "direct"
operator = {{ columns = "keep_last(4)" }}
[[mask]]
name = "no-use"
columns = ["public.customers.email", "public.customers.ssn"]
level = "no-use"
operator = {{ columns = "redact" }}
[[mask]]
name = "found"
detect = ["email", "us_ssn"]
""")
        self.start()

    def start(self):
        self.process = subprocess.Popen(
            [self.binary, "serve", "-c", self.config], stdin=subprocess.DEVNULL,
            stderr=open(self.folder / "log", "ab"), stdout=subprocess.DEVNULL,
        )
        deadline = time.monotonic() + 30
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                break
            except OSError:
                if time.monotonic() > deadline or self.process.poll() is not None:
                    raise RuntimeError((self.folder / "log").read_text()) from None
                time.sleep(0.05)

    def command(self, *arguments):
        return subprocess.run(
            [self.binary, *arguments], capture_output=True, text=True, timeout=60, check=False
        )

    def sessions(self):
        """The exchanges of the record, oldest first."""
        told = self.command("sessions", "list", "-c", self.config, "--json")
        assert told.returncode == 0, told.stderr
        return [json.loads(line) for line in told.stdout.splitlines()]

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(timeout=40)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
