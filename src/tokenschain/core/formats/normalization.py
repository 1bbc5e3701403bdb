"""Normalization of vendors' replies to OpenAI's shape with `reasoning_content`.

What is needed is read and the rest forgiven: fields of the envelope that are null, missing or of
another type, contents as parts, tool calls numbered in any way, usage as text, halves of emojis.
Reasoning comes as `reasoning_content`, as `reasoning`, inside `<think>` tags of the content or
in `reasoning_details`; finish reasons have names of their own. A reply in which nothing is odd
passes as the bytes it came in.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import Any, NamedTuple

import msgspec

from tokenschain.core.formats import openai_chat
from tokenschain.core.formats.forced_calls import WrittenCalls
from tokenschain.core.formats.json_bounds import LONG_BYTES, check_parts
from tokenschain.core.formats.lenient_json import (
    count_of,
    encodable,
    patiently,
    whole_characters,
)
from tokenschain.core.formats.openai_chat import ABSENT, Api, WireReply
from tokenschain.core.formats.think_tags import TagSplitter
from tokenschain.core.formats.tool_calls import ToolCalls, text_of

_encode = msgspec.json.Encoder().encode
_FINISH = {
    "sensitive": "content_filter",
    "safety": "content_filter",
    "refusal": "content_filter",
    "eos": "stop",
    "eos_token": "stop",
    "stop_sequence": "stop",
    "end_turn": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_calls",
    "null": None,
    "": None,
}
FAILED_FINISHES = frozenset({"network_error", "insufficient_system_resource", "error"})
"""Finish reasons that mean the upstream broke off."""
INFERRED = "inferred"
"""Recorded as the finish reason where the upstream ended its answer without one; the caller is
told the one that follows from what the answer holds."""
_PLAIN_FINISHES = frozenset({None, "stop", "length", "content_filter"})
_OF_CALLS = frozenset({"tool_calls", "function_call"})
_KNOWN_FINISHES = frozenset({"stop", "length", "content_filter"}) | _OF_CALLS | FAILED_FINISHES
_BY_CONTENT = _OF_CALLS | {"stop", None}
"""Finish reasons that follow from whether a tool is called."""
_TEXTS = ("content", "reasoning_content", "refusal")
_CHOICES_MAX = 4_096
_HEAD = ("id", "model", "created")
_COUNTS = (
    "prompt_tokens", "completion_tokens", "total_tokens", "prompt_cache_hit_tokens",
    "cached_tokens",
)  # fmt: skip
_DETAILS = {
    "prompt_tokens_details": (
        "cached_tokens", "cache_creation_input_tokens", "cache_write_1h_tokens", "audio_tokens",
        "image_tokens",
    ),
    "completion_tokens_details": ("reasoning_tokens", "audio_tokens"),
}  # fmt: skip


_CHOOSING = frozenset({Api.CHAT, Api.COMPLETIONS})
_CODES = ("code", "error_code")
_NO_CODE: tuple[object, ...] = (None, "", 0, "0", 200, "200", [])
_WORDS = ("message", "msg", "detail", "error_msg", "errmsg")


class Normalization(StrEnum):
    """Where a vendor puts reasoning."""

    CANONICAL = "reasoning_content"
    REASONING = "reasoning"
    TAGS = "think_tags"
    DETAILS = "reasoning_details"


_IN_THE_TEXT = frozenset({Normalization.TAGS, Normalization.DETAILS})
"""Where reasoning is not told by the name of its field."""


class ReplyContext(NamedTuple):
    """What is known of an answer without reading it, and how its caller wants calls."""

    id: str = "chatcmpl-0"
    """For an answer that says none."""
    model: str = ""
    created_s: int = 0
    api: Api = Api.CHAT
    freeform: frozenset[str] = frozenset()
    """Freeform tools that the upstream knows as functions; their calls are turned back."""
    older_functions: bool = False
    """Whether the call of a tool is to come back as `function_call`."""
    knows_functions: bool = False
    """Whether the caller itself declared the older `functions`."""
    tool_names: Mapping[str, str] = MappingProxyType({})
    """The caller's names of tools that the upstream knows by others."""
    called_by_schema: bool = False
    """Whether the text is a call written as JSON: see `forced_calls`."""


