"""Alibaba Cloud Green (content moderation): TextModerationPlus for LLM input and output, images.

Sources: Alibaba's pages 2671445 (services, limits, labels), 2642626 (streams by `sessionId`),
467829 (images) and alibabacloud-green20220302 3.6.9 (fields).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
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

REGIONS = ("cn-shanghai", "cn-beijing", "cn-hangzhou", "cn-shenzhen", "cn-chengdu")
CALLS_PER_SECOND = 100
"""What Alibaba allows by default."""
_VERSION = "2022-03-02"
_SERVICES = {
    Direction.INPUT: "llm_query_moderation",
    Direction.OUTPUT: "llm_response_moderation",
}
_LIMITS = {Direction.INPUT: PieceLimit(2_000), Direction.OUTPUT: PieceLimit(5_000)}
_IMAGE_DATA_SERVICES = {
    Direction.INPUT: "img_query_security_check",
    Direction.OUTPUT: "img_response_security_check",
}
_IMAGE_SERVICE = "baselineCheck"
_FORM = "application/x-www-form-urlencoded"
_LEVELS = {"none": Level.NONE, "low": Level.LOW, "medium": Level.MEDIUM, "high": Level.HIGH}
_SENSITIVE = {"S0": Level.NONE, "S1": Level.LOW, "S2": Level.MEDIUM}
_SUGGESTIONS = {"pass": Level.NONE, "watch": Level.LOW, "mask": Level.MEDIUM, "block": Level.HIGH}
_HARMLESS = "nonLabel"
_THROTTLED = ("588", "Throttling")
_NOT_ALLOWED = ("401", "402", "403", "408", "596", "InvalidAccessKeyId", "SignatureDoesNotMatch",
                "Forbidden", "NoPermission", "InvalidSecurityToken", "InvalidTimeStamp",
                "IncompleteSignature", "SignatureNonceUsed")  # fmt: skip
"""408 is Alibaba's word for an account without the service, or in arrears."""
CATEGORIES: Mapping[str, str] = {
    "pornographic": "values/violence_obscenity",
    "sexual": "values/violence_obscenity",
    "political": "values/national_security",
    "violent": "values/violence_obscenity",
    "violent_extremist": "values/terrorism",
    "violent_incidents": "values/terrorism",
    "contraband": "values/other",
    "religion": "values/other",
    "inappropriate": "values/other",
    "inappropriate_discrimination": "discrimination/other",
    "inappropriate_profanity": "rights/reputation",
    "pt_": "commercial/other",
    "ad_": "commercial/other",
    "privacy": "rights/privacy",
    "customized": "values/other",
    # Kinds of the guardrails' answer.
    "promptattack": "attack/prompt_injection",
    "jailbreak": "attack/jailbreak",
    "sensitivedata": "rights/personal_information",
    "maliciousurl": "attack/prompt_injection",
}
"""By the beginning of a label. Alibaba does not tell subversion from other political content."""

_Reader = Callable[[int, bytes], PieceVerdict]


class AlibabaGreen:
    """One account in one region."""

    takes_images = True

    def __init__(self, region: str = "cn-shanghai", base_url: str = "") -> None:
        self._origin = Origin.of(base_url or f"https://green-cip.{region}.aliyuncs.com")

    def limit(self, direction: Direction) -> PieceLimit:
        """See `ModerationVendor`."""
        return _LIMITS[direction]

    def text_request(self, piece: str, asking: Asking) -> VendorRequest:
        """See `ModerationVendor`."""
        context = asking.context
        parameters = {"content": piece, "dataId": context.call_id}
        if context.session and asking.direction is Direction.OUTPUT:
            # Green puts the pieces of one session together and looks at the whole, too.
            parameters["sessionId"] = context.session
        if context.user:
            parameters["accountId"] = context.user
        form = {"Service": _SERVICES[asking.direction], "ServiceParameters": _json(parameters)}

        def read(status: int, body: bytes) -> PieceVerdict:
            answer = _answer(status, body)
            text = msgspec.json.decode(answer.data, type=_Text)
            return PieceVerdict(tuple(_in_text(text, piece)), answer.request_id)

        return self._signed("TextModerationPlus", form, asking, read)

    def image_request(self, url: str, asking: Asking) -> VendorRequest:
        """See `ModerationVendor`. A picture as data goes to the guardrails: the image service
        itself takes only addresses."""
        parameters = {"dataId": asking.context.call_id}
        if not url.startswith("data:"):
            parameters["imageUrl"] = url
            form = {"Service": _IMAGE_SERVICE, "ServiceParameters": _json(parameters)}
            return self._signed("ImageModeration", form, asking, _read_image)
        form = {"ImageBase64Str": url.partition(",")[2], "ServiceParameters": _json(parameters)}
        query = (("Service", _IMAGE_DATA_SERVICES[asking.direction]),)
        return self._signed("MultiModalGuardForBase64", form, asking, _read_guard, query)

    def _signed(
        self,
        action: str,
        form: Mapping[str, str],
        asking: Asking,
        read: _Reader,
        query: tuple[tuple[str, str], ...] = (),
    ) -> VendorRequest:
        body = urlencode(form).encode()
        headers = (
            ("content-type", _FORM),
            ("x-acs-action", action),
            ("x-acs-content-sha256", signing.sha256_hex(body)),
            ("x-acs-date", time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(asking.now_s))),
            ("x-acs-signature-nonce", asking.nonce),
            ("x-acs-version", _VERSION),
        )
        signable = Signable("POST", "/", (("host", self._origin.authority), *headers), body, query)
        authorization = ("authorization", signing.alibaba_acs3(signable, asking.keys))
        target = f"/?{urlencode(query)}" if query else "/"
        return VendorRequest(self._origin, target, (*headers, authorization), body, read)


