"""Writes docs/reference/http.md from the running apps: the gateway's route table, control's
OpenAPI document and its other routes."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from fastapi import FastAPI

from tokenschain.control.api.app import create_app
from tokenschain.control.api.context import ApiContext
from tokenschain.gateway.api.routes import ROUTES

REQUEST_HEADERS = {
    "Authorization": "`Bearer <key>`; or the key in `x-api-key` or `api-key`. Of several, the "
    "first that is a key counts.",
    "anthropic-version": "Any value: lists and errors have Anthropic's shapes.",
    "x-tc-tags": "Tags of the call, `name=value` or words, separated by commas; 32 at most, of 128 "
    "characters. They are in the ledger, and limits and virtual models can ask for them.",
    "x-tc-cache": "`no-cache`, `no-store`, `max-age=SECONDS` or `only-if-cached`. See "
    "[Response cache](../guides/response-cache.md).",
    "x-tc-unsupported": "What to do with parameters that the upstream does not offer: `auto` "
    "(emulate what can be emulated, drop hints, refuse the rest), `error`, `drop` or `emulate`.",
    "x-tc-priority": "`interactive` (default for streams), `default` or `bulk`: the order in which "
    "calls get a free slot when upstreams are full.",
    "x-tc-deadline-ms": "Longest wait for an upstream with a free slot, in milliseconds.",
    "x-tc-route": "Any value: the answer says in the same header how its upstream was chosen.",
    "x-tc-audit-receipt": "Any value: the answer has a receipt in the same header, by which the "
    "audit log can be asked for the call. See [Sealed audit log](../guides/audit.md).",
    "traceparent": "W3C trace context; its trace id is kept in the ledger.",
    "Origin": "Answered with CORS headers when `server.cors_origins` allows it.",
}
ANSWER_HEADERS = {
    "x-request-id": "Id of the call, in the ledger as `event_id`. Quote it in a report.",
    "request-id": "The same, for Anthropic's clients.",
    "x-tc-upstream": "The upstream that answered.",
    "x-tc-cache": "`hit-exact`, `hit-inflight` or `hit-semantic`: answered from the cache; `miss`, "
    "`miss:learning`, `miss:unavailable`, `bypass:REASON`, or `bypass` where the cache is off. See "
    "[Response cache](../guides/response-cache.md).",
    "x-tc-cache-key": "Id of the cached answer.",
    "x-tc-cache-confidence": "Probability that the cached answer is right for this question, 0 to "
    "1.",
    "age": "Age of the cached answer, in seconds.",
    "x-tc-cost": "Exact cost of a whole answer, as `0.000123 CNY`; absent when there is no price.",
    "x-tc-overhead-ms": "Milliseconds spent in the platform until the answer began.",
    "x-tc-adapted": "What was sent in another form: `messages[0].role`, `max_tokens=8192`.",
    "x-tc-dropped": "Parameters that the upstream does not offer and that were left out.",
    "x-tc-emulated": "Parameters that the upstream does not offer and that were emulated.",
    "x-tc-route": "Why this upstream, only when asked for; the figures of every candidate for keys "
    "with `routing_details`.",
    "x-tc-audit-receipt": "Receipt of the call, where it is asked for or `receipt-rules` want it; "
    "behind a stream as a comment before its end.",
    "x-tc-aigc": "The label's metadata, where `label-rules` want it. See "
    "[Labels](../guides/labels.md).",
    "Allow": "With 405: the methods that the path has.",
    "Retry-After": "Seconds to wait before trying again.",
}
_CHAT = {"model": "qwen3-max", "messages": [{"role": "user", "content": "你好"}]}
GATEWAY_EXAMPLES: dict[str, object] = {
    "/v1/chat/completions": _CHAT,
    "/v1/completions": {"model": "qwen3-max", "prompt": "1 2 3"},
    "/v1/moderations": {"input": ["今天天气很好"]},
    "/v1/moderations/appeals": {
        "call_id": "req_0123456789abcdef00000001",
        "reason": "这是引用的法律条文",
    },
    "/v1/embeddings": {"model": "multilingual-e5-small", "input": ["今天天气很好"]},
    "/v1/rerank": {"model": "bge-reranker", "query": "天气", "documents": ["晴", "账单"]},
    "/v1/messages": {**_CHAT, "max_tokens": 64},
    "/v1/messages/count_tokens": _CHAT,
    "/v1/responses": {"model": "qwen3-max", "input": "你好"},
    "/v1/responses/input_tokens": {"model": "qwen3-max", "input": "你好"},
    "/v1/responses/compact": {"model": "qwen3-max", "input": [{"role": "user", "content": "你好"}]},
    "/api/v1/routes/explain": _CHAT,
}
_HIDDEN_MEANINGS = {
    "/": "A page that lists the models served.",
    "/openapi.json": "The admin API's OpenAPI 3.1 document.",
    "/livez": "200 while the process runs.",
    "/readyz": "200 when the database answers; with the configuration's revision.",
    "/metrics": "Metrics in Prometheus' text format, with the token for metrics.",
}
_INTERNAL = "/internal/"
_TAKEN_AS_KNOWN = {"authorization", "idempotency-key", "if-match"}


class Operation(NamedTuple):
    """A method and a path."""

    method: str
    path: str

    @property
    def heading(self) -> str:
        return f"{self.method} {self.path}"


def control_app() -> FastAPI:
    """Control's app, without the parts that it works with."""
    nothing: Any = None
    context = ApiContext(*[nothing] * len(ApiContext._fields))
    return create_app(context, nothing, nothing, [], "", nothing)


