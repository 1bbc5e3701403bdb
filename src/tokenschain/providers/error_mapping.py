"""Error mapping: vendors' codes and messages to rows of `core.errors`.

Sources are the vendors' error pages and SDKs as compiled on 2026-11-23; a rule without such a
source says so. The first rule that fits is taken, the vendor's own before the general ones.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import NamedTuple


class Rule(NamedTuple):
    """One row: fits when each part that is given fits."""

    means: str
    """A code of `core.errors`."""
    codes: str = ""
    """The vendor's codes or types, separated by blanks; `*` at the end for any ending."""
    status: int | None = None
    words: str = ""
    """A part of the message, lower case."""


VENDOR_RULES: dict[str, tuple[Rule, ...]] = {
    "alibaba": (
        Rule("content_filter", "DataInspectionFailed data_inspection_failed FaqRuleBlocked"),
        Rule("upstream_out_of_funds", "Arrearage"),
        Rule("upstream_rejected_credentials", "InvalidApiKey invalid_api_key"),
        Rule("upstream_access_denied", "AccessDenied*"),
        Rule("upstream_model_not_found", "ModelNotFound model_not_found NotFound"),
        Rule("upstream_overloaded", words="throttled due to system capacity"),
        Rule("upstream_overloaded", "ModelServiceUnavailable ServiceUnavailable"),
        Rule("upstream_rate_limited", "Throttling* insufficient_quota limit_requests"),
        Rule("upstream_timeout", "RequestTimeOut InternalError.Timeout"),
        Rule("payload_too_large", "BadRequest.TooLarge"),
    ),
    "tencent": (
        Rule("content_filter", "451001 content_filter_error", 451),
        Rule("content_filter", "OperationDenied.TextIllegalDetected"),
        Rule("upstream_out_of_funds", "401007 401008 403004", 402),
        Rule("upstream_out_of_funds", "ResourceUnavailable.* ResourcesSoldOut.*"),
        Rule(
            "upstream_out_of_funds",
            "FailedOperation.ResourcePackExhausted FailedOperation.FreeResourcePackExhausted "
            "FailedOperation.ServiceStopArrears ResourceInsufficient.*",
        ),
        Rule("upstream_access_denied", "403001 403002 403005"),
        Rule(
            "upstream_access_denied", "FailedOperation.ServiceNotActivated UnauthorizedOperation*"
        ),
        Rule("upstream_rejected_credentials", "401002 AuthFailure*"),
        Rule(
            "upstream_rate_limited",
            "429001 RequestLimitExceeded* LimitExceeded* FailedOperation.EngineServerLimitExceeded",
        ),
        Rule("upstream_model_not_found", "InvalidParameterValue.Model"),
        Rule("upstream_timeout", "FailedOperation.EngineRequestTimeout"),
        Rule("invalid_request", "InvalidParameter* MissingParameter 400001 400002 400004"),
    ),
    "huawei": (
        Rule("content_filter", "ModelArts.81011", words=""),
        Rule("upstream_rejected_credentials", "ModelArts.81002 ModelArts.81003"),
        Rule("upstream_access_denied", "ModelArts.81004"),
        Rule("upstream_out_of_funds", "ModelArts.81005 ModelArts.81006"),
        Rule("upstream_model_not_found", "ModelArts.81009"),
        Rule("upstream_rate_limited", "ModelArts.81101 ModelArts.81103"),
        Rule("upstream_timeout", "APIG.0203"),
        Rule("invalid_request", "ModelArts.81001"),
    ),
    "volcano": (
        Rule("content_filter", "SensitiveContentDetected* Input*SensitiveContentDetected"),
        Rule("content_filter", words="sensitive information"),
        Rule("upstream_out_of_funds", "AccountOverdueError QuotaExceeded"),
        Rule("upstream_access_denied", "AccessDenied ModelNotOpen"),
        Rule("upstream_rejected_credentials", "AuthenticationError"),
        Rule("upstream_model_not_found", "InvalidEndpointOrModel.*"),
        Rule("upstream_failed", "InvalidEndpoint.ClosedEndpoint"),
        Rule("upstream_overloaded", "ServerOverloaded"),
        Rule("upstream_rate_limited", "RateLimitExceeded* ModelAccount* APIAccount*"),
    ),
    "baidu": (
        Rule("content_filter", "unsafe_request"),
        Rule("context_length_exceeded", "characters_too_long tokens_too_long"),
        Rule("upstream_rejected_credentials", "invalid_iam_token invalid_appid", 401),
        Rule("upstream_access_denied", "access_denied no_parameter_permission"),
        Rule(
            "upstream_rate_limited", "rpm_rate_limit_exceeded tpm_rate_limit_exceeded preemptible*"
        ),
        Rule("upstream_rate_limited", "4 18 336100 336501 336502"),
        Rule("upstream_out_of_funds", "17 19"),
        Rule("upstream_failed", "1 2 336000"),
        Rule("upstream_rejected_credentials", "13 14 110 111"),
        Rule("upstream_access_denied", "6 336004"),
    ),
    "deepseek": (
        Rule("upstream_out_of_funds", status=402),
        Rule("invalid_request", status=422),
    ),
    "moonshot": (
        Rule("content_filter", "content_filter"),
        Rule("context_length_exceeded", words="input token length too long"),
        Rule("context_length_exceeded", words="exceeded model token limit"),
        Rule("upstream_out_of_funds", "exceeded_current_quota_error"),
        Rule("upstream_out_of_funds", status=403, words="insufficient balance"),
        Rule("upstream_overloaded", "engine_overloaded_error"),
        Rule("upstream_rate_limited", "rate_limit_reached_error"),
        Rule("upstream_model_not_found", "resource_not_found_error"),
    ),
    "zhipu": (
        Rule("content_filter", "1300 1301"),
        Rule("context_length_exceeded", "1261"),
        Rule("upstream_out_of_funds", "1113 1304 1308 1309 1310"),
        Rule("upstream_rejected_credentials", "1000 1001 1002 1003 1004 1005 1111"),
        Rule("upstream_access_denied", "1110 1112 1121 1220 1311"),
        Rule("upstream_model_not_found", "1211 1221 1222"),
        Rule("upstream_rate_limited", "1302 1303 1305 1313"),
        Rule("upstream_failed", "1120 1200 1230 1234 1312"),
        Rule("invalid_request", "1210 1212 1213 1214 1215 1231"),
    ),
    "minimax": (
        Rule("content_filter", "1026 1027"),
        Rule("upstream_out_of_funds", "1008"),
        Rule("upstream_rejected_credentials", "1004 2049"),
        Rule("upstream_rate_limited", "1002 1039 1041 2056"),
        Rule("upstream_timeout", "1001"),
        Rule("upstream_failed", "1000 1013 1024 1033"),
        Rule("invalid_request", "1042 2013"),
    ),
    "siliconflow": (
        Rule("upstream_overloaded", words="system is really busy"),
        Rule("upstream_overloaded", status=503),
        Rule("upstream_rejected_credentials", words="api key is invalid"),
    ),
    "xfyun": (
        # Codes by general knowledge of the vendor's API, not checked against a stored page.
        Rule("content_filter", "10013 10014 10019"),
        Rule("context_length_exceeded", "10907"),
        Rule("upstream_access_denied", "11200"),
        Rule("upstream_out_of_funds", "11201"),
        Rule("upstream_rate_limited", "11202 11203"),
        Rule("upstream_overloaded", "10007 10008"),
    ),
    "anthropic": (
        Rule("upstream_overloaded", "overloaded_error", 529),
        Rule("context_length_exceeded", words="prompt is too long"),
        Rule("upstream_out_of_funds", words="credit balance is too low"),
    ),
    "mistral": (
        Rule("upstream_rate_limited", words="service tier capacity exceeded"),
        Rule("invalid_request", status=422),
    ),
    "openai": (
        Rule("content_filter", "cyber_policy content_policy_violation"),
        Rule("upstream_out_of_funds", "insufficient_quota"),
    ),
    "openrouter": (Rule("upstream_out_of_funds", status=402),),
    "together": (
        Rule("context_length_exceeded", status=403),
        Rule("upstream_overloaded", status=529),
    ),
    "groq": (Rule("upstream_overloaded", status=498),),
    "tei": (Rule("upstream_overloaded", status=429), Rule("upstream_failed", status=424)),
}