ReadReply = tuple[bytes, WireReply]
"""A reply or chunk, canonical: its bytes, and what the platform reads of them."""


def plain(data: bytes, *, chooses: bool = True, texts: bool = False) -> WireReply | None:
    """A reply or chunk in which nothing is odd, or None: then it is to be read closely.

    Args:
        chooses: whether answers of its API have choices.
        texts: whether those are texts, not messages.
    """
    try:
        found = openai_chat.read_reply(data)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
    if not found.choices:
        return found if found.choices is not None or not chooses else None
    for choice in found.choices:
        finish = choice.finish_reason
        if finish not in _PLAIN_FINISHES or choice.usage is not ABSENT:
            return None
        if finish is None and choice.message is not None:
            return None
        part = choice.delta or choice.message
        if not texts if part is None else not part.simple:
            return None
    return found


class ReplyNormalizer:
    """Makes one reply canonical, whole or chunk by chunk; keeps state between chunks."""

    __slots__ = (
        "_always",
        "_calls",
        "_chooses",
        "_context",
        "_functions",
        "_halves",
        "_normalization",
        "_odd",
        "_said",
        "_splitters",
        "_written",
    )

    def __init__(
        self, normalization: Normalization, context: ReplyContext = ReplyContext()
    ) -> None:
        self._normalization = normalization
        self._context = context
        self._chooses = context.api in _CHOOSING
        self._written = WrittenCalls() if context.called_by_schema else None
        self._always = (
            context.older_functions or context.called_by_schema or normalization in _IN_THE_TEXT
        )
        self._splitters: dict[int, TagSplitter] = {}
        self._calls: dict[int, ToolCalls] = {}
        self._halves: dict[tuple[int, str], str] = {}
        """The first half of a character, by choice and field, until its second half comes."""
        self._functions: set[int] = set()
        """Choices that have given an older `function_call`."""
        self._said = False
        """Whether a chunk came before."""
        self._odd = False
        """Whether id, model or time of an answer are not of their types."""

    @property
    def watches(self) -> bool:
        """Whether the next chunks must be read: a tool was called, half a character waits, or
        what is the same in all chunks of a stream had to be mended."""
        return bool(self._odd or self._calls or self._functions or self._halves)

    def whole(self, body: bytes) -> ReadReply:
        """A whole reply.

        Raises:
            ValueError: no JSON object.
        """
        return self._read(body, whole=True)

    def chunk(self, data: bytes) -> ReadReply:
        """One chunk of a stream.

        Raises:
            ValueError: no JSON object.
        """
        return self._read(data, whole=False)

    def ending(self, last: bytes, choices: int) -> bytes | None:
        """A last chunk that ends each choice of a stream that gave no finish reason; None where
        the call of a tool is cut off, or nothing but reasoning came last.

        Args:
            last: the chunk before it.
        """
        if not all(calls.complete for calls in self._calls.values()):
            return None
        before = patiently(last) if last else None
        head = before if isinstance(before, dict) else {}
        said = head.get("choices")
        if not self._calls and isinstance(said, list) and any(map(_only_thinks, said)):
            return None
        part: dict[str, Any] = (
            {"text": ""} if self._context.api is Api.COMPLETIONS else {"delta": {}}
        )
        ends = [{"index": at, **part, "finish_reason": "stop"} for at in range(choices)]
        made = {k: v for k, v in head.items() if k not in ("choices", "usage")}
        self._mend_head(made, whole=False)
        return _encode({**made, "choices": ends})

    def _read(self, data: bytes, *, whole: bool) -> ReadReply:
        if not self._always and not self._halves:
            texts = self._context.api is Api.COMPLETIONS
            odd = self._has_chat_logprobs(data)
            found = None if odd else plain(data, chooses=self._chooses, texts=texts)
            called = self._calls or self._functions
            if found is not None and not (
                (called and found.finish_reason())
                or (not whole and any(c.message is not None for c in found.choices or ()))
            ):
                self._said = True
                return data, found
        if len(data) > LONG_BYTES:
            check_parts(data)  # now it is read in full
        reply = patiently(data)
        if not isinstance(reply, dict):
            raise ValueError("not a JSON object")
        if not whole and self._said and reply.get("object") == "chat.completion":
            _forget_recap(reply)
        self._said = True
        mended = self._mended(reply, whole=whole)
        try:
            made = _encode(mended)
        except (UnicodeEncodeError, OverflowError):
            made = _encode(encodable(mended))
        return made, openai_chat.read_reply(made)

    def _has_chat_logprobs(self, data: bytes) -> bool:
        """Whether a text completion may tell logprobs in the form that chat has."""
        return self._context.api is Api.COMPLETIONS and b'"content"' in data

    # --- one reply ---------------------------------------------------------------------------

    def _mended(self, reply: dict[str, Any], *, whole: bool) -> dict[str, Any]:
        _mend_error(reply)
        choices = reply.get("choices")
        if isinstance(choices, dict):
            choices = [choices]
        known = [c for c in choices if isinstance(c, dict)] if isinstance(choices, list) else []
        if len(known) > _CHOICES_MAX:
            raise ValueError("too many choices")
        if self._chooses and not (not known and _is_error(reply)):
            self._mend_head(reply, whole=whole)
            reply["choices"] = known
        for at, choice in enumerate(known):
            usage = choice.pop("usage", None)  # an older Kimi's place for it
            if usage is not None:
                reply.setdefault("usage", usage)
            self._mend_choice(choice, at, whole=whole)
        if "usage" in reply:
            usage = counts_of(reply["usage"])
            if usage is None:
                del reply["usage"]
            else:
                reply["usage"] = usage
        return reply

    def _mend_head(self, reply: dict[str, Any], *, whole: bool) -> None:
        context = self._context
        said = [repr(reply.get(name)) for name in _HEAD]
        id, model, created = reply.get("id"), reply.get("model"), reply.get("created")
        if isinstance(id, int) and not isinstance(id, bool):
            id = str(id)
        reply["id"] = id if isinstance(id, str) and id else context.id
        reply["model"] = model if isinstance(model, str) and model else context.model
        seconds = count_of(created)
        reply["created"] = context.created_s if seconds is None else seconds
        self._odd = self._odd or said != [repr(reply[name]) for name in _HEAD]
        if not isinstance(reply.get("object"), str):
            kind = "chat.completion" if whole else "chat.completion.chunk"
            reply["object"] = "text_completion" if context.api is Api.COMPLETIONS else kind

    def _mend_choice(self, choice: dict[str, Any], at: int, *, whole: bool) -> None:
        index = choice.get("index")
        if not isinstance(index, int) or isinstance(index, bool) or not 0 <= index < 1_024:
            index = choice["index"] = at
        finish = choice.get("finish_reason")
        finish = _finish_of(finish)
        if self._context.api is Api.COMPLETIONS:
            choice["text"] = _text_in(choice.get("text"), "text")
            choice["logprobs"] = completion_logprobs(choice.get("logprobs"))
            choice["finish_reason"] = finish
            return
        name, other = ("message", "delta") if whole else ("delta", "message")
        part = choice.get(name)
        if not isinstance(part, dict):
            part = choice.pop(other, None) if isinstance(choice.get(other), dict) else None
            if part is None and isinstance(choice.get("text"), str):
                part = choice[name] = {"content": choice.pop("text")}
            if part is None and whole:
                choice.pop(name, None)
                choice["finish_reason"] = finish
                return
            part = choice[name] = part if part is not None else {}
        ended = whole or finish is not None
        self._mend_part(part, index, whole=whole)
        self._reason(part, index, ended=ended)
        self._join_halves(part, index, ended=ended)
        if self._written is not None:
            self._written.take(part, index, ended=ended)
        finish = self._call_tools(part, index, finish, whole=whole)
        if whole:
            part.setdefault("role", "assistant")
            part.setdefault("content", None)
        choice["finish_reason"] = finish

    def _mend_part(self, part: dict[str, Any], index: int, *, whole: bool) -> None:
        """The texts as texts; thinking that stands among the parts of the content apart."""
        content = part.get("content")
        if isinstance(content, list):
            thought = "".join(_text_in(p, "thinking") for p in content if _is_thinking(p))
            if thought:
                part.setdefault("reasoning_content", thought)
            part["content"] = "".join(_text_in(p, "text") for p in content if not _is_thinking(p))
        for name in _TEXTS:
            value = part.get(name)
            if value is not None and not isinstance(value, str):
                part[name] = _text_in(value, "text")
        if "role" in part and not isinstance(part["role"], str):
            part["role"] = "assistant"
        for name, rule in (("reasoning_details", _detail), ("annotations", _annotation)):
            if name in part:
                given = part[name] if isinstance(part[name], list) else []
                part[name] = [made for made in map(rule, given) if made is not None]
                if not part[name]:
                    del part[name]
        if isinstance(part.get("logprobs"), list | str):
            del part["logprobs"]

    def _reason(self, part: dict[str, Any], index: int, *, ended: bool) -> None:
        if self._normalization is Normalization.TAGS and isinstance(part.get("content"), str):
            splitter = self._splitters.setdefault(index, TagSplitter())
            reasoning, content = splitter.feed(part["content"], ended=ended)
            part["content"] = content
            if reasoning:
                part["reasoning_content"] = (part.get("reasoning_content") or "") + reasoning
            return
        if self._normalization is Normalization.DETAILS:
            details = part.get("reasoning_details")
            text = "".join(d.get("text") or "" for d in details or () if isinstance(d, dict))
            if text:
                part["reasoning_content"] = text
            return
        other = part.pop("reasoning", None)
        if other is not None and not part.get("reasoning_content"):
            part["reasoning_content"] = _text_in(other, "content")

    def _join_halves(self, part: dict[str, Any], index: int, *, ended: bool) -> None:
        """A character that was cut between two deltas comes whole with the second one."""
        for name in _TEXTS:
            held = self._halves.pop((index, name), "")
            text = part.get(name)
            if not held and (not text or text.isascii()):
                continue
            text = held + (text or "")
            if text and "\ud800" <= text[-1] <= "\udbff" and not ended:
                self._halves[index, name] = text[-1]
                text = text[:-1]
            part[name] = whole_characters(text)

    def _call_tools(
        self, part: dict[str, Any], index: int, finish: str | None, *, whole: bool
    ) -> str | None:
        """Tool calls by identity; the finish reason that follows from them."""
        given_calls = part.pop("tool_calls", None)
        older = part.pop("function_call", None)
        if isinstance(older, dict):
            said = {"arguments": text_of(older.get("arguments"))}
            if isinstance(older.get("name"), str):
                said["name"] = older["name"]
            if not self._context.knows_functions:
                given_calls = given_calls or [{"function": said}]
            elif said["arguments"] or "name" in said:
                part["function_call"] = said
                self._functions.add(index)
        calls = self._calls.get(index)
        if given_calls and calls is None:
            calls = ToolCalls(self._context.id + (f"x{index}" if index else ""),
                              self._context.freeform, self._context.tool_names)  # fmt: skip
        made: list[dict[str, Any]] = []
        if calls is not None and given_calls:
            made = calls.whole(given_calls) if whole else calls.take(given_calls)
        if calls:
            self._calls[index] = calls
        if calls and finish is not None and not whole:
            made += calls.finish()
        called = bool(calls) or index in self._functions
        if made:
            self._put_calls(part, made)
        if (finish is None and not whole) or finish not in _BY_CONTENT:
            return finish
        if not called:
            return "stop"
        if not calls or self._context.older_functions:
            return "function_call"
        return "tool_calls"

    def _put_calls(self, part: dict[str, Any], made: list[dict[str, Any]]) -> None:
        if not self._context.older_functions:
            part["tool_calls"] = made
            return
        first = next((call for call in made if call.get("index", 0) == 0), None)
        if first is not None and "function" in first:
            part["function_call"] = first["function"]


