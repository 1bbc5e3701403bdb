"""Texts of requests and answers, found wherever they stand: what moderation reads and rewrites.

Every string is a text but for those that this file decides are none, so that a part of a request
that nobody thought of is screened, too. JSON within strings (arguments of tool calls) and texts
within files (data URLs of text) are read as what they hold.
"""

from __future__ import annotations

import base64
import binascii
import codecs
from collections.abc import Callable, Iterator, Mapping
from enum import StrEnum
from typing import Any, NamedTuple

import msgspec
from msgspec import Raw

_decode = msgspec.json.Decoder().decode
_encode = msgspec.json.Encoder().encode

DEPTH_MAX = 128
JSON_WITHIN_MAX = 2
"""How deep JSON may stand within strings of JSON."""


class PartDecision(StrEnum):
    """What moderation does with a kind of part."""

    SCREENED = "screened"
    MEDIA = "media"
    """It is no text: engines that take it screen it, or the policy says what becomes of it."""
    OPAQUE = "opaque"
    """Nothing that a caller wrote, or nothing that can be read: ids, sealed reasoning."""


PARTS: Mapping[str, PartDecision] = {
    **dict.fromkeys(
        (
            "text", "input_text", "output_text", "refusal", "summary_text", "reasoning_text",
            "thinking", "tool_use", "tool_result", "tool_reference", "search_result", "program",
            "server_tool_use", "web_search_tool_result", "web_search_result",
            "mcp_tool_use", "mcp_tool_result", "code_execution_tool_result", "compaction",
            "message", "reasoning", "function", "custom", "function_call", "function_call_output",
            "custom_tool_call", "custom_tool_call_output", "additional_tools", "namespace",
            "mid_conv_system", "program_output", "web_fetch_tool_result", "reference",
            "local_shell_call", "local_shell_call_output", "shell_call", "shell_call_output",
            "apply_patch_call", "apply_patch_call_output", "exec_output", "shell_output",
            "computer_call_output", "mcp_approval_response",
        ),
        PartDecision.SCREENED,
    ),
    **dict.fromkeys(
        (
            "image", "image_url", "input_image", "audio", "audio_url", "input_audio", "video",
            "video_url", "input_video", "file", "input_file", "document", "document_url",
            "file_url", "container_upload",
        ),
        PartDecision.MEDIA,
    ),
    **dict.fromkeys(
        ("redacted_thinking", "encrypted", "item_reference", "compaction_summary", "cache_control"),
        PartDecision.OPAQUE,
    ),
}  # fmt: skip
"""By `type`. A kind that is not here is screened: every string in it."""
_OPAQUE_FIELDS = frozenset(
    (
        "model", "stream", "stream_options", "service_tier", "encoding_format",
        "previous_response_id", "reasoning_effort", "include", "truncation", "verbosity",
        "modalities", "anthropic_version", "betas",
    )
)  # fmt: skip
"""Of requests: words of the protocol. What no model should read, but goes out with the request
(`user`, `metadata`), is a text."""
_OPAQUE_KEYS = frozenset(
    (
        "type", "role", "id", "call_id", "tool_call_id", "tool_use_id", "item_id", "detail",
        "format", "media_type", "mime_type", "encrypted_content", "signature", "status",
        "cache_control", "file_id", "phase", "fingerprint", "object", "obfuscation",
    )
)  # fmt: skip
"""Within messages: words of the protocol, ids, and what is sealed; where they are ASCII."""
_MEDIA_KEYS = frozenset(
    (
        "url", "data", "file_data", "file_url", "image_url", "audio_url", "video_url",
        "document_url", "image", "audio", "video",
    )
)  # fmt: skip
"""Where strings are addresses or data."""
_ELSEWHERE = "file_id"
"""Media that only their vendor has."""
_FREE = frozenset(
    (
        "arguments", "input", "parameters", "input_schema", "schema", "content", "output",
        "metadata",
    )
)  # fmt: skip
"""What holds anything: no key within it is a word of the protocol."""
_SCHEMA_KEYS = frozenset(
    (
        "type", "properties", "required", "items", "description", "enum", "title", "default",
        "anyOf", "oneOf", "allOf", "not", "$ref", "$defs", "definitions", "const", "format",
        "additionalProperties", "minimum", "maximum", "minLength", "maxLength", "minItems",
        "maxItems", "pattern",
    )
)  # fmt: skip
"""Of what holds anything, the keys that say nothing."""
_TEXT_TYPES = (
    "text/",
    "application/json",
    "application/xml",
    "application/csv",
    "application/yaml",
)
_PROBE_CHARACTERS = 4_096
"""Of base64: whether it is a text shows in its beginning. A multiple of four."""
_URL_SAFE = str.maketrans("-_", "+/", " \t\r\n")
_TOKENS = frozenset(("prompt", "input"))
TOKENS = "tokens"
"""A text as numbers, which only its model can read: it counts as what is no text."""
_JSON_KEYS = frozenset(("arguments",))
_JOINED = "text"
"""Pieces under this key, one after the other, are one text to a model."""


