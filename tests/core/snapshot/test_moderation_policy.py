"""Moderation policies: whose calls they are for, when they are in force, what they do."""

from __future__ import annotations

import pytest

from tokenschain.core.moderation.verdict import Action, Level
from tokenschain.core.snapshot.moderation_policy import (
    LevelActions,
    ModerationPolicy,
    in_force,
    policies_for,
)


def test_policies_hold_for_their_scope_only() -> None:
    policies = {
        scope: ModerationPolicy(scope=scope)
        for scope in ("*", "tenant/acme", "project/web", "tenant/acme/project/web", "tenant/b")
    }
    assert [name for name, _ in policies_for(policies, "acme", "web")] == list(policies)[:4]
    assert [name for name, _ in policies_for(policies, "acme", "app")] == ["*", "tenant/acme"]
    assert [name for name, _ in policies_for(policies, "c", "web")] == ["*", "project/web"]


def test_a_category_goes_before_its_group_and_that_before_all() -> None:
    policy = ModerationPolicy(
        category_actions={
            "values/*": LevelActions(high="review"),
            "values/terrorism": LevelActions(high="mask", medium="block"),
        }
    )
    assert policy.action_on("values/terrorism", Level.HIGH) is Action.MASK
    assert policy.action_on("values/terrorism", Level.MEDIUM) is Action.BLOCK
    assert policy.action_on("values/other", Level.HIGH) is Action.REVIEW
    assert policy.action_on("rights/privacy", Level.HIGH) is Action.BLOCK
    assert policy.action_on("rights/privacy", Level.LOW) is Action.PASS


@pytest.mark.parametrize("share", [0.0, 0.25, 1.0])
def test_a_share_of_keys_is_under_a_policy(share: float) -> None:
    policy = ModerationPolicy(state="share", share=share)
    count = sum(in_force(policy, at / 1_000) for at in range(1_000))
    assert count == share * 1_000
    assert not in_force(ModerationPolicy(state="shadow"), 0.0)
    assert in_force(ModerationPolicy(state="active"), 0.999)


def test_engines_fail_closed_but_for_an_internal_audience() -> None:
    assert ModerationPolicy().fails_closed
    assert not ModerationPolicy(audience="internal").fails_closed
    assert ModerationPolicy(audience="internal", engine_failure="block").fails_closed
    assert not ModerationPolicy(engine_failure="local").fails_closed
