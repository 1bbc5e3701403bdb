"""A conversation with a model over the public API, for `tokenschain chat`."""

from __future__ import annotations

import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any

import msgspec

from tokenschain.wire.sse import SseReader

_SILENCE_MAX_S = 120.0
_ANSWER_MAX_S = 600.0


class TalkError(Exception):
    """The call failed; the message is the API's."""


def ask(base_url: str, key: str, body: dict[str, Any], headers: dict[str, str]) -> str:
    """One chat call that is not streamed; gives its `x-tc-cache`.

    Raises:
        TalkError: refused or broken off.
    """
    request = urllib.request.Request(  # noqa: S310 - the operator's own address
        f"{base_url}/chat/completions",
        data=msgspec.json.encode(body),
        headers={"authorization": f"Bearer {key}", "content-type": "application/json"} | headers,
    )
    try:
        with urllib.request.urlopen(request, timeout=_ANSWER_MAX_S) as reply:  # noqa: S310
            reply.read()
            return str(reply.headers.get("x-tc-cache", ""))
    except urllib.error.HTTPError as error:
        raise _refused(error) from None
    except OSError as error:
        raise TalkError(str(error)) from None


def _refused(error: urllib.error.HTTPError) -> TalkError:
    found = msgspec.json.decode(error.read() or b"{}")
    return TalkError(found.get("error", {}).get("message", str(error)))


class Talk:
    """Keeps the history; each answer is streamed."""

    def __init__(self, base_url: str, key: str, model: str) -> None:
        self._url = f"{base_url}/chat/completions"
        self._key = key
        self.model = model
        self._messages: list[dict[str, str]] = []

    def say(self, text: str) -> Iterator[str]:
        """Send a message; yields the answer as it is generated.

        Raises:
            TalkError: refused or broken off; the message is then forgotten.
        """
        messages = [*self._messages, {"role": "user", "content": text}]
        body = {"model": self.model, "messages": messages, "stream": True}
        request = urllib.request.Request(  # noqa: S310 - the operator's own address
            self._url,
            data=msgspec.json.encode(body),
            headers={
                "authorization": f"Bearer {self._key}",
                "content-type": "application/json",
            },
        )
        answer = ""
        reader = SseReader()
        try:
            with urllib.request.urlopen(request, timeout=_SILENCE_MAX_S) as reply:  # noqa: S310
                while data := reply.read1(65_536):
                    for event in reader.feed(data):
                        piece = _piece(event.data)
                        answer += piece
                        yield piece
        except urllib.error.HTTPError as error:
            raise _refused(error) from None
        except OSError as error:
            raise TalkError(str(error)) from None
        self._messages = [*messages, {"role": "assistant", "content": answer}]


def _piece(data: bytes) -> str:
    if data == b"[DONE]":
        return ""
    chunk = msgspec.json.decode(data)
    if "error" in chunk:
        raise TalkError(chunk["error"].get("message", "the stream broke off"))
    return "".join(choice["delta"].get("content") or "" for choice in chunk["choices"])
