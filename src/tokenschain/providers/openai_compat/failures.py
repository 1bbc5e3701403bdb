"""Upstream failures as errors that the caller sees."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from typing import NamedTuple

import msgspec

from tokenschain.core.call import Attempt
from tokenschain.core.errors import ERRORS, ApiError, Blame, Fault
from tokenschain.core.formats.openai_chat import ParsedRequest
from tokenschain.core.pricing.catalog import Usage
from tokenschain.core.snapshot import Upstream
from tokenschain.providers import error_mapping
from tokenschain.providers.openai_compat.body_decoding import BadEncoding, decoded
from tokenschain.providers.vendor_profile import Vendor
from tokenschain.wire import client as http

ERROR_BYTES_MAX = 65_536
TEXT_CHARACTERS_MAX = 2_000
"""Of what an upstream says of the caller's request."""
PARAM_CHARACTERS_MAX = 200
DETAIL_CHARACTERS_MAX = 500
"""Of an upstream's words in the log."""
MESSAGE_CHARACTERS_MAX = 8_192
"""Of what is looked through for its meaning."""


_decode_any = msgspec.json.Decoder().decode


def unreachable(upstream: Upstream, error: Exception) -> ApiError:
    """Nobody is there, or its address is none."""
    said = f"`{upstream.id}` cannot be reached."
    return ApiError("upstream_unreachable", said, detail=str(error))


def note_failure(
    attempt: Attempt, parsed: ParsedRequest, upstream: str, error: BaseException
) -> None:
    """Note on an attempt that it ended with an error, or was cancelled.

    Raises:
        ApiError: what the caller sees, where `error` is none itself.
    """
    attempt.ended_at = time.monotonic()
    if isinstance(error, ApiError):
        attempt.outcome = error.code
    elif isinstance(error, Exception):
        failure = failure_of(error, upstream)
        attempt.outcome = failure.code
        raise failure from error
    elif isinstance(error, asyncio.CancelledError):
        # The upstream may have worked; what it did is not known.
        attempt.outcome = "caller_gone"
        attempt.usage = attempt.usage or Usage(
            prompt_tokens=parsed.prompt_tokens_estimate, source="estimated"
        )
    else:
        attempt.outcome = "internal_error"


def failure_of(error: BaseException, upstream: str) -> ApiError:
    """A failure of the wire, or of our own reading, as the caller sees it."""
    if not isinstance(error, http.ClientError):
        return translation_failure(error, upstream)
    detail = str(error)
    match error:
        case http.TimedOut():
            return ApiError("upstream_timeout", f"The upstream `{upstream}` gave {error}.")
        case http.PoolExhausted():
            return ApiError("upstream_busy", f"The upstream `{upstream}` is busy.", detail=detail)
        case http.ConnectFailed():
            return ApiError(
                "upstream_unreachable",
                f"The upstream `{upstream}` cannot be reached.",
                detail=detail,
            )
        case http.BadReply():
            return ApiError(
                "upstream_invalid_reply",
                f"The upstream `{upstream}` gave no answer that can be read.",
                detail=detail,
            )
        case _:
            return ApiError(
                "upstream_interrupted", f"The upstream `{upstream}` broke off.", detail=detail
            )


def translation_failure(fault: BaseException, upstream: str) -> ApiError:
    """A fault of our own between the caller's form and the upstream's."""
    return ApiError(
        "translation_failed",
        f"The call could not be translated to or from `{upstream}` ({type(fault).__name__}).",
    )


async def refusal_of(reply: http.Reply, upstream: str, vendor: Vendor) -> ApiError:
    """An upstream's error answer as the caller sees it."""
    body = await reply.read(ERROR_BYTES_MAX)
    try:
        body = decoded(body, reply.headers, ERROR_BYTES_MAX)
    except BadEncoding:
        body = b""  # its status says enough
    return refused(reply.status, body, reply.headers, upstream, vendor)


def refused(
    status: int, body: bytes, headers: Mapping[bytes, bytes], upstream: str, vendor: Vendor
) -> ApiError:
    """What an error means; its words reach the caller only when they are about the caller's
    request: words about our account or the upstream's inside are not the caller's business."""
    found = _read_error(body)
    # Looked through for what it means: no more of it than anybody reads.
    codes = tuple(code[:DETAIL_CHARACTERS_MAX] for code in found.codes)
    found = found._replace(message=found.message[:MESSAGE_CHARACTERS_MAX], codes=codes)
    code = error_mapping.meaning_of(vendor.rules, status, found.codes, found.message)
    wait_s = error_mapping.wait_of(headers, found.message, time.time())
    if ERRORS[code].fault is Fault.CALLER:
        text = found.message[:TEXT_CHARACTERS_MAX] or (
            "The upstream refused the request without a reason."
        )
        param = "messages" if code == "context_length_exceeded" else found.param
        param = param and param[:PARAM_CHARACTERS_MAX]
        kept = status if code == "invalid_request" and status in (400, 413, 422) else None
        return ApiError(code, text, param=param, status=kept)
    # What is said of a key may quote it, cut or masked in ways that no filter knows.
    words = () if ERRORS[code].blame is Blame.KEY else (found.message,)
    said = " ".join((*found.codes, *words))
    return ApiError(
        code,
        f"The upstream `{upstream}`: {_SAYS[code]} (HTTP {status}).",
        retry_after_s=wait_s,
        detail=said[:DETAIL_CHARACTERS_MAX],
    )


_SAYS = {
    "upstream_rejected_credentials": "it refused the platform's credentials",
    "upstream_access_denied": "the platform's account may not use this model there",
    "upstream_out_of_funds": "the platform's account there has no funds or quota left",
    "upstream_model_not_found": "it does not know the model that is configured",
    "upstream_rate_limited": "it limits the rate, try again later",
    "upstream_overloaded": "it is overloaded, try again later",
    "upstream_timeout": "it timed out itself",
    "upstream_failed": "it failed",
}


class _WireError(NamedTuple):
    """An upstream's error, as far as it said."""

    message: str = ""
    codes: tuple[str, ...] = ()
    """What it calls code and type."""
    param: str | None = None


def _read_error(data: bytes) -> _WireError:
    """Understand an upstream's error body, in any of the usual shapes."""
    try:
        found = _decode_any(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return _WireError()
    if isinstance(found, str):
        return _WireError(found)
    if not isinstance(found, dict):
        return _WireError()
    response = found.get("Response")
    inner = response.get("Error") if isinstance(response, dict) else None
    inner = inner or found.get("error") or found.get("base_resp") or found
    if isinstance(inner, str):
        return _WireError(inner)
    if not isinstance(inner, dict):
        return _WireError()
    param = inner.get("param")
    words = (inner.get(name) for name in _MESSAGE_NAMES)
    codes = (inner.get(name) for name in _CODE_NAMES)
    return _WireError(
        next((str(word) for word in words if word), ""),
        tuple(str(code) for code in codes if code not in (None, "", 0)),
        param if isinstance(param, str) else None,
    )


_MESSAGE_NAMES = ("message", "Message", "error_msg", "status_msg", "msg", "detail")
_CODE_NAMES = ("code", "Code", "error_code", "status_code", "type", "upstream_code")
