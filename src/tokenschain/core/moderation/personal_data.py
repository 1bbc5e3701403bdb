"""Personal data in Chinese texts: found by rule and checksum, masked, hashed or replaced.

Numbers are found as they are written: full-width, spaced, grouped, or spelled out in Chinese
numerals. What has a checksum must pass it; what has none needs words around it that say what it is.
"""

from __future__ import annotations

import datetime
import re
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator
from enum import StrEnum
from functools import cache
from typing import TYPE_CHECKING, NamedTuple

from ahocorasick_rs import AhoCorasick

from tokenschain.core.moderation.normalization import DIGITS, LETTERS_AND_DIGITS, PRINTED, runs

if TYPE_CHECKING:
    from tokenschain.core.moderation.character_scan import Scan, Scanner

TEXT_CHARACTERS_MAX = 2_000_000
"""Longer texts are looked through in parts of as much."""
CONTEXT_CHARACTERS = 24
VALUE_CHARACTERS_MAX = 120


class DataKind(StrEnum):
    """What personal data is found."""

    RESIDENT_ID = "resident_id"
    ORGANIZATION_CODE = "organization_code"
    """Unified social credit code: of a company, or of a person in business."""
    BANK_CARD = "bank_card"
    MOBILE = "mobile"
    LANDLINE = "landline"
    EMAIL = "email"
    PLATE = "plate"
    PASSPORT = "passport"
    ADDRESS = "address"
    NAME = "name"
    MEDICAL_RECORD = "medical_record"
    SECRET = "secret"  # noqa: S105 - a kind
    """API keys, passwords, private keys, tokens."""


class DataAction(StrEnum):
    """What becomes of it."""

    ALLOW = "allow"
    MASK = "mask"
    """Its middle becomes `*`, character by character."""
    HASH = "hash"
    """A digest of it: the same value has the same, and nobody can turn it back."""
    TOKEN = "token"  # noqa: S105 - an action
    """A token that stands for it; the answer keeps the token."""
    REVERSIBLE = "reversible"
    """A token that stands for it upstream; the answer has the value again."""
    BLOCK = "block"


STRICTER: tuple[DataAction, ...] = (
    DataAction.ALLOW, DataAction.REVERSIBLE, DataAction.TOKEN, DataAction.HASH, DataAction.MASK,
    DataAction.BLOCK,
)  # fmt: skip
"""The strictest last: of several policies, it holds."""


class PersonalData(NamedTuple):
    """One value at a place in a text."""

    start: int
    end: int
    kind: DataKind


# --- digits, however they are written ----------------------------------------------------

