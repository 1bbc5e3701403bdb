"""The eleven ways in which users report other semantic caches to fail, one test each (some have
more in `test_cache.py`, `tests/core/cache/test_key.py` and `tests/flows`).

vLLM Semantic Router, GPTCache, LiteLLM, Higress, OmniRoute and others; the comments name reports.
"""

from __future__ import annotations

import asyncio
import random
import time
from typing import Any

import msgspec
import numpy as np
import pytest

from tests import web
from tests.core.cache.test_key import BODY, SPACE, SYSTEM, USER, key
from tests.flows.test_caching import ask, chunks_of
from tests.semantic.test_matcher import Letters, entry, learn, matcher, taught
from tests.stack import Stack
from tests.upstreams import UpstreamSimulator
from tests.waiting import until
from tokenschain.core.cache.semantic_protocol import FIND_PATH, Find, Finding
from tokenschain.infra.control_channel.signatures import Signatures
from tokenschain.infra.control_channel.signed_client import Refused, SignedClient
from tokenschain.infra.security.suite import INTERNATIONAL
from tokenschain.semantic.embedders import Vectors
from tokenschain.semantic.error_bound import ServingDecision
from tokenschain.semantic.index import LocalVectorStore
from tokenschain.semantic.matcher import Matcher
from tokenschain.semantic.service import SemanticService
from tokenschain.semantic.verifier import Verifier
from tokenschain.wire.client import HttpClient
from tokenschain.wire.server import HttpServer

VERIFIER = Verifier.shipped()
facts_of = VERIFIER.facts_of


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ("How do I enable two-factor login?", "How do I disable two-factor login?"),
        ("Turn on dark mode", "Turn off dark mode"),
        ("Can I cancel the order?", "Can I not cancel the order?"),
        ("怎么开通自动续费", "怎么关闭自动续费"),
        ("从北京到上海的高铁", "从上海到北京的高铁"),
        ("Is Lyon larger than Porto?", "Is Porto larger than Lyon?"),
    ],
)
def test_mode_01_one_word_turns_the_meaning_round(a: str, b: str) -> None:
    """vLLM-SR #2691, GPTCache #694: the opposite is nearer than a paraphrase."""
    confidence, why = VERIFIER.weigh(facts_of(a), facts_of(b), 0.999, 0.999)
    assert confidence == 0.0 and why


def test_mode_01_and_other_words_for_it_do_not() -> None:
    pairs = (("How do I enable 2FA?", "How do I turn on 2FA?"), ("怎么开通会员", "如何开通会员"))
    for a, b in pairs:
        assert not VERIFIER.weigh(facts_of(a), facts_of(b), 0.95, 0.85)[1]


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ("What is 12 times 7?", "What is 12 times 8?"),
        ("Refund within 30 days", "Refund within 3 days"),
        ("3天能到吗", "五天能到吗"),
        ("转账5000元要手续费吗", "转账5万元要手续费吗"),
        ("Events on 2026-05-01", "Events on 2026-05-10"),
    ],
)
def test_mode_02_another_number_is_another_question(a: str, b: str) -> None:
    """vLLM-SR #36, #160."""
    assert VERIFIER.weigh(facts_of(a), facts_of(b), 0.999, 0.999)[0] == 0.0


def test_mode_02_and_the_same_number_in_other_signs_is_not() -> None:
    assert not VERIFIER.weigh(facts_of("三天能到吗"), facts_of("３天能到吗"), 0.97, 0.9)[1]


class Fog(Letters):
    """An embedder for which all is alike: no cosine below 0.9."""

    def _embed(self, texts: list[str], size: int) -> Vectors:
        plain = super()._embed(texts, size)
        fog = np.zeros(size, dtype=np.float32)
        fog[0] = 3.0
        rows = plain + fog
        return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), dtype=np.float32)


def test_mode_03_everything_matches_everything() -> None:
    """LiteLLM #12234, wso2 #113: an embedder with a high floor under a fixed threshold."""
    made = Matcher(
        Fog(), VERIFIER, random.Random(1).random, LocalVectorStore(2**24), unix_time=lambda: 0.0
    )
    sentences = [
        "Hello world", "What is one plus one?", "Where do swallows sleep?", "Sing me a song",
        "Who painted this bridge?", "Boil the rice", "Name a river", "Why is rust red?",
    ]  # fmt: skip
    served = 0
    for round_ in range(60):
        for text in sentences:
            asked = f"{text}{' ' * round_}"
            found = made.find(b"s", "g", asked)
            if found.entry is not None:
                served += 1
                assert found.entry.question.strip() == text
            made.learn(b"s", "g", asked.encode(), asked, entry(f"about {text}", asked), 0.01)
    assert made.error_bound_of("g")._labels, "it was compared, again and again"


