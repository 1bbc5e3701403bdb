"""The console is no way around what a key is bound to: it asks the gateway from control's own address,
and with keys alone that it made for the reader."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.console.visitors import Browser, House, ScriptedGateway, unseen
from tests.security.platform import platform
from tokenschain.console.app import Console, ConsoleSettings
from tokenschain.console.playground import Playground
from tokenschain.infra.security.suite import INTERNATIONAL

PLACE = {"tenant": "bank", "project": "p"}


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    folder = tmp_path_factory.mktemp("playground")
    with platform(folder) as made:
        made.operator("POST", "/keys", PLACE | {"project": "another"})
        made.operator("POST", "/keys", PLACE)
        settings = ConsoleSettings(None, False, "http://127.0.0.1:8000/v1", folder / "browser")
        gateway = ScriptedGateway()
        playground = Playground(gateway, made.app.state.context.sealer)
        console = Console(made.app, settings, INTERNATIONAL, unseen, playground)
        yield House(made, console, folder, gateway)


def _key(browser: Browser) -> str:
    return str(browser.post("/console/playground/keys", PLACE).json()["key"])


def _ask(browser: Browser, key: str) -> Any:
    return browser.send("/console/playground/answers", b"{}", x_playground_key=key)


def test_only_keys_made_on_the_page_by_its_reader_are_used(house: House) -> None:
    maker = house.platform.person("bank", "owner")
    browser, stolen = house.as_person(maker.token), {"networks": ["127.0.0.1/32"]}
    issued = house.platform.operator("POST", "/keys", PLACE | stolen).json()["key"]
    of_api = maker("POST", "/playground/keys", PLACE).json()["key"]
    sealed = _key(browser)
    assert _ask(browser, sealed).status_code == 200
    before = len(house.gateway.asked)
    others = (house.browser("bank", "owner"), house.browser("evil", "owner"),
              house.browser("*", "owner"))  # fmt: skip
    for key in (issued, of_api, "", "!", "k" * 300, sealed[:-8] + "AAAAAAA=", sealed * 9):
        assert _ask(browser, key).status_code == 401, key
        assert _ask(house.browser("evil", "viewer"), key).status_code == 401, key
    for other in others:
        assert _ask(other, sealed).json()["error"]["code"] == "playground_key_expired"
    assert len(house.gateway.asked) == before


@pytest.mark.parametrize(
    "left", ["role = 'viewer'", "project = 'another'", "tenant = 'evil'"], ids=str
)
def test_who_may_no_longer_call_asks_no_more_with_a_key_of_before(house: House, left: str) -> None:
    person = house.platform.person("bank", "developer", project="p")
    browser = house.as_person(person.token)
    key = _key(browser)
    assert _ask(browser, key).status_code == 200
    with house.platform.engine.begin() as db:
        db.exec_driver_sql(f"UPDATE bindings SET {left} WHERE user_id = '{person.id}'")
    assert _ask(browser, key).json()["error"]["code"] == "permission_denied"
