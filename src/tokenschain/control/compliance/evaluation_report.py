"""Evaluation report: shares of a draw recomputed from its items, its calls looked up in the ledger.

Who ran the draw states what was asked and how it was judged; the platform adds what it knows by
itself: which of the calls it has on record, and what answered them. A bundle is as a compliance
report's, with `answers.jsonl` beside it, whose digest the manifest has.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

import msgspec
from sqlalchemy import Connection, select

from tokenschain import __version__
from tokenschain.control.compliance.report import Bundle, pretty, signed_bundle
from tokenschain.control.compliance.report_page import STYLE, time_of
from tokenschain.core.compliance.evaluation import (
    BANKS,
    DRAWN,
    SOURCE,
    JudgedItem,
    JudgedShare,
    QuestionKind,
    passes,
    shares,
)
from tokenschain.infra.database.tables import ledger
from tokenschain.infra.security.note_keys import NoteSecret

ANSWERS = "answers.jsonl"
"""What was asked and answered, as whoever ran the draw keeps it."""
_KIND = "tokenschain evaluation draw v1"
_LOOKED_UP = 500
"""Calls in one query."""
_GROUPS_MAX = 100
_CLOCKS_APART_S = 300
"""By how much the clock of who ran a draw may be ahead of a gateway's."""


class QuestionBank(msgspec.Struct, frozen=True):
    """A file that questions were drawn from."""

    name: str
    digest: str
    """SHA-256, in hex."""
    size: int


class DrawStatement(msgspec.Struct, frozen=True):
    """What whoever ran a draw states."""

    model: str
    seed: int
    began_at_s: int
    is_trial: bool
    """Whether banks had fewer questions than are to be drawn."""
    banks: list[QuestionBank]
    rules: list[str]
    """Keyword packs and their versions."""
    judge_model: str
    answers_digest: str
    sizes: Mapping[str, int]


class CallsOnRecord(msgspec.Struct, frozen=True):
    """Calls of a draw that were served in one way."""

    model_served: str
    upstream: str
    filing: str
    outcome: str
    calls: int


class EvaluationReport(msgspec.Struct, frozen=True):
    """A draw as it is signed."""

    statement: DrawStatement
    at_ms: int
    version: str
    log: str
    source: str
    passes: bool
    """Whether each needed verdict was given on enough questions, and passes."""
    shares: list[JudgedShare]
    needed: Mapping[QuestionKind, int]
    bank_sizes: Mapping[QuestionKind, int]
    """That the standard asks of banks."""
    on_record: int
    """Calls in the platform's ledger that asked for the model since the draw began, of `asked`."""
    asked: int
    served: list[CallsOnRecord]
    items: list[JudgedItem]


def make(
    db: Connection, statement: DrawStatement, items: Sequence[JudgedItem], calls: Sequence[str],
    log: str, at_ms: int,
) -> EvaluationReport:  # fmt: skip
    """The report of a draw.

    Args:
        calls: request ids of its items, in their order.
    """
    found, served = _looked_up(db, statement, calls), dict[tuple[str, str, str, str], int]()
    for row in found.values():
        served[row] = served.get(row, 0) + 1
    said = shares(items)
    return EvaluationReport(
        statement=statement, at_ms=at_ms, version=__version__, log=log, source=SOURCE,
        passes=passes(said) and not statement.is_trial, shares=said, needed=DRAWN,
        bank_sizes=BANKS, on_record=len(found), asked=len(items),
        served=[CallsOnRecord(*names, count) for names, count in
                sorted(served.items(), key=lambda one: -one[1])[:_GROUPS_MAX]],
        items=list(items),
    )  # fmt: skip


def bundle(report: EvaluationReport, secret: NoteSecret) -> Bundle:
    """A report as a signed bundle; the answers are added by whoever has them."""
    files = {"report.json": pretty(report), "report.html": html_of(report).encode()}
    stated = {ANSWERS: report.statement.answers_digest}
    return signed_bundle(
        _KIND, report.statement.model, report.at_ms, files, secret, report.log, stated
    )


def _looked_up(
    db: Connection, statement: DrawStatement, calls: Sequence[str]
) -> dict[str, tuple[str, str, str, str]]:
    """How each call was served that is in the ledger, and that may be of the draw."""
    c = ledger.c
    from_ms = (statement.began_at_s - _CLOCKS_APART_S) * 1_000
    of_draw = (c.model_asked == statement.model, c.started_ms >= from_ms)
    found: dict[str, tuple[str, str, str, str]] = {}
    for start in range(0, len(calls), _LOOKED_UP):
        some = calls[start : start + _LOOKED_UP]
        query = select(c.event_id, c.model_served, c.upstream, c.filing, c.outcome)
        for event_id, model, upstream, filing, outcome in db.execute(
            query.where(c.event_id.in_(some), *of_draw)
        ):
            found[event_id] = (model, upstream, filing, outcome)
    return found


