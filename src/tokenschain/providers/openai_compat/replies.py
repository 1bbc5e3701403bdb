"""Whole replies of upstreams: usage, normalization, errors."""

from __future__ import annotations

import time
from functools import partial

from tokenschain.core.call import Attempt, Call, WholeAnswer
from tokenschain.core.errors import ApiError
from tokenschain.core.formats import canonical, openai_chat, stream_aggregation
from tokenschain.core.formats.anthropic import outbound
from tokenschain.core.formats.json_bounds import LONG_BYTES, REPLY_BOUNDS, check_parts
from tokenschain.core.formats.normalization import (
    FAILED_FINISHES,
    Normalization,
    ReadReply,
    ReplyContext,
    ReplyNormalizer,
    plain,
)
from tokenschain.core.formats.openai_chat import Api, ParsedRequest, WireReply
from tokenschain.core.formats.token_estimate import BYTES_PER_TOKEN
from tokenschain.core.ports import OffLoop
from tokenschain.core.pricing.catalog import Usage
from tokenschain.core.snapshot import Offer
from tokenschain.providers import rerank
from tokenschain.providers.openai_compat import embeddings
from tokenschain.providers.openai_compat.body_decoding import (
    BadEncoding,
    Content,
    content_of,
    decoded,
)
from tokenschain.providers.openai_compat.failures import refused
from tokenschain.providers.openai_compat.reply_budget import ReplyBudget
from tokenschain.providers.vendor_profile import ChunkDecoder, Vendor
from tokenschain.wire import client as http
from tokenschain.wire import sse

REPLY_BYTES_MAX = 67_108_864
_ONE_TOKEN_BYTES_MAX = 12
_DONE = b"[DONE]"
# Looked up once: a member of an enumeration costs more than the comparison with it.
_CANONICAL, _CHAT, _COMPLETIONS = Normalization.CANONICAL, Api.CHAT, Api.COMPLETIONS


def takes_long(body: bytes) -> bool:
    """Whether to read a reply takes long: it is long, or encoded and may be."""
    return len(body) > LONG_BYTES or not body.startswith(b"{")


def read_whole(
    body: bytes, reply: http.Reply, call: Call, attempt: Attempt, vendor: Vendor
) -> bytes:
    """A whole reply, canonical and understood.

    Raises:
        ApiError: it is an error, or no answer.
    """
    attempt.first_token_at = attempt.ended_at = time.monotonic()
    if not body.startswith(b"{"):
        body = _decoded(body, reply, attempt)
    return understood(body, call, attempt, vendor)


async def read_native(
    reply: http.Reply,
    call: Call,
    attempt: Attempt,
    vendor: Vendor,
    off_loop: OffLoop,
    replies: ReplyBudget,
) -> WholeAnswer:
    """A whole reply of the caller's own protocol: as it came, if nothing in it is odd.

    Raises:
        ApiError: it is an error, or no answer.
    """
    sent = await reply.read(REPLY_BYTES_MAX, partial(replies.hold, call))

    def read() -> WholeAnswer:
        attempt.first_token_at = attempt.ended_at = time.monotonic()
        body = _decoded(sent, reply, attempt)
        understood_body = understood(body, call, attempt, vendor)
        return WholeAnswer(understood_body, body if outbound.is_native(body) else b"")

    return await off_loop(read, call.caller) if takes_long(sent) else read()


def _decoded(body: bytes, reply: http.Reply, attempt: Attempt) -> bytes:
    try:
        return decoded(body, reply.headers, REPLY_BYTES_MAX)
    except BadEncoding as error:
        upstream = attempt.candidate.upstream.id
        raise ApiError("upstream_invalid_reply", f"The upstream `{upstream}`: {error}.") from None


def understood(body: bytes, call: Call, attempt: Attempt, vendor: Vendor) -> bytes:
    """A whole reply's body, canonical; its usage and end are noted on the attempt.

    Raises:
        ApiError: it is an error, or no answer.
    """
    upstream = attempt.candidate.upstream.id
    parsed = call.parsed
    try:
        if len(body) > LONG_BYTES:
            check_parts(body, REPLY_BOUNDS)
        body, found = _read(body, call, attempt, vendor)
    except ValueError:
        raise ApiError(
            "upstream_invalid_reply", f"The upstream `{upstream}` sent no reply of its kind."
        ) from None
    # Kept whatever follows: what the upstream counted it is owed, whoever pays for it.
    usage = attempt.usage = openai_chat.usage_of(found.usage)
    # With choices it can be one only by MiniMax's `base_resp`.
    if (not found.choices or found.base_resp is not None) and found.is_error:
        raise refused(200, body, {}, upstream, vendor)
    finish = found.finish_reason()
    if finish in FAILED_FINISHES:
        raise ApiError("upstream_failed", f"The upstream `{upstream}` gave up ({finish}).")
    choices = found.choices
    if not (choices and choices[0].message is not None) and not _answers(found, parsed.api):
        raise ApiError(
            "upstream_invalid_reply", f"The upstream `{upstream}` sent a reply without an answer."
        )
    attempt.usage = usage or estimate(parsed, attempt.candidate.offer, found.output_bytes())
    if usage is None and not call.writer.takes_raw:
        body = openai_chat.with_usage(body, attempt.usage)
    attempt.finish_reason = finish
    attempt.outcome = "ok"
    return body


