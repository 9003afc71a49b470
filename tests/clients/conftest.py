"""A running `weirgate demo --json`, and what the tests of real clients ask of it."""

import json
import os
import selectors
import signal
import subprocess
import time
import urllib.request
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
BINARY = Path(os.environ.get("WEIRGATE_BIN", ROOT / "target" / "debug" / "weirgate"))
START_SECONDS = 60

# What the stand-in provider puts into its answers.
EMAIL = "ana.berg@example.com"
CARD = "4111 1111 1111 1111"
SSN = "536-90-4399"


def pytest_configure():
    """A run that is ended from outside ends its servers, too."""

    def interrupt(*_):
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, interrupt)


class Demo:
    """The gateway of `weirgate demo`, by the one line of JSON that it prints."""

    def __init__(self, facts):
        self.facts = facts
        self.tokens = facts["tokens"]
        self.ca = facts["ca"]

    def url(self, scheme):
        return self.facts["gateway_tls_url" if scheme == "tls" else "gateway_url"].rstrip("/")

    def stand_in(self):
        """Every request that reached the provider, oldest first."""
        with urllib.request.urlopen(self.facts["stand_in_url"] + "/__all", timeout=10) as answer:
            return json.load(answer)

    def weirgate(self, *arguments):
        return subprocess.run(
            [BINARY, *arguments], capture_output=True, text=True, timeout=60, check=False
        )

    def real_keys(self):
        """The credentials that the provider accepted: the gateway put them in."""
        keys = set()
        for request in self.stand_in()["all"]:
            fields = request["fields"]
            if "authorization" in fields:
                keys.add(fields["authorization"].removeprefix("Bearer "))
            if "x-api-key" in fields:
                keys.add(fields["x-api-key"])
        return keys


def first_line(process, seconds):
    """The first line of stdout, read without waiting for ever."""
    selector = selectors.DefaultSelector()
    selector.register(process.stdout, selectors.EVENT_READ)
    deadline = time.monotonic() + seconds
    line = b""
    while not line.endswith(b"\n"):
        left = deadline - time.monotonic()
        if left <= 0 or not selector.select(left):
            raise TimeoutError(f"no line from `weirgate demo --json` in {seconds} s: {line!r}")
        byte = os.read(process.stdout.fileno(), 1)
        if not byte:
            raise RuntimeError(f"`weirgate demo --json` ended with {process.wait()}: {line!r}")
        line += byte
    return line


def run_demo():
    process = subprocess.Popen(
        [BINARY, "demo", "--json"], stdout=subprocess.PIPE, stdin=subprocess.DEVNULL
    )
    try:
        yield Demo(json.loads(first_line(process, START_SECONDS)))
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(timeout=40)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@pytest.fixture(scope="session")
def demo():
    yield from run_demo()


@pytest.fixture(params=["plain", "tls"])
def scheme(request):
    return request.param


@pytest.fixture(scope="session", autouse=True)
def environment(demo):
    """What `weirgate cert dev` tells people to set; and no key of the outside."""
    saved = dict(os.environ)
    os.environ["SSL_CERT_FILE"] = demo.ca
    os.environ["REQUESTS_CA_BUNDLE"] = demo.ca
    os.environ["NODE_EXTRA_CA_CERTS"] = demo.ca
    for name in list(os.environ):
        if name.lower().endswith("_proxy") or name.startswith(("OPENAI_", "ANTHROPIC_", "LANG")):
            del os.environ[name]
    yield
    os.environ.clear()
    os.environ.update(saved)


def assert_masked(text, marks=("[EMAIL]",)):
    for raw in (EMAIL, CARD, SSN, CARD.replace(" ", "")):
        assert raw not in text, f"{raw} got through"
    for mark in marks:
        assert mark in text, f"no {mark} in {text!r}"
