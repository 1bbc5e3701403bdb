"""Catalogue of the console's texts: key -> (Chinese, English)."""

from __future__ import annotations

from tokenschain.core.presentation import Language

STRINGS: dict[str, tuple[str, str]] = {
    # --- shell ---
    "app.tagline": ("中国算力，全球体验", "China compute, global developer experience"),
    "nav.build": ("构建", "Build"),
    "nav.scale": ("运行", "Scale"),
    "nav.overview": ("总览", "Overview"),
    "nav.calls": ("调用日志", "Calls"),
    "top.search": ("按调用 ID 查找", "Find a call by its ID"),
    "top.theme": ("切换深浅色", "Dark or light"),
    "top.language": ("English", "中文"),
    "top.out": ("退出", "Sign out"),
    "top.menu": ("菜单", "Menu"),
    "top.skip": ("跳到正文", "Skip to content"),
    "top.zone": ("北京时间 UTC+8", "Beijing time, UTC+8"),
    "top.everything": ("全部租户", "All tenants"),
    "top.scope": ("租户与项目", "Tenant and project"),
    # --- states ---
    "state.failed": ("这一部分没有读到", "This part could not be read"),
    "state.forbidden": ("没有权限", "No permission"),
    "state.forbidden.next": (
        "请管理员授予上述权限；其他页面照常可用。",
        "An administrator can grant what is named above; other pages work.",
    ),
    "state.timeout": ("接口在 3 秒内没有回应", "No answer within 3 seconds"),
    "state.next": (
        "其他部分不受影响；稍后刷新本页。",
        "The other parts are not affected; reload the page in a while.",
    ),
    "state.request": ("请求 ID", "Request ID"),
    "state.missing": ("没有这个页面", "There is no such page"),
    "state.missing.next": (
        "地址可能写错，或页面已移走。",
        "The address may be mistyped, or the page has moved.",
    ),
    "state.home": ("回到总览", "Go to the overview"),
    "refused.method": ("这里不支持该请求方法", "This method is not supported here"),
    "refused.host": (
        "控制台在这个地址不可用。请用 HTTPS 地址（设置 control.public_url），或在本机用 "
        "127.0.0.1 打开。",
        "The console is not served at this address. Use its HTTPS address (the setting "
        "control.public_url), or open it on this machine at 127.0.0.1.",
    ),
    "refused.foreign": (
        "表单不是从控制台页面提交的，已拒绝，未做任何更改。",
        "The form was not sent by a page of the console: it was refused, and nothing changed.",
    ),
    "refused.form": ("表单过大或不完整", "The form is too large or not complete"),
    "refused.title": ("请求被拒绝", "The request was refused"),
    # --- sign-in ---
    "sign_in.title": ("登录控制台", "Sign in to the console"),
    "sign_in.email": ("邮箱", "Email"),
    "sign_in.password": ("密码", "Password"),
    "sign_in.code": (
        "动态验证码或恢复码（已开启时填写）",
        "One-time or recovery code, if switched on",
    ),
    "sign_in.submit": ("登录", "Sign in"),
    "sign_in.company": ("使用企业账号登录", "Sign in with your company"),
    "sign_in.invalid_login": (
        "邮箱、密码或验证码不对。多次失败后需等待一段时间再试。",
        "Email, password or code is wrong. After several failures, wait a while before trying "
        "again.",
    ),
    "sign_in.account_locked": (
        "失败次数过多，请稍后再试。",
        "There were too many failures; try again later.",
    ),
    "sign_in.overloaded": (
        "此刻登录的人较多，几秒后再试。",
        "Many sign in at this moment; try again in a few seconds.",
    ),
    "sign_in.timeout": (
        "登录服务没有及时回应，稍后再试。",
        "The sign-in did not answer in time; try again later.",
    ),
    "sign_in.pitch": ("一个接口，接入全国模型与算力", "One API for China's models and compute"),
    "sign_in.point1": (
        "按时延、价格、负载与可用性，为每次调用逐一择优",
        "Every call goes to the best by latency, price, load and availability",
    ),
    "sign_in.point2": (
        "5 秒内自动切换，语义缓存降低费用",
        "Failover within 5 seconds; the semantic cache lowers the cost",
    ),
    "sign_in.point3": (
        "逐次计量与账本一致，更改皆有审计",
        "Every call is metered to the ledger, every change audited",
    ),
    # --- overview ---
    "overview.title": ("总览", "Overview"),
    "overview.sub.24h": (
        "过去 24 小时，与前一日同时段相比",
        "The last 24 hours, against the same hours of the day before",
    ),
    "overview.sub.7d": ("过去 7 天，与再前 7 天相比", "The last 7 days, against the 7 before"),
    "overview.sub.30d": ("过去 30 天，与再前 30 天相比", "The last 30 days, against the 30 before"),
    "overview.range": ("时间范围", "Time range"),
    "range.24h": ("24 小时", "24 hours"),
    "range.7d": ("7 天", "7 days"),
    "range.30d": ("30 天", "30 days"),
    "tile.calls": ("调用次数", "Calls"),
    "tile.cost": ("费用", "Cost"),
    "tile.success": ("成功率", "Success"),
    "tile.failed": ("失败调用", "Failed calls"),
    "overview.by_model": ("按模型的费用", "Cost by model"),
    "overview.by_day": ("每日，北京时间", "Daily, Beijing time"),
    "overview.by_hour": ("每小时，北京时间", "Hourly, Beijing time"),
    "overview.table": ("以表格查看", "View as a table"),
    "overview.total": ("合计", "Total"),
    "overview.other": ("其他", "Other"),
    "overview.no_cost": ("这段时间没有费用", "No cost in this range"),
    "overview.live": ("实时调用", "Live calls"),
    "overview.live.sub": ("每 2 秒更新", "Every 2 seconds"),
    "overview.pause": ("暂停", "Pause"),
    "overview.resume": ("继续", "Resume"),
    "overview.all": ("查看全部", "See all"),
    "overview.first": ("还没有调用", "There are no calls yet"),
    "overview.first.next": (
        "创建一把密钥，复制示例代码；第一次调用会出现在这里。",
        "Make a key and copy the sample code; the first call appears here.",
    ),
    "overview.make_key": ("创建密钥", "Make a key"),
    # --- calls ---
    "column.time": ("时间", "Time"),
    "column.model": ("模型", "Model"),
    "column.upstream": ("上游", "Upstream"),
    "column.outcome": ("结果", "Outcome"),
    "column.first_token": ("首 token", "First token"),
    "column.latency": ("总时延", "Latency"),
    "column.tokens": ("Tokens（入 → 出）", "Tokens (in → out)"),
    "column.cost": ("费用", "Cost"),
    "outcome.ok": ("成功", "OK"),
    "outcome.cached": ("缓存命中", "Cached"),
    "outcome.rescued": ("切换后成功", "Rescued"),
    "outcome.failed": ("失败", "Failed"),
    "outcome.limited": ("限流", "Limited"),
    "outcome.blocked": ("拦截", "Blocked"),
    "column.key": ("密钥", "Key"),
    "calls.title": ("调用日志", "Calls"),
    "calls.sub": (
        "每次调用的经过、费用与原因",
        "What happened in each call, what it cost and why",
    ),
    "calls.range": ("时间范围", "Time range"),
    "range.1h": ("1 小时", "1 hour"),
    "calls.all_results": ("全部结果", "All outcomes"),
    "calls.model": ("模型", "Model"),
    "calls.upstream": ("上游", "Upstream"),
    "calls.key": ("密钥 ID", "Key ID"),
    "calls.tag": ("标签，如 team=search", "Tag, as team=search"),
    "calls.filter": ("筛选", "Filter"),
    "calls.none": ("没有符合条件的调用", "No call matches"),
    "calls.none.next": (
        "放宽筛选，或换一个时间范围。",
        "Widen the filters, or choose another range.",
    ),
    "calls.clear": ("清除筛选", "Clear the filters"),
    "calls.shown": ("显示 {n} 条", "{n} shown"),
    "calls.older": ("更早的", "Earlier"),
    "calls.newest": ("回到最新", "Back to the latest"),
    "call.title": ("调用详情", "Call"),
    "call.close": ("关闭", "Close"),
    "call.copy": ("复制", "Copy"),
    "call.copied": ("已复制", "Copied"),
    "call.gone": ("没有这条调用", "There is no such call"),
    "call.gone.next": (
        "ID 可能写错；也可能已过保存期，或属于别的租户。",
        "The ID may be mistyped, the call past its retention, or another tenant's.",
    ),
    "call.tried": ("尝试经过", "Attempts"),
    "call.tried.sub": (
        "从网关收到请求起计时",
        "Timed from when the gateway got the request",
    ),
    "call.wait": ("等待首 token", "waiting for the first token"),
    "call.stream": ("输出", "streaming"),
    "call.fail": ("失败", "failed"),
    "call.none_tried": ("未到达上游", "It never reached an upstream"),
    "call.cache_hit": (
        "由缓存直接返回，未占用上游",
        "Answered from the cache; no upstream was used",
    ),
    "call.saved": ("节省 {amount}", "{amount} saved"),
    "call.why": ("为何选它", "Why this one"),
    "call.expected": ("预计首 token", "Expected first token"),
    "call.load": ("负载", "Load"),
    "call.goal": ("达到目标", "Meets the goal"),
    "call.yes": ("是", "yes"),
    "call.no": ("否", "no"),
    "call.usage": ("用量与费用", "Tokens and cost"),
    "call.prompt": ("输入 tokens", "Input tokens"),
    "call.cached": ("其中上游缓存", "of them cached upstream"),
    "call.completion": ("输出 tokens", "Output tokens"),
    "call.reasoning": ("其中推理", "of them reasoning"),
    "call.charge": ("费用（精确）", "Cost, exact"),
    "call.estimated": ("用量为估算", "estimated usage"),
    "call.ids": ("标识", "Identifiers"),
    "call.place": ("项目与环境", "Project and environment"),
    "call.id": ("调用 ID", "Call ID"),
    "call.trace": ("链路 ID", "Trace ID"),
    "call.tags": ("标签", "Tags"),
    "call.from_cache": ("缓存", "Cache"),
    "call.attempts": ("{n} 次尝试", "{n} attempts"),
}
"""A key is named by its page; both texts have the same placeholders."""


def translate(key: str, language: Language, **values: object) -> str:
    """A text in a language.

    Raises:
        KeyError: there is no such text.
    """
    chinese, english = STRINGS[key]
    text = chinese if language == "zh" else english
    return text.format(**values) if values else text
