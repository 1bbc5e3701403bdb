"""Moderation detail: every kind of finding that gateways write down is read again."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tokenschain.core.moderation.detail import RecordedFinding, findings_of


def test_each_engines_findings_are_told_apart() -> None:
    detail = (
        "values/other:high:bank#12*3;shadow:values/other:low:pinyin:bank#12;"
        "discrimination/region:medium:classifier;attack/jailbreak:high:decoded:role;"
        "rights/personal_information:low:mobile:mask*2;media;"
        "values/terrorism:high:contraband@green;values/terrorism:disputed:dual"
    )
    assert findings_of(detail) == [
        RecordedFinding("values/other", "high", "words", 3),
        RecordedFinding("values/other", "low", "words", 1),
        RecordedFinding("discrimination/region", "medium", "classifier", 1),
        RecordedFinding("attack/jailbreak", "high", "attack_rules", 1),
        RecordedFinding("rights/personal_information", "low", "personal_data", 2),
        RecordedFinding("", "", "media", 1),
        RecordedFinding("values/terrorism", "high", "green", 1),
        RecordedFinding("values/terrorism", "disputed", "dual", 1),
    ]


def test_what_was_cut_or_is_of_no_category_is_left_out() -> None:
    assert findings_of("") == []
    assert findings_of("values/other:high:bank#1;values/oth") == [
        RecordedFinding("values/other", "high", "words", 1)
    ]
    assert findings_of("unknown/one:high:x;values/other") == []


@given(st.text(max_size=80))
def test_no_text_stops_it(text: str) -> None:
    for one in findings_of(text + ";values/other:high:" + text):
        assert one.times >= 0
