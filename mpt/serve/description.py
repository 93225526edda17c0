"""The server's description of itself: an OpenAPI document, made from what reads the requests."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, get_type_hints

from mpt.config.ranges import Range
from mpt.data.task import Task
from mpt.data.text.messages import EMPTY, ROLES
from mpt.serve.options import ServeOptions
from mpt.serve.requests import (
    STOPS,
    UNSUPPORTED_CHAT,
    UNSUPPORTED_COMPLETION,
    Chat,
    Classification,
    Completion,
    StreamOptions,
    ranges,
)
from mpt.version import __version__

Schema = dict[str, Any]

KINDS = {str: "string", bool: "boolean", int: "integer", float: "number"}
NULL: Schema = {"type": "null"}
TEXT: Schema = {"type": "string"}
COUNT: Schema = {"type": "integer", "minimum": 0}
REFUSALS = {
    400: "a field is unknown, missing or out of range",
    401: "the bearer token is missing or wrong",
    404: "there is no such task",
    408: "the body arrives too slowly",
    413: "the body is too long",
    415: "the body is not application/json",
    429: "the queue is full",
    500: "the server has failed",
    503: "the server is starting or stopping, or the answer took too long",
}


def openapi(tasks: Sequence[Task], options: ServeOptions, chat: bool, locked: bool) -> Schema:
    """The OpenAPI document of a server.

    Args:
        tasks: the tasks that it serves.
        options: the limits on requests.
        chat: whether the tokenizer has a chat template.
        locked: whether clients must show a bearer token.
    """
    classes = [task for task in tasks if task.choices]
    paths = {
        "/v1/completions": _post("Continue texts", _completions(tasks, options), _reply("text", TEXT)),
        "/v1/models": _get("The tasks", _object(object={"const": "list"}, data=_list(_object(id=TEXT)))),
        "/health/live": _get("Whether the process runs", _object(status={"const": "live"})),
        "/health/ready": _get("Whether requests are taken", _object(status={"const": "ready"})),
    }
    if chat:
        message = _object(role={"const": "assistant"}, content=TEXT)
        paths["/v1/chat/completions"] = _post(
            "Reply to messages", _chats(tasks, options), _reply("message", message)
        )
    if classes:
        paths["/v1/classify"] = _post("Classify texts", _classifications(classes, options), _classes())
    lock = {"securitySchemes": {"token": {"type": "http", "scheme": "bearer"}}} if locked else {}
    error = _object(message=TEXT, type=TEXT, param={}, code={"type": ["string", "null"]})
    return {
        "openapi": "3.1.0",
        "info": {"title": "mpt serve", "version": __version__},
        "paths": paths,
        "components": {"schemas": {"Error": _object(error=error)}, **lock},
        "security": [{"token": []}] if locked else [],
    }


def _completions(tasks: Sequence[Task], options: ServeOptions) -> Schema:
    return _any(
        _request(Completion, names, options, UNSUPPORTED_COMPLETION, prompt=_rows(columns, options))
        for columns, names in _by_columns(tasks).items()
    )


def _chats(tasks: Sequence[Task], options: ServeOptions) -> Schema:
    part = _object(type={"const": "text"}, text=TEXT)
    message = _object(role={"enum": list(ROLES)}, content={"anyOf": [TEXT, _list(part)]})
    message["properties"] |= {
        "name": {"type": ["string", "null"]},
        **{key: {"enum": [None, []]} for key in EMPTY},
    }
    message["additionalProperties"] = False
    names = [task.name for task in tasks]
    scored = {"properties": {"logprobs": {"const": True}}, "required": ["logprobs"]}
    unscored = {"properties": {"top_logprobs": {"enum": [0, None]}}}
    body = _request(Chat, names, options, UNSUPPORTED_CHAT, messages=_list(message, least=1))
    return body | {"anyOf": [scored, unscored]}


def _classifications(tasks: Sequence[Task], options: ServeOptions) -> Schema:
    return _any(
        _request(Classification, names, options, {}, inputs=_rows(columns, options))
        for columns, names in _by_columns(tasks).items()
    )


def _by_columns(tasks: Sequence[Task]) -> dict[tuple[str, ...], list[str]]:
    """The names of the tasks whose templates have the same columns."""
    return {
        columns: [task.name for task in tasks if task.columns == columns]
        for columns in dict.fromkeys(task.columns for task in tasks)
    }


def _request(
    kind: type, names: Sequence[str], options: ServeOptions, unsupported: Mapping[str, Any], **texts: Schema
) -> Schema:
    """The body of a request: the fields of ``kind``, its texts, and what has no effect at one value."""
    allowed = ranges(options.max_tokens)
    known = {name: _field(type_, allowed.get(name)) for name, type_ in get_type_hints(kind).items()}
    (task,) = known.keys() & {"model", "task"}
    fixed = {name: {"enum": [value, None]} for name, value in unsupported.items()}
    body = {**fixed, **{name: _any([schema, NULL]) for name, schema in known.items()}, **texts}
    return {
        "type": "object",
        "properties": body | {task: {"enum": list(names)}},
        "required": [task, *texts],
        "additionalProperties": False,
    }


def _field(kind: Any, allowed: Range | None) -> Schema:
    """The values that a field takes."""
    if kind is StreamOptions:
        options = {name: _field(type_, None) for name, type_ in get_type_hints(kind).items()}
        return {"type": "object", "properties": options, "additionalProperties": False}
    if kind not in KINDS:  # stop texts, which alone are several
        stop = TEXT | {"minLength": 1}
        return {"anyOf": [stop, {"type": "array", "items": stop, "maxItems": STOPS}]}
    if allowed is None or kind is bool:
        return {"type": KINDS[kind]}
    least = "exclusiveMinimum" if allowed.open else "minimum"
    return {"type": KINDS[kind], least: allowed.least, "maximum": allowed.most}


def _rows(columns: Sequence[str], options: ServeOptions) -> Schema:
    """One row of a task, or several; where there is one column, a text stands for it."""
    row = _object(**{name: {"type": ["string", "number", "boolean"]} for name in columns})
    one = _any([row, TEXT]) if len(columns) == 1 else row
    return _any([one, {"type": "array", "items": one, "minItems": 1, "maxItems": options.max_rows}])


def _reply(name: str, said: Schema) -> Schema:
    """The answer to a request to generate, whose choices have what is said under that name."""
    scores = {"type": ["object", "null"]}
    choice = {"index": COUNT, name: said, "logprobs": scores, "finish_reason": {"enum": ["stop", "length"]}}
    return _object(
        id=TEXT, object=TEXT, created=COUNT, model=TEXT, choices=_list(_object(**choice)), usage=_usage()
    )


def _classes() -> Schema:
    """The answer to a request to classify."""
    probability = {"type": "number", "minimum": 0, "maximum": 1}
    of_labels = {"type": "object", "additionalProperties": probability}
    return _object(
        task=TEXT, results=_list(_object(prediction=TEXT, probabilities=of_labels)), usage=_usage()
    )


def _usage() -> Schema:
    return _object(prompt_tokens=COUNT, completion_tokens=COUNT, total_tokens=COUNT)


def _post(summary: str, body: Schema, answer: Schema) -> Schema:
    content = {"application/json": {"schema": body}}
    operation = {"summary": summary, "requestBody": {"required": True, "content": content}}
    answers = _responses(answer)
    if "choices" in answer["properties"]:
        answers["200"]["content"]["text/event-stream"] = {"schema": _object(data=TEXT)}  # of each event
    return {"post": operation | {"responses": answers}}


def _get(summary: str, answer: Schema) -> Schema:
    return {"get": {"summary": summary, "responses": _responses(answer)}}


def _responses(answer: Schema) -> Schema:
    error = {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}
    refused = {str(status): {"description": why, "content": error} for status, why in REFUSALS.items()}
    good = {"description": "the answer", "content": {"application/json": {"schema": answer}}}
    return {"200": good, **refused}


def _object(**properties: Schema) -> Schema:
    return {"type": "object", "properties": properties, "required": list(properties)}


def _list(items: Schema, least: int = 0) -> Schema:
    return {"type": "array", "items": items, "minItems": least}


def _any(ways: Iterable[Schema]) -> Schema:
    several = list(ways)
    return several[0] if len(several) == 1 else {"anyOf": several}
