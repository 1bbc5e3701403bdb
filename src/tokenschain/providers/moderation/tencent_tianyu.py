"""Tencent Cloud Tianyu: text moderation (TMS) and image moderation (IMS), signed by TC3.

Sources: Tencent's pages 669/34502 (TextModeration) and 1124/64540 (error codes),
tencentcloud-sdk-python-tms 3.1.157 and -ims 3.1.189 (fields).
"""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Mapping

import msgspec

from tokenschain.core.moderation.verdict import Direction, EngineFailure, Level, RiskFinding
from tokenschain.providers import signing
from tokenschain.providers.moderation.vendor import (
    Asking,
    PieceLimit,
    PieceVerdict,
    Unanswered,
    VendorRequest,
    finding,
    wrong_request,
)
from tokenschain.providers.signing import Signable
from tokenschain.wire.client import Origin

CALLS_PER_SECOND = 1_000
"""What Tencent allows by default, of texts."""
_VERSION = "2020-12-29"
_LIMIT = PieceLimit(10_000)
_DATA_ID_CHARACTERS_MAX = 64
_NOT_IN_DATA_ID = re.compile(r"[^\w\-@#]", re.ASCII)
_OTHER_ACCOUNT = "7"
"""The kind of an account that is none of Tencent's own."""
_LEVELS = {"Pass": Level.NONE, "Review": Level.MEDIUM, "Block": Level.HIGH}
CATEGORIES: Mapping[str, str] = {
    "polity": "values/national_security",
    "terror": "values/terrorism",
    "porn": "values/violence_obscenity",
    "sexy": "values/violence_obscenity",
    "moan": "values/violence_obscenity",
    "illegal": "values/other",
    "abuse": "rights/reputation",
    "ad": "commercial/other",
    "spam": "commercial/other",
    "privacy": "rights/privacy",
    "teenager": "rights/health",
    "religion": "values/other",
    "custom": "values/other",
}
"""By the beginning of a label. Tencent names few of its labels: others are `values/other`."""


class TencentTianyu:
    """One account in one region, with its strategies."""

    takes_images = True

    def __init__(
        self,
        region: str = "ap-guangzhou",
        base_url: str = "",
        image_base_url: str = "",
        strategy: str = "",
        image_strategy: str = "",
    ) -> None:
        """
        Args:
            strategy, image_strategy: the `BizType` of each; the account's default where empty.
        """
        self._region = region
        self._texts = Origin.of(base_url or "https://tms.tencentcloudapi.com")
        self._images = Origin.of(image_base_url or "https://ims.tencentcloudapi.com")
        self._strategy, self._image_strategy = strategy, image_strategy

    def limit(self, direction: Direction) -> PieceLimit:
        """See `ModerationVendor`."""
        return _LIMIT

    def text_request(self, piece: str, asking: Asking) -> VendorRequest:
        """See `ModerationVendor`."""
        fields = _common(asking, self._strategy)
        fields["Content"] = base64.b64encode(piece.encode()).decode()
        fields["Type"] = "TEXT"
        if asking.context.session and asking.direction is Direction.OUTPUT:
            fields["SessionId"] = asking.context.session

        def read(status: int, body: bytes) -> PieceVerdict:
            return _read(status, body, len(piece))

        return self._signed("TextModeration", "tms", self._texts, fields, asking, read)

    def image_request(self, url: str, asking: Asking) -> VendorRequest:
        """See `ModerationVendor`."""
        fields = _common(asking, self._image_strategy)
        if url.startswith("data:"):
            fields["FileContent"] = url.partition(",")[2]
        else:
            fields["FileUrl"] = url

        def read(status: int, body: bytes) -> PieceVerdict:
            return _read(status, body, 0)

        return self._signed("ImageModeration", "ims", self._images, fields, asking, read)

    def _signed(
        self,
        action: str,
        service: str,
        origin: Origin,
        fields: dict[str, object],
        asking: Asking,
        read: Callable[[int, bytes], PieceVerdict],
    ) -> VendorRequest:
        body = msgspec.json.encode(fields)
        content = ("content-type", "application/json")
        signable = Signable("POST", "/", (content, ("host", origin.authority)), body)
        now_s = int(asking.now_s)
        headers = (
            content,
            ("x-tc-action", action),
            ("x-tc-version", _VERSION),
            ("x-tc-region", self._region),
            ("x-tc-timestamp", str(now_s)),
            ("x-tc-language", "zh-CN"),
            ("authorization", signing.tencent_tc3(signable, asking.keys, service, now_s)),
        )
        return VendorRequest(origin, "/", headers, body, read)


class _Error(msgspec.Struct, rename="pascal"):
    code: str = ""


