"""The OpenAPI document that the server has of itself, and what a tool that reads it finds."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace

import pytest
from jsonschema import Draft202012Validator
from starlette.testclient import TestClient
from test_app import Held

from mpt.errors import UserError
from mpt.serve.app import Service
from mpt.serve.description import openapi
from mpt.serve.requests import read_chat, read_classification, read_completion

LIMITS = {"max_rows": 6, "max_tokens": 8}


@pytest.fixture(scope="module")
def document(engine, options):
    return openapi([served.ready.task for served in engine.tasks.values()], options, chat=True, locked=False)


def described(document, route: str) -> Draft202012Validator:
    body = document["paths"][f"/v1/{route}"]["post"]["requestBody"]
    return Draft202012Validator(body["content"]["application/json"]["schema"])


def test_the_server_serves_its_description(engine, options):
    client = TestClient(Service(Held(engine), options, token="word").app())
    assert client.get("/openapi.json").status_code == 401
    found = client.get("/openapi.json", headers={"Authorization": "Bearer word"}).json()
    assert found["openapi"].startswith("3.1")
    assert "/v1/classify" in found["paths"]
    assert "/v1/chat/completions" not in found["paths"]  # the tokenizer has no template
    assert found["security"] == [{"token": []}]


VALUES = json.loads("""[
    null, true, false, 0, 1, -1, 2, 5, 6, 8, 9, 20, 21, 0.5, 2.5, 1.0, 9.0, 2147483648,
    "", "a", "none", [], [""], ["a"], [null], [1], ["a", "a", "a", "a"], ["a", "a", "a", "a", "a"],
    ["a", "a", "a", "a", "a", "a"], ["a", "a", "a", "a", "a", "a", "a"], ["text"],
    {}, {"type": "text"}, {"text": "a"}, {"text": 1}, {"text": null}, [{"text": "a"}], {"usage": true},
    {"include_usage": true}, {"include_usage": 1}, [{"role": "a"}], [{"role": "user", "content": "a"}],
    [{"role": "user", "content": [{"type": "text", "text": "a"}]}], [{"role": "user", "content": ["a"]}]
]""")


@pytest.mark.parametrize(
    "route, body, read",
    [
        ("completions", {"model": "tone", "prompt": "a"}, lambda b: read_completion(b, **LIMITS)),
        (
            "chat/completions",
            {"model": "tone", "messages": [{"role": "user", "content": "a"}]},
            lambda b: read_chat(b, LIMITS["max_tokens"]),
        ),
        ("classify", {"task": "tone", "inputs": "a"}, lambda b: read_classification(b, LIMITS["max_rows"])),
    ],
)
def test_what_is_described_is_what_is_read(document, engine, route, body, read):
    """Each field with each value, one at a time: both allow the same."""
    schema, task = described(document, route), engine.tasks["tone"].ready.task
    ways = [schema.schema] if "properties" in schema.schema else schema.schema["anyOf"]
    (variant,) = [way for way in ways if "tone" in str(way["properties"])]
    fields = [*variant["properties"], "unknown"]
    for field in fields:
        for value in VALUES:
            changed = body | {field: value}
            if field in ("model", "task") and isinstance(value, str):
                continue  # whether a task is served is not the reader's to know
            try:
                _, rows = read(json.dumps(changed).encode())
                if route != "chat/completions":
                    for record in task.records("rows", rows):
                        task.example(record, "")
                allowed = True
            except UserError:
                allowed = False
            assert schema.is_valid(changed) == allowed, (field, value)
        left_out = {name: value for name, value in body.items() if name != field}
        needed = field in variant["required"]
        assert schema.is_valid(left_out) != needed


@pytest.mark.full
@pytest.mark.parametrize(
    "choice",
    [
        ("--exclude-path", "/v1/chat/completions"),
        # A chat that is described may be longer than the tiny model reads.
        ("--include-path", "/v1/chat/completions", "--exclude-checks", "positive_data_acceptance"),
    ],
    ids=["all but chats", "chats"],
)
def test_a_fuzzer_that_reads_the_description_finds_nothing(chat_engine, options, running, choice, tmp_path):
    service = Service(chat_engine, replace(options, max_bytes=100_000, queue=100, timeout=120))
    with running(service) as address:
        command = [
            *(sys.executable, "-m", "schemathesis.cli", "run", f"http://{address}/openapi.json"),
            *("--checks", "all", "--max-examples", "60", "--seed", "1", "--no-color"),
            *choice,
        ]
        done = subprocess.run(command, capture_output=True, text=True, timeout=900, cwd=tmp_path)
    assert done.returncode == 0, done.stdout
