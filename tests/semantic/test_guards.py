"""Questions that look alike and are not, and ones that look different and are the same."""

from __future__ import annotations

import pytest

from tokenschain.semantic.guards import Guards, vetoes

GUARDS = Guards.shipped()
facts_of, compare = GUARDS.facts_of, GUARDS.compare


def why(a: str, b: str) -> tuple[str, ...]:
    one, other = facts_of(a), facts_of(b)
    return vetoes(one, other, compare(one, other))


@pytest.mark.parametrize(
    ("a", "b", "reason"),
    [
        ("3天内能退吗", "7天内能退吗", "numbers"),
        ("三天内能退吗", "三周内能退吗", "numbers"),
        ("Can I return it within 30 days?", "Can I return it within 3 days?", "numbers"),
        ("满两百元包邮吗", "满2000元包邮吗", "numbers"),
        ("What is 17 + 4?", "What is 17 + 5?", "numbers"),
        ("一点五升多少钱", "1.6升多少钱", "numbers"),
        ("2024年5月1日放假吗", "2024年5月2日放假吗", "dates"),
        ("周一开门吗", "周日开门吗", "times"),
        ("Are you open on Monday?", "Are you open on Sunday?", "times"),
        ("北京到上海多少钱", "上海到北京多少钱", "direction"),
        ("How do I convert feet to metres?", "How do I convert metres to feet?", "direction"),
        ("工商银行怎么挂失", "建设银行怎么挂失", "names"),
        ("How do I enable dark mode?", "How do I disable dark mode?", "opposite"),
        ("怎么打开免打扰", "怎么关闭免打扰", "opposite"),
        ("How do I lock my card?", "How do I unlock my card?", "opposite"),
        ("孕妇能吃吗", "孕妇不能吃吗", "negation"),
        ("Can I cancel?", "Can't I cancel?", "negation"),
        ("怎么让别人能看到相册", "怎么让别人不能看到相册", "negation"),
        ("How can guests post here?", "How do I set it so guests can't post here?", "negation"),
        ("主卡怎么注销", "副卡怎么注销", "scopes"),
        ("Price of the Team plan?", "Price of the Solo plan?", "capitals"),
        ("Is A better than B for cats?", "Is B better than A for cats?", "comparison"),
        ("How do I change my delivery slot?", "How do I change my billing slot?", "scopes"),
        ("iPhone15多少钱", "iPhone16多少钱", "numbers"),
        ("How do I reset it?", "怎么重置", "language"),
        ("What does a landlord need for gas?", "Which gas papers do tenants keep?", "roles"),
        (
            "Help me raise my data allowance",
            "How to get a smaller monthly cap of my SIM",
            "opposite",
        ),
        (
            "How do I transfer my ISA from Barclays to Vanguard?",
            "I want to move my Vanguard ISA to Barclays, what do I do?",
            "direction",
        ),
        ("I do not want a refund", "I want a refund", "negation"),
        ("I don't need to return the item", "How do I return the item", "negation"),
        ("不取消了", "取消", "negation"),
        ("My payment did not fail", "My payment failed", "negation"),
        ("My card has not been declined", "My card has been declined", "negation"),
        ("支付不能失败", "支付失败了", "negation"),
        ("Who is the branch manager", "Where is the branch manager", "aspects"),
        ("公司法人是谁", "公司法人在哪里", "aspects"),
    ],
)
def test_traps_are_told_apart(a: str, b: str, reason: str) -> None:
    assert reason in why(a, b) and reason in why(b, a)


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ("三天内可以退货吗", "3天内可以退货吗"),
        ("满两万元包邮吗", "满20000元包邮吗"),
        ("二十岁可以报名吗", "20岁可以报名吗？"),
        ("等两周可以吗", "等14天可以吗"),
        ("行李20斤收费吗", "行李10公斤收费吗"),
        ("请问怎么修改密码", "如何更改密码？"),
        ("ＶＩＰ怎么开通", "VIP如何开通"),
        ("能不能送货上门", "可以送货上门吗"),
        ("How do I reset my password?", "How can I recover my password, please?"),
        ("Where is my nearest store", "Hi, where is my nearest shop?"),
        ("Can I pay fifty pounds?", "Can I pay £50?"),
        ("What is the price?", "How much does it cost?"),
        ("今年重阳节哪天", "重阳节是什么时候"),
        ("补卡要带什么", "电话卡丢了去哪补"),
        ("房子不租了押金多久退", "押金退还时间"),
        ("This exchange rate on my purchase is wrong", "My purchase used the wrong exchange rate"),
        ("Please help me with my card. It won't activate.", "Help me activate my card."),
        ("门禁卡打不开门怎么办", "怎么用门禁卡打开门"),
        ("I can't find my card, it is lost.", "My card is missing."),
        ("约了号不去了怎么退", "预约的号怎么取消"),
        ("I don't need this premium account, can I close it", "remove this premium account"),
        ("退机票流程", "机票在哪里退"),
        ("申请贷款有哪些要求", "什么人可以申请贷款"),
        ("I want to call customer assistance", "help me to call customer service"),
        ("get my bills from David Miller", "download my invoices from David Miller"),
    ],
)
def test_what_is_said_otherwise_is_not_ruled_out(a: str, b: str) -> None:
    assert why(a, b) == ()


@pytest.mark.parametrize(
    "text", ["", "  ", "？？？", "\u0000", "😀" * 300, "一" * 2_000, "a" * 5_000]
)
def test_no_text_breaks_it(text: str) -> None:
    found = compare(facts_of(text), facts_of("怎么退货"))
    assert all(0 <= value <= 1 for value in found.values())
