"""Texts of the pages by which people come in: invitations and signing up."""

from __future__ import annotations

ENTRY_STRINGS: dict[str, tuple[str, str]] = {
    # --- inviting ---
    "people.invite": ("邀请人员", "Invite a person"),
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
}
