"""Moderation of whole calls: requests refused or rewritten, answers that end before a word."""

from __future__ import annotations

import base64
import itertools
import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from anthropic import Anthropic, BadRequestError
from openai import OpenAI

from tests import web
from tests.stack import Stack
from tests.upstreams import UpstreamSimulator
from tests.waiting import until

BLOCKED = "违规测试词甲"
"""Of the seed pack."""
_numbers = itertools.count()
_says: dict[str, list[str]] = {}
"""What the upstream answers, by the id in a request, which would be blocked if it said so itself;
and to what has none."""


@pytest.fixture(scope="module")
def screened(stack: Stack, upstream: UpstreamSimulator) -> Iterator[Stack]:
    """A platform with a policy for everybody, and what is its own."""
    upstream.says = lambda request, sim: _says[sim.get("id", "")]  # type: ignore[method-assign]
    spec = {
        "state": "active",
        "personal_data": {
            "mobile": "reversible",
            "resident_id": "mask",
            "secret": "block",
        },
        "personal_data_in_answers": {"email": "mask"},
        "words": [{"text": "敏感词组", "risk": "A.2.i", "level": 3}],
        "category_actions": {
            "discrimination/other": {"high": "mask"},
            "discrimination/region": {"high": "block"},
        },
        "classifier": {"medium": 0.5, "high": 0.9},
        "keep_texts": True,
    }
    reply = stack.admin("PUT", "/api/v1/moderation-policies/all", json={"spec": spec})
    assert reply.status_code == 200, reply.text
    until(lambda: ask(stack, f"你好 {BLOCKED}").status_code == 400)
    yield stack
    del upstream.says
    gone = stack.admin("DELETE", "/api/v1/moderation-policies/all")
    assert gone.status_code == 200, gone.text
    until(lambda: ask(stack, BLOCKED).status_code == 200)


def ask(stack: Stack, content: Any, says: list[str] | None = None, **more: Any) -> httpx.Response:
    body = {
        "model": "sim-chat",
        "messages": [{"role": "user", "content": content}],
        "x_sim": answered(says),
    }
    return web.post(
        f"{stack.url}/v1/chat/completions", json=body | more, headers=stack.headers, timeout=30
    )


def answered(says: list[str] | None) -> dict[str, Any]:
    """Has the upstream answer so."""
    name = f"moderation-{next(_numbers)}"
    _says[name] = _says[""] = says or ["好", "的"]
    return {"id": name}


def chunks_of(reply: httpx.Response) -> list[dict[str, Any]]:
    lines = [line[6:] for line in reply.text.splitlines() if line.startswith("data: ")]
    assert lines[-1] == "[DONE]", reply.text
    return [json.loads(line) for line in lines[:-1]]


def text_of(reply: httpx.Response) -> str:
    found = [choice for chunk in chunks_of(reply) for choice in chunk["choices"]]
    return "".join(choice["delta"].get("content") or "" for choice in found)


def reason_of(reply: httpx.Response) -> str:
    found = [choice for chunk in chunks_of(reply) for choice in chunk["choices"]]
    return [c["finish_reason"] for c in found if c["finish_reason"]][-1]


def test_a_request_with_a_blocked_word_goes_nowhere_and_is_on_record(
    screened: Stack, upstream: UpstreamSimulator
) -> None:
    before = len(upstream.requests)
    for content in (
        f"请说{BLOCKED}",
        "违 规*测\u200b试 詞 甲",
        [{"type": "text", "text": "违规测"}, {"type": "text", "text": "试词甲"}],
        base64.b64encode(BLOCKED.encode()).decode(),
    ):
        reply = ask(screened, content)
        assert reply.status_code == 400, (content, reply.text)
        assert reply.json()["error"]["code"] == "content_filter"
    assert len(upstream.requests) == before
    row = screened.row_of(reply)
    assert row["moderation"] == "blocked" and row["outcome"] == "content_filter"
    assert row["cost_pico"] == 0


