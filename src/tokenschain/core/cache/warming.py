"""Cache warming: the chat requests that lines of questions, or of an FAQ, come to."""

from __future__ import annotations

from typing import Any

import msgspec

BYTES_PER_TOKEN = 3
"""Of a question: a Chinese character, or some more than half an English word; rather too few."""


def request_of(line: str, model: str, system: str = "") -> dict[str, Any]:
    """The chat request of one line: a question, a request as JSON, or an entry of an FAQ.

    Args:
        line: `{"questions": [...]}`, the ways to ask one thing, is asked in the first way.
        model: for lines that name none.
        system: system prompt of questions. Answers are found again by callers whose requests are
            the same in everything that counts, this above all.

    Raises:
        ValueError: it begins as JSON and is none, or names nothing to ask.
    """
    if not line.startswith("{"):
        return _asked(line, model, system)
    try:
        given = msgspec.json.decode(line, type=dict[str, Any])
    except msgspec.MsgspecError:
        raise ValueError("not JSON") from None
    if "questions" in given:
        match given["questions"]:
            case [str(first), *_] if first.strip():
                return _asked(first, model, system)
        raise ValueError("no `questions`")
    if not isinstance(given.get("messages"), list) or not given["messages"]:
        raise ValueError("no `messages`")
    return {"model": model} | given


def _asked(question: str, model: str, system: str) -> dict[str, Any]:
    messages = [{"role": "system", "content": system}] if system else []
    return {"model": model, "messages": [*messages, {"role": "user", "content": question.strip()}]}


def prompt_tokens_of(request: dict[str, Any]) -> int:
    """About how many tokens a request's messages have, for an estimate of what it costs."""
    return -(-len(msgspec.json.encode(request["messages"])) // BYTES_PER_TOKEN)
