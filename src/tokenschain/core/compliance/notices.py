"""Notice that an app shows: the model's name and its filing or registration number, in Chinese and
English. Notices of the Cyberspace Administration ask apps in service for both; Provisions on
Algorithm Recommendation, Art. 26, for an algorithm's number with a link."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import date

import msgspec

from tokenschain.core.snapshot.filings import Filing, FilingKind

_NUMBER: Mapping[FilingKind, tuple[str, str]] = {
    "generative-ai": ("备案号", "filing number"),
    "registration": ("上线编号", "registration number"),
    "algorithm": ("算法备案编号", "algorithm filing number"),
}


class NoticeEntry(msgspec.Struct, frozen=True):
    """A number that is shown."""

    model: str
    """As it is served."""
    title: str
    """As it is shown."""
    kind: FilingKind
    number: str
    filer: str
    link: str


class AppNotice(msgspec.Struct, frozen=True):
    """What an app shows."""

    zh: str
    en: str
    entries: list[NoticeEntry]
    missing: list[str]
    """Models for which there is no number in force: the texts do not name them."""


def notice_of(
    filings: Iterable[Filing], models: Sequence[str], needed: Iterable[str], today: date
) -> AppNotice:
    """The notice for models, by what is in force.

    Args:
        models: whose numbers are shown, in this order; a virtual model's before its models'.
        needed: those that need a number to serve the public.
    """
    given = [one for one in filings if one.in_force(today)]
    entries = [
        NoticeEntry(model, one.title or model, one.kind, one.number, one.filer, one.link)
        for model in models
        for kind in _NUMBER
        for one in given
        if one.kind == kind and model in one.models
    ]
    numbered = {one.model for one in entries if one.kind != "algorithm"}
    missing = [model for model in needed if model not in numbered]
    shown: dict[tuple[str, str], NoticeEntry] = {}
    for one in entries:  # a number that is for several models is said once
        shown.setdefault((one.title, one.number), one)
    zh = [_zh(one) for one in shown.values()]
    en = [_en(one) for one in shown.values()]
    if zh:
        zh.insert(0, "本应用使用生成式人工智能服务，内容由人工智能生成，请注意甄别。")
        en.insert(0, "This app uses generative AI: its content is made by AI; check it.")
    return AppNotice("\n".join(zh), "\n".join(en), entries, missing)


def _zh(one: NoticeEntry) -> str:
    filer = f"（{one.filer}）" if one.filer else ""
    link = f"，公示链接：{one.link}" if one.link else ""
    return f"模型名称：{one.title}{filer}，{_NUMBER[one.kind][0]}：{one.number}{link}"


def _en(one: NoticeEntry) -> str:
    filer = f" ({one.filer})" if one.filer else ""
    link = f", published at {one.link}" if one.link else ""
    return f"Model: {one.title}{filer}, {_NUMBER[one.kind][1]}: {one.number}{link}"