def test_a_stream_ends_before_a_blocked_word_and_what_came_before_stays(screened: Stack) -> None:
    pieces = ["这是一段很长的正常文字，" * 4, "然后", *BLOCKED, "再继续"]
    reply = ask(screened, "讲讲", pieces, stream=True, stream_options={"include_usage": True})
    assert reply.status_code == 200
    assert not set(BLOCKED[:4]) & set(text_of(reply)), text_of(reply)
    assert text_of(reply).startswith("这是一段") and reason_of(reply) == "content_filter"
    usage = chunks_of(reply)[-1]["usage"]
    row = screened.row_of(reply)
    assert row["moderation"] == "blocked" and row["finish_reason"] == "content_filter"
    assert row["completion_tokens"] == usage["completion_tokens"]


def test_a_harmless_stream_is_whole(screened: Stack) -> None:
    pieces = [f"第{at}段，违规测试只是测试。" for at in range(30)]
    reply = ask(screened, "讲讲", pieces, stream=True)
    assert text_of(reply) == "".join(pieces) and reason_of(reply) == "stop"
    assert screened.row_of(reply)["moderation"] == "passed"


def test_a_whole_answer_that_is_blocked_has_no_text(screened: Stack) -> None:
    reply = ask(screened, "讲讲", ["前文", BLOCKED, "后文"])
    choice = reply.json()["choices"][0]
    assert choice["finish_reason"] == "content_filter" and choice["message"]["content"] == ""


def test_the_model_gets_a_token_and_the_caller_its_number_again(
    screened: Stack, upstream: UpstreamSimulator
) -> None:
    number = "13800138000"
    reply = ask(screened, f"我的电话是 {number}，身份证 11010519491231002X")
    sent = upstream.requests[-1]["messages"][0]["content"]
    assert number not in sent and "110105********002X" in sent
    token = sent[sent.index("⟦") : sent.index("⟧") + 1]
    assert reply.status_code == 200 and screened.row_of(reply)["moderation"] == "masked"
    pieces = ["好的，", *token, "，记下了。"]
    streamed = ask(screened, f"请打 {number}", pieces, stream=True)
    assert text_of(streamed) == f"好的，{number}，记下了。"
    whole = ask(screened, f"请打 {number}", ["号码", token])
    assert whole.json()["choices"][0]["message"]["content"] == f"号码{number}"
    assert whole.headers["x-tc-cache"] == "bypass"
    assert ask(screened, f"请打 {number}" + "。" * 30_000).status_code == 200
    sent = upstream.requests[-1]["messages"][0]["content"]
    assert number not in sent and "⟦" in sent, "as of a short request"


def test_what_is_masked_in_an_answer_keeps_its_length(screened: Stack) -> None:
    reply = ask(
        screened, "讲讲", ["前面敏感", "词组后面，写信到 abc.", "def@qq.com 即可。"], stream=True
    )
    assert text_of(reply) == "前面****后面，写信到 a******@qq.com 即可。"


def test_a_json_answer_is_looked_at_whole_and_stays_json(screened: Stack) -> None:
    wants = {"response_format": {"type": "json_object"}, "stream": True}
    said = json.dumps({"写信": "到 abc.def@qq.com 即可。"})
    reply = ask(screened, "用 JSON 回答", list(said), **wants)
    assert json.loads(text_of(reply)) == {"写信": "到 a******@qq.com 即可。"}
    assert reason_of(reply) == "stop"
    cut = ask(screened, "用 JSON 回答", list(json.dumps({"写": BLOCKED})), **wants)
    assert text_of(cut) == "" and reason_of(cut) == "content_filter"


PLAIN = "正常的文字，" * 6


def test_anthropic_callers_are_told_in_their_own_form(
    screened: Stack, request: pytest.FixtureRequest
) -> None:
    client = Anthropic(base_url=screened.url, api_key=screened.key, max_retries=0)
    request.addfinalizer(client.close)

    def create(content: str, says: list[str], **more: Any) -> Any:
        answered(says)
        return client.messages.create(
            model="sim-chat", max_tokens=50, messages=[{"role": "user", "content": content}],
            **more,
        )  # fmt: skip

    with pytest.raises(BadRequestError):
        create(BLOCKED, [])
    assert create("讲讲", [PLAIN, BLOCKED]).stop_reason == "refusal"
    events = list(create("讲讲", [PLAIN, *BLOCKED], stream=True))
    said = "".join(e.delta.text for e in events if e.type == "content_block_delta")
    assert said == PLAIN and not set(BLOCKED[:4]) & set(said)
    (ending,) = [e for e in events if e.type == "message_delta"]
    assert ending.delta.stop_reason == "refusal" and events[-1].type == "message_stop"


