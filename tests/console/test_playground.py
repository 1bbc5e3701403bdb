"""Playground: keys that end by themselves, answers passed on as they come, and what they cost."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from tests.console.visitors import Browser, House, Page, refused, streamed
from tokenschain.console import gateway
from tokenschain.console.gateway import GatewayUnreachable, HttpGateway
from tokenschain.control.identity import api_keys
from tokenschain.core.tenancy import KeyGrant
from tokenschain.wire.client import HttpClient

PLACE = {"tenant": "alpha", "project": "p1"}
ASKED = b'{"model":"sold"}'


def _key(browser: Browser) -> str:
    """A key as the page gets it: sealed."""
    return str(browser.post("/console/playground/keys", PLACE).json()["key"])


def _ask(browser: Browser, key: str, **headers: str) -> Any:
    headers = {"x_playground_key": key, **headers}
    return browser.send("/console/playground/answers", ASKED, **headers)


def test_the_page_offers_chat_models_to_who_may_call(house: House) -> None:
    browser = house.browser("alpha", "developer")
    page = browser.get("/console/playground?model=at-cost&project=p1")
    options = [one for one in Page(page.text).all("option")]
    assert page.text.count("<option") > 2 and "unpriced" not in page.text
    assert [one for one in options if "selected" in one] and "at-cost</option>" in page.text
    assert "tc-" not in page.text and 'data-project="p1"' in page.text
    refusal = house.browser("alpha", "viewer").get("/console/playground")
    assert refusal.status_code == 403 and "models:call" in refusal.text


def test_a_key_lives_some_minutes_and_does_chat_only(house: House) -> None:
    browser = house.browser("alpha", "developer")
    made = browser.post("/console/playground/keys", PLACE)
    assert made.status_code == 200 and made.headers["cache-control"] == "no-store"
    found = made.json()
    assert 0 < found["lasts_s"] <= api_keys.PLAYGROUND_KEY_S
    rows = house.platform.operator("GET", "/keys?tenant=alpha&limit=200").json()["data"]
    row = next(one for one in rows if one["id"].startswith("playkey_"))
    assert row["prefix"] not in made.text, "the page's script cannot use it elsewhere"
    assert row["expires_at_s"] <= time.time() + api_keys.PLAYGROUND_KEY_S
    assert (row["apis"], row["tags"]) == (["chat/completions"], ["source=playground"])
    assert found["key"] not in browser.get("/console/keys").text
    change = {"models": None, "networks": ["127.0.0.0/8"], "expires_at_s": None}
    for method, path, body in (("PATCH", "", change), ("POST", "/rotate", {"overlap_s": 60})):
        refusal = house.platform.operator(method, f"/keys/{row['id']}{path}", body)
        assert refusal.status_code == 409, "it stays what it was made for"
    assert house.platform.operator("DELETE", f"/keys/{row['id']}").status_code == 200


@pytest.mark.parametrize(
    "place",
    [PLACE | {"tenant": "beta"}, PLACE | {"project": "made-on-the-way"}, {"tenant": "*"}, {}],
)
def test_no_key_is_made_elsewhere_nor_for_who_may_not_call(
    house: House, place: dict[str, str]
) -> None:
    keyless = house.platform.person("alpha", "viewer")
    bound = house.browser("alpha", "developer", project="p1")
    refusal = bound.post("/console/playground/keys", place)
    assert refusal.status_code in (400, 403, 422) and "error" in refusal.json(), place
    assert house.as_person(keyless.token).post(
        "/console/playground/keys", PLACE
    ).json()["error"]["code"] == "permission_denied"  # fmt: skip


def test_one_person_has_five_at_a_time_and_ended_ones_leave_the_list(house: House) -> None:
    person = house.platform.person("alpha", "owner")
    for _ in range(7):
        assert person("POST", "/playground/keys", PLACE).status_code == 201
    mine = f"created_by = '{person.id}'"
    living = house.platform.rows(
        f"SELECT count(*) FROM api_keys WHERE {mine} AND revoked_at_s IS NULL"
    )
    assert living == [(api_keys.PLAYGROUND_KEYS_MAX,)]
    now_s = int(time.time())
    with house.platform.engine.begin() as db:
        db.exec_driver_sql(f"UPDATE api_keys SET expires_at_s = {now_s - 10} WHERE {mine}")
    listed = house.platform.operator("GET", "/keys?tenant=alpha&limit=200").json()["data"]
    assert not [one for one in listed if one["created_by"] == person.id]
    with house.platform.engine.begin() as db:
        api_keys.sweep(db, now_s)
    assert house.platform.rows(f"SELECT count(*) FROM api_keys WHERE {mine}") == [(7,)]
    with house.platform.engine.begin() as db:
        api_keys.sweep(db, now_s + 2 * 86_400)
    assert house.platform.rows(f"SELECT count(*) FROM api_keys WHERE {mine}") == [(0,)]
    assert house.key_of("alpha"), "other keys stay"


def test_gateways_are_told_of_no_key_of_the_playground_that_has_ended() -> None:
    def grant(key_id: str, ends_s: float | None) -> KeyGrant:
        return KeyGrant(key_id, "t", "p", "e", expires_at_s=ends_s)

    assert api_keys.is_over(grant("playkey_1", 99.0), 100.0)
    assert not api_keys.is_over(grant("playkey_1", 101.0), 100.0)
    assert not api_keys.is_over(grant("key_1", 99.0), 100.0)
    assert not api_keys.is_over(grant("key_1", None), 100.0)


def test_an_answer_is_passed_on_as_it_came(house: House) -> None:
    browser = house.browser("alpha", "developer")
    house.gateway.says = [
        streamed("你", "好"),
        refused(429, "rate_limit_exceeded", "Slower."),
        GatewayUnreachable("127.0.0.1:8000: Connection refused"),
    ]
    key = _key(browser)
    good = _ask(browser, key, x_playground_cache="off")
    assert good.status_code == 200 and good.headers["content-type"] == "text/event-stream"
    assert "data: [DONE]" in good.text and good.headers["x-tc-upstream"] == "two"
    assert "default-src 'none'" in good.headers["content-security-policy"]
    asked, *rest = house.gateway.asked[-1]
    assert asked.startswith("tc-") and rest == [ASKED, False]
    assert house.gateway.addresses[-1] == "testclient"
    limited = _ask(browser, key)
    assert limited.status_code == 429 and limited.json()["error"]["message"] == "Slower."
    assert house.gateway.asked[-1][2] is True
    lost = _ask(browser, key)
    assert lost.status_code == 502 and lost.json()["error"]["code"] == "gateway_unreachable"


def test_nobody_uses_the_console_as_a_way_to_the_gateway(house: House) -> None:
    before = len(house.gateway.asked)
    browser = house.browser("alpha", "developer")
    key = _key(browser)
    assert _ask(house.stranger(), key).json()["error"]["code"] == "signed_out"
    assert _ask(browser, key, sec_fetch_site="cross-site").status_code == 403
    assert _ask(browser, key, host="evil.example").status_code == 421
    assert len(house.gateway.asked) == before


def test_what_a_call_cost_is_shown_to_whose_it_is(house: House) -> None:
    found = house.browser("alpha", "developer", "zh").get("/console/playground/call?call=alpha-1")
    assert found.status_code == 200 and "¥" in found.json()["cost"]
    for call in ("beta-1", "none", "", "../users", "%00"):
        other = house.browser("alpha", "developer").get(f"/console/playground/call?call={call}")
        assert other.status_code in (404, 500, 400) and "cost" not in other.json()


def test_a_tenant_sees_what_it_is_charged_and_not_by_whom(house: House) -> None:
    text = Page(house.browser("alpha", "developer").get("/console/models").text).words
    assert "¥4.25 + ¥12.75" in text, "its own price"
    assert "¥1–¥3 + ¥3–¥9" in text and "up1" not in text and "¥2 +" not in text
    assert "No price is known" in text
    assert "¥5 + ¥15" in Page(house.browser("beta", "developer").get("/console/models").text).words
    assert "up1" in house.browser("*", "owner").get("/console/models").text


# --- over a socket -----------------------------------------------------------------------------


async def _serving(pieces: list[bytes], left: asyncio.Event) -> asyncio.Server:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        await reader.readexactly(len(ASKED))
        assert b"POST /v1/chat/completions" in head and b"Bearer tc-k\r\n" in head
        assert b"x-forwarded-for: 203.0.113.9\r\n" in head
        assert b"x-tc-cache: no-store" in head
        writer.write(
            b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n"
            b"x-request-id: r1\r\nx-secret: s\r\ntransfer-encoding: chunked\r\n\r\n"
        )
        for piece in pieces:
            writer.write(b"%x\r\n%b\r\n" % (len(piece), piece))
            await writer.drain()
        if not await reader.read(1):
            left.set()
        writer.close()

    return await asyncio.start_server(serve, "127.0.0.1", 0)


def test_a_stream_comes_piece_by_piece_and_who_leaves_ends_the_call() -> None:
    async def run() -> None:
        left = asyncio.Event()
        many = [b"data: %d\n\n" % n for n in range(3 * gateway.PIECES_AHEAD_MAX)]
        server = await _serving(many, left)
        client = HttpClient()
        port = server.sockets[0].getsockname()[1]
        asker = HttpGateway(client, f"http://127.0.0.1:{port}/v1")
        found = await asker.ask("tc-k", ASKED, "203.0.113.9", cache=False)
        assert found.headers == {"content-type": "text/event-stream", "x-request-id": "r1"}
        got = b""
        async for piece in found.pieces:
            got += piece
            if len(got) >= sum(map(len, many)):
                break
        await found.pieces.aclose()  # type: ignore[attr-defined]
        assert got == b"".join(many)
        async with asyncio.timeout(30):
            await left.wait()
        server.close()
        for url in (f"http://127.0.0.1:{port}/v1", "nowhere", "http://127.0.0.1:1/v1"):
            with pytest.raises(GatewayUnreachable):
                await HttpGateway(HttpClient(), url).ask("tc-k", ASKED, "203.0.113.9", cache=True)
        with pytest.raises(GatewayUnreachable):
            await asker.ask("tc-k\r\nx: y", ASKED, "", cache=True)
        client.close()

    asyncio.run(run())
