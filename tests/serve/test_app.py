"""The routes, over the tiny model, and over an engine that waits until it is let go."""

from __future__ import annotations

import asyncio
import json
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
from starlette.testclient import TestClient
from test_cli import predictions
from toys import PATIENCE, refused, until

from mpt.errors import UserError
from mpt.inference.predict import open_run, predict
from mpt.serve.app import Service
from mpt.serve.engine import Engine
from mpt.serve.options import ServeOptions
from mpt.serve.server import serve

TOKEN = {"Authorization": "Bearer let-me-in"}


@pytest.fixture(scope="module")
def service(engine, options):
    return Service(engine, options)


@pytest.fixture(scope="module")
def client(service):
    with TestClient(service.app(), raise_server_exceptions=False) as client:
        assert client.get("/health/live").status_code == 200
        until(lambda: client.get("/health/ready").status_code == 200)
        yield client


class Held(Engine):
    """An engine that answers when it is let go, and notes what it has answered."""

    def __init__(self, engine: Engine):
        vars(self).update(vars(engine))
        self.go, self.begun, self.answered = threading.Event(), threading.Event(), []
        self.fault: Exception | None = None

    def warm(self):
        return iter(())

    def answer(self, requests):
        self.begun.set()
        assert self.go.wait(PATIENCE)
        if self.fault:
            raise self.fault
        self.answered += requests
        return super().answer(requests)


@pytest.fixture
def held(engine, options):
    """Starts a service over a held engine: its client, itself, and the engine."""
    clients = []

    def start(token: str = "", **changes):
        waiting = Held(engine)
        service = Service(waiting, replace(options, wait_ms=0.0, max_batch=1, **changes), token)
        client = TestClient(service.app(), raise_server_exceptions=False)
        clients.append((client, waiting))
        client.__enter__()
        until(lambda: service.batcher.ready)
        return client, service, waiting

    yield start
    for client, waiting in clients:
        waiting.go.set()
        client.__exit__(None, None, None)


def classify(client, inputs, task: str = "tone", **keys):
    return client.post("/v1/classify", json={"task": task, "inputs": inputs}, **keys)


def complete(client, **body):
    return client.post("/v1/completions", json={"model": "tone", "prompt": "so great", **body})


def test_classes_are_those_of_predict(client, runs):
    texts = ["so great", "it {is} awful", "é"]
    found = classify(client, [*texts[:2], {"text": texts[2], "more": 1}]).json()
    assert found["task"] == "tone"
    assert found["usage"]["completion_tokens"] == 0
    expected = [json.loads(line) for line in predict(open_run(runs["tone"], "tone"), texts, "here")]
    predictions("\n".join(json.dumps(result) for result in found["results"]))
    for result, line in zip(found["results"], expected):
        assert result["prediction"] == line["prediction"]
        assert result["probabilities"] == pytest.approx(line["probabilities"], abs=3e-6)
    (alone,) = classify(client, texts[0]).json()["results"]
    assert alone["prediction"] == found["results"][0]["prediction"]
    # Each is rounded to six digits, and a row by itself is summed up in another order.
    assert alone["probabilities"] == pytest.approx(found["results"][0]["probabilities"], abs=1.1e-6)


def test_many_clients_at_once_get_their_own_answers(client, service):
    asked = [
        (task, f"{word} {i}") for i in range(3) for task in ("tone", "colour") for word in ("great", "red")
    ]

    def ask(pair):
        response = classify(client, pair[1], pair[0])
        while response.status_code == 429:
            response = classify(client, pair[1], pair[0])
        return response.json()["results"]

    with ThreadPoolExecutor(len(asked)) as pool:
        together = list(pool.map(ask, asked))
    for pair, found in zip(asked, together):
        (result,) = ask(pair)
        assert found[0]["probabilities"] == pytest.approx(result["probabilities"], abs=3e-6)


def test_completion_is_openais_shape(client):
    prompts = [{"text": "so great", "more": "and"}, {"text": "a", "more": "b"}]
    found = complete(client, model="title", prompt=prompts, max_tokens=5).json()
    assert found["object"] == "text_completion"
    assert found["model"] == "title"
    assert [choice["index"] for choice in found["choices"]] == [0, 1]
    usage = found["usage"]
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]
    assert usage["completion_tokens"] <= 10
    alone = complete(client, model="title", prompt=prompts[1], max_tokens=5).json()
    assert alone["choices"][0]["text"] == found["choices"][1]["text"]


