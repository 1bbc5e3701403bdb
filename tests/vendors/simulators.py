"""Upstream simulators, one profile a vendor, on real sockets.

Each speaks its vendor's documented wire and refuses what the vendor refuses: keys and
signatures, parameters, reasoning history, message order. What happens is chosen by words in the
last user message (`sim:refuse`, `sim:balance`, ...), so that no field is needed that a vendor
would not take. Written from the vendors' documents, without the platform's own code.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import re
import threading
import time
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise
from types import MappingProxyType
from typing import Any, NamedTuple

KEY = "sim-key-0123456789"
TC3_ID, TC3_SECRET = "AKIDSIM", "sim-secret"
PROMPT_TOKENS, CACHED_TOKENS = 40, 8
CALL = {"name": "get_weather", "arguments": '{"city": "巴黎"}'}
HELLO, WEATHER, ALL_CHAT = "Hello 世界🌏!", "It is sunny.", frozenset(
    {"tools", "json_schema", "vision", "thinking"}
)  # fmt: skip


class Failure(NamedTuple):
    """How a vendor says one thing."""

    status: int
    body: Any


def openai_error(message: str, kind: str | None = None, code: str | None = None) -> dict[str, Any]:
    return {"error": {"message": message, "type": kind, "param": None, "code": code}}


class Profile(NamedTuple):
    """One vendor's habits."""

    wire: str = "openai"
    auth: str = "bearer"
    offers: frozenset[str] = ALL_CHAT
    embeddings: bool = False
    chats: bool = True
    inputs_max: int = 2_048
    thinking: str = ""
    """The field that switches it; every other known switch is refused."""
    reasoning: str = "reasoning_content"
    history: str = "keep"
    refused: frozenset[str] = frozenset()
    temperature: tuple[float, float] = (0.0, 2.0)
    required_choice: str | None = "required"
    json_schema: bool = True
    usage: str = "last"
    """`last`, `unasked`, `every` (cumulative), `choice` (in the last choice) or `deepseek`."""
    namespace: bool = True
    comments: bool = False
    done: bool = True
    finish_names: Mapping[str, str] = MappingProxyType({})
    failures: Mapping[str, Failure] = MappingProxyType({})


def _zhipu(code: str, message: str) -> dict[str, Any]:
    return {"error": {"code": code, "message": message}}


def _tokenhub(code: str, kind: str, message: str) -> dict[str, Any]:
    return {"error": {"type": kind, "code": code, "message": message, "source": "gateway"}}


def _huawei(code: str, message: str) -> dict[str, Any]:
    return {"error_code": code, "error_msg": message}


def _minimax(code: int, message: str) -> dict[str, Any]:
    return {"choices": None, "base_resp": {"status_code": code, "status_msg": message}}


def _tc(code: str, message: str) -> dict[str, Any]:
    return {"Response": {"Error": {"Code": code, "Message": message}, "RequestId": "r"}}


