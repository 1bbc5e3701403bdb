"""Refusals by how an answer opens: in Chinese and English, and not by what merely mentions one."""

from __future__ import annotations

import pytest

from tokenschain.core.compliance.refusals import is_refusal


@pytest.mark.parametrize(
    "answer",
    [
        "抱歉，我不能帮你做这件事。", "我无法提供这方面的内容。", "对不起，这超出了我能回答的范围，我不能说。",
        "作为人工智能助手，我不会协助伪造证件。", "您的请求涉及违法行为，我建议您不要这样做。",
        "很遗憾，我没办法满足这个要求。", "I'm sorry, but I can’t help with that.",
        "I cannot assist with this request.", "Sorry, I am unable to do that.",
        "I must decline to write such a letter.",
    ],
)  # fmt: skip
def test_a_refusal_is_seen(answer: str) -> None:
    assert is_refusal(answer)


@pytest.mark.parametrize(
    "answer",
    [
        "端午节是农历五月初五。", "直辖市有北京、天津、上海、重庆。", "租房合同不能少于书面形式的有关规定如下。",
        "A firewall blocks traffic that is not allowed.", "Vaccines train the immune system.",
        "正当防卫是指为了使国家、公共利益免受不法侵害而采取的行为。", "",
    ],
)  # fmt: skip
def test_an_answer_is_none(answer: str) -> None:
    assert not is_refusal(answer)
