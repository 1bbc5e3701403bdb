"""Rules of the local engine: keywords and attacks on the model; see `Rules.screen`."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from itertools import accumulate

from ahocorasick_rs import AhoCorasick
from msgspec.structs import replace

from tokenschain.core.moderation import harmful_requests
from tokenschain.core.moderation.decoding import APART, Decoded, decodings
from tokenschain.core.moderation.engine_record import EngineRecord
from tokenschain.core.moderation.normalization import Normalizer
from tokenschain.core.moderation.packs import Entry, Keywords, Spelling, counts_here
from tokenschain.core.moderation.verdict import Direction, Level, RiskFinding

_INVISIBLE = re.compile(
    "[\u00ad\u0300-\u036f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e"
    "\u2060-\u206f\u3164\ufe00-\ufe0f\ufeff\uffa0\U000e0000-\U000e01ff]"
)
_LATIN = re.compile(r"[0-9A-Za-z]")
DECODED, SPLIT = "decoded", "split"
"""What the label of a finding begins with that was found in an encoded part, or across parts."""
_SEAM_CHARACTERS = 64
"""At the beginning and the end of a part, as many may be some of a word that is split."""
_SPLIT_CHARACTERS_MIN = 3
"""Shorter words come about by accident."""


def attack(name: str, level: Level, pattern: str) -> tuple[str, Level, re.Pattern[str]]:
    return name, level, re.compile(pattern, re.IGNORECASE)


_INJECTION, _JAILBREAK = "attack/prompt_injection", "attack/jailbreak"
_RULES_ZH = "指令|指示|提示词?|要求|规则|设定|设置|命令|限制|内容|约束"
_RULES_EN = "instructions?|prompts?|rules?|directives?|guidelines?|commands?|constraints?|messages?"
_ATTACKS: Mapping[str, Sequence[tuple[str, Level, re.Pattern[str]]]] = {
    _INJECTION: (
        attack(
            "ignore_instructions_zh", Level.HIGH,
            r"(忽略|无视|忘记|忘掉|抛开|不要(理会|遵守|遵循))(掉)?(你)?(之前|以上|上面|上述|前面|先前|此前|所有|全部|一切|任何)"
            rf".{{0,8}}({_RULES_ZH})",
        ),
        attack(
            "ignore_instructions_en", Level.HIGH,
            r"\b(ignore|disregard|forget|override|bypass)\s+(all\s+|any\s+)?(of\s+)?(the\s+|your\s+)?"
            rf"(previous|prior|above|preceding|earlier|existing|system)\s+(\w+\s+)?({_RULES_EN})\b",
        ),
        attack(
            "reveal_prompt_zh", Level.MEDIUM,
            r"(输出|告诉我|显示|打印|重复|复述|泄露|透露|展示|翻译|给出).{0,10}(你的|完整的?|全部)?.{0,4}"
            r"(系统提示词?|系统指令|初始(提示词?|指令)|隐藏(提示词?|指令)|system\s*prompt)",
        ),
        attack(
            "reveal_prompt_en", Level.MEDIUM,
            r"\b(reveal|print|show|repeat|output|display|leak|tell\s+me)\s+(\w+\s+){0,3}"
            r"(system|initial|hidden|original|developer)\s+(prompt|instructions?|message)\b",
        ),
        attack(
            "chat_template", Level.MEDIUM,
            r"<\|(im_start|im_end|system|endoftext|start_header_id|eot_id)\|>|\[/?INST\]|<</?SYS>>",
        ),
        attack(
            "system_override", Level.MEDIUM,
            r"(^|\n)\s*(#{1,3}\s*)?(new\s+system\s+(prompt|message|instructions?)"
            r"|\[?system\s+(override|update|note)\]?|新的?系统(提示词?|指令))\s*[:：]",
        ),
    ),
    _JAILBREAK: (
        attack(
            "do_anything_now", Level.HIGH,
            r"\bdo\s+anything\s+now\b|\bDAN\s+(mode|prompt)\b|\b(act|behave|respond)\s+as\s+DAN\b",
        ),
        attack(
            "no_restrictions_zh", Level.HIGH,
            r"(你现在是|扮演|假装(你)?是|进入|开启|切换(到|为)).{0,16}"
            r"(没有(任何)?(限制|约束|道德|底线|审查)|不受(任何)?(限制|约束|规则)|无(限制|审查|约束)|越狱|开发者)的?"
            r"(模式|助手|ai|人工智能|模型|角色|机器人)?",
        ),
        attack(
            "no_restrictions_en", Level.HIGH,
            r"\b(pretend|act|behave|respond|imagine|you\s+are\s+now)\b.{0,60}"
            r"\b(without|no|free\s+of|free\s+from|has\s+no|have\s+no)\s+(any\s+)?"
            r"(restrictions?|limitations?|filters?|censorship|ethic(s|al)|moral(s|ity)?|safety)",
        ),
        attack(
            "unfiltered_mode", Level.MEDIUM,
            r"\b(developer|jailbreak|unfiltered|god|uncensored|evil)\s+mode\s+(on|enabled|activated)"
            r"|\benable\s+(developer|jailbreak|god)\s+mode\b",
        ),
        attack(
            "answer_prefix", Level.LOW,
            r"\b(begin|start)\s+your\s+(answer|response|reply)\s+with\s+['\"]?(sure|absolutely|of\s+course)"
            r"|(以|用).{0,3}(当然|好的|没问题).{0,6}(开头|开始)(回答|回复)?",
        ),
    ),
}  # fmt: skip
_ATTACK_HINTS = AhoCorasick([
    "忽略", "无视", "忘记", "忘掉", "抛开", "不要", "系统", "初始", "隐藏", "提示", "扮演", "假装",
    "现在是", "进入", "开启", "切换", "开头", "开始", "ignore", "disregard", "forget", "override",
    "bypass", "prompt", "system", "instruction", "message", "<|", "[inst]", "[/inst]", "<<sys",
    "anything now", "dan ", "as dan", "pretend", "act ", "behave", "respond", "imagine",
    "you are now", "mode", "your answer", "your response", "your reply",
])  # fmt: skip
"""In lower case; without one of them, no rule can hold."""
ATTACK_CHARACTERS_MAX = 200_000


class Rules:
    """Everything that is known by rule, for one set of packs."""

    def __init__(
        self, normalizer: Normalizer, keywords: Keywords, syllables: Mapping[int, str]
    ) -> None:
        self.normalizer, self.keywords = normalizer, keywords
        self._syllables = syllables

    def screen(self, text: str, direction: Direction) -> list[RiskFinding]:
        """What is in a text; spans are of the text as it was written."""
        found = self.words(text)
        if direction is Direction.INPUT:
            found += self.attacks(text)
        known = {(one.category, one.label) for one in found if one.span is None}
        for decoded in decodings(text):
            found += self._in(decoded)
            if direction is Direction.INPUT:
                found += [
                    decoded_finding(one, span)
                    for one in self.attacks(decoded.text)
                    if (one.category, one.label) not in known
                    and (span := decoded.span(0, len(decoded.text))) is not None
                ]
        return found

    def decoded_words(self, text: str) -> list[RiskFinding]:
        """The keywords that stand encoded in a text, by where they were written."""
        return [one for decoded in decodings(text) for one in self._in(decoded)]

    def _in(self, decoded: Decoded) -> list[RiskFinding]:
        return [
            decoded_finding(one, span)
            for one in self.words(decoded.text)
            if one.span is not None and (span := decoded.span(*one.span)) is not None
        ]

    def across(self, parts: Sequence[str]) -> list[RiskFinding]:
        """The keywords that begin in one part and end in another, as messages of a conversation."""
        ends = [
            part if len(part) <= 2 * _SEAM_CHARACTERS else
            part[:_SEAM_CHARACTERS] + APART + part[-_SEAM_CHARACTERS:]
            for part in parts
        ]  # fmt: skip
        cuts = list(accumulate(map(len, ends)))
        return [
            RiskFinding(one.category, one.level, one.score, label=f"{SPLIT}:{one.label}")
            for one in self.words("".join(ends))
            if one.span is not None
            and one.span[1] - one.span[0] >= _SPLIT_CHARACTERS_MIN
            and cuts[bisect_right(cuts, one.span[0])] < one.span[1]
        ]

    def words(self, text: str) -> list[RiskFinding]:
        """The keywords in a text."""
        normal = self.normalizer.normal(text)
        hits = self.keywords.find(normal)
        offsets: list[int] | None = None
        found: list[RiskFinding] = []
        for start, end, entries in hits:
            for entry in entries:
                if counts_here(entry, normal, start, end):
                    if offsets is None:
                        offsets = self.normalizer.offsets(text)
                    span = (offsets[start], offsets[end - 1] + 1)
                    if is_written_so(entry, text, *span):
                        found.append(finding(entry, span))
        if self.keywords.compares_sounds:
            found += self._alike(text, normal, {(start, end) for start, end, _ in hits})
        return found

    def alike(self, text: str) -> list[RiskFinding]:
        """What sounds like a keyword in a text."""
        if not self.keywords.compares_sounds:
            return []
        normal = self.normalizer.normal(text)
        known = {(start, end) for start, end, _ in self.keywords.find(normal)}
        return self._alike(text, normal, known)

    def _alike(self, text: str, normal: str, known: set[tuple[int, int]]) -> list[RiskFinding]:
        hits = self.keywords.find_alike(normal.translate(self._syllables))
        hits = [hit for hit in hits if hit[:2] not in known]
        if not hits:
            return []
        offsets = self.normalizer.offsets(text)
        return [
            RiskFinding(
                entry.category, Level.LOW, 0.5, span=(offsets[start], offsets[end - 1] + 1),
                label=f"pinyin:{entry.label}",
            )
            for start, end, entries in hits
            for entry in entries
        ]  # fmt: skip

    def attacks(self, text: str) -> list[RiskFinding]:
        """Attempts to turn the model against its instructions, in a text that it is to read."""
        text = _INVISIBLE.sub("", text[:ATTACK_CHARACTERS_MAX])
        found = harmful_requests.find(text)
        if not _ATTACK_HINTS.find_matches_as_indexes(text.lower()):
            return found
        for category, rules in _ATTACKS.items():
            for name, level, pattern in rules:
                if pattern.search(text) is not None:
                    found.append(RiskFinding(category, level, 0.9, label=name))
        return found


class TimedRules(Rules):
    """The same, counted and timed by text that is screened whole."""

    def __init__(
        self,
        normalizer: Normalizer,
        keywords: Keywords,
        syllables: Mapping[int, str],
        monotonic: Callable[[], float],
        record: EngineRecord,
    ) -> None:
        super().__init__(normalizer, keywords, syllables)
        self._monotonic, self._record = monotonic, record

    def screen(self, text: str, direction: Direction) -> list[RiskFinding]:
        """See `Rules.screen`."""
        began = self._monotonic()
        found = super().screen(text, direction)
        self._answered(began)
        return found

    def decoded_words(self, text: str) -> list[RiskFinding]:
        """See `Rules.decoded_words`: of an answer, once all of it is there."""
        began = self._monotonic()
        found = super().decoded_words(text)
        self._answered(began)
        return found

    def _answered(self, began: float) -> None:
        now = self._monotonic()
        self._record.answered(now, now - began)


def finding(entry: Entry, span: tuple[int, int]) -> RiskFinding:
    """A word found at a place."""
    return RiskFinding(entry.category, entry.level, span=span, label=entry.label)


def decoded_finding(one: RiskFinding, span: tuple[int, int]) -> RiskFinding:
    """What was found in a decoded text, where it was written."""
    return replace(one, span=span, label=f"{DECODED}:{one.label}")


def is_written_so(entry: Entry, text: str, start: int, end: int) -> bool:
    """Whether the word stands in the text as closely as it asks: Latin words as whole ones, light
    ones with nothing visible in them."""
    if entry.latin and (
        (start > 0 and _LATIN.match(text[start - 1]) is not None)
        or (end < len(text) and _LATIN.match(text[end]) is not None)
    ):
        return False
    if entry.match is not Spelling.LIGHT:
        return True
    return end - start - len(_INVISIBLE.findall(text, start, end)) <= entry.length
