"""Writes docs/reference/ from the code: `make docs`. A test fails when a page is stale."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import msgspec
import typer.main
from fastapi.routing import APIRoute

from tokenschain import cli
from tokenschain.control.api.app import create_app
from tokenschain.control.api.context import ApiContext
from tokenschain.core.errors import ERRORS
from tokenschain.core.formats.formats import API_FORMATS
from tokenschain.core.snapshot import Routing
from tokenschain.core.snapshot.routing_policy import Policy
from tokenschain.core.snapshot.virtual_models import Entry, When
from tokenschain.infra.config import (
    ENV_PREFIX,
    CacheSettings,
    EmbedderSettings,
    JudgeSettings,
    PriceSettings,
    UpstreamSettings,
    declared,
    variable_of,
)
from tokenschain.infra.telemetry import CALL_METRICS, GAUGE_MEANINGS
from tokenschain.providers.error_mapping import GENERAL_RULES, VENDOR_RULES

FOLDER = Path(__file__).parent / "reference"
_NOTE = "<!-- Written by docs/generate.py; do not edit. -->\n\n"


def settings() -> str:
    """Every setting, its environment variable, range, default and purpose."""
    text = (
        "# Settings\n\nA YAML file (`tokenschain.yaml` in the working folder, or the one that "
        f"`{ENV_PREFIX}CONFIG` names) holds groups of `name: value` lines; an environment variable "
        f"`{ENV_PREFIX}GROUP__NAME` beats it, a flag beats both. Lists and mappings are JSON in a "
        "variable; a list of plain words may have commas instead. `tokenschain doctor` shows each "
        "value and where it comes from. A wrong or unknown setting is refused at start.\n\n"
        "```yaml\ndata_dir: /var/lib/tokenschain\nserver:\n  host: 0.0.0.0\n  port: 8000\n"
        "database:\n  url: postgresql+psycopg://user:password@host/name\n```\n\n"
        f"`{cli.config.ADMIN_TOKEN_VARIABLE}` holds the admin token for commands that run "
        "elsewhere than on control's machine.\n"
    )
    for name, found in declared.settings():
        group = isinstance(found.default, msgspec.Struct) or name == "upstreams"
        default = "see below" if group else _shown(found.default)
        if name == "data_dir":  # of the machine that writes the page
            default = "~/.local/share/tokenschain"
        text += f"\n## {name}\n\n{found.description}\n\n"
        if not group:
            text += f"Allowed: {declared.range_of(found.hint)}. "
        text += f"Default: `{default}`. Environment: `{variable_of(name)}`.\n"
    for title, group in SETTINGS_GROUPS.items():
        text += f"\n## {title}\n\n{_fields(group)}"
    return text


SETTINGS_GROUPS: dict[str, type] = {
    "One entry of `upstreams`": UpstreamSettings,
    "One entry of an upstream's `prices`": PriceSettings,
    "What `routing` holds": Routing,
    "One entry of `routing.custom_policies`": Policy,
    "One entry of a virtual model": Entry,
    "One entry's `when`": When,
    "What `cache` holds": CacheSettings,
    "What `cache.judge` holds": JudgeSettings,
    "What `cache.embedder` holds": EmbedderSettings,
}


def _fields(group: type) -> str:
    rows = "".join(
        f"| `{name}` | {found.description} | {declared.range_of(found.hint)} | "
        f"{'required' if found.default is msgspec.NODEFAULT else f'`{_shown(found.default)}`'} |\n"
        for name, found in declared.fields_of(group).items()
    )
    return f"| name | meaning | allowed | default |\n|---|---|---|---|\n{rows}"


def _shown(value: object) -> str:
    if value in (None, (), {}, [], ""):
        return "none"
    if isinstance(value, bool):
        return str(value).lower()
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
    "Origin": "Answered with CORS headers when `server.cors_origins` allows it.",
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
