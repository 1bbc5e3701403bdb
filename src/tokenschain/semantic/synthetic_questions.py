"""Synthetic questions: paraphrases of customer-service questions, and near misses as traps.

For training the verifier and for measuring without customers' data. A topic is some ways to ask one
thing; where it has a slot, each value is a question of its own, and the others are its traps.
"""

from __future__ import annotations

import random
from typing import NamedTuple

CITIES = ("北京", "上海", "广州", "深圳", "杭州", "成都", "南京", "西安")
BRANDS = ("星海", "云帆", "青禾", "明川", "启点")
DAYS = ("3天", "7天", "15天", "30天", "三个月", "半年")
AMOUNTS = ("99元", "199元", "500元", "1000元", "两万元", "5万元")
TOWNS = ("Lyon", "Porto", "Ghent", "Bergen", "Graz", "Turin")
TIERS = ("Starter", "Growth", "Scale", "Studio")
SPANS = ("2 days", "10 days", "three weeks", "60 days", "6 months")
SUMS = ("$20", "$75", "$150", "$400", "$1,200")
_SLOTS: dict[str, tuple[str, ...]] = {
    "城": CITIES, "牌": BRANDS, "天": DAYS, "钱": AMOUNTS,
    "town": TOWNS, "tier": TIERS, "span": SPANS, "sum": SUMS,
    "件": ("充电器", "耳机", "键盘", "手表", "台灯"),
    "证": ("营业执照", "健康证", "结婚证", "驾驶证", "出生证明"),
    "病": ("感冒", "胃炎", "鼻炎", "痛风", "湿疹"),
    "device": ("printer", "router", "scanner", "thermostat", "doorbell"),
    "dish": ("lasagne", "paella", "goulash", "risotto"),
    "drug": ("cetirizine", "omeprazole", "metformin"),
}  # fmt: skip
TOPICS: tuple[tuple[str, ...], ...] = (
    ("{件}坏了怎么保修", "{件}出故障了能保修吗", "买的{件}坏了，保修流程是什么", "{件}质保怎么走"),
    ("{件}的充电时间是多久", "{件}充满电要多长时间", "{件}多久能充满"),
    ("{件}有几种颜色", "{件}都有什么颜色可以选", "{件}颜色有哪些"),
    ("{城}有线下门店吗", "{城}哪里有你们的实体店", "你们在{城}有没有门店", "{城}的门店在什么地方"),
    ("寄到{城}要几天", "发货到{城}多久能到", "{城}收货一般需要多长时间"),
    ("{城}到{城2}的机票多少钱", "从{城}飞{城2}票价多少", "{城}飞{城2}的航班价格"),
    ("{城}落户需要什么条件", "在{城}落户有哪些要求", "怎样才能在{城}落户"),
    ("{城}租房补贴怎么申请", "如何申请{城}的租房补贴", "{城}租房补贴的申请流程"),
    ("办{证}需要哪些材料", "办理{证}要带什么资料", "{证}办理材料清单"),
    ("{证}丢了怎么补办", "{证}遗失后如何补办", "补办{证}的流程是什么"),
    ("{证}办理要多少钱", "办{证}收费吗，多少钱", "办理{证}的费用是多少"),
    ("{证}多久能办下来", "办{证}需要几个工作日", "{证}办理时间要多长"),
    ("{病}吃什么药好", "得了{病}应该用什么药", "{病}用药推荐"),
    ("{病}有什么症状", "怎么判断是不是{病}", "{病}的表现有哪些"),
    ("{病}不能吃什么", "{病}患者饮食禁忌", "得了{病}要忌口哪些东西"),
    ("{病}会传染吗", "{病}是不是有传染性", "得了{病}会不会传给别人"),
    ("{牌}会员怎么开通", "如何成为{牌}会员", "想办{牌}的会员怎么弄"),
    ("{牌}会员怎么退订", "如何取消{牌}会员", "不想续费{牌}会员了怎么关"),
    ("{牌}会员一年多少钱", "{牌}年费会员价格", "开一年{牌}会员要多少"),
    ("{牌}客服电话是多少", "怎么打{牌}的客服热线", "{牌}人工客服怎么联系"),
    ("{天}内可以退货吗", "收到货{天}之内能不能退", "支持{天}退货吗"),
    ("{天}没发货怎么办", "下单{天}了还不发货", "订单{天}还没有发货要怎么处理"),
    ("试用期是{天}吗", "试用期有没有{天}", "你们试用期{天}对吗"),
    ("满{钱}包邮吗", "消费{钱}可以免邮费吗", "买够{钱}是不是免运费"),
    ("充值{钱}送多少", "充{钱}有什么优惠", "充值{钱}的赠送金额"),
    ("提现{钱}手续费是多少", "提{钱}出来要扣多少手续费", "{钱}提现收多少费"),
    ("怎么修改收货人姓名", "收货人名字填错了怎么改", "如何更改收货人"),
    ("怎么修改登录密码", "登录密码在哪里改", "想换个登录密码怎么操作"),
    ("怎么修改支付密码", "支付密码在哪里改", "想换支付密码怎么操作"),
    ("忘记登录密码怎么办", "登录密码忘了如何找回", "想不起来登录密码了"),
    ("订单怎么取消", "怎样取消已经下的单", "不想要了，订单如何取消"),
    ("订单怎么恢复", "误取消的订单能恢复吗", "如何恢复已取消的订单"),
    ("怎么开电子发票", "电子发票如何开具", "我要开电子发票"),
    ("怎么开纸质发票", "纸质发票如何开具", "我要一张纸质发票"),
    ("发票抬头写错了怎么改", "如何修改发票抬头", "发票抬头填错能换吗"),
    ("优惠券怎么用", "优惠券在哪里使用", "如何使用优惠券"),
    ("优惠券过期了能补吗", "过期的优惠券还能用吗", "优惠券失效了可以延期吗"),
    ("怎么开启免打扰", "免打扰模式在哪里打开", "如何启用免打扰"),
    ("怎么关闭免打扰", "免打扰模式在哪里关掉", "如何停用免打扰"),
    ("怎么绑定微信", "账号如何绑定微信", "在哪里绑微信"),
    ("怎么解绑微信", "账号如何解除微信绑定", "在哪里解绑微信"),
    ("快递可以送货上门吗", "能不能送到家门口", "快递支持上门派送吗"),
    ("可以上门取件吗", "能不能来家里取快递", "支持上门揽收吗"),
    ("孕妇可以用吗", "怀孕期间能使用吗", "孕期用这个安全吗"),
    ("儿童可以用吗", "小孩子能使用吗", "给孩子用安全吗"),
    ("How do I set up my {device}?", "What are the steps to install the {device}?",
     "Help me get my new {device} running", "{device} setup instructions"),
    ("My {device} will not turn on", "Why won't the {device} start?",
     "The {device} is dead, what should I do?"),
    ("What is the warranty on the {device}?", "How long is my {device} under warranty?",
     "Is the {device} still covered by guarantee?"),
    ("How much is the {tier} plan?", "What does the {tier} plan cost?",
     "Price of the {tier} subscription?", "What would I pay for {tier}?"),
    ("What is included in the {tier} plan?", "Which features come with {tier}?",
     "Tell me what I get with the {tier} subscription"),
    ("How do I switch to the {tier} plan?", "Can I move my account onto {tier}?",
     "I want to change my subscription to {tier}"),
    ("Can I return something after {span}?", "Is a return still possible {span} after buying?",
     "Do you take items back after {span}?"),
    ("Is delivery free over {sum}?", "Do I get free shipping if I spend {sum}?",
     "Does an order of {sum} ship for free?"),
    ("How long does delivery to {town} take?", "When would a parcel reach {town}?",
     "What is the shipping time to {town}?"),
    ("Do you have a shop in {town}?", "Is there a store of yours in {town}?",
     "Where is your {town} branch?"),
    ("How do I get from {town} to {town2}?", "What is the best way to travel from {town} to "
     "{town2}?", "Route from {town} to {town2} please"),
    ("What wine goes with {dish}?", "Which wine should I serve with {dish}?",
     "Suggest a wine for {dish}"),
    ("How long do I cook {dish}?", "What is the cooking time for {dish}?",
     "How many minutes does {dish} need?"),
    ("Can I take {drug} with alcohol?", "Is it safe to drink while on {drug}?",
     "Does {drug} mix with alcohol?"),
    ("What are the side effects of {drug}?", "Which side effects does {drug} have?",
     "Does {drug} cause any side effects?"),
    ("How do I change my password?", "Where can I update my password?",
     "I would like a new password"),
    ("How do I change my email address?", "Where can I update my email?",
     "I would like to use another email address"),
    ("How do I close my account?", "I want to delete my account",
     "What do I do to shut my account down?"),
    ("How do I open an account?", "I want to create an account",
     "What do I do to get an account?"),
    ("How do I mute a channel?", "Where do I silence a channel?",
     "Stop notifications from one channel"),
    ("How do I archive a channel?", "Where do I put a channel into the archive?",
     "Archiving a channel"),
    ("Why was my payment declined?", "What is the reason my payment failed?",
     "My card was refused, why?"),
    ("Why was I charged twice?", "There are two charges for one order",
     "I paid double, what happened?"),
    ("How can I pay by invoice?", "Is paying on invoice possible?",
     "Do you accept invoice payment?"),
    ("How can I pay by card?", "Is paying with a card possible?", "Do you accept cards?"),
)  # fmt: skip
_BEFORE = ("请问", "你好，", "想问一下，", "", "", "")
_AFTER = ("？", "?", "", "，谢谢", "呢")
_BEFORE_EN = ("", "", "Hi, ", "Please tell me: ", "Quick question - ")
_AFTER_EN = ("", " Thanks!", " Thank you.")


