"""Writes docs/reference/ from the code: `make docs`. A test fails when a page is stale."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import typer.main
from fastapi.routing import APIRoute

from tokenschain import cli
from tokenschain.control.api.app import create_app
from tokenschain.control.api.context import ApiContext
from tokenschain.core.errors import ERRORS
from tokenschain.core.formats.formats import API_FORMATS
from tokenschain.infra.config import (
    ENV_PREFIX,
    CacheSettings,
    EmbedderSettings,
    EntrySettings,
    JudgeSettings,
    PolicySettings,
    PriceSettings,
    RoutingSettings,
    Settings,
    UpstreamSettings,
    WhenSettings,
)
from tokenschain.infra.telemetry import CALL_METRICS, GAUGE_MEANINGS
from tokenschain.providers.error_mapping import GENERAL_RULES, VENDOR_RULES

FOLDER = Path(__file__).parent / "reference"
_NOTE = "<!-- Written by docs/generate.py; do not edit. -->\n\n"


def settings() -> str:
    """Every setting, its default and its purpose."""
    text = (
        "# Settings\n\nA YAML file (`tokenschain.yaml` in the working folder, or the one that "
        f"`{ENV_PREFIX}CONFIG` names) holds `name: value` lines; an environment variable "
        f"`{ENV_PREFIX}NAME` beats it, a flag beats both. `tokenschain doctor` shows each value "
        "and where it comes from. A wrong or unknown setting is refused at start.\n\n"
        f"`{cli.config.ADMIN_TOKEN_VARIABLE}` holds the admin token for commands that run "
        "elsewhere than on control's machine.\n"
    )
    for name, field in Settings.model_fields.items():
        default = "see below" if field.is_required() or field.default_factory else field.default
        text += f"\n## {name}\n\n{field.description}\n\nDefault: `{_shown(default)}`."
        text += f" Environment: `{ENV_PREFIX}{name.upper()}`.\n"
    text += "\n## One entry of `upstreams`\n\n"
    text += _fields(UpstreamSettings, UPSTREAM_FIELDS)
    text += "\n## What `routing` holds\n\n" + _fields(RoutingSettings, ROUTING_FIELDS)
    text += "\n## What `cache` holds\n\n" + _fields(CacheSettings, CACHE_FIELDS)
    text += "\n## What a cache's `judge` holds\n\n" + _fields(JudgeSettings, JUDGE_FIELDS)
    text += "\n## What a cache's `embedder` holds\n\n" + _fields(EmbedderSettings, EMBEDDER_FIELDS)
    text += "\n## One entry of `own_policies`\n\n" + _fields(PolicySettings, POLICY_FIELDS)
    text += "\n## One entry of a virtual model\n\n" + _fields(EntrySettings, ENTRY_FIELDS)
    text += "\n## One entry's `when`\n\n" + _fields(WhenSettings, WHEN_FIELDS)
    text += "\n## One entry of an upstream's `prices`\n\n"
    return text + _fields(PriceSettings, PRICE_FIELDS)


UPSTREAM_FIELDS = {
    "id": "Name of the upstream, unique.",
    "provider": "A provider of the catalogue (`tokenschain model list`), or `custom`.",
    "base_url": "Address up to and including the version; the catalogue's by default.",
    "credential": "Where its key is, or a list of several: `env:NAME`, `file:PATH` or "
    "`sealed:NAME` (`tokenschain secrets set`). Never the key itself.",
    "auth": "Another way to prove who asks: `jwt` (Zhipu; credential `id.secret`), "
    "`sdk-hmac-sha256` or `sdk-hmac-sm3` (Huawei; `id:secret`), `token` (Baidu and Volcano; "
    "`id:secret`, traded for short-lived tokens).",
    "token_url": "Of the vendor's token service, where not the public one.",
    "models": "Names callers use, or a mapping of those to the upstream's names; all by default.",
    "prices": "By the upstream's model name, per 1M tokens; beats the catalogue.",
    "kinds": "By the upstream's model name, `chat` or `embedding`, for models not catalogued.",
    "connect_max_s": "A connection must stand within, TLS included.",
    "first_byte_max_s": "The first byte of an answer must come within.",
    "idle_max_s": "Longest pause between two events of a stream; comments do not count.",
    "total_max_s": "Longest answer.",
    "connections_max": "Connections at once, per gateway worker.",
    "queue_wait_max_s": "Longest wait for a free connection.",
    "stream_whole": "Ask for a stream even where the caller wants a whole answer, so that a silent "
    "upstream is noticed within seconds; costs some CPU for each token.",
    "concurrency_max": "Calls at once, per gateway worker; the limit that is learned stays below.",
    "probe_path": "Asked with GET, without a key, while no call goes there or it is left alone: "
    "`/health` of vLLM, SGLang, TEI and llama.cpp. A 200 brings its next trial forward; anything "
    "else counts as a failure. Off by default: for a cloud, the next call is the probe.",
    "region": "Where it is, as `cn-beijing`; the nearer is preferred until times are measured.",
    "zone": "Where data goes there: `abroad`, `cn`, `mlps3`, `gov` or `own`; by the provider if "
    "unset.",
}
ROUTING_FIELDS = {
    "policy": "`performance-first`, `cost-first`, `balanced`, `compliance-first`, or one of your "
    "own.",
    "own_policies": "Policies by name; see below.",
    "policies": "Policies by `tenant/NAME`, `project/NAME` or `model/NAME`; a model's beats a "
    "project's, that a tenant's.",
    "first_token_slo_s": "The time to the first token that is promised.",
    "explore": "Share of calls that try any upstream that is in time, so that estimates stay "
    "fresh.",
    "hedge": "Ask a second upstream when an interactive call waits a fifth longer than expected: "
    "at most 2 % of calls, which are then paid twice.",
    "usd_cny": "Yuan for a dollar, to compare prices; never for billing.",
    "region": "Where the gateway is, as `cn-shanghai`.",
    "models": "Virtual models by name, each a list of entries; see below.",
    "residency": "By `tenant/NAME`, `project/NAME` or `*`: the zones its data may go to. Nothing "
    "is sent elsewhere, whatever fails.",
}
CACHE_FIELDS = {
    "mode": "`off`, `exact` (the same request gets the same answer), or `semantic` (so does a "
    "question that means the same).",
    "policies": "Modes by `tenant/NAME`, `project/NAME` or `model/NAME`; a model's beats a "
    "project's, that a tenant's.",
    "scope": "Who shares answers: everyone of a `project` and environment, or each `user` (the "
    "request's `user`, else its key) alone.",
    "ttl_s": "How long an answer is given again, plus or minus a tenth. Questions about the "
    "present (today, latest, weather, prices) get 300 s at most.",
    "temperature_max": "Calls that ask for a higher temperature are answered afresh.",
    "entry_bytes_max": "Longer answers are not kept.",
    "memory_bytes_max": "Answers in memory, per gateway worker.",
    "tenant_share": "Share of that memory one tenant may fill.",
    "writes_per_minute": "Answers one API key may add a minute.",
    "tool_calls": "Whether answers that call tools are kept.",
    "hit_price": "What a customer pays for an answer given again, as a share of the usual price.",
    "wrong_max": "Highest share of wrong answers among those given again by meaning, by "
    "`tenant/NAME`, `project/NAME`, `model/NAME` or `*`; 0.01 if unset.",
    "replay_chars_per_s": "Pace at which a kept answer is streamed; 0: at once.",
    "judge": "A chat model that says whether a kept answer fits; see below.",
    "embedder": "An embedding model in place of the better one that comes along; see below.",
}
JUDGE_FIELDS = {
    "base_url": "Of an OpenAI-compatible server, with its version; this gateway's own will do.",
    "model": "Its name there.",
    "credential": "Where its key is: `env:NAME`, `file:PATH` or `sealed:NAME`.",
    "decides": "Ask it also, while a caller waits, whether a kept answer that is in doubt may be "
    "given. Otherwise it only compares answers afterwards.",
    "wait_max_s": "Longest wait for its word; silence is a no.",
    "calls_per_minute": "It is asked no more often.",
}
EMBEDDER_FIELDS = {
    "base_url": "Of a server with OpenAI's `/embeddings`, with its version.",
    "model": "Its name there.",
    "dimensions": "Of its vectors.",
    "credential": "Where its key is: `env:NAME`, `file:PATH` or `sealed:NAME`.",
    "wait_max_s": "Longest wait for its vectors; silence is a miss.",
}
POLICY_FIELDS = {
    "objective": "What decides among upstreams in time: `latency`, `cost`, or the `score`.",
    "slo_share": "In time means a first token expected within this share of the SLO.",
    "by_zone": "Only the most trusted zone that has an upstream is used.",
    "latency": "Weight in the score: expected first token over the SLO.",
    "price": "Weight: expected cost over the cheapest, less one.",
    "load": "Weight: square of the share of the limit in use.",
    "availability": "Weight: the logarithm of recent success.",
}
ENTRY_FIELDS = {
    "model": "A model that is served.",
    "upstream": "Only at this upstream.",
    "weight": "Entries with weights beside each other share their turn by them.",
    "when": "Conditions; entries whose conditions hold are asked first, then those without.",
}
WHEN_FIELDS = {
    "language": "Of the last message: `zh`, `en`, `ja`, `ko`, `ru` or `ar`.",
    "tags": "Words that `x-tc-tags` must hold, all of them.",
    "needs": "Of `tools`, `vision`, `json_schema`: what the call must use.",
    "prompt_tokens_min": "Prompts of at least this many tokens, estimated.",
    "prompt_tokens_max": "Prompts of at most this many.",
}
PRICE_FIELDS = {
    "currency": "`CNY` or `USD`.",
    "input": "For 1,000,000 prompt tokens.",
    "output": "For 1,000,000 generated tokens.",
    "cached_input": "For 1,000,000 prompt tokens that the upstream had cached; as input if unset.",
}


def _fields(model: Any, meanings: dict[str, str]) -> str:
    rows = "".join(
        f"| `{name}` | {meanings[name]} | "
        f"{'required' if field.is_required() else f'`{_shown(field.get_default(call_default_factory=True))}`'} |\n"  # noqa: E501
        for name, field in model.model_fields.items()
    )
    return f"| name | meaning | default |\n|---|---|---|\n{rows}"


def _shown(value: Any) -> str:
    if value in (None, (), {}, []):
        return "none"
    return f"{value:_}" if type(value) is int and value >= 100_000 else str(value)


def errors() -> str:
    """The one table of errors."""
    rows = "".join(
        f"| <a id='{kind.code}'></a>`{kind.code}` | {kind.status} | `{kind.type}` | "
        f"{'yes' if kind.retry else 'no'} | {kind.blame} | {kind.fault} | {kind.meaning} |\n"
        for kind in sorted(ERRORS.values(), key=lambda kind: (kind.status, kind.code))
    )
    return (
        "# Errors\n\nEvery error has OpenAI's shape: "
        '`{"error": {"message", "type", "param", "code"}}`. `param` names the field to blame. '
        "After the first token of a stream the status is gone: the error comes as an event of "
        "type `error`, and the stream ends without `[DONE]`.\n\n"
        "`another upstream` says whether the platform tries the next one before it gives up; "
        "`left alone` says what is not asked again for a while; `fault` says who has to change "
        "something. An upstream's own 401, 402 or 403 is about "
        "the platform's account and never reaches a caller as such.\n\n"
        "| code | status | type | another upstream | left alone | fault | meaning |\n"
        "|---|---|---|---|---|---|---|\n" + rows + "\n## What vendors say\n\n"
        "A vendor's error is read by the first row that fits, its own rows before the general "
        "ones; a status that no row knows is `upstream_failed`. `*` stands for any text. A row "
        "with a code and a status fits by either.\n\n"
        "| vendor | code or type | status | words | is |\n|---|---|---|---|---|\n"
        + "".join(
            f"| {vendor} | {f'`{rule.codes}`' if rule.codes else ''} | {rule.status or ''} | "
            f"{rule.words} | [`{rule.means}`](#{rule.means}) |\n"
            for vendor, rules in {**VENDOR_RULES, "all": GENERAL_RULES}.items()
            for rule in rules
        )
    )


def commands() -> str:
    """Every command with its options."""
    text = "# Commands\n\n`tokenschain COMMAND --help` says the same.\n"

    def walk(command: Any, path: str) -> None:
        nonlocal text
        for name, child in sorted(getattr(command, "commands", {}).items()):
            full = f"{path} {name}"
            if hasattr(child, "commands"):
                walk(child, full)
                continue
            text += f"\n## {full.strip()}\n\n{(child.help or '').strip()}\n"
            for parameter in child.params:
                if getattr(parameter, "hidden", False) or parameter.name == "help":
                    continue
                names = "/".join(parameter.opts) if parameter.opts else parameter.name
                meaning = getattr(parameter, "help", "") or ""
                text += f"\n- `{names}` {meaning}".rstrip()
            text = text.rstrip("\n") + "\n"

    walk(typer.main.get_command(cli.app), "")
    return text


FORM_MEANINGS = {
    "chat/completions": "OpenAI chat, streamed or whole. Unknown fields pass through untouched.",
    "completions": "Plain completions.",
    "embeddings": "Embeddings: a text, texts or token arrays; `float` or `base64`.",
    "rerank": "Documents by relevance to a query, in the shape of Jina's and Cohere's APIs.",
    "messages": "Anthropic's Messages API, streamed or whole, for every chat model.",
    "responses": "OpenAI's Responses API, streamed or whole; stored unless `store` is false.",
}
GATEWAY_PATHS = {
    **{f"POST /v1/{form.name}": FORM_MEANINGS[form.name] for form in API_FORMATS},
    "POST /v1/messages/count_tokens": "An estimate of a Messages request's input tokens.",
    "GET /v1/responses/{id}": "A stored response, up to a second after it was made; also "
    "`/input_items`, `DELETE`, and `/cancel` (refused: nothing runs in the background).",
    "POST /api/v1/routes/explain": "A chat request's body: where it would go now, and every "
    "candidate as it is weighed. Nothing is sent or billed.",
    "GET /v1/models": "Models the key may use.",
    "GET /v1/models/{id}": "One of them.",
    "GET /livez": "200 while the process runs.",
    "GET /readyz": "200 when calls are answered; else 503 with the reasons.",
    "GET /metrics": "Prometheus text; see [metrics](metrics.md).",
}  # fmt: skip
REQUEST_HEADERS = {
    "Authorization": "`Bearer <key>`; or the key in `x-api-key`.",
    "x-tc-tags": "Free text up to 1,024 bytes, kept on the call's ledger row.",
    "x-tc-unsupported": "What to do with parameters the upstream does not offer: `auto` "
    "(emulate what can be, drop hints, refuse the rest), `error`, `drop` or `emulate`.",
    "x-tc-priority": "`interactive` (streams by default), `default` or `bulk`: who goes first "
    "when upstreams are full.",
    "x-tc-deadline-ms": "How long the call may wait for an upstream with room.",
    "x-tc-route": "Any value: the answer says in the same header how its upstream was chosen.",
    "traceparent": "W3C trace context; its trace id is kept on the ledger row.",
    "Origin": "Answered with CORS headers when `cors_origins` allows it.",
}
ANSWER_HEADERS = {
    "x-request-id": "The call's id; also its id in the ledger. Quote it in a report.",
    "x-tc-upstream": "The upstream that answered.",
    "x-tc-cache": "`hit-exact`, `hit-inflight` or `hit-semantic`: the answer was given before; "
    "`miss` or `bypass:WHY`. See [Answers given again](../guides/response-cache.md).",
    "x-tc-cache-key": "Which kept answer it was.",
    "x-tc-cache-confidence": "How likely a kept answer is right for this question, 0 to 1.",
    "age": "Of a kept answer, in seconds.",
    "x-tc-cost": "Exact cost of a whole answer, as `0.000123 CNY`; absent when not priced.",
    "x-tc-overhead-ms": "Milliseconds spent in the platform until the answer began.",
    "x-tc-dropped": "Parameters the upstream does not offer and the call went without.",
    "x-tc-emulated": "Parameters the upstream does not offer and the platform made up for.",
    "x-tc-route": "The candidates as they were weighed, and those tried; only when asked for.",
    "Retry-After": "Seconds, when we or an upstream said when to come back.",
}


def http() -> str:
    """Every path of gateway and control."""

    def table(title: str, rows: dict[str, str]) -> str:
        lines = "".join(f"| `{name}` | {meaning} |\n" for name, meaning in rows.items())
        return f"\n## {title}\n\n| | |\n|---|---|\n{lines}"

    control = {
        f"{method} {route.path}": (route.description or route.name).strip().splitlines()[0]
        for route in create_app(
            ApiContext(*[None] * len(ApiContext._fields)), None, [], "", None
        ).routes  # type: ignore[arg-type]
        if isinstance(route, APIRoute) and route.include_in_schema
        for method in sorted(route.methods)
    }
    return (
        "# HTTP\n"
        + table("The gateway", GATEWAY_PATHS)
        + table("Headers of a request", REQUEST_HEADERS)
        + table("Headers of an answer", ANSWER_HEADERS)
        + table("Control: the admin API", control)
        + "\nControl describes itself at `/openapi.json` (OpenAPI 3.1). Its callers send the "
        "admin token as `Authorization: Bearer`. `/internal/v1/*` is the channel of the gateways, "
        "signed with the shared secret.\n"
    )


def metrics() -> str:
    """Every metric of a gateway."""
    rows = "".join(
        f"| `tokenschain_{name}` | {meaning} |\n"
        for name, meaning in (CALL_METRICS | GAUGE_MEANINGS).items()
    )
    return (
        "# Metrics\n\n`GET /metrics` of any worker answers for all workers of the machine. Call "
        "metrics carry `worker`, `api`, `model` and `upstream`.\n\n| metric | meaning |\n"
        f"|---|---|\n{rows}"
    )


PAGES = {
    "settings.md": settings,
    "errors.md": errors,
    "commands.md": commands,
    "http.md": http,
    "metrics.md": metrics,
}


def main() -> int:
    """Write the pages; with `--check`, only say which are stale."""
    stale = []
    for name, page in PAGES.items():
        text = _NOTE + page()
        path = FOLDER / name
        if not path.exists() or path.read_text("utf-8") != text:
            stale.append(name)
            if "--check" not in sys.argv:
                path.write_text(text, "utf-8")
    print(f"{'stale' if '--check' in sys.argv else 'written'}: {', '.join(stale) or 'none'}")
    return 1 if stale and "--check" in sys.argv else 0


if __name__ == "__main__":
    sys.exit(main())
