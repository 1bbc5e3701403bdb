"""Reranking at each vendor's own path and in its own shape; one shape out."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests import web
from tests.small_server import JsonHandler, serving
from tests.stack import PRICES, Stack

DOCUMENTS = ["apples", {"text": "pears and apples"}, "stones"]
SCORES = [0.5, 0.9, 0.1]
# Provider: base URL's path, path of reranking, shape of the answer.
VENDORS = {
    "alibaba": ("/compatible-mode/v1", "/compatible-api/v1/reranks", "usage"),
    "huawei-maas": ("/v2", "/v1/rerank", "usage"),
    "baidu-qianfan": ("/v2", "/v2/rerankers", "usage"),
    "siliconflow": ("/v1", "/v1/rerank", "meta"),
    "vllm": ("/v1", "/v1/rerank", "usage"),
    "tei": ("/v1", "/rerank", "texts"),
}


class Reranker(JsonHandler):
    def do_POST(self) -> None:
        parsed = json.loads(self.rfile.read(int(self.headers["content-length"])))
        provider = self.headers["authorization"].removeprefix("Bearer key-")
        _, path, shape = VENDORS[provider]
        scored: list[Any] = [
            {"index": i, "relevance_score": score} for i, score in enumerate(SCORES)
        ]
        if self.path != path:
            self._send(404, {"error": {"message": f"no {self.path} here"}})
        elif shape == "texts":
            assert parsed["texts"] == ["apples", "pears and apples", "stones"]
            self._send(200, [{"index": s["index"], "score": s["relevance_score"]} for s in scored])
        elif shape == "meta":
            self._send(200, {"id": "r", "results": scored, "meta": {"tokens": {"input_tokens": 9}}})
        else:
            self._send(200, {"id": "r", "results": scored, "usage": {"total_tokens": 9}})


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with serving(Reranker) as found:
        yield found


@pytest.fixture(scope="module")
def stack(address: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    upstreams = [
        {
            "id": name,
            "provider": name,
            "base_url": f"{address}{base}",
            "credential": f"env:KEY_{number}",
            "models": [name],
            "kinds": {name: "rerank"},
            "prices": {name: PRICES},
        }
        for number, (name, (base, _, _)) in enumerate(VENDORS.items())
    ]
    made = Stack(tmp_path_factory.mktemp("rerank"), "http://unused", upstreams=upstreams)
    made.environment |= {f"KEY_{number}": f"key-{name}" for number, name in enumerate(VENDORS)}
    made.start()
    yield made
    made.close()


@pytest.mark.parametrize("provider", VENDORS)
def test_documents_come_back_by_relevance(stack: Stack, provider: str) -> None:
    body = {
        "model": provider,
        "query": "fruit",
        "documents": DOCUMENTS,
        "top_n": 2,
        "return_documents": True,
    }
    reply = web.post(f"{stack.url}/v1/rerank", json=body, headers=stack.headers)
    assert reply.status_code == 200, reply.text
    assert reply.json()["results"] == [
        {"index": 1, "relevance_score": 0.9, "document": {"text": "pears and apples"}},
        {"index": 0, "relevance_score": 0.5, "document": {"text": "apples"}},
    ]
    row = stack.row_of(reply)
    source = "estimated" if provider == "tei" else "provider"
    assert (row["usage_source"], row["completion_tokens"]) == (source, 0)
    assert row["prompt_tokens"] == 9 or provider == "tei"


def test_bad_requests_name_the_field(stack: Stack) -> None:
    for change, param in (({"documents": []}, "documents"), ({"query": ""}, "query")):
        body = {"model": "vllm", "query": "q", "documents": ["d"]} | change
        reply = web.post(f"{stack.url}/v1/rerank", json=body, headers=stack.headers)
        assert (reply.status_code, reply.json()["error"]["param"]) == (400, param)
