"""The server as OpenAI's own Python client meets it."""

from __future__ import annotations

import re

import httpx2
import pytest
from toys import ROOT

from mpt.serve.app import Service

openai = pytest.importorskip("openai", reason="python -m pip install -e '.[test]'")

MESSAGES = [{"role": "user", "content": "so great"}]
TEXT = {"text": "so great", "more": "and"}


@pytest.fixture(scope="module")
def address(chat_engine, options, running):
    with running(Service(chat_engine, options)) as address:
        yield address


@pytest.fixture(scope="module")
def client(address):
    with openai.OpenAI(base_url=f"http://{address}/v1", api_key="unused", max_retries=0) as client:
        yield client


def complete(client, **options):
    return client.completions.create(model="title", prompt=[TEXT, TEXT], max_tokens=7, **options)


def chat(client, **options):
    return client.chat.completions.create(
        **{"model": "title", "messages": MESSAGES, "max_tokens": 7} | options
    )


def test_models_are_listed(client):
    assert [model.id for model in client.models.list()] == ["tone", "title"]


@pytest.mark.parametrize("asked", [{}, {"temperature": 1.5, "seed": 3}, {"temperature": 1.5, "stop": ["o"]}])
def test_a_streamed_completion_is_the_whole_one(client, asked):
    asked = {"seed": 1} | asked
    whole = complete(client, **asked, logprobs=2)
    events = list(complete(client, **asked, logprobs=2, stream=True, stream_options={"include_usage": True}))
    assert events[-1].usage == whole.usage
    for choice in whole.choices:
        of_choice = [event.choices[0] for event in events[:-1] if event.choices[0].index == choice.index]
        assert "".join(part.text for part in of_choice) == choice.text
        assert [part.finish_reason for part in of_choice[:-1]] == [None] * (len(of_choice) - 1)
        assert of_choice[-1].finish_reason == choice.finish_reason
        for name in ("tokens", "token_logprobs", "top_logprobs", "text_offset"):
            parts = [value for part in of_choice for value in getattr(part.logprobs, name)]
            assert parts == getattr(choice.logprobs, name)


@pytest.mark.parametrize("asked", [{}, {"temperature": 1.5, "seed": 3}, {"temperature": 1.5, "stop": "o"}])
def test_a_streamed_chat_is_the_whole_one(client, asked):
    asked = {"seed": 1} | asked
    whole = chat(client, **asked, logprobs=True, top_logprobs=2)
    (choice,) = whole.choices
    assert choice.message.role == "assistant"
    events = list(chat(client, **asked, stream=True, logprobs=True, top_logprobs=2))
    assert {event.object for event in events} == {"chat.completion.chunk"}
    parts = [event.choices[0] for event in events]
    assert parts[0].delta.role == "assistant"
    assert "".join(part.delta.content for part in parts) == choice.message.content
    assert parts[-1].finish_reason == choice.finish_reason
    scores = [score for part in parts for score in part.logprobs.content]
    assert scores == choice.logprobs.content


def test_a_text_grows_before_it_is_whole(client):
    events = list(complete(client, stream=True, seed=1, temperature=1.0))
    assert len(events) > 2  # more than one of a text, of which there are two


def test_greedy_tokens_are_the_likeliest_and_their_probabilities_add_up(client):
    (choice,) = chat(client, logprobs=True, top_logprobs=20).choices
    for token in choice.logprobs.content:
        assert token.logprob == token.top_logprobs[0].logprob
        scores = [other.logprob for other in token.top_logprobs]
        assert scores == sorted(scores, reverse=True)
        assert len(scores) == 20
        assert all(score <= 0 for score in scores)
    assert chat(client).choices[0].logprobs is None


