"""The list of controls: each has a query and a test that exist, or says why it has none."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from tests.control.compliance.test_evidence import EMPTIED, PLANTS
from tests.house.tree import DOCS, ROOT
from tokenschain.control.compliance import controls, evidence
from tokenschain.control.compliance.controls import STANDARDS, BadControls

KNOWN = controls.shipped()
UNPLANTED = {
    "rows_unreadable", "algorithm_fails", "rows_of_other_suite", "meanings_shared",
    "password_in_settings_file",  # tests of their own
    "audit_empty", "audit_root_wrong", "schema_behind", "nothing_sealed",
    "upstreams_abroad",
}  # fmt: skip
"""Gaps that no violation of `test_evidence.PLANTS` is for."""


def test_each_standard_has_controls_and_most_have_evidence() -> None:
    for standard in STANDARDS:
        found = KNOWN.of(standard)
        assert found, standard
        assert all(one.standard == standard for one in found)
    shown = [one for one in KNOWN.controls if one.status == "evidence"]
    assert len(shown) > len(KNOWN.controls) / 2


def test_every_query_exists_and_answers_a_control() -> None:
    named = {one.query for one in KNOWN.controls if one.query}
    assert named == evidence.QUERIES.keys()


def test_every_gap_has_words_and_is_found_by_a_query() -> None:
    sources = "".join(
        path.read_text("utf-8") for path in Path(evidence.__file__ or "").parent.glob("*.py")
    )
    for code in KNOWN.gaps:
        assert f'"{code}"' in sources, code
    assert PLANTS.keys() | EMPTIED.keys() | UNPLANTED == KNOWN.gaps.keys()
    assert len(PLANTS) >= 20


def test_every_test_that_is_named_is_there() -> None:
    functions: dict[str, set[str]] = {}
    for one in KNOWN.controls:
        if not one.test:
            continue
        name, _, function = one.test.partition("::")
        if name not in functions:
            tree = ast.parse((ROOT / name).read_text("utf-8"))
            functions[name] = {n.name for n in tree.body if isinstance(n, ast.FunctionDef)}
        assert function in functions[name], one.test


def test_a_control_that_a_planted_violation_regenerates_has_one() -> None:
    for listed, test in (
        (PLANTS, "test_a_planted_violation_turns_its_controls_red"),
        (EMPTIED, "test_nothing_is_met_where_nothing_is_there"),
    ):
        queries = {query for query, _ in listed.values()}
        for one in KNOWN.controls:
            assert not one.test.endswith(test) or one.query in queries, one.id


def test_every_page_that_is_named_is_there() -> None:
    for one in KNOWN.controls:
        assert (DOCS / one.feature).is_file(), one.feature


def test_no_word_says_certified() -> None:
    texts = [
        text
        for one in KNOWN.controls
        for words in (one.asks, one.applies_when, one.why)
        if words is not None
        for text in (words.en, words.zh)
    ]
    assert not [text for text in texts if "certified" in text or "已认证" in text]


@pytest.mark.parametrize(
    ("old", "new", "why"),
    [
        ("status: evidence\n  query: sessions", "status: open\n  query: sessions", "has no query"),
        ("id: mlps3-identity-lockout", "id: mlps3-identity-password", "there are two"),
        ("clause: 8.1.4.5\n", "claus: 8.1.4.5\n", "claus"),
        ("{count} 个案件", "{many} 个案件", "different values"),
        ("standard: pipl", "standard: gdpr", "gdpr"),
    ],
)
def test_a_list_that_contradicts_itself_is_refused(old: str, new: str, why: str) -> None:
    text = (ROOT / "src/tokenschain/data/controls.yaml").read_text("utf-8")
    assert old in text
    with pytest.raises(BadControls, match=why):
        controls.parsed(text.replace(old, new, 1))