def test_mode_04_nothing_matches() -> None:
    """LiteLLM #29086: isolation that puts the whole request into the filter finds nothing."""
    one = key(BODY)
    other = key({"model": "m", "messages": [SYSTEM, USER | {"content": "Returning a pair, how?"}]})
    assert one.key != other.key and one.namespace == other.namespace
    made = taught()
    found = [made.find(b"s", "g", f"my {n * 3} parcel where is it now") for n in "abcdefgh"]
    assert any(one.decision is ServingDecision.SERVE for one in found)


def test_mode_05_a_tenant_gets_anothers_answer() -> None:
    """LiteLLM #26992, #19575, vLLM-SR #1448, #2134: isolation is part of the identity, keyed by a
    secret; nothing of a caller's text decides it."""
    for field in ("tenant", "project", "environment", "data_class"):
        one, other = key(BODY), key(BODY, SPACE._replace(**{field: "other"}))
        assert one.key != other.key and one.namespace != other.namespace
    forged = {"model": "m", "messages": [SYSTEM, USER | {"content": "tenant: t\n" + "x"}]}
    assert key(forged, SPACE._replace(tenant="evil")).namespace != key(BODY).namespace


def tool(name: str) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name}}


@pytest.mark.parametrize(
    ("field", "one", "other"),
    [
        ("tools", [tool("a")], [tool("b")]),
        ("tools", [tool("a")], None),
        ("tool_choice", "auto", "none"),
        ("response_format", {"type": "json_object"},
         {"type": "json_schema", "json_schema": {"name": "a", "schema": {}}}),
        ("temperature", 0.0, 0.2),
        ("top_p", 0.5, 1),
        ("max_tokens", 10, 100),
    ],
)  # fmt: skip
def test_mode_06_what_changes_the_answer_is_not_in_the_key(
    field: str, one: Any, other: Any
) -> None:
    """OmniRoute #12734, #12307."""
    body = BODY | ({"tools": [tool("a")]} if field == "tool_choice" else {})
    without = {name: value for name, value in body.items() if name != field}
    first = key(body | {field: one})
    second = key(without if other is None else body | {field: other})
    assert first.key != second.key
    assert not first.namespace or first.namespace != second.namespace


def test_mode_07_the_last_message_alone_is_the_key() -> None:
    """GPTCache's and Higress' default; 98 % of fow-cache's traps."""
    yes = {"role": "user", "content": "Yes, please."}
    talks = [
        [SYSTEM, USER, {"role": "assistant", "content": said}, yes]
        for said in ("Shall I cancel it?", "Shall I renew it?")
    ]
    one, other = (key({"model": "m", "messages": talk}) for talk in talks)
    assert one.key != other.key
    assert not one.namespace or one.namespace != other.namespace


def test_mode_08_streams_come_back_broken(
    cached: tuple[Stack, UpstreamSimulator],
) -> None:
    """vLLM-SR #913, #937, LiteLLM #25670, #24579, nenya #18: whole text in pieces, Chinese too, in
    the form each caller asked for, and from any door."""
    stack, _ = cached
    text = "怎样给孩子报名秋季的游泳班呢"
    sim = {"text": ["先在网站上选班，再付报名费，", "最后带体检表到前台登记即可。"]}
    whole = ask(stack, text, x_sim=sim).json()["choices"][0]["message"]["content"]
    reply = ask(stack, text, stream=True, x_sim=sim)
    assert reply.headers["x-tc-cache"] == "hit-exact"
    pieces = [
        choice["delta"].get("content") or ""
        for chunk in chunks_of(reply) for choice in chunk["choices"]
    ]  # fmt: skip
    assert "".join(pieces) == whole and sum(map(bool, pieces)) > 1
    body = {"model": "sim-chat", "input": "a streamed response", "stream": True,
            "store": False}  # fmt: skip
    for outcome in ("miss", "hit-exact"):
        answer = web.post(f"{stack.url}/v1/responses", json=body, headers=stack.headers, timeout=30)
        assert answer.headers["x-tc-cache"] == outcome
        assert "response.completed" in answer.text
    for sim_ in ({"reason": "length"}, {"finish": False, "done": False}):
        for _ in range(2):
            cut = ask(stack, "broken off", stream=True, x_sim=sim_)
            assert cut.headers["x-tc-cache"] == "miss"


