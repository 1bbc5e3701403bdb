"""The edge in front that speaks TLCP: what it says of callers is believed from its address alone.

No edge that speaks TLCP could be installed here: this is its side of the contract, header for header,
as the guide to cryptography has it.
"""

from __future__ import annotations

from typing import Any

import httpx

from tests.stack import EDGE, Stack
from tests.upstreams import UpstreamSimulator
from tests.web import TLS

STRANGER, CALLER = "127.0.0.3", "203.0.113.7"
CERTIFICATE = {
    "x-client-cert": "-----BEGIN%20CERTIFICATE-----",
    "x-client-verify": "SUCCESS",
    "x-client-dn": "CN=operator",
    "x-ssl-client-verify": "SUCCESS",
    "x-ssl-client-s-dn": "CN=operator",
    "x-ssl-cipher": "ECC-SM2-SM4-GCM-SM3",
}
"""What such edges tell of the connection, of which nothing is read."""


def ask(source: str, method: str, url: str, headers: dict[str, str], **more: Any) -> httpx.Response:
    """A request from one of this machine's own addresses."""
    way = httpx.HTTPTransport(local_address=source, verify=TLS)
    with httpx.Client(transport=way, timeout=30) as client:
        return client.request(method, url, headers=headers, **more)


def call(stack: Stack, source: str, key: str, headers: dict[str, str]) -> httpx.Response:
    body = {"model": "sim-chat", "messages": [{"role": "user", "content": "hi"}]}
    given = {"authorization": f"Bearer {key}"} if key else {}
    return ask(source, "POST", f"{stack.url}/v1/chat/completions", given | headers, json=body)


def test_a_callers_address_is_believed_from_the_edge_and_from_nobody_else(stack: Stack) -> None:
    key = stack.new_key(networks=[f"{CALLER}/32"])
    said = {"x-forwarded-for": CALLER}
    assert call(stack, EDGE, key, said).status_code == 200
    for source, headers in (
        (STRANGER, said),  # a caller that comes past the edge
        (STRANGER, {"x-real-ip": CALLER, "forwarded": f"for={CALLER}"}),
        (EDGE, {"x-forwarded-for": STRANGER}),
        (EDGE, {"x-forwarded-for": f"{CALLER}, {STRANGER}"}),  # the caller wrote the first one
        (EDGE, {"x-real-ip": CALLER, "forwarded": f"for={CALLER}"}),
    ):
        refused = call(stack, source, key, headers)
        assert refused.status_code == 403, (source, headers)
        assert refused.json()["error"]["code"] == "network_not_allowed"


def test_the_record_has_the_callers_address_from_the_edge_and_the_peers_from_others(
    stack: Stack,
) -> None:
    url = f"http://127.0.0.1:{stack.control_port}/api/v1/sessions"
    for source, person in ((EDGE, "edge"), (STRANGER, "stranger")):
        body = {"email": f"{person}@x.example", "password": "wrong wrong wrong"}
        headers = {"x-forwarded-for": CALLER, **CERTIFICATE}
        assert ask(source, "POST", url, headers, json=body).status_code == 401
    rows = stack.rows(
        "select address from audit_events where action = 'login:failed' "
        f"and address in ('{EDGE}', '{STRANGER}', '{CALLER}') order by at_ms"
    )
    assert [row["address"] for row in rows] == [CALLER, STRANGER]


def test_a_client_certificate_in_a_header_makes_nobody_anybody_and_goes_no_further(
    stack: Stack, upstream: UpstreamSimulator
) -> None:
    for source in (EDGE, STRANGER):
        assert call(stack, source, "", CERTIFICATE).status_code == 401
        for path in ("/api/v1/me", "/api/v1/keys"):
            url = f"http://127.0.0.1:{stack.control_port}{path}"
            assert ask(source, "GET", url, CERTIFICATE).status_code == 401, (source, path)
    before = len(upstream.heads)
    headers = CERTIFICATE | {"x-forwarded-for": CALLER}
    assert call(stack, EDGE, stack.key, headers).status_code == 200
    sent = "".join(upstream.heads[before:]).lower()
    assert sent and not [name for name in headers if name in sent]
