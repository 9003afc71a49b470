"""Does the unmodified OpenAI SDK work through the gateway, masked?"""

import asyncio
import json
import time

import openai
import pytest
from conftest import EMAIL, assert_masked

MODEL = "gpt-stand-in"
ASK = [{"role": "user", "content": "tell me about the ticket"}]
TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "send_mail",
            "description": "Sends a mail.",
            "parameters": {
                "type": "object",
                "properties": {"email": {"type": "string"}, "body": {"type": "string"}},
                "required": ["email", "body"],
            },
        },
    }
]


def options(demo, scheme, token):
    return {"base_url": demo.url(scheme) + "/openai/v1", "api_key": token, "timeout": 20}


@pytest.fixture
def client(demo, scheme):
    with openai.OpenAI(**options(demo, scheme, demo.tokens["ana"])) as client:
        yield client


def test_a_whole_answer_is_masked(client):
    answer = client.chat.completions.create(model=MODEL, messages=ASK)
    text = answer.choices[0].message.content
    assert_masked(text)
    assert text.startswith("Sure. The ticket was opened by Ana Berg <")
    assert text.endswith("Shall I write an answer for her?")
    assert answer.usage.completion_tokens > 10


def test_a_streamed_answer_is_masked_like_the_whole_one(client):
    whole = client.chat.completions.create(model=MODEL, messages=ASK).choices[0].message.content
    deltas = []
    usage = None
    finish = None
    for chunk in client.chat.completions.create(
        model=MODEL, messages=ASK, stream=True, stream_options={"include_usage": True}
    ):
        usage = chunk.usage or usage
        for choice in chunk.choices:
            finish = choice.finish_reason or finish
            deltas.append(choice.delta.content or "")
    assert "".join(deltas) == whole
    assert_masked("".join(deltas))
    assert len([delta for delta in deltas if delta]) > 10, "it came as a stream"
    assert finish == "stop"
    assert usage is not None and usage.total_tokens > 0


def test_an_echo_of_a_prompt_is_masked_too(client):
    prompt = f"echo:write to {EMAIL} or x@y.example.org"
    answer = client.chat.completions.create(
        model=MODEL, messages=[{"role": "user", "content": prompt}]
    )
    text = answer.choices[0].message.content
    assert_masked(text)
    assert text.count("[EMAIL]") == 2


def test_several_choices_do_not_mix(client):
    texts = {0: "", 1: ""}
    for chunk in client.chat.completions.create(model=MODEL, messages=ASK, stream=True, n=2):
        for choice in chunk.choices:
            texts[choice.index] += choice.delta.content or ""
    assert texts[0] == texts[1]
    assert_masked(texts[0])


def tokens_of(choice):
    content = (choice.get("logprobs") or {}).get("content") or []
    return "".join(token["token"] for token in content)


def test_logprobs_do_not_repeat_what_is_masked(client):
    answer = client.chat.completions.with_raw_response.create(
        model=MODEL, messages=ASK, logprobs=True
    )
    assert_masked(answer.text)
    for choice in json.loads(answer.text)["choices"]:
        assert_masked(tokens_of(choice), marks=())


def test_streamed_logprobs_do_not_repeat_what_is_masked(client):
    joined = ""
    for chunk in client.chat.completions.create(
        model=MODEL, messages=ASK, stream=True, logprobs=True
    ):
        for choice in chunk.model_dump()["choices"]:
            joined += tokens_of(choice)
    assert_masked(joined, marks=())


def test_tool_calls_stay_valid_json_and_are_masked(client):
    answer = client.chat.completions.create(model=MODEL, messages=ASK, tools=TOOLS)
    call = answer.choices[0].message.tool_calls[0]
    assert call.function.name == "send_mail"
    arguments = json.loads(call.function.arguments)
    assert arguments["email"] == "[EMAIL]"
    assert_masked(arguments["body"])