def test_responses_callers_are_told_in_their_own_form(
    screened: Stack, request: pytest.FixtureRequest
) -> None:
    client = OpenAI(base_url=f"{screened.url}/v1", api_key=screened.key, max_retries=0)
    request.addfinalizer(client.close)

    def create(says: list[str], **more: Any) -> Any:
        answered(says)
        return client.responses.create(model="sim-chat", input="讲讲", **more)

    whole = create([PLAIN, BLOCKED])
    assert whole.status == "incomplete" and whole.incomplete_details.reason == "content_filter"
    events = list(create([PLAIN, *BLOCKED], stream=True))
    said = "".join(e.delta for e in events if e.type == "response.output_text.delta")
    assert said == PLAIN
    last = events[-1]
    assert last.type == "response.incomplete"
    assert last.response.incomplete_details.reason == "content_filter"


OFFENSIVE = "河南人都是骗子，没一个好东西"


def test_what_the_classifier_finds_is_blocked_in_requests_and_answers(screened: Stack) -> None:
    reply = ask(screened, f"接着写：{OFFENSIVE}")
    assert reply.status_code == 400 and reply.json()["error"]["code"] == "content_filter"
    detail = screened.row_of(reply)["moderation_detail"]
    assert detail == "discrimination/region:high:classifier"
    whole = ask(screened, "讲讲河南", [PLAIN, OFFENSIVE])
    assert whole.json()["choices"][0]["finish_reason"] == "content_filter"
    streamed = ask(screened, "讲讲河南", [PLAIN, "完。", *OFFENSIVE, "。", "下文"], stream=True)
    assert text_of(streamed) == f"{PLAIN}完。" and reason_of(streamed) == "content_filter"
    assert ask(screened, "讲讲河南", ["河南有许多古迹。"]).status_code == 200


def test_openais_moderation_api_answers_with_our_categories(screened: Stack) -> None:
    reply = web.post(
        f"{screened.url}/v1/moderations",
        json={"input": ["你好", BLOCKED, "打 13800138000", OFFENSIVE]},
        headers=screened.headers,
    )
    assert reply.status_code == 200, reply.text
    first, second, third, fourth = reply.json()["results"]
    assert 0.9 < fourth["category_scores"]["discrimination/region"] < 1 and fourth["flagged"]
    assert not first["flagged"] and second["flagged"]
    assert second["categories"]["values/other"] and second["category_scores"]["values/other"] == 1
    assert third["categories"]["rights/personal_information"]


def test_what_was_blocked_waits_in_the_queue_with_what_was_found(screened: Stack) -> None:
    asked = ask(screened, f"请说{BLOCKED}")
    pieces = ["前文很长，" * 5, *BLOCKED, "后文"]
    streamed = ask(screened, "讲讲", pieces, stream=True)
    whole = ask(screened, "讲讲", ["前文", BLOCKED])
    for reply, direction in ((asked, "input"), (streamed, "output"), (whole, "output")):
        case = case_of(screened, reply)
        assert case["moderation"] == "blocked" and case["state"] == "open"
        opened = screened.admin("POST", f"/api/v1/moderation-cases/{case['id']}/open")
        (kept,) = opened.json()["data"]
        assert kept["direction"] == direction
        (place,) = kept["spans"]
        assert kept["text"][slice(*place)] == BLOCKED, kept
    harmless = ask(screened, "你好")
    assert screened.row_of(harmless)["moderation"] == "passed"
    assert not cases_of(screened, harmless), "nobody looks at what passed"


