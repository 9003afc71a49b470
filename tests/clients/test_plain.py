"""Do curl and Node's fetch work through the gateway, and what do they see?"""

import json
import subprocess
from pathlib import Path

import pytest
from conftest import CARD, assert_masked

BODY = {"model": "gpt-stand-in", "messages": [{"role": "user", "content": "tell me"}]}
FETCH = Path(__file__).with_name("fetch.mjs")


def curl(demo, scheme, *arguments, path="/openai/v1/chat/completions", body=BODY):
    done = subprocess.run(
        ["curl", "-sS", "--noproxy", "*", "--max-time", "20", "--cacert", demo.ca, "-i", "-N"]
        + ["-H", "content-type: application/json", "-d", json.dumps(body), *arguments]
        + [demo.url(scheme) + path],
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
    )
    head, _, rest = done.stdout.replace("\r\n", "\n").partition("\n\n")
    first, *lines = head.split("\n")
    fields = {name.lower(): value.strip() for name, _, value in (f.partition(":") for f in lines)}
    return int(first.split()[1]), fields, rest


def bearer(token):
    return ["-H", f"authorization: Bearer {token}"]


def test_curl_gets_a_masked_answer(demo, scheme):
    status, fields, body = curl(demo, scheme, *bearer(demo.tokens["ana"]))
    assert status == 200
    assert fields["x-request-id"]
    assert_masked(json.loads(body)["choices"][0]["message"]["content"])


def test_curl_gets_a_masked_stream(demo, scheme):
    status, fields, body = curl(
        demo, scheme, *bearer(demo.tokens["ana"]), body={**BODY, "stream": True}
    )
    assert status == 200
    assert fields["content-type"].startswith("text/event-stream")
    assert "content-length" not in fields
    assert body.rstrip().endswith("data: [DONE]")
    assert_masked(body, marks=())


def test_every_token_slot_is_read(demo, scheme):
    token = demo.tokens["ana"]
    for slot in ("x-api-key", "api-key", "x-goog-api-key"):
        status, _, _ = curl(demo, scheme, "-H", f"{slot}: {token}")
        assert status == 200, slot


def test_older_anthropic_sdks_fill_x_api_key(demo, scheme):
    status, _, body = curl(
        demo,
        scheme,
        *("-H", f"x-api-key: {demo.tokens['ana']}", "-H", "anthropic-version: 2023-06-01"),
        path="/anthropic/v1/messages",
        body={**BODY, "max_tokens": 64},
    )
    assert status == 200
    assert_masked(json.loads(body)["content"][0]["text"])


def test_two_filled_slots_are_refused(demo, scheme):
    token = demo.tokens["ana"]
    status, _, _ = curl(demo, scheme, *bearer(token), "-H", f"x-api-key: {token}")
    assert status == 401


def test_no_token_is_refused_as_a_problem(demo, scheme):
    status, fields, body = curl(demo, scheme)
    assert status == 401
    assert fields["content-type"] == "application/problem+json"
    assert fields["x-should-retry"] == "false"
    problem = json.loads(body)
    assert problem["status"] == 401
    assert problem["request_id"] == fields["x-request-id"]
    assert {"type", "title", "detail", "error"} <= problem.keys()


def test_an_unknown_resource_tells_nothing(demo, scheme):
    status, _, body = curl(demo, scheme, *bearer(demo.tokens["ana"]), path="/nowhere/v1/x")
    assert status in (403, 404)
    assert json.loads(body)["status"] == status


@pytest.mark.parametrize("how", ["whole", "stream"])
def test_node_fetch(demo, scheme, how):
    def fetch(person):
        done = subprocess.run(
            ["node", FETCH, demo.url(scheme), demo.tokens[person], how],
            capture_output=True,
            text=True,
            check=True,
            timeout=30,
        )
        return json.loads(done.stdout)

    answer = fetch("ana")
    assert answer["status"] == 200 and answer["id"]
    assert_masked(answer["text"])
    assert CARD not in answer["raw"]
    refused = fetch("bob")
    assert refused["status"] == 403
    assert json.loads(refused["raw"])["request_id"] == refused["id"]
