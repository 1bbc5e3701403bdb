"""Answers given to questions that mean the same: by real models, in real processes."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests import web
from tests.flows.test_caching import ask
from tests.ports import free_port
from tests.small_server import JsonHandler, serving
from tests.stack import Stack
from tests.upstreams import UpstreamSimulator
from tests.waiting import until
from tokenschain.semantic.embedders import Embedders

WAYS = (
    "How do I return the {} lamp?",
    "Please tell me: how can I return the {} lamp?",
    "Returning the {} lamp - how do I do that?",
)
LAMPS = ("red", "blue", "green", "black", "white", "brass", "paper", "glass", "tall", "round")


def about_the_lamp(request: dict[str, Any], sim: dict[str, Any]) -> list[str]:
    asked = request["messages"][-1]["content"]
    lamp = next((lamp for lamp in LAMPS if f" {lamp} lamp" in asked), "other")
    return ["Put the ", f"{lamp} lamp ", f"into the {lamp} box."]


def _said_that_it_learns(stack: Stack, outcomes: list[str]) -> None:
    """In the header, the ledger, the metrics, `routes/explain` and the preview; other projects
    still learn, by calls or from pairs."""
    first_hit = outcomes.index("hit-semantic")
    assert set(outcomes[:100]) <= {"miss:learning", "hit-exact", "hit-inflight"}
    assert "miss:learning" not in outcomes[first_hit:]
    (row,) = stack.rows("select count(*) as n from ledger where cache_reason = 'learning'")
    assert row["n"] == outcomes.count("miss:learning")
    assert 'outcome="miss:learning"' in stack.metrics()
    other = {"authorization": f"Bearer {stack.new_key(project='other')}"}
    body = {"model": "sim-chat", "messages": [{"role": "user", "content": "Where is the lamp?"}]}

    def explained(headers: dict[str, str]) -> Any:
        url = f"{stack.url}/api/v1/routes/explain"
        return web.post(url, json=body, headers=headers).json()["cache"]

    assert explained(stack.headers) == {"mode": "semantic", "learning": False}
    assert explained(other)["learning"] is None
    reply = web.post(f"{stack.url}/v1/chat/completions", json=body, headers=other)
    assert reply.headers["x-tc-cache"] == "miss:learning"
    assert explained(other)["learning"] is True
    preview = stack.admin("GET", "/api/v1/cache/threshold-preview").json()["data"]
    seen = {one["project"]: (one["pairs"] >= 150, one["pairs_needed"]) for one in preview}
    assert seen == {"default": (True, 150), "other": (False, 150)}

    def teach(**fields: Any) -> tuple[int, Any]:
        wanted = {"tenant": "default", "project": "other", "model": "sim-chat", "pairs": PAIRS}
        said = stack.admin("POST", "/api/v1/cache/pairs", json=wanted | fields)
        return said.status_code, said.json()

    status, taught = teach()
    assert (status, taught["learned"], taught["unlike"], taught["pairs"]) == (200, 2, 1, 2)
    assert (taught["threshold"], taught["pairs_needed"], taught["processes"]) == (None, 150, 1)
    assert [teach(**wrong)[0] for wrong in (
        {"project": "none"}, {"model": "none"}, {"pairs": []}, {"pairs": PAIRS * 100},
        {"pairs": [{"a": "x", "b": "", "y": 1}]}, {"pairs": [{"a": "x", "b": "y", "y": 2}]},
    )] == [404, 404, 400, 400, 400, 400]  # fmt: skip


PAIRS = [
    {"a": "How do I return the red lamp?", "b": "How can I return the red lamp?", "y": 1},
    {"a": "How do I return the red lamp?", "b": "How do I return the red lamps?", "y": 1},
    {"a": "How do I return the red lamp?", "b": "What is the capital of France?", "y": 0},
]


def test_questions_that_mean_the_same_get_the_same_answer_and_traps_do_not(
    own_stack: Any, upstream: UpstreamSimulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Semantic hits come by themselves once enough was compared; without its process, misses. The
    mode is switched on while the gateway runs."""
    upstream.reset()
    monkeypatch.setattr(upstream, "says", about_the_lamp)
    stack = own_stack(
        semantic={"port": free_port()},
    ).start("control", "semantic", "gateway")
    rules = {"spec": {"mode": "semantic", "false_hit_rate_max": {"*": 0.05}}}
    switched = stack.admin("PUT", "/api/v1/cache-rules/default", json=rules)
    assert "`miss:unavailable`" in switched.json()["warnings"][0], switched.text
    stack.until_served()
    outcomes: list[str] = []
    with ThreadPoolExecutor(2) as pool:
        for round_ in range(30):
            asked = [
                way.format(lamp) + " " + "?" * (round_ % 4) + "!" * (round_ // 4)
                for lamp in LAMPS for way in WAYS
            ]  # fmt: skip
            outcomes += [r.headers["x-tc-cache"] for r in pool.map(lambda t: ask(stack, t), asked)]
            if "hit-semantic" in outcomes:
                break
    assert "hit-semantic" in outcomes, stack.read_log()
    _said_that_it_learns(stack, outcomes)
    hit = next(
        reply
        for text in ("How do I return the red lamp, please?", "How can I return the blue lamp",
                     "how do i return the green lamp", "How do I return the black lamp ???")
        if (reply := ask(stack, text)).headers["x-tc-cache"] == "hit-semantic"
    )  # fmt: skip
    assert 0 < float(hit.headers["x-tc-cache-confidence"]) <= 1
    row = stack.row_of(hit)
    assert (row["cache"], row["prompt_tokens"]) == ("hit-semantic", 0) and row["saved_tokens"] > 0
    metrics = web.get(
        f"http://127.0.0.1:{stack.settings.semantic.port}/metrics", headers=stack.metrics_headers
    ).text
    assert 'tokenschain_semantic_served{group="default/default/sim-chat"}' in metrics
    for path in ("find", "learn", "drop", "report", "clusters"):
        url = f"http://127.0.0.1:{stack.settings.semantic.port}/{path}"
        assert web.post(url, content=b"\x90").status_code == 401
    for trap in ("How do I not return the red lamp?", "How do I return 2 red lamps?",
                 "How do I return the purple lamp?", "怎么退红色的灯？"):  # fmt: skip
        assert ask(stack, trap).headers["x-tc-cache"] == "miss", trap
    other = stack.new_key(tenant="other")
    assert (
        ask(stack, "How do I return the red lamp, please?", other).headers["x-tc-cache"]
        == "miss:learning"
    )
    told_of_it(stack)
    # What was learned outlives the process; what it kept does not.
    stack.stop("semantic")
    stack.start("semantic")
    assert preview_of(stack)["threshold"] is not None
    # Its process dies: calls go on as misses, and nobody waits for it.
    stack.kill("semantic")
    began = time.monotonic()
    for number in range(5):
        reply = ask(stack, f"How do I return the {LAMPS[number]} lamp today, sir?")
        assert (reply.status_code, reply.headers["x-tc-cache"]) == (200, "miss:unavailable")
    assert time.monotonic() - began < 15
    assert "semantic_lost" in stack.read_log()


def preview_of(stack: Stack) -> Any:
    """Of the tenant that was asked; `other` is there too, with nothing learned."""
    told = stack.admin("GET", "/api/v1/cache/threshold-preview").json()["data"]
    (found,) = (one for one in told if one["tenant"] == one["project"] == "default")
    return found


def told_of_it(stack: Stack) -> None:
    """What control and the commands say of answers given by meaning."""

    def given_now() -> dict[float, int]:
        return {one["false_hit_rate_max"]: one["hits"] for one in preview_of(stack)["choices"]}

    until(lambda: given_now()[0.05] > 0)
    told, given = preview_of(stack), given_now()
    assert (told["tenant"], told["project"], told["model"]) == ("default", "default", "sim-chat")
    assert (told["false_hit_rate_max"], told["served"] > 0) == (0.05, True)
    hits = [given[share] for share in sorted(given)]
    assert hits == sorted(hits) and 0 < hits[-1] <= told["lookups"], "more is given for more"
    best = told["choices"][-1]
    assert best["saved_pico"]["CNY"] > 0 and 0 <= best["false_hit_rate"] <= 0.05

    asked = stack.admin("GET", "/api/v1/cache/query-clusters?tenant=default&limit=30").json()[
        "data"
    ]
    lamps = {lamp: [row for row in asked if f" {lamp} lamp" in row["queries"][0]]
             for lamp in LAMPS}  # fmt: skip
    assert all(lamps.values()), json.dumps(asked, indent=1, ensure_ascii=False)
    assert any(len(row["queries"]) > 1 for row in asked), "ways to ask the same are together"
    for lamp, rows in lamps.items():
        for row in rows:
            assert all(f" {lamp} lamp" in question for question in row["queries"]), row["queries"]
            assert row["lookups"] == row["misses"] + row["hits"]
    assert [row["lookups"] for row in asked] == sorted((r["lookups"] for r in asked), reverse=True)
    assert stack.admin("GET", "/api/v1/cache/query-clusters").status_code == 400
    audit = stack.admin("GET", "/api/v1/audit").text
    assert "cache:inspect" in audit

    ages = stack.admin("GET", "/api/v1/cache/hit-ages?model=sim-chat").json()["data"]
    assert ages[0]["age_s_max"] == 60 and ages[-1]["share_within"] == 1.0
    assert sum(row["hits"] for row in ages) > 0

    def command(*arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "tokenschain", "cache", *arguments],
            env=stack.environment | {"COLUMNS": "200"},
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        return done.stdout

    assert "default/default sim-chat" in command("threshold-preview")
    assert "1 min" in command("hit-ages")
    file = stack.folder / "frequent"
    assert "lamp" in command("query-clusters", "--tenant", "default", "--out", str(file))
    assert "lamp" in file.read_text()


SILENT_S = 8.0


class JudgeHandler(JsonHandler):
    """A judge that goes by what it is told to say, and keeps what it was asked."""

    verdict = "yes"
    about = ""
    """It says no of questions that are not about this."""
    asked: list[dict[str, Any]] = []  # noqa: RUF012

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        assert self.headers["authorization"] == "Bearer judge-key"
        assert self.headers["x-tc-cache"] == "no-store" and body["temperature"] == 0
        asked = json.loads(body["messages"][1]["content"])
        type(self).asked.append(asked)
        verdict = self.verdict if self.about in asked.get("earlier_question", self.about) else "no"
        if self.verdict == "silence":
            time.sleep(SILENT_S)  # the judge that does not answer
        self._send(200, {"choices": [{"message": {"role": "assistant", "content": verdict}}]})


def test_a_judge_may_decide_and_is_never_taken_for_having_said_yes(
    own_stack: Any, upstream: UpstreamSimulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JUDGE_KEY", "judge-key")
    monkeypatch.setattr(JudgeHandler, "asked", [])
    with serving(JudgeHandler) as url:
        judge = {"base_url": f"{url}/v1", "model": "judge", "credential": "env:JUDGE_KEY",
                 "decides": True, "wait_max_s": 1.0}  # fmt: skip
        stack = own_stack(
            cache={"mode": "semantic", "judge": judge}, semantic={"port": free_port()}
        )
        stack.start("control", "semantic", "gateway")

        def outcome(text: str, verdict: str) -> str:
            monkeypatch.setattr(JudgeHandler, "verdict", verdict)
            return str(ask(stack, text).headers["x-tc-cache"])

        pair = "How do I return the {} lamp?", "Please tell me: how can I return the {} lamp?"
        # A sample of what it says yes to is answered upstream, to check it.
        served = []
        for lamp in LAMPS:
            assert outcome(pair[0].format(lamp), "no") == "miss:learning"
            time.sleep(0.3)  # learning runs behind the answer, and nothing tells when it is done
            served.append(outcome(pair[1].format(lamp), "Yes."))
        assert served.count("hit-semantic") >= len(LAMPS) - 4
        question = JudgeHandler.asked[-1]
        assert question["new_question"] == pair[1].format(LAMPS[-1]) and question["answer"]

        way = "How do I give back the {} lamp?"
        verdicts = ("No", "perhaps", "yes, because", "", "silence")
        for verdict, lamp in zip(verdicts, LAMPS, strict=False):
            began = time.monotonic()
            assert outcome(way.format(lamp), verdict).startswith("miss"), verdict
            assert time.monotonic() - began < SILENT_S, "a judge that is silent is not waited for"
        # What the guards rule out is not put to it: it says yes to all of the red lamp here.
        before = len(JudgeHandler.asked)
        monkeypatch.setattr(JudgeHandler, "about", " red ")
        for trap in ("How do I not return the red lamp?", "How do I return the 2 red lamps?"):
            assert outcome(trap, "yes").startswith("miss")
        assert not any(" red " in one.get("earlier_question", "")
                       for one in JudgeHandler.asked[before:])  # fmt: skip
    metrics = web.get(
        f"http://127.0.0.1:{stack.settings.semantic.port}/metrics", headers=stack.metrics_headers
    ).text
    assert "tokenschain_semantic_judge_asked_total" in metrics
    assert "judge-key" not in stack.read_log() and "lamp" not in stack.read_log()


class EmbedderHandler(JsonHandler):
    """An embedding server whose cosines have another floor than the one of the platform."""

    models: Embedders
    broken = False

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        if self.broken:
            self._send(503, {"error": {"message": "no room"}})
            return
        vectors = self.models.fast(body["input"])
        rows = [{"index": i, "embedding": v.tolist()} for i, v in enumerate(vectors)]
        self._send(200, {"data": rows[::-1], "model": body["model"]})


def test_another_embedder_serves_as_well_and_without_it_there_are_misses(
    own_stack: Any, upstream: UpstreamSimulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(EmbedderHandler, "models", Embedders(), raising=False)
    with serving(EmbedderHandler) as url:
        embedder = {"base_url": f"{url}/v1", "model": "use", "dimensions": 512, "wait_max_s": 2.0}
        stack = own_stack(
            cache={"mode": "semantic", "false_hit_rate_max": {"*": 0.05}, "embedder": embedder},
            semantic={"port": free_port()},
        ).start("control", "semantic", "gateway")
        outcomes: list[str] = []
        for round_ in range(12):
            for lamp in LAMPS:
                for way in WAYS:
                    text = way.format(lamp) + " " + "?" * (round_ % 4) + "!" * (round_ // 4)
                    outcomes.append(ask(stack, text).headers["x-tc-cache"])
            if "hit-semantic" in outcomes:
                break
        assert "hit-semantic" in outcomes, stack.read_log()
        monkeypatch.setattr(EmbedderHandler, "broken", True)
        for lamp in LAMPS[:5]:
            reply = ask(stack, f"Say, how do I return the {lamp} lamp?")
            assert (reply.status_code, reply.headers["x-tc-cache"]) == (200, "miss:unavailable")
        assert "HTTP 503" in stack.read_log()
    # Where what was learned cannot be kept, that is said, and all else goes on.
    learned = stack.folder / "data" / "semantic" / "learned"
    learned.unlink(missing_ok=True)
    learned.mkdir(parents=True)
    stack.stop("semantic")
    assert stack.processes["semantic"].returncode == 0
    assert "learned_not_saved" in stack.read_log()
