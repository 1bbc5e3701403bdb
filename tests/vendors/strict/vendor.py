"""A strict vendor that answers: whole or streamed, in its own shape, echoing what it was told.

What it says is chosen in the text of the last message: `[[call NAME {json}]]` asks for a tool call
(as many as there are), `[[think]]` for reasoning; else it echoes. What it counts it keeps, so that
a ledger can be held against it. `Strict.answer` needs no socket; `serve` puts it on one.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple

from tests.vendors.strict.anthropic import SIGNATURE, blocks_of
from tests.vendors.strict.rules import Broken, check_names, read
from tests.vendors.strict.table import COMPLETION_FIELDS, EMBEDDING_FIELDS, StrictVendor

KEY = "sim-key-0123456789"
TC3_KEY = "AKIDSIM:sim-secret"
_CALL = re.compile(r"\[\[call (\w+) (\{.*?\})\]\]", re.DOTALL)
_PIECE = 7


class Answer(NamedTuple):
    """An HTTP answer; its body in the pieces in which it is sent."""

    status: int
    headers: tuple[tuple[str, str], ...]
    pieces: tuple[bytes, ...]


class Counted(NamedTuple):
    """What one answer cost, as the vendor counts."""

    prompt: int
    completion: int


class Spoken(NamedTuple):
    """What the model says."""

    text: str
    calls: tuple[tuple[str, str, str], ...]
    """Id, name, arguments."""
    reasoning: str
    counted: Counted

    @property
    def finish(self) -> str:
        return "tool_calls" if self.calls else "stop"


class Strict:
    """One vendor's server, without the socket."""

    def __init__(self, name: str, vendor: StrictVendor) -> None:
        self.name = name
        self.vendor = vendor
        self.received: list[dict[str, Any]] = []
        self.refused: list[Broken] = []
        self.counted: list[Counted] = []
        self.call_ids = "call_{}"
        """How it names its calls."""
        self._last: tuple[Spoken, dict[str, Any], bool] | None = None

    def reset(self) -> None:
        self.received, self.refused, self.counted = [], [], []

    @property
    def credential(self) -> str:
        return TC3_KEY if self.vendor.wire == "hunyuan" else KEY

    def answer(self, headers: Mapping[str, str], raw: bytes) -> Answer:
        """Check one request and answer it."""
        vendor = self.vendor
        try:
            body = read(raw)
            self.received.append(body)
            if vendor.provider == "openai" and ("prompt" in body or "input" in body):
                return self._plain(body)
            vendor.check(body)
        except Broken as broken:
            self.refused.append(broken)
            status = vendor.refused_with or broken.status
            return Answer(status, (_JSON,), (_encode(vendor.error(broken)),))
        spoken = self._speak(body, raw)
        self.counted.append(spoken.counted)
        streamed = WIRES[vendor.wire].streams(body, headers)
        self._last = spoken, body, streamed
        return self._say(spoken, body, streamed)

    def other_form(self) -> Answer:
        """What was answered last, as a stream where it was whole, and the other way round."""
        assert self._last is not None
        spoken, body, streamed = self._last
        return self._say(spoken, body, not streamed)

    def _say(self, spoken: Spoken, body: Mapping[str, Any], streamed: bool) -> Answer:
        wire = WIRES[self.vendor.wire]
        if not streamed:
            return Answer(200, (_JSON,), (_encode(wire.whole(spoken, body, self.vendor)),))
        return Answer(200, (_SSE,), tuple(wire.stream(spoken, body, self.vendor)))

    def _plain(self, body: dict[str, Any]) -> Answer:
        """OpenAI's text completions and embeddings."""
        usage = {"prompt_tokens": 5, "completion_tokens": 3, "total_tokens": 8}
        self.counted.append(Counted(5, 3))
        if "input" in body:
            check_names(body, EMBEDDING_FIELDS)
            self.counted[-1] = Counted(5, 0)
            data = [{"object": "embedding", "index": 0, "embedding": [0.25, 0.5]}]
            usage = {"prompt_tokens": 5, "total_tokens": 5}
            made = {"object": "list", "data": data, "model": body["model"], "usage": usage}
            return Answer(200, (_JSON,), (_encode(made),))
        check_names(body, COMPLETION_FIELDS)
        choice = {"index": 0, "text": "Echo", "finish_reason": "stop", "logprobs": None}
        made = {"id": "c", "object": "text_completion", "created": 1, "model": body["model"],
                "choices": [choice], "usage": usage}  # fmt: skip
        if not body.get("stream"):
            return Answer(200, (_JSON,), (_encode(made),))
        return Answer(200, (_SSE,), (b"data: " + _encode(made) + b"\n\ndata: [DONE]\n\n",))

    def _speak(self, body: dict[str, Any], raw: bytes) -> Spoken:
        said = WIRES[self.vendor.wire].last_text(body)
        calls = tuple(
            (self.call_ids.format(at), name, arguments)
            for at, (name, arguments) in enumerate(_CALL.findall(said))
        )
        text = "" if calls else f"Echo: {said[:2_000]}"
        if not calls and (b"json_schema" in raw or b"JSON object" in raw):
            text = "{}"
        reasoning = "Let me think." if "[[think]]" in said else ""
        completion = 3 + len(text) // 3 + 11 * len(calls) + len(reasoning)
        return Spoken(text, calls, reasoning, Counted(17 + len(raw) // 7, completion))


_JSON = ("content-type", "application/json")
_SSE = ("content-type", "text/event-stream")


def _encode(body: Any) -> bytes:
    return json.dumps(body, ensure_ascii=False).encode()


def _pieces(text: str) -> list[str]:
    return [text[at : at + _PIECE] for at in range(0, len(text), _PIECE)]


def _text_of(content: Any) -> str:
    if isinstance(content, str):
        return content
    return "".join(part.get("text") or "" for part in content or ())


class OpenAIWire:
    """Chat completions."""

    def streams(self, body: Mapping[str, Any], headers: Mapping[str, str]) -> bool:
        return bool(body.get("stream"))

    def last_text(self, body: Mapping[str, Any]) -> str:
        return _text_of(body["messages"][-1].get("content"))

    def usage(self, spoken: Spoken) -> dict[str, Any]:
        prompt, completion = spoken.counted
        return {
            "prompt_tokens": prompt,
            "completion_tokens": completion,
            "total_tokens": prompt + completion,
        }

    def message(self, spoken: Spoken, vendor: StrictVendor) -> dict[str, Any]:
        message: dict[str, Any] = {"role": "assistant", "content": spoken.text or None}
        if spoken.reasoning:
            message[vendor.reasoning] = spoken.reasoning
        if spoken.calls:
            message["tool_calls"] = [
                {"id": id, "type": "function", "function": {"name": name, "arguments": arguments}}
                for id, name, arguments in spoken.calls
            ]
        return message

    def whole(self, spoken: Spoken, body: Mapping[str, Any], vendor: StrictVendor) -> Any:
        choice = {
            "index": 0,
            "message": self.message(spoken, vendor),
            "finish_reason": spoken.finish,
        }
        return {
            "id": "strict-1", "object": "chat.completion", "created": 1_760_000_000,
            "model": body["model"], "choices": [choice], "usage": self.usage(spoken),
        }  # fmt: skip

    def deltas(self, spoken: Spoken, vendor: StrictVendor) -> Iterator[dict[str, Any]]:
        yield {"role": "assistant", "content": ""}
        for piece in _pieces(spoken.reasoning):
            yield {vendor.reasoning: piece}
        for piece in _pieces(spoken.text):
            yield {"content": piece}
        for at, (id, name, _) in enumerate(spoken.calls):
            function = {"name": name, "arguments": ""}
            yield {
                "tool_calls": [{"index": at, "id": id, "type": "function", "function": function}]
            }
        cut = [_pieces(arguments) for _, _, arguments in spoken.calls]
        for number in range(max(map(len, cut), default=0)):
            for at, pieces in enumerate(cut):
                if number < len(pieces):
                    function = {"arguments": pieces[number]}
                    yield {"tool_calls": [{"index": at, "function": function}]}

    def stream(
        self, spoken: Spoken, body: Mapping[str, Any], vendor: StrictVendor
    ) -> Iterator[bytes]:
        head = {
            "id": "strict-1", "object": "chat.completion.chunk", "created": 1_760_000_000,
            "model": body["model"],
        }  # fmt: skip
        for delta in self.deltas(spoken, vendor):
            choice = {"index": 0, "delta": delta, "finish_reason": None}
            yield self.frame(head | {"choices": [choice]})
        last: dict[str, Any] = {"index": 0, "delta": {}, "finish_reason": spoken.finish}
        if vendor.usage == "choice":
            last["usage"] = self.usage(spoken)
        chunk = head | {"choices": [last]}
        if vendor.usage == "always":
            chunk["usage"] = self.usage(spoken)
        yield self.frame(chunk)
        options = body.get("stream_options") or {}
        if vendor.usage == "last" and options.get("include_usage"):
            yield self.frame(head | {"choices": [], "usage": self.usage(spoken)})
        yield b"data: [DONE]\n\n"

    def frame(self, chunk: Any) -> bytes:
        return b"data: " + _encode(chunk) + b"\n\n"


class DashScopeWire(OpenAIWire):
    """DashScope's text generation."""

    def streams(self, body: Mapping[str, Any], headers: Mapping[str, str]) -> bool:
        return headers.get("x-dashscope-sse") == "enable"

    def last_text(self, body: Mapping[str, Any]) -> str:
        return _text_of(body["input"]["messages"][-1].get("content"))

    def native_usage(self, spoken: Spoken) -> dict[str, Any]:
        return {
            "input_tokens": spoken.counted.prompt, "output_tokens": spoken.counted.completion,
            "total_tokens": sum(spoken.counted),
        }  # fmt: skip

    def whole(self, spoken: Spoken, body: Mapping[str, Any], vendor: StrictVendor) -> Any:
        message = self.message(spoken, vendor) | {"content": spoken.text}
        choice = {"message": message, "finish_reason": spoken.finish}
        return {
            "output": {"choices": [choice]}, "usage": self.native_usage(spoken),
            "request_id": "strict-1",
        }  # fmt: skip

    def stream(
        self, spoken: Spoken, body: Mapping[str, Any], vendor: StrictVendor
    ) -> Iterator[bytes]:
        for number, delta in enumerate([*self.deltas(spoken, vendor), None]):
            message = {"role": "assistant", "content": "", **(delta or {})}
            finish = "null" if delta is not None else spoken.finish
            frame = {
                "output": {"choices": [{"message": message, "finish_reason": finish}]},
                "usage": self.native_usage(spoken),
                "request_id": "strict-1",
            }
            head = f"id:{number + 1}\nevent:result\n:HTTP_STATUS/200\ndata:".encode()
            yield head + _encode(frame) + b"\n\n"


class HunyuanWire(OpenAIWire):
    """Hunyuan's ChatCompletions."""

    def streams(self, body: Mapping[str, Any], headers: Mapping[str, str]) -> bool:
        return bool(body.get("Stream"))

    def last_text(self, body: Mapping[str, Any]) -> str:
        return body["Messages"][-1].get("Content") or ""

    def pascal(self, message: Mapping[str, Any]) -> dict[str, Any]:
        made = {"Role": "assistant", "Content": message.get("content") or ""}
        if message.get("reasoning_content"):
            made["ReasoningContent"] = message["reasoning_content"]
        if message.get("tool_calls"):
            made["ToolCalls"] = [
                {
                    "Id": call.get("id", ""), "Type": "function", "Index": call.get("index", at),
                    "Function": {
                        "Name": call["function"].get("name", ""),
                        "Arguments": call["function"]["arguments"],
                    },
                }
                for at, call in enumerate(message["tool_calls"])
            ]  # fmt: skip
        return made

    def native_usage(self, spoken: Spoken) -> dict[str, Any]:
        prompt, completion = spoken.counted
        return {"PromptTokens": prompt, "CompletionTokens": completion,
                "TotalTokens": prompt + completion}  # fmt: skip

    def whole(self, spoken: Spoken, body: Mapping[str, Any], vendor: StrictVendor) -> Any:
        choice = {"Message": self.pascal(self.message(spoken, vendor)),
                  "FinishReason": spoken.finish}  # fmt: skip
        return {"Response": {"Id": "strict-1", "Created": 1_760_000_000, "Choices": [choice],
                             "Usage": self.native_usage(spoken), "RequestId": "r"}}  # fmt: skip

    def stream(
        self, spoken: Spoken, body: Mapping[str, Any], vendor: StrictVendor
    ) -> Iterator[bytes]:
        for delta in [*self.deltas(spoken, vendor), None]:
            choice = {"Delta": self.pascal(delta or {}),
                      "FinishReason": "" if delta is not None else spoken.finish}  # fmt: skip
            frame = {"Id": "strict-1", "Created": 1_760_000_000, "Choices": [choice],
                     "Usage": self.native_usage(spoken)}  # fmt: skip
            yield self.frame(frame)


class AnthropicWire(OpenAIWire):
    """Messages."""

    def last_text(self, body: Mapping[str, Any]) -> str:
        texts = []
        for block in blocks_of(body["messages"][-1]["content"]):
            texts.append(_text_of(block.get("content")) or block.get("text") or "")
        return "\n".join(texts)

    def native_usage(self, spoken: Spoken) -> dict[str, Any]:
        prompt, completion = spoken.counted
        return {
            "input_tokens": prompt, "cache_read_input_tokens": 0,
            "cache_creation_input_tokens": 0, "output_tokens": completion,
        }  # fmt: skip

    def blocks(self, spoken: Spoken) -> list[dict[str, Any]]:
        made: list[dict[str, Any]] = []
        if spoken.reasoning:
            made.append({"type": "thinking", "thinking": spoken.reasoning, "signature": SIGNATURE})
        if spoken.text:
            made.append({"type": "text", "text": spoken.text})
        for id, name, arguments in spoken.calls:
            made.append(
                {"type": "tool_use", "id": id, "name": name, "input": json.loads(arguments)}
            )
        return made

    def stop(self, spoken: Spoken) -> str:
        return "tool_use" if spoken.calls else "end_turn"

    def whole(self, spoken: Spoken, body: Mapping[str, Any], vendor: StrictVendor) -> Any:
        return {
            "id": "msg_strict", "type": "message", "role": "assistant", "model": body["model"],
            "content": self.blocks(spoken), "stop_reason": self.stop(spoken),
            "stop_sequence": None, "usage": self.native_usage(spoken),
        }  # fmt: skip

    def stream(
        self, spoken: Spoken, body: Mapping[str, Any], vendor: StrictVendor
    ) -> Iterator[bytes]:
        started = self.whole(spoken, body, vendor) | {"content": [], "stop_reason": None}
        started["usage"] = started["usage"] | {"output_tokens": 1}
        yield event("message_start", message=started)
        yield event("ping")
        for index, block in enumerate(self.blocks(spoken)):
            yield from self.block_events(index, block)
        delta = {"stop_reason": self.stop(spoken), "stop_sequence": None}
        counted = {"output_tokens": spoken.counted.completion}
        yield event("message_delta", delta=delta, usage=counted)
        yield event("message_stop")

    def block_events(self, index: int, block: Mapping[str, Any]) -> Iterator[bytes]:
        kind = block["type"]
        match kind:
            case "text":
                start: dict[str, Any] = {"type": kind, "text": ""}
                pieces = [{"type": "text_delta", "text": p} for p in _pieces(block["text"])]
            case "redacted_thinking":
                start, pieces = dict(block), []
            case "thinking":
                start = {"type": kind, "thinking": "", "signature": ""}
                pieces = [
                    {"type": "thinking_delta", "thinking": p} for p in _pieces(block["thinking"])
                ]
                pieces.append({"type": "signature_delta", "signature": block["signature"]})
            case _:
                start = {"type": kind, "id": block["id"], "name": block["name"], "input": {}}
                text = json.dumps(block["input"], ensure_ascii=False)
                pieces = [
                    {"type": "input_json_delta", "partial_json": p} for p in ["", *_pieces(text)]
                ]
        yield event("content_block_start", index=index, content_block=start)
        for piece in pieces:
            yield event("content_block_delta", index=index, delta=piece)
        yield event("content_block_stop", index=index)


def event(kind: str, **fields: Any) -> bytes:
    """One event of Anthropic's streams."""
    return f"event: {kind}\ndata: ".encode() + _encode({"type": kind, **fields}) + b"\n\n"


WIRES: dict[str, OpenAIWire] = {
    "openai": OpenAIWire(),
    "dashscope": DashScopeWire(),
    "hunyuan": HunyuanWire(),
    "anthropic": AnthropicWire(),
}


class StrictServer:
    """A strict vendor on a socket of this machine."""

    def __init__(self, strict: Strict) -> None:
        self.strict = strict

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_: object) -> None: ...

            def do_POST(self) -> None:
                raw = self.rfile.read(int(self.headers["content-length"]))
                headers = {name.lower(): value for name, value in self.headers.items()}
                answer = strict.answer(headers, raw)
                self.send_response(answer.status)
                for name, value in answer.headers:
                    self.send_header(name, value)
                self.send_header("content-length", str(sum(map(len, answer.pieces))))
                self.end_headers()
                for piece in answer.pieces:
                    self.wfile.write(piece)
                    self.wfile.flush()

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    @property
    def base_url(self) -> str:
        tail = {"hunyuan": "", "dashscope": "/api/v1"}.get(self.strict.vendor.wire, "/v1")
        return f"http://127.0.0.1:{self._server.server_port}{tail}"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
