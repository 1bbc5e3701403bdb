"""Route table of the gateway: every method and path that it answers.

`Gateway` dispatches by this table, and docs/reference/http.md is made from it.
"""

from __future__ import annotations

from typing import NamedTuple

from tokenschain.core.formats.formats import API_FORMATS


class Route(NamedTuple):
    """One path and what it answers."""

    path: str
    """As `/v1/models/{id}`; `{id}` at the end stands for all that follows."""
    methods: tuple[str, ...]
    handler: str
    """`call` for the inference APIs; else the name of the method that answers."""
    meaning: str


_FORMAT_MEANINGS = {
    "chat/completions": "OpenAI chat completions, streamed or whole. Unknown fields are passed on "
    "unchanged.",
    "completions": "OpenAI text completions, streamed or whole.",
    "embeddings": "OpenAI embeddings of a text, several texts or token arrays; `float` or "
    "`base64`.",
    "rerank": "Documents by relevance to a query, in the shape of Jina's and Cohere's APIs.",
    "messages": "Anthropic's Messages API, streamed or whole, for every chat model.",
    "responses": "OpenAI's Responses API, streamed or whole; stored unless `store` is false.",
}

ROUTES: tuple[Route, ...] = (
    *(
        Route(f"/v1/{api.name}", ("POST",), "call", _FORMAT_MEANINGS[api.name])
        for api in API_FORMATS
    ),
    Route(
        "/v1/messages/count_tokens", ("POST",), "count_tokens",
        "An estimate of the input tokens of a Messages request.",
    ),
    Route(
        "/v1/responses/input_tokens", ("POST",), "input_tokens",
        "An estimate of the input tokens of a Responses request.",
    ),
    Route(
        "/v1/responses/compact", ("POST",), "call",
        "A summary of a conversation, made by the model itself, as one item that can be sent in "
        "place of the items before it.",
    ),
    Route(
        "/v1/responses/{id}", ("GET", "DELETE"), "stored_response",
        "A stored response, at any gateway as soon as its caller has it. With `stream=true` as "
        "events, with `starting_after` those that follow one.",
    ),
    Route(
        "/v1/responses/{id}/input_items", ("GET",), "stored_response",
        "The input of a stored response, by pages: `limit`, `order`, `after`.",
    ),
    Route(
        "/v1/responses/{id}/cancel", ("POST",), "stored_response",
        "Always refused: responses do not run in the background.",
    ),
    Route(
        "/v1/moderations", ("POST",), "moderations",
        "What the local moderation rules find in a text or several, in OpenAI's form with the "
        "platform's categories. No model is called and nothing is billed.",
    ),
    Route(
        "/v1/moderations/appeals", ("POST",), "appeals",
        "An appeal against what moderation did to a call of the key's project: `call_id`, the "
        "`x-request-id` of its answer, and `reason`. People decide it; one for each call.",
    ),
    Route(
        "/v1/moderations/appeals/{id}", ("GET",), "appeals",
        "An appeal of the key's project: whether it is decided, how, and what is replied.",
    ),
    Route(
        "/v1/models", ("GET",), "models",
        "The models that the key may use; in Anthropic's shape, by pages, when `anthropic-version` "
        "is sent.",
    ),
    Route("/v1/models/{id}", ("GET",), "models", "One of them."),
    Route(
        "/api/v1/routes/explain", ("POST",), "explain",
        "Where a chat request would go now and why; with the figures of every candidate for keys "
        "with `routing_details`. Nothing is sent and nothing is billed.",
    ),
    Route(
        "/v1/openapi.json", ("GET",), "openapi",
        "The OpenAPI 3.1 document of this API; no key is needed.",
    ),
    Route("/openapi.json", ("GET",), "openapi", "The same."),
    Route("/", ("GET",), "home", "What this is, and where its API is described."),
    Route("/livez", ("GET",), "livez", "200 while the process runs."),
    Route(
        "/readyz", ("GET",), "readyz",
        "200 when calls are answered, else 503; with the reasons for the token for metrics.",
    ),
    Route(
        "/metrics", ("GET",), "metrics",
        "Metrics in Prometheus' text format, with the token for metrics.",
    ),
)  # fmt: skip


def _index() -> tuple[dict[bytes, Route], tuple[tuple[bytes, bytes, Route], ...]]:
    exact: dict[bytes, Route] = {}
    patterns: list[tuple[bytes, bytes, Route]] = []
    for route in ROUTES:
        prefix, parameter, suffix = route.path.partition("{id}")
        if parameter:
            patterns.append((prefix.encode(), suffix.encode(), route))
        else:
            exact[route.path.encode()] = route
    # The longest suffix first: `/v1/responses/{id}/cancel` before `/v1/responses/{id}`.
    patterns.sort(key=lambda pattern: -len(pattern[1]))
    return exact, tuple(patterns)


_EXACT, _PATTERNS = _index()


def find(path: bytes) -> tuple[Route, bytes] | None:
    """The route of a path, and what stands after the route's fixed beginning."""
    route = _EXACT.get(path)
    if route is not None:
        return route, b""
    for prefix, suffix, pattern in _PATTERNS:
        if path.startswith(prefix) and path.endswith(suffix):
            return pattern, path[len(prefix) :]
    return None


def methods_of(route: Route) -> str:
    """The `Allow` header of a path: HEAD wherever GET is."""
    names = ["GET", "HEAD"] if "GET" in route.methods else []
    names += [name for name in route.methods if name != "GET"]
    return ", ".join([*names, "OPTIONS"])
