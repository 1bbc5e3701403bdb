"""Cache key: which request fields must match before a cached answer is used.

Every field of a request has a decision here; one without is part of the key and keeps the call
from being compared by meaning. The namespace is a hard partition: tenants, models, system
prompts and tools never meet, whatever their texts say.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from enum import StrEnum
from typing import Any, NamedTuple, Protocol

import msgspec
from msgspec import Raw

from tokenschain.core.formats.openai_chat import Api, ParsedRequest

KEY_BYTES = 16
NORMAL_CHARS_MAX = 2_000
"""Longer texts are compared as they are."""
QUESTION_CHARS_MAX = 1_200
"""A longer question is compared letter by letter only: about 512 tokens."""


class KeyedDigest(Protocol):
    """Digests data with a secret key to `KEY_BYTES`."""

    def __call__(self, data: bytes, /) -> bytes: ...


class FieldRole(StrEnum):
    """What a request field means for whether two calls ask the same."""

    KEY = "key"
    """Must be equal."""
    EXACT = "exact"
    """Must be equal, and then so must all the rest, letter by letter."""
    OUT = "out"
    """Does not change the answer."""
    NEVER = "never"
    """Such a call bypasses the cache."""


FIELDS: dict[str, FieldRole] = {
    # What is asked; the last user turn is taken out where meanings are compared.
    "messages": FieldRole.KEY,
    "prompt": FieldRole.EXACT,
    "input": FieldRole.EXACT,
    "query": FieldRole.EXACT,
    "documents": FieldRole.EXACT,
    # How it is answered.
    "temperature": FieldRole.KEY,
    "top_p": FieldRole.KEY,
    "top_k": FieldRole.KEY,
    "min_p": FieldRole.KEY,
    "max_tokens": FieldRole.KEY,
    "max_completion_tokens": FieldRole.KEY,
    "presence_penalty": FieldRole.KEY,
    "frequency_penalty": FieldRole.KEY,
    "repetition_penalty": FieldRole.KEY,
    "reasoning_effort": FieldRole.KEY,
    "enable_thinking": FieldRole.KEY,
    "thinking": FieldRole.KEY,
    "thinking_budget": FieldRole.KEY,
    "verbosity": FieldRole.KEY,
    "stop": FieldRole.EXACT,
    "seed": FieldRole.EXACT,
    "logit_bias": FieldRole.EXACT,
    "suffix": FieldRole.EXACT,
    "echo": FieldRole.EXACT,
    "top_n": FieldRole.EXACT,
    "return_documents": FieldRole.EXACT,
    "dimensions": FieldRole.EXACT,
    "encoding_format": FieldRole.EXACT,
    "tools": FieldRole.EXACT,
    "tool_choice": FieldRole.EXACT,
    "parallel_tool_calls": FieldRole.EXACT,
    "functions": FieldRole.EXACT,
    "function_call": FieldRole.EXACT,
    "response_format": FieldRole.EXACT,
    # Who asks and how the answer travels: the namespace and the replay know.
    "model": FieldRole.OUT,
    "stream": FieldRole.OUT,
    "stream_options": FieldRole.OUT,
    "user": FieldRole.OUT,
    "metadata": FieldRole.OUT,
    "service_tier": FieldRole.OUT,
    "safety_identifier": FieldRole.OUT,
    "prompt_cache_key": FieldRole.OUT,
    "prompt_cache_retention": FieldRole.OUT,
    "prediction": FieldRole.OUT,
    # Answers that are of one moment or one caller.
    "n": FieldRole.NEVER,
    "logprobs": FieldRole.NEVER,
    "top_logprobs": FieldRole.NEVER,
    "audio": FieldRole.NEVER,
    "modalities": FieldRole.NEVER,
    "store": FieldRole.NEVER,
    "web_search_options": FieldRole.NEVER,
    "enable_search": FieldRole.NEVER,
    "search_options": FieldRole.NEVER,
    "plugins": FieldRole.NEVER,
}
_HARMLESS: dict[str, tuple[Any, ...]] = {
    "n": (1,),
    "logprobs": (False,),
    "store": (False,),
    "enable_search": (False,),
    "modalities": (["text"],),
}
"""Values of fields that otherwise keep a call out: the default, said aloud."""
_decode = msgspec.json.Decoder().decode
_encode = msgspec.json.Encoder(order="sorted").encode
_CITED = re.compile(rb'"citations"\s*:\s*\{\s*"enabled"\s*:\s*true')
_WIDE = {code: code - 0xFEE0 for code in range(0xFF01, 0xFF5F)} | {0x3000: 0x20}


class Namespace(NamedTuple):
    """Whose answers these are; nothing crosses from one to another."""

    tenant: str
    project: str
    environment: str
    user: str
    """Empty where a project shares its answers."""
    data_class: str
    model: str
    """As it was asked for."""
    route: str
    """Where a virtual model led."""
    translation: str
    """What the call's headers say of how it may be changed for an upstream."""
    release: str
    """Of the model and the prompts; another release is another space."""