class MediaPart(NamedTuple):
    """What a request holds that is no text."""

    url: str
    """A web address or a data URL; `file_id:NAME` or `TOKENS`, which no engine can look at."""
    is_picture: bool


class RequestTexts(NamedTuple):
    """What a request says."""

    texts: list[str]
    media: list[MediaPart]
    roles: list[str]
    """Whose each text is; empty where it is no message."""


def texts_of(fields: Mapping[str, Raw]) -> RequestTexts:
    """The texts of a request's fields: what belongs together as one."""
    found = RequestTexts([], [], [])
    for name, raw in fields.items():
        if name in _OPAQUE_FIELDS:
            continue
        value = _decode(raw)
        for item in value if isinstance(value, list) else (value,):
            pieces: list[str] = []
            last_key = ""
            for leaf in _leaves(item, name, found.media):
                together = leaf.key == last_key == _JOINED
                pieces.append(leaf.text if together or not pieces else "\n" + leaf.text)
                last_key = leaf.key
            if pieces:
                found.texts.append("".join(pieces))
                role = item.get("role") if isinstance(item, dict) else ""
                found.roles.append(role if isinstance(role, str) else "")
    return found


def rewritten(fields: Mapping[str, Raw], edit: Callable[[str], str]) -> dict[str, Raw]:
    """A request's fields with each text as `edit` gives it back; unchanged fields stay as they
    were written."""
    made: dict[str, Raw] = {}
    for name, raw in fields.items():
        made[name] = raw
        if name in _OPAQUE_FIELDS:
            continue
        holder: list[Any] = [_decode(raw)]
        changed = False
        for leaf in list(_leaves(holder[0], name, [], holder)):
            text = edit(leaf.text)
            if text != leaf.text:
                leaf.put(text)
                changed = True
        if changed:
            made[name] = Raw(_encode(holder[0]))
    return made


class _Leaf(NamedTuple):
    """One text, and how another is written in its place."""

    key: str
    text: str
    put: Callable[[str], None]


def _leaves(
    value: Any, name: str, media: list[MediaPart], holder: list[Any] | None = None
) -> Iterator[_Leaf]:
    """The texts in a field.

    Args:
        media: gets what is no text.
        holder: a list whose first item the value is.
    """
    holder = [value] if holder is None else holder
    yield from _walk(holder, 0, name, False, media, 0)


