"""Reranking APIs of vendors, in one shape.

In and out as Jina's and Cohere's APIs have it and most vendors copy it; TEI takes `texts` and
gives a bare list.
"""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import Raw, Struct

from tokenschain.core.formats import lenient_json
from tokenschain.core.formats.openai_chat import ParsedRequest

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.decode
TEXTS_FIELDS = frozenset({"model", "query", "documents", "top_n", "return_documents"})
"""What TEI's shape carries, or is done here."""


def texts_request(fields: dict[str, Raw]) -> bytes:
    """A request in TEI's shape."""
    documents: list[Any] = _decode(fields["documents"])
    texts = [d if isinstance(d, str) else d["text"] for d in documents]
    return _encode({"query": fields["query"], "texts": texts, "truncate": True})


class _Result(Struct):
    index: int = -1
    relevance_score: float | None = None
    score: float | None = None


class _Usage(Struct):
    prompt_tokens: int | None = None
    total_tokens: int | None = None


class _Tokens(Struct):
    input_tokens: int | None = None


class _Meta(Struct):
    tokens: _Tokens | None = None


class _Reply(Struct):
    id: str = ""
    results: list[_Result] | None = None
    usage: _Usage | None = None
    meta: _Meta | None = None


_read = lenient_json.reader(_Reply)


def reply_from(body: bytes, parsed: ParsedRequest, model: str) -> bytes:
    """A vendor's reply in the one shape; an error stays one.

    Raises:
        ValueError: it is neither.
    """
    bare = body.lstrip().startswith(b"[")
    reply = _read(b'{"results":%b}' % body if bare else body)
    count = len(_decode(parsed.fields["documents"]))
    known = [result for result in reply.results or () if 0 <= result.index < count]
    if not known:
        if not bare and reply.results is None and _says_why(body):
            return body
        raise ValueError("no results")
    ranked = sorted(known, key=_score, reverse=True)
    raw_top = parsed.fields.get("top_n")
    top: int | None = _decode(raw_top) if raw_top is not None else None
    wants_documents = bytes(parsed.fields.get("return_documents", b"false")) == b"true"
    documents: list[Any] = _decode(parsed.fields["documents"]) if wants_documents else []
    results = []
    for result in ranked[:top]:
        made: dict[str, Any] = {"index": result.index, "relevance_score": _score(result)}
        if wants_documents:
            given = documents[result.index]
            made["document"] = {"text": given} if isinstance(given, str) else given
        results.append(made)
    tokens = _tokens(reply)
    usage = {} if tokens is None else {"usage": {"prompt_tokens": tokens, "total_tokens": tokens}}
    return _encode({"id": reply.id, "model": model, "results": results, **usage})


def _says_why(body: bytes) -> bool:
    return any(b'"%b"' % name in body for name in (b"error", b"code", b"error_code", b"base_resp"))


def _score(result: _Result) -> float:
    return result.relevance_score if result.relevance_score is not None else result.score or 0.0


def _tokens(reply: _Reply) -> int | None:
    if reply.usage is not None:
        if reply.usage.prompt_tokens is not None:
            return reply.usage.prompt_tokens
        return reply.usage.total_tokens
    if reply.meta is not None and reply.meta.tokens is not None:
        return reply.meta.tokens.input_tokens
    return None
