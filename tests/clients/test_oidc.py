"""Callers and approvers by tokens of a real OpenID provider, with everything that it does wrong on
purpose: other audiences, other browsers, replays, keys that come and go."""

import base64
import hashlib
import html
import json
import os
import re
import signal
import subprocess
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlencode, urljoin, urlsplit

import pytest
import requests
from conftest import BINARY, first_line
from postgres_kit import free_port

SERVER = Path(__file__).with_name("oidc.cjs")
GATE = "https://gate.test"
PAGE_SECRET = "the secret of the page & its %"
DEVICE = "urn:ietf:params:oauth:grant-type:device_code"

POLICY = """
[[rule]]
id = "robots"
effect = "allow"
who  = { groups = ["robots"] }
what = { resource = ["llm"] }

[[rule]]
id = "ask-first"
effect = "require_approval"
who  = { groups = ["analysts"] }
what = { resource = ["llm"], method = ["POST"] }
then = { approval = { approvers = ["dba"] } }
"""


class Upstream(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_POST(self):
        self.rfile.read(int(self.headers.get("content-length", 0)))
        self.send_response(200)
        self.send_header("content-length", "2")
        self.end_headers()
        self.wfile.write(b"ok")

    do_GET = do_POST


class Provider:
    """The provider as a process, and what clients ask of it."""

    def __init__(self, port, clients):
        self.url = f"http://127.0.0.1:{port}"
        self.process = subprocess.Popen(
            ["node", SERVER, str(port), json.dumps(clients)],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        )
        first_line(self.process, 30)

    def stop(self):
        end(self.process)

    def tell(self, **what):
        requests.post(self.url + "/__test", json=what, timeout=10).raise_for_status()

    def token(self, client, secret=None, **form):
        auth = (client, secret) if secret else None
        fields = form if secret else {"client_id": client, **form}
        answer = requests.post(self.url + "/token", data=fields, auth=auth, timeout=10)
        return answer.status_code, answer.json()

    def robot(self, resource=GATE, client="robot"):
        """A service, by client credentials."""
        wanted = {"grant_type": "client_credentials", "scope": "call", "resource": resource}
        status, told = self.token(client, f"the-secret-of-{client}", **wanted)
        assert status == 200, told
        return told["access_token"]

    def device(self, who):
        """A person at a device, which shows a code that is entered elsewhere."""
        asked = requests.post(
            self.url + "/device/auth", timeout=10,
            data={"client_id": "device", "scope": "openid call", "resource": GATE},
        ).json()
        poll = {"grant_type": DEVICE, "device_code": asked["device_code"], "resource": GATE}
        assert self.token("device", **poll)[1]["error"] == "authorization_pending"
        through_pages(requests.Session(), asked["verification_uri_complete"], who)
        status, told = self.token("device", **poll)
        assert status == 200, told
        return told

    def code(self, who):
        """A person at a program on its own machine: code flow with PKCE."""
        verifier = base64.urlsafe_b64encode(os.urandom(32)).rstrip(b"=").decode()
        digest = hashlib.sha256(verifier.encode()).digest()
        back = "http://127.0.0.1:7/back"
        query = {
            "client_id": "program", "response_type": "code", "redirect_uri": back,
            "scope": "openid call groups", "state": "s", "nonce": "n", "resource": GATE,
            "code_challenge": base64.urlsafe_b64encode(digest).rstrip(b"=").decode(),
            "code_challenge_method": "S256",
        }
        went = through_pages(requests.Session(), f"{self.url}/auth?{urlencode(query)}", who, back)
        answer = parse_qs(urlsplit(went).query)
        status, told = self.token(
            "program", grant_type="authorization_code", code=answer["code"][0],
            redirect_uri=back, code_verifier=verifier, resource=GATE,
        )
        assert status == 200, told
        return told


def through_pages(session, url, who, back=None):
    """Walks the provider's own pages: signs in as `who`, says yes to everything. Returns the
    address below `back` that the browser is sent to, or the last page's text."""
    answer = session.get(url, allow_redirects=False, timeout=10)
    for _ in range(20):
        if answer.is_redirect:
            to = urljoin(answer.url, answer.headers["location"])
            if back and to.startswith(back):
                return to
            answer = session.get(to, allow_redirects=False, timeout=10)
            continue
        form = re.search(r"<form[^>]*action=\"([^\"]+)\"[^>]*>(.*?)</form>", answer.text, re.S)
        if not form:
            return answer.text
        fields = {}
        for tag in re.findall(r"<input[^>]*>", form.group(2)):
            at = dict(re.findall(r"(\w+)=\"([^\"]*)\"", tag))
            if "name" in at:
                fields[at["name"]] = html.unescape(at.get("value", ""))
        if "login" in fields:
            fields.update(login=who, password="x")
        # Of the device's page the button says yes.
        for tag in re.findall(r"<button[^>]*>", form.group(2)):
            at = dict(re.findall(r"(\w+)=\"([^\"]*)\"", tag))
            if "name" in at and at.get("value") == "yes":
                fields[at["name"]] = at["value"]
        to = urljoin(answer.url, html.unescape(form.group(1)))
        answer = session.post(to, data=fields, allow_redirects=False, timeout=10)
    raise AssertionError(f"no end of pages: {answer.text}")


class Gateway:
    """`weirgate serve` whose people sign in at the provider."""

    def __init__(self, folder, provider, admin, upstream, profile, sign_in, ready=True):
        self.folder, self.provider = folder, provider
        self.admin, self.port = f"http://127.0.0.1:{admin}", free_port()
        folder.mkdir()
        (folder / "key").write_text("the-key-of-the-upstream-0123")
        (folder / "key").chmod(0o600)
        (folder / "page-secret").write_text(PAGE_SECRET)
        (folder / "page-secret").chmod(0o600)
        (folder / "policy.toml").write_text(POLICY)
        self.config = folder / "gateway.toml"
        self.config.write_text(f"""
include = ["policy.toml"]
[gateway]
workers = 1
data_dir = "record"
ring_dir = "{folder}"
[admin]
address = "127.0.0.1:{admin}"
issuer = "idp"
viewers = ["security"]
public_url = "{self.admin}"
sign_in = {sign_in}
[[issuer]]
name = "idp"
issuer = "{provider}"
audience = ["{GATE}"]
algorithms = ["RS256", "ES256"]
profile = "{profile}"
[[listener]]
name = "api"
address = "127.0.0.1:{self.port}"
protocol = "http"
[[resource]]
name = "llm"
protocol = "http"
upstream = "http://127.0.0.1:{upstream}"
credential = {{ kind = "bearer", secret = "file:key" }}
""")
        self.log = folder / "log"
        self.process = subprocess.Popen(
            [BINARY, "serve", "-c", self.config], stdin=subprocess.DEVNULL,
            stderr=open(self.log, "ab"), stdout=subprocess.DEVNULL,
        )
        deadline = time.monotonic() + 30
        while True:
            try:
                status = requests.get(self.admin + "/readyz", timeout=2).status_code
                if status == 200 or not ready:
                    return
            except requests.ConnectionError:
                pass
            if time.monotonic() > deadline or self.process.poll() is not None:
                raise RuntimeError(self.log.read_text())
            time.sleep(0.05)

    def stop(self):
        end(self.process)

    def call(self, token, wait=None):
        fields = {"authorization": f"Bearer {token}"}
        if wait is not None:
            fields["prefer"] = f"wait={wait}"
        return requests.post(
            f"http://127.0.0.1:{self.port}/llm/do", data=b"{}", headers=fields, timeout=30
        )


class Browser:
    """Cookies, the provider's pages by hand, and what the scripts of our pages do."""

    def __init__(self, gateway):
        self.gateway, self.admin = gateway, gateway.admin
        self.session = requests.Session()
        self.csrf = None

    def begin(self, path="/sign-in"):
        """To the issuer; returns the address there."""
        answer = self.session.get(self.admin + path, allow_redirects=False, timeout=10)
        assert answer.status_code == 303, answer.text
        return answer.headers["location"]

    def back(self, to, who):
        """Through the issuer's pages; returns the query that it sends the browser back with."""
        callback = self.admin + "/sign-in/callback"
        came = through_pages(self.session, to, who, callback)
        page = self.session.get(came, timeout=10)
        assert page.status_code == 200 and "set-cookie" not in page.headers
        assert self.me().status_code == 401, "a GET signs nobody in"
        return "?" + urlsplit(came).query

    def finish(self, query, **fields):
        return self.session.post(
            self.admin + "/sign-in/callback", json={"query": query}, timeout=30,
            headers={"origin": self.admin, "sec-fetch-site": "same-origin", **fields},
        )

    def sign_in(self, who):
        done = self.finish(self.back(self.begin(), who))
        assert done.status_code == 200, done.text
        self.csrf = self.me().json()["csrf"]
        return self

    def cookie(self):
        return {"weirgate": self.session.cookies["weirgate"]}

    def me(self):
        return self.session.get(self.admin + "/api/v1/me", timeout=10)

    def get(self, path):
        return self.session.get(self.admin + path, timeout=10)

    def post(self, path, body, csrf=True):
        fields = {"x-weirgate-csrf": self.csrf} if csrf else {}
        return self.session.post(self.admin + path, json=body, headers=fields, timeout=10)


def end(process):
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(timeout=40)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


class Site:
    pass


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("oidc")
    upstream = ThreadingHTTPServer(("127.0.0.1", 0), Upstream)
    threading.Thread(target=upstream.serve_forever, daemon=True).start()
    by_access, by_id, port = free_port(), free_port(), free_port()
    code = {"grant_types": ["authorization_code"], "response_types": ["code"]}
    none = {"response_types": [], "redirect_uris": []}
    native = {"application_type": "native", "token_endpoint_auth_method": "none"}
    page = {"application_type": "native", **code}

    def robot(name):
        return {"client_id": name, "client_secret": f"the-secret-of-{name}",
                "grant_types": ["client_credentials"], **none}

    clients = [
        robot("robot"), robot("other"),
        {"client_id": "device", **native, "grant_types": [DEVICE], **none},
        {"client_id": "program", **native, **code, "redirect_uris": ["http://127.0.0.1:7/back"]},
        {"client_id": "page", "client_secret": PAGE_SECRET, **page,
         "redirect_uris": [f"http://127.0.0.1:{by_access}/sign-in/callback"]},
        {"client_id": "id-page", **page, "token_endpoint_auth_method": "none",
         "redirect_uris": [f"http://127.0.0.1:{by_id}/sign-in/callback"]},
    ]
    site = Site()
    started = []
    try:
        site.provider = Provider(port, clients)
        started.append(site.provider)
        upstream_port = upstream.server_port
        sign_in = (
            '{ client_id = "page", client_secret = "file:page-secret", '
            f'scope = "openid call", resource = "{GATE}" }}'
        )
        site.gateway = Gateway(
            folder / "access", site.provider.url, by_access, upstream_port, "rfc9068", sign_in
        )
        started.append(site.gateway)
        sign_in = '{ client_id = "id-page", scope = "openid groups", token = "id" }'
        site.by_id = Gateway(
            folder / "id", site.provider.url, by_id, upstream_port, "rfc9068", sign_in
        )
        started.append(site.by_id)
        yield site
    finally:
        for one in reversed(started):
            one.stop()
        upstream.shutdown()


def test_callers_come_by_client_credentials_device_and_code(site):
    provider, gateway = site.provider, site.gateway
    assert gateway.call(provider.robot()).status_code == 200
    for told in (provider.device("ana"), provider.code("ana")):
        waits = gateway.call(told["access_token"], wait=0)
        assert waits.status_code == 403, "a person of `analysts` is asked about"
        assert waits.headers["x-approval-request"]
    assert gateway.call(provider.device("bob")["access_token"]).status_code == 403


def test_tokens_of_another_kind_or_for_another_are_refused(site):
    provider, gateway = site.provider, site.gateway
    person = provider.code("ana")
    good = provider.robot()
    head, claims, signature = good.split(".")
    padded = base64.urlsafe_b64decode(claims + "=" * (-len(claims) % 4))
    other = json.dumps({**json.loads(padded), "sub": "root"}).encode()
    forged = base64.urlsafe_b64encode(other).rstrip(b"=").decode()
    bad = {
        "audience": provider.robot("https://other.test"),
        "id token": person["id_token"],
        "opaque": provider.robot(GATE + "/opaque"),
        "claims": f"{head}.{forged}.{signature}",
        "none": f"{head}.{claims}.",
    }
    for kind, token in bad.items():
        assert gateway.call(token).status_code == 401, kind
        admin = {"authorization": f"Bearer {token}"}
        me = requests.get(gateway.admin + "/api/v1/me", headers=admin, timeout=10)
        assert me.status_code == 401, kind
    # A page whose sessions stand on ID tokens takes none from anybody else.
    admin = {"authorization": f"Bearer {person['id_token']}"}
    me = requests.get(site.by_id.admin + "/api/v1/me", headers=admin, timeout=10)
    assert me.status_code == 401
    assert gateway.call(good).status_code == 200


def test_an_approver_signs_in_and_votes_with_cookie_and_csrf(site):
    gateway = site.gateway
    ana = site.provider.code("ana")["access_token"]
    held = []
    call = threading.Thread(target=lambda: held.append(gateway.call(ana, wait=25)))
    call.start()
    dora = Browser(gateway).sign_in("dora")
    me = dora.me().json()
    assert (me["sub"], me["iss"], me["groups"]) == ("dora", site.provider.url, ["dba"])
    assert me["viewer"] is False and me["sign_in"] == {"oidc": True}
    assert dora.get("/api/v1/resources").status_code == 403, "no viewer"
    deadline = time.monotonic() + 10
    while not (found := dora.get("/api/v1/approvals?state=pending").json()):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    one, vote = found[0], {"digest": found[0]["digest"], "reason": "seen"}
    approve = f"/api/v1/approvals/{one['id']}/approve"
    without = dora.post(approve, vote, csrf=False)
    assert without.status_code == 403 and without.json()["type"].endswith("/csrf")
    foreign = dora.session.post(
        gateway.admin + approve, json=vote, timeout=10,
        headers={"x-weirgate-csrf": dora.csrf, "origin": "https://evil.example"},
    )
    assert foreign.status_code == 403
    # Whoever asked signs in, too, and decides nothing of its own.
    own = Browser(gateway).sign_in("ana")
    refused = own.post(approve, vote)
    assert refused.status_code == 403 and refused.json()["type"].endswith("/own-request")
    assert dora.post(approve, vote).json()["state"] == "approved"
    call.join(30)
    assert [answer.status_code for answer in held] == [200]
    # And out again.
    cookie = dora.cookie()
    assert dora.post("/sign-out", {}, csrf=False).status_code == 403
    assert dora.post("/sign-out", {}).status_code == 204
    kept = requests.get(gateway.admin + "/api/v1/me", cookies=cookie, timeout=10)
    assert kept.status_code == 401


def test_id_tokens_tell_who_it_is_where_the_config_says_so(site):
    vera = Browser(site.by_id).sign_in("vera")
    me = vera.me().json()
    assert (me["sub"], me["groups"], me["viewer"]) == ("vera", ["security"], True)
    assert vera.get("/api/v1/resources").status_code == 200
    # The sessions of one gateway are none of another's.
    cookies = vera.cookie()
    other = requests.get(site.gateway.admin + "/api/v1/me", cookies=cookies, timeout=10)
    assert other.status_code == 401


def test_a_reload_counts_from_the_next_request_on(site):
    gateway = site.by_id
    vera, kept = Browser(gateway).sign_in("vera"), gateway.config.read_text()
    log = len(gateway.log.read_text())

    def reload(text):
        gateway.config.write_text(text)
        gateway.process.send_signal(signal.SIGHUP)
        deadline = time.monotonic() + 10
        while gateway.log.read_text()[log:].count("config taken over") < reload.count:
            assert time.monotonic() < deadline, gateway.log.read_text()
            time.sleep(0.05)
        reload.count += 1

    reload.count = 1
    reload(kept.replace('viewers = ["security"]', 'viewers = ["others"]'))
    assert vera.me().json()["viewer"] is False
    assert vera.get("/api/v1/resources").status_code == 403
    # What its session holds tells nothing any more, and it is over.
    reload(kept.replace(', token = "id"', ""))
    assert vera.me().status_code == 401
    reload(kept)
    assert vera.me().status_code == 401


def test_answers_that_are_not_to_this_browsers_question_are_refused(site):
    gateway = site.gateway

    def kind(answer):
        assert "weirgate=" not in answer.headers.get("set-cookie", ""), answer.headers
        return answer.status_code, answer.json()["type"].rsplit("/", 1)[1]

    def asked(who="dora"):
        browser = Browser(gateway)
        return browser, browser.back(browser.begin(), who)

    browser, query = asked()
    fields = {name: values[0] for name, values in parse_qs(query[1:]).items()}
    assert fields["iss"] == site.provider.url
    # Of another browser, without the cookie, or from another page.
    assert kind(Browser(gateway).finish(query)) == (403, "state-over")
    stranger = Browser(gateway)
    stranger.begin()
    assert kind(stranger.finish(query)) == (403, "state-over")
    assert kind(browser.finish(query, origin="https://evil.example")) == (403, "origin")
    assert kind(browser.finish(query, **{"sec-fetch-site": "cross-site"})) == (403, "origin")
    assert kind(browser.finish(query, host="evil.example")) == (421, "host")
    # With another state, or a member twice.
    wrong = {**fields, "state": "x" * 43}
    assert kind(browser.finish("?" + urlencode(wrong))) == (403, "state-over")
    assert kind(browser.finish(query + "&code=x")) == (403, "mixed-up")
    # And then with the right one, once.
    assert browser.finish(query).status_code == 200
    assert kind(browser.finish(query)) == (403, "state-over")
    # Of another issuer, or of none; the question is used up.
    for change in ({"iss": "https://evil.example"}, {"iss": None}):
        browser, query = asked()
        fields = {name: values[0] for name, values in parse_qs(query[1:]).items()}
        mixed = {name: value for name, value in {**fields, **change}.items() if value}
        assert kind(browser.finish("?" + urlencode(mixed))) == (403, "mixed-up")
        assert kind(browser.finish(query)) == (403, "state-over")
    # A code of somebody else's sign-in, put into one's own: PKCE and the code's one use.
    victim, theirs = asked("vera")
    browser, query = asked()
    swapped = {name: values[0] for name, values in parse_qs(query[1:]).items()}
    swapped["code"] = parse_qs(theirs[1:])["code"][0]
    assert kind(browser.finish("?" + urlencode(swapped))) == (403, "denied")
    assert browser.me().status_code == 401
    # The person says no.
    browser = Browser(gateway)
    state = parse_qs(urlsplit(browser.begin()).query)["state"][0]
    no = {"error": "access_denied", "state": state, "iss": site.provider.url}
    assert kind(browser.finish("?" + urlencode(no))) == (403, "denied")
    # An old session is not gone on with under the same name.
    browser = Browser(gateway).sign_in("dora")
    old = browser.cookie()
    query = "?" + urlsplit(
        through_pages(browser.session, browser.begin(), "dora", gateway.admin + "/sign-in/callback")
    ).query
    assert browser.finish(query).status_code == 200
    kept = requests.get(gateway.admin + "/api/v1/me", cookies=old, timeout=10)
    assert kept.status_code == 401


def test_a_link_signs_a_browser_in_with_the_token_of_a_terminal(site):
    token = site.provider.device("dora")["access_token"]
    done = subprocess.run(
        [BINARY, "approvals", "open", "--json", "-c", site.gateway.config],
        capture_output=True, text=True, timeout=30, check=True,
        env={**os.environ, "WEIRGATE_TOKEN": token},
    )
    url, _, link = json.loads(done.stdout)["url"].partition("#")
    assert url == site.gateway.admin + "/sign-in/link"
    browser = Browser(site.gateway)
    page = browser.session.get(url, timeout=10)
    assert link not in page.text and "dora" not in page.text
    look = browser.session.post(url + "/look", json={"link": link}, timeout=10)
    assert look.json() == {"iss": site.provider.url, "sub": "dora"}
    assert browser.session.post(url, json={"link": link}, timeout=10).status_code == 204
    assert browser.me().json()["sub"] == "dora"
    assert browser.session.post(url, json={"link": link}, timeout=10).status_code == 410
    log = site.gateway.log.read_text()
    assert link not in log and token not in log and "a person signed in" in log


def test_a_provider_that_is_down_is_named_and_nothing_of_it_is_believed(site, tmp_path):
    browser = Browser(site.gateway)
    query = browser.back(browser.begin(), "dora")
    site.provider.tell(down=True)
    try:
        down = browser.finish(query)
        assert down.status_code == 502 and "set-cookie" not in down.headers
        assert down.json()["type"].endswith("/issuer-unreachable")
        assert "token endpoint: unreachable" in site.gateway.log.read_text()
        # Nobody has asked it before: the browser stays here and is told.
        admin = free_port()
        sign_in = '{ client_id = "id-page", token = "id" }'
        fresh = Gateway(
            tmp_path / "fresh", site.provider.url, admin, 9, "rfc9068", sign_in, ready=False
        )
        try:
            told = requests.get(fresh.admin + "/sign-in", allow_redirects=False, timeout=10)
            assert told.status_code == 502 and "The issuer cannot be reached" in told.text
            assert "discovery" in fresh.log.read_text()
        finally:
            fresh.stop()
    finally:
        site.provider.tell(down=False)
    Browser(site.gateway).sign_in("dora")


def test_keys_come_and_go_while_everything_runs(site):
    """The last one: the provider goes on with other keys."""
    provider, gateway = site.provider, site.gateway
    old_token, old_browser = provider.robot(), Browser(gateway).sign_in("dora")
    provider.tell(keys=["ec-2", "rsa-1"])
    new_token = provider.robot()
    assert new_token.split(".")[0] != old_token.split(".")[0]
    # One fetch in ten seconds at most: the last one may have been just before.
    until_taken(gateway, new_token)
    assert gateway.call(old_token).status_code == 200, "its key is in the set"
    assert old_browser.me().status_code == 200
    new_browser = Browser(gateway).sign_in("dora")
    provider.tell(keys=["rsa-3", "ec-2"])
    until_taken(gateway, provider.robot())
    assert gateway.call(new_token).status_code == 200
    assert gateway.call(old_token).status_code == 401, "its key was removed"
    assert old_browser.me().status_code == 401, "and so was what it had signed in"
    assert new_browser.me().status_code == 200
    # A sign-in with a key that nobody has seen waits for it, as far as one may wait.
    assert Browser(site.by_id).sign_in("vera").me().status_code == 200


def until_taken(gateway, token):
    deadline = time.monotonic() + 14
    while gateway.call(token).status_code != 200:
        assert time.monotonic() < deadline, "a new key is taken within seconds"
        time.sleep(0.3)