def test_streamed_tool_calls_stay_valid_json_and_are_masked(client):
    joined = ""
    name = None
    for chunk in client.chat.completions.create(
        model=MODEL, messages=ASK, tools=TOOLS, stream=True
    ):
        for choice in chunk.choices:
            for call in choice.delta.tool_calls or []:
                name = call.function.name or name
                joined += call.function.arguments or ""
    assert name == "send_mail"
    assert json.loads(joined)["email"] == "[EMAIL]"
    assert_masked(joined)


def test_async_and_parallel(demo, scheme):
    async def one(client, number):
        prompt = f"echo:number {number} of {EMAIL} end {number}"
        stream = await client.chat.completions.create(
            model=MODEL, messages=[{"role": "user", "content": prompt}], stream=True
        )
        text = ""
        async for chunk in stream:
            for choice in chunk.choices:
                text += choice.delta.content or ""
        return text

    async def all_of_them():
        async with openai.AsyncOpenAI(**options(demo, scheme, demo.tokens["ana"])) as client:
            return await asyncio.gather(*(one(client, number) for number in range(20)))

    for number, text in enumerate(asyncio.run(all_of_them())):
        assert text == f"number {number} of [EMAIL] end {number}"


def test_models_are_listed_or_refused_in_order(client):
    """The rule names only the chat path, so the list is a refusal, not an accident."""
    try:
        assert client.models.list().data
    except openai.PermissionDeniedError as refusal:
        assert refusal.request_id


def test_bob_is_refused_with_a_request_id(demo, scheme):
    before = demo.stand_in()["requests"]
    with openai.OpenAI(**options(demo, scheme, demo.tokens["bob"])) as client:
        with pytest.raises(openai.PermissionDeniedError) as caught:
            client.chat.completions.create(model=MODEL, messages=ASK)
    refusal = caught.value
    assert refusal.request_id
    assert refusal.response.headers["content-type"] == "application/problem+json"
    assert refusal.response.headers["x-should-retry"] == "false"
    problem = refusal.response.json()
    assert problem["status"] == 403
    assert problem["request_id"] == refusal.request_id
    assert refusal.body["message"] and refusal.body["type"]
    assert demo.stand_in()["requests"] == before, "a refused request went nowhere"


@pytest.mark.parametrize("token", ["sk-placeholder-0123456789", "a.b.c"])
def test_what_is_no_token_is_an_authentication_error(demo, scheme, token):
    with openai.OpenAI(**options(demo, scheme, token)) as client:
        with pytest.raises(openai.AuthenticationError) as caught:
            client.chat.completions.create(model=MODEL, messages=ASK)
    assert caught.value.request_id
    assert token not in caught.value.response.text


def test_a_tampered_token_is_an_authentication_error(demo, scheme):
    head, payload, signature = demo.tokens["ana"].split(".")
    other = demo.tokens["bob"].split(".")
    for token in (f"{head}.{other[1]}.{signature}", f"{head}.{payload}.{other[2]}"):
        with openai.OpenAI(**options(demo, scheme, token)) as client:
            with pytest.raises(openai.AuthenticationError):
                client.chat.completions.create(model=MODEL, messages=ASK)


def test_a_caller_that_stops_reading_stops_the_provider(demo, client):
    before = demo.stand_in()["cut"]
    stream = client.chat.completions.create(
        model=MODEL,
        messages=ASK,
        stream=True,
        extra_headers={"x-stand-in-delay-ms": "20", "x-stand-in-events": "5000"},
    )
    for number, _ in enumerate(stream):
        if number == 5:
            break
    stream.close()
    deadline = time.monotonic() + 30
    while demo.stand_in()["cut"] == before:
        assert time.monotonic() < deadline, "the provider still writes"
        time.sleep(0.05)
    answer = client.chat.completions.create(model=MODEL, messages=ASK)
    assert_masked(answer.choices[0].message.content)
