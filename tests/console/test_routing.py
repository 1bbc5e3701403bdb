"""Upstreams, virtual models and revisions through their pages: shown, changed, undone."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import msgspec
import pytest

from tests.console.visitors import Browser, House, Page, inline_code
from tests.security.platform import NothingTested
from tokenschain.control import gateways
from tokenschain.core.call_record import AttemptRecord
from tokenschain.core.gateway_status import GatewayStatus, KeyStatus, UpstreamStatus
from tokenschain.core.snapshot import Snapshot, Upstream
from tokenschain.core.upstream_report import StepResult, UpstreamReport

SPEC = {
    "base_url": "https://models.example/v1", "zone": "cn", "models": ["m-1", "m-2"],
    "prices": {"m-1": {"input": "1", "output": "2"}, "m-2": {"input": "1", "output": "2"}},
}  # fmt: skip
HOSTILE = "<img/src=x/onerror=alert(1)>\u202e长🙂"


@pytest.fixture(scope="module")
def cloud(house: House) -> Iterator[str]:
    """An upstream of the platform that gateways have called, with one of its two keys dead."""
    name = "cloud-a"
    assert house.platform.operator("PUT", f"/upstreams/{name}", {"spec": SPEC}).status_code == 200
    publisher = house.platform.app.state.context.publisher
    before = publisher.snapshot
    publisher.snapshot = Snapshot(
        "", {name: Upstream(name, base_url="https://models.example/v1")}, {}
    )
    for number, breaker in enumerate(("closed", "open")):
        keys = (KeyStatus(1, "ready"), KeyStatus(2, ("cooling", "dead")[number], 4.0))
        status = UpstreamStatus(name, breaker, running=number + 1, keys=keys)
        said = GatewayStatus(f"g-{number}", 0, 1, "0.1.0", 0.0, 5, 0.2, 0, 1, 0.0, (status,))
        gateways.note(house.platform.engine, said)
    failed = AttemptRecord(name, 0.0, outcome="upstream_failed")
    for n in range(25):
        attempts = [AttemptRecord(name, 5.0, 105.0 + n, 300.0, "ok")]
        house.enter(tenant="alpha", attempts=[failed, *attempts] if n > 20 else attempts)
    yield name
    publisher.snapshot = before


def form_fields(text: str) -> dict[str, str]:
    """What a form would send as it stands."""
    page = Page(text)
    boxes = [one for one in page.all("input") if one.get("name")]
    return {
        str(one["name"]): str(one.get("value") or ("on" if "checked" in one else ""))
        for one in boxes
        if one.get("type") != "checkbox" or "checked" in one
    }


def put(house: House, path: str, spec: Any, **query: str) -> None:
    reply = house.platform.operator("PUT", path, {"spec": spec}, params=query)
    assert reply.status_code == 200, reply.text


def test_an_upstream_is_shown_as_its_worst_gateway_sees_it(house: House, cloud: str) -> None:
    browser = house.browser("*", "owner")
    text = browser.get("/console/routing").text
    row = Page(text.partition(f'id="u-{cloud}"')[2].partition("</tr>")[0]).words
    assert "Open" in row and "1 of 2 ready" in row
    assert "112 ms" in row and "123 ms" in row and "4 / 20" in row
    fragment = browser.get("/console/routing", hx_request="true", hx_target="div#upstreams").text
    assert cloud in fragment and "<html" not in fragment
    path = f"/console/routing/upstream?name={cloud}"
    state = browser.get(path, hx_request="true", hx_target="div#state").text
    assert "Refused" in state and "<html" not in state and "It drains" not in state
    detail = Page(browser.get(path).text).words
    assert "Refused" in detail and "4.00 s" in detail


def test_what_still_runs_at_a_drained_upstream_is_told(house: House, cloud: str) -> None:
    publisher = house.platform.app.state.context.publisher
    before = publisher.snapshot
    upstream = msgspec.structs.replace(before.upstreams[cloud], drain=True)
    publisher.snapshot = Snapshot("", {cloud: upstream}, {})
    put(house, f"/upstreams/{cloud}", SPEC | {"drain": True})
    publisher.snapshot = Snapshot("", {cloud: upstream}, {})
    try:
        words = Page(
            house.browser("*", "owner").get(f"/console/routing/upstream?name={cloud}").text
        ).words
        assert "calls that still run: 3" in words
    finally:
        put(house, f"/upstreams/{cloud}", SPEC)
        publisher.snapshot = before


def test_the_state_of_upstreams_is_the_platforms_own(house: House, cloud: str) -> None:
    put(house, "/upstreams/own-a", SPEC, tenant="alpha")
    browser = house.browser("alpha", "owner")
    text = browser.get("/console/routing").text
    assert "own-a" in text and cloud not in text
    assert browser.get(f"/console/routing/upstream?name={cloud}").status_code in (403, 404)
    assert house.browser("beta", "owner").get(
        "/console/routing/upstream?name=own-a&of=alpha"
    ).status_code == 404  # fmt: skip


def test_an_upstream_is_tested_before_it_is_added(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    outcome = ["failed"]

    async def told(*_: object) -> UpstreamReport:
        return UpstreamReport((StepResult("connection", outcome[0], "no way there", "open it"),))

    monkeypatch.setattr(NothingTested, "test", told)
    browser = house.browser("*", "owner")
    form = {"name": "newcomer", "provider": "custom", "base_url": "https://fresh.example/v1",
            "key": "sk-fresh-1", "zone": "cn"}  # fmt: skip
    reply = browser.post("/console/routing/new", form)
    assert reply.status_code == 400 and "open it" in reply.text and "sk-fresh-1" not in reply.text
    assert house.platform.operator("GET", "/upstreams/newcomer").status_code == 404
    again = form_fields(reply.text)
    assert again["credential"] == "stored:newcomer" and again["stored_revision"]
    # A wrong key is replaced; the upstream is there once nothing fails.
    outcome[0] = "ok"
    done = browser.post("/console/routing/new", again | {"key": "sk-fresh-2", "provider": "custom"})
    assert done.status_code == 303, Page(done.text).words
    stored = house.platform.operator("GET", "/upstreams/newcomer").json()
    assert stored["spec"]["credential"] == ["stored:newcomer"]
    # Neither an upstream nor a key of that name is written over.
    for name in ("newcomer", "newcomer-two"):
        if name == "newcomer-two":
            put(house, f"/credentials/{name}", {"value": "sk-other"})
        taken = browser.post("/console/routing/new", form | {"name": name})
        assert taken.status_code == 409 and "already" in taken.text
    shown = browser.post("/console/routing/upstream/test", {"name": "newcomer", "model": ""},
                         hx_request="true", hx_target="div#tested")  # fmt: skip
    assert "no way there" in shown.text and "<html" not in shown.text


def test_an_upstream_is_drained_and_taken_away_by_name_and_comes_back(house: House) -> None:
    put(house, "/upstreams/leaving", SPEC)
    browser = house.browser("*", "owner")
    page = browser.get("/console/routing/upstream?name=leaving").text
    revision = form_fields(page)["revision"]
    form = {"name": "leaving", "of": "", "revision": revision}
    assert browser.post("/console/routing/upstream/drain", form).status_code == 303
    spec = house.platform.operator("GET", "/upstreams/leaving").json()["spec"]
    assert spec["drain"] is True
    stale = browser.post("/console/routing/upstream/drain", form | {"undo": "1"})
    assert stale.status_code == 412 and "changed since" in stale.text
    page = browser.get("/console/routing/remove?kind=upstreams&name=leaving").text
    form = form_fields(page) | {"typed": "Leaving"}
    assert browser.post("/console/routing/remove", form).status_code == 400
    done = browser.post("/console/routing/remove", form | {"typed": "leaving"})
    assert done.status_code == 303 and "/console/routing/revision?" in done.headers["location"]
    assert house.platform.operator("GET", "/upstreams/leaving").status_code == 404
    # Undo: what it would do first, and then that.
    page = browser.get(html.unescape(done.headers["location"])).text
    assert "Removed" in page
    back = form_fields(page)
    seen = browser.post("/console/routing/revision", back | {"step": "preview"})
    assert seen.status_code == 200 and "Rolling back would" in seen.text
    assert house.platform.operator("GET", "/upstreams/leaving").status_code == 404
    undone = browser.post("/console/routing/revision", form_fields(seen.text) | {"step": "apply"})
    assert undone.status_code == 303
    assert house.platform.operator("GET", "/upstreams/leaving").status_code == 200
    refused = browser.post("/console/routing/revision", back | {"step": "preview"})
    assert refused.status_code == 409 and 'role="alert"' in refused.text


def test_what_the_settings_file_keeps_up_is_not_changed_here(house: House) -> None:
    put(house, "/upstreams/of-file", SPEC)
    with house.platform.engine.begin() as connection:
        connection.exec_driver_sql(
            "UPDATE resources SET managed_by = 'file' WHERE name = 'of-file'"
        )
    text = house.browser("*", "owner").get("/console/routing/upstream?name=of-file").text
    assert "tokenschain.yaml" in text and "/console/routing/upstream/drain" not in text


def test_rules_are_previewed_and_the_same_ones_applied(house: House, cloud: str) -> None:
    browser = house.browser("*", "owner")
    form = form_fields(browser.get("/console/routing/models/edit").text)
    form |= {"name": "writer", "model-1": "m-2", "order-1": "2", "model-2": "m-1", "order-2": "1",
             "language-2": "zh", "tools-2": "on", "tags-2": "a=b c", "from-2": "10"}  # fmt: skip
    wrong = browser.post("/console/routing/models/edit", form | {"weight-1": "lots"})
    assert wrong.status_code == 400 and "lots" in wrong.text and 'value="m-2"' in wrong.text
    hasty = browser.post("/console/routing/models/edit", form | {"step": "apply"})
    assert hasty.status_code == 200, "it is seen first"
    assert house.platform.operator("GET", "/virtual-models/writer").status_code == 404
    seen = form_fields(hasty.text) | {"language-1": "zh", "step": "apply"}
    other = browser.post("/console/routing/models/edit", seen | {"model-2": ""})
    assert other.status_code == 200, "other rules than those that were seen"
    done = browser.post("/console/routing/models/edit", seen)
    assert done.status_code == 303, Page(done.text).words
    entries = house.platform.operator("GET", "/virtual-models/writer").json()["spec"]["entries"]
    when = {"language": "zh", "tags": ["a=b", "c"], "needs": ["tools"], "prompt_tokens_min": 10}
    assert entries == [{"model": "m-1", "when": when}, {"model": "m-2"}]
    assert "writer" in browser.get("/console/routing/models").text
    # Changed meanwhile: both are shown, nothing is lost.
    form = form_fields(browser.get("/console/routing/models/edit?name=writer").text)
    put(house, "/virtual-models/writer", {"entries": [{"model": "m-2", "weight": 7}]})
    stale = browser.post("/console/routing/models/edit", form | {"step": "preview"})
    assert stale.status_code == 412 and "weight" in stale.text and 'value="m-1"' in stale.text
    taken = browser.post("/console/routing/models/edit", form | {"revision": ""})
    assert taken.status_code == 409


@pytest.mark.parametrize("role", ["auditor", "developer", "viewer", "finance"])
def test_who_may_only_look_changes_nothing(house: House, role: str) -> None:
    put(house, "/upstreams/own-b", SPEC, tenant="alpha")
    browser = house.browser("alpha", role)
    text = browser.get("/console/routing").text
    assert "/console/routing/new" not in text
    form = {"name": "own-b", "of": "alpha", "typed": "own-b", "kind": "upstreams", "number": "1",
            "model-1": "m-1", "base_url": "https://x.example/v1"}  # fmt: skip
    for path in ("upstream/drain", "remove", "new", "models/edit", "revision"):
        reply = browser.post(f"/console/routing/{path}", form)
        # To whom may see that the name is taken, that is said first.
        assert reply.status_code in (403, 404, 409), (path, reply.status_code)
    found = house.platform.operator("GET", "/upstreams/own-b", params={"tenant": "alpha"})
    assert "drain" not in found.json()["spec"]


def test_nothing_of_another_tenant_is_shown_or_changed(house: House) -> None:
    put(house, "/upstreams/secret-cloud", SPEC, tenant="beta")
    model = {"entries": [{"model": "m-1"}]}
    put(house, "/virtual-models/secret-model", model, tenant="beta")
    revision = house.platform.operator("GET", "/revisions?limit=1").json()["data"][0]["revision"]
    browser = house.browser("alpha", "owner")
    for path in (
        "", "/models", "/revisions", f"/revision?number={revision}",
        "/upstream?name=secret-cloud&of=beta", "/models/edit?name=secret-model&of=beta",
        "/remove?kind=virtual-models&name=secret-model&of=beta",
    ):  # fmt: skip
        for shown in (path, f"{path}{'&' if '?' in path else '?'}tenant=beta"):
            text = browser.get(f"/console/routing{shown}").text
            assert "models.example" not in text.replace("own-", ""), shown
            # What was asked for is said again, as of something that does not exist.
            asked = r"(name|value|href|content)=\S+|There is no [^<]*"
            assert "secret-" not in re.sub(asked, "", text), shown
    form = {"name": "secret-cloud", "of": "beta", "typed": "secret-cloud", "number": str(revision)}
    for path in ("upstream/drain", "upstream/test", "remove", "revision"):
        assert browser.post(f"/console/routing/{path}", form).status_code in (403, 404), path


def test_hostile_names_and_reasons_stay_text(house: House) -> None:
    spec = {"entries": [{"model": "m-1"}]}
    path = f"/virtual-models/{quote(HOSTILE, safe='')}"
    reply = house.platform.operator("PUT", path, {"spec": spec, "reason": HOSTILE})
    assert reply.status_code == 200, reply.text
    number = reply.json()["revision"]
    browser = house.browser("*", "owner")
    for where in ("models", f"models/edit?name={quote(HOSTILE)}", "revisions",
                  f"revision?number={number}", f"remove?kind=virtual-models&name={quote(HOSTILE)}"):  # fmt: skip
        text = browser.get(f"/console/routing/{where}").text
        assert "<img" not in text and html.escape(HOSTILE, quote=False)[:8] in text, where
        assert not inline_code(text.replace("/onerror=", "")), where


def test_a_part_that_fails_leaves_the_settings(
    house: House, cloud: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise ValueError("no reports")

    monkeypatch.setattr("tokenschain.control.gateways.upstreams", broken)
    text = house.browser("*", "owner").get("/console/routing").text
    assert "could not be read" in text and cloud in text


def _one(browser: Browser, path: str) -> Page:
    return Page(browser.get(path).text)


def test_forms_are_whole(house: House, cloud: str) -> None:
    browser = house.browser("*", "owner", "zh")
    for path in (
        "new",
        f"upstream?name={cloud}",
        f"remove?name={cloud}",
        "models/edit",
        "revisions",
    ):
        page = _one(browser, f"/console/routing/{path}")
        assert len(page.all("h1")) == 1 and page.unclosed == [], path
        ids = [one["id"] for _, one in page.tags if one.get("id")]
        assert len(ids) == len(set(ids)), path
