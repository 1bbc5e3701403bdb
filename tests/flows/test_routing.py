"""Where calls go on real processes: virtual models, data zones, policies, explanations."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests import web
from tests.stack import PRICES, Stack
from tests.upstreams import UpstreamSimulator

ROUTING = {
    "policy": "cost-first",
    "explore": 0.0,
    "custom_policies": {"nearest": {"objective": "latency"}},
    "policy_overrides": {"tenant/quick": "nearest"},
    "residency": {"tenant/bank": ["cn"], "class/personal": ["cn"], "class/abroad": ["abroad"]},
    "models": {
        "writer": [
            {"model": "glm", "when": {"language": "zh", "tags": ["contract"]}},
            {"model": "llama", "when": {"language": "en"}},
            {"model": "qwen"},
        ],
        "only-cn": [{"model": "both", "upstream": "there"}],
    },
}


@pytest.fixture(scope="module")
def routed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    upstream = UpstreamSimulator()

    def entry(name: str, models: list[str], zone: str, price: str, **more: Any) -> dict[str, Any]:
        return {"id": name, "base_url": upstream.base_url, "models": models, "zone": zone,
                "prices": dict.fromkeys(models, PRICES | {"input": price}), **more}  # fmt: skip

    stack = Stack(
        tmp_path_factory.mktemp("routed"),
        "http://unused",
        upstreams=[
            entry("here", ["glm", "qwen", "both"], "cn", "5"),
            entry("there", ["llama", "both"], "abroad", "1"),
            entry("small", ["tight"], "cn", "1", concurrency_max=1),
        ],
        routing=ROUTING,
    ).start()
    yield stack
    stack.close()
    upstream.close()


def ask(stack: Stack, model: str, text: str, key: str = "", **headers: str) -> httpx.Response:
    return web.post(
        f"{stack.url}/v1/chat/completions",
        json={"model": model, "messages": [{"role": "user", "content": text}]},
        headers={"authorization": f"Bearer {key or stack.key}", **headers},
        timeout=20,
    )


def key_for(stack: Stack, tenant: str) -> str:
    return stack.new_key(tenant=tenant)


def test_chinese_contracts_and_english_reports_go_where_four_lines_say(routed: Stack) -> None:
    contract = ask(routed, "writer", "请审阅这份采购合同", **{"x-tc-tags": "contract"})
    assert contract.json()["model"] == "glm"
    assert ask(routed, "writer", "Summarise this quarterly report.").json()["model"] == "llama"
    assert ask(routed, "writer", "请写一首诗").json()["model"] == "qwen"
    row = routed.row_of(contract)
    assert (row["model_asked"], row["model_served"]) == ("writer", "glm")


def test_virtual_models_are_listed_and_checked_like_others(routed: Stack) -> None:
    listed = web.get(f"{routed.url}/v1/models", headers=routed.headers).json()["data"]
    assert {"writer", "only-cn"} <= {m["id"] for m in listed}
    one = web.get(f"{routed.url}/v1/models/writer", headers=routed.headers)
    assert one.json()["owned_by"] == "routing"
    refused = ask(routed, "writer", "x", routed.new_key(models=["qwen"]))
    assert (refused.status_code, refused.json()["error"]["code"]) == (404, "model_not_found")


def test_data_never_leaves_its_zone_even_when_that_is_dearer_or_impossible(routed: Stack) -> None:
    bank = key_for(routed, "bank")
    assert ask(routed, "both", "x").headers["x-tc-upstream"] == "there", "the cheaper one"
    assert ask(routed, "both", "x", bank).headers["x-tc-upstream"] == "here"
    refused = ask(routed, "only-cn", "x", bank)
    assert (refused.status_code, refused.json()["error"]["code"]) == (503, "no_upstream")


def test_the_choice_can_be_asked_for_without_a_call(routed: Stack) -> None:
    body = {"model": "both", "messages": [{"role": "user", "content": "x"}], "max_tokens": 5}
    headers = {"authorization": f"Bearer {routed.new_key(routing_details=True)}"}
    reply = web.post(f"{routed.url}/api/v1/routes/explain", json=body, headers=headers)
    told = reply.json()
    assert told["chosen"] == "there" and told["policy"] == "cost-first"
    assert [c["upstream"] for c in told["candidates"]] == ["here", "there"]
    assert {"first_token_s", "cost_pico_cny", "load", "concurrency_limit", "state", "zone"} <= set(
        told["candidates"][0]
    )
    wrong = web.post(
        f"{routed.url}/api/v1/routes/explain", json={"model": "both"}, headers=routed.headers
    )
    assert wrong.status_code == 400 and wrong.json()["error"]["param"] == "messages"


def test_an_operators_own_policy_holds_for_whom_it_is_set(routed: Stack) -> None:
    body = {"model": "both", "messages": [{"role": "user", "content": "x"}]}
    headers = {"authorization": f"Bearer {key_for(routed, 'quick')}"}
    told = web.post(f"{routed.url}/api/v1/routes/explain", json=body, headers=headers).json()
    assert (told["policy"], told["reason"]) == ("nearest", "latency")


def test_a_lone_upstream_is_explained_too(routed: Stack) -> None:
    asked = {"x-tc-route": "1"}
    key = routed.new_key(routing_details=True)
    told = ask(routed, "glm", "x", key, **asked).headers["x-tc-route"]
    assert told.startswith("only one; here ttft=") and told.endswith("tried here=ok")
    told = ask(routed, "glm", "x", **asked).headers["x-tc-route"]
    assert told == "only one; candidate 1 chosen; tried here=ok"


def test_what_finds_no_room_waits_in_line_and_bulk_waits_longest(routed: Stack) -> None:
    order: list[str] = []

    def one(name: str, **headers: str) -> None:
        body = {"model": "tight", "messages": [{"role": "user", "content": "x"}],
                "x_sim": {"delay_s": 0.4}}  # fmt: skip
        reply = web.post(f"{routed.url}/v1/chat/completions", json=body, timeout=20,
                           headers=routed.headers | headers)  # fmt: skip
        order.append(f"{name} {reply.status_code}")

    calls = [("first", "default"), ("bulk", "bulk"), ("interactive", "interactive")]
    threads = []
    for name, priority in calls:
        thread = threading.Thread(target=one, args=(name,), kwargs={"x-tc-priority": priority})
        thread.start()
        threads.append(thread)
        time.sleep(0.1)
    for thread in threads:
        thread.join()
    assert order[0] == "first 200"
    assert order.index("interactive 200") < order.index("bulk 200")


def test_a_deadline_is_kept_by_refusing_in_time(routed: Stack) -> None:
    body = {"model": "tight", "messages": [{"role": "user", "content": "x"}],
            "x_sim": {"delay_s": 5}}  # fmt: skip
    slow = threading.Thread(
        target=lambda: web.post(f"{routed.url}/v1/chat/completions", json=body, timeout=20,
                                  headers=routed.headers)
    )  # fmt: skip
    slow.start()
    time.sleep(0.3)
    refused = ask(routed, "tight", "x", **{"x-tc-deadline-ms": "200"})
    assert (refused.status_code, refused.json()["error"]["code"]) == (429, "overloaded")
    assert slow.is_alive(), "it was refused before there was room"
    assert int(refused.headers["retry-after"]) >= 1
    slow.join()
    wrong = ask(routed, "tight", "x", **{"x-tc-priority": "system"})
    assert (wrong.status_code, wrong.json()["error"]["param"]) == (400, "x-tc-priority")


def test_a_keys_data_class_keeps_its_calls_in_the_zones_of_that_class(routed: Stack) -> None:
    personal = routed.new_key(data_class="personal")
    both = routed.new_key(tenant="bank", data_class="abroad")
    refused = routed.admin("POST", "/api/v1/keys", json={"data_class": "unheard-of"})
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "data_class")
    # `there` is cheaper, and `cost-first` takes it for anyone else.
    assert routed.row_of(ask(routed, "both", "hi"))["upstream"] == "there"
    assert routed.row_of(ask(routed, "both", "hi", personal))["upstream"] == "here"
    for model in ("llama", "only-cn"):
        reply = ask(routed, model, "hi", personal)
        assert reply.status_code >= 400, reply.text
    # What a tenant and a class permit together: here nothing.
    assert ask(routed, "both", "hi", both).status_code >= 400