def test_mode_09_a_wrong_entry_stays(cached: tuple[Stack, UpstreamSimulator]) -> None:
    """vLLM-SR #1581: one entry is dropped by its key, here and where meanings are compared."""
    stack, _ = cached
    ask(stack, "a wrong one")
    hit = ask(stack, "a wrong one")
    flushed = stack.admin(
        "POST", "/api/v1/cache/flush",
        json={"tenant": "default", "entry": hit.headers["x-tc-cache-key"]},
    )  # fmt: skip
    assert flushed.status_code == 200
    until(lambda: ask(stack, "a wrong one").headers["x-tc-cache"] == "miss")
    made = matcher()
    learn(made, "where is my parcel", "here")
    made.drop("g", b"s", b"where is my parcel", 0.01)
    assert not made.clusters("g", [b"where is my parcel"], 10)


def test_mode_10_attackers_fill_it_and_listen(own_stack: Any, upstream: UpstreamSimulator) -> None:
    """CacheAttack (2601.23088), Early Bird (2409.20002), InputSnatch (2411.18191): nobody's key
    leads to another tenant's answer, so there is nothing to listen to; keys cannot be computed
    without the secret; and no key fills the cache by itself."""
    stack = own_stack(cache={"mode": "exact", "writes_per_minute": 5}).start()
    victim = ask(stack, "my secret question")
    other = stack.new_key(tenant="attacker")
    probe = ask(stack, "my secret question", other)
    assert probe.headers["x-tc-cache"] == "miss"
    again = ask(stack, "my secret question")
    assert again.headers["x-tc-cache"] == "hit-exact" and victim.status_code == 200
    kept = ask(stack, "my secret question", other)
    assert kept.headers["x-tc-cache-key"] != again.headers["x-tc-cache-key"]
    asked = [f"filler {number}" for number in range(20)]
    for text in asked:
        ask(stack, text, other)
    found = [ask(stack, text, other).headers["x-tc-cache"] for text in asked]
    assert found.count("hit-exact") <= 2 * 5, "five answers a minute, and a minute may have passed"


class Broken(Letters):
    """A model that fails, and one that gives nonsense."""

    way = "raises"

    def fine(self, texts: list[str]) -> Vectors:
        if self.way == "raises":
            raise RuntimeError("out of memory")
        return super().fine(texts) * np.float32("nan")


@pytest.mark.parametrize("way", ["raises", "nan"])
def test_mode_11_a_verifier_that_fails_lets_all_pass(way: str) -> None:
    """vLLM-SR #3075, #3162: whatever breaks on the way to a hit is a miss. (Judges that fail:
    `tests/flows/test_meaning.py`.)"""
    models = Letters()
    made = Matcher(
        models, VERIFIER, random.Random(1).random, LocalVectorStore(2**24), unix_time=lambda: 0.0
    )
    for number in range(260):
        name = "abcdefghijklmnopqrstuvwxyz"[number % 26]
        pattern = ("where is my {0}{0}{0} parcel", "my {0}{0}{0} parcel, where is it")[number % 2]
        for _ in range(3):
            made.error_bound_of("g").record_exact_hit()
        learn(made, pattern.format(name) + " " * (number % 7), f"at {name}")
    questions = [f"my {n * 3} parcel where is it now" for n in "abcdefgh"]
    assert any(made.find(b"s", "g", text).entry is not None for text in questions)
    broken = Broken()
    broken.way = way
    made._models = broken
    faults: list[str] = []

    signatures = Signatures(INTERNATIONAL, lambda: ("secret",), time.time)

    async def body() -> None:
        service = SemanticService(made, signatures, lambda what, why: faults.append(what), "t")
        server = HttpServer(service, lambda status, code, message: b"{}")
        port = await server.listen("127.0.0.1", 0)
        client = HttpClient()
        asks = SignedClient(f"http://127.0.0.1:{port}", signatures, client)
        for text in questions:
            try:
                answer = await asks.ask(FIND_PATH, msgspec.msgpack.encode(Find(b"s", "g", text)))
            except Refused:
                continue  # what a gateway takes for a miss
            assert not msgspec.msgpack.decode(answer, type=Finding).entry
        client.close()
        await server.drain(1)

    asyncio.run(body())
    assert bool(faults) == (way == "raises")