_OPENAI_FAILURES = {
    "refuse": Failure(400, openai_error("refused", "invalid_request_error", "content_filter")),
    "balance": Failure(429, openai_error("quota", "insufficient_quota", "insufficient_quota")),
    "rate": Failure(429, openai_error("slow down, try again in 7s", "requests", "rate_limit")),
    "auth": Failure(401, openai_error("CANARY key", "invalid_request_error", "invalid_api_key")),
    "long": Failure(400, openai_error("too long", None, "context_length_exceeded")),
}
_ALIBABA_FAILURES = _OPENAI_FAILURES | {
    "refuse": Failure(
        400,
        openai_error(
            "Input data may contain inappropriate content.", None, "data_inspection_failed"
        ),
    ),
    "balance": Failure(400, openai_error("overdue", None, "Arrearage")),
    "rate": Failure(
        429, openai_error("Requests rate limit exceeded", None, "Throttling.RateQuota")
    ),
}
_ALIBABA_NATIVE_FAILURES = {
    "refuse": Failure(400, {"code": "DataInspectionFailed", "message": "x", "request_id": "r"}),
    "balance": Failure(400, {"code": "Arrearage", "message": "x", "request_id": "r"}),
    "rate": Failure(429, {"code": "Throttling", "message": "try again in 7s", "request_id": "r"}),
    "auth": Failure(401, {"code": "InvalidApiKey", "message": "CANARY", "request_id": "r"}),
    "long": Failure(400, {"code": "InvalidParameter", "message": "input too long: context length"}),
}
_TENCENT_FAILURES = {
    "refuse": Failure(451, _tokenhub("451001", "content_filter_error", "refused")),
    "balance": Failure(402, _tokenhub("403004", "permission_error", "FREE_QUOTA_EXHAUSTED")),
    "rate": Failure(429, _tokenhub("429001", "rate_limit_error", "rpm, retry after 7 seconds")),
    "auth": Failure(401, _tokenhub("401002", "authentication_error", "CANARY")),
    "long": Failure(400, _tokenhub("400001", "invalid_request_error", "maximum context length")),
}
_HUNYUAN_FAILURES = {
    "refuse": Failure(451, _tokenhub("451001", "content_filter_error", "refused")),
    "balance": Failure(200, _tc("FailedOperation.ResourcePackExhausted", "none left")),
    "rate": Failure(200, _tc("RequestLimitExceeded", "please retry after 7 seconds")),
    "auth": Failure(200, _tc("AuthFailure.SignatureFailure", "CANARY")),
    "long": Failure(200, _tc("InvalidParameter", "maximum context length")),
}
_HUNYUAN_OPENAI_FAILURES = {
    "refuse": Failure(400, openai_error("x", None, "OperationDenied.TextIllegalDetected")),
    "balance": Failure(400, openai_error("x", None, "FailedOperation.ServiceStopArrears")),
    "rate": Failure(
        429, openai_error("retry in 7 s", None, "FailedOperation.EngineServerLimitExceeded")
    ),
    "auth": Failure(401, openai_error("CANARY", None, "AuthFailure.SecretIdNotFound")),
}
_LKEAP_FAILURES = _HUNYUAN_OPENAI_FAILURES | {
    "balance": Failure(400, openai_error("x", None, "ResourceUnavailable.ResourcePackageRunOut")),
    "long": Failure(400, openai_error("maximum context length is 96K", None, "InvalidParameter")),
}
_HUAWEI_FAILURES = {
    "refuse": Failure(403, _huawei("ModelArts.81011", "May contain sensitive information")),
    "balance": Failure(401, _huawei("ModelArts.81006", "frozen")),
    "rate": Failure(429, _huawei("ModelArts.81101", "RPM, retry after 7 seconds")),
    "auth": Failure(401, _huawei("ModelArts.81003", "CANARY")),
    "long": Failure(
        400, {"object": "error", "message": "maximum context length is 4", "code": 400}
    ),
}
_ARK_FAILURES = _OPENAI_FAILURES | {
    "refuse": Failure(400, openai_error("x", "BadRequest", "SensitiveContentDetected.Violence")),
    "balance": Failure(403, openai_error("x", "Forbidden", "AccountOverdueError")),
    "rate": Failure(
        429, openai_error("retry in 7s", "TooMany", "RateLimitExceeded.EndpointRPMExceeded")
    ),
    "auth": Failure(401, openai_error("CANARY", "Unauthorized", "AuthenticationError")),
}
_BAIDU_FAILURES = {
    "refuse": Failure(400, openai_error("x", "unsafe_request", "system_unsafe")),
    "balance": Failure(429, openai_error("x", "x", "17")),
    "rate": Failure(
        429, openai_error("wait 7 s", "rate_limit_exceeded", "rpm_rate_limit_exceeded")
    ),
    "auth": Failure(401, openai_error("CANARY", "invalid_request_error", "invalid_iam_token")),
    "long": Failure(400, openai_error("x", "invalid_request_error", "tokens_too_long")),
}
_DEEPSEEK_FAILURES = _OPENAI_FAILURES | {
    "balance": Failure(402, openai_error("Insufficient Balance", "unknown_error", "invalid")),
    "auth": Failure(401, openai_error("CANARY", "authentication_error", "invalid_request_error")),
}
_KIMI_FAILURES = {
    "refuse": Failure(400, openai_error("high risk", "content_filter")),
    "balance": Failure(429, openai_error("no quota", "exceeded_current_quota_error")),
    "rate": Failure(
        429, openai_error("please try again after 7 seconds", "rate_limit_reached_error")
    ),
    "auth": Failure(401, openai_error("CANARY", "invalid_authentication_error")),
    "long": Failure(400, openai_error("Input token length too long", "invalid_request_error")),
}
_ZHIPU_FAILURES = {
    "refuse": Failure(400, _zhipu("1301", "系统检测到输入或生成内容可能包含不安全或敏感内容")),
    "balance": Failure(429, _zhipu("1113", "余额不足")),
    "rate": Failure(429, _zhipu("1302", "并发过高，请 7 秒后重试 retry after 7 s")),
    "auth": Failure(401, _zhipu("1000", "CANARY")),
    "long": Failure(400, _zhipu("1261", "Prompt 超长")),
}
_MINIMAX_FAILURES = {
    "refuse": Failure(200, _minimax(1026, "input new_sensitive")),
    "balance": Failure(200, _minimax(1008, "insufficient balance")),
    "rate": Failure(200, _minimax(1002, "rate limit, retry after 7 seconds")),
    "auth": Failure(200, _minimax(1004, "CANARY")),
    "long": Failure(400, openai_error("context length", None, "2013")),
}
_SPARK_FAILURES = {
    "refuse": Failure(200, {"code": 10013, "message": "input", "sid": "s"}),
    "balance": Failure(200, {"code": 11201, "message": "day limit", "sid": "s"}),
    "rate": Failure(200, {"code": 11202, "message": "qps, retry after 7 s", "sid": "s"}),
    "auth": Failure(401, {"code": 11200, "message": "CANARY"}),
    "long": Failure(200, {"code": 10907, "message": "tokens"}),
}
_ANTHROPIC_FAILURES = {
    "balance": Failure(
        400,
        {"type": "error", "error": {"type": "invalid_request_error",
                                    "message": "Your credit balance is too low"}},
    ),
    "rate": Failure(
        429, {"type": "error", "error": {"type": "rate_limit_error", "message": "retry in 7 s"}}
    ),
    "auth": Failure(
        401, {"type": "error", "error": {"type": "authentication_error", "message": "CANARY"}}
    ),
    "long": Failure(
        400,
        {"type": "error", "error": {"type": "invalid_request_error",
                                    "message": "prompt is too long: 9 tokens > 8 maximum"}},
    ),
}  # fmt: skip
_SELF_HOSTED = {k: v for k, v in _OPENAI_FAILURES.items() if k in ("auth", "long", "rate")}
_LOG = frozenset({"logprobs", "top_logprobs", "logit_bias"})
_ALIBABA = Profile(
    thinking="enable_thinking", embeddings=True, refused=frozenset({"max_completion_tokens"}),
    temperature=(0, 1.999), failures=_ALIBABA_FAILURES,
)  # fmt: skip
_ZHIPU = Profile(
    thinking="thinking", embeddings=True, refused=_LOG | {"max_completion_tokens", "n", "seed"},
    temperature=(0.001, 0.999), required_choice=None, failures=_ZHIPU_FAILURES,
    finish_names={"content_filter": "sensitive"},
)  # fmt: skip
_DEEPSEEK = Profile(
    thinking="thinking", history="return", refused=frozenset({"max_completion_tokens"}),
    offers=frozenset({"tools", "json_schema", "thinking"}), json_schema=False, usage="deepseek",
    comments=True, failures=_DEEPSEEK_FAILURES,
)  # fmt: skip
_KIMI = Profile(
    thinking="thinking", history="return", refused=_LOG | {"max_completion_tokens", "functions"},
    temperature=(0, 1), required_choice=None, usage="choice", failures=_KIMI_FAILURES,
)  # fmt: skip
_TOKENHUB = Profile(
    thinking="thinking", refused=frozenset({"max_completion_tokens"}), failures=_TENCENT_FAILURES
)
_HUAWEI = Profile(
    thinking="thinking", refused=frozenset({"max_completion_tokens"}), json_schema=False,
    offers=frozenset({"tools", "json_schema", "thinking"}), embeddings=True,
    failures=_HUAWEI_FAILURES,
)  # fmt: skip
_TEXT = frozenset({"tools", "json_schema"})

