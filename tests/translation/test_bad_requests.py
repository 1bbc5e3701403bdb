"""Mutated requests: answered, or refused as the caller's fault in the API's own shape.

Whatever a caller sends: never a 500, never a failure of an upstream, nothing charged for a refusal.
Deterministic; `PROOFS=full` tries 10,000.
"""

from __future__ import annotations

import json
import os
import random
from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest

from tests.translation.answers import Unreadable, hear
from tests.translation.conversations import PDF, PNG, WRITERS, Call, Turn, write
from tests.translation.lab import Lab
from tests.translation.mutations import change

VENDORS = ("openai", "deepseek", "mistral", "anthropic", "dashscope-native", "hunyuan-native")
FULL = os.environ.get("PROOFS") == "full"
SEEDS = (10_000 if FULL else 1_200) // (len(VENDORS) * len(WRITERS)) + 1
CALLS = (
    Call("call_1", "look_up", {"of": "巴黎"}, "晴"),
    Call("call_2", "look_up", {"of": "Rome"}, "rain", PNG),
)
TURNS = [
    Turn("system", ("Be kind.",), in_parts=True),
    Turn("user", ("What is in it?",), (PNG,), PDF),
    Turn("assistant", ("I look.",), calls=CALLS),
    Turn("user", ("And tomorrow?",)),
]
MORE: dict[str, dict[str, Any]] = {
    "chat/completions": {
        "temperature": 0.5, "max_completion_tokens": 500, "stop": ["END"], "user": "u",
        "tool_choice": "auto", "stream_options": {"include_usage": True}, "stream": True,
        "response_format": {
            "type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "object"}},
        },
        "reasoning_effort": "low", "logit_bias": {"5": 1}, "metadata": {"k": "v"},
    },
    "messages": {
        "temperature": 0.5, "stop_sequences": ["END"], "metadata": {"user_id": "u"},
        "tool_choice": {"type": "auto"}, "system": [{"type": "text", "text": "Be kind."}],
        "thinking": {"type": "disabled"}, "output_config": {"effort": "low"}, "stream": True,
    },
    "responses": {
        "temperature": 0.5, "max_output_tokens": 500, "metadata": {"k": "v"}, "stream": True,
        "tool_choice": "auto", "reasoning": {"effort": "low", "summary": "auto"},
        "text": {"format": {"type": "text"}, "verbosity": "low"}, "include": [],
    },
}  # fmt: skip


class Case(NamedTuple):
    """One mutated request."""

    api: str
    vendor: str
    seed: int

    @property
    def name(self) -> str:
        return f"{self.api} {self.vendor} {self.seed}"


def cases(vendor: str) -> Iterator[Case]:
    for api in WRITERS:
        for seed in range(SEEDS):
            yield Case(api, vendor, seed)


def mutated(case: Case) -> tuple[str, dict[str, Any]]:
    """What was changed, and the request."""
    rng = random.Random(f"{case.api} {case.seed}")
    body = write(case.api, TURNS) | MORE[case.api]
    if rng.random() < 0.5:
        del body["stream"]
        body.pop("stream_options", None)
    path, how, body = change(body, rng)
    return f"{how} {'.'.join(map(str, path))}", body


def judge(lab: Lab, case: Case) -> str:
    """What went wrong; empty when all is well."""
    what, body = mutated(case)
    lab.vendors[case.vendor].reset()
    got = lab.ask(f"/v1/{case.api}", body | {"model": case.vendor})
    if got.faults:
        return f"{what}: a fault of our own: {got.faults[0]!r}"
    if got.status >= 500:
        return f"{what}: HTTP {got.status}: {got.body[:200]!r}"
    if got.status == 200:
        try:
            heard = hear(case.api, got.body, body.get("stream") is True)
        except Unreadable as error:
            return f"{what}: unreadable: {error}"
        return f"{what}: {heard.error}" if heard.error is not None else ""
    return _refusal(case, what, got)


def _refusal(case: Case, what: str, got: Any) -> str:
    body = json.loads(got.body)
    error = body["error"]
    if case.api == "messages":
        shaped = body["type"] == "error" and {"type", "message"} <= error.keys()
    else:
        shaped = {"message", "type", "param", "code"} <= error.keys()
    if not shaped:
        return f"{what}: not in the API's shape: {body}"
    record = got.record
    if record is None:
        return f"{what}: not recorded"
    if record.charge_pico:
        return f"{what}: a refusal is charged"
    return "" if record.fault == "caller" else f"{what}: blames the {record.fault}: {error}"


@pytest.mark.parametrize("vendor", VENDORS)
def test_a_mutated_request_is_answered_or_refused_as_the_callers(
    shared_lab: Lab, vendor: str
) -> None:
    shared_lab.fresh()
    failures = {}
    for case in cases(vendor):
        found = judge(shared_lab, case)
        if found:
            failures[case.name] = found
    assert not failures
