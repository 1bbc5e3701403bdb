"""Embedding and reranking calls that share a call upstream."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests import fakes
from tests.fakes import GRANT
from tokenschain.core.call import Attempt, Call
from tokenschain.core.errors import ApiError
from tokenschain.core.formats.formats import API_FORMATS
from tokenschain.core.formats.openai_chat import Api, parse
from tokenschain.core.ports import delivered
from tokenschain.core.pricing.catalog import Usage
from tokenschain.core.routing import request_batching
from tokenschain.core.snapshot import (
    Candidate,
    ModelRoute,
    Offer,
    Plan,
    Upstream,
)
from tokenschain.core.tenancy import KeyGrant
from tokenschain.gateway.dispatch.request_batching import LANES, Batching
from tokenschain.providers.openai_compat.reply_budget import ReplyBudget

PLAN = Plan(ModelRoute("e", "embedding", ()), ())
CANDIDATE = Candidate(Upstream("u", "sim", "http://x/v1"), Offer("u", "e"))


class Whole:
    def __init__(self, body: bytes) -> None:
        self.body = body

    async def deliver(self, call: Call) -> bytes:
        return self.body


class Embedder:
    """Answers after a tick with the length of each text; refuses the text `bad`."""

    def __init__(self) -> None:
        self.asked: list[list[str]] = []

    async def open(self, call: Call, caller: object, plan: Plan) -> Any:
        given = json.loads(bytes(call.parsed.fields["input"]))
        texts = [given] if isinstance(given, str) else given
        self.asked.append(texts)
        attempt = Attempt(CANDIDATE, 0.0)
        call.attempts.append(attempt)
        await asyncio.sleep(0.01)
        if "bad" in texts:
            attempt.outcome = "invalid_request"
            raise ApiError("invalid_request", "bad")
        if "down" in texts:
            attempt.outcome = "upstream_failed"
            raise ApiError("upstream_failed", "down")
        attempt.outcome, attempt.usage = "ok", Usage(sum(map(len, texts)), source="provider")
        data = [{"index": i, "embedding": [float(len(t))]} for i, t in enumerate(texts)]
        return Whole(json.dumps({"object": "list", "data": data[::-1], "model": "e"}).encode())


def call_of(text: Any, **more: Any) -> Call:
    body = json.dumps({"model": "e", "input": text, **more}).encode()
    call = fakes.call_of(body, api_format=API_FORMATS[2])
    call.parsed = parse(Api.EMBEDDINGS, body)
    return call


async def embed(house: Batching, call: Call) -> Any:
    answer = await house.open(call, GRANT, PLAN)
    return json.loads(await delivered(answer, call))


def run(texts: list[Any], **more: Any) -> tuple[Embedder, list[Any], list[Call]]:
    async def all_of() -> list[Any]:
        house = Batching(embedder, lambda: asyncio.get_running_loop().time())  # type: ignore[arg-type]
        return await asyncio.gather(*(embed(house, c) for c in calls), return_exceptions=True)

    embedder, calls = Embedder(), [call_of(text, **more) for text in texts]
    return embedder, asyncio.run(all_of()), calls


def test_what_comes_while_others_are_under_way_goes_together() -> None:
    texts = [f"text {number}" for number in range(30)]
    embedder, answers, calls = run(texts)
    assert len(embedder.asked) <= LANES + 6
    assert [len(asked) for asked in embedder.asked[:LANES]] == [1] * LANES
    for text, answer in zip(texts, answers, strict=True):
        assert [d["embedding"] for d in answer["data"]] == [[float(len(text))]]
        assert answer["data"][0]["index"] == 0
    tokens = sum(c.attempts[-1].usage.prompt_tokens for c in calls)  # type: ignore[union-attr]
    assert tokens == sum(sum(map(len, asked)) for asked in embedder.asked)


def test_equal_texts_are_asked_once() -> None:
    embedder, answers, _ = run(["a", "b", *["same"] * 8])
    assert sum(asked.count("same") for asked in embedder.asked) < 8
    assert all(a["data"][0]["embedding"] == [4.0] for a in answers[2:])


def test_arrays_come_back_in_their_own_order() -> None:
    _, answers, _ = run(["a", "b", ["ccc", "dd"], ["e", "ccc"]])
    assert [[d["embedding"][0] for d in a["data"]] for a in answers[2:]] == [[3, 2], [1, 3]]


class Ranker:
    """Scores each document by its length."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, list[str]]] = []

    async def open(self, call: Call, caller: object, plan: Plan) -> Any:
        fields = {name: json.loads(bytes(raw)) for name, raw in call.parsed.fields.items()}
        self.asked.append((fields["query"], fields["documents"]))
        attempt = Attempt(CANDIDATE, 0.0)
        call.attempts.append(attempt)
        await asyncio.sleep(0.01)
        attempt.outcome, attempt.usage = "ok", Usage(100, source="provider")
        scores = sorted(
            ({"index": i, "relevance_score": len(d)} for i, d in enumerate(fields["documents"])),
            key=lambda row: -row["relevance_score"],
        )
        results = scores[: fields.get("top_n")]
        return Whole(json.dumps({"model": "r", "results": results}).encode())


