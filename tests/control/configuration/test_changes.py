"""Changes of the configuration: checked whole, previewed, one revision each, rolled back."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from tests.control.configuration.conftest import ALICE, Platform, configurator, upstream
from tokenschain.control.audit import admin_log
from tokenschain.control.configuration import checks, history, store
from tokenschain.control.configuration.changes import Change, ConfigurationRefused
from tokenschain.control.configuration.configuration import Configuration
from tokenschain.control.configuration.kinds import UpstreamSpec
from tokenschain.control.configuration.model_routes import Routes
from tokenschain.control.configuration.resources import Kind, Origin, Owned, ResourceKey
from tokenschain.core.errors import ApiError
from tokenschain.core.snapshot import TOKEN_PROVIDERS, ModelRoute, Routing
from tokenschain.core.snapshot.virtual_models import VirtualModelEntry
from tokenschain.infra.database import paging
from tokenschain.providers.auth import EXCHANGES
from tokenschain.providers.vendor_table import VENDORS

UPSTREAM, VIRTUAL = Kind.UPSTREAM, Kind.VIRTUAL_MODEL
SECRET = "sk-a-secret-of-the-vendor"


def entries(*models: str) -> dict[str, Any]:
    return {"entries": [{"model": model} for model in models]}


def refused(platform: Platform, *wanted: Change, **how: Any) -> str:
    with pytest.raises(ConfigurationRefused) as caught:
        platform.change(list(wanted), **how)
    return str(caught.value)


def test_a_change_is_one_revision_with_its_diff_effects_and_audit_note(platform: Platform) -> None:
    done = platform.put(UPSTREAM, "one", upstream("alpha"), reason="first")
    with platform.engine.begin() as connection:
        found = history.find(connection, done.revision)
        notes = admin_log.page(connection, paging.page_of(10, ""), None, {}).rows
    assert found is not None
    assert (found.actor, found.reason, found.origin) == ("alice", "first", Origin.API)
    (change,) = found.changes
    assert change.before is None and change.after == done.changed[0].after
    assert found.effects.models.gained == ("alpha",)
    assert found.effects.upstreams.gained == ("one",)
    assert notes[0]["target"] == f"revision {done.revision}"
    assert notes[0]["detail"]["resources"] == ["upstream one"]


def test_each_field_of_the_settings_file_may_be_set(platform: Platform) -> None:
    times = {"idle_max_s": 5, "connections_max": 7, "queue_wait_max_s": 1.0}
    platform.put(UPSTREAM, "one", upstream("alpha", **times))
    limits = platform.state.routes.upstreams["one"].limits
    assert (limits.idle_max_s, limits.connections_max) == (5.0, 7)


def test_the_name_of_our_own_engine_is_free_where_none_runs(
    platform: Platform, tmp_path: Path
) -> None:
    platform.put(UPSTREAM, "engine", upstream("alpha"))
    assert platform.state.routes.models["alpha"].offers[0].upstream == "engine"
    ours = platform._replace(configurator=configurator(tmp_path, runs_engine=True))
    said = refused(ours, Change(ResourceKey(UPSTREAM, "", "embedder"), upstream("beta")))
    assert said == "upstream embedder: the embedded engine has this name; choose another"


def test_what_is_so_already_is_no_revision(platform: Platform) -> None:
    first = platform.put(UPSTREAM, "one", upstream("alpha"))
    again = platform.put(UPSTREAM, "one", upstream("alpha", first_byte_max_s=300))
    assert first.revision and not again.revision and not again.changed


def test_a_dry_run_says_the_same_and_writes_nothing(platform: Platform) -> None:
    dry = platform.put(UPSTREAM, "one", upstream("alpha"), dry_run=True)
    assert not platform.state.resources
    done = platform.put(UPSTREAM, "one", upstream("alpha"))
    assert (dry.changed, dry.effects) == (done.changed, done.effects)


def test_everything_that_is_wrong_is_said_at_once(platform: Platform) -> None:
    platform.put(UPSTREAM, "one", upstream("alpha"))
    routing = {"policy": "cost-frist", "policy_overrides": {"tenant/acne": "balanced"}}
    said = refused(
        platform,
        Change(ResourceKey(UPSTREAM, "", "Two"), {"provider": "alibaba"}),
        Change(ResourceKey(UPSTREAM, "", "three"), {"provider": "aliyun", "regoin": "cn-beijing"}),
        Change(ResourceKey(VIRTUAL, "", "writer"), {"entries": [{"model": "alpha", "weight": -1}]}),
        Change(ResourceKey(VIRTUAL, "", "reader"), {"entries": [{"model": "a", "upstream": "on"}]}),
        Change(ResourceKey(VIRTUAL, "", "c"), entries("d")),
        Change(ResourceKey(VIRTUAL, "", "d"), entries("c")),
        Change(ResourceKey(Kind.ROUTING, "", "default"), routing),
        Change(ResourceKey(Kind.CREDENTIAL, "", "k"), {}),
        Change(ResourceKey(Kind.MODEL, "", "m"), {"offers": [{"upstream": "onne"}]}),
    )
    for part in (
        "upstream Two: a name has at most 63 lower case",
        "no provider aliyun; did you mean alibaba",
        "there is no field `regoin`; did you mean `region`?",
        "entries[0].weight = -1",
        "entries[0].upstream: there is no upstream `on`; did you mean `one`?",
        "`d` is a virtual model",
        "no policy `cost-frist`; did you mean `cost-first`?",
        "there is no tenant `acne`; did you mean `acme`?",
        "credential k: `value` is missing",
        "offers[0].upstream: there is no upstream `onne`; did you mean `one`?",
    ):
        assert part in said
    assert len(platform.state.resources) == 1, "all or nothing"


def test_what_one_mistake_leads_to_is_not_said_too(platform: Platform) -> None:
    platform.put(UPSTREAM, "one", upstream("alpha"))
    said = refused(
        platform,
        Change(ResourceKey(UPSTREAM, "", "two"), upstream("beta", zone="cm")),
        Change(ResourceKey(VIRTUAL, "", "writer"), entries("beta", "alpa")),
        Change(ResourceKey(VIRTUAL, "", "reader"), {"entries": 7}),
        Change(ResourceKey(VIRTUAL, "", "other"), entries("reader")),
    )
    assert len(said.splitlines()) == 3 and "zone = 'cm'" in said and "entries[0] = 7" in said
    assert "the model `alpa`; did you mean `alpha`?" in said
    said = refused(
        platform,
        Change(ResourceKey(UPSTREAM, "", "two"), {"provider": "custom", "base_ulr": "https://a.example"}),
        Change(ResourceKey(Kind.MODEL, "", "m"), {"offers": [{"upstream": "two", "price": {"input": 1, "output": 1}}]}),
        Change(ResourceKey(VIRTUAL, "", "writer"), entries("gamma")),
    )  # fmt: skip
    assert said.splitlines() == [
        "upstream two: there is no field `base_ulr`; did you mean `base_url`?"
    ]


def test_what_has_the_name_of_a_mistake_is_said_all_the_same(platform: Platform) -> None:
    """What a problem is about tells, and no word in it."""
    platform.put(UPSTREAM, "one", upstream("alpha"))
    said = refused(
        platform,
        Change(ResourceKey(Kind.CREDENTIAL, "", "alpa"), {}),
        Change(ResourceKey(VIRTUAL, "", "writer"), entries("alpa")),
    )
    assert "credential alpa: `value` is missing" in said
    assert "the model `alpa`; did you mean `alpha`?" in said
    said = refused(
        platform,
        Change(
            ResourceKey(Kind.ROUTING, "", "default"),
            {"policy": "mine", "custom_policies": {"mine": {"price": "dear"}}},
        ),
        Change(ResourceKey(Kind.ROUTING, "acme", "default"), {"policy": "mine"}),
    )
    assert len(said.splitlines()) == 1 and "custom_policies.mine" in said


def test_an_upstream_that_gateways_cannot_ask_is_refused(platform: Platform) -> None:
    """Gateways would refuse the whole configuration, and every later one with it."""
    for fields, why in (
        ({"auth": "token"}, "auth: provider custom has no token service"),
        ({"base_url": "https://models.example:99999/v1"}, "base_url: it is no address"),
        ({"token_url": "https://token.example:x/"}, "token_url: it is no address"),
        ({"base_url": "https://a..com/v1"}, "base_url: it is no address"),
        ({"base_url": f"https://{'a' * 64}.com/v1"}, "base_url: it is no address"),
        ({"base_url": "https://models.example/v1\n"}, "base_url"),
        ({"token_url": "https://token.example/\r\nx: y"}, "token_url"),
    ):
        for tenant in ("", "acme"):
            key = ResourceKey(UPSTREAM, tenant, "one")
            assert why in refused(platform, Change(key, upstream("alpha", **fields)))
    assert {
        name for name, vendor in VENDORS.items() if vendor.rules in EXCHANGES
    } == set(TOKEN_PROVIDERS)  # fmt: skip


def test_virtual_models_name_no_virtual_models_least_of_all_in_a_circle(platform: Platform) -> None:
    platform.put(UPSTREAM, "one", upstream("alpha"))
    platform.put(VIRTUAL, "a", entries("alpha"))
    assert "`a` is a virtual model" in refused(
        platform, Change(ResourceKey(VIRTUAL, "", "b"), entries("a"))
    )
    said = refused(
        platform,
        Change(ResourceKey(VIRTUAL, "", "c"), entries("d")), Change(ResourceKey(VIRTUAL, "", "d"), entries("c")),
    )  # fmt: skip
    assert "`d` is a virtual model" in said and "`c` is a virtual model" in said


def test_what_others_need_is_not_taken_away(platform: Platform) -> None:
    platform.put(UPSTREAM, "one", upstream("alpha"))
    platform.put(VIRTUAL, "writer", entries("alpha"))
    said = refused(platform, Change(ResourceKey(UPSTREAM, "", "one"), None))
    assert "virtual-model writer: no upstream serves the model `alpha`" in said
    both = [
        Change(ResourceKey(UPSTREAM, "", "one"), None),
        Change(ResourceKey(VIRTUAL, "", "writer"), None),
    ]
    done = platform.change(both)
    assert done.effects.models.lost == ("alpha",)
    assert done.effects.virtual_models.lost == ("writer",)


def test_a_tenants_mistake_does_not_bind_the_platform(platform: Platform) -> None:
    platform.put(UPSTREAM, "one", upstream("alpha"))
    platform.put(VIRTUAL, "faq", entries("alpha"), tenant="acme")
    done = platform.put(UPSTREAM, "one", None)
    assert done.revision
    assert [str(one) for one in done.warnings] == [
        "virtual-model faq of tenant acme: no upstream serves the model `alpha`"
    ]


def test_the_file_takes_over_and_the_api_keeps_off(platform: Platform) -> None:
    platform.put(UPSTREAM, "one", upstream("alpha"))
    done = platform.put(UPSTREAM, "one", upstream("alpha"), origin=Origin.FILE)
    assert done.revision, "who manages it is a change, too"
    platform.configurator.settings_file = "the settings file /etc/tokenschain.yaml of control"
    said = refused(platform, Change(ResourceKey(UPSTREAM, "", "one"), upstream("alpha", "beta")))
    assert said == (
        "upstream one: it is managed by the settings file /etc/tokenschain.yaml of control, under "
        "`upstreams`, id `one`: change it there"
    )


def test_what_the_file_manages_hides_no_other_problem(platform: Platform) -> None:
    """And what the change would have made of it is there for the rest of the check."""
    platform.put(UPSTREAM, "one", upstream("alpha"), origin=Origin.FILE)
    said = refused(
        platform,
        Change(ResourceKey(UPSTREAM, "", "one"), upstream("alpha", "beta")),
        Change(ResourceKey(VIRTUAL, "", "writer"), entries("beta", "alpa")),
        Change(ResourceKey(VIRTUAL, "", "reader"), {"entries": 7}),
    ).splitlines()
    assert len(said) == 3, said
    assert "managed by" in said[0] and "entries[0] = 7" in said[1]
    assert "the model `alpa`; did you mean `alpha`?" in said[2]


# --- credentials -------------------------------------------------------------------------------


def test_a_secret_is_sealed_and_shown_nowhere(platform: Platform) -> None:
    key = ResourceKey(Kind.CREDENTIAL, "", "bailian-1")
    done = platform.put(Kind.CREDENTIAL, key.name, {"value": SECRET})
    platform.put(UPSTREAM, "one", upstream("alpha", credential="stored:bailian-1"))
    assert done.changed[0].after == {
        "fingerprint": store.fingerprint(platform.configurator._suite, key, SECRET)
    }
    state = platform.state
    with platform.engine.begin() as connection:
        assert platform.configurator.secrets(connection, state) == {"/bailian-1": SECRET.encode()}
        for table in ("resources", "config_revisions", "audit_events", "credential_values"):
            rows = connection.execute(text(f"SELECT * FROM {table}")).all()
            assert rows and SECRET not in repr(rows), table


def test_a_credential_in_use_or_unknown_is_said(platform: Platform) -> None:
    platform.put(Kind.CREDENTIAL, "bailian-1", {"value": SECRET})
    wanted = upstream("alpha", credential=["stored:bailian-2"])
    said = refused(platform, Change(ResourceKey(UPSTREAM, "", "one"), wanted))
    assert "there is no credential `bailian-2`; did you mean `bailian-1`?" in said
    platform.put(UPSTREAM, "one", upstream("alpha", credential="stored:bailian-1"))
    said = refused(platform, Change(ResourceKey(Kind.CREDENTIAL, "", "bailian-1"), None))
    assert "upstream one: credential: there is no credential `bailian-1`" in said
    assert "`value` is missing" in refused(
        platform, Change(ResourceKey(Kind.CREDENTIAL, "", "other"), {})
    )
    said = refused(
        platform, Change(ResourceKey(UPSTREAM, "", "two"), upstream("a", credential=SECRET))
    )
    assert SECRET not in said and "credential" in said


def test_a_rotation_is_rolled_back_while_the_old_secret_is_kept(platform: Platform) -> None:
    platform.put(Kind.CREDENTIAL, "k", {"value": SECRET})
    rotated = platform.put(Kind.CREDENTIAL, "k", {"value": "another"})
    with platform.engine.begin() as connection:
        found = history.find(connection, rotated.revision)
        assert found is not None
        platform.configurator.roll_back(connection, ALICE, found)
        secrets = platform.configurator.secrets(
            connection, platform.configurator.current(connection)
        )
        assert secrets == {"/k": SECRET.encode()}
        store.sweep(connection, 9e9)
    again = platform.put(Kind.CREDENTIAL, "k", {"value": SECRET})
    assert not again.revision
    after = found.changes[0].after
    assert after is not None
    assert "no secret with fingerprint" in refused(
        platform, Change(ResourceKey(Kind.CREDENTIAL, "", "k"), after)
    ), "what was replaced long ago is gone"


def test_a_tenants_upstream_uses_its_own_credentials_and_leads_outside(platform: Platform) -> None:
    platform.put(Kind.CREDENTIAL, "shared", {"value": SECRET})
    own = upstream("alpha", credential="stored:shared")
    said = refused(platform, Change(ResourceKey(UPSTREAM, "acme", "mine"), own))
    assert "there is no credential `shared`" in said, "of the platform's, it sees none"
    for url in ("http://models.example/v1", "https://10.0.0.7/v1", "https://[::1]/v1",
                "https://169.254.169.254/v1", "https://localhost/v1"):  # fmt: skip
        wanted = Change(ResourceKey(UPSTREAM, "acme", "mine"), upstream("alpha", base_url=url))
        assert "https address that is public" in refused(platform, wanted), url


def test_checking_virtual_models_costs_no_more_with_many_upstreams() -> None:
    """10,000 names and 300 upstreams are checked anew at each change."""

    def took_s(upstreams: int) -> float:
        spec, entry = UpstreamSpec(), VirtualModelEntry("m", "u0")
        given = Configuration(
            upstreams={Owned("", f"u{n}"): spec for n in range(upstreams)},
            virtual_models={Owned("", f"v{n}"): (entry,) for n in range(1_000)},
        )
        routes = Routes({}, {"m": ModelRoute("m", "chat", ())}, {}, {}, Routing(), ())
        began = time.thread_time()
        assert not list(checks._of_virtual_models(given, routes))
        return time.thread_time() - began

    few, many = (min(took_s(count) for _ in range(5)) for count in (3, 600))
    assert many < 5 * few


# --- rollback ----------------------------------------------------------------------------------


def test_a_revision_is_rolled_back_by_a_new_one(platform: Platform) -> None:
    platform.put(UPSTREAM, "one", upstream("alpha"))
    before = platform.state.routes
    done = platform.put(UPSTREAM, "one", upstream("alpha", "beta"))
    with platform.engine.begin() as connection:
        found = history.find(connection, done.revision)
        assert found is not None
        back = platform.configurator.roll_back(connection, ALICE, found)
        undone = history.find(connection, back.revision)
    assert platform.state.routes == before
    assert undone is not None and undone.rolled_back_of == done.revision


def test_revisions_are_rolled_back_one_after_the_other(platform: Platform) -> None:
    made = [platform.put(UPSTREAM, "one", upstream("alpha"))]
    before = platform.state.routes
    made.append(platform.put(UPSTREAM, "one", upstream("alpha") | {"drain": True}))
    made.append(platform.put(UPSTREAM, "one", None))
    for done in reversed(made[1:]):
        with platform.engine.begin() as connection:
            found = history.find(connection, done.revision)
            assert found is not None
            platform.configurator.roll_back(connection, ALICE, found)
    assert platform.state.routes == before


def test_a_rollback_that_would_undo_later_changes_or_be_wrong_is_refused(
    platform: Platform,
) -> None:
    first = platform.put(UPSTREAM, "one", upstream("alpha"))
    second = platform.put(UPSTREAM, "two", upstream("alpha"))
    third = platform.put(UPSTREAM, "two", upstream("alpha", "beta"))
    platform.put(VIRTUAL, "writer", entries("beta"))
    with platform.engine.begin() as connection:
        found = {one: history.find(connection, one) for one in (second.revision, third.revision)}
        last = found[third.revision]
        assert last is not None and found[second.revision] is not None
        with pytest.raises(ApiError, match=f"Revision {third.revision} changed upstream two since"):
            platform.configurator.roll_back(connection, ALICE, found[second.revision])  # type: ignore[arg-type]
        with pytest.raises(ConfigurationRefused, match="no upstream serves the model `beta`"):
            platform.configurator.roll_back(connection, ALICE, last)
    assert first.revision < second.revision < third.revision
