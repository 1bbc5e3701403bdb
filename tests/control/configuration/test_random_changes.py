"""Random changes: what is published is always what gateways take, and residency holds.

Changes good and bad, dry runs, removals and rollbacks, by the API and by the settings file. After
each, a gateway reads what is published as it does, and calls of several tenants ask its upstreams,
all of which fail. Deterministic and short; `PROOFS=full` tries 1,500 sequences.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from sqlalchemy import text

from tests.control.configuration.conftest import ALICE, Platform, configurator, upstream
from tests.security.test_own_names import EveryUpstreamFails, call, router_of
from tokenschain.control.configuration import history
from tokenschain.control.configuration.changes import Change, ConfigurationRefused, State
from tokenschain.control.configuration.resources import Kind, Origin, ResourceKey
from tokenschain.control.identity import organization
from tokenschain.control.publisher import Publisher
from tokenschain.core.errors import ApiError
from tokenschain.core.log_events import silent
from tokenschain.core.snapshot import Snapshot, encoding
from tokenschain.core.tenancy import KeyGrant
from tokenschain.gateway.dispatch.dispatcher import Dispatch
from tokenschain.gateway.dispatch.router import check_policies
from tokenschain.infra.config import Settings
from tokenschain.infra.database import engine as db
from tokenschain.infra.security.suite import INTERNATIONAL
from tokenschain.providers.images import ImageFetcher
from tokenschain.providers.openai_compat.upstreams import HttpUpstreams
from tokenschain.providers.vendor_table import vendor_of
from tokenschain.wire.client import HttpClient

FULL = os.environ.get("PROOFS") == "full"
TENANTS, MODELS, UPSTREAMS = ("acme", "beta"), ("m", "n", "v"), ("one", "two", "engine")
_ZONES = ("cn", "abroad", "own")


def _often(*usual: Any, seldom: tuple[Any, ...] = ()) -> st.SearchStrategy[Any]:
    return st.sampled_from([*usual * 12, *seldom])


def _some(fields: dict[str, st.SearchStrategy[Any]]) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries({}, optional=fields)


_model = _often(*MODELS, "qwen3-max", seldom=("gone", "", "a b", 7))
_zones = st.lists(_often(*_ZONES, seldom=("moon",)), max_size=3)
_scopes = ("*", "project/p1", "model/m", "model/v")
_platform_scopes = (*_scopes, "tenant/acme", "tenant/acme/project/p1", "tenant/beta/model/n")
_scope = _often(*_platform_scopes, seldom=("class/secret", "tenant/gone", "x", "model/gone"))
_own_scope = _often(*_scopes, seldom=("tenant/beta", "model/gone", ""))
_policy = _often("balanced", "cost-first", "mine", seldom=("fastest",))
_mode = _often("off", "exact", seldom=("never", None))
_upstream = st.builds(
    lambda models, more: upstream(*map(str, models)) | more,
    st.lists(_model, min_size=1, max_size=2),
    _some(
        {
            "zone": _often(*_ZONES, seldom=("", "moon")),
            "provider": _often("custom", "alibaba", "baidu", seldom=("aliyun",)),
            "base_url": _often(
                "https://models.example/v1",
                seldom=("http://10.0.0.7:8000/v1", "https://", "https://h:99999/v1", "https://[::1", "ftp://h/v1", "h", None),
            ),
            "credential": _often("stored:k", [], seldom=("stored:gone", "env:KEY", "sk-" + "x" * 20)),
            "auth": _often("bearer", "token", seldom=("none", "magic")),
            "token_url": _often(None, "https://token.example/t", seldom=("https://h:x/",)),
            "drain": st.booleans(),
            "call_fee_micro_cny": _often(0, 5, seldom=(-1,)),
            "preference": _often(1, 2),
            "idle_max_s": _often(5, seldom=(0, "long")),
            "models": _often({"m": "x"}, seldom=([], None, {"": "x"})),
        }
    ),
)  # fmt: skip
_entry = st.builds(
    lambda model, more: {"model": model} | more,
    _model,
    _some({
        "upstream": _often(*UPSTREAMS, seldom=("gone",)), "weight": _often(1, 0, seldom=(-1,)),
        "when": _often({"language": "zh"}, {"needs": ["tools"]}, seldom=({"language": "xx"}, 5)),
    }),
)  # fmt: skip
_offer = st.builds(
    lambda name, more: {"upstream": name, "price": {"input": 1, "output": 2}} | more,
    _often(*UPSTREAMS, seldom=("gone",)),
    _some({"model": _model, "abilities": _often(["tools"], []), "price": _often(None, {})}),
)
_SPECS: dict[Kind, st.SearchStrategy[dict[str, Any]]] = {
    Kind.UPSTREAM: _upstream,
    Kind.CREDENTIAL: st.fixed_dictionaries({"value": _often("secret", "other", seldom=("", "é"))}),
    Kind.MODEL: st.fixed_dictionaries({"offers": st.lists(_offer, max_size=2)}),
    Kind.VIRTUAL_MODEL: st.fixed_dictionaries({"entries": st.lists(_entry, max_size=3)}),
    Kind.ROUTING: _some({
        "policy": _policy, "policy_overrides": st.dictionaries(_scope, _policy, max_size=2),
        "custom_policies": _often({"mine": {}}, seldom=({"mine": {"slo_share": "x"}},)),
        "residency": st.dictionaries(_scope, _zones, max_size=3),
        "own_upstreams": st.dictionaries(_often(*TENANTS), _often("first", "only", "also")),
    }),
    Kind.CACHE_RULES: _some({"mode": _mode, "mode_overrides": st.dictionaries(_scope, _mode)}),
    Kind.MODERATION_POLICY: _some({
        "scope": _often("*", "tenant/acme", "project/web", seldom=("model/m", "", None)),
        "state": _often("shadow", "active", seldom=("on",)),
        "personal_data": _often({"mobile": "mask"}, {}, seldom=({"shoe": "mask"}, {"name": "x"})),
        "actions": _often({"high": "block"}, seldom=({"high": "explode"}, 5)),
        "words": _often([{"text": "a", "risk": "A.1.h"}], [], seldom=([{"text": ""}], [1])),
    }),
    Kind.FILING: st.fixed_dictionaries(
        {"number": _often("1", seldom=("", 5)), "source": _often("notice", seldom=("",)),
         "models": st.lists(_model, max_size=3)},
        optional={"filed_on": _often("2026-01-31", seldom=("2026-02-30", "soon")),
                  "kind": _often("registration", "algorithm", seldom=("other",)),
                  "ended_on": _often("2027-01-01", seldom=("2020-01-01",))},
    ),
    Kind.PROCESSOR: st.fixed_dictionaries(
        {"vendor": _often("V", seldom=("", 5)), "purpose": _often("answers", seldom=("",))},
        optional={"reviewed_on": _often("2026-01-31", seldom=("2026-02-30", "soon")),
                  "upstreams": _often(["a"], seldom=("a", [1]))},
    ),
    Kind.DATA_CLASS: _some({
        "sovereignty": _often("domestic-only", "none", seldom=("zone:moon", None)),
        "cache": _often("exact", "none", seldom=("some",)),
    }),
    Kind.LABEL_RULES: _some({
        "explicit": _often("end", "none", seldom=("middle", None)),
        "text_zh": _often("AI 生成", seldom=("谢谢", "AI\n生成")),
        "agreed": st.dictionaries(_often(*TENANTS, seldom=("gone",)), _often("1", seldom=("",))),
    }),
    Kind.RECEIPT_RULES: _some({"send": _often("always", "asked", seldom=("never", None))}),
}  # fmt: skip
_OWN_SPECS = _SPECS | {
    Kind.ROUTING: _some({
        "policy": _policy, "residency": st.dictionaries(_own_scope, _zones, max_size=2),
        "own_upstreams": _often("first", "only", "also", seldom=("never",)),
    }),
    Kind.CACHE_RULES: _some({"mode": _mode, "mode_overrides": st.dictionaries(_own_scope, _mode)}),
    Kind.LABEL_RULES: _some({
        "implicit": _often("on", None, seldom=("yes",)),
        "overrides": st.dictionaries(_own_scope, _some({"explicit": _often("start", "none")})),
    }),
    Kind.RECEIPT_RULES: _some({
        "send": _often("always", "asked", None, seldom=("never",)),
        "overrides": st.dictionaries(_own_scope, _often("always", "asked")),
    }),
}  # fmt: skip
_NAMES: dict[Kind, st.SearchStrategy[str]] = {
    Kind.UPSTREAM: _often(*UPSTREAMS, seldom=("Not One",)),
    Kind.CREDENTIAL: _often("k"),
    Kind.MODEL: _often(*MODELS),
    Kind.VIRTUAL_MODEL: _often("v", "faq", "m"),
    Kind.ROUTING: _often("default", seldom=("other",)),
    Kind.CACHE_RULES: _often("default"),
    Kind.MODERATION_POLICY: _often("strict", "all", seldom=("Not One",)),
    Kind.FILING: _often("first", "second", seldom=("Not One",)),
    Kind.PROCESSOR: _often("first", seldom=("Not One",)),
    Kind.DATA_CLASS: _often("core", "L3", seldom=("not one",)),
    Kind.LABEL_RULES: _often("default", seldom=("other",)),
    Kind.RECEIPT_RULES: _often("default", seldom=("other",)),
}


@st.composite
def changes(draw: st.DrawFn) -> Change:
    kind = draw(st.sampled_from([*Kind, Kind.UPSTREAM, Kind.VIRTUAL_MODEL, Kind.ROUTING]))
    tenant = draw(_often("", "", *TENANTS, seldom=("gone",)))
    spec = draw((_OWN_SPECS if tenant else _SPECS)[kind])
    spoil = draw(_often({}, seldom=({"zome": "cn"},)))
    key = ResourceKey(kind, tenant, draw(_NAMES[kind]))
    return Change(key, draw(_often(spec | spoil, seldom=(None, [], "x"))))


class _Step:
    """Changes made together, or the rollback of an earlier revision."""

    def __init__(self, wanted: list[Change], origin: Origin, back: int | None) -> None:
        self.wanted, self.origin, self.back = wanted, origin, back

    def __repr__(self) -> str:
        return f"{self.origin} {self.wanted if self.back is None else f'back {self.back}'}"


_steps = st.lists(
    st.builds(
        _Step,
        st.lists(changes(), min_size=1, max_size=2),
        _often(Origin.API, Origin.API, seldom=(Origin.FILE,)),
        _often(None, seldom=(0, 1)),
    ),
    min_size=2,
    max_size=10,
)


class _House:
    """A database that each sequence begins anew, what publishes it, and a gateway's checks."""

    def __init__(self, folder: Path) -> None:
        engine = db.connect(f"sqlite:///{folder / 'tokenschain.db'}")
        db.migrate(engine)
        with engine.begin() as connection:
            for tenant in TENANTS:
                organization.ensure(connection, tenant, "p1", "default")
        self.platform = Platform(engine, configurator(folder))
        self.upstreams = HttpUpstreams(
            HttpClient(), lambda _: "key", vendor_of, lambda *_: None, ImageFetcher(HttpClient())
        )

    def begin(self) -> None:
        with self.platform.engine.begin() as connection:
            for table in ("resources", "config_revisions", "credential_values"):
                connection.execute(text(f"DELETE FROM {table}"))
        secrets = ["internal" * 6]
        self.publisher = Publisher(
            self.platform.engine, Settings(), self.platform.configurator, INTERNATIONAL,
            lambda: secrets, silent,
        )  # fmt: skip
        self.made: list[int] = []
        wanted = [
            Change(ResourceKey(Kind.CREDENTIAL, owner, "k"), {"value": "secret"})
            for owner in ("", *TENANTS)
        ]
        wanted += [
            Change(ResourceKey(Kind.UPSTREAM, owner, name), upstream("m", "n", zone=zone))
            for owner, name, zone in (
                ("", "one", "cn"),
                ("", "two", "abroad"),
                ("acme", "one", "cn"),
            )
        ]
        entries = [{"model": "m"}, {"model": "n", "upstream": "two"}]
        wanted.append(Change(ResourceKey(Kind.VIRTUAL_MODEL, "", "v"), {"entries": entries}))
        self.platform.change(wanted)

    def take(self, step: _Step) -> None:
        """Make a step if it is right; then everything must be."""
        before = self.platform.state
        dry = self._tried(step, dry_run=True)
        assert self.platform.state == before
        done = self._tried(step, dry_run=False)
        assert dry == done
        if isinstance(done, str):
            assert self.platform.state == before
        else:
            with self.platform.engine.begin() as connection:
                latest = history.latest(connection)
            self.made += [latest] if latest not in (0, *self.made) else []
        self.publisher.refresh()
        manifest = self.publisher.manifest
        body = self.publisher.part(_snapshot_part(manifest))
        assert body is not None
        snapshot = encoding.decode(body)
        assert snapshot == self.publisher.snapshot
        check_policies(snapshot.routing)
        for one in snapshot.upstreams.values():
            self.upstreams.check(one)
        _check_calls(snapshot, self.platform.state)

    def _tried(self, step: _Step, *, dry_run: bool) -> object:
        """What came of it, or why not."""
        with self.platform.engine.connect() as connection, connection.begin() as changing:
            try:
                if step.back is not None and self.made:
                    found = history.find(connection, self.made[-1 - step.back % len(self.made)])
                    assert found is not None
                    done = self.platform.configurator.roll_back(
                        connection, ALICE, found, dry_run=dry_run
                    )
                else:
                    done = self.platform.configurator.change(
                        connection, ALICE, step.wanted, origin=step.origin, dry_run=dry_run
                    )
            except (ConfigurationRefused, ApiError) as error:
                changing.rollback()
                assert str(error), "it says why"
                return str(error)
        return done.changed, done.effects, done.warnings