def rank_of(query: str, documents: list[str], **more: Any) -> Call:
    body = json.dumps({"model": "r", "query": query, "documents": documents, **more}).encode()
    call = fakes.call_of(body, api_format=API_FORMATS[3])
    call.parsed = parse(Api.RERANK, body)
    return call


def test_documents_of_one_query_are_ranked_together_and_taken_apart() -> None:
    async def run() -> None:
        ranker = Ranker()
        house = Batching(ranker, asyncio.get_running_loop().time)  # type: ignore[arg-type]
        first = [asyncio.create_task(embed(house, rank_of("q", ["x"]))) for _ in range(LANES)]
        await asyncio.sleep(0)
        rest = [
            embed(house, rank_of("q", ["a", "bbb", "cc"])),
            embed(house, rank_of("q", ["cc", "dddd"], top_n=1)),
            embed(house, rank_of("another", ["e"])),
            embed(house, rank_of("q", ["f"], return_documents=True)),
        ]
        one, two, three, four = await asyncio.gather(*rest)
        await asyncio.gather(*first)
        assert [(r["index"], r["relevance_score"]) for r in one["results"]] == [
            (1, 3), (2, 2), (0, 1)
        ]  # fmt: skip
        assert [(r["index"], r["relevance_score"]) for r in two["results"]] == [(1, 4)]
        assert len(three["results"]) == len(four["results"]) == 1
        assert ("q", ["a", "bbb", "cc", "dddd"]) in ranker.asked
        assert one["usage"]["total_tokens"] + two["usage"]["total_tokens"] == 100

    asyncio.run(run())


def test_one_bad_text_spoils_only_its_own_call() -> None:
    _, answers, _ = run(["a", "b", "good", "bad", "fine"])
    assert isinstance(answers[3], ApiError) and answers[3].code == "invalid_request"
    assert [a["data"][0]["embedding"] for a in (answers[2], answers[4])] == [[4.0], [4.0]]


def test_a_failed_batch_fails_each_of_its_calls_with_its_attempts() -> None:
    _, answers, calls = run(["a", "b", "down", "xxxx"])
    assert {a.code for a in answers[2:]} == {"upstream_failed"}
    assert all(c.attempts[-1].outcome == "upstream_failed" for c in calls[2:])


class Leaving:
    """Calls of which some leave when a request with one of their texts is under way; each is over
    as at a gateway: charged for what its attempts have, and what is held for it given back."""

    def __init__(self, texts: list[str], leave: set[str], alone: bool = False) -> None:
        """
        Args:
            alone: whether they leave when they are asked for by themselves.
        """
        self.embedder = Holding()
        self.charged: dict[str, int] = {}
        self.found: dict[str, Any] = {}
        asyncio.run(self._run(texts, leave, alone))

    async def _run(self, texts: list[str], leave: set[str], alone: bool) -> None:
        house = Batching(self.embedder, asyncio.get_running_loop().time)  # type: ignore[arg-type]
        tasks = {text: asyncio.create_task(self._serve(house, text)) for text in texts}
        while not any(  # noqa: ASYNC110 - no event tells of it
            leave & set(asked) and alone in (False, len(asked) == 1)
            for asked in self.embedder.asked
        ):
            await asyncio.sleep(0.001)
        for text in leave:
            tasks[text].cancel()
        found = await asyncio.gather(*tasks.values(), return_exceptions=True)
        self.found = dict(zip(tasks, found, strict=True))
        await asyncio.gather(*house._tasks)

    async def _serve(self, house: Batching, text: str) -> Any:
        call = call_of(text)
        try:
            return await embed(house, call)
        finally:
            used = [one.usage.prompt_tokens for one in call.attempts if one.usage is not None]
            self.charged[text] = sum(used)
            if call.held is not None:
                call.held.release()


class Holding(Embedder):
    """Holds a part of what there is for upstreams' answers, for each call that it answers."""

    def __init__(self) -> None:
        super().__init__()
        self.budget = ReplyBudget(1_000_000)
        self.counted = 0

    async def open(self, call: Call, caller: object, plan: Plan) -> Any:
        answer = await super().open(call, caller, plan)
        self.budget.hold(call, 1_000)
        self.counted += call.attempts[-1].usage.prompt_tokens  # type: ignore[union-attr]
        return answer


def test_who_leaves_a_batch_under_way_owes_its_share() -> None:
    gone = {"three", "five5"}
    calls = Leaving(["a", "b", "three", "five5", "stays"], gone)
    left = {text for text, of in calls.found.items() if isinstance(of, asyncio.CancelledError)}
    assert left == gone
    assert calls.found["stays"]["data"][0]["embedding"] == [5.0]
    assert all(calls.charged.values())
    assert sum(calls.charged.values()) == calls.embedder.counted
    assert calls.embedder.budget.held == 0