class _Span(msgspec.Struct, rename="pascal"):
    start: int
    end: int
    """The first character behind it."""


class _Snippet(msgspec.Struct, rename="pascal"):
    positions: list[_Span] | None = None


class _Detail(msgspec.Struct, rename="pascal"):
    """Of a text's `DetailResults` or a picture's `LabelResults`, `ObjectResults` and others."""

    suggestion: str = ""
    label: str = ""
    sub_label: str | None = None
    score: float | None = None
    hit_snippet_infos: list[_Snippet] | None = None


class _Result(msgspec.Struct, rename="pascal"):
    error: _Error | None = None
    suggestion: str | None = None
    label: str = ""
    sub_label: str | None = None
    score: float | None = None
    detail_results: list[_Detail] | None = None
    label_results: list[_Detail] | None = None
    object_results: list[_Detail] | None = None
    ocr_results: list[_Detail] | None = None
    lib_results: list[_Detail] | None = None
    hit_snippet_infos: list[_Snippet] | None = None
    request_id: str = ""


class _Answer(msgspec.Struct, rename="pascal"):
    response: _Result


def _common(asking: Asking, strategy: str) -> dict[str, object]:
    name = _NOT_IN_DATA_ID.sub("-", asking.context.call_id)[:_DATA_ID_CHARACTERS_MAX]
    fields: dict[str, object] = {"DataId": name}
    if strategy:
        fields["BizType"] = strategy
    if asking.context.user:
        fields["User"] = {"UserId": asking.context.user, "AccountType": _OTHER_ACCOUNT}
    return fields


def _read(status: int, body: bytes, characters: int) -> PieceVerdict:
    if status >= 500:
        raise Unanswered(EngineFailure.UNREACHABLE, status)
    result = msgspec.json.decode(body, type=_Answer).response
    if result.error is not None:
        raise _failure(result.error.code)
    if result.suggestion is None:
        raise Unanswered(EngineFailure.GARBAGE, "no Suggestion")
    if _level(result.suggestion) is Level.NONE:
        return PieceVerdict((), result.request_id)
    details = [
        detail
        for several in (
            result.detail_results,
            result.label_results,
            result.object_results,
            result.ocr_results,
            result.lib_results,
        )
        for detail in several or ()
        if _level(detail.suggestion) > Level.NONE
    ]
    # The result as a whole counts where its details do not add up to it.
    if _level(result.suggestion) > max((_level(d.suggestion) for d in details), default=Level.NONE):
        details.append(
            _Detail(
                result.suggestion,
                result.label,
                result.sub_label,
                result.score,
                result.hit_snippet_infos,
            )
        )
    return PieceVerdict(
        tuple(_finding(detail, characters) for detail in details), result.request_id
    )


def _finding(detail: _Detail, characters: int) -> RiskFinding:
    label = f"{detail.label}/{detail.sub_label}" if detail.sub_label else detail.label
    score = 100.0 if detail.score is None else detail.score
    return finding(label, CATEGORIES, _level(detail.suggestion), score, _span(detail, characters))


def _span(detail: _Detail, characters: int) -> tuple[int, int] | None:
    """From the first to the last place that is named; None where that is not in the text."""
    places = [p for s in detail.hit_snippet_infos or () for p in s.positions or ()]
    if not places:
        return None
    start, end = min(p.start for p in places), max(p.end for p in places)
    return (start, end) if 0 <= start < end <= characters else None


def _level(suggestion: str) -> Level:
    return _LEVELS.get(suggestion, Level.HIGH)


def _failure(code: str) -> Unanswered:
    if code == "InternalError.ErrTextTimeOut":
        return Unanswered(EngineFailure.TIMEOUT, code)
    if code.startswith(_THROTTLED):
        return Unanswered(EngineFailure.THROTTLED, code)
    if code.startswith(("AuthFailure", "UnauthorizedOperation", "OperationDenied")):
        return Unanswered(EngineFailure.REFUSED, code)
    if code.startswith(_BROKEN) and code not in _OF_THE_PICTURE:
        return Unanswered(EngineFailure.UNREACHABLE, code)
    return wrong_request(code)


_THROTTLED = ("RequestLimitExceeded", "LimitExceeded", "InternalError.QueryReqLimited")
_BROKEN = ("InternalError", "FailedOperation", "ResourceUnavailable", "ServiceUnavailable",
           "ResourceInsufficient", "ResourcesSoldOut")  # fmt: skip
_OF_THE_PICTURE = ("ResourceUnavailable.ImageDownloadError",
                   "ResourceUnavailable.InvalidImageContent")  # fmt: skip