GENERAL_RULES: tuple[Rule, ...] = (
    Rule("content_filter", "content_filter content_policy_violation"),
    Rule("context_length_exceeded", "context_length_exceeded"),
    Rule("upstream_out_of_funds", "insufficient_quota"),
    Rule("upstream_out_of_funds", status=402),
    Rule("upstream_rejected_credentials", status=401),
    Rule("upstream_access_denied", status=403),
    Rule("upstream_model_not_found", status=404),
    Rule("upstream_timeout", status=408),
    Rule("upstream_timeout", status=504),
    Rule("invalid_request", status=400),
    Rule("invalid_request", status=413),
    Rule("loop_detected", status=508),
    Rule("invalid_request", status=422),
    Rule("content_filter", status=451),
    Rule("upstream_rate_limited", status=429),
    Rule("upstream_overloaded", status=503),
    Rule("upstream_overloaded", status=529),
)

_TOO_LONG = ("context length", "maximum context", "context size", "too long")
_WAIT = re.compile(
    r"(?:retry|try again|wait|重试|稍后)\D{0,40}?(\d+(?:\.\d+)?)\s*"
    r"(ms|milliseconds?|s\b|sec(?:ond)?s?|秒|m\b|min(?:ute)?s?|分钟)",
    re.IGNORECASE,
)
_UNITS = {"ms": 0.001, "mi": 60.0, "m": 60.0, "分": 60.0}
_SPAN = re.compile(r"(\d+(?:\.\d+)?)(ms|h|m|s)")
_SPANS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3_600.0}
WAIT_MAX_S = 3_600.0
_SINCE_MAX_S = 31_536_000.0
"""A number within a year of now is a time, any other is a wait."""