PROFILES: dict[str, Profile] = {
    "alibaba": _ALIBABA,
    "alibaba-native": _ALIBABA._replace(
        wire="dashscope", usage="every", done=False, embeddings=False,
        offers=frozenset({"tools", "thinking"}), refused=frozenset(),
        failures=_ALIBABA_NATIVE_FAILURES,
    ),
    "tencent-tokenhub": _TOKENHUB,
    "tencent-lkeap": _TOKENHUB._replace(
        offers=frozenset({"tools", "json_schema", "thinking"}), failures=_LKEAP_FAILURES
    ),
    "tencent-hunyuan": Profile(
        thinking="enable_thinking", history="strip", usage="every", required_choice=None,
        refused=_LOG | {"max_completion_tokens", "n"}, json_schema=False,
        finish_names={"content_filter": "sensitive"}, failures=_HUNYUAN_OPENAI_FAILURES,
    ),
    "tencent-hunyuan-native": Profile(
        wire="hunyuan", auth="tc3", thinking="EnableThinking", history="strip", usage="every",
        done=False, required_choice=None, json_schema=False,
        offers=frozenset({"tools", "json_schema", "thinking"}),
        failures=_HUNYUAN_FAILURES,
    ),
    "huawei-maas": _HUAWEI,
    "volcengine-ark": Profile(
        thinking="thinking", embeddings=True, required_choice=None,
        refused=frozenset({"max_completion_tokens", "seed"}), failures=_ARK_FAILURES,
    ),
    "baidu-qianfan": Profile(
        thinking="enable_thinking", embeddings=True, refused=frozenset({"max_completion_tokens"}),
        failures=_BAIDU_FAILURES,
    ),
    "deepseek": _DEEPSEEK,
    "moonshot": _KIMI,
    "zhipu": _ZHIPU,
    "zai": _ZHIPU,
    "minimax": Profile(
        thinking="thinking", reasoning="tags", refused=_LOG | {"n"}, temperature=(0.001, 1),
        failures=_MINIMAX_FAILURES,
    ),
    "siliconflow": Profile(
        thinking="enable_thinking", embeddings=True, refused=frozenset({"max_completion_tokens"}),
        usage="every", required_choice=None,
        failures=_OPENAI_FAILURES | {"rate": Failure(503, "System is really busy, retry in 7s")},
    ),
    "stepfun": Profile(
        thinking="reasoning_effort", reasoning="reasoning", failures=_OPENAI_FAILURES
    ),
    "xfyun-spark": Profile(
        offers=frozenset({"tools", "json_schema"}), temperature=(0.001, 2), required_choice=None,
        json_schema=False, refused=_LOG | {"max_completion_tokens", "n", "seed", "stop"},
        failures=_SPARK_FAILURES,
    ),
    "baichuan": Profile(offers=_TEXT, json_schema=False, failures=_OPENAI_FAILURES),
    "lingyiwanwu": Profile(offers=_TEXT, json_schema=False, failures=_OPENAI_FAILURES),
    "longcat": Profile(offers=_TEXT, json_schema=False, failures=_OPENAI_FAILURES),
    "openai": Profile(thinking="reasoning_effort", embeddings=True, failures=_OPENAI_FAILURES),
    "anthropic": Profile(
        wire="anthropic", auth="x-api-key", thinking="thinking", temperature=(0, 1), done=False,
        failures=_ANTHROPIC_FAILURES,
    ),
    "mistral": Profile(
        offers=frozenset({"tools", "json_schema", "vision"}), embeddings=True,
        refused=_LOG | {"seed", "max_completion_tokens", "user", "stream_options"},
        required_choice="any", usage="unasked",
        failures=_OPENAI_FAILURES
        | {"rate": Failure(429, {"message": "Service tier capacity exceeded, retry in 7s"})},
    ),
    "together": Profile(
        offers=frozenset({"tools", "json_schema", "vision"}), embeddings=True,
        refused=frozenset({"max_completion_tokens"}), failures=_OPENAI_FAILURES,
    ),
    "groq": Profile(
        thinking="reasoning_effort", reasoning="reasoning", refused=_LOG | {"n"},
        failures=_OPENAI_FAILURES,
    ),
    "fireworks": Profile(
        thinking="reasoning_effort", embeddings=True, failures=_OPENAI_FAILURES
    ),
    "openrouter": Profile(
        thinking="reasoning", reasoning="reasoning", comments=True,
        failures=_OPENAI_FAILURES
        | {
            "balance": Failure(402, {"error": {"code": 402, "message": "credits"}}),
            "rate": Failure(200, {"error": {"code": 429, "message": "rate_limit, retry in 7s"}}),
        },
    ),
    "vllm": Profile(
        thinking="chat_template_kwargs", reasoning="reasoning", embeddings=True,
        failures=_SELF_HOSTED,
    ),
    "sglang": Profile(thinking="chat_template_kwargs", embeddings=True, failures=_SELF_HOSTED),
    "mindie": Profile(
        thinking="chat_template_kwargs", json_schema=False, failures=_SELF_HOSTED,
        offers=frozenset({"tools", "json_schema", "thinking"}),
    ),
    "xinference": Profile(thinking="chat_template_kwargs", embeddings=True, failures=_SELF_HOSTED),
    "ollama": Profile(
        thinking="reasoning_effort", reasoning="reasoning", embeddings=True, required_choice=None,
        refused=_LOG | {"user", "n"},
        failures={"long": _OPENAI_FAILURES["long"], "rate": Failure(503, {"error": "queue full"})},
    ),
    "tei": Profile(chats=False, embeddings=True, inputs_max=32),
}  # fmt: skip
_SWITCHES = {"enable_thinking", "thinking", "chat_template_kwargs", "reasoning_effort", "reasoning"}