def _read(body: bytes, call: Call, attempt: Attempt, vendor: Vendor) -> ReadReply:
    """A body in any form, canonical.

    Raises:
        ValueError: it is none.
    """
    parsed = call.parsed
    if (
        parsed.api is _CHAT
        and vendor.protocol is None
        and vendor.normalization is _CANONICAL
        and not (call.older_functions or call.called_by_schema)
    ):
        found = plain(body)
        if found is not None:
            return body, found
    if parsed.api is Api.RERANK:
        body = rerank.reply_from(body, parsed, attempt.candidate.offer.model)
        return body, openai_chat.read_reply(body)
    normalizer = normalizer_of(call, attempt, vendor)
    if parsed.api is Api.EMBEDDINGS:
        body, found = normalizer.whole(body)
        return embeddings.reply_from(body, parsed), found
    if content_of(body[:64]) is Content.EVENTS:
        return normalizer.whole(_collected(body, call, attempt, vendor))
    if vendor.protocol is not None and parsed.api is Api.CHAT:
        body = vendor.protocol.whole(body, heading_of(call, attempt))
    return normalizer.whole(body)


def _collected(body: bytes, call: Call, attempt: Attempt, vendor: Vendor) -> bytes:
    """The whole answer that a stream holds which came where none was asked for.

    Raises:
        ValueError: it does not end.
    """
    normalizer, parsed = normalizer_of(call, attempt, vendor), call.parsed
    decoder = chunk_decoder_of(vendor, call, attempt)
    reader = sse.SseReader(REPLY_BYTES_MAX)
    chunks: list[bytes] = []
    ended = done = False
    for event in (*reader.feed(body), *reader.finish()):
        data = event.data
        if not data.strip():
            continue
        for chunk in [data] if decoder is None or data == _DONE else decoder.event(data):
            if chunk == _DONE:
                done = True
                continue
            made, found = normalizer.chunk(chunk)
            if found.is_error:
                return made
            ended = ended or bool(found.finish_reason())
            chunks.append(made)
    if not ended and done and chunks:
        ending = normalizer.ending(chunks[-1], parsed.requests)
        if ending is not None:
            chunks.append(normalizer.chunk(ending)[0])
            ended = True
    if not ended:
        raise ValueError("the stream does not end")
    return stream_aggregation.whole_of(chunks)


def _answers(found: WireReply, api: Api) -> bool:
    """Whether there is an answer in a reply: an empty success is none."""
    if api is not _CHAT and api is not _COMPLETIONS:
        return True
    for choice in found.choices or ():
        if choice.message is not None or choice.text is not None:
            return True
    return False


def chunk_decoder_of(vendor: Vendor, call: Call, attempt: Attempt) -> ChunkDecoder | None:
    """What turns events of a vendor's own protocol into chunks; None where they are chunks."""
    if vendor.protocol is None or call.parsed.api is not Api.CHAT:
        return None
    return vendor.protocol.stream(heading_of(call, attempt))


def normalizer_of(call: Call, attempt: Attempt, vendor: Vendor) -> ReplyNormalizer:
    """The reader of one answer of a vendor."""
    parsed = call.parsed
    prefix = "cmpl" if parsed.api is Api.COMPLETIONS else "chatcmpl"
    context = ReplyContext(
        f"{prefix}-{call.request.id}",
        attempt.candidate.offer.model,
        call.request.started_ms // 1_000,
        parsed.api,
        freeform=call.freeform,
        older_functions=call.older_functions,
        knows_functions="functions" in parsed.fields,
        tool_names=call.tool_names,
        called_by_schema=call.called_by_schema,
    )
    return ReplyNormalizer(vendor.normalization, context)


def estimate(parsed: ParsedRequest, offer: Offer, output_bytes: int, frames: int = 0) -> Usage:
    """Usage when the upstream gave none: never above what caller and model allow.

    Most engines send one token an event. Events that are longer than any token
    hold several: then the text's length decides.
    """
    tokens = -(-output_bytes // BYTES_PER_TOKEN)
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
