"""A cloud is connected by its key: tried first, and nothing left where it does not work."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import pytest

from tests.console.visitors import House
from tokenschain.core.snapshot import Upstream
from tokenschain.core.upstream_report import MENDS, StepResult, Trial, UpstreamReport

SECRET = "sk-never-shown-again"
FORM = {"provider": "deepseek", "key": SECRET}
PATH = "/console/start/cloud"


class Refusing:
    """Finds that no key works."""

    async def test(
        self, upstream: Upstream, trial: Trial | None, stored: Mapping[str, str]
    ) -> UpstreamReport:
        assert list(stored.values()) == [SECRET]
        wrong = StepResult(
            "call",
            "failed",
            "<b>401</b> from the vendor",
            MENDS["upstream_rejected_credentials"],
            12,
        )
        return UpstreamReport((StepResult("connection", "ok", "reached", "", 3), wrong))


@pytest.fixture
def no_key_works(house: House) -> Iterator[None]:
    state = house.platform.app.state
    before, state.context = state.context, state.context._replace(upstream_tester=Refusing())
    yield
    state.context = before


def _there(house: House, kind: str, tenant: str = "") -> set[str]:
    whose = f"&tenant={tenant}" if tenant else ""
    rows = house.platform.operator("GET", f"/{kind}?limit=200{whose}").json()["data"]
    return {row["name"] for row in rows if row["tenant"] == tenant}


def test_a_cloud_whose_key_works_serves(house: House) -> None:
    browser = house.browser("*", "owner")
    assert SECRET not in browser.get(PATH).text
    done = browser.post(PATH, FORM)
    assert done.status_code == 200 and "Connected" in done.text, done.text
    assert SECRET not in done.text and "deepseek-flash" in done.text
    again = browser.post(PATH, FORM | {"key": "sk-another"})
    assert "deepseek-2" in again.text
    assert {"deepseek", "deepseek-2"} <= _there(house, "upstreams") & _there(house, "credentials")
    assert "There is an upstream already" in browser.get("/console/start").text
    taken = browser.post(PATH, FORM | {"name": "deepseek"})
    assert taken.status_code == 409 and 'role="alert"' in taken.text


@pytest.mark.usefixtures("no_key_works")
def test_where_a_test_fails_nothing_is_left_and_it_says_what_to_do(house: House) -> None:
    before = _there(house, "upstreams"), _there(house, "credentials")
    revisions = house.platform.operator("GET", "/revisions").json()["data"]
    failed = house.browser("*", "owner").post(PATH, FORM | {"name": "fresh", "models": "a, b"})
    assert failed.status_code == 422 and 'role="alert"' in failed.text
    assert "&lt;b&gt;401&lt;/b&gt;" in failed.text and "type a key that is valid" in failed.text
    assert "upstream-credentials set" not in failed.text
    assert SECRET not in failed.text and 'value="a, b"' in failed.text
    assert (_there(house, "upstreams"), _there(house, "credentials")) == before
    # No revision has the key, which a rollback would bring back.
    assert house.platform.operator("GET", "/revisions").json()["data"] == revisions


@pytest.mark.parametrize(
    "wrong",
    [{"provider": "no-such"}, {"provider": "custom", "base_url": "nowhere"}, {"name": "../x"},
     {"key": "two words"}, {"key": ""}],
)  # fmt: skip
def test_what_is_wrong_is_said_and_no_key_is_kept(house: House, wrong: dict[str, str]) -> None:
    before = _there(house, "credentials")
    revisions = house.platform.operator("GET", "/revisions").json()["data"]
    reply = house.browser("*", "owner").post(PATH, FORM | {"name": "other"} | wrong)
    assert 400 <= reply.status_code < 500 and 'role="alert"' in reply.text, reply.text
    assert SECRET not in reply.text
    assert _there(house, "credentials") == before
    assert house.platform.operator("GET", "/revisions").json()["data"] == revisions


def test_a_tenant_connects_its_own_and_who_may_not_is_offered_nothing(house: House) -> None:
    done = house.browser("alpha", "admin").post(PATH, FORM)
    assert done.status_code == 200, done.text
    assert "deepseek" in _there(house, "upstreams", "alpha")
    developer = house.browser("alpha", "developer")
    assert developer.get(PATH).status_code == 403 == developer.post(PATH, FORM).status_code
    assert PATH not in developer.get("/console/start").text
    before = _there(house, "upstreams", "beta")
    other = house.browser("alpha", "admin").post(f"{PATH}?tenant=beta", FORM)
    assert other.status_code == 403 and _there(house, "upstreams", "beta") == before
