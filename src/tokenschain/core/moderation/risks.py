"""Moderation categories: the 31 risks of GB/T 45654-2025 annex A, and attacks on the model.

Engines of every vendor report in these names, so that a policy is written once.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec


class Risk(msgspec.Struct, frozen=True):
    """One category."""

    id: str
    """Its place in annex A, as `A.1.a`; `T` for attacks, which are not in the annex."""
    category: str
    """How policies, packs, verdicts and `/v1/moderations` call it."""
    zh: str
    en: str
    words_min: int = 0
    """As many words a pack should have for it (TC260-003-2024 clause 8, kept by the standard)."""


_A1, _A2 = 200, 100
RISKS: tuple[Risk, ...] = (
    Risk("A.1.a", "values/subversion", "煽动颠覆国家政权", "Subversion of state power", _A1),
    Risk("A.1.b", "values/national_security", "危害国家安全和利益", "National security", _A1),
    Risk("A.1.c", "values/secession", "煽动分裂国家", "Secession", _A1),
    Risk("A.1.d", "values/terrorism", "宣扬恐怖主义、极端主义", "Terrorism and extremism", _A1),
    Risk("A.1.e", "values/ethnic_hatred", "宣扬民族仇恨", "Ethnic hatred", _A1),
    Risk("A.1.f", "values/violence_obscenity", "宣扬暴力、淫秽色情", "Violence, obscenity", _A1),
    Risk("A.1.g", "values/false_information", "传播虚假有害信息", "Harmful falsehoods", _A1),
    Risk("A.1.h", "values/other", "其他法律法规禁止的内容", "Otherwise prohibited by law", _A1),
    Risk("A.2.a", "discrimination/ethnicity", "民族歧视", "Ethnicity", _A2),
    Risk("A.2.b", "discrimination/belief", "信仰歧视", "Belief", _A2),
    Risk("A.2.c", "discrimination/nationality", "国别歧视", "Nationality", _A2),
    Risk("A.2.d", "discrimination/region", "地域歧视", "Region", _A2),
    Risk("A.2.e", "discrimination/gender", "性别歧视", "Gender", _A2),
    Risk("A.2.f", "discrimination/age", "年龄歧视", "Age", _A2),
    Risk("A.2.g", "discrimination/occupation", "职业歧视", "Occupation", _A2),
    Risk("A.2.h", "discrimination/health", "健康歧视", "Health", _A2),
    Risk("A.2.i", "discrimination/other", "其他歧视", "Other discrimination", _A2),
    Risk("A.3.a", "commercial/intellectual_property", "侵犯知识产权", "Intellectual property"),
    Risk("A.3.b", "commercial/business_ethics", "违反商业道德", "Business ethics"),
    Risk("A.3.c", "commercial/trade_secrets", "泄露商业秘密", "Trade secrets"),
    Risk("A.3.d", "commercial/unfair_competition", "垄断和不正当竞争", "Unfair competition"),
    Risk("A.3.e", "commercial/other", "其他商业违法违规", "Other commercial violations"),
    Risk("A.4.a", "rights/health", "危害身心健康", "Physical and mental health"),
    Risk("A.4.b", "rights/portrait", "侵害肖像权", "Portrait"),
    Risk("A.4.c", "rights/reputation", "侵害名誉权", "Reputation"),
    Risk("A.4.d", "rights/honour", "侵害荣誉权", "Honour"),
    Risk("A.4.e", "rights/privacy", "侵害隐私权", "Privacy"),
    Risk("A.4.f", "rights/personal_information", "侵害个人信息权益", "Personal information"),
    Risk("A.4.g", "rights/other", "侵害其他合法权益", "Other rights"),
    Risk("A.5.a", "services/inaccurate", "内容不准确", "Inaccurate in a special service"),
    Risk("A.5.b", "services/unreliable", "内容不可靠", "Unreliable in a special service"),
    Risk("T.a", "attack/prompt_injection", "提示词注入", "Prompt injection"),
    Risk("T.b", "attack/jailbreak", "越狱攻击", "Jailbreak"),
    Risk("T.c", "attack/secret", "泄露密钥", "A secret disclosed"),
)
BY_CATEGORY: Mapping[str, Risk] = {risk.category: risk for risk in RISKS}
BY_ID: Mapping[str, Risk] = {risk.id: risk for risk in RISKS}
CATEGORIES: frozenset[str] = frozenset(BY_CATEGORY)
PERSONAL = "rights/personal_information"
SECRET = "attack/secret"  # noqa: S105 - a category
