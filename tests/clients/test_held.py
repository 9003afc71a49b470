"""Do unmodified clients wait for a person, and what do they make of the answer?"""

import asyncio
import json
import os
import signal
import subprocess
import threading
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import aiohttp
import anthropic
import openai
import pytest
import requests
from conftest import BINARY
from postgres_kit import ISSUER, Issuer, free_port

FETCH = Path(__file__).with_name("fetch.mjs")
KEY = "the-key-of-the-provider-0123456789"
# Longer than any client waits for a byte, shorter than two signs of life.
READ_SECONDS = 6
HELD_SECONDS = 8
SAID = "it is done"
MODEL = "gpt-stand-in"

POLICY = """
[[rule]]
id = "ask-first"
effect = "require_approval"
who  = { groups = ["analysts"] }
what = { method = ["POST"] }
then = { mask = ["pii"], approval = { approvers = ["leads"] } }

[[rule]]
id = "ask-for-a-reason"
effect = "require_approval"
who  = { groups = ["oncall"] }
what = { method = ["POST"] }
then = { approval = { approvers = ["leads"], break_glass = true, ttl = "1m" } }
"""


class Upstream(BaseHTTPRequestHandler):
    """Answers as either provider, and keeps what it was asked."""

    protocol_version = "HTTP/1.1"
    heard = []

    def log_message(self, *_):
        pass

    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        self.heard.append((self.path, dict(self.headers), body))
        kind, text = "application/json", json.dumps(answer_of(self.path))
        if json.loads(body).get("stream"):
            kind, text = "text/event-stream", stream()
        data = text.encode()
        self.send_response(200)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


def answer_of(path):
    if path.endswith("/messages"):
        return {
            "id": "m", "type": "message", "role": "assistant", "model": "claude",
            "content": [{"type": "text", "text": SAID}], "stop_reason": "end_turn",
            "stop_sequence": None, "usage": {"input_tokens": 1, "output_tokens": 1},
        }
    choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": SAID}}
    return {"id": "c", "object": "chat.completion", "created": 1, "model": MODEL, "choices": [choice]}


def stream():
    events = []
    for word in SAID.split(" "):
        choice = {"index": 0, "delta": {"content": word + " "}, "finish_reason": None}
        event = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": MODEL}
        events.append("data: " + json.dumps({**event, "choices": [choice]}) + "\n\n")
    return "".join(events) + "data: [DONE]\n\n"


