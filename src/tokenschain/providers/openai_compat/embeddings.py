"""Embeddings as the caller asked for them: numbers, or base64 of 32-bit floats.

OpenAI's SDKs ask for base64 unless told otherwise. Some upstreams refuse that, others send
numbers all the same, which typed clients cannot read.
"""

from __future__ import annotations

import base64
import binascii
import struct
from typing import Any

import msgspec
from msgspec import Raw

from tokenschain.core.errors import ApiError
from tokenschain.core.formats.openai_chat import ParsedRequest

_decode = msgspec.json.Decoder().decode
_decode_fields = msgspec.json.Decoder(dict[str, Raw]).decode
_decode_entries = msgspec.json.Decoder(list[dict[str, Raw]]).decode
_ERROR_FIELDS = ("error", "code", "error_code", "base_resp")
_encode = msgspec.json.Encoder().encode
_BASE64 = b'"base64"'
_FIELD = "encoding_format"
_FLOAT_BYTES = 4
_VECTOR_BYTES_MAX = 1_048_576
"""As JSON: some 50,000 numbers."""
_REFUSALS = frozenset({400, 422, 501})


def wants_base64(parsed: ParsedRequest) -> bool:
    """Whether the caller asked for base64."""
    return bytes(parsed.fields.get(_FIELD, b"null")) == _BASE64


def refuses_base64(error: ApiError) -> bool:
    """Whether an upstream's refusal is about the form of the vectors."""
    if error.status not in _REFUSALS:
        return False
    words = f"{error.param} {error.message}".lower()
    return _FIELD in words or "base64" in words


def as_numbers(fields: dict[str, Raw]) -> dict[str, Raw]:
    """The same request for numbers, for upstreams that know no other form."""
    return {**fields, _FIELD: Raw(b'"float"')}


def reply_from(body: bytes, parsed: ParsedRequest) -> bytes:
    """A reply with its vectors in the form that was asked for; an error stays one.

    Raises:
        ValueError: there are no vectors in it, or they are none.
    """
    wanted = wants_base64(parsed)
    if b'"embedding"' in body and _is_base64(body) is wanted:
        return body
    reply = _decode_fields(body)
    try:
        data = _decode_entries(reply.get("data", Raw(b"[]")))
    except msgspec.ValidationError:
        data = []
    if not data:
        if any(_decode(reply.get(name, Raw(b"null"))) for name in _ERROR_FIELDS):
            return body
        raise ValueError("no embeddings")
    # Vector by vector: millions of numbers at once would hold the interpreter.
    for entry in data:
        raw = entry.get("embedding", Raw(b"null"))
        if memoryview(raw).nbytes > _VECTOR_BYTES_MAX:
            raise ValueError("not a vector")
        vector = _in_form(_decode(raw), base64_wanted=wanted)
        entry["embedding"] = Raw(_encode(vector))
    return _encode({**reply, "data": data})


def _is_base64(body: bytes) -> bool | None:
    """The form of the first vector, by its first byte; None where that cannot be told."""
    at = body.find(b'"embedding":')
    while at >= 0:
        first = body[at + 12 : at + 32].lstrip()[:1]
        if first in (b"[", b'"'):
            return first == b'"'
        at = body.find(b'"embedding":', at + 12)
    return None


def _in_form(vector: Any, *, base64_wanted: bool) -> Any:
    if isinstance(vector, str) and not base64_wanted:
        try:
            packed = base64.b64decode(vector, validate=True)
            return list(struct.unpack(f"<{len(packed) // _FLOAT_BYTES}f", packed))
        except (binascii.Error, struct.error) as error:
            raise ValueError("not base64 of floats") from error
    if isinstance(vector, list) and base64_wanted:
        try:
            return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()
        except struct.error as error:
            raise ValueError("not numbers") from error
    if not isinstance(vector, str | list):
        raise ValueError("not a vector")
    return vector