def _snapshot_part(manifest: bytes) -> str:
    import msgspec

    return str(msgspec.json.decode(manifest)["snapshot"])


def _check_calls(snapshot: Snapshot, state: State) -> None:
    """No call goes where a rule, as it was given, keeps it from; nor to another tenant's."""
    router = router_of(snapshot)
    rules: dict[str, dict[str, Any]] = {"": dict(state.given.routing.residency)}
    rules |= {tenant: dict(own.residency) for tenant, own in state.given.tenant_routing.items()}
    # A key of a data class is served nowhere while there is no rule for the class.
    of_class = {"data_class": "secret"} if "class/secret" in rules[""] else {}
    for tenant in (*TENANTS, "stranger"):
        for model in ("m", "n", "v", "faq", "qwen3-max"):
            asked = _asked(router, tenant, model, **of_class)
            scopes = ("*", "project/p1", f"model/{model}", "class/secret")
            whole = [rules[""].get(scope) for scope in scopes]
            whole += [
                rules[""].get(f"tenant/{tenant}" + ("" if scope == "*" else f"/{scope}"))
                for scope in scopes[:3]
            ]
            whole += [rules.get(tenant, {}).get(scope) for scope in scopes[:3]]
            for one in asked:
                assert one.tenant in ("", tenant) and not one.drain
                for zones in whole:
                    assert zones is None or one.zone in zones, (tenant, model, one.id, zones)


def _asked(router: Any, tenant: str, model: str, **of_class: str) -> list[Any]:
    """The upstreams that a call tries."""
    upstreams = EveryUpstreamFails(breaks=False)
    dispatch = Dispatch(router, upstreams, lambda: 1.0, lambda: 0.5, silent)
    asked = call(model)
    caller = KeyGrant(f"key_{tenant}", tenant, "p1", "e", **of_class)

    async def serve() -> None:
        plan = router.plan(asked, caller)
        await dispatch.open(asked, caller, plan)

    with pytest.raises(ApiError):
        asyncio.run(serve())
    return upstreams.asked


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[_House]:
    made = _House(tmp_path_factory.mktemp("random"))
    yield made
    made.platform.engine.dispose()


@settings(
    max_examples=1_500 if FULL else 40, deadline=None, derandomize=not FULL,
    suppress_health_check=list(HealthCheck), phases=[Phase.explicit, Phase.generate],
)  # fmt: skip
@given(steps=_steps)
def test_whatever_is_changed_gateways_take_it_and_residency_holds(
    house: _House, steps: list[_Step]
) -> None:
    house.begin()
    for step in steps:
        house.take(step)
