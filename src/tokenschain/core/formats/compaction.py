"""Compaction of a conversation (`POST /v1/responses/compact`): a summary in place of its items.

The model itself is asked for the summary. It comes back as one item that may be sent as input in
place of all items before it; OpenAI encrypts what is in it, here it is only encoded.
"""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import Raw

from tokenschain.core.errors import ApiError
from tokenschain.core.formats import canonical as canon
from tokenschain.core.formats import responses_reader
from tokenschain.core.formats.encrypted_content import seal
from tokenschain.core.formats.json_body import read_body, value_of
from tokenschain.core.formats.openai_chat import ParsedRequest
from tokenschain.core.formats.openai_responses import usage_out
from tokenschain.core.formats.request_checks import missing
from tokenschain.core.formats.stored_responses import items_of

_TASK = (
    "Summarize the conversation so far, so that another assistant can go on with it without "
    "having seen it: what was asked, what was decided and found out, names, numbers, file paths "
    "and identifiers as they were written, and what is still to be done. Write the summary only."
)
_PASSED_ON = ("model", "instructions", "prompt_cache_key", "service_tier", "previous_response_id")
_encode = msgspec.json.Encoder().encode
_decode_input = msgspec.json.Decoder(str | list[dict[str, Any]] | None).decode


def parse(body: bytes) -> ParsedRequest:
    """A request for a summary, as the call that makes it.

    Raises:
        ApiError: with the field to blame.
    """
    given = read_body(body).fields
    items = value_of("input", given.get("input", Raw(b"null")), _decode_input)
    if not items:
        raise missing("input")
    asked: dict[str, Any] = {name: given[name] for name in _PASSED_ON if name in given}
    asked |= {"input": [*items_of(items), {"role": "user", "content": _TASK}], "store": False}
    return responses_reader.parse(_encode(asked))


def reply_of(body: bytes, name: str, asked: ParsedRequest) -> bytes:
    """A canonical reply as the item that stands for the conversation.

    Raises:
        ApiError: the model wrote nothing.
    """
    reply = canon.read_reply(body)
    summary = reply.choices[0].said.words if reply.choices else ""
    if not summary:
        raise ApiError("upstream_invalid_reply", "The model wrote no summary.")
    item = {"id": f"cmp_{name}", "type": "compaction", "encrypted_content": seal(summary)}
    return _encode(
        {
            "id": f"resp_{name}",
            "object": "response.compaction",
            "created_at": reply.created,
            "output": [item],
            "usage": usage_out(reply.usage),
        }
    )
