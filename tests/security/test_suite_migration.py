"""A platform moves from the international suite to gm and back while calls run: none fails, and
everything is readable."""

from __future__ import annotations

import asyncio
import json
import os
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests import web
from tests.flows.test_kept_content import Tenant, arrived
from tests.security.test_rotation import command
from tests.stack import Stack
from tests.upstreams import UpstreamSimulator
from tokenschain.infra.control_channel.signatures import BadSignature, Signatures
from tokenschain.infra.security.suite import GM, INTERNATIONAL, Suite

SECRET = "s3cret-of-the-cloud"


def signatures_of(suite: Suite, *secrets: str) -> Signatures:
    return Signatures(suite, lambda: secrets, time.time)


@pytest.mark.parametrize(("ours", "theirs"), [(INTERNATIONAL, GM), (GM, INTERNATIONAL), (GM, GM)])
def test_processes_of_different_suites_believe_each_other(ours: Suite, theirs: Suite) -> None:
    asks, answers = signatures_of(ours, "s" * 43), signatures_of(theirs, "s" * 43)
    for body in (b"", b"body", b"x" * 300_000):
        asked = asks.sign("POST", "/path", body)
        answers.check_head("POST", "/path", asked.header)
        believed = asyncio.run(answers.check("POST", "/path", body, asked.header))
        assert asked.answered(200, b"answer", believed.answer(200, b"answer"))
        assert not asked.answered(200, b"answer!", believed.answer(200, b"answer"))
    assert answers.former_at_s is None
    with pytest.raises(BadSignature):
        asyncio.run(answers.check("POST", "/path", body, asked.header))
    with pytest.raises(BadSignature, match="wrong"):
        signatures_of(theirs, "other" * 9).check_head(
            "POST", "/path", asks.sign("POST", "/path", b"").header
        )
    rotating = signatures_of(theirs, "n" * 43, "s" * 43)
    asyncio.run(rotating.check("POST", "/path", b"", asks.sign("POST", "/path", b"").header))
    assert rotating.former_at_s is not None
    assert answers.is_of_disk(b"kept", asks.of_disk(b"kept"))


def inventory(stack: Stack) -> dict[str, Counter[str]]:
    found: dict[str, Counter[str]] = {}
    for row in json.loads(command(stack, "crypto", "inventory", "-o", "json")):
        found.setdefault(row["what"], Counter())[row["algorithm"]] += row["rows"] or 0
    return found


@pytest.mark.skipif(os.environ.get("PROOFS") != "full", reason="six restarts; `make proofs`")
@pytest.mark.timeout(600)
def test_a_platform_moves_to_gm_and_back_under_load(
    tmp_path: Path, upstream: UpstreamSimulator
) -> None:
    stack = Stack(tmp_path, upstream.base_url, gateways=2)
    over, leaving, statuses = threading.Event(), [""], []

    def keep_calling() -> None:
        body = {"model": "sim-chat", "messages": [{"role": "user", "content": "hi"}]}
        while not over.is_set():
            # As a load balancer does: not to a gateway that is about to end.
            for url in [one for one in stack.urls if one != leaving[0]]:
                reply = web.post(
                    f"{url}/v1/chat/completions", json=body, headers=stack.headers, timeout=30
                )
                statuses.append(reply.status_code)
            time.sleep(0.02)

    def respond(**more: Any) -> Any:
        body = {"model": "sim-chat", "input": "hi"} | more
        return web.post(f"{stack.url}/v1/responses", json=body, headers=stack.headers, timeout=30)

    def start_anew(name: str) -> None:
        if name in stack.gateway_names:
            leaving[0] = stack.urls[stack.gateway_names.index(name)]
            time.sleep(0.3)
        stack.stop(name)
        stack.start(name)
        leaving[0] = ""

    def move(suite: str, first: str, *others: str) -> None:
        stack.environment["TOKENSCHAIN_CRYPTO__SUITE"] = suite
        start_anew(first)
        for url in stack.urls:  # whose suites differ now from control's, or from each other's
            assert web.get(f"{url}/v1/models", headers=stack.headers).status_code == 200
        for name in others:
            start_anew(name)
        assert suite in command(stack, "crypto", "reseal")

    def readable() -> None:
        for kept in responses:
            got = web.get(f"{stack.url}/v1/responses/{kept}", headers=stack.headers)
            assert got.status_code == 200, got.text
            assert respond(previous_response_id=kept).status_code == 200
        for key in keys:
            headers = {"authorization": f"Bearer {key}"}
            assert web.get(f"{stack.url}/v1/models", headers=headers).status_code == 200
        assert stack.admin("GET", "/api/v1/keys").status_code == 200
        assert "cloud" in command(stack, "secrets", "list")

    try:
        stack.start()
        command(stack, "secrets", "set", "cloud", given=SECRET)
        keys, responses = [stack.key, stack.new_key()], [respond().json()["id"]]
        tenant = Tenant(stack, "kept", "full")
        hers, his = tenant.ask("of ada", user="ada"), tenant.ask("of bob", user="bob")
        arrived(tenant, hers), arrived(tenant, his)
        hold = {"tenant": tenant.name, "end_user": "bob", "reason": "case 7"}
        assert stack.admin("POST", "/api/v1/legal-holds", json=hold).status_code == 201
        thread = threading.Thread(target=keep_calling)
        thread.start()
        move("gm", "control", "gateway", "gateway-1")
        readable()
        found = inventory(stack)
        assert set(found["secrets in files"]) == {"SM4-GCM"}
        assert set(found["stored_responses.sealed"]) == {"SM4-GCM"}
        assert set(found["API keys"]) == {"SHA-256"}
        former = found["API keys"]["SHA-256"]
        assert tenant.kept(hers) and tenant.erase(end_user="ada")["contents"] == 1
        his_next, hers_next = tenant.ask("bob, SM4", user="bob"), tenant.ask("ada, SM4", user="ada")
        arrived(tenant, his_next), arrived(tenant, hers_next)
        assert tenant.erase(end_user="bob") | {"id": ""} == {
            "id": "", "contents": 0, "held": 2, "keys": [],
        }  # fmt: skip
        keys.append(stack.new_key())
        responses.append(respond().json()["id"])
        assert inventory(stack)["API keys"] == {"SHA-256": former, "SM3": 1}
        move("international", "gateway", "control", "gateway-1")
        readable()
        found = inventory(stack)
        assert set(found["secrets in files"]) == {"AES-256-GCM"}
        assert set(found["stored_responses.sealed"]) == {"AES-256-GCM"}
        assert tenant.open(hers).status_code == 404, "what was erased stays so"
        assert tenant.kept(his) and tenant.kept(his_next) and tenant.kept(hers_next)
        assert tenant.erase(end_user="bob")["held"] == 2, "a hold holds in either suite"
        assert tenant.erase(end_user="ada")["contents"] == 1
        assert tenant.open(hers_next).status_code == 404 and tenant.kept(his_next)
        over.set()
        thread.join()
        assert set(statuses) == {200} and len(statuses) > 50
        stack.settled(len(statuses))
        assert "snapshot_ignored" not in stack.read_log()
    finally:
        over.set()
        stack.close()
