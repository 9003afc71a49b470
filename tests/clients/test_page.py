"""Does the page of the admin listener do in a browser what it says?

The browser is Debian's chromium, driven by page.mjs, which signs people in by one-time links, makes held
calls as their callers, and prints a line for each case; each line is a test here.
"""

import json
import os
import shutil
import signal
import socket
import subprocess
import threading
import time
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from conftest import BINARY
from postgres_kit import ISSUER, SECRET, Issuer, Server, free_port

DRIVER = Path(__file__).with_name("page.mjs")
KEY = "the-key-of-the-provider-0123456789"
EVIL = "<img src=x onerror=globalThis.hit=1>"
SECONDS = 150

CASES = [
    "who is signed out is told how to sign in",
    "a held request appears by itself and its caller is answered after a click",
    "a held statement is shown in SQL, with what it would touch",
    "a denial ends it, and its reason is kept",
    "all of it is done by keys",
    "two people are needed, and one who is no viewer sees approvals only",
    "a reason that the rule wants is asked for",
    "nobody decides about an own request",
    "a wide grant is confirmed, listed and revoked",
    "what was done under break-glass is reviewed",
    "a link to a request opens it",
    "the page says when it is cut off, and catches up",
    "what runs is listed while it runs",
    "the record is searched, and an exchange is shown whole and replayed",
    "statements of a database are shown and replayed",
    "what a caller writes is text wherever it is shown",
    "charts are drawn",
    "nothing is wider than a phone, light or dark",
]

POLICY = """
[[rule]]
id = "ask-first"
effect = "require_approval"
who  = { groups = ["analysts"] }
what = { method = ["POST"] }
then = { mask = ["pii"], approval = { approvers = ["leads"], reveal = ["leads"] } }

[[rule]]
id = "two-people"
effect = "require_approval"
who  = { groups = ["pairs"] }
what = { method = ["POST"] }
then = { approval = { approvers = ["leads", "seconds"], count = 2 } }

[[rule]]
id = "say-why"
effect = "require_approval"
who  = { groups = ["reasons"] }
what = { method = ["POST"] }
then = { approval = { approvers = ["leads"], reason = true } }

[[rule]]
id = "for-a-while"
effect = "require_approval"
who  = { groups = ["wide"] }
what = { method = ["POST"] }
then = { approval = { approvers = ["leads"], scope = "resource", uses = 3, ttl = "5m" } }

[[rule]]
id = "break-the-glass"
effect = "require_approval"
who  = { groups = ["oncall"] }
what = { method = ["POST"] }
then = { approval = { approvers = ["leads"], break_glass = true, ttl = "1m" } }

[[rule]]
id = "streams"
effect = "allow"
who  = { groups = ["streamers"] }
what = { method = ["POST", "GET"] }
then = { mask = ["pii"] }

[[rule]]
id = "deletes"
effect = "require_approval"
who  = { groups = ["writers"] }
what = { resource = ["orders"], statement = ["delete"] }
then = { approval = { approvers = ["leads"], estimate = true } }

[[rule]]
id = "connects"
effect = "allow"
who  = { groups = ["writers"] }
what = { resource = ["orders"], statement = ["select"] }

[[rule]]
id = "reads"
effect = "allow"
who  = { groups = ["readers"] }
what = { resource = ["orders"], statement = ["select"] }
then = { mask = ["pii"] }
"""


class Upstream(BaseHTTPRequestHandler):
    """Answers at once, or with a stream that takes a while."""

    def log_message(self, *_):
        pass

    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        if self.path.endswith("/stream"):
            self.send_response(200)
            self.send_header("content-type", "text/event-stream")
            self.end_headers()
            for word in json.loads(body)["say"]:
                time.sleep(json.loads(body).get("pause", 0.05))
                self.wfile.write(f"data: {json.dumps({'word': word})}\n\n".encode())
                self.wfile.flush()
            return
        data = json.dumps({"done": True, "to": "cleo@example.com", "heard": len(body)}).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


