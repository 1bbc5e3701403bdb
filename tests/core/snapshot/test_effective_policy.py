"""Effective values of moderation policies: sectors' defaults, origins, and several as one."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tokenschain.core.moderation.library import CharacterTables, RuleLibrary
from tokenschain.core.moderation.personal_data import DataAction, DataKind
from tokenschain.core.moderation.risks import CATEGORIES
from tokenschain.core.moderation.verdict import Direction, Level, RiskFinding
from tokenschain.core.snapshot.effective_policy import (
    SECTORS,
    EffectiveValue,
    effective,
    resolved,
    together,
)
from tokenschain.core.snapshot.moderation_policy import (
    FAILS_CLOSED,
    MESSAGE_EN,
    MESSAGE_ZH,
    LevelActions,
    ModerationPolicy,
)
from tokenschain.gateway.moderation.policy_set import NamedPolicy, PolicySet


def of(spec: dict[str, Any]) -> dict[str, EffectiveValue]:
    policy = msgspec.convert(spec, ModerationPolicy)
    return {one.field: one for one in effective(policy)}


@pytest.mark.parametrize("sector", ["", *SECTORS])
@pytest.mark.parametrize("audience", ["public", "internal", "overseas"])
def test_what_an_engines_failure_means_is_said_with_the_reason(sector: str, audience: str) -> None:
    found = of({"sector": sector, "audience": audience})["engine_failure"]
    closed = audience != "internal" or sector in FAILS_CLOSED
    assert found.value == ("block" if closed else "local")
    assert found.origin == ("sector" if sector in FAILS_CLOSED else "audience")
    own = of({"sector": sector, "audience": audience, "engine_failure": "local"})
    assert (own["engine_failure"].value, own["engine_failure"].origin) == ("local", "policy")


def test_what_is_said_and_what_follows_is_told_apart() -> None:
    found = of({"sector": "finance", "actions": {"medium": "block"}, "classifier": {},
                "personal_data": {"bank_card": "allow", "mobile": "mask"}})  # fmt: skip
    assert (found["actions.medium"].value, found["actions.medium"].origin) == ("block", "policy")
    assert (found["actions.high"].value, found["actions.high"].origin) == ("block", "default")
    assert (found["classifier.high"].value, found["classifier.high"].origin) == (0.9, "policy")
    assert found["personal_data.bank_card"].value == "allow", "what it says goes before"
    told = found["personal_data.resident_id"]
    assert (told.value, told.origin) == ("reversible", "sector")
    assert found["personal_data.mobile"].origin == "policy"
    assert found["words"].value == 0 and found["stream"].value == "holdback"


def test_a_sectors_category_gives_way_to_the_policys_own_and_to_its_group() -> None:
    own = LevelActions("review", "pass", "pass")
    for name in ("values/violence_obscenity", "values/*"):
        policy = resolved(ModerationPolicy(sector="minors", category_actions={name: own}))
        assert policy.action_on("values/violence_obscenity", Level.HIGH).name == "REVIEW"
        assert policy.action_on("rights/health", Level.MEDIUM).name == "BLOCK"
    for one in SECTORS.values():
        assert {name for name in one.category_actions if not name.endswith("/*")} <= CATEGORIES


def test_callers_are_told_in_both_languages_of_a_policy() -> None:
    def message(**fields: str) -> str:
        return resolved(ModerationPolicy(**fields)).message  # type: ignore[arg-type]

    assert message() == f"{MESSAGE_ZH} {MESSAGE_EN}"
    assert message(message_zh="请联系柜台。") == f"请联系柜台。 {MESSAGE_EN}"
    assert message(message_en="Ask the desk.", message_zh="问柜台。") == "问柜台。 Ask the desk."
    assert message(message="One text.", message_zh="没用") == "One text."


_LEVELS = st.builds(LevelActions, *[st.sampled_from(["pass", "review", "mask", "block"])] * 3)
_POLICIES = st.builds(
    ModerationPolicy,
    sector=st.sampled_from(["", *SECTORS]),
    audience=st.sampled_from(["public", "internal"]),
    directions=st.sampled_from([("input",), ("output",), ("input", "output")]),
    actions=_LEVELS,
    category_actions=st.dictionaries(
        st.sampled_from(["values/terrorism", "values/*", "rights/*"]), _LEVELS, max_size=2
    ),
    personal_data=st.dictionaries(
        st.sampled_from([DataKind.MOBILE, DataKind.BANK_CARD]), st.sampled_from(DataAction),
        max_size=2,
    ),
    stream=st.sampled_from(["holdback", "sentence", "full"]),
    media=st.sampled_from(["pass", "block"]),
    engines=st.sampled_from([(), ("a",), ("b", "a")]),
    input=st.sampled_from(["before", "beside"]),
    engine_failure=st.sampled_from(["", "block", "local"]),
    engine_wait_max_s=st.sampled_from([0.1, 0.3, 2.0]),
    keep_texts=st.booleans(),
)  # fmt: skip
_RULES = RuleLibrary(lambda: CharacterTables({}, {}), lambda: "2026-01-01", lambda _: None)  # type: ignore[arg-type,return-value]


@settings(max_examples=150, deadline=None)
@given(st.lists(_POLICIES, min_size=1, max_size=3))
def test_what_is_told_of_several_is_what_gateways_do(policies: list[ModerationPolicy]) -> None:
    named = [(f"p{number}", resolved(one)) for number, one in enumerate(policies)]
    does = PolicySet([NamedPolicy(*one) for one in named], _RULES.rules(()), _RULES.classifier)
    told = {one.field: one for one in together(named)}
    for direction in Direction:
        assert told[f"directions.{direction.value}"].value == does.screens(direction)
    both = [p for p in policies if p.directions == ("input", "output")]
    if len(both) == len(policies):  # else levels differ by direction
        judge = does.judge(Direction.INPUT)
        for category in ("values/terrorism", "values/other", "rights/privacy", "services/x"):
            for level in (Level.HIGH, Level.MEDIUM, Level.LOW):
                name = level.name.lower()
                group = category.partition("/")[0] + "/*"
                found = told.get(f"category_actions.{category}.{name}")
                found = found or told.get(f"category_actions.{group}.{name}")
                found = found or told[f"actions.{name}"]
                assert found.value.upper() == judge(RiskFinding(category, level)).name
    for kind, action in does.data[Direction.INPUT].items():
        assert told[f"personal_data.{kind}"].value == action
    assert told["media"].value == ("block" if does.refuses_media else "pass")
    assert told["keep_texts"].value == does.keeps_texts
    assert told["message"].value == does.message
    if does.screens(Direction.OUTPUT):
        assert told["stream"].value == does.held
    if any(one.engines for one in policies):
        assert told["engine_failure"].value == ("block" if does.fails_closed else "local")
        assert told["engine_wait_max_s"].value == does.engine_wait_max_s
    for one in told.values():
        assert set(one.policies) <= {name for name, _ in named}
