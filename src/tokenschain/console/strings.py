"""Catalogue of the console's texts: key -> (Chinese, English)."""

from __future__ import annotations

import re

from tokenschain.console.strings_access import ACCESS_STRINGS
from tokenschain.console.strings_compliance import COMPLIANCE_STRINGS
from tokenschain.console.strings_duties import DUTY_STRINGS
from tokenschain.console.strings_entry import ENTRY_STRINGS
from tokenschain.console.strings_moderation import MODERATION_STRINGS
from tokenschain.console.strings_money import MONEY_STRINGS
from tokenschain.console.strings_platform import PLATFORM_STRINGS
from tokenschain.console.strings_policies import POLICY_STRINGS
from tokenschain.console.strings_routing import ROUTING_STRINGS
from tokenschain.core.presentation import Language

STRINGS: dict[str, tuple[str, str]] = {
    # --- shell ---
    "app.tagline": ("中国算力，全球体验", "China compute, global developer experience"),
    "nav.build": ("构建", "Build"),
    "nav.scale": ("运行", "Scale"),
    "nav.overview": ("总览", "Overview"),
    "nav.playground": ("体验场", "Playground"),
    "nav.models": ("模型广场", "Models"),
    "nav.keys": ("API 密钥", "API keys"),
    "nav.calls": ("调用日志", "Calls"),
    "top.search": ("搜索调用 ID、密钥、模型、用户", "Find a call ID, key, model, user"),
    "top.theme": ("切换深浅色", "Dark or light"),
    "top.language": ("English", "中文"),
    "top.out": ("退出", "Sign out"),
    "top.menu": ("菜单", "Menu"),
    "top.skip": ("跳到正文", "Skip to content"),
    "top.zone": ("北京时间 UTC+8", "Beijing time, UTC+8"),
    "top.everything": ("全部租户", "All tenants"),
    "top.scope": ("租户与项目", "Tenant and project"),
    "scope.title": ("租户与项目", "Tenant and project"),
    "scope.sub": (
        "选择页面显示谁的数据；地址随之改变，可发给同事",
        "Choose whose data pages show; the address says it, and can be sent on",
    ),
    "scope.tenants": ("租户", "Tenants"),
    "scope.projects": ("项目", "Projects"),
    "scope.whole": ("整个租户", "The whole tenant"),
    "scope.none": ("没有可选的项目", "There are no projects to choose"),
    "scope.closed": ("已关闭", "closed"),
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
    "refused.link": (
        "登录链接已用过或已过期。在平台所在机器上运行 tokenschain credentials renew sign-in-link "
        "可生成新的。",
        "The sign-in link was used already, or is over. On the platform's machine, tokenschain "
        "credentials renew sign-in-link makes another.",
    ),
    "refused.title": ("请求被拒绝", "The request was refused"),
    # --- sign-in ---
    "sign_in.title": ("登录控制台", "Sign in to the console"),
    "sign_in.email": ("邮箱", "Email"),
    "sign_in.password": ("密码", "Password"),
    "sign_in.code": (
        "动态验证码或恢复码（已开启时填写）",
        "One-time or recovery code, if switched on",
    ),
    "sign_in.several": ("账号在多个租户", "Accounts in several tenants"),
    "sign_in.tenant": ("租户", "Tenant"),
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
    "sign_in.company_failed": (
        "企业账号登录没有完成；请重试，或联系管理员。",
        "Signing in with the company did not succeed; try again, or ask an administrator.",
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
    # --- first run ---
    "start.title": ("第一次调用", "The first call"),
    "start.sub": (
        "从第一个回答到应用接入；每一步都可跳过，顺序不限",
        "From a first answer to your application; each step can be skipped, in any order",
    ),
    "start.answer": ("得到第一个回答", "See a first answer"),
    "start.answer.what": (
        "在体验场提问，无需密钥与代码。",
        "Ask in the playground; it takes neither a key nor code.",
    ),
    "start.answer.open": ("打开体验场", "Open the playground"),
    "start.cloud.what": (
        "填入云厂商的 API 密钥：当场连通测试，通过后立即可用。",
        "Give a cloud's API key: it is tried there and then, and serves when it works.",
    ),
    "start.cloud.done": ("已接入上游", "There is an upstream already"),
    "start.key": ("创建密钥", "Create a key"),
    "start.key.what": (
        "应用凭密钥调用；密钥只显示一次，并附可复制的代码。",
        "Applications call with a key; it is shown once, with code to copy.",
    ),
    "start.key.done": ("已有可用的密钥", "There is a key already"),
    "start.call": ("发起调用", "Call"),
    "start.call.what": (
        "OpenAI SDK 只需更换 base_url；可调用的模型：",
        "The OpenAI SDK needs another base_url, no more; models that can be called:",
    ),
    "start.see": ("查看经过", "See what happened"),
    "start.see.what": (
        "调用日志显示上游、时延、tokens 与费用。",
        "The log of calls shows upstream, latency, tokens and cost.",
    ),
    "start.see.done": ("过去 24 小时已有调用", "There were calls within 24 hours"),
    "start.open": ("打开", "Open"),
    # --- connect a cloud ---
    "connect.title": ("接入一家云", "Connect a cloud"),
    "connect.sub": (
        "密钥加密保存，先测试后生效；测试不通过则不作任何更改",
        "The key is stored sealed and tried first; where a test fails, nothing is changed",
    ),
    "connect.provider": ("云厂商", "Cloud"),
    "connect.custom": ("其他（兼容 OpenAI 接口）", "Another (OpenAI-compatible)"),
    "connect.key": ("该云的 API 密钥", "API key of that cloud"),
    "connect.key.kept": (
        "加密存于平台，不再显示；测试会产生约 10 个 tokens 的费用。",
        "It is sealed and never shown again; the test costs some 10 tokens.",
    ),
    "connect.more": ("地址、模型与名称", "Address, models and name"),
    "connect.base_url": (
        "地址（留空用目录中的，含版本，如 https://host/v1）",
        "Address (empty: the catalog's; with the version, as https://host/v1)",
    ),
    "connect.mend.key": (
        "在“该云的 API 密钥”中填写在该云有效的密钥；部分厂商各地域的密钥不同",
        "type a key that is valid there in `API key of that cloud`; some vendors have keys for "
        "each region",
    ),
    "connect.mend.models": (
        "在“模型”中填写目录有价格的模型，或留空；其他模型先由平台管理员设置价格",
        "in `Models` name some that the catalog has a price for, or none; others need `prices`, "
        "which the platform's administrator sets",
    ),
    "connect.models.unpriced": (
        "目录中没有价格的模型不能在此接入：由平台管理员在上游的 `prices` 中定价"
        "（设置文件，或 tokenschain apply）。",
        "A model without a price in the catalog is not connected here: the platform's "
        "administrator sets it in `prices` of the upstream (settings file, or tokenschain apply).",
    ),
    "connect.models": (
        "模型（留空为目录中的全部，以空格分隔）",
        "Models (empty: all of the catalog; separated by spaces)",
    ),
    "connect.name": ("上游名称（留空则用厂商名）", "Name of the upstream (empty: the cloud's)"),
    "connect.submit": ("测试并接入", "Test and connect"),
    "connect.refused": ("没有接入", "It was not connected"),
    "connect.not_added": (
        "测试未通过，没有接入，密钥未保留。",
        "A test failed: nothing was connected, and the key was not kept.",
    ),
    "connect.step.credential": ("密钥", "Key"),
    "connect.step.connection": ("连接", "Connection"),
    "connect.step.models": ("模型列表", "List of models"),
    "connect.step.call": ("试调用", "A small call"),
    "connect.ok": ("通过", "passed"),
    "connect.failed": ("未通过", "failed"),
    "connect.skipped": ("未测", "left out"),
    "connect.done": ("已接入", "Connected"),
    "connect.served": ("新增可用模型", "Models served from now on"),
    "connect.no_new": (
        "没有新增模型名：已有模型多了一个上游。",
        "No new names: models that were there have one more upstream.",
    ),
    "connect.next": ("继续", "Go on"),
    # --- playground ---
    "play.title": ("体验场", "Playground"),
    "play.sub": (
        "与线上同一条链路：路由、缓存、限额与计费都真实发生",
        "The same path as production: routing, cache, limits and charges are real",
    ),
    "play.talk": ("对话", "Conversation"),
    "play.fresh": ("新对话", "New conversation"),
    "play.no_script": (
        "体验场需要浏览器启用 JavaScript；其他页面不需要。",
        "The playground needs JavaScript; the other pages do without.",
    ),
    "play.empty": ("问点什么，或选一个开始", "Ask something, or begin with one of these"),
    "play.suggest1": (
        "用三句话解释什么是语义缓存，以及何时不该用",
        "Explain a semantic cache in three sentences, and when not to use one",
    ),
    "play.suggest2": (
        "写一个 Python 函数：按指数退避重试 HTTP 请求",
        "Write a Python function that retries an HTTP request with exponential backoff",
    ),
    "play.suggest3": (
        "把「订单已发出，预计周三送达」译成英文与日文，用表格列出",
        "Translate “Your order has shipped and arrives on Wednesday” into Chinese and "
        "Japanese, as a table",
    ),
    "play.ask": ("输入问题，Enter 发送，Shift+Enter 换行", "Ask; Enter sends, Shift+Enter breaks"),
    "play.you": ("提问", "You"),
    "play.send": ("发送", "Send"),
    "play.stop": ("停止", "Stop"),
    "play.stopped": ("已停止", "Stopped"),
    "play.again": ("重试", "Try again"),
    "play.thinking": ("思考过程", "Thinking"),
    "play.broken": ("回答中断，没有结束标记", "The answer broke off before its end"),
    "play.provider": ("上游", "Upstream"),
    "play.speed": ("输出速度", "Speed"),
    "play.hello": ("打个招呼。", "Say hello."),
    "play.params": ("参数", "Parameters"),
    "play.compare": ("并排比较", "Compare side by side"),
    "play.lane": ("模型 {n}", "Model {n}"),
    "play.no_lane": ("不比较", "none"),
    "play.temperature": ("温度", "Temperature"),
    "play.max_tokens": ("最多输出 tokens", "Most output tokens"),
    "play.cache": ("使用缓存", "Use the cache"),
    "play.system": ("系统提示词", "System prompt"),
    "play.system.none": ("留空则不发送", "Empty: none is sent"),
    "play.code": ("代码", "Code"),
    "play.language": ("语言", "Language"),
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
    "tile.availability": ("可用性", "Availability"),
    "tile.availability.hint": (
        "平台或上游失败 {n} 次",
        "{n} failed by platform or upstream",
    ),
    "tile.cache": ("缓存命中率", "Cache hits"),
    "tile.cache.saved": ("节省 {amount}", "{amount} saved"),
    "tile.failed": ("失败调用", "Failed calls"),
    "overview.by_model": ("按模型的费用", "Cost by model"),
    "overview.by_day": ("每日，北京时间", "Daily, Beijing time"),
    "overview.by_hour": ("每小时，北京时间", "Hourly, Beijing time"),
    "overview.first_token": ("首个 token", "First token"),
    "overview.first_token.sub": (
        "近 24 小时，每半小时；由上游回答的调用。满 200 次才有 p99",
        "The last 24 hours, each half hour; calls that an upstream answered. p99 from 200 calls on",
    ),
    "overview.goal": ("目标 {goal}", "Goal {goal}"),
    "overview.warnings": ("另有 {n} 条", "{n} more"),
    "overview.see_alerts": ("查看告警", "See alerts"),
    "overview.table": ("以表格查看", "View as a table"),
    "overview.total": ("合计", "Total"),
    "overview.other": ("其他", "Other"),
    "overview.no_cost": ("这段时间没有费用", "No cost in this range"),
    "overview.live": ("实时调用", "Live calls"),
    "overview.live.sub": ("自动更新", "Updates by itself"),
    "overview.pause": ("暂停", "Pause"),
    "overview.resume": ("继续", "Resume"),
    "overview.all": ("查看全部", "See all"),
    "overview.first": ("还没有调用", "There are no calls yet"),
    "overview.first.next": (
        "创建一把密钥，复制示例代码；第一次调用会出现在这里。",
        "Create a key and copy the sample code; the first call appears here.",
    ),
    "overview.make_key": ("创建密钥", "Create a key"),
    # --- keys ---
    "keys.title": ("API 密钥", "API keys"),
    "keys.sub": (
        "应用用密钥调用模型；密钥只在创建时显示一次",
        "Applications call models with a key; it is shown once, when it is made",
    ),
    "keys.create": ("创建密钥", "Create a key"),
    "keys.name": ("名称", "Name"),
    "keys.prefix": ("密钥", "Key"),
    "keys.place": ("项目 / 环境", "Project / environment"),
    "keys.scope": ("范围", "Scope"),
    "keys.every_model": ("全部模型", "All models"),
    "keys.n_models": ("{n} 个模型", "models: {n}"),
    "keys.n_networks": ("{n} 个网段", "networks: {n}"),
    "keys.last_used": ("最近使用", "Last used"),
    "keys.never": ("从未", "never"),
    "keys.expires": ("到期", "Expires"),
    "keys.no_end": ("不过期", "never"),
    "keys.state": ("状态", "State"),
    "keys.state.active": ("可用", "Active"),
    "keys.state.ending": ("轮换中", "Rotating out"),
    "keys.state.expired": ("已过期", "Expired"),
    "keys.state.revoked": ("已撤销", "Revoked"),
    "keys.revoke": ("撤销", "Revoke"),
    "keys.action": ("操作", "Action"),
    "keys.none": ("还没有密钥", "There are no keys yet"),
    "keys.none.next": (
        "创建第一把密钥，即可用 OpenAI SDK 调用。",
        "Create the first; the OpenAI SDK can call with it.",
    ),
    "keys.tenant": ("租户", "Tenant"),
    "keys.project": ("项目", "Project"),
    "keys.environment": ("环境", "Environment"),
    "keys.models": (
        "允许的模型（留空为全部，以空格分隔）",
        "Models it may use (empty: all; separated by spaces)",
    ),
    "keys.networks": (
        "允许的网段（留空为任意，如 10.0.0.0/8）",
        "Networks it may be used from (empty: any; as 10.0.0.0/8)",
    ),
    "keys.until": ("有效至（北京时间当日结束）", "Valid to the end of (Beijing time)"),
    "keys.cancel": ("取消", "Cancel"),
    "keys.refused": ("没有创建", "It was not made"),
    "keys.created": ("密钥已创建", "The key is made"),
    "keys.created.next": (
        "现在复制并妥善保存；离开本页后无法再次查看。",
        "Copy it now and keep it safe; after this page it cannot be shown again.",
    ),
    "keys.copy": ("复制密钥", "Copy the key"),
    "keys.copied": ("已复制", "Copied"),
    "keys.try": ("试一次调用", "Try a call"),
    "keys.done": ("完成", "Done"),
    "keys.revoke.title": ("撤销密钥", "Revoke a key"),
    "keys.revoke.what": (
        "这 1 把密钥将在 1 秒内于所有网关停用，无法恢复；正在进行的调用会完成。",
        "This 1 key stops at all gateways within 1 second, for good; calls that run are finished.",
    ),
    "keys.revoke.type": ("输入名称以确认：{name}", "Type the name to confirm: {name}"),
    "keys.not_the_name": (
        "输入的名称不一致，未做任何更改。",
        "That is not its name; nothing was changed.",
    ),
    "keys.changed": (
        "密钥在打开本页之后被他人修改，未撤销；下面是最新内容。",
        "The key was changed since this page was opened, and not revoked; this is how it is now.",
    ),
    "keys.not_revoked": ("没有撤销", "It was not revoked"),
    # --- models ---
    "models.title": ("模型广场", "Models"),
    "models.sub": (
        "{n} 个模型可调用；名称即请求中的 model",
        "Models that can be called: {n}; the name is what requests say as model",
    ),
    "models.find": ("搜索模型", "Search models"),
    "models.every_kind": ("全部类型", "All kinds"),
    "models.kind.chat": ("对话", "Chat"),
    "models.kind.embedding": ("向量", "Embedding"),
    "models.by": ("提供方 {name}", "by {name}"),
    "models.context": ("上下文 {n}", "Context {n}"),
    "models.offers": ("{n} 个上游", "Upstreams: {n}"),
    "models.price": ("价格", "Price"),
    "models.price.unknown": ("价格未定", "No price is known"),
    "models.price.from": ("按上游计费", "by upstream"),
    "models.try": ("体验", "Try"),
    "models.per_million": ("每百万 tokens，输入 + 输出", "per million tokens, in + out"),
    "models.more": ("另有 {n} 个", "{n} more"),
    "models.copy": ("复制名称", "Copy the name"),
    "models.copied": ("已复制", "Copied"),
    "models.calls": ("看调用", "See calls"),
    "models.none": ("没有匹配的模型", "No model matches"),
    "model.first_token": ("首 token", "First token"),
    "model.total": ("总耗时", "Whole answer"),
    "model.uptime": ("可用率", "Uptime"),
    "model.failed": ("失败 {n}", "Failed: {n}"),
    "model.basis": ("不含缓存命中", "Without what the cache answered"),
    "model.measured": ("实测", "As measured"),
    "model.by_time": ("按时间", "By time"),
    "model.since": ("自 {at} 起统计", "Counted since {at}"),
    "model.none": ("近 24 小时没有调用", "There were no calls in the last 24 hours"),
    "model.code": ("代码", "Code"),
    "model.hello": ("写一句问候", "Write a greeting"),
    "search.title": ("搜索", "Search"),
    "search.sub": (
        "调用按 ID，其余按名称或 ID；每类最多十个",
        "Calls by their ID, all else by name or ID; ten of each kind at most",
    ),
    "search.do": ("搜索", "Search"),
    "search.none": ("没有找到", "Nothing was found"),
    "search.none.next": (
        "只搜索有权查看的内容；调用需输入完整 ID。",
        "What may not be seen is not searched; a call needs its whole ID.",
    ),
    "search.kind": ("类型", "Kind"),
    "search.name": ("名称", "Name"),
    "search.tenant": ("租户", "Tenant"),
    "search.id": ("ID", "ID"),
    "search.of.call": ("调用", "Call"),
    "search.of.key": ("密钥", "Key"),
    "search.of.user": ("用户", "User"),
    "search.of.model": ("模型", "Model"),
    "search.of.upstream": ("上游", "Upstream"),
    "search.of.virtual_model": ("虚拟模型", "Virtual model"),
    "search.of.unit": ("组织", "Organisation"),
    "models.clear": ("清除筛选", "Clear the filters"),
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
    "outcome.limited": ("受限", "Limited"),
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
    "calls.all.model": ("全部模型", "All models"),
    "calls.all.upstream": ("全部上游", "All upstreams"),
    "calls.all.key_id": ("全部密钥", "All keys"),
    "calls.all.tag": ("全部标签", "All tags"),
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
    "call.attempts": ("{n} 次尝试", "Attempts: {n}"),
    **MODERATION_STRINGS,
    **POLICY_STRINGS,
    **MONEY_STRINGS,
    **ROUTING_STRINGS,
    **ACCESS_STRINGS,
    **COMPLIANCE_STRINGS,
    **DUTY_STRINGS,
    **ENTRY_STRINGS,
    **PLATFORM_STRINGS,
}
"""A key is named by its page; both texts have the same placeholders."""


def translate(key: str, language: Language, **values: object) -> str:
    """A text in a language.

    Raises:
        KeyError: there is no such text.
    """
    chinese, english = STRINGS[key]
    text = chinese if language == "zh" else english
    if not values:
        return text
    return text.format(**{name: _apart(value) for name, value in values.items()})


_TURNING = re.compile("[\u0590-\u08ff\u200e\u200f\u202a-\u202e\u2066-\u2069\ufb1d-\ufefc]")
"""Letters and signs that change in which direction what stands after them is read."""
_APART, _REST = "\u2068", "\u2069"


def _apart(value: object) -> object:
    """Within a sentence, a text in another direction turns nothing but itself (UAX 9, isolates)."""
    if isinstance(value, str) and _TURNING.search(value):
        return f"{_APART}{value}{_REST}"
    return value