def gateway_operations() -> list[Operation]:
    """What the gateway answers; HEAD is answered wherever GET is."""
    return [Operation(method, route.path) for route in ROUTES for method in route.methods]


def admin_operations(document: Mapping[str, Any]) -> dict[Operation, dict[str, Any]]:
    """What the admin API offers, by its OpenAPI document."""
    return {
        Operation(method.upper(), path): operation
        for path, operations in document["paths"].items()
        for method, operation in operations.items()
    }


def hidden_operations(app: FastAPI) -> list[Operation]:
    """Control's routes that are not in its OpenAPI document."""
    found = {
        Operation(method, path)
        for route, path in _walk(app.routes, "")
        if not getattr(route, "include_in_schema", False)
        for method in getattr(route, "methods", None) or ()
        if method != "HEAD"
    }
    return sorted(found, key=lambda operation: (operation.path, operation.method))


def _walk(routes: Any, prefix: str) -> Iterator[tuple[Any, str]]:
    for route in routes:
        if hasattr(route, "path"):
            yield route, prefix + route.path
        else:  # an included router
            yield from _walk(route.original_router.routes, prefix + route.include_context.prefix)


ANSWERS = (
    "\n### Answers\n\n"
    "* `model` is the name that the upstream gives, as OpenAI's own answers name the "
    "version that answered; what was asked for stands in the request. `x-tc-upstream` says "
    "where it came from.\n"
    "* Answers are read leniently: an envelope with null, missing or odd fields is "
    "completed, thinking comes as `reasoning_content` wherever the upstream puts it, a "
    "count that cannot be read is estimated. Chat answers of upstreams that speak OpenAI's "
    "API pass as they came where nothing is odd, Anthropic's to callers of `/v1/messages` "
    "likewise.\n"
    "* Every tool call has a number and an id of its own, and the finish reason follows "
    "from whether one was made: `tool_calls` with calls, `stop` without.\n"
    "* A stream that breaks off, or ends with an error instead of a finish reason, ends in an"
    " error event and never in an end marker. One that ends with its end marker and gave no "
    "finish reason is complete: `stop` or `tool_calls`, as its content says; its record says "
    "`inferred`. An answer of HTTP 200 that is a page, "
    "empty, or without choices is asked of the next upstream and costs nothing.\n"
    "* Calls of `/v1/messages` with server tools, MCP servers or citations bypass the cache: what "
    "they are answered stands in blocks of Anthropic's own.\n"
    "* Embeddings come in the `encoding_format` that was asked for, whichever the upstream "
    "knows.\n"
    "* `/v1/responses` gives reasoning as summary events and parts when `reasoning.summary`"
    ' was asked for, else as `reasoning_text`; `include: ["reasoning.encrypted_content"]` adds '
    "a form to give back whole, with a vendor's signature, and `top_logprobs` or "
    "`message.output_text.logprobs` what upstreams with `logprobs` say. Sound in an answer is its "
    "transcript there and at `/v1/messages`. `/v1/messages` begins with the estimated "
    "`input_tokens`; the counted ones follow at the end.\n"
)


def page() -> str:
    """Every operation of gateway and control."""
    app = control_app()
    document = app.openapi()
    admin = admin_operations(document)
    hidden = hidden_operations(app)
    text = (
        "# HTTP API\n\n"
        f"{len(gateway_operations())} operations of the gateway (port 8000), {len(admin)} of the "
        f"admin API and {len(hidden)} other operations of control (port 8001).\n\n## Gateway\n\n"
        "The same as an OpenAPI 3.1 document: `GET /v1/openapi.json`.\n\n"
        "Every operation but `/`, that document, `/livez`, `/readyz` and `/metrics` needs an API "
        "key. Errors have "
        "OpenAI's shape, or Anthropic's below `/v1/messages` and where `anthropic-version` is "
        "sent; see [Errors](errors.md). HEAD is answered wherever GET is. Azure's paths lead to "
        "the same: `/openai/v1/...`, and `/openai/deployments/{model}/...` with the model in the "
        "path.\n"
    )
    for route in ROUTES:
        for method in route.methods:
            text += f"\n### {method} {route.path}\n\n{route.meaning}\n"
            if route.path in GATEWAY_EXAMPLES:
                text += _example(method, route.path, GATEWAY_EXAMPLES[route.path])
    text += ANSWERS
    text += _table("Headers of a request", REQUEST_HEADERS)
    text += _table("Headers of an answer", ANSWER_HEADERS)
    text += _admin(document, admin)
    text += "\n## Control: other operations\n"
    for operation in hidden:
        text += f"\n### {operation.heading}\n\n{_hidden_meaning(operation)}\n"
    return text


