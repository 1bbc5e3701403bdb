"""Texts of the pages by which people come in: invitations and signing up."""

from __future__ import annotations

ENTRY_STRINGS: dict[str, tuple[str, str]] = {
    # --- inviting ---
    "people.invite": ("邀请人员", "Invite a person"),
    "people.first_account.invite": (
        "平台还没有账号：请先邀请平台的所有者（租户留空，角色为所有者）；其他人由所有者登录后邀请。",
        "The platform has no account yet: invite its owner first (no tenant, the role of the "
        "owner), who invites others once signed in.",
    ),
    "people.invite.sub": (
        "对方通过一次性链接自行设置密码，登录后即拥有所选角色",
        "They choose a password by a one-time link, and have the role from then on",
    ),
    "people.invite.name": ("姓名（留空由对方填写）", "Name (empty: they fill it in)"),
    "people.invite.send": ("发出邀请", "Invite"),
    "people.invite.again": ("重新邀请", "Invite again"),
    "people.invite.withdraw": ("撤回邀请", "Withdraw the invitation"),
    "people.invite.another": ("再邀请一人", "Invite another"),
    "people.not_invited": ("没有发出邀请", "Nobody was invited"),
    "people.invited": ("已邀请", "Invited"),
    "people.mail": ("邀请邮件", "Invitation mail"),
    "people.mail.waiting": ("等待邮件服务器接收", "Waits for the mail server"),
    "people.mail.retrying": (
        "邮件服务器尚未接收，系统会再次尝试",
        "The mail server has not taken it yet; it is tried again",
    ),
    "people.mail.failed": (
        "多次尝试后邮件服务器仍未接收。检查地址或邮件设置，然后重新邀请。",
        "The mail server did not take it after several tries. Check the address or the mail "
        "settings, then invite again.",
    ),
    "people.mail.failed.short": ("邮件未送出", "Mail not sent"),
    "people.confirmed": ("邮箱确认", "Address confirmed"),
    "people.confirmed.not": (
        "未确认：登录时须填写租户，若该邮箱另有已确认的账号",
        "Not confirmed: names the tenant at sign-in where the address has a confirmed account too",
    ),
    "people.invited.mailed": (
        "邮件正在发送，内含一次性链接；发送失败时会自动重试。",
        "A mail with a one-time link is on its way; where it does not arrive at once, it is tried "
        "again.",
    ),
    "people.invited.once": (
        "没有设置邮件服务器：链接只显示这一次，复制后交给对方。拿到链接的人即可设置密码。",
        "No mail server is set: the link is shown this once, to be handed over. Whoever has it "
        "chooses the password.",
    ),
    # --- coming in ---
    "entry.refused": ("无法继续", "This leads no further"),
    "entry.password": ("密码（12 个字符以上）", "Password (12 characters or more)"),
    "entry.not_done": (
        "没有完成：密码应为 12 到 200 个字符，姓名不能为空。",
        "It was not done: a password has 12 to 200 characters, and a name is needed.",
    ),
    "entry.rate_limit_exceeded": (
        "来自此网络的请求过多，一分钟后再试。",
        "Too many requests came from this network; try again in a minute.",
    ),
    "entry.overloaded": (
        "此刻请求较多，几秒后再试。",
        "Many come in at this moment; try again in a few seconds.",
    ),
    "entry.timeout": (
        "服务没有及时回应，稍后再试。",
        "There was no answer in time; try again later.",
    ),
    "invitation.title": ("接受邀请", "Accept the invitation"),
    "invitation.what": ("设置密码后加入租户", "Choose a password to join the tenant"),
    "invitation.what_platform": (
        "设置密码后加入平台团队",
        "Choose a password to join the platform's people",
    ),
    "invitation.accept": ("设置并登录", "Set and sign in"),
    "invitation.until": ("链接有效期至 {at}", "The link works until {at}"),
    "invitation.over": (
        "邀请链接已用过、已撤回或已过期；请邀请人重新发送。",
        "The invitation was used already, was withdrawn, or is over; ask whoever sent it for "
        "another.",
    ),
    "token.kind.invite": ("邀请链接", "Invitation"),
    "entry.account_locked": (
        "失败次数过多，请稍后再试。",
        "There were too many failures; try again later.",
    ),
    # --- signing up ---
    "sign_up.title": ("注册账号", "Create an account"),
    "sign_up.email": ("工作邮箱", "Work email"),
    "sign_up.organization": ("组织名称", "Organisation"),
    "sign_up.terms": ("已阅读并接受", "I have read and accept the"),
    "sign_up.terms_link": ("《服务条款》", "terms of service"),
    "sign_up.submit": ("注册", "Sign up"),
    "sign_up.have_one": ("已有账号，去登录", "Sign in instead"),
    "sign_up.credit": (
        "赠送 {amount} 体验额度，{n} 天内有效",
        "{amount} of free credit, to be used within {n} days",
    ),
    "sign_up.not_done": (
        "没有完成；检查各项后再试。",
        "It was not done; check what was typed, and try again.",
    ),
    "sign_up.wrong.email": (
        "不能使用这个邮箱：地址有误，或其域名不被接受。",
        "This address is not taken: it is none, or its domain is refused.",
    ),
    "sign_up.wrong.password": (
        "密码应为 12 到 200 个字符。",
        "A password has 12 to 200 characters.",
    ),
    "sign_up.wrong.organization": (
        "组织名称应为 1 到 100 个字符。",
        "The name of an organisation has 1 to 100 characters.",
    ),
    "sign_up.wrong.accepted_terms": (
        "接受服务条款后才能注册。",
        "The terms of service are to be accepted first.",
    ),
    "sign_up.sent": ("查收邮件", "Look into the mailbox"),
    "sign_up.sent.what": (
        "邮件正在发送；打开其中的链接完成注册，24 小时内有效。没有收到时，检查垃圾邮件。",
        "A mail is on its way; its link completes the sign-up, within 24 hours. Where none "
        "arrives, look among the spam.",
    ),
    "sign_up.confirm": ("完成注册", "Complete the sign-up"),
    "sign_up.confirm.what": (
        "输入注册时设置的密码，确认是本人操作",
        "Type the password that was chosen, to show that it was you",
    ),
    "sign_up.confirm.submit": ("确认并登录", "Confirm and sign in"),
    "sign_up.wrong_password": (
        "密码不对，没有创建任何内容。",
        "The password is wrong; nothing was made.",
    ),
    "sign_up.over": (
        "确认链接已用过或已过期；请重新注册，或直接登录。",
        "The confirmation was used already, or is over; sign up again, or sign in.",
    ),
    "sign_up.closed": (
        "此平台不开放注册，请联系管理员获取邀请。",
        "Nobody signs up here; ask an administrator for an invitation.",
    ),
    "sign_up.done": ("注册完成", "The account is ready"),
    "sign_up.key_once": (
        "这是第一个 API 密钥，只显示这一次。",
        "This is the first API key, shown this once.",
    ),
    "sign_up.go_on": ("开始第一次调用", "Make the first call"),
}