class Site:
    """`weirgate serve` before a provider and a database."""

    def __init__(self, folder, database):
        self.folder = folder
        self.upstream = ThreadingHTTPServer(("127.0.0.1", 0), Upstream)
        threading.Thread(target=self.upstream.serve_forever, daemon=True).start()
        self.issuer = Issuer(folder)
        self.api, self.db, self.admin = free_port(), free_port(), free_port()
        for name, text in (("key", KEY), ("secret", SECRET)):
            (folder / name).write_text(text)
            (folder / name).chmod(0o600)
        (folder / "policy.toml").write_text(POLICY)
        self.config = folder / "gateway.toml"
        self.config.write_text(f"""
include = ["policy.toml"]
[gateway]
workers = 2
data_dir = "record"
ring_dir = "{folder}"
[admin]
address = "127.0.0.1:{self.admin}"
issuer = "corp"
viewers = ["leads"]
[[issuer]]
name = "corp"
issuer = "{ISSUER}"
audience = ["weirgate"]
algorithms = ["EdDSA"]
profile = "rfc9068"
groups_claim = "groups"
jwks_file = "{self.issuer.jwks}"
[[listener]]
name = "api"
address = "127.0.0.1:{self.api}"
protocol = "http"
[[listener]]
name = "db"
address = "127.0.0.1:{self.db}"
protocol = "postgres"
insecure = true
[[resource]]
name = "tickets"
protocol = "http"
upstream = "http://127.0.0.1:{self.upstream.server_port}"
credential = {{ kind = "bearer", secret = "file:key" }}
[[resource]]
name = "orders"
protocol = "postgres"
upstream = "postgres://127.0.0.1:{database.port}/orders"
credential = {{ kind = "password", user = "app", secret = "file:secret" }}
[[mask]]
name = "pii"
detect = ["email"]
columns = ["public.customers.email"]
""")
        self.log = folder / "log"
        self.process = subprocess.Popen(
            [BINARY, "serve", "-c", self.config], stdin=subprocess.DEVNULL,
            stderr=open(self.log, "ab"), stdout=subprocess.DEVNULL,
        )
        deadline = time.monotonic() + 30
        while True:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{self.admin}/readyz", timeout=1).close()
                socket.create_connection(("127.0.0.1", self.db), 1).close()
                return
            except OSError:
                if time.monotonic() > deadline or self.process.poll() is not None:
                    raise RuntimeError(self.log.read_text()) from None
                time.sleep(0.05)

    def query(self, statement):
        subprocess.run(
            ["psql", "-X", "-q", "-h", "127.0.0.1", "-p", str(self.db), "-U", "x", "-d", "orders", "-c", statement],
            check=True, capture_output=True, timeout=30, stdin=subprocess.DEVNULL,
            env={**os.environ, "PGPASSWORD": self.issuer.token("rita", "readers"), "PGSSLMODE": "disable"},
        )

    def facts(self):
        """What the driver needs: addresses, and everybody's token."""
        people = {
            "lea": ("lea", "leads"), "sam": ("sam", "seconds"), "tom": ("tom", "leads"),
            "ana": ("ana", "analysts"), "own": ("olga", "analysts", "leads"), "pairs": ("paul", "pairs"),
            "reasons": ("rosa", "reasons"), "wide": ("wim", "wide"), "oncall": ("otto", "oncall"),
            "stream": ("stan", "streamers"), "writer": ("will", "writers"), "evil": (EVIL, "analysts"),
        }
        return {
            "api": f"http://127.0.0.1:{self.api}/tickets", "admin": f"http://127.0.0.1:{self.admin}", "db": self.db,
            "binary": str(BINARY), "chromium": shutil.which("chromium"), "evil": EVIL, "shots": os.environ.get("WEIRGATE_SHOTS"),
            "tokens": {name: self.issuer.token(*who) for name, who in people.items()},
        }

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(timeout=40)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.upstream.shutdown()


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    database = Server(tmp_path_factory.mktemp("page-db"))
    try:
        site = Site(tmp_path_factory.mktemp("page"), database)
        try:
            yield site
        finally:
            site.stop()
    finally:
        database.stop()


@pytest.fixture(scope="module")
def told(site):
    """What the driver said of each case."""
    site.query('select id, name, email as "<b onclick=hit()>bold</b>" from customers where id < 4')
    done = subprocess.run(
        ["node", DRIVER], input=json.dumps(site.facts()), capture_output=True, text=True, timeout=SECONDS, check=False,
    )
    print(done.stderr)
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.returncode == 0, done.stdout + done.stderr
    return {one["case"]: one["error"] for one in found}


@pytest.mark.parametrize("case", CASES)
def test_in_a_browser(told, case):
    assert case in told, sorted(told)
    assert told[case] is None, told[case]


def test_every_case_is_a_test(told):
    assert sorted(told) == sorted(CASES)


def test_every_look_into_the_record_is_in_the_log(told, site):
    looks = [line for line in site.log.read_text().splitlines() if "looked into the record" in line]
    assert looks and all("lea" in line and "exchange" in line for line in looks), looks