_NUMERALS = {
    "零": "0", "〇": "0", "○": "0", "一": "1", "壹": "1", "幺": "1", "二": "2", "贰": "2",
    "两": "2", "三": "3", "叁": "3", "四": "4", "肆": "4", "五": "5", "伍": "5", "六": "6",
    "陆": "6", "七": "7", "柒": "7", "八": "8", "捌": "8", "九": "9", "玖": "9",
}  # fmt: skip
_FOLD_NUMERALS = {ord(numeral): digit for numeral, digit in _NUMERALS.items()}
_GAP_CHARACTERS_MAX = 2
_GAP = r"[ \t\u00a0\u2009\u200b-\u200d\u2060\ufeff\-\u2010-\u2015_·.,、]{1,2}"
_ALPHANUMERIC = re.compile(r"[0-9A-Za-z]")
_DIGIT = rf"[\d{''.join(_NUMERALS)}]"
_RUN = re.compile(rf"{_DIGIT}(?:(?:{_GAP})?{_DIGIT}){{9,40}}(?:(?:{_GAP})?[Xx])?(?![A-Za-z])")
_GAPS = re.compile(_GAP)
_DIGITS_MIN = 7
"""Every number that is not spread has as many digits on end."""
_SPREAD_MIN = 10
_AFTER_SPREAD = 4
"""So many characters after the digits of a spread number say where it ends."""
_BEFORE_MOBILE, _BEFORE_LANDLINE, _EXTENSION = 4, 8, 13
"""So many characters may stand before those digits (`+86-`, `(0755) `), and after."""
_ID = re.compile(r"(?<![0-9A-Za-z])[1-9]\d{16}[\dXx](?![0-9A-Za-z])")
_MOBILE = re.compile(r"(?<![\dA-Za-z])(?<!\d\.)(?:\+?86[- ]?)?1[3-9]\d{9}(?![\dA-Za-z])")
_CARD = re.compile(r"(?<![\dA-Za-z])(?<!\d\.)[3-6]\d{13,18}(?![\dA-Za-z])")
_CARD_WORDS = re.compile(r"卡|账号|帐号|账户|帐户|银行|尾号|card|account|visa|debit|credit", re.I)
_LANDLINE = re.compile(
    r"(?<![\dA-Za-z])[(]?0(?:10|2\d|[3-9]\d{2})[)]?[- ]\d{7,8}"
    r"(?:[- ]?(?:转|ext\.?|x)\s?\d{1,5})?(?![\dA-Za-z])"
)
_LANDLINE_PLAIN = re.compile(
    r"(?<![\dA-Za-z])0(?:10\d{8}|2\d\d{8}|[3-9]\d{2}\d{7,8})(?![\dA-Za-z])"
)
_LANDLINE_WORDS = re.compile(r"电话|座机|传真|固话|tel|phone|fax", re.I)
_REGIONS = frozenset(
    map(
        str,
        (
            *range(11, 16),
            *range(21, 24),
            *range(31, 38),
            *range(41, 47),
            *range(50, 55),
            *range(61, 66),
            71,
            81,
            82,
            83,
            91,
        ),
    )
)
_ID_WEIGHTS = (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2)
_ID_CHECKS = "10X98765432"
_CODE = re.compile(r"[159YNA][1239]\d{6}[0-9A-HJ-NP-RT-UW-Y]{10}")
_CODE_ALPHABET = {c: at for at, c in enumerate("0123456789ABCDEFGHJKLMNPQRTUWXY")}


def is_resident_id(number: str) -> bool:
    """Whether 18 characters are a resident ID: region, birthday and check character (GB 11643)."""
    if number[:2] not in _REGIONS or not number[:17].isdigit():
        return False
    total = sum(weight * int(digit) for weight, digit in zip(_ID_WEIGHTS, number, strict=False))
    if _ID_CHECKS[total % 11] != number[17].upper():
        return False
    try:
        birthday = datetime.date(int(number[6:10]), int(number[10:12]), int(number[12:14]))
    except ValueError:
        return False
    return 1880 <= birthday.year <= 2099


def is_organization_code(code: str) -> bool:
    """Whether 18 characters are a unified social credit code (GB 32100)."""
    if any(character not in _CODE_ALPHABET for character in code):
        return False
    total = sum(_CODE_ALPHABET[c] * pow(3, at, 31) for at, c in enumerate(code[:17]))
    return (31 - total % 31) % 31 == _CODE_ALPHABET[code[17]]


def is_card_number(number: str) -> bool:
    """Whether the last digit checks the others (Luhn)."""
    total = 0
    for at, digit in enumerate(reversed(number)):
        value = int(digit) * (2 if at % 2 else 1)
        total += value - 9 if value > 9 else value
    return total % 10 == 0


def _numbers(text: str, places: Iterable[tuple[int, int]]) -> Iterator[PersonalData]:
    for start, end in places:
        if (match := _ID.match(text, start)) and is_resident_id(match.group()):
            yield PersonalData(*match.span(), DataKind.RESIDENT_ID)
        if (match := _CARD.match(text, start)) and _is_card(match.group(), text, start):
            yield PersonalData(*match.span(), DataKind.BANK_CARD)
        if match := _MOBILE.search(text, max(0, start - _BEFORE_MOBILE), end + 1):
            yield PersonalData(*match.span(), DataKind.MOBILE)
        if match := _LANDLINE.search(text, max(0, start - _BEFORE_LANDLINE), end + _EXTENSION):
            yield PersonalData(*match.span(), DataKind.LANDLINE)
        if (match := _LANDLINE_PLAIN.match(text, start)) and _LANDLINE_WORDS.search(
            _before(text, start)
        ):
            yield PersonalData(*match.span(), DataKind.LANDLINE)


