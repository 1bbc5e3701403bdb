"""OpenAPI document of the gateway, made from its route table and the lists of checked fields."""

from __future__ import annotations

from functools import cache
from typing import Any, NamedTuple

import msgspec
from msgspec import inspect

from tokenschain import __version__
from tokenschain.core.errors import ERRORS
from tokenschain.core.formats import openai_chat, responses_reader
from tokenschain.core.formats.anthropic import request_reader
from tokenschain.gateway.api import appeals, moderations
from tokenschain.gateway.api.routes import ROUTES, Route

Schema = dict[str, Any]
_JSON = "application/json"
_EVENTS = "text/event-stream"
_OPEN = frozenset({"home", "livez", "readyz", "metrics", "openapi"})
"""Handlers that need no key."""
_STREAMED = frozenset({"chat/completions", "completions", "messages", "responses"})
_PARAMETERS: dict[str, tuple[tuple[str, Schema], ...]] = {
    "GET /v1/models": (
        ("limit", {"type": "integer", "minimum": 1, "maximum": 1_000}),
        ("after_id", {"type": "string"}),
        ("before_id", {"type": "string"}),
    ),
    "GET /v1/responses/{id}": (
        ("stream", {"type": "boolean"}),
        ("starting_after", {"type": "integer", "minimum": 0}),
        ("include", {"type": "array", "items": {"type": "string"}}),
    ),
    "GET /v1/responses/{id}/input_items": (
        ("limit", {"type": "integer", "minimum": 1, "maximum": 100}),
        ("order", {"enum": ["asc", "desc"]}),
        ("after", {"type": "string"}),
    ),
}  # fmt: skip


class _Fields(NamedTuple):
    """What the body of a request may hold; other fields pass, or are named in a header."""

    types: dict[str, Any]
    required: tuple[str, ...]


def _bodies() -> dict[str, _Fields]:
    chat = openai_chat.FIELDS[openai_chat.Api.CHAT]
    made = {
        f"/v1/{api.value}": _Fields(fields, openai_chat.REQUIRED[api])
        for api, fields in openai_chat.FIELDS.items()
    }
    messages = _Fields(request_reader.FIELDS, ("model", "messages", "max_tokens"))
    responses = _Fields(
        responses_reader.FIELDS
        | {name: chat.get(other, Any) for name, other in responses_reader.PLAIN.items()},
        ("model", "input"),
    )
    return made | {
        "/v1/messages": messages,
        "/v1/messages/count_tokens": messages._replace(required=("model", "messages")),
        "/v1/responses": responses,
        "/v1/responses/input_tokens": responses,
        "/v1/responses/compact": responses,
        "/v1/moderations": _Fields(moderations.FIELDS, moderations.REQUIRED),
        "/v1/moderations/appeals": _Fields(appeals.FIELDS, appeals.REQUIRED),
        "/api/v1/routes/explain": made["/v1/chat/completions"],
    }


@cache
def document() -> bytes:
    """The document, as JSON."""
    return msgspec.json.encode(tree())


def tree() -> Schema:
    """The document."""
    bodies = _bodies()
    paths: dict[str, Schema] = {}
    for route in ROUTES:
        for method in route.methods:
            operation = _operation(method, route, bodies.get(route.path))
            paths.setdefault(route.path, {})[method.lower()] = operation
    key = {"type": "apiKey", "in": "header"}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "TokensChain gateway",
            "version": __version__,
            "description": "OpenAI's and Anthropic's APIs. Fields without a rule here pass to the "
            "upstream, or are named in `x-tc-dropped`.",
        },
        "servers": [{"url": "/"}],
        "security": [{"bearer": []}, {"x-api-key": []}, {"api-key": []}],
        "paths": paths,
        "components": {
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer"},
                "x-api-key": key | {"name": "x-api-key"},
                "api-key": key | {"name": "api-key"},
            },
            "schemas": {"Error": _ERROR, "AnthropicError": _ANTHROPIC_ERROR},
        },
    }