class Refused(Exception):
    """The vendor's own 400."""


class Brain:
    """What the model behind a simulator says to one request, in canonical pieces."""

    def __init__(self, parsed: dict[str, Any], profile: Profile) -> None:
        messages = parsed["messages"]
        last = messages[-1]
        said = json.dumps(last.get("content"), ensure_ascii=False)
        self.wanted = next((w for w in profile.failures if f"sim:{w}" in said), None)
        self.filtered = "sim:filter" in said
        self.thinks = _thinks(parsed, profile.thinking)
        self.calls: list[dict[str, str]] = []
        self.text = HELLO
        if last["role"] == "tool":
            self.text = WEATHER
        elif parsed.get("tools") and parsed.get("tool_choice") != "none":
            self.calls, self.text = [_call(parsed, said)], ""
            if "parallel" in said:
                self.calls = [CALL, {"name": "get_time", "arguments": '{"zone": "UTC"}'}]
        elif "image" in said:
            self.text = "I see an image."
        elif (parsed.get("response_format") or {}).get("type") in ("json_object", "json_schema"):
            self.text = json.dumps(_structured(parsed, said), ensure_ascii=False)
            if "sim:wrong" in said:
                self.text = '{"age": "old"}'
            if "sim:fence" in said:
                self.text = f"```json\n{self.text}\n```"
        self.finish = "tool_calls" if self.calls else "content_filter" if self.filtered else "stop"
        self.reasoning = "Let me think about it." if self.thinks else ""
        self.tokens = 12 + 5 * len(self.calls)
        self.reasoning_tokens = 6 if self.thinks else 0


def _call(parsed: dict[str, Any], said: str) -> dict[str, str]:
    """The tool that the choice names, else the first, with arguments by its schema."""
    functions = {tool["function"]["name"]: tool["function"] for tool in parsed["tools"]}
    choice = parsed.get("tool_choice")
    named = choice["function"]["name"] if isinstance(choice, dict) and "function" in choice else ""
    function = functions.get(named) or next(iter(functions.values()))
    parameters = function.get("parameters") or {}
    if isinstance(parameters, str):
        parameters = json.loads(parameters)
    if function["name"] == CALL["name"] and "location" not in parameters.get("properties", {}):
        return CALL
    return {"name": function["name"], "arguments": json.dumps(_fill(parameters, said))}


def _told_to_write_json(messages: list[dict[str, Any]]) -> dict[str, Any]:
    """What a model does that has no JSON mode and is asked for JSON in words."""
    first = messages[0]
    told = first["role"] == "system" and "one JSON object" in first["content"]
    return {"response_format": {"type": "json_object"}} if told else {}


def _structured(parsed: dict[str, Any], said: str) -> Any:
    """By the schema, wherever it was said, or with the keys that were named in quotes."""
    schema = parsed["response_format"].get("json_schema", {}).get("schema")
    if schema is None and parsed["messages"][0]["role"] == "system":
        told = parsed["messages"][0]["content"]
        at = told.find("{", told.find("JSON schema"))
        schema = json.JSONDecoder().raw_decode(told[at:])[0] if at >= 0 else None
    if schema is not None:
        return _fill(schema, said)
    return dict.fromkeys(re.findall(r"'(\w+)'", said), "word") or {"age": 41}


def _fill(schema: dict[str, Any], said: str) -> Any:
    """A value that fits: the number or name that was spoken of; the first of a choice."""
    if "enum" in schema or "const" in schema:
        return schema.get("const", schema.get("enum", [None])[0])
    if "anyOf" in schema:
        return _fill(schema["anyOf"][0], said)
    match schema.get("type"):
        case "object":
            return {n: _fill(part, said) for n, part in schema.get("properties", {}).items()}
        case "array":
            return [_fill(schema.get("items", {}), said)]
        case "integer" | "number":
            number = re.search(r"\d+", said)
            return int(number[0]) if number else 41
        case "boolean":
            return True
        case "null":
            return None
    name = re.search(r"[\u4e00-\u9fff]+", said)
    return name[0] if name else "word"


def _thinks(parsed: dict[str, Any], switch: str) -> bool:
    value = parsed.get(switch)
    match switch:
        case "enable_thinking" | "EnableThinking":
            return value is True
        case "thinking":
            return isinstance(value, dict) and value.get("type") in ("enabled", "adaptive")
        case "chat_template_kwargs":
            return isinstance(value, dict) and value.get("enable_thinking") is True
        case "reasoning_effort":
            return value not in (None, "none")
        case "reasoning":
            return isinstance(value, dict) and bool(value.get("enabled") or value.get("effort"))
    return False


