"""Vendor profile: the fields of a row of the vendor table."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import NamedTuple, Protocol

import msgspec

from tokenschain.core.formats.anthropic.event_relay import RelayedEvent
from tokenschain.core.formats.canonical import Conversation, ReplyMetadata
from tokenschain.core.formats.continuation import Prefill
from tokenschain.core.formats.dialect import Dialect
from tokenschain.core.formats.message_rules import MARKS, MessageRules
from tokenschain.core.formats.normalization import Normalization
from tokenschain.core.formats.openai_chat import Api
from tokenschain.core.formats.token_estimate import PICTURE_TOKENS_MAX
from tokenschain.providers.signing import Signable

HeaderLines = tuple[tuple[str, str], ...]
Signer = Callable[[Signable, str, float], HeaderLines]
"""Request, credential and time (Unix seconds) to headers that depend on them."""


class KeyScheme(StrEnum):
    """How a vendor wants its key."""

    BEARER = "bearer"
    X_API_KEY = "x-api-key"
    SIGNED = "signed"
    """The credential is `id:secret` and the protocol signs each request with it."""


class ChunkDecoder(Protocol):
    """Makes one stream canonical."""

    def event(self, data: bytes) -> list[bytes]:
        """Canonical chunks of one event's data; `[DONE]` after the last."""


class NativeRelay(Protocol):
    """Passes the events of one stream on to a caller who speaks the protocol."""

    @property
    def end_inferred(self) -> bool:
        """Whether the upstream ended its answer without saying why."""

    @property
    def cut_off(self) -> bool:
        """Whether the upstream ended within a call or its reasoning."""

    def events(self, kind: bytes, data: bytes) -> list[RelayedEvent]:
        """What the caller gets of an event; raises `ValueError` where it is none."""

    def end(self) -> list[RelayedEvent]:
        """What is missing at the end of an answer; nothing where that is `cut_off`."""


class VendorProtocol(NamedTuple):
    """A protocol of chat that is not OpenAI's: pure functions to and from the canonical form."""

    path: str
    """Follows the upstream's base URL."""
    request: Callable[[Conversation, str, int | None], bytes]
    """Conversation, model, and the most output tokens, to a body."""
    whole: Callable[[bytes, ReplyMetadata], bytes]
    stream: Callable[[ReplyMetadata], ChunkDecoder]
    headers: HeaderLines = ()
    stream_headers: HeaderLines = ()
    sign: Signer | None = None
    relays: str = ""
    """The API whose requests this protocol takes as they are."""
    relay: Callable[[], NativeRelay] | None = None
    """Passes its events on to callers of that API."""


class Vendor(msgspec.Struct, frozen=True):
    """One row."""

    rules: str = ""
    """Whose rows of `refusals.VENDOR_RULES` hold."""
    dialect: Dialect = Dialect()
    normalization: Normalization = Normalization.CANONICAL
    needs_normalization: bool = False
    """Whether chunks must be read even so, for finish reasons with names of their own."""
    auth: KeyScheme = KeyScheme.BEARER
    protocol: VendorProtocol | None = None
    images_as_data: bool = False
    """Whether it takes images only as data, so that URLs are fetched here."""
    paths: Mapping[Api, str] = MappingProxyType({})
    """Where an API is elsewhere than its name below the base URL; from the root with a `/`."""
    prefill: Prefill | None = None
    """How it goes on from the beginning of an answer; None where that is not known."""
    prefill_path: str | None = None
    """Where that is done elsewhere than where chat is."""
    texts_rerank: bool = False
    """Whether reranking speaks TEI's shape: `texts` in, a bare list out."""
    picture_tokens: int = PICTURE_TOKENS_MAX
    """The most prompt tokens of one picture, as it documents."""

    def passing(self, names: tuple[str, ...]) -> Vendor:
        """The same, but that these parameters are passed on, which steer."""
        if not names:
            return self
        return msgspec.structs.replace(self, dialect=self.dialect.passing(names))

    @property
    def caps_output(self) -> bool:
        """Whether it keeps to the caller's output limit."""
        known = self.dialect.known
        return known is None or not known.isdisjoint(("max_tokens", "max_completion_tokens"))


PLAIN = Vendor(
    dialect=Dialect(
        messages=MessageRules(marks=frozenset(MARKS)),
        translated_messages=MessageRules(
            joined=frozenset({"system", "user", "assistant", "tool"}),
            left_out=frozenset({"reasoning_details"}),
            nulls=False,
        ),
    )
)
"""An upstream of no known vendor: taken at its word."""