def _is_card(number: str, text: str, at: int) -> bool:
    if len(number) < 14 or not is_card_number(number):
        return False
    if number.startswith("62") and len(number) >= 16:
        return True
    return len(number) in (14, 15, 16, 19) and bool(_CARD_WORDS.search(_before(text, at)))


def _runs(text: str, places: Iterable[tuple[int, int]]) -> Iterator[re.Match[str]]:
    for start, end in places:
        yield from _RUN.finditer(text, start, end + _AFTER_SPREAD)


def _spread(text: str, places: Iterable[tuple[int, int]]) -> Iterator[PersonalData]:
    """Numbers with spaces or signs between their digits, or in Chinese numerals."""
    for match in _runs(text, places):
        run = match.group()
        if run.isascii() and run.isalnum():
            continue  # it is not spread: `_numbers` has it
        groups = _groups(run.translate(_FOLD_NUMERALS), match.start())
        if len(groups) == 1:
            if match.start() and _ALPHANUMERIC.match(text[match.start() - 1]):
                continue  # a digest or the like
            found = _of_digits(groups[0][2], [groups[0][2]], text, match.start())
            if found is not None:
                yield PersonalData(match.start(), match.end(), found)
            continue
        first = 0
        while first < len(groups):
            digits, last = "", first
            best: PersonalData | None = None
            best_last = first
            while last < len(groups) and len(digits) + len(groups[last][2]) <= 21:
                digits += groups[last][2]
                kind = None
                if _MAY_BE.fullmatch(digits):
                    parts = [group[2] for group in groups[first : last + 1]]
                    kind = _of_digits(digits, parts, text, groups[first][0])
                if kind is not None:
                    best, best_last = PersonalData(groups[first][0], groups[last][1], kind), last
                last += 1
            if best is not None:
                yield best
                first = best_last
            first += 1


def _groups(run: str, at: int) -> list[tuple[int, int, str]]:
    """The parts of a run between its gaps: from, to and the digits."""
    found, start = [], 0
    for gap in _GAPS.finditer(run):
        found.append((at + start, at + gap.start(), run[start : gap.start()]))
        start = gap.end()
    found.append((at + start, at + len(run), run[start:]))
    return found


_MOBILE_SHAPES = {
    (3, 4, 4),
    (11,),
    (3, 8),
    (7, 4),
    (5, 6),
    (4, 3, 4),
    (3, 3, 5),
    (2, 3, 4, 4),
    (2, 11),
}


_MAY_BE = re.compile(r"(?:86)?1[3-9]\d{9}|[3-6]\d{13,18}|[1-9]\d{16}[\dXx]")
"""Mobile numbers, cards, and IDs."""


def _of_digits(digits: str, parts: list[str], text: str, at: int) -> DataKind | None:
    """What a number is whose digits stood apart."""
    apart = all(len(part) == 1 for part in parts)
    if len(digits) == 18 and is_resident_id(digits):
        return DataKind.RESIDENT_ID
    if 14 <= len(digits) <= 19 and digits.isdigit() and digits[0] in "3456":
        fours = all(len(part) == 4 for part in parts[:-1]) and len(parts) >= 4
        if is_card_number(digits) and (apart or fours or _is_card(digits, text, at)):
            return DataKind.BANK_CARD
    if digits.isdigit():
        shape = tuple(map(len, parts))
        number = digits[2:] if len(digits) == 13 and digits.startswith("86") else digits
        is_number = len(number) == 11 and number[0] == "1" and number[1] in "3456789"
        if is_number and (apart or shape in _MOBILE_SHAPES):
            return DataKind.MOBILE
    return None


# --- what is known by its form or by the words around it ----------------------------------