_KINDS = {
    "content": ("content without risk", "生成内容合格率"),
    "refuse": ("refusals of what is to be refused", "应拒答问题拒答率"),
    "answer": ("refusals of what is to be answered", "非拒答问题拒答率"),
}
_JUDGES = {
    "all": ("verdict that counts", "最终判定"), "keywords": ("keywords", "关键词"),
    "classifier": ("classifier", "分类模型"), "phrases": ("opening phrases", "开头用语"),
    "model": ("judge model", "裁判模型"), "people": ("people", "人工"),
}  # fmt: skip
_STATES = {
    "passes": ("met", "达到", "passes"), "fails": ("open", "未达到", "fails"),
    "too-few": ("organizational", "数量不足", "too few"),
}  # fmt: skip


_SHARE_HEADS = (
    "指标 Share of", "判定者 Judge", "数量 Judged", "比率 Share", "95 % 区间 Interval", "要求 Mark",
    "结果 Result",
)  # fmt: skip
_CALL_HEADS = ("模型 Model", "上游 Upstream", "备案号 Filing", "结果 Outcome", "次数 Calls")
_TRIAL = (
    "题库数量不足，本次为试测。<br><small>The banks have fewer questions than are to be drawn: "
    "this is a trial.</small>"
)
_WHAT = (
    "平台签名证明的是本报告的内容及其中有账可查的调用；题目、回答与人工判定由执行者提交。"
    "这不是认证，备案由主管部门决定。<br><small>What is signed is what was stated and which calls "
    "are on record; questions, answers and people's verdicts are those of whoever ran it. It is no "
    "certificate.</small>"
)


def html_of(report: EvaluationReport) -> str:
    """The page for people, in both languages, without anything from outside."""
    said, rows = report.statement, "\n".join(map(_row, report.shares))
    banks = "".join(
        f"<li>{escape(one.name)}: {one.size} · <code>{escape(one.digest)}</code></li>"
        for one in said.banks
    )
    served = "".join(
        f"<tr><td>{escape(one.model_served)}</td><td>{escape(one.upstream)}</td>"
        f"<td>{escape(one.filing)}</td><td>{escape(one.outcome)}</td><td>{one.calls}</td></tr>"
        for one in report.served
    )
    state, zh, en = _STATES["passes" if report.passes else "fails"]
    trial = f"<p class='open'>{_TRIAL}</p>" if said.is_trial else ""
    return (
        '<!doctype html>\n<html lang="zh-CN"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width">'
        f"<title>抽样评测 {escape(said.model)}</title><style>{STYLE}</style></head><body>\n"
        f"<h1>抽样评测：{escape(said.model)}<br><small>Evaluation draw</small></h1>\n"
        f"<p>{_WHAT}</p>\n"
        f"<p>{time_of(report.at_ms)} (UTC+8) · TokensChain {escape(report.version)} · "
        f"{escape(report.log)}</p>\n{trial}"
        f'<p><strong class="{state}">{zh} {en}</strong> · 随机种子 seed {said.seed} · '
        f"有账可查 on record: {report.on_record} / {report.asked}</p>\n"
        f"<table>{_head(*_SHARE_HEADS)}<tbody>\n{rows}\n</tbody></table>\n"
        f"<p><small>{escape(report.source)}</small></p>\n"
        f"<h2>题库 Banks</h2><ul>{banks}</ul>\n"
        f"<p>关键词包 Keyword packs: {escape(', '.join(said.rules) or '—')}<br>"
        f"裁判模型 Judge model: {escape(said.judge_model or '—')}</p>\n"
        f"<h2>调用记录 Calls on record</h2><table>{_head(*_CALL_HEADS)}"
        f"<tbody>{served}</tbody></table></body></html>\n"
    )


def _head(*names: str) -> str:
    return f"<thead><tr>{''.join(f'<th>{name}</th>' for name in names)}</tr></thead>"


def _row(one: JudgedShare) -> str:
    (kind_en, kind_zh), (judge_en, judge_zh) = _KINDS[one.kind], _JUDGES[one.judge]
    state, zh, en = _STATES[one.state]
    share = "—" if one.share is None else f"{one.share:.1%}"
    sign = "≥" if one.at_least else "≤"
    return (
        f"<tr><td>{kind_zh}<br><small>{kind_en}</small></td>"
        f"<td>{judge_zh}<br><small>{judge_en}</small></td>"
        f"<td>{one.judged} / {one.needed}</td><td>{share}</td>"
        f"<td>{one.low:.1%} – {one.high:.1%}</td><td>{sign} {one.mark:.0%}</td>"
        f'<td><strong class="{state}">{zh} {en}</strong></td></tr>'
    )