def _walk(
    holder: Any, at: Any, key: str, free: bool, media: list[MediaPart], depth: int
) -> Iterator[_Leaf]:
    """
    Args:
        free: whether keys are the caller's own, none a word of the protocol.
    """
    value = holder[at]
    if depth > DEPTH_MAX:
        return
    if isinstance(value, str):
        yield from _of_string(holder, at, key, value, free, media)
    elif isinstance(value, int):
        if key in _TOKENS and not free and (not media or media[-1].url != TOKENS):
            media.append(MediaPart(TOKENS, False))
    elif isinstance(value, list):
        for number in range(len(value)):
            yield from _walk(value, number, key, free, media, depth + 1)
    elif isinstance(value, dict):
        if not free:
            yield from _of_source(value, key, media)
        for inner in list(value):
            if not free and inner in _OPAQUE_KEYS and _is_ascii(value[inner]):
                continue
            if (free and inner not in _SCHEMA_KEYS) or not inner.isascii():
                # Keys of the caller's own may say anything; a rewritten one is another key.
                yield _Leaf("key", inner, _renamer(value, inner))
            if not free and inner in _MEDIA_KEYS and isinstance(value.get(inner), str):
                continue
            if inner in value:
                inside = free or (inner in _FREE and isinstance(value[inner], dict))
                yield from _walk(value, inner, inner, inside, media, depth + 1)


def _is_ascii(value: Any) -> bool:
    return isinstance(value, str) and value.isascii()


def _of_string(
    holder: Any, at: Any, key: str, value: str, free: bool, media: list[MediaPart]
) -> Iterator[_Leaf]:
    if not value:
        return
    if not free and key in _MEDIA_KEYS:
        yield from _of_media(holder, at, key, value, "", "", media)
        return
    if key in _JSON_KEYS and value[:1] in "{[":
        try:
            inner = [_decode(value)]
        except msgspec.DecodeError:
            pass
        else:
            for leaf in list(_walk(inner, 0, key, True, media, 1)):
                yield _Leaf(leaf.key, leaf.text, _json_putter(leaf, holder, at, inner))
            return
    yield _Leaf(key, value, _putter(holder, at))


def _of_source(value: dict[str, Any], key: str, media: list[MediaPart]) -> Iterator[_Leaf]:
    """What an object holds under a key of media: an address, data, or a text as data."""
    kind = value.get("media_type") or value.get("mime_type") or ""
    of_type = str(value.get("type", ""))
    for name in _MEDIA_KEYS & value.keys():
        data = value[name]
        if not isinstance(data, str) or not data:
            continue
        if of_type == "text" and name == "data":
            yield _Leaf(name, data, _putter(value, name))
            continue
        what = f"{key} {of_type} {name}"
        yield from _of_media(value, name, what, data, str(kind), of_type, media)
    if isinstance(value.get(_ELSEWHERE), str):
        media.append(MediaPart(f"{_ELSEWHERE}:{value[_ELSEWHERE]}", False))


def _of_media(
    holder: Any, at: Any, what: str, data: str, kind: str, of_type: str, media: list[MediaPart]
) -> Iterator[_Leaf]:
    """An address, or data: as a text where it is one, else as media.

    Args:
        what: the words around it, which say whether it is a picture.
        kind: its media type, where one stands beside it.
    """
    if data.startswith(("http:", "https:")):
        media.append(MediaPart(data, _is_picture(what, data, kind)))
        yield _Leaf("address", data, _putter(holder, at))
        return
    found = _text_in(data, kind if of_type == "base64" else "")
    if found is not None:
        head = data.partition(",")[0] + "," if data.startswith("data:") and "," in data else ""
        yield _Leaf("file", found.text, _file_putter(holder, at, head))
        if found.declared:
            return
    if kind and not data.startswith("data:"):
        data = f"data:{kind};base64,{data}"
    media.append(MediaPart(data, _is_picture(what, data, kind)))


def _is_picture(what: str, data: str, kind: str) -> bool:
    return "image" in what or data.startswith("data:image/") or kind.startswith("image/")


class _FileText(NamedTuple):
    text: str
    declared: bool
    """Whether it is said to be a text; else it is one all the same, and may be more than that."""