class QuestionGroup(NamedTuple):
    """One question, asked in several ways."""

    topic: int
    ways: tuple[str, ...]


def groups() -> list[QuestionGroup]:
    """Every topic with every value of its slots."""
    found = []
    for number, ways in enumerate(TOPICS):
        slots = [name for name in _SLOTS if f"{{{name}}}" in ways[0]]
        pair = next((n for n in slots if f"{{{n}2}}" in ways[0]), None)
        if pair is not None:
            values = _SLOTS[pair]
            for at, one in enumerate(values):
                for other in (values[at - 1], values[at - 3]):
                    said = {pair: one, f"{pair}2": other}
                    found.append(QuestionGroup(number, tuple(w.format(**said) for w in ways)))
        elif slots:
            for value in _SLOTS[slots[0]]:
                found.append(
                    QuestionGroup(number, tuple(w.format(**{slots[0]: value}) for w in ways))
                )
        else:
            found.append(QuestionGroup(number, ways))
    return found


def dressed(text: str, rng: random.Random) -> str:
    """The same question with the polite words around it that people use."""
    if any("\u4e00" <= c <= "\u9fff" for c in text):
        return rng.choice(_BEFORE) + text + rng.choice(_AFTER)
    before = rng.choice(_BEFORE_EN)
    return (before + text if before else text) + rng.choice(_AFTER_EN)


