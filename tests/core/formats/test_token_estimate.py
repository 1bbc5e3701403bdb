"""Token estimates: what is base64 never counts as text, in any field of any API."""

from __future__ import annotations

import base64
import json
import random
from typing import Any

import pytest

from tokenschain.core.formats.formats import API_FORMATS
from tokenschain.core.formats.token_estimate import FILE_BYTES_PER_TOKEN, PICTURE_TOKENS

PARSE = {api.name: api.parse for api in API_FORMATS}
DATA = base64.b64encode(random.Random(5).randbytes(300_000)).decode()
MEDIA_TOKENS_MAX = 1_000
TEXT = {"type": "text", "text": "What is this?"}


def _chat(*parts: Any) -> tuple[str, dict[str, Any]]:
    return "chat/completions", {"messages": [{"role": "user", "content": [TEXT, *parts]}]}


def _messages(block: Any) -> tuple[str, dict[str, Any]]:
    blocks = [TEXT, block]
    return "messages", {"max_tokens": 9, "messages": [{"role": "user", "content": blocks}]}


def _responses(part: Any) -> tuple[str, dict[str, Any]]:
    parts = [{"type": "input_text", "text": "What is this?"}, part]
    return "responses", {"input": [{"role": "user", "content": parts}]}


def _source(kind: str) -> dict[str, str]:
    return {"type": "base64", "media_type": kind, "data": DATA}


FORMS = {
    "chat picture": _chat(
        {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{DATA}"}}
    ),
    "chat sound": _chat({"type": "input_audio", "input_audio": {"data": DATA, "format": "wav"}}),
    "chat sound as URL": _chat(
        {"type": "input_audio", "input_audio": {"data": f"data:;base64,{DATA}"}}
    ),
    "chat file": _chat(
        {"type": "file",
         "file": {"filename": "a.pdf", "file_data": f"data:application/pdf;base64,{DATA}"}}
    ),
    "chat file, bare": _chat({"type": "file", "file": {"file_data": DATA}}),
    "chat video": _chat(
        {"type": "video_url", "video_url": {"url": f"data:video/mp4;base64,{DATA}"}}
    ),
    "chat picture with parameters": _chat(
        {"type": "image_url",
         "image_url": {"url": f"data:image/png;charset=utf-8;base64,{DATA}"}}
    ),
    "messages picture": _messages({"type": "image", "source": _source("image/png")}),
    "messages document": _messages({"type": "document", "source": _source("application/pdf")}),
    "messages picture of a tool": (
        "messages",
        {"max_tokens": 9, "messages": [
            {"role": "assistant", "content": [
                {"type": "tool_use", "id": "a", "name": "f", "input": {}}]},
            {"role": "user", "content": [
                {"type": "tool_result", "tool_use_id": "a", "content": [
                    {"type": "image", "source": _source("image/png")}]}, TEXT]}]},
    ),
    "responses picture": _responses(
        {"type": "input_image", "image_url": f"data:image/png;base64,{DATA}"}
    ),
    "responses file": _responses(
        {"type": "input_file", "filename": "a.pdf",
         "file_data": f"data:application/pdf;base64,{DATA}"}
    ),
    "embeddings": ("embeddings", {"input": ["What is this?", f"data:image/png;base64,{DATA}"]}),
}  # fmt: skip


@pytest.mark.parametrize("escaped", [False, True])
@pytest.mark.parametrize("name", list(FORMS))
def test_pictures_sound_and_files_never_count_as_text(name: str, escaped: bool) -> None:
    api, body = FORMS[name]
    raw = json.dumps({"model": "m", **body}).encode()
    if escaped:  # as PHP and some of Java's libraries write it
        raw = raw.replace(b"/", b"\\/")
    tokens = PARSE[api](raw).prompt_tokens_estimate
    assert 3 <= tokens <= MEDIA_TOKENS_MAX
    assert tokens < len(DATA) // FILE_BYTES_PER_TOKEN + 200


def test_a_picture_by_address_counts_as_one_in_the_request() -> None:
    api, body = _chat({"type": "image_url", "image_url": {"url": "https://e.com/a.png"}})
    tokens = PARSE[api](json.dumps({"model": "m", **body}).encode()).prompt_tokens_estimate
    assert PICTURE_TOKENS < tokens < PICTURE_TOKENS + 100


@pytest.mark.parametrize("text", [DATA, f"data:image/png;base64,{DATA}", "word " * 80_000])
def test_text_that_looks_like_data_is_text(text: str) -> None:
    for content in (text, [{"type": "text", "text": text}]):
        body = {"model": "m", "messages": [{"role": "user", "content": content}]}
        parsed = PARSE["chat/completions"](json.dumps(body).encode())
        assert parsed.prompt_tokens_estimate > len(text) // 5


def test_token_arrays_are_counted() -> None:
    for prompt, tokens, prompts in (([7] * 50, 50, 1), ([[7, 123_456], [9]], 3, 2)):
        for api, field in (("completions", "prompt"), ("embeddings", "input")):
            parsed = PARSE[api](json.dumps({"model": "m", field: prompt}).encode())
            assert parsed.prompt_tokens_estimate == tokens
            assert parsed.prompts == (prompts if api == "completions" else 1)


def test_choices_and_prompts_are_requests() -> None:
    def requests(api: str, **body: Any) -> int:
        return PARSE[api](json.dumps({"model": "m", **body}).encode()).requests

    user = [{"role": "user", "content": "hi"}]
    assert requests("chat/completions", messages=user) == 1
    assert requests("chat/completions", messages=user, n=4) == 4
    assert requests("completions", prompt=["a", "b", "c"], n=2) == 6
    assert requests("embeddings", input=["a", "b", "c"]) == 1