_EMAIL = re.compile(
    r"(?<![A-Za-z0-9._%+-])[A-Za-z0-9][A-Za-z0-9._%+-]{0,63}\s?(?:@|\[at\]|\(at\))\s?"
    r"(?:[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?\.){1,4}[A-Za-z]{2,18}(?![A-Za-z0-9-])",
    re.I,
)
_PROVINCES = "京津沪渝冀豫云辽黑湘皖鲁新苏浙赣鄂桂甘晋蒙陕吉闽贵粤青藏川宁琼"
_PLATE = re.compile(
    rf"[{_PROVINCES}][A-HJ-NP-Z][· ]?(?:[DF][A-HJ-NP-Z0-9]\d{{4}}|\d{{5}}[DF]"
    r"|(?=[A-HJ-NP-Z]{0,4}\d)[A-HJ-NP-Z0-9]{4}[A-HJ-NP-Z0-9挂学警港澳])(?![A-Za-z0-9])"
)
_PASSPORT = re.compile(r"(?<![0-9A-Za-z])(?:[EGDSPHM][A-Z]?\d{7,8}|1[45]\d{7})(?![0-9A-Za-z])")
_PASSPORT_WORDS = re.compile(r"护照|通行证|回乡证|台胞证|passport", re.I)
_MEDICAL = re.compile(
    r"(?:病历|住院|门诊|病案|就诊|就诊卡|诊疗卡|医保|医保卡|社保卡|检验单|检查|影像|MRN)"
    r"(?:号码?|编号|卡号)?\s*(?:是|为|[:#=])\s*(?P<value>[A-Za-z]{0,4}-?\d[A-Za-z0-9-]{3,24})"
    r"(?![A-Za-z0-9])",
    re.I,
)
_SURNAMES = (
    "王李张刘陈杨黄赵吴周徐孙马朱胡郭何林罗高郑梁谢宋唐许韩邓冯曹彭曾肖田董潘袁蔡蒋余于杜叶程魏苏吕丁任"
    "卢姚沈钟姜崔谭陆范汪廖石金韦贾夏付方邹熊白孟秦邱侯江尹薛闫段雷龙黎史陶贺毛郝顾龚邵万覃武钱戴严莫孔"
    "向常汤康易乔赖施洪安倪殷颜兰霍梅章葛柳岳齐庄俞聂鲁耿关焦左柴伍祝"
)
_COMPOUND = "欧阳|上官|司马|诸葛|东方|皇甫|尉迟|公孙|慕容|令狐|司徒|夏侯|端木|长孙"
_FULL_NAME = rf"(?:(?:{_COMPOUND})[\u4e00-\u9fff]{{1,2}}|[{_SURNAMES}][\u4e00-\u9fff]{{1,2}})"
_FULL_NAME_CHARACTERS_MAX = 4
_AFTER_NAME = (
    r"(?=[\s,.;:!?()\[\]、。，；：！？（）【】《》\"'“”]"
    r"|先生|女士|小姐|同志|的|是|于|和|与|电话|手机|身份证|性别|年龄|男|女|$)"
)
_NAME = re.compile(
    r"(?:姓名|联系人|患者|病人|收件人|收货人|持卡人|户名|法定代表人|经办人|监护人|紧急联系人|投保人|被保险人"
    r"|受益人|申请人|我叫|名叫|叫做)"
    rf"(?:姓名)?\s{{0,2}}(?:是|为|叫|[:=])?\s{{0,2}}(?P<value>{_FULL_NAME}){_AFTER_NAME}"
)
_TITLED = re.compile(
    rf"(?<![\u4e00-\u9fff])(?P<value>{_FULL_NAME})(?=先生|女士|小姐|同志|医生|大夫|律师|经理|主任|教授|老师)"
)
_NOT_NAMES = frozenset(
    ("高级", "金牌", "方便", "常规", "安全", "任何", "王牌", "黄金", "马上", "白衣")
)
_NEVER_IN_NAMES = frozenset("的是了在和与个们这那")
_HAN = r"[\u4e00-\u9fff]"
_STREET_NUMBER = (
    r"(?:[路街巷弄村道里苑]|胡同|小区|花园)(?:[东西南北中]段)?"
    r"\s?[0-9一二三四五六七八九十百]{1,6}\s?(?:号院|号楼|[号弄栋幢组])"
)
_ADDRESS = re.compile(
    rf"(?:{_HAN}{{2,8}}?(?:省|自治区|特别行政区))?(?:{_HAN}{{2,8}}?(?:市|自治州|地区|盟))?"
    rf"(?:{_HAN}{{1,8}}?(?:区|县|旗|市))?(?:{_HAN}{{1,8}}?(?:街道|镇|乡))?"
    rf"{_HAN}{{1,10}}?{_STREET_NUMBER}"
    r"(?:\s?[0-9A-Za-z一二三四五六七八九十甲乙丙丁]{1,5}\s?(?:号楼|号|栋|幢|座|单元|层|楼|室|户)){0,4}(?:\s?\d{3,4}(?!\d))?"
)
_LEADS = re.compile(
    r"^.*?(?:地址(?:是|为)?|住址(?:是|为)?|住在|居住(?:在|于)|位于|坐落(?:在|于)|寄到|寄往|送到|送至|搬到|现住|家住|在)"
)
_SECRETS = re.compile(
    r"(?<![A-Za-z0-9])(?:sk-[A-Za-z0-9_-]{20,200}|AKIA[0-9A-Z]{16}|AKID[A-Za-z0-9]{13,40}"
    r"|LTAI[A-Za-z0-9]{12,24}|gh[pousr]_[A-Za-z0-9]{36,255}|xox[abprs]-[A-Za-z0-9-]{10,200}"
    r"|eyJ[A-Za-z0-9_-]{8,2000}\.eyJ[A-Za-z0-9_-]{8,4000}\.[A-Za-z0-9_-]{16,1000})(?![A-Za-z0-9])"
)
_PEM = re.compile(
    r"-----BEGIN (?:[A-Z]+ ){0,3}PRIVATE KEY-----[\sA-Za-z0-9+/=]{16,8000}"
    r"-----END (?:[A-Z]+ ){0,3}PRIVATE KEY-----"
)
_PASSWORD = re.compile(
    r"(?:password|passwd|pwd|secret|api[_-]?key|access[_-]?key|token|密码|口令|密钥)"
    r"[\"']?\s{0,2}(?:是|为|[:=])\s{0,2}[\"']?(?P<value>[!-&(-~]{8,100})",
    re.I,
)
_ADDRESS_MIDDLE = re.compile(_STREET_NUMBER)
"""What every address has in it; `_ADDRESS` itself tries a dozen lengths at each character."""
_BEFORE_STREET_CHARACTERS = 60
"""The most that stands before it: province, city, district, town and the street's name."""
_CODE_CHARACTERS, _SECRET_CHARACTERS_MIN = 18, 15
_HINT_WORDS: dict[re.Pattern[str], str] = {
    _NAME: "姓名 联系人 患者 病人 收件人 收货人 持卡人 户名 法定代表人 经办人 监护人 投保人 "
    "被保险人 受益人 申请人 我叫 名叫 叫做",
    _TITLED: "先生 女士 小姐 同志 医生 大夫 律师 经理 主任 教授 老师",
    _MEDICAL: "病历 住院 门诊 病案 就诊 诊疗卡 医保 社保卡 检验单 检查 影像 mrn",
    _PASSPORT: "护照 通行证 回乡证 台胞证 passport",
    _PASSWORD: "password passwd pwd secret api key api_key api-key apikey access key access_key "
    "access-key accesskey token 密码 口令 密钥",
}
"""Words, one of which is in whatever a pattern finds, in lower case."""
_HINT_LIST = [(word, pattern) for pattern, words in _HINT_WORDS.items() for word in words.split()]
_HINT_OF = [pattern for _, pattern in _HINT_LIST]
_HINTS = AhoCorasick([word for word, _ in _HINT_LIST])