def completion_logprobs(given: Any) -> Any:
    """The logprobs of a text completion; chat's form, which llama.cpp sends, as its own."""
    content = given.get("content") if isinstance(given, dict) else None
    if not isinstance(content, list):
        return given
    tokens = [token for token in content if isinstance(token, dict)]
    texts = [_text_in(token.get("token"), "token") for token in tokens]
    offsets = [sum(map(len, texts[:at])) for at in range(len(texts))]
    return {
        "tokens": texts,
        "token_logprobs": [token.get("logprob") for token in tokens],
        "top_logprobs": [
            {other["token"]: other.get("logprob") for other in token.get("top_logprobs") or ()}
            for token in tokens
        ],
        "text_offset": offsets,
    }


# --- values -------------------------------------------------------------------------------------


def _text_in(value: Any, name: str) -> str:
    """The text of something that should be one."""
    if isinstance(value, str):
        return value
    if isinstance(value, list):
        return "".join(_text_in(entry, name) for entry in value)
    if isinstance(value, dict):
        found = (value.get(key) for key in (name, "text", "content", "summary"))
        return next((_text_in(text, name) for text in found if text), "")
    if value is None or isinstance(value, bool):
        return ""
    return str(value)


def _finish_of(value: Any) -> str | None:
    """A finish reason in OpenAI's words, where there is one for it."""
    if not isinstance(value, str):
        return None
    word = value.lower()
    return _FINISH.get(word, word if word in _KNOWN_FINISHES else value)


