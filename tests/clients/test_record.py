"""What is in the record, and what never left the gateway?"""

import json
import urllib.error
import urllib.request
from pathlib import Path

import openai
import pytest
from conftest import CARD, EMAIL, assert_masked
from test_openai import ASK, MODEL, options


def sessions(demo):
    done = demo.weirgate("sessions", "list", "--data", demo.facts["data_dir"], "--json")
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def call(demo, person, **more):
    with openai.OpenAI(**options(demo, "plain", demo.tokens[person])) as client:
        return client.chat.completions.with_raw_response.create(
            model=MODEL, messages=ASK, **more
        )


def test_the_provider_got_the_real_key_and_no_token_of_a_caller(demo):
    answer = call(demo, "ana")
    keys = demo.real_keys()
    assert keys and not keys & set(demo.tokens.values())
    for request in demo.stand_in()["all"]:
        for token in demo.tokens.values():
            assert token not in request["head"]
        slots = {"authorization", "x-api-key", "api-key", "x-goog-api-key", "cookie"}
        assert len(slots & request["fields"].keys()) == 1
    everything = answer.text + repr(answer.headers)
    for key in keys:
        assert key not in everything


def test_an_answer_that_echoes_the_real_key_does_not_bring_it(demo):
    call(demo, "ana")
    for key in demo.real_keys():
        messages = [{"role": "user", "content": f"echo:the key is {key} indeed"}]
        for stream in (False, True):
            with openai.OpenAI(**options(demo, "plain", demo.tokens["ana"])) as client:
                try:
                    answer = client.chat.completions.with_raw_response.create(
                        model=MODEL, messages=messages, stream=stream
                    )
                    text = answer.http_response.read().decode()
                except Exception as refused:  # a cut stream is as good as a refusal
                    text = str(refused)
            joined = ""
            for line in text.splitlines():
                if line.startswith("data: {"):
                    for choice in json.loads(line[6:])["choices"]:
                        joined += choice["delta"].get("content") or ""
            assert key not in text
            assert key not in joined


def test_exchanges_and_refusals_are_listed(demo):
    allowed = call(demo, "ana").headers["x-request-id"]
    with pytest.raises(openai.PermissionDeniedError) as caught:
        call(demo, "bob")
    refused = caught.value.request_id
    listed = {entry["id"]: entry for entry in sessions(demo)}
    mine = [entry for entry in listed.values() if allowed in (entry["id"], *entry["request_ids"])]
    assert len(mine) == 1, f"{allowed} is not in {list(listed)}"
    assert mine[0]["sub"] == "ana"
    assert mine[0]["resource"] == "openai"
    assert mine[0]["status"] == 200
    assert mine[0]["bytes_out"] > 0
    theirs = [entry for entry in listed.values() if refused in (entry["id"], *entry["request_ids"])]
    assert len(theirs) == 1
    assert theirs[0]["sub"] == "bob"
    assert theirs[0]["status"] == 403
    assert mine[0]["decision"] != theirs[0]["decision"]


def test_a_replay_shows_the_masked_exchange(demo):
    prompt = f"echo:replayed {EMAIL} with {CARD} end"
    with openai.OpenAI(**options(demo, "plain", demo.tokens["ana"])) as client:
        answer = client.chat.completions.with_raw_response.create(
            model=MODEL, messages=[{"role": "user", "content": prompt}]
        )
    request_id = answer.headers["x-request-id"]
    done = demo.weirgate("sessions", "replay", request_id, "--data", demo.facts["data_dir"])
    assert done.returncode == 0, done.stderr
    assert "replayed [EMAIL]" in done.stdout
    assert_masked(done.stdout)


def test_the_record_verifies(demo):
    done = demo.weirgate("verify", demo.facts["data_dir"])
    assert done.returncode == 0, done.stdout + done.stderr


def test_no_secret_is_in_a_file_of_the_record(demo):
    call(demo, "ana")
    secrets = [key.encode() for key in demo.real_keys()]
    secrets += [token.encode() for token in demo.tokens.values()]
    for path in Path(demo.facts["data_dir"]).rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            for secret in secrets:
                assert secret not in content, path


def ask_admin(demo, path, token=None):
    request = urllib.request.Request(demo.facts["admin_url"].rstrip("/") + path)
    if token:
        request.add_header("authorization", f"Bearer {token}")
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as refused:
        return refused.code, refused.read().decode()


def test_the_admin_surface_shows_health_and_guards_the_rest(demo):
    call(demo, "ana")
    assert ask_admin(demo, "/healthz")[0] == 200
    assert ask_admin(demo, "/readyz")[0] == 200
    status, text = ask_admin(demo, "/metrics")
    assert status == 200
    assert "weirgate_requests_total{" in text
    for token in (None, "wrong", demo.tokens["bob"]):
        assert ask_admin(demo, "/api/v1/resources", token)[0] in (401, 403)