def check(parsed: dict[str, Any], profile: Profile) -> None:
    """The vendor's rules on parameters and history."""
    for name in (_SWITCHES - {profile.thinking}) & parsed.keys():
        if not (name == "reasoning_effort" and profile.thinking == "thinking"):
            raise Refused(f"unknown parameter {name}")
    for name in profile.refused & parsed.keys():
        raise Refused(f"parameter {name} is not supported")
    low, high = profile.temperature
    if not low <= parsed.get("temperature", 1 if high >= 1 else high) <= high:
        raise Refused("temperature is out of range")
    choice = parsed.get("tool_choice")
    if isinstance(choice, str) and choice not in ("auto", "none", profile.required_choice):
        raise Refused(f"tool_choice {choice} is not supported")
    kind = (parsed.get("response_format") or {}).get("type")
    if kind == "json_schema" and not profile.json_schema:
        raise Refused("response_format type json_schema is unavailable now")
    if kind == "json_object" and "json" not in json.dumps(parsed["messages"]).lower():
        raise Refused("messages must contain the word json")
    thinks = _thinks(parsed, profile.thinking)
    for message in parsed["messages"]:
        if message["role"] != "assistant":
            continue
        told = message.get("reasoning_content")
        if profile.history == "strip" and told:
            raise Refused("reasoning_content in messages is not allowed")
        if profile.history == "return" and thinks and message.get("tool_calls") and not told:
            raise Refused(
                "The reasoning_content in the thinking mode must be passed back to the API"
            )


class Simulator:
    """One vendor's server."""

    def __init__(self, provider: str, profile: Profile) -> None:
        self.provider = provider
        self.profile = profile
        self.requests: list[dict[str, Any]] = []
        simulator = self

        class Handler(_Handler):
            sim = simulator

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.port = self._server.server_port
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    @property
    def base_url(self) -> str:
        tail = {"hunyuan": "", "dashscope": "/api/v1"}.get(self.profile.wire, "/v1")
        return f"http://127.0.0.1:{self.port}{tail}"

    @property
    def credential(self) -> str:
        return f"{TC3_ID}:{TC3_SECRET}" if self.profile.auth == "tc3" else KEY

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Handler(BaseHTTPRequestHandler):
    sim: Simulator
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None: ...

    def do_POST(self) -> None:
        raw = self.rfile.read(int(self.headers["content-length"]))
        parsed = json.loads(raw)
        profile = self.sim.profile
        self.sim.requests.append(parsed)
        if not self._known(raw):
            failure = profile.failures.get("auth", Failure(401, openai_error("who are you")))
            self._send(failure.status, failure.body)
            return
        if self.path.endswith("/embeddings"):
            self._embed(parsed)
            return
        canonical = WIRES[profile.wire].read(parsed, self)
        try:
            check(canonical, profile)
        except Refused as refused:
            self._send(400, openai_error(str(refused), "invalid_request_error", "sim_rule"))
            return
        brain = Brain(canonical, profile)
        if brain.wanted is not None:
            failure = profile.failures[brain.wanted]
            self._send(failure.status, failure.body)
            return
        wire = WIRES[profile.wire]
        if not canonical.get("stream"):
            self._send(200, wire.whole(brain, canonical, profile))
            return
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("connection", "close")
        self.end_headers()
        for frame in wire.stream(brain, canonical, profile):
            self.wfile.write(frame)
            self.wfile.flush()
        self.close_connection = True

    def _known(self, raw: bytes) -> bool:
        match self.sim.profile.auth:
            case "bearer":
                return self.headers.get("authorization") == f"Bearer {KEY}"
            case "x-api-key":
                version = self.headers.get("anthropic-version")
                return self.headers.get("x-api-key") == KEY and version == "2023-06-01"
        return self._tc3(raw)

    def _tc3(self, raw: bytes) -> bool:
        """Tencent's signature, checked by its documented steps; the clock may be 5 min off."""
        at = int(self.headers["x-tc-timestamp"])
        day = time.strftime("%Y-%m-%d", time.gmtime(at))
        head = f"content-type:{self.headers['content-type']}\nhost:{self.headers['host']}\n"
        canonical = (
            f"POST\n/\n\n{head}\ncontent-type;host\n{hashlib.sha256(raw).hexdigest()}".encode()
        )
        scope = f"{day}/hunyuan/tc3_request"
        text = f"TC3-HMAC-SHA256\n{at}\n{scope}\n{hashlib.sha256(canonical).hexdigest()}"
        key = ("TC3" + TC3_SECRET).encode()
        for part in (day, "hunyuan", "tc3_request"):
            key = hmac.new(key, part.encode(), hashlib.sha256).digest()
        wanted = hmac.new(key, text.encode(), hashlib.sha256).hexdigest()
        given = self.headers["authorization"]
        known = f"Credential={TC3_ID}/{scope}" in given and given.endswith(f"Signature={wanted}")
        action = self.headers.get("x-tc-action"), self.headers.get("x-tc-version")
        return known and abs(time.time() - at) < 300 and action == ("ChatCompletions", "2023-09-01")

    def _embed(self, parsed: dict[str, Any]) -> None:
        given = parsed["input"] if isinstance(parsed["input"], list) else [parsed["input"]]
        most = self.sim.profile.inputs_max
        if len(given) > most:
            said = f"batch size {len(given)} > maximum allowed batch size {most}"
            self._send(413, {"error": said, "error_type": "Validation"})
            return
        data = [
            {"object": "embedding", "index": i, "embedding": [0.25, float(len(text))]}
            for i, text in enumerate(given)
        ]
        usage = {"prompt_tokens": 7, "total_tokens": 7}
        self._send(200, {"object": "list", "data": data, "model": parsed["model"], "usage": usage})

    def _send(self, status: int, body: Any) -> None:
        data = json.dumps(body, ensure_ascii=False).encode()
        if self.sim.provider == "deepseek" and status == 200:
            data = b"\n\n" + data  # it keeps slow connections awake with empty lines
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


