"""Chat client over the public API, for `tokenschain chat`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import httpx
import msgspec

from tokenschain.cli import http
from tokenschain.wire.sse import SseReader

_SILENCE_MAX_S = 120.0
_ANSWER_MAX_S = 600.0
_PATH = "/chat/completions"
_BLOCKED = "content_filter"


class ChatError(Exception):
    """The call failed; the message is the API's."""

    def __init__(self, message: str, *, retry_after_s: float | None = None) -> None:
        """
        Args:
            retry_after_s: the same call may do later; None: it will not.
        """
        super().__init__(message)
        self.retry_after_s = retry_after_s


class ChatAnswer(NamedTuple):
    """A whole answer."""

    request_id: str
    text: str
    blocked: bool
    """Whether moderation refused the question, or ended the answer."""


class ChatClient:
    """Calls chat completions with one key until its block ends; threads may share it."""

    def __init__(self, base_url: str, key: str) -> None:
        self._http = http.client(base_url, key, _ANSWER_MAX_S)

    def __enter__(self) -> ChatClient:
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()

    def ask(self, body: dict[str, Any], headers: dict[str, str]) -> str:
        """One call that is not streamed; gives its `x-tc-cache`.

        Raises:
            ChatError: refused or broken off.
        """
        try:
            reply = self._http.post(_PATH, json=body, headers=headers)
        except httpx.HTTPError as error:
            raise ChatError(str(error)) from None
        if reply.is_error:
            raise ChatError(http.message_of(reply))
        return str(reply.headers.get("x-tc-cache", ""))

    def answer(self, body: dict[str, Any], headers: dict[str, str]) -> ChatAnswer:
        """One call that is not streamed, and what it answers.

        Raises:
            ChatError: refused by anything but moderation, or broken off.
        """
        try:
            reply = self._http.post(_PATH, json=body, headers=headers)
        except httpx.HTTPError as error:
            raise ChatError(str(error), retry_after_s=1.0) from None
        request_id = str(reply.headers.get("x-request-id", ""))
        if http.code_of(reply) == _BLOCKED:
            return ChatAnswer(request_id, "", blocked=True)
        if reply.is_error:
            waits = reply.status_code == 429 or reply.status_code >= 500
            after = reply.headers.get("retry-after", "")
            pause_s = float(after) if after.isdecimal() else 1.0
            raise ChatError(http.message_of(reply), retry_after_s=pause_s if waits else None)
        choice = msgspec.json.decode(reply.content)["choices"][0]
        text = choice["message"].get("content") or ""
        return ChatAnswer(request_id, text, blocked=choice.get("finish_reason") == _BLOCKED)

    def stream(self, body: dict[str, Any]) -> Iterator[str]:
        """One streamed call; yields the answer as it is generated.

        Raises:
            ChatError: refused or broken off.
        """
        reader = SseReader()
        wanted = self._http.stream("POST", _PATH, json=body, timeout=_SILENCE_MAX_S)
        try:
            with wanted as reply:
                if reply.is_error:
                    reply.read()
                    raise ChatError(http.message_of(reply))
                for data in reply.iter_bytes():
                    for event in reader.feed(data):
                        yield _piece(event.data)
        except httpx.HTTPError as error:
            raise ChatError(str(error)) from None


class ChatSession:
    """Keeps the history; each answer is streamed."""

    def __init__(self, client: ChatClient, model: str) -> None:
        self._client = client
        self.model = model
        self._messages: list[dict[str, str]] = []

    def say(self, text: str) -> Iterator[str]:
        """Send a message; yields the answer as it is generated.

        Raises:
            ChatError: refused or broken off; the message is then forgotten.
        """
        messages = [*self._messages, {"role": "user", "content": text}]
        answer = ""
        body = {"model": self.model, "messages": messages, "stream": True}
        for piece in self._client.stream(body):
            answer += piece
            yield piece
        self._messages = [*messages, {"role": "assistant", "content": answer}]


def _piece(data: bytes) -> str:
    if data == b"[DONE]":
        return ""
    chunk = msgspec.json.decode(data)
    if "error" in chunk:
        raise ChatError(chunk["error"].get("message", "the stream broke off"))
    return "".join(choice["delta"].get("content") or "" for choice in chunk["choices"])