class QuestionPair(NamedTuple):
    """Two questions, and whether they ask the same."""

    a: str
    b: str
    same: bool


def alike_and_unlike() -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
    """Pairs that ask the same, and pairs that have nothing in common; a few dozen of each."""
    made = groups()[::4]
    half = len(made) // 2
    alike = [(group.ways[0], group.ways[1]) for group in made]
    unlike = [
        (one.ways[0], other.ways[0])
        for one, other in zip(made, made[half:] + made[:half], strict=True)
    ]
    return alike, unlike


def pairs(seed: int) -> list[QuestionPair]:
    """Ways of one group, and traps: the same way with another value, another topic's way with
    the same one."""
    rng = random.Random(seed)  # noqa: S311  # nosec B311  # to be repeated
    made = groups()
    found = []
    for at, group in enumerate(made):
        for _ in range(2):
            one, other = rng.sample(group.ways, 2)
            found.append(QuestionPair(dressed(one, rng), dressed(other, rng), True))
        alike = [g for g in made if g.topic == group.topic and g is not group]
        near = [g for g in made[max(0, at - 40) : at + 40] if g.topic != group.topic]
        for others in (alike, alike, near):
            if others:
                other_group = rng.choice(others)
                way = rng.randrange(len(group.ways))
                twin = other_group.ways[way % len(other_group.ways)]
                if rng.random() < 0.4:
                    twin = rng.choice(other_group.ways)
                found.append(QuestionPair(dressed(group.ways[way], rng), dressed(twin, rng), False))
    return found
