"""Error table: every error that a caller can see, with status, retry and blame.

Each row answers three separate questions: what the caller sees (status, type,
code), whether another upstream is worth trying (`retry`), and who is to blame
(`fault`, and `blame` for whose health it counts against). Field names of the body are OpenAI's.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import StrEnum
from typing import NamedTuple

import msgspec


class Fault(StrEnum):
    """Who has to change something so that the call succeeds."""

    CALLER = "caller"
    PLATFORM = "platform"
    UPSTREAM = "upstream"


class Blame(StrEnum):
    """Whose health a failure counts against."""

    NONE = "none"
    KEY = "key"
    """The platform's own key at the upstream; other keys may go on."""
    UPSTREAM = "upstream"


class ErrorKind(NamedTuple):
    """One row of the table."""

    code: str
    status: int
    type: str
    retry: bool
    fault: Fault
    meaning: str

    @property
    def blame(self) -> Blame:
        """Whose health it counts against."""
        if self.code in _ABOUT_KEYS:
            return Blame.KEY
        return Blame.UPSTREAM if self.fault is Fault.UPSTREAM else Blame.NONE


_ABOUT_KEYS = frozenset(
    {
        "upstream_rejected_credentials",
        "upstream_access_denied",
        "upstream_out_of_funds",
        "upstream_rate_limited",
    }
)
_BAD = "invalid_request_error"
_LOGIN = "authentication_error"
_SERVER = "server_error"
_UP = "upstream_error"

_FIELD_ROWS = tuple(
    (code, 400, _BAD, False, Fault.CALLER, meaning)
    for code, meaning in (
        ("invalid_type", "A field has a wrong type."),
        ("integer_below_min_value", "A whole number is too small."),
        ("integer_above_max_value", "A whole number is too large."),
        ("decimal_below_min_value", "A number is too small."),
        ("decimal_above_max_value", "A number is too large."),
        ("empty_array", "A list is empty."),
        ("array_above_max_length", "A list has too many entries."),
        ("empty_string", "A text is empty."),
        ("string_above_max_length", "A text is too long."),
        ("object_above_max_properties", "An object has too many fields."),
        ("invalid_image_url", "A picture's address is none."),
        ("invalid_function_parameters", "The parameters of a function are no schema of an object."),
        ("invalid_parameter_combination", "Two fields exclude each other."),
        ("previous_response_not_found", "There is no response to go on from."),
    )
)
"""What is wrong with a request, in OpenAI's codes; they are about one field each."""

