"""Compliance report as one HTML page for people, in both languages, without anything from outside.

Written by hand: only the console has the template library.
"""

from __future__ import annotations

import time
from html import escape

from tokenschain.control.compliance.results import ComplianceReport, ControlResult

_STATES = {
    "met": ("evidence found", "已有证据"),
    "open": ("open", "未满足"),
    "unproven": ("nothing to show yet", "尚无证据"),
    "organizational": ("for people to show", "需人工出示"),
}
STYLE = """
body{font:15px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;
color:#1c1c1c;background:#fff}
table{border-collapse:collapse;width:100%}td,th{border-top:1px solid #ccc;padding:.5rem;
text-align:left;vertical-align:top}.met{color:#0a6b2d}.open{color:#a3121c}
.organizational,.unproven{color:#6a5200}small{color:#555}code{font-size:85%;overflow-wrap:anywhere}
@media (prefers-color-scheme:dark){body{color:#eee;background:#161616}td,th{border-color:#444}
.met{color:#6fd08c}.open{color:#ff8d8d}.organizational,.unproven{color:#e6c65c}small{color:#aaa}}
@media (max-width:40rem){td,th{display:block;border:0;padding:.2rem 0}tr{display:block;
border-top:1px solid #999;padding:.5rem 0}thead{display:none}}
"""
_WHAT = (
    "What the platform found about itself at that time, and what is missing. It is no certificate: "
    "grading, assessment, filing and certification are acts of others.",
    "本报告是平台在该时刻对自身状态的查证结果及缺口，不是认证证书；定级、测评、备案与认证由第三方完成。",
)


def html_of(report: ComplianceReport) -> str:
    """The page."""
    counts = " · ".join(
        f'<span class="{state}">{_STATES[state][1]} {_STATES[state][0]}: {count}</span>'
        for state, count in report.counts.items()
    )
    rows = "\n".join(_row(one) for one in report.controls)
    return (
        '<!doctype html>\n<html lang="zh-CN"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width">'
        f"<title>{escape(report.title.zh)}</title><style>{STYLE}</style></head><body>\n"
        f"<h1>{escape(report.title.zh)}<br><small>{escape(report.title.en)}</small></h1>\n"
        f"<p>{_WHAT[1]}<br><small>{_WHAT[0]}</small></p>\n"
        f"<p>{time_of(report.at_ms)} (UTC+8) · TokensChain {escape(report.version)} · "
        f"{escape(report.log)}</p>\n"
        f"<p>{counts}</p>\n<p><small>{escape(report.source)}</small></p>\n"
        "<table><thead><tr><th>条款 Clause</th><th>要求 Asks</th><th>结果 Found</th></tr></thead>"
        f"<tbody>\n{rows}\n</tbody></table></body></html>\n"
    )


def time_of(at_ms: int) -> str:
    """A time in China."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(at_ms / 1e3 + 28_800))


def _row(one: ControlResult) -> str:
    en, zh = _STATES[one.state]
    gaps = "".join(f"<br>{escape(gap.zh)}<br><small>{escape(gap.en)}</small>" for gap in one.gaps)
    values = "".join(
        f"<br><code>{escape(name)}: {escape(_text(value))}</code>"
        for name, value in one.values.items()
    )
    return (
        f'<tr id="{escape(one.id)}"><td>{escape(one.clause)}<br><small>{escape(one.confidence)}'
        f"</small></td><td>{escape(one.asks.zh)}<br><small>{escape(one.asks.en)}</small>"
        f"<br><small>{escape(one.applies_when.zh)} · {escape(one.applies_when.en)}</small></td>"
        f'<td><strong class="{one.state}">{zh} {en}</strong>{gaps}{values}</td></tr>'
    )


def _text(value: object) -> str:
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value))
    return str(value)
