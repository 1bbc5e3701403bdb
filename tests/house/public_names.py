"""Every public name: API paths and fields, settings, commands, metrics, headers."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import typer.main
from docs import generate, http_reference

from tokenschain import cli
from tokenschain.core.errors import ERRORS
from tokenschain.gateway.api.routes import ROUTES
from tokenschain.infra.config import declared
from tokenschain.infra.telemetry import COUNTERS, GAUGES, HISTOGRAMS
from tokenschain.semantic.service import JUDGE_METRICS, METRICS

METRIC_LABELS = ("worker", "api", "model", "upstream", "outcome", "class", "currency",
                 "tenant", "project")  # fmt: skip


def public_names() -> dict[str, set[str]]:
    """Names by where they are public."""
    document = http_reference.control_app().openapi()
    return {
        "API paths": {*document["paths"], *(route.path for route in ROUTES)},
        "API fields": set(_fields(document)),
        "settings": set(_settings()),
        "commands": set(_commands(typer.main.get_command(cli.app), "")),
        "metrics": {*COUNTERS, *HISTOGRAMS, *GAUGES, *METRICS, *JUDGE_METRICS, *METRIC_LABELS},
        "headers": {*http_reference.REQUEST_HEADERS, *http_reference.ANSWER_HEADERS},
        "error codes": set(ERRORS),
    }


def words_of(name: str) -> set[str]:
    """The words that a name is made of."""
    return set(re.findall(r"[a-z]+", re.sub(r"([a-z])([A-Z])", r"\1_\2", name).lower()))


def _fields(document: dict[str, Any]) -> Iterator[str]:
    for schema in document["components"]["schemas"].values():
        yield from schema.get("properties", ())
        for field in schema.get("properties", {}).values():
            yield from _values(field)
    for operations in document["paths"].values():
        for operation in operations.values():
            for parameter in operation.get("parameters", ()):
                yield parameter["name"]
                yield from _values(parameter["schema"])


def _values(schema: dict[str, Any]) -> Iterator[str]:
    """The values that a field may have, where they are listed."""
    for value in (*schema.get("enum", ()), schema.get("const")):
        if isinstance(value, str):
            yield value
    for inner in (*schema.get("anyOf", ()), schema.get("items", {})):
        if isinstance(inner, dict) and inner:
            yield from _values(inner)


def _settings() -> Iterator[str]:
    for name, _ in declared.settings():
        yield name
    for group in generate.SETTINGS_GROUPS.values():
        yield from declared.fields_of(group)


def _commands(command: Any, path: str) -> Iterator[str]:
    for name, child in getattr(command, "commands", {}).items():
        yield f"{path} {name}".strip()
        yield from _commands(child, f"{path} {name}".strip())
        for parameter in child.params:
            yield from parameter.opts or (parameter.name,)