class Held:
    """`weirgate serve` with a rule that asks, and the people who are asked."""

    def __init__(self, folder):
        self.upstream = ThreadingHTTPServer(("127.0.0.1", 0), Upstream)
        threading.Thread(target=self.upstream.serve_forever, daemon=True).start()
        self.issuer = Issuer(folder)
        self.folder = folder
        self.ports = {"plain": free_port(), "tls": free_port(), "admin": free_port()}
        subprocess.run([BINARY, "cert", "dev", "--dir", folder / "tls"], check=True, capture_output=True)
        self.ca = folder / "tls" / "ca.pem"
        (folder / "key").write_text(KEY)
        (folder / "key").chmod(0o600)
        (folder / "policy.toml").write_text(POLICY)
        self.config = folder / "gateway.toml"
        to = f"http://127.0.0.1:{self.upstream.server_port}"
        self.config.write_text(f"""
include = ["policy.toml"]
[gateway]
workers = 2
data_dir = "record"
ring_dir = "{folder}"
[admin]
address = "127.0.0.1:{self.ports["admin"]}"
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
address = "127.0.0.1:{self.ports["plain"]}"
protocol = "http"
[[listener]]
name = "api-tls"
address = "127.0.0.1:{self.ports["tls"]}"
protocol = "http"
tls = {{ cert = "tls/cert.pem", key = "tls/key.pem" }}
[[resource]]
name = "openai"
protocol = "http"
upstream = "{to}"
shape = "openai"
credential = {{ kind = "bearer", secret = "file:key" }}
[[resource]]
name = "anthropic"
protocol = "http"
upstream = "{to}"
shape = "anthropic"
credential = {{ kind = "header", name = "x-api-key", secret = "file:key" }}
[[mask]]
name = "pii"
detect = ["email"]
""")
        self.start()

    def start(self):
        self.process = subprocess.Popen(
            [BINARY, "serve", "-c", self.config], stdin=subprocess.DEVNULL,
            stderr=open(self.folder / "log", "ab"), stdout=subprocess.DEVNULL,
        )
        deadline = time.monotonic() + 30
        while True:
            try:
                # A listener of one that was killed may take a connection for a moment yet.
                urllib.request.urlopen(f"http://127.0.0.1:{self.ports['admin']}/readyz", timeout=1).close()
                return
            except OSError:
                if time.monotonic() > deadline or self.process.poll() is not None:
                    raise RuntimeError((self.folder / "log").read_text()) from None
                time.sleep(0.05)

    def stop(self, kill=False):
        self.process.send_signal(signal.SIGKILL if kill else signal.SIGTERM)
        try:
            self.process.wait(timeout=40)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def url(self, scheme):
        return f"http{'s' if scheme == 'tls' else ''}://localhost:{self.ports[scheme]}"

    def token(self, who="ana", *groups):
        return self.issuer.token(who, *(groups or ("analysts",)))

    def weirgate(self, *arguments, who="lea", groups=("leads",)):
        return subprocess.run(
            [BINARY, *arguments, "--admin", f"http://127.0.0.1:{self.ports['admin']}"],
            capture_output=True, text=True, timeout=60, check=False,
            env={**os.environ, "WEIRGATE_TOKEN": self.token(who, *groups)},
        )

    def show(self, request):
        told = self.weirgate("approvals", "show", request, "--json")
        assert told.returncode == 0, told.stderr
        return json.loads(told.stdout)

    def pending(self, count):
        """Waits for so many requests that wait."""
        deadline = time.monotonic() + 30
        while True:
            told = self.weirgate("approvals", "list", "--state", "pending", "--json")
            assert told.returncode == 0, told.stderr
            found = [json.loads(line) for line in told.stdout.splitlines()]
            if len(found) == count:
                # A list has the heads of long summaries only.
                return [self.show(one["id"]) for one in found]
            assert time.monotonic() < deadline, found
            time.sleep(0.1)


@pytest.fixture(scope="module")
def held(tmp_path_factory):
    site = Held(tmp_path_factory.mktemp("held"))
    saved = {name: os.environ.get(name) for name in TRUST}
    for name in TRUST:
        os.environ[name] = str(site.ca)
    yield site
    for name, value in saved.items():
        os.environ.pop(name) if value is None else os.environ.update({name: value})
    site.stop()
    site.upstream.shutdown()


TRUST = ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "NODE_EXTRA_CA_CERTS")


def asked(mark):
    return f"{mark}: delete what ana.berg@example.com asked for"


def chat(mark):
    return {"model": MODEL, "messages": [{"role": "user", "content": asked(mark)}]}


def by_openai(held, url, mark):
    with openai.OpenAI(
        base_url=url + "/openai/v1", api_key=held.token(), timeout=READ_SECONDS, max_retries=0
    ) as client:
        return client.chat.completions.create(**chat(mark)).choices[0].message.content


def by_openai_stream(held, url, mark):
    with openai.OpenAI(
        base_url=url + "/openai/v1", api_key=held.token(), timeout=READ_SECONDS, max_retries=0
    ) as client:
        parts = client.chat.completions.create(**chat(mark), stream=True)
        return "".join(c.delta.content or "" for part in parts for c in part.choices).strip()


def by_async_openai(held, url, mark):
    async def ask():
        async with openai.AsyncOpenAI(
            base_url=url + "/openai/v1", api_key=held.token(), timeout=READ_SECONDS, max_retries=0
        ) as client:
            answer = await client.chat.completions.create(**chat(mark))
            return answer.choices[0].message.content

    return asyncio.run(ask())