def test_a_completion_is_cut_before_a_stop(client):
    whole = complete(client).json()["choices"][0]["text"]
    cut = complete(client, stop=[whole[3:5], "never"]).json()["choices"][0]
    assert cut["text"] == whole[: whole.index(whole[3:5])].strip()
    assert cut["finish_reason"] == "stop"
    assert complete(client, stop=whole[3:5]).json()["choices"][0] == cut


def test_a_seed_repeats_a_text(client):
    texts = [complete(client, temperature=1.5, seed=seed).json()["choices"][0]["text"] for seed in (1, 1, 2)]
    assert texts[0] == texts[1] != texts[2]


def test_what_openais_clients_send_unasked_is_no_error(client):
    assert complete(client, n=1, stream=False, logprobs=None, stop=None, user="me").status_code == 200


@pytest.mark.parametrize(
    "body, message",
    [
        ({"n": 2}, "'n' is not supported"),
        ({"n": True}, "'n' is not supported"),
        ({"echo": True}, "'echo' is not supported"),
        ({"logprobs": 6}, "logprobs must be from 0 to 5"),
        ({"logprobs": -1}, "logprobs must be from 0 to 5"),
        ({"logprobs": True}, "logprobs must be a whole number"),
        ({"stream": "yes"}, "stream must be true or false"),
        ({"stream_options": {"usage": True}}, "unknown key 'stream_options.usage'"),
        ({"temprature": 1}, "unknown key 'temprature'; did you mean 'temperature'?"),
        ({"temperature": 3}, "temperature must be from 0 to 2"),
        ({"temperature": "warm"}, "temperature must be a number, not 'warm'"),
        ({"top_p": 0}, "top_p must be above 0"),
        ({"max_tokens": 9}, "max_tokens must be from 1 to 8"),
        ({"max_tokens": 0}, "max_tokens must be from 1 to 8"),
        ({"seed": -1}, "seed must be from 0"),
        ({"stop": [""]}, "stop must be up to four texts"),
        ({"prompt": []}, "prompt has 0 texts; it must have from 1 to 6"),
        ({"prompt": ["a"] * 7}, "prompt has 7 texts"),
        ({"prompt": [1, 2]}, "prompt[0]: task tone takes a text or an object with text"),
        ({"prompt": None}, "missing key 'prompt'"),
        ({"prompt": {"txt": "a"}}, "prompt[0]: no column 'text', which task tone needs; it has txt"),
        ({"model": "title"}, "prompt[0]: task title takes an object with text, more"),
    ],
)
def test_bad_completions_are_told(client, body, message):
    response = complete(client, **body)
    assert response.status_code == 400
    error = response.json()["error"]
    assert message in error["message"]
    assert error["type"] == "invalid_request_error"


@pytest.mark.parametrize(
    "body, message",
    [
        (b"", "not JSON"),
        (b"[1]", "must be an object"),
        (b'{"task": "tone", "task": "tone"}', "key 'task' occurs twice"),
        (b'{"task": NaN}', "not JSON"),
        (b"\xff", "not UTF-8 (byte 0xff)"),
        ('{"inputs": ["é"]}'.encode("latin-1"), "not UTF-8 (byte 0xe9)"),
        (b'{"task": "tone", "inputs": "\\ud800"}', "half a surrogate pair"),
        (b"[" * 1900, "not JSON"),
        (b'{"task": "tone", "inputs": "a", "model": "b"}', "unknown key 'model'"),
        (b'{"task": "title", "inputs": "a"}', "task 'title' has no classes; use /v1/completions"),
    ],
)
def test_bad_bodies_are_told(client, body, message):
    response = client.post("/v1/classify", content=body, headers={"Content-Type": "application/json"})
    assert response.status_code == 400
    assert message in response.json()["error"]["message"]


