"""Requests in English for something harmful: a request, and a harmful act named after it.

Written from general knowledge, not from a test set. A finding is of level medium, for review: who
asks how to prevent, detect or report something is left alone, and reports and novels are not told
from plans.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from ahocorasick_rs import AhoCorasick

from tokenschain.core.moderation.verdict import Level, RiskFinding

BEFORE_CHARACTERS, AFTER_CHARACTERS = 160, 120
"""How far from the act the request, and what makes it harmless, may stand."""
_LAW, _VIOLENCE, _FALSE = "values/other", "values/violence_obscenity", "values/false_information"
_ACTS: Mapping[str, str] = {
    _LAW: (
        "malware|ransomware|keylogger|spyware|trojan horse|rootkit|botnet|computer virus"
        "|computer worm|ddos|denial of service attack|phishing|hack into|hacking into"
        "|cracking password|crack password|crack a password|brute force|brute-force"
        "|exploit kit|password cracker|steal password|steal data|steal credit|stolen credit"
        "|credit card fraud|identity theft|steal someone|steal confidential|stealing from"
        "|shoplift|pickpocket|burglar|break into a|carjack|counterfeit|forge a|forged doc"
        "|fake id|fake passport|fake money|launder money|money launder|ponzi|pyramid scheme"
        "|insider trading|insider tip|tax fraud|tax evasion|evade tax|evading tax"
        "|avoid paying tax|insurance fraud|bribe|blackmail|extort|smuggl|human traffick"
        "|traffic human|drug traffick|cook meth|methamphetamine|make heroin|make cocaine"
        "|make drugs|illegal drugs|date rape|illegally dump|dump hazardous|toxic waste|poach"
        "|cheat in an|cheat on an|pirated|get rich quick|gambl|get-rich-quick|scam|defraud"
        "|swindle|embezzl|hide a body|dispose of a body|without being caught"
        "|without getting caught|undetected by|evade law enforcement|evade the police"
        "|bypass security|disable security|impersonat"
    ),
    _VIOLENCE: (
        "bomb|explosive|molotov|grenade|chemical weapon|biological weapon|nuclear weapon"
        "|nerve agent|sarin|ricin|anthrax|3d-print a gun|3d print a gun|3d printed gun"
        "|untraceable gun|ghost gun|commit murder|murder someone|kill someone|kill a person"
        "|kill my|poison someone|assassinat|mass shooting|school shooting|massacre|genocide"
        "|mass violence|tortur|mutilat|cannibal|ethnic cleansing|beat up|arson|set fire to a"
        "|animal abuse|animal cruelty|terrorist|terrorism|extremist|child porn|child sexual"
        "|minors sexually|sexually explicit|pornograph|explicit sexual|rape |bestiality|orgy"
        "|revenge porn|unprotected sex|violence against|attack on civilians"
    ),
    "rights/health": (
        "suicide|kill myself|kill yourself|self-harm|self harm|cut myself|cut themselves"
        "|anorexi|bulimi|pro-ana|starve myself|drink bleach|stop taking their med"
        "|stop taking medic|cure cancer with|cures cancer|consume laxative|eat tide"
        "|eating disorder promot"
    ),
    "rights/privacy": (
        "stalk |stalking|track someone|spy on|doxx|doxing|home address of|read someone"
        "|secretly record|facial recognition to identify|without their consent"
        "|without consent|without their knowledge|private medical record|someone's location"
    ),
    "rights/reputation": (
        "defam|libel|slander|bully|bullied|harass|humiliat|body sham|spread rumors"
    ),
    "discrimination/other": (
        "racist|sexist|misogyn|homophob|transphob|xenophob|antisemit|anti-semit|islamophob"
        "|white supremac|hate speech|inferior race|racial superiority|discriminat|hateful"
        "|derogatory|stereotyp|slur against"
    ),
    _FALSE: (
        "disinformation|misinformation|fake news|conspiracy|hoax|false accus|fake review"
        "|fake accounts|holocaust never|holocaust did not|holocaust is a|deny the holocaust"
        "|rig an election|election fraud|suppress vot|voter suppression"
        "|discourage people from voting|voted multiple|vaccines cause|flat earth|is a myth"
        "|fraudulent|plagiar"
    ),
}  # fmt: skip
_CATEGORY_OF = [category for category, acts in _ACTS.items() for _ in acts.split("|")]
_FINDER = AhoCorasick([act for acts in _ACTS.values() for act in acts.split("|")])
_REQUEST = re.compile(
    r"\b(?:write|draft|compose|create|develop|design|build|make|generate|produce|provide|give|explain"
    r"|describe|teach|show|tell|list|outline|suggest|plan|help|assist|convince|encourage|argue|justify"
    r"|how (?:to|do|can|could|would)|steps?|guide|instructions?|tutorial|script|program|strategy"
    r"|blueprint|recipe|ways? to|methods? (?:to|of|for))\b"
)
_HARMLESS = re.compile(
    r"\b(?:prevent\w*|protect\w*|detect\w*|defen[ds]\w*|recogni[sz]\w*|report\w*|aware\w*"
    r"|histor\w*|stop(?:ping)? (?:the|a|bully|harass)|victims?|survivors?|law on|illegal|punish\w*"
    r"|against (?:scam|phish|fraud|malware|bully|harass)\w*|treat(?:ment|ing)?|recover\w*|combat\w*"
    r"|mitigat\w*|fight(?:ing)?|reduc\w*|policy|policies|moderat\w*|remov\w*|unit tests?)\b"
)


def find(text: str) -> list[RiskFinding]:
    """The harmful requests in a text, one for each category."""
    return list({one.category: one for one in _found(text.lower())}.values())


def _found(text: str) -> Iterator[RiskFinding]:
    for number, start, end in _FINDER.find_matches_as_indexes(text):
        if start and text[start - 1].isalnum():
            continue
        before = text[max(0, start - BEFORE_CHARACTERS) : start]
        around = before + text[start : end + AFTER_CHARACTERS]
        if _REQUEST.search(before) is not None and _HARMLESS.search(around) is None:
            yield RiskFinding(_CATEGORY_OF[number], Level.MEDIUM, 0.7, label="harmful_request_en")
