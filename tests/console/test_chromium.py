"""The console in a real browser: policy, accessibility, keyboard, both themes and a phone's width."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser as Chromium
from playwright.sync_api import Page as Tab

from tests.console.served import CHROMIUM, chromium, served
from tests.console.test_static_files import CACHE
from tests.console.visitors import House, refused, streamed, unseen
from tests.house.tree import ROOT
from tests.security.platform import Caller
from tokenschain.console.app import Console, ConsoleSettings
from tokenschain.console.playground import Playground
from tokenschain.console.rendering import CloudProvider, SignUpOffer
from tokenschain.infra.security.suite import INTERNATIONAL

AXE = ROOT / "tests" / "clients" / "node_modules" / "axe-core" / "axe.min.js"
PASSWORD = "correct horse battery"
ACTION_MAX_MS = 30_000
PATHS = (
    "", "/calls", "/calls?call=alpha-1", "/keys", "/keys/new", "/models", "/models/model?name=sold",
    "/search?q=alpha", "/start",
    "/start/cloud", "/playground", "/routing", "/routing/models/edit", "/cache", "/alerts",
    "/usage", "/wallet", "/limits", "/limits/edit?kind=budget",
    "/me", "/tokens/new", "/people", "/people/new", "/people/roles", "/people/roles/edit",
    "/people/person?person=ME", "/organization", "/organization/new",
    "/organization/new?kind=environment", "/audit", "/cache/warm", "/cache/flush",
    "/people/invite", "/alerts/silence/new", "/moderation", "/moderation/queue",
    "/moderation/freezes", "/moderation/freezes/new", "/moderation/proposals",
    "/moderation/suspensions", "/moderation/labels", "/moderation/policy",
    "/moderation/effective",
    "/duties", "/duties/incidents", "/duties/incidents/new", "/duties/incident?incident=INCIDENT",
    "/duties/requests",
)  # fmt: skip

pytestmark = pytest.mark.skipif(
    not Path(CHROMIUM).exists() or not AXE.exists(), reason="`make test` installs them"
)


class Visitor:
    """A browser before a console that listens."""

    def __init__(self, chromium: Chromium, base: str, house: House) -> None:
        self._chromium = chromium
        self.base = base
        self.house = house

    def tab(
        self, token: str = "", language: str = "en", theme: str = "light", width: int = 1_280
    ) -> tuple[Tab, list[str]]:
        """A tab, and what its browser complained of."""
        context = self._chromium.new_context(
            viewport={"width": width, "height": 844}, timezone_id="America/New_York"
        )
        wanted = {"tc_lang": language, "tc_theme": theme, **({"tc": token} if token else {})}
        context.add_cookies(
            [{"name": name, "value": value, "url": self.base} for name, value in wanted.items()]
        )
        tab = context.new_page()
        tab.set_default_timeout(ACTION_MAX_MS)
        wrong: list[str] = []
        tab.on("console", lambda said: wrong.append(said.text) if said.type == "error" else None)
        tab.on("pageerror", lambda error: wrong.append(str(error)))
        tab.on(
            "request",
            lambda asked: None if asked.url.startswith(self.base) else wrong.append(asked.url),
        )
        return tab, wrong


@pytest.fixture(scope="module")
def visitor(house: House) -> Iterator[Visitor]:
    clouds = (CloudProvider("deepseek", "DeepSeek", True),)
    settings = ConsoleSettings(
        None, False, "http://127.0.0.1:8000/v1", CACHE, clouds,
        SignUpOffer("https://ai.example/terms", 5 * 10**12, 30),
    )  # fmt: skip
    playground = Playground(house.gateway, house.platform.app.state.context.sealer)
    console = Console(house.platform.app, settings, INTERNATIONAL, unseen, playground)

    with served(console) as base, chromium() as browser:
        yield Visitor(browser, base, house)


def _serious(tab: Tab) -> list[str]:
    """What axe finds that keeps people out."""
    # Evaluated by the tool, not loaded by the page: its policy would refuse that.
    tab.evaluate(AXE.read_text("utf-8"))
    found = tab.evaluate("axe.run(document, {resultTypes: ['violations']})")
    return [
        f"{one['id']}: {node['html'][:120]}"
        for one in found["violations"]
        if one["impact"] in ("serious", "critical")
        for node in one["nodes"]
    ]


def test_signing_in_and_out(visitor: Visitor) -> None:
    person = visitor.house.platform.person("alpha", "developer", password=PASSWORD)
    email = visitor.house.platform.rows(f"SELECT email FROM users WHERE id = '{person.id}'")[0][0]
    tab, wrong = visitor.tab()
    tab.goto(f"{visitor.base}/console/calls")
    assert "/console/sign-in" in tab.url
    assert _serious(tab) == []
    tab.keyboard.type(str(email))
    tab.keyboard.press("Tab")
    tab.keyboard.type(PASSWORD)
    tab.keyboard.press("Enter")
    tab.wait_for_url(f"{visitor.base}/console/calls")
    tab.get_by_role("button", name="Sign out").click()
    tab.wait_for_url("**/console/sign-in")
    assert wrong == []


def _address(visitor: Visitor, path: str, person: Caller) -> str:
    """Where a page is; of `ME`, and of an `INCIDENT` that is made."""
    if "INCIDENT" in path:
        body = {"tenant": "alpha", "title": "key leaked", "severity": "larger"}
        made = visitor.house.platform.operator("POST", "/incidents", body).json()
        path = path.replace("INCIDENT", made["id"])
    return f"{visitor.base}/console{path}".replace("ME", person.id)


@pytest.mark.parametrize(("language", "theme"), [("zh", "light"), ("en", "dark")])
def test_no_page_breaks_the_policy_or_keeps_anyone_out(
    visitor: Visitor, language: str, theme: str
) -> None:
    person = visitor.house.platform.person("alpha", "owner")
    tab, wrong = visitor.tab(person.token, language, theme)
    for path in PATHS:
        address = _address(visitor, path, person)
        tab.goto(address, wait_until="networkidle")
        assert _serious(tab) == [], path
    assert wrong == []


@pytest.mark.parametrize(("language", "width"), [("zh", 390), ("en", 1_280)])
def test_whoever_comes_in_does_so_by_keyboard_and_nothing_keeps_anyone_out(
    visitor: Visitor, language: str, width: int
) -> None:
    boss = visitor.house.platform.person("alpha", "owner")
    wanted = {"tenant": "alpha", "email": f"in-{width}@alpha.example", "name": "N",
              "role": "developer"}  # fmt: skip
    link = boss("POST", "/invitations", wanted).json()["link"]
    tab, wrong = visitor.tab(language=language, width=width)
    tab.goto(f"{visitor.base}/console/sign-up", wait_until="networkidle")
    assert _serious(tab) == []
    assert tab.evaluate("document.documentElement.scrollWidth") <= width
    tab.goto(f"{visitor.base}/console/invitation?code={link.partition('code=')[2]}")
    assert _serious(tab) == []
    assert tab.evaluate("document.documentElement.scrollWidth") <= width
    tab.locator("input[name=name]").focus()
    for text in ("Li", PASSWORD, PASSWORD):
        tab.keyboard.press("Control+A")
        tab.keyboard.type(text)
        tab.keyboard.press("Tab")
    tab.keyboard.press("Enter")
    tab.wait_for_url(f"{visitor.base}/console")
    assert wrong == []


@pytest.mark.parametrize("system", ["light", "dark"])
def test_a_theme_is_as_chosen_or_as_the_system_says(visitor: Visitor, system: Any) -> None:
    grounds = {"light": "rgb(246, 247, 250)", "dark": "rgb(11, 15, 24)"}
    for theme in ("auto", "light", "dark"):
        tab, wrong = visitor.tab(theme=theme)
        tab.emulate_media(color_scheme=system)
        tab.goto(f"{visitor.base}/console/sign-in")
        shown = tab.evaluate(
            "[document.body, document.documentElement].map(one => getComputedStyle(one))"
            ".map((style, n) => n ? style.colorScheme : style.backgroundColor)"
        )
        expected = system if theme == "auto" else theme
        assert shown == [grounds[expected], expected], theme
        assert wrong == []


@pytest.mark.parametrize(("language", "width"), [("zh", 1_280), ("en", 390)])
def test_pages_of_the_platform_fit_and_keep_nobody_out(
    visitor: Visitor, language: str, width: int
) -> None:
    token = visitor.house.platform.person("*", "owner").token
    tab, wrong = visitor.tab(token, language, width=width)
    for path in (
        "/tenants",
        "/system",
        "/compliance",
        "/compliance/approvals",
        "/night",
        "/organization/new?tenant=alpha",
        "/system/settings",
    ):
        tab.goto(f"{visitor.base}/console{path}", wait_until="networkidle")
        assert _serious(tab) == [], path
        assert tab.evaluate("document.documentElement.scrollWidth") <= width, path
    assert wrong == []


def test_pages_fit_a_phone(visitor: Visitor) -> None:
    person = visitor.house.platform.person("alpha", "owner")
    tab, wrong = visitor.tab(person.token, width=390)
    for path in PATHS:
        tab.goto(_address(visitor, path, person))
        assert tab.evaluate("document.documentElement.scrollWidth") <= 390, path
    tab.goto(f"{visitor.base}/console/keys")
    tab.get_by_role("button", name="Menu").click()
    tab.get_by_role("link", name="Calls").click()
    tab.wait_for_url(f"{visitor.base}/console/calls")
    assert wrong == []


def test_a_call_is_opened_and_shut_by_keyboard_and_focus_comes_back(visitor: Visitor) -> None:
    tab, wrong = visitor.tab(visitor.house.platform.person("alpha", "developer").token)
    tab.goto(f"{visitor.base}/console/calls?model=alpha-model")
    link = tab.locator("tr#alpha-2 a")
    link.focus()
    tab.keyboard.press("Enter")
    tab.locator("#drawer[open] #drawer-title").wait_for()
    assert "call=alpha-2" in tab.url
    tab.keyboard.press("Escape")
    tab.locator("#drawer:not([open])").wait_for(state="attached")
    tab.wait_for_url(lambda address: "call=" not in address)
    assert "model=alpha-model" in tab.url
    assert tab.evaluate("document.activeElement.closest('tr').id") == "alpha-2"
    assert wrong == []


def test_a_page_asks_again_gets_nothing_where_nothing_changed_and_shows_what_is_new(
    visitor: Visitor,
) -> None:
    tab, wrong = visitor.tab(visitor.house.platform.person("alpha", "viewer").token)
    live = "**/console/live"
    with tab.expect_response(live) as first:
        tab.goto(f"{visitor.base}/console")
    assert first.value.status == 200 and int(first.value.headers["x-tc-poll-after-ms"]) >= 2_000
    with tab.expect_response(live) as again:
        pass
    assert again.value.status == 304
    call = visitor.house.enter(tenant="alpha", project="p1", model_asked="brand-new")
    tab.locator(f"#live tr#{call}").wait_for()
    assert not wrong


def test_the_calls_page_shows_what_is_new_by_the_filters_chosen_last(visitor: Visitor) -> None:
    tab, wrong = visitor.tab(visitor.house.platform.person("alpha", "viewer").token)
    tab.goto(f"{visitor.base}/console/calls")
    tab.locator("select[name=model]").select_option("alpha-model")
    tab.wait_for_url(lambda address: "model=alpha-model" in address)
    other = visitor.house.enter(tenant="alpha", project="p1", model_asked="another-model")
    fresh = visitor.house.enter(tenant="alpha", project="p1", model_asked="alpha-model")
    tab.locator(f"#latest tr#{fresh}").wait_for()
    assert not tab.locator(f"#latest tr#{other}").count()
    tab.get_by_role("button", name="Pause").click()
    tab.goto(f"{visitor.base}/console/calls?cursor=none")
    assert not tab.locator("[data-live], [data-pause]").count(), "older calls stay as they are"
    assert not wrong


def test_filters_change_the_table_and_the_address(visitor: Visitor) -> None:
    tab, wrong = visitor.tab(visitor.house.platform.person("alpha", "developer").token)
    tab.goto(f"{visitor.base}/console/calls")
    tab.get_by_label("Outcome").select_option("blocked")
    tab.get_by_text("No call matches").wait_for()
    assert "result=blocked" in tab.url
    assert wrong == []


MARKED = (
    "# Routes\n\nTwo **steps**, see [the guide](https://docs.example/a) and "
    "[this](javascript:alert(1)):\n\n1. first\n   - inner `code`\n2. second\n\n"
    "| a | b |\n|---|---|\n| 1 | <img src=x onerror=alert(1)> |\n\n"
    "![picture](https://tracker.example/p.png)\n\n```py\nprint('<b>')\n```\n"
    "<script>alert(1)</script> " + "`" * 400 + "*" * 400
)


def test_models_answer_side_by_side_and_what_they_write_is_text(visitor: Visitor) -> None:
    gateway = visitor.house.gateway
    tab, wrong = visitor.tab(visitor.house.platform.person("alpha", "owner").token)
    tab.goto(f"{visitor.base}/console/playground?model=sold&project=p1")
    tab.get_by_text("Compare side by side").click()
    tab.get_by_label("Model 2").select_option("at-cost")
    gateway.says = [streamed(*(MARKED[at : at + 7] for at in range(0, len(MARKED), 7)))
                    for _ in range(2)]  # fmt: skip
    tab.get_by_label("Ask; Enter").fill("How?")
    tab.keyboard.press("Enter")
    tab.locator(".answers .meta a").nth(1).wait_for()
    bodies = tab.locator(".answers .body")
    assert bodies.count() == 2
    for tag in ("img", "script"):
        assert bodies.locator(tag).count() == 0
    first = bodies.first
    assert first.locator("ol > li").count() == 2 and first.locator("li ul code").count() == 1
    assert first.locator("td").count() == 2 and "<img src=x" in first.inner_text()
    links = first.locator("a").evaluate_all("all => all.map(one => one.getAttribute('href'))")
    assert links == ["https://docs.example/a", "https://tracker.example/p.png"]
    assert "[this](javascript:alert(1))" in first.inner_text()
    tab.locator(".answers .meta", has_text="¥").nth(1).wait_for()
    assert tab.locator(".answers .meta a").first.get_attribute("href") == (
        "/console/calls?project=p1&call=alpha-1"
    )
    (key, body, cache), other = gateway.asked[-2:]
    assert key == other[0] and key.startswith("tc-") and cache
    assert b'"stream":true' in body and b'"temperature":0.7' in body
    assert _serious(tab) == []
    assert wrong == []


def test_questions_are_sent_one_by_one_and_stop_when_told_or_when_they_fail(
    visitor: Visitor,
) -> None:
    gateway = visitor.house.gateway
    tab, wrong = visitor.tab(visitor.house.platform.person("alpha", "owner").token)
    tab.goto(f"{visitor.base}/console/cache/warm?project=p1")
    tab.get_by_label("Read a file").set_input_files(
        {"name": "faq.txt", "mimeType": "text/plain", "buffer": "退货？\nb\nc\nd\ne".encode()}
    )
    tab.get_by_role("button", name="Estimate").click()
    before = len(gateway.asked)
    gateway.says = [streamed("x"), *(refused(500, "internal_error", "no") for _ in range(3))]
    tab.get_by_role("button", name="Send them").click()
    tab.get_by_role("button", name="Go on").wait_for()
    assert len(gateway.asked) - before == 4, "three that fail one after the other are enough"
    assert "退货？" in gateway.asked[before][1].decode() and all(gateway.bulk[before:])
    assert "4 / 5" in tab.locator("#told").inner_text()
    assert _serious(tab) == []
    tab.get_by_role("button", name="Go on").click()
    tab.get_by_role("button", name="Done").wait_for()
    assert len(gateway.asked) - before == 5
    assert "5 / 5 · Answered 2 · Were there 0 · Failed 3" in tab.locator("#told").inner_text()
    assert [one for one in wrong if "500" not in one] == []


def test_the_gateways_own_refusal_is_shown_and_asked_again(visitor: Visitor) -> None:
    gateway = visitor.house.gateway
    tab, wrong = visitor.tab(visitor.house.platform.person("alpha", "owner").token)
    tab.goto(f"{visitor.base}/console/playground?project=p1")
    gateway.says = [refused(429, "rate_limit_exceeded", "<b>Too many.</b>"), streamed("Now.")]
    tab.get_by_role("button", name="Explain a semantic cache").click()
    alert = tab.get_by_role("alert")
    alert.wait_for()
    assert "rate_limit_exceeded" in alert.inner_text() and "<b>Too many.</b>" in alert.inner_text()
    alert.get_by_role("button", name="Try again").click()
    tab.get_by_text("Now.", exact=True).wait_for()
    assert tab.get_by_role("alert").count() == 0
    assert [one for one in wrong if "429" not in one] == []
