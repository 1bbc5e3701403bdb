"""Request batching of embedding and reranking calls: grouping, limits, splitting of the answer.

A model that embeds works on arrays, and one that ranks on pairs with one query; a call costs more
than a text, and many small calls are one call's worth of work. Chat is not batched: engines do
that themselves, and a wait here would only be added to the first token.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import msgspec
from msgspec import Raw

from tokenschain.core.formats.openai_chat import Api, ParsedRequest
from tokenschain.core.formats.token_estimate import BYTES_PER_TOKEN
from tokenschain.core.pricing.catalog import Usage
from tokenschain.core.snapshot import Plan
from tokenschain.core.tenancy import KeyGrant

TEXTS_FIRST, TEXTS_MAX = 8, 64
TARGET_S = 1.0
GROW, SHRINK = 4, 0.9
"""Clipper's AIMD (NSDI 2017): more while batches meet `TARGET_S`, a tenth less when not."""
_ALIKE = {
    Api.EMBEDDINGS: ("model", "encoding_format", "dimensions"),
    Api.RERANK: ("model", "query"),
}
"""What calls of one batch have in common."""
_KNOWN = {
    Api.EMBEDDINGS: {*_ALIKE[Api.EMBEDDINGS], "input", "user"},
    Api.RERANK: {*_ALIKE[Api.RERANK], "documents", "top_n", "user"},
}
_TEXTS = {Api.EMBEDDINGS: "input", Api.RERANK: "documents"}
_encode = msgspec.json.Encoder().encode
_decode_input = msgspec.json.Decoder(str | list[str]).decode


class Size:
    """How many texts one batch may have, learned from how long batches take."""

    __slots__ = ("texts",)

    def __init__(self) -> None:
        self.texts = TEXTS_FIRST

    def took(self, seconds: float, texts: int) -> None:
        """A batch came back."""
        if seconds > TARGET_S:
            self.texts = max(1, int(min(self.texts, texts) * SHRINK))
        elif texts >= self.texts:
            self.texts = min(TEXTS_MAX, self.texts + GROW)


class BatchPart(NamedTuple):
    """What one call brings to a batch."""

    texts: tuple[str, ...]
    bucket: int
    """Power of two of the longest text's length: texts of a batch are about equally long, so
    that little is padded."""


def part_of(parsed: ParsedRequest) -> BatchPart | None:
    """What a call could bring; None when it goes alone: tokens instead of text, many texts,
    or a field whose meaning is not known here."""
    known = _KNOWN.get(parsed.api)
    if known is None or not parsed.fields.keys() <= known:
        return None
    try:
        given = _decode_input(parsed.fields[_TEXTS[parsed.api]])
    except msgspec.DecodeError:
        return None
    texts = (given,) if isinstance(given, str) else tuple(given)
    if not texts or len(texts) > TEXTS_FIRST:
        return None
    return BatchPart(texts, max(map(len, texts)).bit_length())


def key_of(parsed: ParsedRequest, grant: KeyGrant, plan: Plan) -> tuple[object, ...]:
    """Calls with the same key may share a batch: same model and options, same project, so that
    the time does not tell what another tenant does; and the same upstreams for the same class of
    data, since one call decides for all of them where their texts go."""
    options = tuple(bytes(parsed.fields.get(name, b"")) for name in _ALIKE[parsed.api])
    upstreams = tuple(
        (candidate.upstream.id, candidate.offer.model)
        for tier in (plan, *plan.others)
        for candidate in tier.candidates
    )
    scope = (grant.tenant, grant.project, grant.environment, grant.data_class, grant.priority)
    return (scope, parsed.api, options, upstreams)


def together(first: ParsedRequest, texts: list[str]) -> ParsedRequest:
    """One request for the texts of several."""
    fields = {name: first.fields[name] for name in _ALIKE[first.api] if name in first.fields}
    fields[_TEXTS[first.api]] = Raw(_encode(texts))
    tokens = sum(-(-len(text.encode()) // BYTES_PER_TOKEN) for text in texts)
    return ParsedRequest(first.api, first.model, fields, False, False, 1, None, tokens)


_decode_reply = msgspec.json.Decoder(dict[str, Raw]).decode
_decode_items = msgspec.json.Decoder(list[dict[str, Raw]]).decode
_decode_top = msgspec.json.Decoder(int | None).decode
_decode_score = msgspec.json.Decoder(float).decode


def apart(
    body: bytes,
    usage: Usage,
    asks: list[ParsedRequest],
    wanted: list[list[int]],
    weights: list[int],
) -> list[tuple[bytes, Usage]]:
    """The answer to a batch as the answers to its calls.

    Args:
        wanted: for each call, where its texts were in the batch.
        weights: the calls' sizes, by which the tokens are shared out; the shares add up.

    Raises:
        ValueError: the answer does not have what was asked for.
    """
    reply = _decode_reply(body)
    ranks = asks[0].api is Api.RERANK
    name = "results" if ranks else "data"
    by_index = {int(bytes(item["index"])): item for item in _decode_items(reply[name])}
    shares = shared(usage.prompt_tokens, weights)
    made = []
    for parsed, places, tokens in zip(asks, wanted, shares, strict=True):
        try:
            items = [{**by_index[at], "index": number} for number, at in enumerate(places)]
        except KeyError as missing:
            raise ValueError(f"the answer to text {missing} is missing") from None
        if ranks:
            items.sort(key=lambda item: -_decode_score(item["relevance_score"]))  # type: ignore[arg-type]
            items = items[: _decode_top(parsed.fields.get("top_n", b"null"))]
        counts = {"prompt_tokens": tokens, "total_tokens": tokens}
        answer: dict[str, Any] = {**reply, name: items, "usage": counts}
        source = usage.source if len(wanted) == 1 else "estimated"
        made.append((_encode(answer), Usage(tokens, source=source)))
    return made


def shared(total: int, weights: list[int]) -> list[int]:
    """A whole number in parts by weights that add up to it (largest remainder)."""
    whole = sum(weights) or len(weights)
    exact = [total * (weight or (1 if not sum(weights) else 0)) / whole for weight in weights]
    parts = [int(value) for value in exact]
    order = sorted(range(len(weights)), key=lambda at: parts[at] - exact[at])
    for at in order[: total - sum(parts)]:
        parts[at] += 1
    return parts
