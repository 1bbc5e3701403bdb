"""Hostile input: whatever a caller sends, others are answered meanwhile and nothing is fetched."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.small_server import serving
from tokenschain.core.errors import ApiError
from tokenschain.providers.schema_check import CHECK_MAX_S, SchemaChecker

PAUSE_MAX_S = 0.05
"""For which the loop may stand still at most, on a machine that has nothing else to do."""
SLOWNESS = 6
"""By how much a loaded machine may be slower."""

DRAFT_7 = "http://json-schema.org/draft-07/schema#"
CATASTROPHE = "^(a+)+$"


class Pauses:
    """The longest pause of the running loop."""

    def __init__(self) -> None:
        self.longest_s = 0.0

    async def __aenter__(self) -> Pauses:
        self._task = asyncio.create_task(self._watch())
        await asyncio.sleep(0.01)
        return self

    async def __aexit__(self, *_: object) -> None:
        await asyncio.sleep(0.01)
        self._task.cancel()

    async def _watch(self) -> None:
        before = time.perf_counter()
        while True:
            await asyncio.sleep(0.002)
            now = time.perf_counter()
            self.longest_s, before = max(self.longest_s, now - before), now

    def check(self) -> None:
        assert self.longest_s < PAUSE_MAX_S * SLOWNESS


# --- a caller's JSON schema -----------------------------------------------------------------


def reply(answer: Any) -> bytes:
    text = msgspec.json.encode(answer).decode()
    return msgspec.json.encode(
        {"choices": [{"message": {"content": text}, "finish_reason": "stop"}]}
    )


async def check(schema: Any, answer: Any) -> bytes:
    checker, encoded = SchemaChecker(), msgspec.json.encode(schema)
    await checker.check_schema(encoded, "schema")
    return await checker.checked(reply(answer), encoded, "up")


@pytest.mark.parametrize("keyword", ["$ref", "$dynamicRef"])
@pytest.mark.parametrize("wrapped", [False, True])
@pytest.mark.parametrize("where", ["file", "url", "relative"])
def test_a_schema_reads_no_file_and_no_url(
    tmp_path: Path, keyword: str, wrapped: bool, where: str
) -> None:
    from http.server import BaseHTTPRequestHandler

    asked: list[str] = []

    class Secret(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b'{"enum": ["INTERNAL"]}')

        def log_message(self, *_: object) -> None: ...

    secret = tmp_path / "secret.json"
    secret.write_text('{"enum": ["INTERNAL"]}')
    with serving(Secret) as url:
        target = {"file": secret.as_uri(), "url": f"{url}/s.json", "relative": "s.json"}[where]
        schema: dict[str, Any] = {keyword: target}
        if where == "relative":
            schema["$id"] = f"{url}/base.json"
        if wrapped:
            schema = {"allOf": [{"properties": {"a": schema}}], "$defs": {"b": [schema]}}
        with pytest.raises(ApiError) as refused:
            asyncio.run(check(schema, {"a": "x"}))
    assert refused.value.code == "invalid_value" and "INTERNAL" not in str(refused.value)
    assert not asked


def test_a_reference_that_the_check_of_the_schema_overlooks_is_not_fetched_either(
    tmp_path: Path,
) -> None:
    secret = tmp_path / "secret.json"
    secret.write_text('{"enum": ["INTERNAL"]}')
    hidden = {"$ref": "#/default", "default": {"$ref": secret.as_uri()}}
    with pytest.raises(ApiError) as refused:
        asyncio.run(check(hidden, "x"))
    assert refused.value.code == "invalid_value" and "INTERNAL" not in str(refused.value)


@pytest.mark.parametrize(
    "schema",
    [
        {"properties": {"a": {"pattern": CATASTROPHE}}},
        {"patternProperties": {CATASTROPHE: {}}},
        {"patternProperties": {CATASTROPHE: {}}, "additionalProperties": False},
        {"patternProperties": {CATASTROPHE: {}}, "unevaluatedProperties": False},
        {"propertyNames": {"pattern": CATASTROPHE}},
        {"properties": {"a": {"$schema": DRAFT_7, "pattern": CATASTROPHE}}},
        {"$schema": DRAFT_7, "properties": {"a": {"pattern": CATASTROPHE}}},
    ],
)
def test_a_regular_expression_of_a_caller_is_never_run(schema: Any) -> None:
    name = "a" * 40 + "!"
    began = time.perf_counter()
    assert asyncio.run(check(schema, {"a": name, name: 1}))
    assert time.perf_counter() - began < CHECK_MAX_S * SLOWNESS


def doubling(levels: int) -> dict[str, Any]:
    """A schema that branches at each of its levels."""
    levels_of = {f"l{at}": {"allOf": [{"$ref": f"#/$defs/l{at + 1}"}] * 2} for at in range(levels)}
    return {"$ref": "#/$defs/l0", "$defs": {**levels_of, f"l{levels}": {"type": "string"}}}


HOSTILE_SCHEMAS = [
    (doubling(30), "x"),
    ({"$ref": "#"}, 1),
    ({"anyOf": [{"$ref": "#"}, {"$ref": "#"}]}, 1),
    ({"anyOf": [{"enum": ["y" * 30]}] * 1_400}, ["x" * 1_000] * 900),
    ({"items": doubling(12), "type": "array"}, ["x"] * 3_000),
]


@pytest.mark.parametrize(("schema", "answer"), HOSTILE_SCHEMAS, ids=range(len(HOSTILE_SCHEMAS)))
def test_a_check_of_a_schema_ends_and_lets_others_go_on(schema: Any, answer: Any) -> None:
    async def run() -> float:
        began = time.perf_counter()
        async with Pauses() as pauses:
            with pytest.raises(ApiError):
                await check(schema, answer)
        pauses.check()
        return time.perf_counter() - began

    assert asyncio.run(run()) < CHECK_MAX_S * SLOWNESS


def test_unique_items_take_linear_time() -> None:
    answer = [value for at in range(8_000) for value in ({"a": at}, at)]
    assert asyncio.run(check({"uniqueItems": True}, answer))
    with pytest.raises(ApiError):
        asyncio.run(check({"uniqueItems": True}, [*answer, {"a": 5}]))


def test_a_huge_schema_and_one_that_is_none_are_refused() -> None:
    for schema in ({"enum": ["x" * 70_000]}, {"type": "nonsense"}, [], {"$schema": []}, 3):
        with pytest.raises(ApiError) as refused:
            asyncio.run(check(schema, "x"))
        assert refused.value.code == "invalid_value"