def test_nobody_is_asked_one_by_one_for_who_has_left() -> None:
    calls = Leaving(["a", "b", "left", "bad", "fine"], {"left"})
    assert isinstance(calls.found["left"], asyncio.CancelledError)
    assert calls.found["fine"]["data"][0]["embedding"] == [4.0]
    assert ["left"] not in calls.embedder.asked
    assert calls.charged["left"] == 0
    assert calls.embedder.budget.held == 0


def test_who_leaves_while_it_is_asked_by_itself_owes_that() -> None:
    calls = Leaving(["a", "b", "left", "bad", "fine"], {"left"}, alone=True)
    assert calls.charged["left"] == 4
    assert sum(calls.charged.values()) == calls.embedder.counted
    assert calls.embedder.budget.held == 0


def test_who_leaves_before_its_batch_begins_owes_nothing() -> None:
    async def run() -> None:
        house = Batching(embedder, asyncio.get_running_loop().time)  # type: ignore[arg-type]
        first = [asyncio.create_task(embed(house, call_of(f"{n}"))) for n in range(LANES)]
        left = asyncio.create_task(embed(house, call_of("left")))
        await asyncio.sleep(0.001)
        left.cancel()
        await asyncio.wait([left])
        assert not any(task.done() for task in first), "nobody waits for a batch it is not in"
        await asyncio.gather(*first)

    embedder = Embedder()
    asyncio.run(run())
    assert not any("left" in asked for asked in embedder.asked)


@pytest.mark.parametrize(
    ("text", "more"), [([1, 2], {}), (["x"] * 9, {}), ("x", {"unheard_of": 1})], ids=str
)
def test_what_is_not_understood_goes_alone(text: Any, more: dict[str, Any]) -> None:
    assert request_batching.part_of(call_of(text, **more).parsed) is None


def key(grant: KeyGrant = GRANT, plan: Plan = PLAN, **more: Any) -> tuple[object, ...]:
    return request_batching.key_of(call_of("x", **more).parsed, grant, plan)


def test_other_options_projects_and_upstreams_never_share() -> None:
    assert key() == key(msgspec.structs.replace(GRANT, key_id="key_2"))
    others = [
        key(dimensions=8),
        key(plan=Plan(PLAN.route, (CANDIDATE,))),
        key(plan=Plan(PLAN.route, (), (Plan(PLAN.route, (CANDIDATE, CANDIDATE)),))),
        *(
            key(msgspec.structs.replace(GRANT, **{name: "other"}))
            for name in ("tenant", "project", "environment", "data_class", "priority")
        ),
    ]
    assert len({key(), *others}) == 1 + len(others)


def test_each_text_goes_where_its_own_key_and_headers_let_it() -> None:
    """One decision serves a batch: nobody's text may ride on a key that may go further."""
    secret = msgspec.structs.replace(GRANT, key_id="key_2", data_class="secret")
    sent: dict[str, set[tuple[str, bytes | None]]] = {}

    class Watching(Embedder):
        async def open(self, call: Call, caller: Any, plan: Plan) -> Any:
            texts = json.loads(bytes(call.parsed.fields["input"]))
            by = (caller.data_class, call.request.headers.get(b"x-tc-deadline-ms"))
            for text in [texts] if isinstance(texts, str) else texts:
                sent.setdefault(text, set()).add(by)
            return await super().open(call, caller, plan)

    async def ask(house: Batching, text: str, grant: KeyGrant, headers: dict[bytes, bytes]) -> None:
        call = call_of(text)
        call.request = msgspec.structs.replace(call.request, headers=headers)
        await delivered(await house.open(call, grant, PLAN), call)

    async def run() -> None:
        house = Batching(Watching(), asyncio.get_running_loop().time)  # type: ignore[arg-type]
        kinds = [("open", GRANT, {}), ("secret", secret, {}),
                 ("soon", GRANT, {b"x-tc-deadline-ms": b"9"})]  # fmt: skip
        await asyncio.gather(
            *(ask(house, f"{name} {n}", *given) for n in range(12) for name, *given in kinds)
        )

    asyncio.run(run())
    ways = {"open": ("", None), "secret": ("secret", None), "soon": ("", b"9")}
    assert sent == {f"{name} {n}": {way} for n in range(12) for name, way in ways.items()}


@given(st.integers(0, 10**6), st.lists(st.integers(0, 1_000), min_size=1, max_size=20))
def test_shares_add_up(total: int, weights: list[int]) -> None:
    parts = request_batching.shared(total, weights)
    assert sum(parts) == total and min(parts) >= 0


def test_a_batch_grows_while_it_is_in_time_and_shrinks_when_late() -> None:
    size = request_batching.Size()
    for _ in range(30):
        size.took(0.1, size.texts)
    assert size.texts == request_batching.TEXTS_MAX
    size.took(5.0, size.texts)
    assert size.texts == int(request_batching.TEXTS_MAX * request_batching.SHRINK)