def _pieces(text: str) -> list[str]:
    """A text in pieces that cut words and escapes."""
    return [text[at : at + 3] for at in range(0, len(text), 3)]


class _OpenAI:
    def read(self, parsed: dict[str, Any], _: _Handler) -> dict[str, Any]:
        return parsed

    def usage(self, brain: Brain, profile: Profile, part: float = 1) -> dict[str, Any]:
        tokens = int(brain.tokens * part)
        usage: dict[str, Any] = {
            "prompt_tokens": PROMPT_TOKENS,
            "completion_tokens": tokens,
            "total_tokens": PROMPT_TOKENS + tokens,
        }
        if profile.usage == "deepseek":
            usage |= {
                "prompt_cache_hit_tokens": CACHED_TOKENS,
                "prompt_cache_miss_tokens": PROMPT_TOKENS - CACHED_TOKENS,
            }
        elif profile.usage == "choice":
            usage["cached_tokens"] = CACHED_TOKENS
        else:
            usage["prompt_tokens_details"] = {"cached_tokens": CACHED_TOKENS}
        if brain.reasoning:
            usage["completion_tokens_details"] = {"reasoning_tokens": brain.reasoning_tokens}
        return usage

    def reason(self, text: str, profile: Profile) -> dict[str, Any]:
        return {profile.reasoning: text} if text else {}

    def whole(self, brain: Brain, parsed: dict[str, Any], profile: Profile) -> dict[str, Any]:
        text = brain.text
        if profile.reasoning == "tags":
            text = f"<think>{brain.reasoning}</think>\n\n{text}" if brain.reasoning else text
            message: dict[str, Any] = {"role": "assistant", "content": text}
        else:
            message = {"role": "assistant", "content": text or None}
            message |= self.reason(brain.reasoning, profile)
        if brain.calls:
            message["tool_calls"] = [
                {"id": f"call_{i}", "type": "function", "function": call}
                for i, call in enumerate(brain.calls)
            ]
        finish = profile.finish_names.get(brain.finish, brain.finish)
        choices = [
            {"index": i, "message": message, "finish_reason": finish}
            for i in range(parsed.get("n") or 1)
        ]
        return {
            "id": "sim-1", "object": "chat.completion", "created": 1, "model": parsed["model"],
            "choices": choices, "usage": self.usage(brain, profile),
        }  # fmt: skip

    def stream(self, brain: Brain, parsed: dict[str, Any], profile: Profile) -> Iterator[bytes]:
        deltas: list[dict[str, Any]] = [{"role": "assistant", "content": ""}]
        text = brain.text
        if profile.reasoning == "tags":
            text = f"<think>{brain.reasoning}</think>\n\n{text}" if brain.reasoning else text
        else:
            deltas += [self.reason(piece, profile) for piece in _pieces(brain.reasoning)]
        deltas += [{"content": piece} for piece in _pieces(text)]
        for i, call in enumerate(brain.calls):
            function = {"name": call["name"], "arguments": ""}
            head = {"index": i, "id": f"call_{i}", "type": "function", "function": function}
            deltas.append({"tool_calls": [head]})
        # Arguments of parallel calls come interleaved.
        cut = [[(i, p) for p in _pieces(c["arguments"])] for i, c in enumerate(brain.calls)]
        for at in range(max(map(len, cut), default=0)):
            for pieces in cut:
                if at < len(pieces):
                    i, piece = pieces[at]
                    call = {"index": i, "function": {"arguments": piece}}
                    deltas.append({"tool_calls": [call]})
        finish = profile.finish_names.get(brain.finish, brain.finish)
        total = len(deltas)
        for number, delta in enumerate([*deltas, {}]):
            last = number == total
            choice: dict[str, Any] = {
                "index": 0, "delta": delta, "finish_reason": finish if last else None
            }  # fmt: skip
            chunk: dict[str, Any] = {
                "id": "sim-1", "object": "chat.completion.chunk", "created": 1,
                "model": parsed["model"], "choices": [choice],
            }  # fmt: skip
            if profile.usage == "every":
                chunk["usage"] = self.usage(brain, profile, (number + 1) / (total + 1))
            if profile.usage == "choice" and last:
                choice["usage"] = self.usage(brain, profile)
            if profile.comments and number == 1:
                yield b": keep-alive\n\n"
            yield self.frame(chunk, profile)
        asked = parsed.get("stream_options", {}).get("include_usage")
        if profile.usage == "unasked" or (profile.usage in ("last", "deepseek") and asked):
            last_chunk = {
                "id": "sim-1", "object": "chat.completion.chunk", "created": 1,
                "model": parsed["model"], "choices": [], "usage": self.usage(brain, profile),
            }  # fmt: skip
            yield self.frame(last_chunk, profile)
        if profile.done:
            yield b"data: [DONE]\n\n"

    def frame(self, chunk: Any, profile: Profile) -> bytes:
        namespace = " " if profile.namespace else ""
        return f"data:{namespace}{json.dumps(chunk, ensure_ascii=False)}\n\n".encode()