_ROWS = (
    *_FIELD_ROWS,
    # code, HTTP status, OpenAI type, another upstream?, whose fault, meaning
    ("malformed_http", 400, _BAD, False, Fault.CALLER, "The bytes are not strict HTTP/1.1."),
    ("invalid_json", 400, _BAD, False, Fault.CALLER, "The body is not a JSON object."),
    ("invalid_value", 400, _BAD, False, Fault.CALLER, "A field has a wrong type or value."),
    ("missing_required_parameter", 400, _BAD, False, Fault.CALLER, "A required field is absent."),
    (
        "unsupported_parameter",
        400,
        _BAD,
        False,
        Fault.CALLER,
        "The model does not offer this field.",
    ),
    (
        "context_length_exceeded",
        400,
        _BAD,
        False,
        Fault.CALLER,
        "The prompt is longer than the model's context.",
    ),
    (
        "loop_detected",
        508,
        _BAD,
        False,
        Fault.CALLER,
        "The call came through too many gateways: an upstream of one leads back to it.",
    ),
    ("invalid_request", 400, _BAD, False, Fault.CALLER, "The upstream refused the request itself."),
    (
        "content_filter",
        400,
        _BAD,
        False,
        Fault.CALLER,
        "Moderation, here or at the upstream, refused the content of the request or of its answer.",
    ),
    (
        "moderation_unavailable",
        503,
        _SERVER,
        False,
        Fault.PLATFORM,
        "A moderation engine that must have its say did not answer.",
    ),
    (
        "frozen",
        403,
        "permission_error",
        False,
        Fault.CALLER,
        "The model or the tenant is frozen because of an incident.",
    ),
    (
        "model_not_filed",
        403,
        "permission_error",
        False,
        Fault.CALLER,
        "The model has no filing or registration number in force, which a policy asks for.",
    ),
    (
        "end_user_suspended",
        403,
        "permission_error",
        False,
        Fault.CALLER,
        "The end user of the call is suspended for a time, after several blocked calls.",
    ),
    ("missing_api_key", 401, _BAD, False, Fault.CALLER, "No API key came with the call."),
    ("invalid_api_key", 401, _BAD, False, Fault.CALLER, "No such API key."),
    ("api_key_revoked", 401, _BAD, False, Fault.CALLER, "The API key has been revoked."),
    ("api_key_expired", 401, _BAD, False, Fault.CALLER, "The API key is past its expiry."),
    (
        "api_not_allowed",
        403,
        "permission_error",
        False,
        Fault.CALLER,
        "The key may not use this API.",
    ),
    (
        "network_not_allowed",
        403,
        "permission_error",
        False,
        Fault.CALLER,
        "The key may not be used from where the call came from.",
    ),
    (
        "account_suspended",
        403,
        "permission_error",
        False,
        Fault.CALLER,
        "The key's tenant or project is closed.",
    ),
    (
        "permission_denied",
        403,
        "permission_error",
        False,
        Fault.CALLER,
        "The signed-in user may not do this.",
    ),
    (
        "step_up_required",
        403,
        "permission_error",
        False,
        Fault.CALLER,
        "The signed-in user has to show password and second factor again first.",
    ),
    (
        "password_expired",
        403,
        "permission_error",
        False,
        Fault.CALLER,
        "The password is older than the platform allows, and is to be changed first.",
    ),
    (
        "approval_required",
        403,
        "permission_error",
        False,
        Fault.CALLER,
        "The act takes a second person, and waits for one; `approvals list` shows it.",
    ),
    (
        "signature_required",
        403,
        "permission_error",
        False,
        Fault.CALLER,
        "The act takes a signature by a key of the person who asks for it.",
    ),
    (
        "invalid_signature",
        403,
        "permission_error",
        False,
        Fault.CALLER,
        "The request's signature does not hold.",
    ),
    (
        "second_factor_required",
        403,
        "permission_error",
        False,
        Fault.CALLER,
        "The tenant or the platform demands a second factor, and the user has none yet.",
    ),
    ("invalid_login", 401, _LOGIN, False, Fault.CALLER, "The sign-in is wrong."),
    (
        "account_locked",
        429,
        _LOGIN,
        False,
        Fault.CALLER,
        "Too many wrong sign-ins from this address: it waits before the next one.",
    ),
    (
        "budget_exceeded",
        402,
        "insufficient_quota",
        False,
        Fault.CALLER,
        "A budget leaves no room for the call.",
    ),
    (
        "insufficient_balance",
        402,
        "insufficient_quota",
        False,
        Fault.CALLER,
        "The tenant's wallet does not cover the call.",
    ),
    (
        "rate_limit_exceeded",
        429,
        "rate_limit_error",
        False,
        Fault.CALLER,
        "A rate leaves no room for the call now.",
    ),
    (
        "quota_unknown",
        503,
        _SERVER,
        False,
        Fault.PLATFORM,
        "What is left of a limit cannot be known now, and its policy is to refuse then.",
    ),
    (
        "conflict",
        409,
        _BAD,
        False,
        Fault.CALLER,
        "It exists already, or is in use, or the same idempotency key came with another request.",
    ),
    (
        "precondition_failed",
        412,
        _BAD,
        False,
        Fault.CALLER,
        "It was changed since the version that `If-Match` names.",
    ),
    (
        "model_not_found",
        404,
        _BAD,
        False,
        Fault.CALLER,
        "No such model is served here, or the key may not use it.",
    ),
    ("not_found", 404, _BAD, False, Fault.CALLER, "No such path."),
    ("method_not_allowed", 405, _BAD, False, Fault.CALLER, "The path exists with other methods."),
    (
        "request_timeout",
        408,
        _BAD,
        False,
        Fault.CALLER,
        "The request arrived more slowly than the limit allows.",
    ),
    (
        "overloaded",
        429,
        "rate_limit_error",
        False,
        Fault.PLATFORM,
        "All upstreams of the model are at their limits, and the queue is as long as allowed. "
        "At control: too many sign in at once.",
    ),
    (
        "server_busy",
        503,
        _SERVER,
        False,
        Fault.PLATFORM,
        "The process holds as many bytes of requests as it may.",
    ),
    (
        "payload_too_large",
        413,
        _BAD,
        False,
        Fault.CALLER,
        "The body is larger than the limit allows.",
    ),
    (
        "headers_too_large",
        431,
        _BAD,
        False,
        Fault.CALLER,
        "The request head is larger than the limit allows.",
    ),
    (
        "unsupported_media_type",
        415,
        _BAD,
        False,
        Fault.CALLER,
        "The body's encoding is not supported.",
    ),
    (
        "upstream_rate_limited",
        429,
        "rate_limit_error",
        True,
        Fault.UPSTREAM,
        "The upstream limits the rate.",
    ),
    (
        "caller_gone",
        499,
        _BAD,
        False,
        Fault.CALLER,
        "The caller left before the answer was complete.",
    ),
    (
        "caller_stalled",
        499,
        _BAD,
        False,
        Fault.CALLER,
        "The caller stopped reading for longer than the limit.",
    ),
    ("internal_error", 500, _SERVER, False, Fault.PLATFORM, "A fault of the platform."),
    (
        "translation_failed",
        502,
        _SERVER,
        True,
        Fault.PLATFORM,
        "The upstream answered, and the platform could not translate it; nothing is charged.",
    ),
    ("upstream_unreachable", 502, _UP, True, Fault.UPSTREAM, "No connection to the upstream."),
    ("upstream_failed", 502, _UP, True, Fault.UPSTREAM, "The upstream answered with an error."),
    (
        "upstream_rejected_credentials",
        502,
        _UP,
        True,
        Fault.UPSTREAM,
        "The upstream refused the platform's own credentials.",
    ),
    (
        "upstream_access_denied",
        502,
        _UP,
        True,
        Fault.PLATFORM,
        "The platform's account at the upstream may not use this model.",
    ),
    (
        "upstream_model_not_found",
        502,
        _UP,
        True,
        Fault.PLATFORM,
        "The upstream does not know the model that is configured.",
    ),
    (
        "upstream_out_of_funds",
        503,
        _UP,
        True,
        Fault.PLATFORM,
        "The platform's account at the upstream has no funds or quota left.",
    ),
    ("upstream_overloaded", 503, _UP, True, Fault.UPSTREAM, "The upstream is overloaded."),
    (
        "upstream_invalid_reply",
        502,
        _UP,
        True,
        Fault.UPSTREAM,
        "The upstream's answer could not be understood.",
    ),
    (
        "upstream_interrupted",
        502,
        _UP,
        True,
        Fault.UPSTREAM,
        "The upstream broke off in the middle of its answer.",
    ),
    (
        "not_cached",
        504,
        _BAD,
        False,
        Fault.CALLER,
        "The caller wanted an answer from the cache only, and there is none.",
    ),
    (
        "no_upstream",
        503,
        _SERVER,
        False,
        Fault.PLATFORM,
        "No upstream for this model is configured and usable.",
    ),
    (
        "database_unavailable",
        503,
        _SERVER,
        False,
        Fault.PLATFORM,
        "The control plane's database does not answer.",
    ),
    (
        "no_snapshot",
        503,
        _SERVER,
        False,
        Fault.PLATFORM,
        "The gateway has not received its configuration yet.",
    ),
    (
        "journal_full",
        503,
        _SERVER,
        False,
        Fault.PLATFORM,
        "The call could not be recorded, so it is not served.",
    ),
    (
        "upstream_busy",
        503,
        _UP,
        True,
        Fault.UPSTREAM,
        "All connections to the upstream are taken.",
    ),
    (
        "upstream_timeout",
        504,
        _UP,
        True,
        Fault.UPSTREAM,
        "The upstream did not answer within the limit.",
    ),
)

