"""API formats: request, answer, stream and error of each API that callers use."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Protocol

import msgspec

from tokenschain.core.errors import ApiError
from tokenschain.core.formats import compaction, openai_chat, openai_responses, responses_reader
from tokenschain.core.formats.anthropic import inbound, request_reader
from tokenschain.core.formats.openai_chat import Api, ParsedRequest


class StreamFormat(Protocol):
    """Writes one stream in an API's own format."""

    @property
    def final(self) -> bytes:
        """The whole answer once the stream has ended well; nothing where it cannot be kept."""

    def event(self, data: bytes) -> bytes:
        """What one canonical chunk adds."""

    def end(self) -> bytes:
        """What follows the last chunk."""

    def error(self, error: ApiError) -> bytes:
        """What follows when the stream broke off; it must not look like an end."""


class ApiFormat(msgspec.Struct, frozen=True):
    """One API that callers may speak."""

    name: str
    """In records, metrics and the path: `/v1/<name>`."""
    parse: Callable[[bytes], ParsedRequest]
    """The checked, canonical request of a body; raises `ApiError`."""
    error: Callable[[ApiError, str], bytes] = ApiError.body
    """By the call's id."""
    whole: Callable[[bytes, str, ParsedRequest], bytes] | None = None
    """A canonical whole reply in this form, by the call's id and what was asked; None: it is in
    it already."""
    stream: Callable[[ParsedRequest, str], StreamFormat] | None = None
    """By what was asked and the call's id; None: canonical chunks pass as they are."""


API_FORMATS: tuple[ApiFormat, ...] = (
    *(ApiFormat(api.value, partial(openai_chat.parse, api)) for api in Api),
    ApiFormat(
        "messages",
        request_reader.parse,
        inbound.error_of,
        inbound.reply_of,
        inbound.MessagesStreamOut,
    ),
    ApiFormat(
        "responses",
        responses_reader.parse,
        ApiError.body,
        openai_responses.reply_of,
        openai_responses.ResponsesStreamOut,
    ),
)
COMPACTION = ApiFormat("responses", compaction.parse, ApiError.body, compaction.reply_of)
"""Part of the Responses API: `/v1/responses/compact`."""
