"""Tests of upstreams by the admin API: what is tested, and what is told of its models."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from sqlalchemy import event, text

from tests.control.configuration.conftest import upstream
from tests.security.platform import Platform, platform
from tokenschain.control import gateways
from tokenschain.core.gateway_status import GatewayStatus
from tokenschain.core.snapshot import Upstream
from tokenschain.core.upstream_report import StepResult, Trial, UpstreamReport

SECRET = "sk-a-secret-of-the-vendor"


class RecordingTester:
    """In place of what reaches upstreams."""

    def __init__(self) -> None:
        self.asked: list[tuple[Upstream, Trial | None, Mapping[str, str]]] = []
        self.models: tuple[str, ...] | None = None
        self.step = StepResult("call", "ok", "it answers", "", 12)
        self.house: Platform | None = None

    async def test(
        self, upstream: Upstream, trial: Trial | None, stored: Mapping[str, str]
    ) -> UpstreamReport:
        self.asked.append((upstream, trial, stored))
        if self.house is not None:
            with self.house.engine.begin() as db:  # nobody keeps others from writing meanwhile
                db.execute(text("update meta set value = value"))
        return UpstreamReport((self.step,), self.models)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    with platform(tmp_path_factory.mktemp("tests")) as house:
        for tenant in ("acme", "beta"):
            unit = {"kind": "tenant", "tenant": tenant, "name": tenant}
            assert house.operator("POST", "/organization/units", unit).status_code == 201
        for path in ("/credentials/k", "/credentials/k?tenant=acme"):
            assert house.operator("PUT", path, {"spec": {"value": SECRET}}).status_code == 200
        spec = {"spec": upstream("alpha", "beta", credential="stored:k")}
        assert house.operator("PUT", "/upstreams/one", spec).status_code == 200
        yield house


@pytest.fixture
def tester(made: Platform) -> RecordingTester:
    found = RecordingTester()
    state = made.app.state
    state.context = state.context._replace(upstream_tester=found)
    return found


def test_a_stored_upstream_is_tested_with_its_secret_which_is_not_told(
    made: Platform, tester: RecordingTester
) -> None:
    tester.house = made
    reply = made.operator("POST", "/upstreams/one/test", {})
    assert reply.status_code == 200, reply.text
    assert SECRET not in reply.text
    assert reply.json() == {
        "ok": True, "models": None,
        "steps": [{"step": "call", "outcome": "ok", "message": "it answers", "remedy": "",
                   "took_ms": 12}],
    }  # fmt: skip
    ((tested, trial, stored),) = tester.asked
    assert tested.base_url == "https://models.example/v1" and stored == {"stored:/k": SECRET}
    assert trial is not None and (trial.kind, trial.offer.model) == ("chat", "alpha")
    notes = made.rows("select target, detail from audit_events where target = 'upstream one'")
    assert any('"test"' in str(detail) for _, detail in notes), notes


def test_which_model_is_called_may_be_said(made: Platform, tester: RecordingTester) -> None:
    assert made.operator("POST", "/upstreams/one/test", {"model": "beta"}).status_code == 200
    trial = tester.asked[-1][1]
    assert trial is not None and trial.offer.model == "beta"
    wrong = made.operator("POST", "/upstreams/one/test", {"model": "gamma"})
    assert wrong.status_code == 400 and wrong.json()["error"]["param"] == "model"


def test_what_is_not_stored_is_tested_as_it_would_be_and_stays_so(
    made: Platform, tester: RecordingTester
) -> None:
    tester.step = StepResult("call", "failed", "no", "mend it")
    body = {"spec": upstream("delta", base_url="https://else.example/v1")}
    reply = made.operator("POST", "/upstreams/two/test", body)
    assert reply.status_code == 200 and reply.json()["ok"] is False, reply.text
    assert tester.asked[-1][0].base_url == "https://else.example/v1"
    assert made.operator("GET", "/upstreams/two").status_code == 404
    assert made.operator("POST", "/upstreams/two/test", {}).status_code == 404
    wrong = made.operator("POST", "/upstreams/two/test", {"spec": {"provider": "aliyun"}})
    assert wrong.status_code == 400 and "alibaba" in wrong.text
    assert len(tester.asked) == 1


def test_a_key_is_tried_without_being_stored(made: Platform, tester: RecordingTester) -> None:
    revisions = made.operator("GET", "/revisions").json()["data"]
    spec = upstream("delta", base_url="https://else.example/v1")
    body = {"spec": spec | {"credential": "stored:new"}, "key": "sk-tried"}
    reply = made.operator("POST", "/upstreams/four/test", body)
    assert reply.status_code == 200 and "sk-tried" not in reply.text, reply.text
    assert tester.asked[-1][2] == {"stored:/new": "sk-tried"}
    assert made.operator("GET", "/credentials/new").status_code == 404
    assert made.operator("GET", "/revisions").json()["data"] == revisions
    for wrong in (
        {"key": "sk-tried", "spec": spec},
        body | {"spec": spec | {"credential": "env:KEY"}},
        body | {"key": "sk-tried twice"},
        body | {"key": "sk-tried" * 600},
    ):
        reply = made.operator("POST", "/upstreams/four/test", wrong)
        assert reply.status_code == 400 and "sk-tried" not in reply.text, reply.text
    assert len(tester.asked) == 1


def test_its_own_list_is_compared_with_what_is_configured(
    made: Platform, tester: RecordingTester
) -> None:
    tester.models = ("beta", "gamma", "alpha-2")
    body = {"spec": upstream("alpha", "beta") | {
        "prices": {one: {"input": "1", "output": "2"} for one in ("alpha", "beta", "gamma")}}}  # fmt: skip
    found = made.operator("POST", "/upstreams/three/test", body).json()["models"]
    assert found == {
        "listed": 3, "missing": ["alpha"], "new": ["gamma"], "unpriced": ["alpha-2"],
        "proposed": ["beta", "gamma"],
    }  # fmt: skip
    body["spec"]["models"] = {"ours": "alpha", "b": "beta"}
    found = made.operator("POST", "/upstreams/three/test", body).json()["models"]
    assert found["proposed"] == {"b": "beta", "gamma": "gamma"}
    tester.models = ("alpha", "beta", "gamma")
    body["spec"]["models"] = ["alpha", "beta", "gamma"]
    assert made.operator("POST", "/upstreams/three/test", body).json()["models"]["proposed"] is None


def test_a_tenant_tests_its_own_alone_with_its_own_secrets(
    made: Platform, tester: RecordingTester
) -> None:
    admin = made.person("acme", "admin")
    spec: dict[str, Any] = {"base_url": "https://vendor.example/v1", "models": ["m"]}
    own = {"spec": spec | {"credential": "stored:k"}}
    reply = admin("POST", "/upstreams/mine/test?tenant=acme", own)
    assert reply.status_code == 200, reply.text
    upstream_, _, stored = tester.asked[-1]
    assert upstream_.tenant == "acme" and stored == {"stored:acme/k": SECRET}
    for path, body in (
        ("/upstreams/one/test", {}),
        ("/upstreams/mine/test?tenant=beta", own),
        ("/upstreams/mine/test?tenant=acme", {"spec": spec | {"credential": "env:PATH"}}),
        ("/upstreams/mine/test?tenant=acme", {"spec": spec | {"base_url": "https://10.0.0.1/v1"}}),
    ):
        assert admin("POST", path, body).status_code in (400, 403, 404), path
    assert len(tester.asked) == 1


UNSET = "`env:VENDOR_KEY` is not set at gw-1"


def test_a_variable_that_gateways_have_not_got_is_told(
    made: Platform, tester: RecordingTester
) -> None:
    """As it is set and as it is tested; once a gateway has it, no more."""

    def heard(*variables: str) -> None:
        status = GatewayStatus(
            "gw-1", 0, 1, "0.1.0", 0.0, 5, 0.2, 0, 1, 0.0, set_variables=variables
        )
        gateways.note(made.engine, status)

    def put(credential: str) -> list[str]:
        spec = {"spec": upstream("gamma", credential=credential)}
        reply = made.operator("PUT", "/upstreams/two", spec)
        assert reply.status_code == 200, reply.text
        return list(reply.json()["warnings"])

    def tested() -> dict[str, Any]:
        (step,) = made.operator("POST", "/upstreams/two/test", {}).json()["steps"]
        return dict(step)

    heard()
    (warning,) = put("env:VENDOR_KEY")
    assert UNSET in warning and "stored:NAME" in warning and "restart" in warning
    tester.step = StepResult("credential", "ok", "1 of 1 are there")
    step = tested()
    assert (step["outcome"], step["message"]) == ("failed", "not set: `env:VENDOR_KEY` at gw-1")
    drained = made.operator("PATCH", "/upstreams/two", {"spec": {"drain": True}}).json()
    assert drained["warnings"] == [], "it is said of the change that names it"
    put("stored:k")
    heard("VENDOR_KEY")
    assert put("env:VENDOR_KEY") == []
    assert tested()["outcome"] == "ok"
    tester.step = StepResult("credential", "failed", "not to be had here")
    assert tested()["outcome"] == "skipped", "gateways make the calls, not control"


def test_what_gateways_reported_is_read_once_for_a_whole_change(
    made: Platform, tester: RecordingTester
) -> None:
    status = GatewayStatus("gw-1", 0, 1, "0.1.0", 0.0, 5, 0.2, 0, 1, 0.0, set_variables=())
    gateways.note(made.engine, status)
    read: list[str] = []
    listener = lambda *given: read.append(given[2])  # noqa: E731 - it is taken off again
    event.listen(made.engine, "before_cursor_execute", listener)

    def applied(credential: str) -> tuple[int, int]:
        """How often reports were read, and how many warnings there are."""
        documents = [
            {"kind": "upstream", "name": f"many-{n}",
             "spec": upstream("gamma", credential=credential.format(n))}
            for n in range(4)
        ]  # fmt: skip
        body = {"documents": documents, "dry_run": True}
        read.clear()
        reply = made.operator("POST", "/configuration/apply", body)
        assert reply.status_code == 200, reply.text
        reports = [one for one in read if "FROM meta" in one and "LIKE" in one]
        return len(reports), len(reply.json()["warnings"])

    try:
        assert applied("env:VENDOR_KEY_{}") == (1, 4)
        assert applied("file:/run/secrets/{}") == (0, 0)
    finally:
        event.remove(made.engine, "before_cursor_execute", listener)
