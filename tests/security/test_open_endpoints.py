"""Open endpoints: without a credential a process says that it lives and is ready, and no more."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import httpx
import pytest

from tests import web
from tests.stack import Stack
from tokenschain.semantic.service import SemanticService


def test_a_gateway_is_ready_or_not_and_its_metrics_have_a_token(stack: Stack) -> None:
    assert web.get(f"{stack.url}/readyz").json() == {"ready": True}
    assert web.get(f"{stack.url}/livez").text == "ok\n"
    wrong = stack.metrics_headers["authorization"][:-1] + "é"
    for headers in ({}, stack.headers, {"authorization": "Bearer"}, {"x-api-key": "x"},
                    {"authorization": f"Bearer {stack.admin_token}"},
                    {"authorization": wrong.encode()}):  # fmt: skip
        refused = httpx.get(f"{stack.url}/metrics", headers=headers, verify=web.TLS)  # type: ignore[arg-type]
        assert refused.status_code == 401 and "tokenschain_" not in refused.text
    assert "tokenschain_calls_total" in stack.metrics()
    told = web.get(f"{stack.url}/readyz", headers=stack.metrics_headers).json()
    assert told == {"ready": True, "problems": []}


@pytest.mark.parametrize("path", ["/", "/openapi.json", "/v1/openapi.json", "/readyz", "/livez"])
def test_nothing_that_a_gateway_serves_is_named_to_strangers(stack: Stack, path: str) -> None:
    stack.chat()
    for name in ("sim-chat", "other-chat", "127.0.0.1:"):
        assert name not in web.get(f"{stack.url}{path}").text


def test_control_names_nothing_to_strangers(stack: Stack) -> None:
    base = f"http://127.0.0.1:{stack.control_port}"
    assert web.get(f"{base}/readyz").json() == {"ready": True}
    assert web.get(f"{base}/livez").json() == {"live": True}
    home = web.get(f"{base}/")
    assert home.status_code == 200 and not any(
        name in home.text for name in ("sim-chat", "other-chat", "sim-embed")
    )
    for path in ("/openapi.json", "/metrics", "/api/v1/metrics", "/docs", "/redoc"):
        for headers in ({}, stack.headers, {"authorization": "Bearer x"}):
            refused = web.get(f"{base}{path}", headers=headers)
            assert refused.status_code in (401, 404), (path, refused.text[:200])
    assert stack.admin("GET", "/openapi.json").json()["openapi"].startswith("3.")
    figures = web.get(f"{base}/metrics", headers=stack.metrics_headers)
    assert "tokenschain_control_database_up 1.0" in figures.text


class _Exchange:
    def __init__(self, headers: dict[bytes, bytes]) -> None:
        self.request = SimpleNamespace(method="GET", path=b"/metrics", headers=headers, body=b"")
        self.status, self.body = 0, b""

    def reply(self, status: int, headers: bytes, body: bytes) -> None:
        self.status, self.body = status, body


def test_metrics_of_the_semantic_process_have_the_token_too() -> None:
    report = SimpleNamespace(group="acme/hr/m", false_hit_rate=0.0, low=0.0, high=0.0, checked=1,
                             served=1, pairs=7, threshold=None)  # fmt: skip
    matcher: Any = SimpleNamespace(reports=lambda: [report])
    unused: Any = None
    service = SemanticService(matcher, unused, lambda *_: None, "token-of-metrics")
    for headers in ({}, {b"authorization": b"Bearer x"}, {b"authorization": b"Bearer "},
                    {b"authorization": "Bearer é".encode("latin-1")}):  # fmt: skip
        exchange: Any = _Exchange(headers)
        service(exchange)
        assert exchange.status == 401 and b"acme" not in exchange.body
    exchange = _Exchange({b"authorization": b"Bearer token-of-metrics"})
    service(exchange)
    assert exchange.status == 200 and b"acme/hr/m" in exchange.body