class _DashScope(_OpenAI):
    def read(self, parsed: dict[str, Any], handler: _Handler) -> dict[str, Any]:
        assert handler.path == "/api/v1/services/aigc/text-generation/generation"
        assert parsed["parameters"].pop("result_format") == "message"
        streams = handler.headers.get("x-dashscope-sse") == "enable"
        assert parsed["parameters"].pop("incremental_output", False) is streams
        read = {"model": parsed["model"], **parsed["input"], **parsed["parameters"]}
        return read | ({"stream": True} if streams else {})

    def native_usage(self, brain: Brain) -> dict[str, Any]:
        usage: dict[str, Any] = {
            "input_tokens": PROMPT_TOKENS,
            "output_tokens": brain.tokens,
            "prompt_tokens_details": {"cached_tokens": CACHED_TOKENS},
        }
        if brain.reasoning:
            usage["output_tokens_details"] = {"reasoning_tokens": brain.reasoning_tokens}
        return usage

    def whole(self, brain: Brain, parsed: dict[str, Any], profile: Profile) -> dict[str, Any]:
        choice = super().whole(brain, parsed, profile)["choices"][0]
        choice["message"]["content"] = choice["message"]["content"] or ""
        return {
            "output": {"choices": [choice]},
            "usage": self.native_usage(brain),
            "request_id": "r1",
        }

    def stream(self, brain: Brain, parsed: dict[str, Any], profile: Profile) -> Iterator[bytes]:
        plain = profile._replace(usage="none", done=False, comments=False)
        for number, frame in enumerate(super().stream(brain, parsed, plain)):
            choice = json.loads(frame.removeprefix(b"data: "))["choices"][0]
            message = {"role": "assistant", "content": "", **choice["delta"]}
            finish = choice["finish_reason"] or "null"
            body = {
                "output": {"choices": [{"message": message, "finish_reason": finish}]},
                "usage": self.native_usage(brain),
                "request_id": "r1",
            }
            data = json.dumps(body, ensure_ascii=False)
            yield f"id:{number + 1}\nevent:result\n:HTTP_STATUS/200\ndata:{data}\n\n".encode()


class _Hunyuan(_OpenAI):
    def read(self, parsed: dict[str, Any], _: _Handler) -> dict[str, Any]:
        roles = []
        messages = []
        for message in parsed["Messages"]:
            roles.append(message["Role"])
            calls = [
                {
                    "id": c["Id"],
                    "type": "function",
                    "function": {
                        "name": c["Function"]["Name"],
                        "arguments": c["Function"]["Arguments"],
                    },
                }
                for c in message.get("ToolCalls") or ()
            ]
            read = {"role": message["Role"], "content": message["Content"]}
            messages.append(read | ({"tool_calls": calls} if calls else {}))
            assert "ReasoningContent" not in message and "reasoning_content" not in message
        assert "system" not in roles[1:], "the system message comes first"
        assert all(a != b or a == "tool" for a, b in pairwise(roles)), "turns alternate"
        made: dict[str, Any] = {"model": parsed["Model"], "messages": messages}
        made |= _told_to_write_json(messages)
        if parsed.get("Stream"):
            made["stream"] = True
        if parsed.get("Tools"):
            functions = [tool["Function"] for tool in parsed["Tools"]]
            assert all(isinstance(f["Parameters"], str) for f in functions)
            made["tools"] = [
                {"function": {"name": f["Name"], "parameters": f["Parameters"]}} for f in functions
            ]
        for theirs, ours in (
            ("Temperature", "temperature"), ("ToolChoice", "tool_choice"),
            ("EnableThinking", "EnableThinking"),
        ):  # fmt: skip
            if theirs in parsed:
                made[ours] = parsed[theirs]
        if made.get("tool_choice") == "custom":
            name = parsed["CustomTool"]["Function"]["Name"]
            made["tool_choice"] = {"function": {"name": name}}
        return made

    def pascal(self, message: dict[str, Any]) -> dict[str, Any]:
        made = {"Role": "assistant", "Content": message.get("content") or ""}
        if message.get("reasoning_content"):
            made["ReasoningContent"] = message["reasoning_content"]
        calls = message.get("tool_calls")
        if calls:
            made["ToolCalls"] = [
                {
                    "Id": c.get("id"), "Type": "function", "Index": c.get("index", i),
                    "Function": {
                        "Name": c["function"].get("name"), "Arguments": c["function"]["arguments"]
                    },
                }
                for i, c in enumerate(calls)
            ]  # fmt: skip
        return made

    def native_usage(self, brain: Brain) -> dict[str, Any]:
        return {
            "PromptTokens": PROMPT_TOKENS,
            "CompletionTokens": brain.tokens,
            "TotalTokens": PROMPT_TOKENS + brain.tokens,
            "PromptTokensDetails": {"CachedTokens": CACHED_TOKENS},
        }

    def whole(self, brain: Brain, parsed: dict[str, Any], profile: Profile) -> dict[str, Any]:
        choice = super().whole(brain, parsed, profile)["choices"][0]
        native = {
            "Message": self.pascal(choice["message"]),
            "FinishReason": choice["finish_reason"],
        }
        return {
            "Response": {
                "Id": "h1", "Created": 1, "Choices": [native], "Usage": self.native_usage(brain),
                "RequestId": "r1",
            }
        }  # fmt: skip

    def stream(self, brain: Brain, parsed: dict[str, Any], profile: Profile) -> Iterator[bytes]:
        plain = profile._replace(usage="none", done=False)
        for frame in super().stream(brain, parsed, plain):
            choice = json.loads(frame.removeprefix(b"data: "))["choices"][0]
            native = {
                "Delta": self.pascal(choice["delta"]),
                "FinishReason": choice["finish_reason"] or "",
            }
            body = {
                "Id": "h1",
                "Created": 1,
                "Choices": [native],
                "Usage": self.native_usage(brain),
            }
            yield f"data: {json.dumps(body, ensure_ascii=False)}\n\n".encode()