def _forget_recap(reply: dict[str, Any]) -> None:
    """The whole answer once more at the end of a stream: what it says was said."""
    choices = reply.get("choices")
    for choice in choices if isinstance(choices, list) else ():
        if isinstance(choice, dict) and "delta" not in choice:
            choice.pop("message", None)
            choice["delta"] = {}


def _only_thinks(choice: Any) -> bool:
    """Whether a chunk's choice holds reasoning and nothing else."""
    delta = choice.get("delta") if isinstance(choice, dict) else None
    if not isinstance(delta, dict) or delta.get("content"):
        return False
    return bool(delta.get("reasoning_content") or delta.get("reasoning"))


def _is_thinking(part: Any) -> bool:
    return isinstance(part, dict) and part.get("type") in ("thinking", "reasoning")


def _detail(given: Any) -> dict[str, Any] | None:
    if not isinstance(given, dict):
        return None
    texts = ("type", "text", "signature", "data")
    return {k: v for k, v in given.items() if k not in texts or isinstance(v, str)}


def _annotation(given: Any) -> dict[str, Any] | None:
    if not isinstance(given, dict):
        return None
    found = given.get("url_citation")
    if found is None and isinstance(given.get("url"), str):
        found = {k: v for k, v in given.items() if k != "type"}
    if not isinstance(found, dict) or not isinstance(found.get("url"), str):
        return None
    texts = {k: found[k] for k in ("title", "content") if isinstance(found.get(k), str)}
    places = {k: count_of(found.get(k)) or 0 for k in ("start_index", "end_index")}
    made = {k: v for k, v in found.items() if k not in (*texts, *places, "title", "content")}
    return {**given, "type": "url_citation", "url_citation": {**made, **texts, **places}}


