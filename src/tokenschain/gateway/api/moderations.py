"""OpenAI's moderation API over the local rules: what is in texts, in the platform's categories."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
from msgspec import Raw

from tokenschain.core.errors import ApiError
from tokenschain.core.formats.json_body import read_body, value_of
from tokenschain.core.formats.openai_chat import INPUTS_MAX
from tokenschain.core.formats.request_checks import missing
from tokenschain.core.moderation.risks import RISKS
from tokenschain.core.moderation.verdict import CLASSIFIER, Level, RiskFinding

MODEL = "local-rules"
_SCORES = {Level.NONE: 0.0, Level.LOW: 0.4, Level.MEDIUM: 0.7, Level.HIGH: 1.0}
"""The most that a finding of a level scores: rules have grades, no probabilities."""


class _Part(msgspec.Struct):
    type: str
    text: str = ""


FIELDS: dict[str, Any] = {
    "input": str | list[str | _Part],
    "model": str | None,
}
REQUIRED = ("input",)
_input = msgspec.json.Decoder(str | list[str | _Part])


def texts_of(body: bytes) -> list[str]:
    """The texts of a request: one for each result.

    Raises:
        ApiError: it is none.
    """
    fields: dict[str, Raw] = read_body(body).fields
    if "input" not in fields:
        raise missing("input")
    given = value_of("input", fields["input"], _input.decode)
    if isinstance(given, str):
        return [given]
    if not given:
        raise ApiError("empty_array", "`input` must hold 1 entry at least.", param="input")
    if len(given) > INPUTS_MAX:
        raise ApiError(
            "array_above_max_length", f"`input` must hold {INPUTS_MAX} entries at most.",
            param="input",
        )  # fmt: skip
    if all(isinstance(one, str) for one in given):
        return [str(one) for one in given]
    for at, part in enumerate(given):
        if isinstance(part, str) or part.type != "text":
            raise ApiError(
                "invalid_value", "Only texts are screened here.", param=f"input[{at}].type"
            )
    return ["".join(part.text for part in given)]


def answer(name: str, results: Sequence[Sequence[RiskFinding]]) -> dict[str, Any]:
    """The reply, as OpenAI writes it."""
    return {
        "id": name.replace("req_", "modr_"),
        "model": MODEL,
        "results": [_result(findings) for findings in results],
    }


def _result(findings: Sequence[RiskFinding]) -> dict[str, Any]:
    scores = dict.fromkeys((risk.category for risk in RISKS), 0.0)
    for one in findings:
        score = one.score if one.label == CLASSIFIER else _SCORES[one.level] * one.score
        scores[one.category] = max(scores[one.category], score)
    return {
        "flagged": any(one.level >= Level.MEDIUM for one in findings),
        "categories": {category: score > 0 for category, score in scores.items()},
        "category_scores": scores,
        "category_applied_input_types": {
            category: ["text"] if score > 0 else [] for category, score in scores.items()
        },
    }