def _before(text: str, at: int) -> str:
    return text[max(0, at - CONTEXT_CHARACTERS) : at]


def _varied(word: str) -> bool:
    """Whether a word looks made up by a machine: letters and digits, and many of them."""
    kinds = sum(any(test(c) for c in word) for test in (str.isdigit, str.isalpha))
    return kinds == 2 and len(set(word)) >= 6


def _formed(scan: Scan) -> Iterator[PersonalData]:
    text = scan.text
    if "@" in text or "at]" in text or "at)" in text:
        for match in _EMAIL.finditer(text):
            yield PersonalData(*match.span(), DataKind.EMAIL)
    hits = _HINTS.find_matches_as_indexes(text.lower(), overlapping=True)
    hints = {_HINT_OF[number] for number, _, _ in hits}
    if not text.isascii():
        for match in _PLATE.finditer(text):
            yield PersonalData(*match.span(), DataKind.PLATE)
        named = list(_NAME.finditer(text)) if _NAME in hints else []
        for number, start, end in hits if _TITLED in hints else ():
            if _HINT_OF[number] is _TITLED:
                titled = _TITLED.search(text, max(0, start - _FULL_NAME_CHARACTERS_MAX), end)
                named += [titled] if titled is not None else ()
        for match in named:
            value = match["value"]
            if value[:2] not in _NOT_NAMES and not _NEVER_IN_NAMES & set(value):
                yield PersonalData(*match.span("value"), DataKind.NAME)
        yield from _addresses(text)
    for match in _MEDICAL.finditer(text) if _MEDICAL in hints else ():
        yield PersonalData(*match.span("value"), DataKind.MEDICAL_RECORD)
    for match in _PASSPORT.finditer(text) if _PASSPORT in hints else ():
        if _PASSPORT_WORDS.search(_before(text, match.start())):
            yield PersonalData(*match.span(), DataKind.PASSPORT)
    for start, end in runs(scan.latin, LETTERS_AND_DIGITS, _CODE_CHARACTERS):
        if end - start == _CODE_CHARACTERS and _is_code(text[start:end]):
            yield PersonalData(start, end, DataKind.ORGANIZATION_CODE)
    for start, end in runs(scan.latin, PRINTED, _SECRET_CHARACTERS_MIN):
        for match in _SECRETS.finditer(text, start, end + 1):
            yield PersonalData(*match.span(), DataKind.SECRET)
    for match in _PEM.finditer(text) if "-----BEGIN " in text else ():
        yield PersonalData(*match.span(), DataKind.SECRET)
    for match in _PASSWORD.finditer(text) if _PASSWORD in hints else ():
        if _varied(match["value"]):
            yield PersonalData(*match.span("value"), DataKind.SECRET)