def test_a_chat_reads_what_the_models_template_makes_of_it(client, chat_engine):
    """The same text as a completion's, where the task's template stands for the messages."""
    tokenizer = chat_engine.pretrained.tokenizer
    text = tokenizer.apply_chat_template(MESSAGES, tokenize=False, add_generation_prompt=True)
    assert text == "u:so great<pad>a:"
    count = len(tokenizer(text, add_special_tokens=False)["input_ids"])
    assert chat(client).usage.prompt_tokens == count
    in_parts = [{"role": "user", "content": [{"type": "text", "text": part} for part in ("so ", "great")]}]
    assert chat(client, messages=in_parts).choices == chat(client).choices
    assert chat(client, max_tokens=None, max_completion_tokens=2).usage.completion_tokens == 2


def test_a_chat_with_a_class_task_ends_after_the_class_word(client):
    reply = chat(client, model="tone").choices[0]
    assert reply.finish_reason in ("stop", "length")
    assert reply.finish_reason == "length" or reply.message.content in ("good", "bad")


@pytest.mark.parametrize(
    "asked, message",
    [
        ({"messages": []}, "messages must be a list of one or more"),
        ({"messages": [{"role": "usr", "content": "a"}]}, "messages[0]: role is 'usr'; did you mean 'user'?"),
        ({"messages": [{"role": "user", "content": None}]}, "messages[0]: content must be a text"),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url"}]}]},
            "nothing but text is supported",
        ),
        (
            {"messages": [{"role": "assistant", "content": "a", "tool_calls": [1]}]},
            "'tool_calls' is not supp",
        ),
        ({"messages": [{"role": "user", "content": "so " * 30}]}, "was trained on at most 24"),
        ({"tools": [{"type": "function"}]}, "'tools' is not supported"),
        ({"top_logprobs": 2}, "top_logprobs needs logprobs: true"),
        ({"top_logprobs": 21, "logprobs": True}, "top_logprobs must be from 0 to 20"),
        ({"max_completion_tokens": 9}, "max_completion_tokens must be from 1 to 8"),
        ({"extra_body": {"maxtokens": 9}}, "unknown key 'maxtokens'; did you mean 'max_tokens'?"),
    ],
)
def test_a_wrong_chat_is_told(client, asked, message):
    with pytest.raises(openai.BadRequestError) as told:
        chat(client, **asked)
    assert message in told.value.body["message"]


def test_what_is_refused_before_a_stream_has_its_status(client):
    with pytest.raises(openai.NotFoundError, match="did you mean 'title'"):
        chat(client, model="titel", stream=True)
    with pytest.raises(openai.BadRequestError, match="temperature must be"):
        complete(client, stream=True, temperature=3)


def test_a_template_that_refuses_is_told(client, chat_engine, monkeypatch):
    monkeypatch.setattr(
        chat_engine.pretrained.tokenizer, "chat_template", "{{ raise_exception('no turns') }}"
    )
    with pytest.raises(openai.BadRequestError, match="the model's chat template refuses them: no turns"):
        chat(client)


def test_a_model_without_a_chat_template_is_told(client, chat_engine, monkeypatch):
    monkeypatch.setattr(chat_engine.pretrained.tokenizer, "chat_template", None)
    with pytest.raises(openai.BadRequestError, match="no chat template; use /v1/completions"):
        chat(client)


def test_streams_are_counted_with_their_tokens(client, address):
    def counted() -> float:
        text = httpx2.get(f"http://{address}/metrics").text
        return float(re.search(r'mpt_tokens_total\{kind="written"\} (\S+)', text)[1])

    written = chat(client, max_tokens=3).usage.completion_tokens
    before = counted()
    list(chat(client, stream=True, max_tokens=3))
    assert counted() == before + written


def test_the_session_in_the_docs_runs(address, capsys):
    page = (ROOT / "docs" / "serving.md").read_text(encoding="utf-8")
    (session,) = [
        code for code in re.findall(r"```python\n(.*?)```", page, re.DOTALL) if "stream=True" in code
    ]
    for there, here in (("localhost:8000", address), ('"products"', '"tone"')):
        assert there in session
        session = session.replace(there, here)
    exec(session, {})
    assert capsys.readouterr().out.strip()
