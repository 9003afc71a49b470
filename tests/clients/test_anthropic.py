"""Does the unmodified Anthropic SDK work through the gateway, masked?"""

import asyncio
import json

import anthropic
import pytest
from conftest import EMAIL, assert_masked

MODEL = "claude-stand-in"
ASK = [{"role": "user", "content": "tell me about the ticket"}]
TOOLS = [
    {
        "name": "send_mail",
        "description": "Sends a mail.",
        "input_schema": {
            "type": "object",
            "properties": {"email": {"type": "string"}, "body": {"type": "string"}},
            "required": ["email", "body"],
        },
    }
]


def options(demo, scheme, token):
    return {"base_url": demo.url(scheme) + "/anthropic", "api_key": token, "timeout": 20}


@pytest.fixture
def client(demo, scheme):
    with anthropic.Anthropic(**options(demo, scheme, demo.tokens["ana"])) as client:
        yield client


def test_a_whole_answer_is_masked(client):
    answer = client.messages.create(model=MODEL, max_tokens=256, messages=ASK)
    assert_masked(answer.content[0].text)
    assert answer.stop_reason == "end_turn"
    assert answer.usage.output_tokens > 10


def test_a_streamed_answer_is_masked_like_the_whole_one(client):
    whole = client.messages.create(model=MODEL, max_tokens=256, messages=ASK).content[0].text
    with client.messages.stream(model=MODEL, max_tokens=256, messages=ASK) as stream:
        deltas = list(stream.text_stream)
        final = stream.get_final_message()
    assert "".join(deltas) == whole
    assert final.content[0].text == whole
    assert_masked(whole)
    assert len(deltas) > 10, "it came as a stream"
    assert final.stop_reason == "end_turn"


def test_raw_events_come_in_order_and_masked(client):
    kinds = []
    text = ""
    for event in client.messages.create(
        model=MODEL, max_tokens=256, messages=ASK, stream=True
    ):
        kinds.append(event.type)
        if event.type == "content_block_delta":
            text += event.delta.text
    assert kinds[0] == "message_start" and kinds[-1] == "message_stop"
    assert kinds.index("content_block_start") < kinds.index("content_block_delta")
    assert kinds[-3:] == ["content_block_stop", "message_delta", "message_stop"]
    assert_masked(text)


def test_tool_use_is_masked(client):
    answer = client.messages.create(model=MODEL, max_tokens=256, messages=ASK, tools=TOOLS)
    assert answer.stop_reason == "tool_use"
    said, call = answer.content
    assert said.text == "I will look that up for [EMAIL]."
    assert call.name == "send_mail"
    assert call.input["email"] == "[EMAIL]"
    assert_masked(json.dumps(call.input))


def test_streamed_tool_use_is_masked(client):
    with client.messages.stream(
        model=MODEL, max_tokens=256, messages=ASK, tools=TOOLS
    ) as stream:
        joined = ""
        for event in stream:
            if event.type == "content_block_delta" and event.delta.type == "input_json_delta":
                joined += event.delta.partial_json
        final = stream.get_final_message()
    assert json.loads(joined)["email"] == "[EMAIL]"
    assert_masked(joined)
    assert final.content[1].input["email"] == "[EMAIL]"


def test_a_token_may_come_as_a_bearer_token(demo, scheme):
    given = options(demo, scheme, None)
    del given["api_key"]
    with anthropic.Anthropic(auth_token=demo.tokens["ana"], **given) as client:
        answer = client.messages.create(model=MODEL, max_tokens=256, messages=ASK)
    assert_masked(answer.content[0].text)


def test_async_and_parallel(demo, scheme):
    async def one(client, number):
        prompt = f"echo:number {number} of {EMAIL} end {number}"
        async with client.messages.stream(
            model=MODEL, max_tokens=256, messages=[{"role": "user", "content": prompt}]
        ) as stream:
            return "".join([text async for text in stream.text_stream])

    async def all_of_them():
        async with anthropic.AsyncAnthropic(
            **options(demo, scheme, demo.tokens["ana"])
        ) as client:
            return await asyncio.gather(*(one(client, number) for number in range(20)))

    for number, text in enumerate(asyncio.run(all_of_them())):
        assert text == f"number {number} of [EMAIL] end {number}"


def test_bob_is_refused_with_a_request_id(demo, scheme):
    before = demo.stand_in()["requests"]
    with anthropic.Anthropic(**options(demo, scheme, demo.tokens["bob"])) as client:
        with pytest.raises(anthropic.PermissionDeniedError) as caught:
            client.messages.create(model=MODEL, max_tokens=256, messages=ASK)
    refusal = caught.value
    assert refusal.response.headers["x-request-id"] == refusal.body["request_id"]
    assert refusal.body["error"]["message"]
    assert demo.stand_in()["requests"] == before


def test_what_is_no_token_is_an_authentication_error(demo, scheme):
    with anthropic.Anthropic(**options(demo, scheme, "sk-ant-placeholder-0123")) as client:
        with pytest.raises(anthropic.AuthenticationError):
            client.messages.create(model=MODEL, max_tokens=256, messages=ASK)