class Identity(NamedTuple):
    """What a call asks, in digests."""

    key: bytes
    """Of everything that must be equal."""
    namespace: bytes = b""
    """Of all but the question; empty where meanings are not compared."""
    question: str = ""
    """The last turn, where nothing but instructions went before it."""


def identify(
    parsed: ParsedRequest, namespace: Namespace, digest: KeyedDigest, *, semantic: bool = False
) -> Identity | str:
    """What a call asks, or why it must bypass the cache.

    Args:
        semantic: whether questions are compared by meaning, too.
        digest: keyed with a secret, so that digests tell nothing to who reads them.
    """
    if parsed.kept_input:
        return "stored"
    kept: dict[str, Any] = {}
    exact = parsed.api is not Api.CHAT
    for name, raw in parsed.fields.items():
        role = FIELDS.get(name, FieldRole.EXACT)
        if role is FieldRole.OUT:
            continue
        value = _decode(raw)
        if value is None:
            continue
        if role is FieldRole.NEVER:
            if value in _HARMLESS.get(name, ()):
                continue
            return name
        if role is FieldRole.EXACT:
            if value in ([], {}, ""):
                continue
            exact = True
        kept[name] = _plain(value)
    native = parsed.native
    if native is not None and native.api == "messages":
        kept_apart = _unanswerable(native.fields)
        if kept_apart:
            return kept_apart
    if native is not None and any(not loss.adapted for loss in native.losses):
        # An upstream of the same API gets what the canonical form lacks.
        exact = True
        kept["native"] = {
            name: _decode(raw)
            for name, raw in native.fields.items()
            if FIELDS.get(name) is not FieldRole.OUT
        }
    question = ""
    if parsed.api is Api.CHAT:
        messages = kept["messages"]
        last = messages[-1]
        if isinstance(last, dict) and last.get("role") == "user":
            text = last.get("content")
            if isinstance(text, str):
                text = normal(text)
                messages[-1] = {**last, "content": text}
                alone = all(m.get("role") in ("system", "developer") for m in messages[:-1])
                if not exact and alone and len(last) == 2 and len(text) <= QUESTION_CHARS_MAX:
                    question = text
    base = _encode((parsed.api.value, *namespace))
    key = digest(base + _encode(kept))
    if not question or not semantic:
        return Identity(key, question=question)
    kept["messages"] = kept["messages"][:-1]
    return Identity(key, digest(base + b"?" + _encode(kept)), question)


def _unanswerable(fields: Mapping[str, Raw]) -> str:
    """What makes a Messages request's answer hold blocks that a cached one has not: the results
    of server tools and the places that documents are cited from."""
    if "mcp_servers" in fields:
        return "mcp_servers"
    for tool in _decode(fields.get("tools") or b"null") or ():
        if isinstance(tool, dict) and tool.get("type") not in (None, "custom"):
            return "server_tools"
    for name in ("messages", "system"):
        raw = bytes(fields.get(name, b""))
        if _CITED.search(raw):
            return "citations"
    return ""


def normal(text: str) -> str:
    """One line without what is not meant: wide forms of ASCII, composed letters, blanks."""
    if len(text) > NORMAL_CHARS_MAX or "\n" in text.strip():
        return text
    if not text.isascii():
        text = unicodedata.normalize("NFC", text).translate(_WIDE)
    return " ".join(text.split())


def _plain(value: Any) -> Any:
    """1.0 and 1 are the same number."""
    return int(value) if isinstance(value, float) and value.is_integer() else value
