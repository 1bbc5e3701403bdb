"""Writes docs/reference/ from the code: `make docs`. A test fails when a page is stale."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import typer.main

from docs import command_operations, http_reference, permissions_reference
from tokenschain import cli
from tokenschain.cli import operations
from tokenschain.core.errors import ERRORS
from tokenschain.core.snapshot import Routing
from tokenschain.core.snapshot.routing_policy import Policy
from tokenschain.core.snapshot.virtual_models import VirtualModelEntry, When
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
from tokenschain.infra.config.audit import ObjectLockSettings
from tokenschain.infra.config.moderation import (
    ModerationEngineSettings,
    ModerationReviewSettings,
)
from tokenschain.infra.control_telemetry import CONTROL_COUNTERS, CONTROL_GAUGES
from tokenschain.infra.telemetry import COUNTERS, GAUGES, HISTOGRAMS, Described
from tokenschain.providers.error_mapping import GENERAL_RULES, VENDOR_RULES
from tokenschain.semantic.service import JUDGE_METRICS
from tokenschain.semantic.service import METRICS as SEMANTIC_METRICS

FOLDER = Path(__file__).parent / "reference"
OPERATIONS = Path(__file__).parents[1] / "src" / "tokenschain" / "data" / operations.DOCUMENT
"""What the commands know of the admin API."""
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
        "database:\n  url: postgresql://user:password@host/name\n```\n\n"
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
    "One entry of a virtual model": VirtualModelEntry,
    "One entry's `when`": When,
    "What `audit.object_lock` holds": ObjectLockSettings,
    "What `cache` holds": CacheSettings,
    "What `cache.judge` holds": JudgeSettings,
    "What `cache.embedder` holds": EmbedderSettings,
    "One entry of `moderation.engines`": ModerationEngineSettings,
    "One entry of `moderation.reviews`": ModerationReviewSettings,
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
        f"{'yes' if kind.retry else 'no'} | {kind.blame.replace('none', '')} | {kind.fault} | "
        f"{kind.meaning} |\n"
        for kind in sorted(ERRORS.values(), key=lambda kind: (kind.status, kind.code))
    )
    return (
        "# Errors\n\nEvery error has OpenAI's shape: "
        '`{"error": {"message", "type", "param", "code"}}`. `param` names the field to blame. '
        "Where a change of the configuration has several mistakes, `problems` lists each with its "
        "`kind`, `tenant`, `name`, `field` and `message`. "
        "After the first token of a stream the status is gone: the error comes as an event of "
        "type `error`, and the stream ends without `[DONE]`.\n\n"
        "`another upstream` says whether the platform tries the next one before it gives up; "
        "`blamed` says whose health it counts against; `fault` says who has to change "
        "something. An upstream's own 401, 402 or 403 is about "
        "the platform's account and never reaches a caller as such.\n\n"
        "| code | status | type | another upstream | blamed | fault | meaning |\n"
        "|---|---|---|---|---|---|---|\n" + rows + "\n## How vendors' errors are mapped\n\n"
        "A vendor's error is mapped by the first row that fits, its own rows before the general "
        "ones; a status that no row knows is `upstream_failed`. `*` stands for any text. A row "
        "with a code and a status fits by either.\n\n"
        "| vendor | code or type | status | words | mapped to |\n|---|---|---|---|---|\n"
        + "".join(
            f"| {vendor} | {f'`{rule.codes}`' if rule.codes else ''} | {rule.status or ''} | "
            f"{rule.words} | [`{rule.means}`](#{rule.means}) |\n"
            for vendor, rules in {**VENDOR_RULES, "all": GENERAL_RULES}.items()
            for rule in rules
        )
    )


def commands() -> str:
    """Every command with its options."""
    text = "# Commands\n\n`tokenschain COMMAND --help` shows the same.\n"

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


def metrics() -> str:
    """Every metric of gateway, control and semantic process."""

    def table(metrics: Mapping[str, Described], prefix: str = "tokenschain_", end: str = "") -> str:
        return "| metric | labels | meaning |\n|---|---|---|\n" + "".join(
            f"| `{prefix}{name}{end}` | {', '.join(f'`{one}`' for one in found.labels)} | "
            f"{found.meaning} |\n"
            for name, found in metrics.items()
        )

    control = "tokenschain_control_"
    semantic = {**SEMANTIC_METRICS, **JUDGE_METRICS}
    return (
        "# Metrics\n\nHow to scrape, alert rules and a board: "
        "[Metrics and logs](../guides/metrics-and-logs.md).\n\n## Gateway\n\n"
        "`GET /metrics` of any worker answers for all workers of the machine; each series has the "
        "label `worker`, too. `model` is the name that callers wrote, `other` where there is no "
        "such model; `outcome` is `ok` or an [error code](errors.md); of `cache_lookups` it is "
        "`hit`, `miss`, `miss:learning`, `miss:unavailable` or `bypass`, and `tier` says which "
        "look-up hit: `exact`, "
        "`inflight` (an identical call in progress) or `semantic`; `class` of tokens is `input`, "
        "`cached_input` or `output`. Tenants, keys and users are no labels. Beyond 1,000 upstreams "
        "or models the figures of the rest stand under `other`, and so do counts beyond 5,000 sets "
        "of labels."
        "\n\n### Counters\n\n"
        + table(COUNTERS, end="_total")
        + "\n### Histograms\n\n"
        + table(HISTOGRAMS)
        + "\n### Gauges\n\n"
        + table(GAUGES)
        + "\n## Control\n\n`GET /metrics` with the token for metrics, or `GET /api/v1/metrics` "
        "with one that has `usage:read` on the platform. While the database is lost, what is in it "
        "is left out.\n\n### Counters\n\n"
        + table(CONTROL_COUNTERS, control, "_total")
        + "\n### Gauges\n\n"
        + table(CONTROL_GAUGES, control)
        + "\n## Semantic process\n\nLabels: `tenant`, `project`, `model`; none for the judge.\n\n"
        + table({name: Described(text) for name, text in semantic.items()}, "")
    )


PAGES = {
    "settings.md": settings,
    "errors.md": errors,
    "commands.md": commands,
    "http.md": http_reference.page,
    "metrics.md": metrics,
    "permissions.md": permissions_reference.page,
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
    document = command_operations.document()
    if not OPERATIONS.exists() or OPERATIONS.read_bytes() != document:
        stale.append(OPERATIONS.name)
        if "--check" not in sys.argv:
            OPERATIONS.write_bytes(document)
    print(f"{'stale' if '--check' in sys.argv else 'written'}: {', '.join(stale) or 'none'}")
    return 1 if stale and "--check" in sys.argv else 0


if __name__ == "__main__":
    sys.exit(main())
