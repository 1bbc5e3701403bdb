"""Baidu text censor, signed by bce-auth-v1: no token of an account ever stands in an address.

Sources: Baidu's pages ANTIPORN/Rk3h6xb3i (request), Nk3h6xbb2 (answer) and baidu-aip 4.16.13
(signature instead of an access token).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from urllib.parse import urlencode

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
from tokenschain.providers.signing import Signable
from tokenschain.wire.client import Origin

CALLS_PER_SECOND = 2
"""What Baidu allows an account without a contract."""
_PATH = "/rest/2.0/solution/v1/text_censor/v2/user_defined"
_LIMIT = PieceLimit(20_000, 20_000)
_COMPLIANT, _PROHIBITED, _SUSPECT, _FAILED = 1, 2, 3, 4
_LEVELS = {_COMPLIANT: Level.NONE, _PROHIBITED: Level.HIGH, _SUSPECT: Level.MEDIUM}
_OWN_ALLOWED = 14
CATEGORIES: Mapping[str, str] = {
    "11": "values/other",
    "12": "commercial/other",
    "12/0": "services/unreliable",
    "12/1": "values/terrorism",
    "12/2": "values/violence_obscenity",
    "12/3": "values/national_security",
    "12/5": "rights/reputation",
    "13": "values/other",
    "30": "values/national_security",
    "31": "values/terrorism",
    "33": "values/violence_obscenity",
    "34": "rights/reputation",
    "36": "commercial/other",
    "37": "commercial/other",
    "38": "rights/privacy",
    "39": "services/unreliable",
}
"""By type and, for the older kinds, subtype."""
_THROTTLED = (4, 17, 18, 19)
_NOT_ALLOWED = (6, 13, 14, 100, 110, 111)
_BROKEN = (1, 2, 216400, 216401, 216500, 282000, 282001)


class BaiduCensor:
    """One account, with its strategy."""

    takes_images = False

    def __init__(self, base_url: str = "", strategy: str = "") -> None:
        """
        Args:
            strategy: the `strategyId`; the account's default where empty.
        """
        self._origin = Origin.of(base_url or "https://aip.baidubce.com")
        self._strategy = strategy

    def limit(self, direction: Direction) -> PieceLimit:
        """See `ModerationVendor`."""
        return _LIMIT

    def text_request(self, piece: str, asking: Asking) -> VendorRequest:
        """See `ModerationVendor`."""
        form = {"text": piece}
        if self._strategy:
            form["strategyId"] = self._strategy
        if asking.context.user:
            form["userId"] = asking.context.user
        body = urlencode(form).encode()
        signable = Signable("POST", _PATH, (("host", self._origin.authority),), body)
        headers = (
            ("content-type", "application/x-www-form-urlencoded"),
            ("authorization", signing.baidu_bce(signable, asking.keys, int(asking.now_s))),
        )

        def read(status: int, body: bytes) -> PieceVerdict:
            return _read(status, body, piece)

        return VendorRequest(self._origin, _PATH, headers, body, read)

    def image_request(self, url: str, asking: Asking) -> VendorRequest:
        """See `ModerationVendor`; none is taken."""
        raise wrong_request("no images")


class _Hit(msgspec.Struct):
    words: list[str] | None = None
    probability: float | None = None


class _Finding(msgspec.Struct, rename={"kind": "type", "kind_below": "subType",
                                       "conclusion": "conclusionType"}):  # fmt: skip
    kind: int
    kind_below: int = 0
    conclusion: int = _PROHIBITED
    probability: float | None = None
    hits: list[_Hit] | None = None


class _Answer(msgspec.Struct, rename={"conclusion": "conclusionType"}):
    log_id: int | str = ""
    error_code: int | None = None
    conclusion: int | None = None
    data: list[_Finding] | None = None


def _read(status: int, body: bytes, piece: str) -> PieceVerdict:
    if status >= 500:
        raise Unanswered(EngineFailure.UNREACHABLE, status)
    answer = msgspec.json.decode(body, type=_Answer)
    if answer.error_code is not None:
        raise _failure(answer.error_code)
    if answer.conclusion not in _LEVELS:
        # It failed to judge, or says what we do not know: that is no verdict.
        raise Unanswered(EngineFailure.GARBAGE, f"conclusionType {answer.conclusion}")
    found = tuple(_in_text(answer, piece))
    level = _LEVELS[answer.conclusion]
    if level > max((each.level for each in found), default=Level.NONE):
        found += (finding("", CATEGORIES, level, 100.0),)
    return PieceVerdict(found, str(answer.log_id))


def _in_text(answer: _Answer, piece: str) -> Iterator[RiskFinding]:
    for each in answer.data or ():
        level = _LEVELS.get(each.conclusion, Level.HIGH)
        if level is Level.NONE or each.kind == _OWN_ALLOWED:
            continue
        hits = each.hits or []
        words = [word for hit in hits for word in hit.words or ()]
        chances = [each.probability, *(hit.probability for hit in hits)]
        sure = max((chance for chance in chances if chance is not None), default=1.0)
        span = span_of(piece, words[0], None) if words else None
        label = f"{each.kind}/{each.kind_below}"
        yield finding(label, CATEGORIES, level, sure * 100, span)


def _failure(code: int) -> Unanswered:
    if code in _THROTTLED:
        return Unanswered(EngineFailure.THROTTLED, code)
    if code in _NOT_ALLOWED:
        return Unanswered(EngineFailure.REFUSED, code)
    if code in _BROKEN:
        return Unanswered(EngineFailure.UNREACHABLE, code)
    return wrong_request(code)
