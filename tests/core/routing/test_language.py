"""The language of what was asked: by text alone, in every form that clients write it in."""

from __future__ import annotations

import json
from typing import Any

import pytest
from msgspec import Raw

from tokenschain.core.formats.formats import API_FORMATS
from tokenschain.core.routing.language import asked_text, language_of

TEXTS = {"zh": "请审查这份合同的违约条款", "en": "Please review this contract."}
PARSE = {api.name: api.parse for api in API_FORMATS}


def _forms(text: str) -> dict[str, tuple[str, dict[str, Any]]]:
    """The same question as each API's clients write it."""
    url = "data:image/png;base64,iVBORw0KGgo="
    picture = {"type": "image_url", "image_url": {"url": url}}
    other = {"zh": "Earlier, in English: summarise.", "en": "先用中文回答上一个问题。"}
    earlier = other["zh" if text == TEXTS["zh"] else "en"]
    turns = [{"role": "user", "content": earlier}, {"role": "assistant", "content": earlier}]
    return {
        "chat string": (
            "chat/completions", {"messages": [*turns, {"role": "user", "content": text}]}
        ),
        "chat parts": (
            "chat/completions",
            {"messages": [*turns, {"role": "user", "content": [
                picture, {"type": "text", "text": text}]}]},
        ),
        "chat parts, type last": (
            "chat/completions",
            {"messages": [{"content": [{"text": text, "type": "text"}], "role": "user"}]},
        ),
        "chat, a tool's answer last": (
            "chat/completions",
            {"messages": [{"role": "user", "content": [{"type": "text", "text": text}]},
                          {"role": "assistant", "content": None, "tool_calls": [
                              {"id": "a", "type": "function",
                               "function": {"name": "f", "arguments": "{}"}}]},
                          {"role": "tool", "tool_call_id": "a", "content": earlier * 9}]},
        ),
        "chat, a picture alone last": (
            "chat/completions",
            {"messages": [{"role": "user", "content": text},
                          {"role": "user", "content": [picture]}]},
        ),
        "completions": ("completions", {"prompt": text}),
        "completions, several": ("completions", {"prompt": [text, text]}),
        "embeddings": ("embeddings", {"input": [text, text]}),
        "rerank": ("rerank", {"query": text, "documents": [earlier, earlier]}),
        "messages string": (
            "messages",
            {"max_tokens": 9, "system": earlier, "messages": [
                {"role": "user", "content": text}]},
        ),
        "messages blocks": (
            "messages",
            {"max_tokens": 9, "messages": [*turns, {"role": "user", "content": [
                {"type": "text", "text": text, "cache_control": {"type": "ephemeral"}}]}]},
        ),
        "responses string": ("responses", {"input": text, "instructions": earlier}),
        "responses items": (
            "responses",
            {"input": [{"role": "user", "content": [{"type": "input_text", "text": text}]}]},
        ),
    }  # fmt: skip


@pytest.mark.parametrize("escaped", [True, False])
@pytest.mark.parametrize("form", list(_forms("")))
@pytest.mark.parametrize("language", list(TEXTS))
def test_every_form_of_a_question_has_its_language(form: str, language: str, escaped: bool) -> None:
    api, body = _forms(TEXTS[language])[form]
    raw = json.dumps({"model": "m", **body}, ensure_ascii=escaped).encode()
    assert language_of(asked_text(PARSE[api](raw).fields)) == language


def test_names_of_fields_and_pictures_are_no_language() -> None:
    picture = {"type": "image_url", "image_url": {"url": "https://example.com/cat.png"}}
    raw = Raw(json.dumps([{"role": "user", "content": [picture]}]).encode())
    assert asked_text({"messages": raw}) == ""
    assert language_of("") == ""


def test_a_turn_of_several_messages_is_one() -> None:
    said = [{"role": "user", "content": "请"}, {"role": "user", "content": "审查合同"}]
    assert asked_text({"messages": Raw(json.dumps(said).encode())}) == "请\n审查合同"


@pytest.mark.parametrize("content", [7, None, {"text": "x"}, [7], [{"text": {"a": 1}}], [[]]])
def test_what_is_no_text_is_passed_over(content: Any) -> None:
    raw = Raw(json.dumps([{"role": "user", "content": content}]).encode())
    assert asked_text({"messages": raw}) == ""