def _operation(method: str, route: Route, body: _Fields | None) -> Schema:
    words = route.path.replace("{id}", "by_id").replace("/", "_").strip("_") or "home"
    anthropic = route.path.startswith("/v1/messages")
    error = {"$ref": f"#/components/schemas/{'AnthropicError' if anthropic else 'Error'}"}
    answer = {_JSON: {"schema": {"type": "object"}}}
    if route.path.removeprefix("/v1/") in _STREAMED or route.handler == "stored_response":
        answer[_EVENTS] = {"schema": {"type": "string"}}
    if route.handler in ("livez", "metrics"):
        answer = {"text/plain": {"schema": {"type": "string"}}}
    made: Schema = {
        "operationId": f"{method.lower()}_{words}",
        "summary": route.meaning,
        "responses": {
            "200": {"description": "The answer.", "headers": _ID, "content": answer},
            "default": {
                "description": "What went wrong.",
                "headers": _ID,
                "content": {_JSON: {"schema": error}},
            },
        },
    }
    parameters = [
        {"name": name, "in": "query", "required": False, "schema": schema}
        for name, schema in _PARAMETERS.get(f"{method} {route.path}", ())
    ]
    if "{id}" in route.path:
        parameters.append(
            {"name": "id", "in": "path", "required": True, "schema": {"type": "string"}}
        )
    if parameters:
        made["parameters"] = parameters
    if body is not None:
        made["requestBody"] = {"required": True, "content": {_JSON: {"schema": _object(body)}}}
    if route.handler in _OPEN:
        made["security"] = []
    return made


_ID = {"x-request-id": {"schema": {"type": "string"}}}
_ERROR = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["message", "type", "param", "code"],
            "properties": {
                "message": {"type": "string"},
                "type": {"enum": sorted({kind.type for kind in ERRORS.values()})},
                "param": {"type": ["string", "null"]},
                "code": {"enum": sorted(ERRORS)},
            },
        }
    },
}
_ANTHROPIC_ERROR = {
    "type": "object",
    "required": ["type", "error", "request_id"],
    "properties": {
        "type": {"const": "error"},
        "error": {
            "type": "object",
            "required": ["type", "message"],
            "properties": {"type": {"type": "string"}, "message": {"type": "string"}},
        },
        "request_id": {"type": "string"},
    },
}


def _object(fields: _Fields) -> Schema:
    return {
        "type": "object",
        "required": list(fields.required),
        "properties": {
            name: _schema(inspect.type_info(kind)) for name, kind in fields.types.items()
        },
        "additionalProperties": True,
    }


_BOUNDS = {
    "ge": "minimum", "le": "maximum", "gt": "exclusiveMinimum", "lt": "exclusiveMaximum",
    "pattern": "pattern",
}  # fmt: skip
_SIZES: dict[type, tuple[str, str]] = {
    inspect.StrType: ("minLength", "maxLength"),
    inspect.ListType: ("minItems", "maxItems"),
    inspect.DictType: ("minProperties", "maxProperties"),
}
_NAMES: dict[type, str] = {
    inspect.IntType: "integer", inspect.FloatType: "number", inspect.StrType: "string",
    inspect.BoolType: "boolean", inspect.NoneType: "null", inspect.ListType: "array",
    inspect.DictType: "object",
}  # fmt: skip


def _schema(info: inspect.Type) -> Schema:
    """The JSON schema of a checked type; what is not looked into may be anything."""
    if isinstance(info, inspect.Metadata):
        return _schema(info.type)
    if isinstance(info, inspect.UnionType):
        return {"anyOf": [_schema(inner) for inner in info.types]}
    if isinstance(info, inspect.LiteralType):
        return {"enum": list(info.values)}
    if isinstance(info, inspect.StructType):
        return {
            "type": "object",
            "required": [field.encode_name for field in info.fields if field.required],
            "properties": {field.encode_name: _schema(field.type) for field in info.fields},
        }
    name = _NAMES.get(type(info))
    if name is None:
        return {}
    made: Schema = {"type": name}
    for ours, theirs in _BOUNDS.items():
        if getattr(info, ours, None) is not None:
            made[theirs] = getattr(info, ours)
    sizes = _SIZES.get(type(info), ("", ""))
    for ours, theirs in zip(("min_length", "max_length"), sizes, strict=True):
        if theirs and getattr(info, ours) is not None:
            made[theirs] = getattr(info, ours)
    if isinstance(info, inspect.ListType):
        made["items"] = _schema(info.item_type)
    elif isinstance(info, inspect.DictType):
        made["additionalProperties"] = _schema(info.value_type)
    return made
