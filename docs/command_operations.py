"""Writes src/tokenschain/data/admin_api.json: control's OpenAPI document, cut to what the commands
have to know."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from docs import http_reference
from tokenschain.cli.operations import Field, Kind, Operation

_KINDS: dict[str, Kind] = {
    "string": "text", "integer": "integer", "number": "number", "boolean": "boolean",
}  # fmt: skip
_HEADERS = {"if-match"}
_PREFIX = "/api/v1"
Schema = Mapping[str, Any]


def document() -> bytes:
    """The operations as JSON, one a line."""
    lines = (msgspec.json.encode(operation).decode() for operation in operations())
    return ("[\n" + ",\n".join(lines) + "\n]\n").encode()


def operations() -> Iterator[Operation]:
    """Every operation of the admin API."""
    document = http_reference.control_app().openapi()
    for (method, path), described in http_reference.admin_operations(document).items():
        summary = described["summary"]
        answers, columns = _answer(document, described)
        yield Operation(
            method,
            path.removeprefix(_PREFIX),
            summary,
            _more(described),
            tuple(_fields(document, described)),
            answers,
            columns,
            open="x-permission" not in described and not described.get("security"),
        )


def _more(described: Schema) -> str:
    paragraphs = described["description"].strip().split("\n\n")
    first = " ".join(paragraphs[0].split())
    rest = first.partition(";")[2].strip()
    said = [rest[:1].upper() + rest[1:]] if rest else []
    return "\n\n".join([*said, *(" ".join(part.split()) for part in paragraphs[1:])])


def _fields(document: Schema, described: Schema) -> Iterator[Field]:
    for parameter in described.get("parameters", ()):
        if parameter["in"] in ("header", "cookie") and parameter["name"].lower() not in _HEADERS:
            continue
        yield _field(document, parameter["name"], parameter["in"], parameter["schema"],
                     parameter.get("required", False))  # fmt: skip
    content = described.get("requestBody", {}).get("content", {})
    body = _resolved(document, content.get("application/json", {}).get("schema", {}))
    choices = [_resolved(document, one) for one in body.get("oneOf", [body])]
    seen: dict[str, Field] = {}
    for choice in choices:
        for name, schema in choice.get("properties", {}).items():
            needed = all(name in one.get("required", ()) for one in choices)
            seen.setdefault(name, _field(document, name, "body", schema, needed))
    yield from seen.values()


def _field(document: Schema, name: str, place: Any, schema: Schema, needed: bool) -> Field:
    found = _resolved(document, schema)
    options = [_resolved(document, one) for one in found.get("anyOf", [found])]
    options = [one for one in options if one.get("type") != "null"] or [found]
    kinds = [one.get("type") for one in options]
    default = schema.get("default", found.get("default"))
    choices = tuple(str(one) for option in options for one in option.get("enum", ()) if one != "")
    kind: Kind = "json"
    if "string" in kinds and all(kind in ("string", "number") for kind in kinds):
        kind = "text"
    elif len(options) == 1 and kinds[0] in _KINDS:
        kind = _KINDS[kinds[0]]
    elif len(options) == 1 and kinds[0] == "array":
        items = _resolved(document, options[0].get("items", {}))
        choices = tuple(str(one) for one in items.get("enum", ()))
        kind = {"string": "texts", "integer": "integers"}.get(items.get("type", ""), "json")  # type: ignore[assignment]
    if "const" in options[0]:
        choices = (str(options[0]["const"]),)
    plain = default if isinstance(default, str | int | float | bool) and default != "" else None
    return Field(name, place, kind, needed, choices, plain)


def _answer(document: Schema, described: Schema) -> tuple[Any, tuple[str, ...]]:
    for status, answer in described["responses"].items():
        if not status.startswith("2"):
            continue
        content = answer.get("content", {})
        if "application/json" not in content:
            return ("stream" if content else "nothing"), ()
        found = _resolved(document, content["application/json"]["schema"])
        fields = found.get("properties", {})
        rows = fields.get("data", {})
        if rows.get("type") == "array":
            item = _resolved(document, rows["items"])
            options = [_resolved(document, one) for one in item.get("oneOf", [item])]
            columns = dict.fromkeys(name for one in options for name in one.get("properties", {}))
            return ("pages" if "next_cursor" in fields else "list"), tuple(columns)
        return "object", tuple(fields)
    return "nothing", ()


def _resolved(document: Schema, schema: Schema) -> Schema:
    while "$ref" in schema:
        schema = document["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    return schema
