"""Language guess: Chinese with English names in it, English, others, and texts without letters."""

from __future__ import annotations

import pytest

from tokenschain.core.moderation.language import language_of


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("请帮我写一封邮件", "zh"), ("用 Python 写一个排序函数", "zh"),
        ("Please write a letter to 王 in Beijing", "en"), ("これはペンです", "other"),
        ("Напишите письмо", "other"), ("이메일을 써 주세요", "other"), ("12 + 3 = ?", None),
        ("", None), ("𠮷野家很好", "zh"),
    ],
)  # fmt: skip
def test_the_script_says_which(text: str, language: str | None) -> None:
    assert language_of(text) == language