class _Answer(msgspec.Struct, rename="pascal"):
    code: int | str = 0
    data: msgspec.Raw = msgspec.Raw(b"null")
    request_id: str = ""


class _Position(msgspec.Struct, rename="pascal"):
    risk_word: str = ""
    start_pos: int | None = None


class _Result(msgspec.Struct, rename="pascal"):
    label: str = ""
    confidence: float | None = None
    risk_level: str = ""
    risk_words: str | None = None
    risk_positions: list[_Position] | None = None


class _Attack(msgspec.Struct, rename="pascal"):
    label: str = ""
    attack_level: str = ""
    confidence: float | None = None


class _Sensitive(msgspec.Struct, rename="pascal"):
    label: str = ""
    sensitive_level: str = ""
    sensitive_data: list[str] | None = None


class _Text(msgspec.Struct, rename="pascal"):
    risk_level: str
    result: list[_Result] | None = None
    attack_level: str = ""
    attack_result: list[_Attack] | None = None
    sensitive_level: str = ""
    sensitive_result: list[_Sensitive] | None = None


class _Image(msgspec.Struct, rename="pascal"):
    risk_level: str
    result: list[_Result] | None = None


class _Detail(msgspec.Struct, rename="pascal"):
    type: str = ""
    level: str = ""
    result: list[_Result] | None = None


class _Guard(msgspec.Struct, rename="pascal"):
    suggestion: str
    detail: list[_Detail] | None = None


def _json(parameters: Mapping[str, str]) -> str:
    return msgspec.json.encode(parameters).decode()


def _answer(status: int, body: bytes) -> _Answer:
    answer = msgspec.json.decode(body, type=_Answer)
    code = str(answer.code)
    if status == 200 and code == "200":
        return answer
    if code.startswith(_THROTTLED) or status == 429:
        raise Unanswered(EngineFailure.THROTTLED, code)
    if code.startswith(_NOT_ALLOWED):
        raise Unanswered(EngineFailure.REFUSED, code)
    if status >= 500 or code.startswith("5"):
        raise Unanswered(EngineFailure.UNREACHABLE, code)
    raise wrong_request(code)


def _level(word: str) -> Level:
    """A level by its name; one that we do not know is grave."""
    return _LEVELS.get(word.lower(), Level.HIGH)


def _in_text(text: _Text, piece: str) -> Iterator[RiskFinding]:
    """The findings of one text; the gravity of its content is said once for all labels."""
    level = _level(text.risk_level)
    if level > Level.NONE:
        risks = [each for each in text.result or () if not each.label.startswith(_HARMLESS)]
        for each in risks or (_Result(),):
            yield finding(each.label, CATEGORIES, level, _sure(each.confidence), _span(each, piece))
    for attack in text.attack_result or ():
        level = _level(attack.attack_level or text.attack_level)
        if level > Level.NONE:
            label = f"promptAttack/{attack.label}"
            if "jail" in attack.label.lower():
                label = f"jailbreak/{attack.label}"
            yield finding(label, CATEGORIES, level, _sure(attack.confidence))
    for sensitive in text.sensitive_result or ():
        grade = sensitive.sensitive_level or text.sensitive_level
        level = _SENSITIVE.get(grade, Level.HIGH)
        if level > Level.NONE:
            words = sensitive.sensitive_data or [""]
            span = span_of(piece, words[0], None)
            yield finding(f"sensitiveData/{sensitive.label}", CATEGORIES, level, 100.0, span)


def _span(result: _Result, piece: str) -> tuple[int, int] | None:
    for position in result.risk_positions or ():
        return span_of(piece, position.risk_word, position.start_pos)
    return span_of(piece, (result.risk_words or "").partition(",")[0], None)


def _sure(confidence: float | None) -> float:
    return 100.0 if confidence is None else confidence


def _read_image(status: int, body: bytes) -> PieceVerdict:
    answer = _answer(status, body)
    image = msgspec.json.decode(answer.data, type=_Image)
    found = [
        finding(each.label, CATEGORIES, level, _sure(each.confidence))
        for each in image.result or ()
        if (level := _level(each.risk_level or image.risk_level)) > Level.NONE
        and not each.label.startswith(_HARMLESS)
    ]
    return _whole(found, _level(image.risk_level), answer)


def _read_guard(status: int, body: bytes) -> PieceVerdict:
    answer = _answer(status, body)
    guard = msgspec.json.decode(answer.data, type=_Guard)
    found = []
    for detail in guard.detail or ():
        for each in detail.result or ():
            level = _level(each.risk_level or detail.level)
            if level > Level.NONE and not each.label.startswith(_HARMLESS):
                label = each.label
                if detail.type not in ("contentModeration", "customLabel"):
                    label = f"{detail.type}/{label}"
                found.append(finding(label, CATEGORIES, level, _sure(each.confidence)))
    return _whole(found, _SUGGESTIONS.get(guard.suggestion, Level.HIGH), answer)


def _whole(found: list[RiskFinding], level: Level, answer: _Answer) -> PieceVerdict:
    """With what the answer says as a whole, where its parts do not add up to it."""
    if level > max((each.level for each in found), default=Level.NONE):
        found.append(finding("", CATEGORIES, level, 100.0))
    return PieceVerdict(tuple(found), answer.request_id)