def counts_of(usage: Any) -> dict[str, Any] | None:
    """A usage with counts that are numbers; None where those that matter are none."""
    if not isinstance(usage, dict):
        return None
    made = dict(usage)
    for name in _COUNTS:
        value = made.pop(name, None)
        count = count_of(value)
        if count is not None:
            made[name] = count
        elif value is not None and name in ("prompt_tokens", "completion_tokens"):
            return None
    for name, counts in _DETAILS.items():
        inner = made.pop(name, None)
        if isinstance(inner, dict):
            made[name] = dict(inner)
            for key in counts:
                count = count_of(made[name].pop(key, None))
                if count is not None:
                    made[name][key] = count
    return made


def _is_error(reply: dict[str, Any]) -> bool:
    """Whether what has no choices is an error, in any of the forms of vendors; it becomes one
    that says so."""
    base = reply.get("base_resp")
    failed = isinstance(base, dict) and base["status_code"] != 0
    if failed or reply.get("error") or any(reply.get(name) not in _NO_CODE for name in _CODES):
        return True
    if "choices" in reply or "usage" in reply:
        return False
    words = next((reply[name] for name in _WORDS if isinstance(reply.get(name), str)), None)
    if words is None and "error" not in (reply.get("object"), reply.get("type")):
        return False
    reply["error"] = {"message": words or "", "type": reply.get("type")}
    return True


def _mend_error(reply: dict[str, Any]) -> None:
    """MiniMax's status where it is not of its type."""
    base = reply.get("base_resp")
    if base is not None:
        status = count_of(base.get("status_code")) if isinstance(base, dict) else None
        if status is None:
            del reply["base_resp"]
        else:
            base["status_code"] = status