def _text_in(data: str, media_type: str) -> _FileText | None:
    """The text of a data URL, or of base64 data; None where it is none."""
    body = data
    if data.startswith("data:") and "," in data:
        head, _, body = data.partition(",")
        media_type = head[len("data:") :]
        if not media_type.endswith(";base64"):
            return _FileText(body, not media_type or media_type.startswith(_TEXT_TYPES))
    declared = media_type.startswith(_TEXT_TYPES)
    begin = body[:_PROBE_CHARACTERS].translate(_URL_SAFE)
    is_cut = len(body) > _PROBE_CHARACTERS
    probe = _decoded(begin[: len(begin) // 4 * 4] if is_cut else begin)
    if probe is None:
        # What is no base64 is read as it stands: some clients write a text where data belongs.
        return _FileText(body, declared)
    if not declared and not _reads_as_text(probe, cut=is_cut):
        return None
    whole = _decoded(body.translate(_URL_SAFE))
    if whole is None:
        return None
    for encoding in _ENCODINGS if declared else _ENCODINGS[:1]:
        try:
            return _FileText(whole.decode(encoding), declared)
        except UnicodeDecodeError:
            continue
    return _FileText(whole.decode("utf-8", "replace"), declared) if declared else None


_ENCODINGS = ("utf-8", "gb18030", "utf-16")


def _decoded(body: str) -> bytes | None:
    body = body.rstrip("=")
    try:
        return base64.b64decode(body + "=" * (-len(body) % 4), validate=True)
    except (binascii.Error, ValueError):
        return None


def _reads_as_text(data: bytes, *, cut: bool) -> bool:
    try:
        text = codecs.getincrementaldecoder("utf-8")().decode(data, final=not cut)
    except UnicodeDecodeError:
        return False
    return not any(one < " " and one not in "\t\n\r\f" for one in text)


def _putter(holder: Any, at: Any) -> Callable[[str], None]:
    def put(text: str) -> None:
        holder[at] = text

    return put


def _renamer(holder: dict[str, Any], name: str) -> Callable[[str], None]:
    def put(text: str) -> None:
        holder[text] = holder.pop(name)

    return put


def _json_putter(leaf: _Leaf, holder: Any, at: Any, inner: list[Any]) -> Callable[[str], None]:
    def put(text: str) -> None:
        leaf.put(text)
        holder[at] = _encode(inner[0]).decode()

    return put


def _file_putter(holder: Any, at: Any, head: str) -> Callable[[str], None]:
    def put(text: str) -> None:
        encoded = head.endswith(";base64,") if head else _decoded(holder[at]) is not None
        holder[at] = head + (base64.b64encode(text.encode()).decode() if encoded else text)

    return put


# --- answers -------------------------------------------------------------------------------

TextId = tuple[Any, ...]
"""Which text of an answer a piece belongs to: the choice, and where in it."""


class PieceKind(StrEnum):
    """How the pieces of a text belong together."""

    FLOWING = "flowing"
    """They leave as they come."""
    GATHERED = "gathered"
    """They leave together when all are there: JSON, as the arguments of a call."""
    COMPLETE = "complete"
    """Each is a text by itself, as a citation's title."""


class AnswerPiece(NamedTuple):
    """A piece of one text of an answer."""

    of: TextId
    text: str
    put: Callable[[str], None]
    kind: PieceKind


class AnswerPart:
    """A canonical reply or chunk, with the pieces of text in it."""

    __slots__ = ("_fields", "ends", "pieces")

    def __init__(self, data: bytes) -> None:
        """
        Raises:
            ValueError: it is no JSON.
        """
        self._fields = _decode(data)
        self.pieces: list[AnswerPiece] = []
        self.ends: list[int] = []
        """The choices that end with it."""
        choices = self._fields.get("choices") if isinstance(self._fields, dict) else None
        for at, choice in enumerate(choices if isinstance(choices, list) else ()):
            if not isinstance(choice, dict):
                continue
            index = choice.get("index", at)
            for name in ("delta", "message"):
                part = choice.get(name)
                if isinstance(part, dict):
                    self._look_in(part, (index,), gathered=False)
            if isinstance(choice.get("text"), str) and choice["text"]:
                put = _putter(choice, "text")
                piece = AnswerPiece((index, "text"), choice["text"], put, PieceKind.FLOWING)
                self.pieces.append(piece)
            if choice.get("finish_reason"):
                self.ends.append(index)

    def _look_in(self, value: dict[str, Any], of: TextId, *, gathered: bool) -> None:
        for name, inner in value.items():
            if isinstance(inner, str):
                if inner and name not in _OPAQUE_KEYS and not (name == "data" and "audio" in of):
                    kind = PieceKind.FLOWING if name in _FLOWING else PieceKind.COMPLETE
                    self._add((*of, name), inner, value, name, gathered, kind)
            elif isinstance(inner, dict):
                within = gathered or name in _GATHERED
                self._look_in(inner, (*of, name), gathered=within)
            elif isinstance(inner, list):
                within = gathered or name in _GATHERED
                for at, item in enumerate(inner):
                    if isinstance(item, dict):
                        place = (*of, name, item.get("index", at))
                        self._look_in(item, place, gathered=within)
                    elif isinstance(item, str) and item:
                        self._add((*of, name, at), item, inner, at, within, PieceKind.COMPLETE)

    def _add(
        self, of: TextId, text: str, holder: Any, at: Any, gathered: bool, kind: PieceKind
    ) -> None:
        kind = PieceKind.GATHERED if gathered else kind
        self.pieces.append(AnswerPiece(of, text, _putter(holder, at), kind))

    def written(self) -> bytes:
        """The reply or chunk after its pieces were changed; without log probabilities, which would
        repeat what was changed."""
        for choice in self._fields["choices"]:
            if choice.get("logprobs"):
                choice["logprobs"] = None
        return _encode(self._fields)


_FLOWING = frozenset(("content", "reasoning_content", "reasoning", "refusal", "text", "transcript"))
"""Texts that leave as they come."""
_GATHERED = frozenset(("tool_calls", "function_call"))
"""What is of no use in parts."""


def last_chunks(chunk: bytes, choices: list[int], usage: dict[str, Any] | None) -> list[bytes]:
    """What ends a stream that was blocked: a finish reason for each open choice, and the usage.

    Args:
        chunk: one of the stream, whose head the last ones have.
    """
    head = _decode(chunk)
    head.pop("usage", None)
    text = head.get("object") == "text_completion"
    made = []
    for index in choices:
        empty: dict[str, Any] = {"text": ""} if text else {"delta": {}}
        choice = {"index": index, **empty, "logprobs": None, "finish_reason": "content_filter"}
        made.append(_encode({**head, "choices": [choice]}))
    if usage is not None:
        made.append(_encode({**head, "choices": [], "usage": usage}))
    return made


def json_rewritten(text: str, edit: Callable[[str], str]) -> str | None:
    """JSON with each string in it as `edit` gives it back; None where it is none."""
    if text.lstrip()[:1] not in ("{", "["):
        return None
    try:
        holder = [_decode(text)]
    except (msgspec.DecodeError, UnicodeEncodeError):
        return None
    changed = False
    for leaf in list(_walk(holder, 0, "arguments", True, [], 0)):
        made = edit(leaf.text)
        if made != leaf.text:
            leaf.put(made)
            changed = True
    return _encode(holder[0]).decode() if changed else text


def blocked_reply(reply: bytes, at_choice: Mapping[int, str]) -> bytes:
    """A whole canonical reply whose choices have only what may be given of them.

    Args:
        at_choice: by number of a choice that is blocked, what is left of its text.
    """
    fields = _decode(reply)
    for at, choice in enumerate(fields["choices"]):
        index = choice.get("index", at)
        if index not in at_choice:
            continue
        choice["finish_reason"] = "content_filter"
        choice["logprobs"] = None
        if "text" in choice:
            choice["text"] = at_choice[index]
        else:
            choice["message"] = {"role": "assistant", "content": at_choice[index]}
    return _encode(fields)
