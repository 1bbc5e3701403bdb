"""Whole replies of upstreams: usage, normalization, errors."""

from __future__ import annotations

import time

from tokenschain.core.call import Attempt, Call
from tokenschain.core.errors import ApiError
from tokenschain.core.formats import canonical, openai_chat
from tokenschain.core.formats.normalization import FAILED_FINISHES, Normalization, ReplyNormalizer
from tokenschain.core.formats.openai_chat import Api, ParsedRequest
from tokenschain.core.pricing.catalog import Usage
from tokenschain.core.snapshot import Offer
from tokenschain.providers import rerank
from tokenschain.providers.openai_compat.failures import refused
from tokenschain.providers.vendor_profile import Vendor
from tokenschain.wire import client as http

REPLY_BYTES_MAX = 67_108_864
_ONE_TOKEN_BYTES_MAX = 12


async def read_whole(reply: http.Reply, call: Call, attempt: Attempt, vendor: Vendor) -> bytes:
    """A whole reply, canonical and understood."""
    body = await reply.read(REPLY_BYTES_MAX)
    attempt.first_token_at = attempt.ended_at = time.monotonic()
    upstream = attempt.candidate.upstream.id
    parsed = call.parsed
    try:
        if parsed.api is Api.RERANK:
            body = rerank.reply_from(body, parsed, attempt.candidate.offer.model)
        elif parsed.api is Api.CHAT:
            if vendor.protocol is not None:
                body = vendor.protocol.whole(body, heading_of(call, attempt))
            elif vendor.needs_normalization or vendor.normalization is not Normalization.CANONICAL:
                body = ReplyNormalizer(vendor.normalization).whole(body)
        found = openai_chat.read_reply(body)
    except ValueError:
        raise ApiError(
            "upstream_invalid_reply", f"The upstream `{upstream}` sent no reply of its kind."
        ) from None
    if found.is_error:
        raise refused(200, body, None, upstream, vendor)
    finish = found.finish_reason()
    if finish in FAILED_FINISHES:
        raise ApiError("upstream_failed", f"The upstream `{upstream}` gave up ({finish}).")
    attempt.usage = openai_chat.usage_of(found.usage) or estimate(
        parsed, attempt.candidate.offer, found.output_bytes()
    )
    attempt.finish_reason = finish
    attempt.outcome = "ok"
    return body


def estimate(parsed: ParsedRequest, offer: Offer, output_bytes: int, frames: int = 0) -> Usage:
    """Usage when the upstream gave none: never above what caller and model allow.

    Most engines send one token an event. Events that are longer than any token
    hold several: then the text's length decides.
    """
    tokens = -(-output_bytes // openai_chat.BYTES_PER_TOKEN)
    if frames and output_bytes <= frames * _ONE_TOKEN_BYTES_MAX:
        tokens = frames
    if parsed.api in (Api.EMBEDDINGS, Api.RERANK):
        tokens = 0
    for limit in (parsed.output_tokens_max, offer.output_tokens_max):
        if limit is not None:
            tokens = min(tokens, limit * parsed.choices)
    return Usage(parsed.prompt_tokens_estimate, tokens, source="estimated")


def heading_of(call: Call, attempt: Attempt) -> canonical.ReplyMetadata:
    """What is known of a reply whose protocol says neither model nor time."""
    return canonical.ReplyMetadata(attempt.candidate.offer.model, call.request.started_ms // 1_000)