def by_anthropic(held, url, mark):
    with anthropic.Anthropic(
        base_url=url + "/anthropic", api_key=held.token(), timeout=READ_SECONDS, max_retries=0
    ) as client:
        answer = client.messages.create(**chat(mark), max_tokens=9)
        return answer.content[0].text


def by_aiohttp(held, url, mark):
    async def ask():
        timeout = aiohttp.ClientTimeout(total=None, sock_read=READ_SECONDS)
        head = {"authorization": f"Bearer {held.token()}"}
        async with aiohttp.ClientSession(timeout=timeout, trust_env=False) as session:
            path = url + "/openai/v1/chat/completions"
            async with session.post(path, json=chat(mark), headers=head, ssl=context(held)) as answer:
                return reading(answer.status, await answer.json())

    return asyncio.run(ask())


def context(held):
    import ssl

    return ssl.create_default_context(cafile=held.ca)


def by_requests(held, url, mark):
    answer = requests.post(
        url + "/openai/v1/chat/completions", json=chat(mark), timeout=READ_SECONDS,
        headers={"authorization": f"Bearer {held.token()}"}, verify=str(held.ca),
    )
    return reading(answer.status_code, answer.json())


def by_curl(held, url, mark):
    done = subprocess.run(
        ["curl", "-sS", "--noproxy", "*", "--max-time", "30", "--cacert", held.ca, "-w", "\n%{http_code}"]
        + ["-H", "content-type: application/json", "-H", f"authorization: Bearer {held.token()}"]
        + ["-d", json.dumps(chat(mark)), url + "/openai/v1/chat/completions"],
        capture_output=True, text=True, check=True, timeout=40,
    )
    body, _, status = done.stdout.rpartition("\n")
    return reading(int(status), json.loads(body))


def by_node(held, url, mark):
    done = subprocess.run(
        ["node", FETCH, url, held.token(), "whole", asked(mark)],
        capture_output=True, text=True, check=True, timeout=40,
    )
    told = json.loads(done.stdout)
    return reading(told["status"], json.loads(told["raw"]))


def reading(status, body):
    """What the SDKs raise, for the clients that raise nothing."""
    if status == 200:
        return body["choices"][0]["message"]["content"]
    return f"{status} {body['error']['code']} {body['approval']}"


CLIENTS = [
    by_openai, by_openai_stream, by_async_openai, by_anthropic, by_aiohttp, by_requests, by_curl, by_node,
]


def all_at_once(held, scheme, what, then):
    """Every client calls; `then` does something with what waits. `what` tells calls apart."""
    before = len(Upstream.heard)
    with ThreadPoolExecutor(len(CLIENTS)) as pool:
        marks = [f"{client.__name__} {scheme} {what}" for client in CLIENTS]
        calls = [
            pool.submit(client, held, held.url(scheme), mark) for client, mark in zip(CLIENTS, marks)
        ]
        found = held.pending(len(CLIENTS))
        assert len(Upstream.heard) == before, "nothing goes before it is approved"
        then(found)
        return {client.__name__: call for client, call in zip(CLIENTS, calls)}


def test_every_client_waits_longer_than_it_would_and_goes_on(held, scheme):
    before = len(Upstream.heard)

    def approve(found):
        time.sleep(HELD_SECONDS)
        for one in found:
            assert "[EMAIL]" in one["summary"] and "ana.berg@" not in one["summary"]
            told = held.weirgate("approvals", "approve", one["id"], "--reason", "seen")
            assert told.returncode == 0, told.stderr

    calls = all_at_once(held, scheme, "yes", approve)
    assert {name: call.result() for name, call in calls.items()} == {name: SAID for name in calls}
    heard = Upstream.heard[before:]
    assert len(heard) == len(CLIENTS), "each went once"
    for _, fields, body in heard:
        assert KEY in json.dumps(fields)
        assert held.token() not in json.dumps(fields)
        assert b"ana.berg@example.com" in body, "the very bytes go"


