"""Roles, bindings and keys: the one decision who may do what."""

from __future__ import annotations

from tokenschain.core.tenancy import (
    ACTIONS,
    ROLES,
    KeyGrant,
    Resource,
    RoleBinding,
    conflict,
    may,
    may_use,
)


def test_a_binding_reaches_down_the_tree_and_never_up_or_across() -> None:
    admin = ROLES["admin"]
    of_project = RoleBinding(admin, "t", "", "p")
    assert may((of_project,), "keys:create", Resource("t", "", "p", "e"))
    assert not may((of_project,), "keys:create", Resource("t"))
    assert not may((of_project,), "keys:create", Resource("t", "", "q"))
    assert not may((of_project,), "keys:create", Resource("u", "", "p"))
    assert not may((RoleBinding(admin, ""),), "keys:create", Resource(""))
    assert may((RoleBinding(admin, "*"),), "keys:create", Resource("anyone"))
    assert not may((RoleBinding(ROLES["viewer"], "*"),), "keys:create", Resource("t"))
    assert may((RoleBinding(ROLES["auditor"], "t"),), "audit:read", Resource("t"))


def test_a_binding_for_certain_models_reaches_nothing_wider_than_a_model() -> None:
    few = RoleBinding(ROLES["owner"], "t", models=("m", ""))
    assert all(may((few,), action, Resource("t", model="m")) for action in ACTIONS)
    for wider in (Resource("t"), Resource("t", "", "p", "e"), Resource("t", model="n")):
        assert not any(may((few,), action, wider) for action in ACTIONS), wider
    assert not may((RoleBinding(ROLES["owner"], "*", models=("m",)),), "org:write", Resource("*"))


def test_a_binding_over_every_tenants_part_is_not_one_over_the_platform() -> None:
    part = RoleBinding(ROLES["owner"], "*", project="p")
    assert may((part,), "keys:read", Resource("t", "", "p"))
    assert not may((part,), "keys:read", Resource("*"))
    assert not may((part,), "keys:read", Resource("t"))


def test_every_role_permits_only_what_there_is() -> None:
    kinds = {action.partition(":")[0] for action in ACTIONS}
    for role, permissions in ROLES.items():
        for permission in permissions:
            kind, _, verb = permission.partition(":")
            assert (
                permission in ACTIONS
                or permission == "*"
                or kind == "*"
                or (kind in kinds and verb == "*")
            ), (role, permission)
        assert conflict(permissions) is None


def test_a_key_may_call_its_models_at_its_doors_and_nothing_else() -> None:
    grant = KeyGrant("k", "t", "p", "e", models=("m",), apis=("chat/completions",))
    assert may_use(grant, "m", "chat/completions") and may_use(grant, "m")
    assert not may_use(grant, "n") and not may_use(grant, "m", "embeddings")
    assert not any(
        may((grant,), action, Resource("t", "", "p", "e")) for action in ACTIONS
        if action != "models:call"
    )  # fmt: skip
