"""Cache warming: lines of questions, requests and FAQ entries become chat requests."""

from __future__ import annotations

import pytest

from tokenschain.core.cache.warming import prompt_tokens_of, request_of


def test_a_question_is_one_user_turn_behind_the_system_prompt() -> None:
    user = {"role": "user", "content": "怎么退货？"}
    assert request_of("怎么退货？", "m") == {"model": "m", "messages": [user]}
    found = request_of("怎么退货？", "m", "be brief")
    assert found["messages"] == [{"role": "system", "content": "be brief"}, user]
    faq = '{"questions": ["怎么退货？", "如何退货"], "answer": "x"}'
    assert request_of(faq, "m", "be brief") == found


def test_a_request_is_sent_as_it_is_with_a_model_where_it_names_none() -> None:
    line = '{"messages": [{"role": "user", "content": "hi"}], "temperature": 0}'
    found = request_of(line, "m", "not for whole requests")
    assert found == {"model": "m", "messages": [{"role": "user", "content": "hi"}],
                     "temperature": 0}  # fmt: skip
    assert request_of('{"model": "n", "messages": [{}]}', "m")["model"] == "n"


@pytest.mark.parametrize(
    "line",
    ["{", "{}", '{"messages": []}', '{"messages": "hi"}', '{"questions": []}',
     '{"questions": [" "]}', '{"questions": [1]}', '{"questions": "hi"}'],
)  # fmt: skip
def test_what_asks_nothing_is_refused(line: str) -> None:
    with pytest.raises(ValueError, match="no"):
        request_of(line, "m")


def test_an_estimate_grows_with_what_is_asked() -> None:
    short, long = (prompt_tokens_of(request_of("退货" * n, "m")) for n in (1, 100))
    assert 0 < short < long and 150 <= long - short <= 400