def _is_code(word: str) -> bool:
    return _CODE.fullmatch(word) is not None and is_organization_code(word)


def _addresses(text: str) -> Iterator[PersonalData]:
    end = 0
    for middle in _ADDRESS_MIDDLE.finditer(text):
        at = max(end, middle.start() - _BEFORE_STREET_CHARACTERS)
        match = _ADDRESS.search(text, at) if middle.end() > end else None
        if match is None:
            continue
        start, end = match.span()
        lead = _LEADS.match(match.group())
        if lead is not None and lead.end() < len(match.group()) - 4:
            start += lead.end()
        yield PersonalData(start, match.end(), DataKind.ADDRESS)


def find(text: str) -> list[PersonalData]:
    """The personal data in a text, in its order; none of it overlaps."""
    scan = _scanner().scan(text)
    found = list(_formed(scan))
    found += _numbers(scan.text, runs(scan.latin, DIGITS, _DIGITS_MIN))
    found += _spread(scan.text, scan.spread)
    return _apart(found)


@cache
def _scanner() -> Scanner:
    from tokenschain.core.moderation.character_scan import Scanner  # noqa: PLC0415 - numpy: 0.1 s

    return Scanner("".join(_NUMERALS), _SPREAD_MIN, _GAP_CHARACTERS_MAX)


_RANK = {kind: at for at, kind in enumerate(DataKind)}


def _apart(found: list[PersonalData]) -> list[PersonalData]:
    """Without what lies over something more certain."""
    kept: list[PersonalData] = []
    starts: list[int] = []
    for one in sorted(found, key=lambda one: (_RANK[one.kind], one.start - one.end)):
        at = bisect_left(starts, one.end)
        if any(other.end > one.start for other in kept[max(0, at - 2) : at]):
            continue
        starts.insert(bisect_left(starts, one.start), one.start)
        kept.insert(bisect_left(starts, one.start), one)
    return kept