def meaning_of(vendor: str, status: int, codes: tuple[str, ...], message: str) -> str:
    """The row of `core.errors` that a vendor's error belongs to.

    Args:
        codes: whatever the vendor calls code and type.
    """
    text = message.lower()
    if status == 200:  # the status is in the body
        status = next((int(c) for c in codes if c.isdecimal() and 400 <= int(c) < 600), status)
    for rule in (*VENDOR_RULES.get(vendor, ()), *GENERAL_RULES):
        named = not rule.codes or any(_named(code, rule.codes) for code in codes if code)
        # A rule with codes and a status fits by either: gateways change one of the two.
        by_status = rule.status is None or rule.status == status
        either = bool(rule.codes) and rule.status is not None
        fits = (named or by_status) if either else (named and by_status)
        if fits and rule.words in text:
            if rule.means == "invalid_request" and any(words in text for words in _TOO_LONG):
                return "context_length_exceeded"
            return rule.means
    return "upstream_failed"


def _named(code: str, known: str) -> bool:
    for pattern in known.split():
        beginning, star, ending = pattern.partition("*")
        if code == pattern or (star and code.startswith(beginning) and code.endswith(ending)):
            return True
    return False


def wait_of(headers: Mapping[bytes, bytes], message: str, now_s: float) -> float | None:
    """How long to wait, from the headers or from the words of the message; seconds.

    `retry-after-ms` and `retry-after` (seconds, a fraction of them, or a date: RFC 9110, 10.2.3)
    come first; then the latest of the limits that are used up resets at `x-ratelimit-reset*`.

    Args:
        now_s: Unix seconds.
    """
    for wait_s in (*_header_waits(headers, now_s), _message_wait(message)):
        if wait_s is not None and wait_s >= 0:
            return min(wait_s, WAIT_MAX_S)
    return None


def _header_waits(headers: Mapping[bytes, bytes], now_s: float) -> Iterator[float | None]:
    milliseconds = _number(headers.get(b"retry-after-ms"))
    yield None if milliseconds is None else milliseconds / 1e3
    yield _moment(headers.get(b"retry-after"), now_s)
    resets = []
    for name, value in headers.items():
        if b"ratelimit" not in name or b"reset" not in name:
            continue
        left = headers.get(name.replace(b"reset", b"remaining"))
        if left is None or not (_number(left) or 0):
            resets.append(_moment(value, now_s))
    yield max((wait_s for wait_s in resets if wait_s is not None), default=None)


def _number(value: bytes | None) -> float | None:
    try:
        found = float(value) if value is not None and len(value) < 32 else math.nan
    except ValueError:
        return None
    return found if math.isfinite(found) else None


def _moment(value: bytes | None, now_s: float) -> float | None:
    """Seconds until what a header says: seconds, Unix time, `6m0s`, or a date of either kind."""
    if value is None:
        return None
    number = _number(value)
    if number is not None:
        for unit in (1.0, 1e3):  # Unix seconds or milliseconds
            if now_s - _SINCE_MAX_S < number / unit < now_s + _SINCE_MAX_S:
                return max(0.0, number / unit - now_s)
        return number
    text = value.decode("latin-1").strip()
    spans = _SPAN.findall(text)
    if spans and _SPAN.sub("", text) == "":
        return sum(float(count) * _SPANS[unit] for count, unit in spans)
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - now_s)
    except (ValueError, IndexError, OverflowError):
        pass
    try:
        return max(0.0, datetime.fromisoformat(text).timestamp() - now_s)
    except (ValueError, OverflowError):
        return None


def _message_wait(message: str) -> float | None:
    found = _WAIT.search(message)
    if found is None:
        return None
    unit = found.group(2).lower()
    factor = _UNITS.get(unit[:2], _UNITS.get(unit[:1], 1.0))
    return float(found.group(1)) * factor