def appeal(stack: Stack, call_id: str, reason: Any, key: str = "") -> httpx.Response:
    headers = {"authorization": f"Bearer {key}"} if key else stack.headers
    return web.post(
        f"{stack.url}/v1/moderations/appeals", json={"call_id": call_id, "reason": reason},
        headers=headers,
    )  # fmt: skip


def appeal_of(stack: Stack, name: str, key: str = "") -> httpx.Response:
    headers = {"authorization": f"Bearer {key}"} if key else stack.headers
    return web.get(f"{stack.url}/v1/moderations/appeals/{name}", headers=headers)


def test_a_caller_appeals_and_reads_what_people_decided(screened: Stack) -> None:
    blocked = ask(screened, f"请说{BLOCKED}")
    call = blocked.headers["x-request-id"]
    taken = appeal(screened, call, "这是引用 <script>")
    assert taken.status_code == 202, taken.text
    name = taken.json()["id"]
    until(lambda: appeal_of(screened, name).status_code == 200)
    waiting = appeal_of(screened, name).json()
    assert (waiting["status"], waiting["call_id"], waiting["decision"]) == ("open", call, None)
    assert appeal(screened, call, "again").json()["id"] == name, "there is one for each call"
    listed = screened.admin("GET", "/api/v1/moderation-cases?appeals=true").json()["data"]
    (case,) = [one for one in listed if one["appeal_of"] == call]
    assert (case["moderation"], case["model"]) == ("blocked", "sim-chat")
    opened = screened.admin("POST", f"/api/v1/moderation-cases/{case['id']}/open").json()["data"]
    assert [(one["direction"], one["text"]) for one in opened] == [("appeal", "这是引用 <script>")]
    stranger = screened.new_key(project="appeals-other")
    assert appeal_of(screened, name, stranger).status_code == 404
    decided = {"decision": "release", "reason": "quoted", "reply": "您说得对"}
    path = f"/api/v1/moderation-cases/{case['id']}/decide"
    assert screened.admin("POST", path, json=decided).status_code == 200
    known = appeal_of(screened, name).json()
    assert (known["status"], known["decision"], known["reply"]) == (
        "decided", "released", "您说得对",
    )  # fmt: skip
    assert "quoted" not in json.dumps(known), "the reason is for the platform's people"


def test_nobody_appeals_for_another_or_about_what_passed(screened: Stack) -> None:
    blocked = ask(screened, f"请说{BLOCKED}").headers["x-request-id"]
    passed = ask(screened, "你好").headers["x-request-id"]
    others = screened.new_key(tenant="appeals-other"), screened.new_key(project="appeals-other")
    names = [appeal(screened, blocked, "mine", key).json()["id"] for key in others]
    names += [
        appeal(screened, passed, "so").json()["id"],
        appeal(screened, "req_1", "so").json()["id"],
    ]
    mine = appeal(screened, blocked, "really mine").json()["id"]
    until(lambda: appeal_of(screened, mine).status_code == 200)
    for name, key in zip(names, (*others, "", ""), strict=True):
        assert appeal_of(screened, name, key).status_code == 404
    listed = screened.admin("GET", "/api/v1/moderation-cases?appeals=true&limit=200").json()["data"]
    assert [one["project"] for one in listed if one["appeal_of"] == blocked] == ["default"]
    for call, reason, code in (
        ("../etc", "x", "invalid_value"), (blocked, "x" * 10_001, "string_above_max_length"),
        (blocked, " ", "invalid_value"), (blocked, 7, "invalid_type"),
    ):  # fmt: skip
        refused = appeal(screened, call, reason)
        assert (refused.status_code, refused.json()["error"]["code"]) == (400, code)


def cases_of(stack: Stack, reply: httpx.Response) -> list[dict[str, Any]]:
    listed = stack.admin("GET", "/api/v1/moderation-cases?limit=200").json()["data"]
    return [one for one in listed if one["event_id"] == reply.headers["x-request-id"]]


def case_of(stack: Stack, reply: httpx.Response) -> dict[str, Any]:
    until(lambda: cases_of(stack, reply))
    return cases_of(stack, reply)[0]
