"""Report of an incident as Markdown, filled with what the platform knows; gaps are named."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from tokenschain.core.compliance.templates import Language, cell

_CHINA_H = 8
_GAPS: Mapping[str, tuple[str, str]] = {
    "description": ("事件经过", "what happened"),
    "measures": ("已采取的措施", "measures taken"),
    "calls": ("账本中没有涉及的调用", "no call of that time in the ledger"),
    "complete": ("涉及的调用过多，仅统计最近的部分", "more calls than are counted"),
    "end_users": ("涉及的最终用户数（未计数）", "how many end users: none were counted"),
    "impact": ("损失与社会影响", "damage and effect on the public"),
    "contact": ("报告人与联系方式", "who reports, and how to reach them"),
}
_CHINESE: Mapping[str, str] = {
    "content": "内容安全", "personal-data": "个人信息", "security": "网络安全",
    "availability": "可用性",
    "general": "一般", "larger": "较大", "major": "重大", "extremely-major": "特别重大",
    "opened": "登记", "changed": "更新", "noted": "备注", "ended": "结束", "reported": "报告",
}  # fmt: skip
"""Kinds, severities and what was done, in a Chinese report."""


class CallGroup(NamedTuple):
    """Calls in the time of an incident that are alike."""

    tenant: str
    model_asked: str
    model_served: str
    upstream: str
    filing: str
    outcome: str
    calls: int
    first_ms: int
    last_ms: int


class ReportDraft(NamedTuple):
    """A report to be completed by a person."""

    markdown: str
    missing: list[str]
    """What a person has to add."""


def draft(
    incident: Mapping[str, Any],
    groups: Sequence[CallGroup],
    *,
    complete: bool,
    end_users: int,
    freezes: Sequence[Mapping[str, Any]],
    timeline: Sequence[Mapping[str, Any]],
    language: Language,
) -> ReportDraft:
    """The report of an incident.

    Args:
        complete: whether all calls are counted.
        end_users: 0 where none are counted.
    """
    zh = language == "zh"
    gaps = [name for name in ("description", "measures") if not incident[name]]
    gaps += [] if groups else ["calls"]
    gaps += [] if complete else ["complete"]
    gaps += [] if end_users else ["end_users"]
    gaps += ["impact", "contact"]
    total = sum(group.calls for group in groups)
    rows = [
        ("编号", "Incident", incident["id"]),
        ("标题", "Title", incident["title"]),
        ("类型", "Kind", _word(incident["kind"], zh)),
        ("级别", "Severity", _word(incident["severity"], zh)),
        ("租户", "Tenant", incident["tenant"] or ("平台" if zh else "the platform")),
        ("模型", "Model", incident["model"] or ("全部" if zh else "all")),
        ("发生时间", "Began", _time(incident["began_at_s"])),
        ("发现时间", "Detected", _time(incident["detected_at_s"])),
        ("结束时间", "Ended", _time(incident["ended_at_s"])),
        ("报告时间", "Reported", _time(incident["reported_at_s"])),
        ("涉及调用数", "Calls concerned", str(total)),
        ("涉及最终用户数", "End users concerned", str(end_users) if end_users else "?"),
    ]
    lines = [f"# {'网络安全事件报告（草稿）' if zh else 'Incident report (draft)'}", ""]
    lines += [f"- **{said[0] if zh else said[1]}**: {cell(said[2])}" for said in rows]
    for name, chinese, english in (("description", "事件经过", "What happened"),
                                   ("measures", "已采取的措施", "Measures")):  # fmt: skip
        lines += ["", f"## {chinese if zh else english}", ""]
        lines += [cell(incident[name]) or _gap(name, zh)]
    lines += _calls_section(groups, zh)
    lines += ["", f"## {'处置记录' if zh else 'Timeline'}", ""]
    lines += [
        f"- {_time(one['at_s'])} {cell(_word(one['action'], zh))}: {cell(one['text'])}"
        for one in timeline
    ]
    frozen = "冻结" if zh else "frozen"
    lines += [
        f"- {_time(one['created_at_s'])} {frozen}: {cell(one['tenant'])} {cell(one['model'])}"
        for one in freezes
    ]
    lines += ["", f"## {'待补充' if zh else 'To be added'}", ""]
    lines += [f"- {_gap(name, zh)}" for name in gaps]
    return ReportDraft("\n".join(lines) + "\n", [_GAPS[name][0 if zh else 1] for name in gaps])


def _calls_section(groups: Sequence[CallGroup], zh: bool) -> list[str]:
    lines = ["", f"## {'涉及的调用' if zh else 'Calls concerned'}", ""]
    heads = (
        "| 租户 | 请求的模型 | 服务的模型 | 上游 | 备案号 | 结果 | 次数 | 首次 | 末次 |"
        if zh
        else "| Tenant | Asked | Served | Upstream | Filing | Outcome | Calls | First | Last |"
    )
    if groups:
        lines += [heads, "|" + "---|" * 9]
        lines += [
            "| " + " | ".join([*map(cell, (one.tenant, one.model_asked, one.model_served,
                                            one.upstream, one.filing, one.outcome)),
                               str(one.calls), _time(one.first_ms // 1_000),
                               _time(one.last_ms // 1_000)]) + " |"
            for one in groups
        ]  # fmt: skip
    else:
        lines += [_gap("calls", zh)]
    return lines


def _gap(name: str, zh: bool) -> str:
    chinese, english = _GAPS[name]
    return f"【待补充：{chinese}】" if zh else f"[TO BE ADDED: {english}]"


def _word(name: str, zh: bool) -> str:
    return _CHINESE.get(name, name) if zh else name


def _time(at_s: int | None) -> str:
    if at_s is None:
        return "—"
    return (
        f"{datetime.fromtimestamp(at_s, UTC) + timedelta(hours=_CHINA_H):%Y-%m-%d %H:%M:%S} +08:00"
    )