ERRORS: dict[str, ErrorKind] = {row[0]: ErrorKind(*row) for row in _ROWS}


class ErrorProblem(msgspec.Struct, frozen=True):
    """One of several problems of a change of the configuration."""

    kind: str
    tenant: str
    name: str
    field: str
    message: str


class ApiError(Exception):
    """A refusal or failure on its way to the caller.

    Args:
        code: a row of `ERRORS`.
        message: one or two sentences a caller can act on; never a secret.
        param: the request field that is to blame, as `messages[0].role`.
        retry_after_s: sent as `Retry-After` when known.
        detail: what is for the log alone, as an upstream's own words.
        problems: each by itself, where several are said at once.
        status: overrides the row's status (an upstream's own 4xx is kept).
    """

    def __init__(
        self,
        code: str,
        message: str,
        *,
        param: str | None = None,
        retry_after_s: float | None = None,
        status: int | None = None,
        detail: str = "",
        problems: Sequence[ErrorProblem] = (),
    ) -> None:
        super().__init__(message)
        self.kind = ERRORS[code]
        self.message = message
        self.param = param
        self.retry_after_s = retry_after_s
        self.detail = detail
        self.problems = problems
        self.status = status or self.kind.status

    @property
    def code(self) -> str:
        return self.kind.code

    def as_told(self, redact: Callable[[str], str], request_id: str) -> ApiError:
        """The error as a caller is told it: without what is nobody else's business, and with
        the call's id where only the operator's log says more."""
        message = redact(self.message)
        if self.kind.fault is Fault.UPSTREAM or self.kind.type == _UP:
            message = f"{message} Quote {request_id} when you report it."
        told = ApiError(
            self.code,
            message,
            param=self.param and redact(self.param),
            retry_after_s=self.retry_after_s,
            status=self.status,
        )
        told.__cause__ = self
        return told

    def body(self, request_id: str = "") -> bytes:
        """The error as OpenAI's JSON body; the id is in a header there."""
        said: dict[str, object] = {
            "message": self.message,
            "type": self.kind.type,
            "param": self.param,
            "code": self.kind.code,
        }
        if self.problems:
            said["problems"] = self.problems
        return msgspec.json.encode({"error": said})


def wire_refusal(status: int, code: str, message: str, path: bytes) -> tuple[bytes, bytes]:
    """Header lines and body for what the wire itself refuses; see `wire.exchange.RefusalWriter`."""
    return b"", ApiError(code if code in ERRORS else "malformed_http", message).body()