def test_every_client_hears_that_a_person_said_no(held, scheme):
    before = len(Upstream.heard)

    def deny(found):
        for one in found:
            told = held.weirgate("approvals", "deny", one["id"], "--reason", "no")
            assert told.returncode == 0, told.stderr

    calls = all_at_once(held, scheme, "no", deny)
    for name, call in calls.items():
        error = call.exception()
        if isinstance(error, (openai.PermissionDeniedError, anthropic.PermissionDeniedError)):
            assert error.status_code == 403
            assert error.body["code"] == "approval-denied" if "openai" in name else True
            assert len(error.response.headers["x-approval-request"]) == 32
        else:
            assert error is None, f"{name}: {error!r}"
            assert call.result().startswith("403 approval-denied "), name
    assert len(Upstream.heard) == before


def post(held, token, body, **fields):
    request = urllib.request.Request(
        held.url("plain") + "/openai/v1/chat/completions", json.dumps(body).encode(),
        {"authorization": f"Bearer {token}", "content-type": "application/json", **fields},
    )
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status, dict(answer.headers), json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, {k.lower(): v for k, v in error.headers.items()}, json.load(error)


def test_who_does_not_wait_hears_the_id_and_finds_the_approval_later_also_after_a_crash(held):
    body = chat("later")
    status, fields, problem = post(held, held.token(), body, Prefer="wait=0")
    assert (status, problem["error"]["code"]) == (403, "approval-required")
    assert fields["x-approval-request"] == problem["approval"]
    again = post(held, held.token(), body, Prefer="wait=0")[2]
    assert again["approval"] == problem["approval"], "the same request"
    held.stop(kill=True)
    held.start()
    [one] = held.pending(1)
    assert one["id"] == problem["approval"]
    # Nobody approves their own, whoever they are.
    own = held.weirgate("approvals", "approve", one["id"], who="ana", groups=("leads",))
    assert own.returncode == 1, own.stdout + own.stderr
    told = held.weirgate("approvals", "approve", one["id"])
    assert told.returncode == 0, told.stderr
    before = len(Upstream.heard)
    assert post(held, held.token(), body)[0] == 200
    assert len(Upstream.heard) == before + 1
    status, _, problem = post(held, held.token(), body, Prefer="wait=0")
    assert (status, len(Upstream.heard)) == (403, before + 1), "once"
    request = urllib.request.Request(
        held.url("plain") + problem["approval_url"], method="DELETE",
        headers={"authorization": f"Bearer {held.token()}"},
    )
    with urllib.request.urlopen(request, timeout=30) as answer:
        assert json.load(answer)["state"] == "cancelled"


def test_the_glass_is_broken_by_a_reason_and_stays_until_it_was_looked_at(held):
    token = held.token("otto", "oncall")
    status, _, problem = post(held, token, chat("glass"))
    assert (status, problem["error"]["code"]) == (403, "reason-required")
    status, _, _ = post(held, token, chat("glass"), **{"X-Weirgate-Reason": "pager 7"})
    assert status == 200
    told = held.weirgate("approvals", "list", "--json")
    found = [json.loads(line) for line in told.stdout.splitlines()]
    [one] = [one for one in found if one["rule"] == "ask-for-a-reason"]
    assert held.weirgate("approvals", "review", one["id"], who="otto").returncode == 1
    assert held.weirgate("approvals", "review", one["id"]).returncode == 0


def test_the_record_tells_the_whole_story(held):
    told = held.weirgate("approvals", "list", "--json")
    consumed = [json.loads(line) for line in told.stdout.splitlines()]
    consumed = [one for one in consumed if one["state"] == "consumed"]
    shown = subprocess.run(
        [BINARY, "sessions", "show", consumed[0]["id"], "-c", held.config],
        capture_output=True, text=True, timeout=60, check=False,
    )
    assert shown.returncode == 0, shown.stderr
    assert "lea" in shown.stdout, shown.stdout
    verified = subprocess.run(
        [BINARY, "verify", held.folder / "record"], capture_output=True, text=True, timeout=60, check=False
    )
    assert verified.returncode == 0, verified.stdout + verified.stderr
    assert KEY not in shown.stdout
