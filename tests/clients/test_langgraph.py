"""Does a LangGraph graph run through the gateway, several people in one process?"""

import concurrent.futures

import openai
import pytest
from conftest import EMAIL, assert_masked
from langchain_anthropic import ChatAnthropic
from langchain_core.messages import HumanMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode

SEEN = []


@tool
def send_mail(email: str, body: str) -> str:
    """Sends a mail."""
    SEEN.append((email, body))
    return f"sent to {email}"


def chat_openai(demo, scheme, token, **more):
    return ChatOpenAI(
        model="gpt-stand-in",
        base_url=demo.url(scheme) + "/openai/v1",
        api_key=token,
        timeout=20,
        **more,
    )


def graph(model_of):
    """One node that asks the model of the person in the run's configuration."""

    def ask(state, config):
        person = config["configurable"]["person"]
        return {"messages": [model_of(person).invoke(state["messages"])]}

    builder = StateGraph(MessagesState)
    builder.add_node("ask", ask)
    builder.add_edge(START, "ask")
    builder.add_edge("ask", END)
    return builder.compile()


def run(graph, person, prompt):
    config = {"configurable": {"person": person}}
    state = graph.invoke({"messages": [HumanMessage(prompt)]}, config)
    return state["messages"][-1].content


@pytest.fixture
def chat(demo, scheme):
    models = {name: chat_openai(demo, scheme, token) for name, token in demo.tokens.items()}
    return graph(models.__getitem__)


def test_invoke_is_masked(chat):
    text = run(chat, "ana", "tell me about the ticket")
    assert_masked(text)


def test_messages_are_streamed_and_masked(chat):
    config = {"configurable": {"person": "ana"}}
    asked = {"messages": [HumanMessage("tell me about the ticket")]}
    pieces = [
        message.content
        for message, _ in chat.stream(asked, config, stream_mode="messages")
        if message.content
    ]
    assert len(pieces) > 10, "it came as a stream"
    assert_masked("".join(pieces))


def test_people_in_one_process_do_not_mix(chat):
    def one(number):
        person = "bob" if number % 3 == 0 else "ana"
        prompt = f"echo:run {number} of {person} for {EMAIL} is {number}"
        try:
            return person, number, run(chat, person, prompt)
        except openai.PermissionDeniedError as refusal:
            return person, number, refusal

    with concurrent.futures.ThreadPoolExecutor(12) as pool:
        for person, number, outcome in pool.map(one, range(48)):
            if person == "bob":
                assert isinstance(outcome, openai.PermissionDeniedError)
                assert outcome.request_id
            else:
                assert outcome == f"run {number} of ana for [EMAIL] is {number}"


def test_a_tool_loop_runs_to_its_end(demo, scheme):
    model = chat_openai(demo, scheme, demo.tokens["ana"]).bind_tools([send_mail])
    builder = StateGraph(MessagesState)
    builder.add_node("ask", lambda state: {"messages": [model.invoke(state["messages"])]})
    builder.add_node("tools", ToolNode([send_mail]))
    builder.add_edge(START, "ask")
    builder.add_conditional_edges(
        "ask", lambda state: "tools" if state["messages"][-1].tool_calls else END
    )
    builder.add_edge("tools", "ask")
    SEEN.clear()
    state = builder.compile().invoke({"messages": [HumanMessage("echo:hello")]})
    assert SEEN == [("[EMAIL]", "hello")], "the tool got what the masked answer holds"
    assert state["messages"][-1].content == "The tool said: sent to [EMAIL]"


def test_chat_anthropic_is_masked_whole_and_streamed(demo, scheme):
    model = ChatAnthropic(
        model="claude-stand-in",
        base_url=demo.url(scheme) + "/anthropic",
        api_key=demo.tokens["ana"],
        timeout=20,
        max_retries=0,
    )
    assert_masked(model.invoke("tell me").text)
    pieces = [piece.text for piece in model.stream("tell me")]
    assert len(pieces) > 10
    assert_masked("".join(pieces))