# --- what is written instead --------------------------------------------------------------

_KEPT = {
    DataKind.RESIDENT_ID: (6, 4), DataKind.ORGANIZATION_CODE: (4, 4), DataKind.BANK_CARD: (4, 4),
    DataKind.MOBILE: (3, 4), DataKind.LANDLINE: (4, 2), DataKind.EMAIL: (1, 0),
    DataKind.PLATE: (2, 1), DataKind.PASSPORT: (2, 2), DataKind.ADDRESS: (6, 0),
    DataKind.NAME: (1, 0), DataKind.MEDICAL_RECORD: (2, 2), DataKind.SECRET: (3, 0),
}  # fmt: skip
"""How many characters a mask leaves at the beginning and at the end."""
TOKEN = re.compile(
    r"[⟦\[【〔]\s*([A-Z]{2,20}(?:[_ ][A-Z]{2,20})?)\s*[:：_ ]\s*([a-z2-7]{10})\s*[⟧\]】〕]"
)
TOKEN_CHARACTERS_MAX = 48
_OPENING = "⟦[【〔"
_NAME_ALPHABET = "abcdefghijklmnopqrstuvwxyz234567"


def masked(value: str, kind: DataKind) -> str:
    """A value with `*` for its middle, as long as it was; what separates digits stays."""
    head, tail = _KEPT[kind]
    if kind is DataKind.EMAIL:
        at = max(value.find("@"), value.find("＠"))
        tail = len(value) - at if at > 0 else 0
    places = [at for at, character in enumerate(value) if character.isalnum()]
    if kind is DataKind.EMAIL:
        places = list(range(len(value) - tail))
        tail = 0
    head = min(head, max(0, len(places) - tail - 1))
    hidden = set(places[head : len(places) - tail] if len(places) > head + tail else places)
    return "".join("*" if at in hidden else character for at, character in enumerate(value))


class Replacements:
    """What stands for the personal data of one call; remembers what it may turn back."""

    __slots__ = ("_digest", "_values")

    def __init__(self, digest: Callable[[str], bytes]) -> None:
        """
        Args:
            digest: keyed, by tenant: the same value has the same token in all its calls.
        """
        self._digest = digest
        self._values: dict[str, str] = {}

    @property
    def restores(self) -> bool:
        """Whether answers may hold tokens that are to be turned back."""
        return bool(self._values)

    def written(self, value: str, kind: DataKind, action: DataAction) -> str:
        """What is written instead of a value."""
        if action is DataAction.MASK:
            return masked(value, kind)
        name = _name(self._digest(f"{kind}:{value}"))
        label = "HASH" if action is DataAction.HASH else kind.value.upper()
        if action is DataAction.REVERSIBLE:
            self._values[name] = value
        return f"⟦{label}:{name}⟧"

    def restored(self, text: str) -> str:
        """A text with values again where their tokens stand; other tokens stay as they are."""
        if not self._values:
            return text
        return TOKEN.sub(lambda match: self._values.get(match.group(2), match.group()), text)

    def edits(self, text: str) -> list[tuple[int, int, str]]:
        """The same as places in the text, and what belongs there."""
        return [
            (match.start(), match.end(), self._values[match.group(2)])
            for match in TOKEN.finditer(text)
            if match.group(2) in self._values
        ]


def open_token(text: str) -> int:
    """Where a token begins that the end of the text may be in the middle of; else its length."""
    since = max(0, len(text) - TOKEN_CHARACTERS_MAX)
    at = max(text.rfind(opening, since) for opening in _OPENING)
    if at < 0 or any(closing in text[at:] for closing in "⟧]】〕"):
        return len(text)
    return at


def _name(digest: bytes) -> str:
    number = int.from_bytes(digest[:8], "big")
    return "".join(_NAME_ALPHABET[(number >> (5 * at)) & 31] for at in range(10))