@pytest.mark.parametrize(
    "route, body, message",
    [
        ("classify", {"task": "tone", "input": "a"}, "unknown key 'input'; did you mean 'inputs'?"),
        ("classify", {"tasks": "tone", "inputs": "a"}, "unknown key 'tasks'; did you mean 'task'?"),
        ("completions", {"model": "tone", "prompts": "a"}, "unknown key 'prompts'; did you mean 'prompt'?"),
        ("completions", {"modle": "tone", "prompt": "a"}, "unknown key 'modle'; did you mean 'model'?"),
        (
            "chat/completions",
            {"model": "a", "message": []},
            "unknown key 'message'; did you mean 'messages'?",
        ),
    ],
)
def test_a_mistyped_field_is_told_with_the_nearest(client, route, body, message):
    """Also where the field itself is missing then."""
    response = client.post(f"/v1/{route}", json=body)
    assert response.status_code == 400
    assert message in response.json()["error"]["message"]


def test_an_unknown_task_is_told_with_the_nearest(client):
    response = classify(client, "a", "tome")
    assert response.status_code == 404
    assert response.json()["error"]["code"] == "model_not_found"
    assert "did you mean 'tone'" in response.json()["error"]["message"]


def test_other_paths_methods_and_types_are_told(client):
    plain = {"Content-Type": "text/plain"}
    for response, status, message in (
        (client.get("/v1/embeddings"), 404, "no path /v1/embeddings; "),
        (client.post("/v1/classify/", json={}), 404, "did you mean '/v1/classify'?"),
        (client.post("/completions", json={}), 404, "did you mean '/v1/completions'?"),
        (client.get("/"), 404, "no path /; known: /health/live, "),
        (client.get("/v1/classify"), 405, "/v1/classify takes POST, not GET"),
        (client.post("/v1/models"), 405, "/v1/models takes GET or HEAD, not POST"),
        (
            client.post("/v1/classify", content=b"{}", headers=plain),
            415,
            "send Content-Type: application/json",
        ),
        (client.post("/v1/classify", json=[]), 400, "the request: a list; it must be an object, {...}"),
    ):
        assert response.status_code == status
        assert message in response.json()["error"]["message"]


def test_a_long_body_is_refused_whether_or_not_it_tells_its_length(client):
    def pieces():
        for _ in range(3):
            yield b" " * 1000

    for content in (b" " * 2001, pieces()):
        response = client.post("/v1/classify", content=content, headers={"Content-Type": "application/json"})
        assert response.status_code == 413
        assert "at most 2000 bytes" in response.json()["error"]["message"]


def test_models_are_the_tasks(client, runs):
    assert {model["id"] for model in client.get("/v1/models").json()["data"]} == runs.keys()


def test_metrics_count_requests_batches_and_tokens(client):
    classify(client, "a")
    complete(client, n=2)
    text = client.get("/metrics").text
    for line in (
        'mpt_requests_total{route="/v1/classify",status="200"}',
        'mpt_requests_total{route="/v1/completions",status="400"}',
        'mpt_request_seconds_bucket{le="0.01",route="/v1/classify"}',
        "mpt_batch_rows_bucket",
        "mpt_queue_rows 0.0",
        'mpt_tokens_total{kind="read"}',
    ):
        assert line in text


def test_all_but_health_is_behind_the_token(held):
    client, _, engine = held(token="let-me-in")
    engine.go.set()
    for headers in ({}, {"Authorization": "Bearer let-me-i"}, {"Authorization": "let-me-in"}):
        response = classify(client, "a", headers=headers)
        assert response.status_code == 401
        assert response.headers["WWW-Authenticate"] == "Bearer"
        assert client.get("/metrics", headers=headers).status_code == 401
    assert client.get("/health/ready").status_code == 200
    assert classify(client, "a", headers=TOKEN).status_code == 200
    assert client.get("/v1/models", headers=TOKEN).status_code == 200


def test_overload_is_refused_and_what_is_accepted_is_answered(held):
    client, _, engine = held(queue=6)
    with ThreadPoolExecutor(20) as pool:
        pending = [pool.submit(classify, client, "so great")]
        assert engine.begun.wait(20)
        pending += [pool.submit(classify, client, f"so great {i}") for i in range(19)]
        until(lambda: sum(future.done() for future in pending) == 13)
        engine.go.set()
        responses = [future.result() for future in pending]
    refused = [response for response in responses if response.status_code == 429]
    assert len(refused) == 13
    assert all(int(response.headers["Retry-After"]) >= 1 for response in refused)
    assert [response.status_code for response in responses if response not in refused] == [200] * 7
    assert len(engine.answered) == 7


