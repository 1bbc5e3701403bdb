"""Huawei Cloud Moderation v3: text, signed by SDK-HMAC with SHA-256 or SM3.

Sources: Huawei's pages moderation_03_0069 (request and answer) and moderation_03_0010 (error
codes), huaweicloudsdkmoderation 3.1.219 (fields).
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping

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
    span_of,
    wrong_request,
)
from tokenschain.providers.signing import Hash, Signable
from tokenschain.wire.client import Origin

REGIONS = ("cn-north-4", "cn-north-1", "cn-east-3", "cn-southwest-2")
CALLS_PER_SECOND = 40
"""Huawei allows 40 to 50 at once by default."""
_LIMIT = PieceLimit(10_000)
"""What is beyond is not looked at, and nobody is told."""
_SCENES = ("terrorism", "porn", "ban", "abuse", "politics", "ad")
_LEVELS = {"pass": Level.NONE, "review": Level.MEDIUM, "block": Level.HIGH}
CATEGORIES: Mapping[str, str] = {
    "politics": "values/national_security",
    "terrorism": "values/terrorism",
    "porn": "values/violence_obscenity",
    "ban": "values/other",
    "abuse": "rights/reputation",
    "ad": "commercial/other",
    "ad_law": "commercial/other",
    "meaningless": "services/unreliable",
    "customized": "values/other",
}
_NOT_ALLOWED = ("AIS.0002", "AIS.0004", "AIS.0007", "APIG.03", "APIGW.03")
_BROKEN = ("AIS.0003", "AIS.0404", "AIS.0405")


class HuaweiModeration:
    """One project in one region, with its strategy."""

    takes_images = False

    def __init__(
        self,
        project: str,
        region: str = "cn-north-4",
        base_url: str = "",
        strategy: str = "",
        hash_kind: Hash = "sha256",
    ) -> None:
        """
        Args:
            project: the id of the account's project in that region.
            strategy: the `biz_type`; where empty, texts are looked at as articles.
        """
        self._origin = Origin.of(base_url or f"https://moderation.{region}.myhuaweicloud.com")
        self._project = project
        self._path = f"/v3/{project}/moderation/text"
        self._strategy, self._hash = strategy, hash_kind

    def limit(self, direction: Direction) -> PieceLimit:
        """See `ModerationVendor`."""
        return _LIMIT

    def text_request(self, piece: str, asking: Asking) -> VendorRequest:
        """See `ModerationVendor`."""
        fields: dict[str, object] = {"data": {"text": piece, "language": "zh"}}
        if self._strategy:
            fields["biz_type"] = self._strategy
        else:
            fields |= {"event_type": "article", "categories": _SCENES}
        body = msgspec.json.encode(fields)
        headers = (
            ("content-type", "application/json"),
            ("x-project-id", self._project),
            ("x-sdk-date", time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(asking.now_s))),
        )
        signable = Signable("POST", self._path, (("host", self._origin.authority), *headers), body)
        signature = signing.huawei_sdk(signable, asking.keys, self._hash)

        def read(status: int, body: bytes) -> PieceVerdict:
            return _read(status, body, piece)

        return VendorRequest(
            self._origin, self._path, (*headers, ("authorization", signature)), body, read
        )

    def image_request(self, url: str, asking: Asking) -> VendorRequest:
        """See `ModerationVendor`; none is taken."""
        raise wrong_request("no images")


class _Segment(msgspec.Struct):
    segment: str = ""
    position: int | list[int] | None = None


class _Detail(msgspec.Struct):
    suggestion: str = ""
    label: str = ""
    confidence: float | None = None
    segments: list[_Segment] | None = None


class _Result(msgspec.Struct):
    suggestion: str
    label: str | None = None
    details: list[_Detail] | None = None


class _Answer(msgspec.Struct):
    request_id: str = ""
    result: _Result | None = None
    error_code: str = ""


def _read(status: int, body: bytes, piece: str) -> PieceVerdict:
    if status == 429:
        raise Unanswered(EngineFailure.THROTTLED, status)
    answer = msgspec.json.decode(body, type=_Answer)
    if answer.error_code or status != 200:
        raise _failure(status, answer.error_code or str(status))
    if answer.result is None:
        raise Unanswered(EngineFailure.GARBAGE, "no result")
    found = tuple(_in_text(answer.result, piece))
    level = _level(answer.result.suggestion)
    if level > max((each.level for each in found), default=Level.NONE):
        found += (finding(answer.result.label or "", CATEGORIES, level, 100.0),)
    return PieceVerdict(found, answer.request_id)


def _in_text(result: _Result, piece: str) -> Iterator[RiskFinding]:
    for detail in result.details or ():
        level = _level(detail.suggestion)
        if level is Level.NONE:
            continue
        sure = 100.0 if detail.confidence is None else detail.confidence * 100
        span = None
        for segment in detail.segments or ():
            start = segment.position if isinstance(segment.position, int) else None
            span = span_of(piece, segment.segment, start)
            break
        yield finding(detail.label, CATEGORIES, level, sure, span)


def _level(suggestion: str) -> Level:
    return _LEVELS.get(suggestion, Level.HIGH)


def _failure(status: int, code: str) -> Unanswered:
    if code in ("APIG.0308", "APIGW.0308"):
        return Unanswered(EngineFailure.THROTTLED, code)
    if status in (401, 403) or code.startswith(_NOT_ALLOWED):
        return Unanswered(EngineFailure.REFUSED, code)
    if status >= 500 or code.startswith(_BROKEN):
        return Unanswered(EngineFailure.UNREACHABLE, code)
    return wrong_request(code)
