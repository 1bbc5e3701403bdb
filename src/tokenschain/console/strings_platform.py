"""Texts of the pages of the platform's people: system, tenants and the night view."""

from __future__ import annotations

PLATFORM_STRINGS: dict[str, tuple[str, str]] = {
    "nav.platform": ("平台", "Platform"),
    "nav.tenants": ("租户", "Tenants"),
    "nav.system": ("系统", "System"),
    "nav.night": ("夜间值守", "Night view"),
    # --- system ---
    "system.title": ("系统", "System"),
    "system.sub": ("网关、控制面与账本的状态", "State of gateways, control and the ledger"),
    "system.well": ("一切正常", "All is well"),
    "system.bad": ("{n} 个问题正在影响调用", "Problems that affect calls: {n}"),
    "system.look": ("{n} 处需要留意", "Things to look at: {n}"),
    "system.since": ("自 {time}", "since {time}"),
    "system.unread": ("状态未知", "The state is not known"),
    "system.do": ("处理", "What to do"),
    "system.runbook": ("手册", "Runbook"),
    "system.gateways": ("网关", "Gateways"),
    "system.gateway": ("网关", "Gateway"),
    "system.version": ("版本", "Version"),
    "system.revision": ("配置版本", "Revision"),
    "system.heard": ("最近报告", "Heard"),
    "system.journal": ("日志积压", "Journal"),
    "system.lag": ("滞后", "Lag"),
    "system.keys": ("被拒密钥", "Refused keys"),
    "system.control": ("控制面", "Control"),
    "system.database": ("数据库", "Database"),
    "system.migration": ("迁移", "Migration"),
    "system.published": ("已发布配置", "Published revision"),
    "system.records": ("调用记录（启动以来）", "Call records since the start"),
    "system.received": ("收到", "received"),
    "system.entered": ("入账", "entered"),
    "system.rejected": ("搁置", "set aside"),
    "system.semantic": ("语义缓存进程", "Semantic process"),
    "system.upstreams": ("上游", "Upstreams"),
    "system.last20": ("最近尝试（成功 / 失败）", "Last attempts (ok / failed)"),
    "system.up": ("正常", "Up"),
    "system.down": ("故障", "Down"),
    "system.quiet": ("近期无调用", "No recent calls"),
    # --- concerns ---
    "concern.migration": (
        "数据库迁移为 {have}，程序需要 {latest}",
        "The database is at migration {have}, the program knows {latest}",
    ),
    "concern.do.migration": ("重启控制面，它会自动迁移", "Restart control: it migrates"),
    "concern.unpublished": (
        "已发布配置 {published}，数据库中为 {revision}",
        "Revision {published} is published, the database has {revision}",
    ),
    "concern.do.unpublished": (
        "查看控制面日志中的 publish_failed",
        "Look at control's log for publish_failed",
    ),
    "concern.rejected": ("{n} 条调用记录未能入账", "Call records that were not entered: {n}"),
    "concern.do.rejected": (
        "用 tokenschain records list 查看原因，补录或放弃",
        "tokenschain records list says why; enter them again, or give them up",
    ),
    "concern.semantic": ("语义缓存进程 {address} 无应答", "Semantic process {address} is silent"),
    "concern.do.semantic": (
        "调用照常，由上游回答；查看该进程日志",
        "Calls go on, answered by upstreams; look at that process' log",
    ),
    "concern.no_gateway": ("没有网关在报告", "No gateway reports"),
    "concern.do.no_gateway": (
        "启动网关；已在运行则检查它到控制面的网络",
        "Start one; where it runs, look at the network between it and control",
    ),
    "concern.silent": ("网关 {name} 失去联系", "Gateway {name} is silent"),
    "concern.do.silent": (
        "它已停止，或连不上控制面：查看其日志；其他网关继续服务",
        "It ended, or cannot reach control: look at its log; other gateways serve",
    ),
    "concern.refused_revision": (
        "网关 {name} 不能使用配置 {revision}：{reason}",
        "Gateway {name} cannot use revision {revision}: {reason}",
    ),
    "concern.do.refused_revision": (
        "在「版本」页回滚，或将网关升级到控制面的版本",
        "Roll the revision back, or bring the gateway to control's version",
    ),
    "concern.version": (
        "网关 {name} 的版本为 {version}，控制面为 {own}",
        "Gateway {name} is of version {version}, control of {own}",
    ),
    "concern.do.version": ("以同一版本重启", "Restart it with the same version"),
    "concern.unheard": (
        "网关 {name} 收不到控制面的配置",
        "Gateway {name} hears nothing of control",
    ),
    "concern.do.unheard": (
        "调用按现有配置继续；检查两者之间的网络",
        "Calls go on with what it has; look at the network between them",
    ),
    "concern.journal": (
        "网关 {name} 的日志积压 {share}",
        "The journal of gateway {name} is {share} full",
    ),
    "concern.do.journal": (
        "恢复控制面与数据库；积满后调用将被拒绝",
        "Let control and its database run; when it is full, calls are refused",
    ),
    "concern.lost": ("网关 {name} 连不上 {what}：{why}", "Gateway {name} lost {what}: {why}"),
    "concern.do.lost": (
        "调用继续，限额按均分计算；恢复该服务",
        "Calls go on with equal shares of limits; bring that service back",
    ),
    "concern.refused_key": (
        "密钥 {key}（{tenant}）仍在使用但被拒 {n} 次",
        "Key {key} ({tenant}) is in use and was refused: {n}",
    ),
    "concern.do.refused_key": (
        "告知其所有者更换密钥",
        "Tell its owner to change the key",
    ),
    "concern.down": ("上游 {name} 故障：{why}", "Upstream {name} is down: {why}"),
    "concern.do.down": (
        "调用已切换到其他上游；在「路由与上游」页测试或下线",
        "Calls go to other upstreams; test or drain it on the page of routing",
    ),
    "concern.failing": (
        "上游 {name} 最近 {tried} 次尝试失败 {failed} 次：{why}",
        "Upstream {name} failed {failed} of its last {tried} attempts: {why}",
    ),
    "concern.do.failing": (
        "失败的调用已切换；查看错误并测试该上游",
        "Failed attempts went elsewhere; read the error and test the upstream",
    ),
    "concern.variable": (
        "上游 {name} 的凭据变量 {variable} 在 {places} 未设置",
        "Credential variable {variable} of upstream {name} is not set at {places}",
    ),
    "concern.do.variable": (
        "改为把密钥存入平台，或设置变量后重启网关",
        "Store the key in the platform, or set the variable and restart the gateway",
    ),
    # --- tenants ---
    "tenants.title": ("租户", "Tenants"),
    "tenants.sub": ("本月的调用、费用与告警", "Calls, spend and alerts of this month"),
    "tenants.none": ("还没有租户", "There are no tenants yet"),
    "tenants.none.next": ("在「组织」页新建。", "Make one on the page of the organisation."),
    "tenants.calls": ("本月调用", "Calls this month"),
    "tenants.failed": ("失败", "Failed"),
    "tenants.spent": ("本月费用", "Spend this month"),
    "tenants.credit": ("信用额度", "Credit line"),
    "tenants.alerts": ("未结告警", "Open alerts"),
    "tenants.wallet": ("钱包", "Wallet"),
    # --- night ---
    "night.title": ("夜间值守", "Night view"),
    "night.well": ("一切正常，可以休息", "All is well"),
    "night.alerts": ("未结告警", "Open alerts"),
    "night.models": ("模型，近两小时", "Models, the last two hours"),
    "night.failed_of": ("{calls} 次中失败 {failed}", "{failed} of {calls} failed"),
    "night.updated": ("更新于 {time}", "As of {time}"),
    "night.back": ("返回控制台", "Back to the console"),
}