def test_a_stopping_server_answers_what_it_has_taken(held):
    client, service, engine = held()
    with ThreadPoolExecutor(3) as pool:
        pending = [pool.submit(classify, client, "so great") for _ in range(3)]
        until(lambda: engine.begun.is_set() and len(service.batcher) == 2)
        service.batcher.close()
        refused = [classify(client, "a"), client.get("/health/ready")]
        assert client.get("/health/live").status_code == 200
        engine.go.set()
        assert [future.result().status_code for future in pending] == [200] * 3
    for response in refused:
        assert response.status_code == 503
        assert int(response.headers["Retry-After"]) >= 1


def test_a_request_that_takes_too_long_is_refused_and_dropped(held):
    client, service, engine = held(timeout=0.3)
    response = classify(client, ["a", "b"])
    assert response.status_code == 503
    assert response.headers["Retry-After"]
    engine.go.set()
    service.batcher.close()
    service.batcher.join()
    assert len(engine.answered) == 1  # the one that was begun


def test_a_client_that_has_gone_is_not_worked_for(held):
    client, service, engine = held()
    body = json.dumps({"task": "tone", "inputs": ["a", "b", "c"]}).encode()
    told, sent = [{"type": "http.request", "body": body}], []

    async def receive():
        if told:
            return told.pop()
        while not engine.begun.is_set():
            await asyncio.sleep(0.01)
        return {"type": "http.disconnect"}

    async def send(message):
        sent.append(message)

    headers = [(b"content-type", b"application/json")]
    scope = {
        "type": "http",
        "method": "POST",
        "path": "/v1/classify",
        "headers": headers,
        "query_string": b"",
    }
    asyncio.run(client.app(scope, receive, send))
    engine.go.set()
    service.batcher.close()
    service.batcher.join()
    assert len(engine.answered) == 1
    assert sent[0]["status"] == 499


def test_a_fault_inside_is_for_the_log_only(held, caplog):
    client, _, engine = held()
    engine.fault = RuntimeError("secret")
    engine.go.set()
    response = classify(client, "a")
    assert response.status_code == 500
    assert "secret" not in response.text
    assert "secret" in caplog.text


def test_the_token_comes_from_a_file_or_the_environment(tmp_path):
    file = tmp_path / "token"
    file.write_text("from-file\n")
    assert ServeOptions(token_file=file).token({"MPT_SERVE_TOKEN": "other"}) == "from-file"
    assert ServeOptions().token({"MPT_SERVE_TOKEN": "other"}) == "other"
    assert ServeOptions().token({}) == ""
    with pytest.raises(UserError, match="MPT_SERVE_TOKEN: a token is one word, and this is empty"):
        ServeOptions().token({"MPT_SERVE_TOKEN": ""})
    with pytest.raises(UserError, match="cannot be read"):
        ServeOptions(token_file=tmp_path / "none").token()


@pytest.mark.parametrize(
    "keys, message",
    [
        ({"port": 70000}, "ports end at 65535"),
        ({"max_batch": 0}, "--max-batch is 0; it must be 1 or more"),
        ({"queue": 8}, "--queue is 8; it must be 64 or more"),
    ],
)
def test_options_that_cannot_be_are_told(keys, message):
    with pytest.raises(UserError, match=message):
        ServeOptions(**keys)


def test_the_command_tells_mistakes_in_a_line(capsys, tmp_path):
    assert "name at least one run directory" in refused(capsys, "serve")
    assert "--max-batch is 0" in refused(capsys, "serve", str(tmp_path), "--max-batch", "0")
    assert "no run directory" in refused(capsys, "serve", str(tmp_path), "--port", "0")


def test_a_taken_port_is_told_before_anything_is_loaded(tmp_path):
    import socket

    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(UserError, match=f"cannot listen on 127.0.0.1 port {port}: .*give another"):
            serve([tmp_path], ServeOptions(port=port))


def test_an_open_address_without_a_token_is_warned_of(tmp_path, capsys):
    with pytest.raises(UserError, match="no run directory"):
        serve([tmp_path], ServeOptions(host="0.0.0.0", port=0))
    assert "everyone who can reach this address can send" in capsys.readouterr().err