def _table(title: str, rows: Mapping[str, str]) -> str:
    lines = "".join(f"| `{name}` | {meaning} |\n" for name, meaning in rows.items())
    return f"\n### {title}\n\n| header | meaning |\n|---|---|\n{lines}"


def _hidden_meaning(operation: Operation) -> str:
    if operation.path.startswith(_INTERNAL):
        return "Internal channel of the gateways; requests are signed with the shared secret."
    return _HIDDEN_MEANINGS[operation.path]


def _admin(document: Mapping[str, Any], admin: Mapping[Operation, dict[str, Any]]) -> str:
    text = (
        "\n## Control: the admin API\n\n"
        "The same as an OpenAPI 3.1 document: `GET /openapi.json`. Requests carry the admin token, "
        "a session's token or a program's token as `Authorization: Bearer`.\n\n"
        "* Lists come in pages: `limit` (1 to 200) and `cursor`; the answer's `next_cursor` is "
        "null on the last page.\n"
        "* `If-Match` with the `ETag` that was read: 412 when it was changed since then.\n"
        "* `If-None-Match` with the `ETag` of a list: 304, without a body, while it is as it was.\n"
        "* A POST with an `Idempotency-Key` is done once; repeated within a day, it gives the same "
        "answer.\n"
        "* Times are Unix time, `_s` in seconds and `_ms` in milliseconds; amounts `_pico` are "
        "10⁻¹² of the currency unit.\n"
        "* What each permission allows to, where it has to hold, and which fields are the "
        "platform's own: [Permissions](permissions.md).\n"
    )
    for operation, described in admin.items():
        text += f"\n### {operation.heading}\n\n{described['description'].strip()}\n\n"
        text += f"Permission: {_permission(operation, described)}.\n"
        text += _parameters(described)
        body = _schema_of(document, described.get("requestBody", {}))
        if body is not None:
            text += f"\nBody: {_fields(document, body)}.\n"
        text += _example(operation.method, operation.path, example_of(document, described))
        text += _answer(document, described)
    return text


def _permission(operation: Operation, described: Mapping[str, Any]) -> str:
    permission = described.get("x-permission")
    if permission:
        return f"`{permission}`"
    if described.get("security"):
        return "none, any signed-in user"
    return "none, no token needed"


def _parameters(described: Mapping[str, Any]) -> str:
    shown = [
        f"`{parameter['name']}`" + (" (required)" if parameter["required"] else "")
        for parameter in described.get("parameters", ())
        if parameter["in"] != "path" and parameter["name"] not in _TAKEN_AS_KNOWN
    ]
    return f"\nQuery: {', '.join(shown)}.\n" if shown else ""


def _resolved(document: Mapping[str, Any], schema: Mapping[str, Any]) -> Mapping[str, Any]:
    while "$ref" in schema:
        schema = document["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    return schema


def _schema_of(document: Mapping[str, Any], holder: Mapping[str, Any]) -> Mapping[str, Any] | None:
    schema = holder.get("content", {}).get("application/json", {}).get("schema")
    return None if schema is None else _resolved(document, schema)


def _fields(document: Mapping[str, Any], schema: Mapping[str, Any]) -> str:
    """Fields of a body in words; several bodies are joined by "or"."""
    choices = [_resolved(document, one) for one in schema.get("oneOf", schema.get("anyOf", ()))]
    if choices:
        return "; or ".join(_fields(document, one) for one in choices)
    required = set(schema.get("required", ()))
    return ", ".join(
        f"`{name}`" + (" (required)" if name in required else "")
        for name in schema.get("properties", {})
    )


def example_of(document: Mapping[str, Any], described: Mapping[str, Any]) -> object:
    """A body that the operation accepts; None where it has none."""
    schema = _schema_of(document, described.get("requestBody", {}))
    while schema is not None and "examples" not in schema:
        choices = schema.get("oneOf", schema.get("anyOf"))
        schema = _resolved(document, choices[0]) if choices else None
    return None if schema is None else schema["examples"][0]


def _example(method: str, path: str, body: object) -> str:
    written = "" if body is None else "\n" + json.dumps(body, ensure_ascii=False)
    return f"\n```http\n{method} {path}{written}\n```\n"


def _answer(document: Mapping[str, Any], described: Mapping[str, Any]) -> str:
    for status, response in described["responses"].items():
        if status.startswith("2"):
            schema = _schema_of(document, response)
            fields = "" if schema is None else _fields(document, schema)
            kinds = ", ".join(kind for kind in response.get("content", {}) if "json" not in kind)
            said = ": ".join(part for part in (f"\nAnswer: {status}", fields) if part)
            return said + (f"; also {kinds}" if kinds else "") + ".\n"
    return ""