class _Anthropic(_OpenAI):
    def read(self, parsed: dict[str, Any], handler: _Handler) -> dict[str, Any]:
        assert handler.path == "/v1/messages" and parsed["max_tokens"] >= 1
        roles = [turn["role"] for turn in parsed["messages"]]
        assert set(roles) <= {"user", "assistant"} and roles[0] == "user"
        assert all(a != b for a, b in pairwise(roles)), "turns alternate"
        messages: list[dict[str, Any]] = []
        for turn in parsed["messages"]:
            blocks = turn["content"]
            if isinstance(blocks, str):
                blocks = [{"type": "text", "text": blocks}]
            read: dict[str, Any] = {"role": turn["role"], "content": blocks}
            for block in blocks:
                if block["type"] == "tool_use":
                    assert isinstance(block["input"], dict)
                    read.setdefault("tool_calls", []).append(block)
                if block["type"] == "tool_result":
                    read["role"] = "tool"
                if block["type"] == "thinking":
                    assert block["signature"] == "sig-of-sim", "the signature was changed"
            messages.append(read)
        made = {"messages": messages, "model": parsed["model"]}
        system = parsed.get("system") or ""
        if isinstance(system, list):
            system = "".join(block["text"] for block in system)
        if system:
            messages.insert(0, {"role": "system", "content": system})
        made |= _told_to_write_json(messages)
        for name in ("stream", "temperature", "thinking"):
            if name in parsed:
                made[name] = parsed[name]
        if "tools" in parsed:
            made["tools"] = [
                {"function": {"name": tool["name"], "parameters": tool["input_schema"]}}
                for tool in parsed["tools"]
            ]
        choice = parsed.get("tool_choice", {})
        if choice.get("type") == "tool":
            made["tool_choice"] = {"function": {"name": choice["name"]}}
        elif choice:
            made["tool_choice"] = {"any": "required"}.get(choice["type"], choice["type"])
        if "thinking" in parsed:
            assert "temperature" not in parsed
        return made

    def blocks(self, brain: Brain) -> list[dict[str, Any]]:
        made: list[dict[str, Any]] = []
        if brain.reasoning:
            made.append(
                {"type": "thinking", "thinking": brain.reasoning, "signature": "sig-of-sim"}
            )
        if brain.text:
            made.append({"type": "text", "text": brain.text})
        for i, call in enumerate(brain.calls):
            arguments = json.loads(call["arguments"])
            made.append(
                {"type": "tool_use", "id": f"toolu_{i}", "name": call["name"], "input": arguments}
            )
        return made

    def counts(self, brain: Brain) -> dict[str, Any]:
        return {
            "input_tokens": PROMPT_TOKENS - CACHED_TOKENS,
            "cache_read_input_tokens": CACHED_TOKENS,
            "cache_creation_input_tokens": 0,
            "output_tokens": brain.tokens,
        }

    def stop(self, brain: Brain) -> str:
        names = {"stop": "end_turn", "tool_calls": "tool_use", "content_filter": "refusal"}
        return names[brain.finish]

    def whole(self, brain: Brain, parsed: dict[str, Any], profile: Profile) -> dict[str, Any]:
        return {
            "id": "a1", "type": "message", "role": "assistant", "model": parsed["model"],
            "content": self.blocks(brain), "stop_reason": self.stop(brain), "stop_sequence": None,
            "usage": self.counts(brain),
        }  # fmt: skip

    def stream(self, brain: Brain, parsed: dict[str, Any], profile: Profile) -> Iterator[bytes]:
        def event(kind: str, **fields: Any) -> bytes:
            data = json.dumps({"type": kind, **fields}, ensure_ascii=False)
            return f"event: {kind}\ndata: {data}\n\n".encode()

        counts = self.counts(brain)
        message = self.whole(brain, parsed, profile) | {"content": [], "stop_reason": None}
        yield event("message_start", message=message | {"usage": counts | {"output_tokens": 1}})
        yield event("ping")
        for index, block in enumerate(self.blocks(brain)):
            kind = block["type"]
            empty = {"text": {"text": ""}, "thinking": {"thinking": "", "signature": ""}}
            start = empty.get(kind) or {"id": block["id"], "name": block["name"], "input": {}}
            yield event("content_block_start", index=index, content_block={"type": kind, **start})
            text = block.get("text") or block.get("thinking")
            names = {"text": "text", "thinking": "thinking", "tool_use": "partial_json"}
            deltas = {
                "text": "text_delta",
                "thinking": "thinking_delta",
                "tool_use": "input_json_delta",
            }
            if text is None:
                text = json.dumps(block["input"], ensure_ascii=False)
            for piece in _pieces(text):
                delta = {"type": deltas[kind], names[kind]: piece}
                yield event("content_block_delta", index=index, delta=delta)
            if kind == "thinking":
                delta = {"type": "signature_delta", "signature": block["signature"]}
                yield event("content_block_delta", index=index, delta=delta)
            yield event("content_block_stop", index=index)
        stop = {"stop_reason": self.stop(brain), "stop_sequence": None}
        yield event("message_delta", delta=stop, usage={"output_tokens": brain.tokens})
        yield event("message_stop")


WIRES: dict[str, _OpenAI] = {
    "openai": _OpenAI(),
    "dashscope": _DashScope(),
    "hunyuan": _Hunyuan(),
    "anthropic": _Anthropic(),
}

_BY_ANALOGY = frozenset({"errors mapped", "refusal mapped"})
UNCONFIRMED: dict[str, frozenset[str]] = dict.fromkeys(
    (
        "stepfun",
        "baichuan",
        "lingyiwanwu",
        "longcat",
        "xfyun-spark",
        "fireworks",
        "sglang",
        "mindie",
    ),
    _BY_ANALOGY,
)
"""Columns where no document of the vendor was found and the simulator follows OpenAI's ways."""
