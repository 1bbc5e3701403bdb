"""Templates of documents that the law asks for, filled with what the platform knows, as Markdown.

What it does not know stands there as a gap, `[TO BE ADDED: ...]`: no fact is made up. Headings are
our own; compare them with the form of the authority that takes the document.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Literal, NamedTuple, get_args

Language = Literal["zh", "en"]
TemplateName = Literal["algorithm-assessment", "service-agreement", "processors", "user-notice"]
TEMPLATES: tuple[TemplateName, ...] = get_args(TemplateName)


class ServedModel(NamedTuple):
    """A model that callers may ask for."""

    name: str
    kind: str
    upstreams: tuple[str, ...]
    number: str
    """Of its filing or registration in force; empty: none."""


class DataProcessor(NamedTuple):
    """Somewhere that what callers say is sent to."""

    name: str
    provider: str
    host: str
    region: str
    zone: str
    serves: tuple[str, ...]
    """Models; none for an engine that moderates."""


class PolicyInForce(NamedTuple):
    """A moderation policy that is active."""

    name: str
    tenant: str
    audience: str
    directions: tuple[str, ...]
    engines: tuple[str, ...]
    require_filed: bool
    suspends: bool
    """Whether end users who break its rules again and again are suspended."""


class RegisteredFiling(NamedTuple):
    """A number of the register."""

    kind: str
    number: str
    title: str
    filer: str
    province: str
    launched_on: str
    models: tuple[str, ...]


class LastDraw(NamedTuple):
    """The evaluation draw that was signed last."""

    model: str
    at: str
    passes: bool
    asked: int


class TemplateFacts(NamedTuple):
    """What the platform knows."""

    day: str
    version: str
    service_url: str
    models: Sequence[ServedModel]
    processors: Sequence[DataProcessor]
    policies: Sequence[PolicyInForce]
    filings: Sequence[RegisteredFiling]
    notice_zh: str
    notice_en: str
    labels: Sequence[str]
    """Label rules: whose, what is shown and what is in the metadata."""
    kept: Mapping[str, str]
    """What is kept of what calls say, by whose calls; and for how long."""
    record_days: int
    """That records of calls are kept; 0: without end."""
    crypto_suite: str
    request_days: int
    """Within which requests of end users are answered."""
    incidents: int
    """That were opened within a year."""
    last_draw: LastDraw | None


class FilledTemplate(NamedTuple):
    """A document to be completed."""

    markdown: str
    missing: list[str]


def fill(name: TemplateName, facts: TemplateFacts, language: Language) -> FilledTemplate:
    """A template with what is known in it."""
    page = _Document(language)
    _WRITERS[name](page, facts)
    return FilledTemplate("\n".join(page.lines).strip() + "\n", page.missing)


class _Document:
    """Lines of Markdown in one language, and the gaps in them."""

    def __init__(self, language: Language) -> None:
        self._zh = language == "zh"
        self.lines: list[str] = []
        self.missing: list[str] = []

    def words(self, zh: str, en: str) -> str:
        return zh if self._zh else en

    def title(self, zh: str, en: str) -> None:
        self.lines += [f"# {self.words(zh, en)}", ""]

    def heading(self, zh: str, en: str) -> None:
        self.lines += ["", f"## {self.words(zh, en)}", ""]

    def say(self, zh: str, en: str) -> None:
        self.lines += [self.words(zh, en), ""]

    def gap(self, zh: str, en: str) -> str:
        what = self.words(zh, en)
        self.missing.append(what)
        return f"【待补充：{what}】" if self._zh else f"[TO BE ADDED: {what}]"

    def ask(self, zh: str, en: str) -> None:
        self.lines += [self.gap(zh, en), ""]

    def item(self, zh: str, en: str, value: str) -> None:
        """A fact, or a gap where there is none."""
        name = self.words(zh, en)
        self.lines.append(f"- **{name}**: {cell(value) if value else self.gap(zh, en)}")

    def table(self, heads: Sequence[tuple[str, str]], rows: Sequence[Sequence[str]]) -> None:
        self.lines.append("| " + " | ".join(self.words(*head) for head in heads) + " |")
        self.lines.append("|" + "---|" * len(heads))
        self.lines += ["| " + " | ".join(cell(one) or "—" for one in row) + " |" for row in rows]
        self.lines.append("")


def cell(text: str) -> str:
    """Text as a part of Markdown that it cannot leave."""
    for mark in "\\`*_{}[]<>#|":
        text = text.replace(mark, f"\\{mark}")
    return " ".join(text.split())


def _assessment(page: _Document, facts: TemplateFacts) -> None:
    page.title("算法安全自评估报告（草稿）", "Algorithm security self-assessment (draft)")
    page.say(
        f"由 TokensChain {facts.version} 于 {facts.day} 按运行中的平台填写。"
        "待补充处须由运营者填写并核对。",
        f"Filled by TokensChain {facts.version} on {facts.day} from the running platform. What is "
        "to be added is the operator's to write and to check.",
    )
    page.heading("一、基本情况", "1. The algorithm and who runs it")
    own = [one for one in facts.filings if one.kind == "algorithm"]
    first = own[0] if own else None
    page.item("运营者", "Operator", first.filer if first else "")
    page.item("算法名称", "Name of the algorithm", first.title if first else "")
    page.item("算法备案编号", "Filing number", first.number if first else "")
    page.item("上线日期", "In service since", first.launched_on if first else "")
    page.item("服务地址", "Address of the service", facts.service_url)
    page.item("统一社会信用代码", "Unified social credit code", "")
    page.item("责任人与联系方式", "Who answers for it, and how to reach them", "")
    page.heading("二、服务与模型", "2. Service and models")
    _models(page, facts)
    page.ask("服务对象、场景与预期用途", "whom it serves, where, and for what")
    page.heading("三、数据", "3. Data")
    page.ask(
        "训练与微调数据的来源、规模与合规说明", "training and tuning data: sources, size, rights"
    )
    _processors(page, facts)
    _kept(page, facts)
    page.heading("四、内容安全", "4. Safety of content")
    _moderation(page, facts)
    page.heading("五、标识", "5. Labels")
    _labels(page, facts)
    page.heading("六、评测", "6. Evaluation")
    draw = facts.last_draw
    if draw is None:
        page.ask("抽样评测结果（`tokenschain compliance draw`）",
                 "results of an evaluation draw (`tokenschain compliance draw`)")  # fmt: skip
    else:
        page.say(
            f"最近一次抽样评测：{draw.at}，模型 {cell(draw.model)}，{draw.asked} 题，"
            f"{'达到' if draw.passes else '未达到'}所列合格线；详见签名报告。",
            f"The last draw: {draw.at}, model {cell(draw.model)}, {draw.asked} questions; it "
            f"{'passes' if draw.passes else 'does not pass'}. See the signed report.",
        )
    page.heading("七、用户权益", "7. Rights of users")
    page.say(
        "最终用户的查阅、复制、更正、删除与限制处理请求，"
        f"自收到之日起 {facts.request_days} 天内答复。",
        "Requests of end users for access, a copy, correction, deletion or restriction are "
        f"answered within {facts.request_days} days.",
    )
    page.ask("投诉举报渠道、受理流程与时限", "where complaints go, how and within which time")
    page.heading("八、安全事件", "8. Incidents")
    page.say(
        f"近一年登记事件 {facts.incidents} 起；报告时限由平台计时。",
        f"{facts.incidents} incidents were opened within a year; the platform keeps their clocks.",
    )
    page.ask("应急预案与演练", "the plan for emergencies, and when it was rehearsed")
    page.heading("九、风险与结论", "9. Risks and conclusion")
    page.ask("风险研判、剩余风险与评估结论", "risks, what remains of them, and the conclusion")
    page.ask("评估人、审批人与日期", "who assessed, who approved, and when")


def _agreement(page: _Document, facts: TemplateFacts) -> None:
    page.title("服务协议条款（草稿）", "Service agreement: clauses (draft)")
    page.say(
        "以下条款供法务修改，不构成法律意见。",
        "For your lawyers to change; this is no legal advice.",
    )
    page.heading("一、服务", "1. The service")
    page.item("服务提供者", "Provider", _filer(facts))
    _models(page, facts)
    page.heading("二、生成内容", "2. Generated content")
    page.say(
        "内容由人工智能生成，可能有误；使用者应自行核实，不得用于法律法规禁止的用途。",
        "Content is generated by AI and may be wrong: users check it, and do not use it for what "
        "the law forbids.",
    )
    _labels(page, facts)
    page.say(
        "使用者要求不添加显式标识的，自行承担标识义务；相关日志至少留存六个月。",
        "Who asks for output without a visible label takes over the duty to label it; logs of that "
        "are kept for six months at least.",
    )
    page.heading("三、内容审核", "3. Moderation")
    _moderation(page, facts)
    page.heading("四、数据", "4. Data")
    _kept(page, facts)
    page.say(
        "数据处理者见隐私政策所附清单。", "Who processes data is listed with the privacy notice."
    )
    page.heading("五、投诉与个人信息权利", "5. Complaints and personal data")
    page.say(
        f"个人信息权利请求在 {facts.request_days} 天内答复。",
        f"Requests about personal data are answered within {facts.request_days} days.",
    )
    page.ask("投诉受理方式、流程与反馈时限", "where complaints go, how and within which time")
    page.heading("六、费用、责任与争议", "6. Fees, liability, disputes")
    page.ask(
        "费用、责任限制、适用法律与争议解决", "fees, liability, the law that applies, disputes"
    )


def _processor_list(page: _Document, facts: TemplateFacts) -> None:
    page.title("隐私政策附件：数据处理者清单（草稿）", "Privacy notice: who processes data (draft)")
    page.say(f"按 {facts.day} 的配置列出。", f"As configured on {facts.day}.")
    _processors(page, facts)
    for one in facts.processors:
        page.heading(cell(one.name), cell(one.name))
        page.item("接收方名称与联系方式", "name and contact of the recipient", "")
        page.item(
            "处理目的", "purpose",
            page.words("生成回答", "to generate answers") if one.serves
            else page.words("内容审核", "to moderate content"),
        )  # fmt: skip
        page.item("个人信息种类", "kinds of personal data", "")
        page.item("合同编号与期限", "contract and its term", "")
        if one.zone == "abroad":
            page.item("出境的合法性基础", "legal basis of the transfer abroad", "")


def _notice(page: _Document, facts: TemplateFacts) -> None:
    page.title("用户须知（草稿）", "Notice to users (draft)")
    if facts.notice_zh:
        page.say(facts.notice_zh, facts.notice_en)
    without = [one.name for one in facts.models if not one.number and one.kind == "chat"]
    if without:
        names = cell(", ".join(without))
        page.ask(
            f"下列模型的备案号或上线编号：{names}", f"filing or registration numbers of {names}"
        )
    _labels(page, facts)
    page.say(
        "请勿输入他人的个人信息、商业秘密或国家秘密。",
        "Do not enter other people's personal data, business secrets or state secrets.",
    )
    _kept(page, facts)
    page.ask("投诉举报渠道与时限", "where complaints go, and within which time they are answered")
    page.ask("未成年人使用说明", "what holds for minors")


_WRITERS: Mapping[TemplateName, Callable[[_Document, TemplateFacts], None]] = {
    "algorithm-assessment": _assessment,
    "service-agreement": _agreement,
    "processors": _processor_list,
    "user-notice": _notice,
}


def _filer(facts: TemplateFacts) -> str:
    return next((one.filer for one in facts.filings if one.filer), "")


def _models(page: _Document, facts: TemplateFacts) -> None:
    if not facts.models:
        page.ask("所提供的模型", "the models that are served")
        return
    heads = (("模型", "Model"), ("类型", "Kind"), ("上游", "Upstreams"), ("备案号", "Number"))
    page.table(heads, [(one.name, one.kind, ", ".join(one.upstreams), one.number)
                       for one in facts.models])  # fmt: skip


def _processors(page: _Document, facts: TemplateFacts) -> None:
    if not facts.processors:
        page.ask("数据处理者", "who processes data")
        return
    heads = (("名称", "Name"), ("供应商", "Vendor"), ("地址", "Host"), ("地域", "Region"),
             ("数据区域", "Zone"), ("模型", "Models"))  # fmt: skip
    page.table(heads, [(*one[:5], ", ".join(one.serves)) for one in facts.processors])


def _moderation(page: _Document, facts: TemplateFacts) -> None:
    if not facts.policies:
        page.ask("内容审核措施：没有启用的审核策略", "moderation: no policy is in force")
        return
    heads = (("策略", "Policy"), ("租户", "Tenant"), ("对象", "Audience"), ("方向", "Screens"),
             ("引擎", "Engines"), ("仅已备案模型", "Filed models only"),
             ("封禁违规用户", "Suspends offenders"))  # fmt: skip
    yes, no = page.words("是", "yes"), page.words("否", "no")
    page.table(heads, [
        (one.name, one.tenant or page.words("平台", "platform"), one.audience,
         ", ".join(one.directions), ", ".join(one.engines) or page.words("本地规则", "local rules"),
         yes if one.require_filed else no, yes if one.suspends else no)
        for one in facts.policies
    ])  # fmt: skip


def _labels(page: _Document, facts: TemplateFacts) -> None:
    if not facts.labels:
        page.ask("生成内容的标识方式：没有标识规则", "how content is labelled: there is no rule")
        return
    page.lines += [f"- {cell(one)}" for one in facts.labels]
    page.lines.append("")


def _kept(page: _Document, facts: TemplateFacts) -> None:
    days = facts.record_days
    page.say(
        f"调用记录不含输入与输出，留存{f' {days} 天' if days else '不设期限'}；"
        f"密码套件 {facts.crypto_suite}。",
        f"Records of calls, which have neither input nor output, are kept "
        f"{f'for {days} days' if days else 'without end'}; crypto suite {facts.crypto_suite}.",
    )
    if facts.kept:
        heads = (("范围", "Whose calls"), ("输入与输出的留存", "What is kept of what they say"))
        page.table(heads, list(facts.kept.items()))
    else:
        page.say("输入与输出的内容不留存。", "Nothing of what calls say is kept.")
