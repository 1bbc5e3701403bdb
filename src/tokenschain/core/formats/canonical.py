"""Canonical form of a conversation, typed: OpenAI's chat with reasoning.

APIs and providers that speak another protocol read and write this form. Calls that need no
translation are never decoded this far; see `core.formats.openai_chat`.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import msgspec
from msgspec import Raw, Struct

from tokenschain.core.errors import ApiError
from tokenschain.core.formats import lenient_json
from tokenschain.core.formats.openai_chat import WireUsage

ABSENT = Raw(b"")
"""Stands for a field of any JSON that was not sent (msgspec knows no `Raw | None`)."""
PAUSE = "pause_turn"
NO_PARAMETERS = Raw(b'{"type":"object","properties":{}}')


class Function(Struct):
    """A function called; in a stream, a piece of the call."""

    name: str | None = None
    arguments: str | None = None


class CustomCall(Struct):
    """A freeform tool called; in a stream, a piece of the call."""

    name: str | None = None
    input: str | None = None


class ToolCall(Struct, omit_defaults=True):
    function: Function = msgspec.field(default_factory=Function)
    id: str | None = None
    index: int | None = None
    cache_control: Raw = ABSENT
    custom: CustomCall | None = None
    """Instead of a function."""


class ReasoningDetail(Struct, omit_defaults=True):
    """A piece of reasoning with what its vendor needs to recognise it again."""

    type: str | None = None
    text: str | None = None
    signature: str | None = None
    data: str | None = None


class ImageUrl(Struct, omit_defaults=True):
    url: str
    detail: str | None = None


class File(Struct, omit_defaults=True):
    """A document: its data as a data URL, where it is, or what its vendor knows it by."""

    file_data: str | None = None
    file_url: str | None = None
    file_id: str | None = None
    filename: str | None = None


class Part(Struct, omit_defaults=True):
    """A part of a message's content."""

    type: str
    text: str | None = None
    image_url: ImageUrl | None = None
    file: File | None = None
    cache_control: Raw = ABSENT


class UrlCitation(Struct, omit_defaults=True):
    """A page that a part of the text rests on; indices count characters of the text."""

    url: str
    title: str = ""
    start_index: int = 0
    end_index: int = 0
    content: str = ""
    """The words of the page, where the vendor gives them."""


class Annotation(Struct):
    type: str = "url_citation"
    url_citation: UrlCitation | None = None


class Message(Struct, omit_defaults=True):
    role: str = "assistant"
    content: str | list[Part] | None = None
    tool_calls: list[ToolCall] | None = None
    tool_call_id: str | None = None
    reasoning_content: str | None = None
    reasoning_details: list[ReasoningDetail] | None = None
    refusal: str | None = None
    annotations: list[Annotation] | None = None
    cache_control: Raw = ABSENT

    @property
    def citations(self) -> list[UrlCitation]:
        """What the text rests on."""
        found = (annotation.url_citation for annotation in self.annotations or ())
        return [citation for citation in found if citation is not None]

    @property
    def text(self) -> str:
        """The text of the content, its parts joined."""
        if isinstance(self.content, list):
            return "".join(part.text or "" for part in self.content)
        return self.content or ""


class FunctionSpec(Struct, omit_defaults=True):
    name: str
    description: str | None = None
    parameters: Raw = NO_PARAMETERS
    strict: bool | None = None


class Tool(Struct, omit_defaults=True):
    function: FunctionSpec
    type: str = "function"
    cache_control: Raw = ABSENT


class NamedFunction(Struct):
    name: str


class NamedChoice(Struct):
    function: NamedFunction


class ThinkingSwitch(Struct):
    type: str = "enabled"
    budget_tokens: int | None = None


class OutputConfig(Struct, omit_defaults=True):
    effort: str | None = None


class Conversation(Struct):
    """What translations read of a chat request.

    A vendor's dialect (`known`) says which of it the vendor's own protocol carries.
    """

    messages: list[Message]
    tools: list[Tool] | None = None
    tool_choice: str | NamedChoice | None = None
    parallel_tool_calls: bool | None = None
    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    seed: int | None = None
    stop: str | list[str] | None = None
    stream: bool | None = None
    thinking: ThinkingSwitch | None = None
    enable_thinking: bool | None = None
    thinking_budget: int | None = None
    reasoning_effort: str | None = None
    output_config: OutputConfig | None = None
    user: str | None = None
    safety_identifier: str | None = None
    service_tier: str | None = None
    presence_penalty: float | None = None
    repetition_penalty: float | None = None
    n: int | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = None
    enable_search: bool | None = None
    search_options: Raw = ABSENT
    response_format: Raw = ABSENT

    @property
    def stops(self) -> list[str]:
        """Stop sequences, always as a list."""
        return [self.stop] if isinstance(self.stop, str) else self.stop or []

    @property
    def output_tokens_max(self) -> int | None:
        return self.max_completion_tokens or self.max_tokens


class LogProbs(Struct):
    content: list[Raw] | None = None


class Spoken(Struct):
    """Sound in an answer, of which other APIs get the words."""

    transcript: str | None = None


class ReplyMessage(Message):
    """What an answer says, or a piece of it."""

    audio: Spoken | None = None

    @property
    def words(self) -> str:
        """Its text, or the words of its sound."""
        return self.text or (self.audio.transcript if self.audio is not None else None) or ""


class Choice(Struct):
    index: int = 0
    message: ReplyMessage | None = None
    delta: ReplyMessage | None = None
    finish_reason: str | None = None
    stop_sequence: str | None = None
    """The caller's sequence that ended it, where the vendor says so."""
    stop_reason: Raw = ABSENT
    """vLLM's word for the same, when it is a text; `pause_turn` of Anthropic."""
    logprobs: LogProbs | None = None

    @property
    def said(self) -> ReplyMessage:
        """What it says, of a whole answer or of a piece."""
        return self.delta or self.message or ReplyMessage()

    @property
    def stopped_by(self) -> str | None:
        """The caller's sequence that ended it."""
        if self.stop_sequence is None and bytes(self.stop_reason)[:1] == b'"':
            word: str = msgspec.json.decode(self.stop_reason)
            return None if word == PAUSE else word
        return self.stop_sequence

    @property
    def pauses(self) -> bool:
        """Whether the turn is to be gone on with as it is."""
        return bytes(self.stop_reason) == b'"%b"' % PAUSE.encode()


class ChatReply(Struct):
    """A whole reply or one chunk of a stream."""

    id: str = ""
    model: str = ""
    created: int = 0
    choices: list[Choice] = []
    usage: WireUsage | None = None
    error: Raw = Raw(b"")


_encode = msgspec.json.Encoder().encode
_conversation = msgspec.json.Decoder(Conversation).decode
_reply = lenient_json.reader(ChatReply)


def read(fields: dict[str, Raw]) -> Conversation:
    """A request's fields, typed.

    Raises:
        ApiError: `invalid_value`: something is of a kind that cannot be translated.
    """
    try:
        return _conversation(_encode(fields))
    except msgspec.ValidationError as error:
        text, _, path = str(error).partition(" - at `$.")
        param = path.rstrip("`") or None
        raise ApiError(
            "invalid_value", f"Invalid value for `{param}`: {text}.", param=param
        ) from None


def read_reply(data: bytes) -> ChatReply:
    """A canonical reply or chunk, typed.

    Raises:
        ValueError: it is none.
    """
    return _reply(data)


class ReplyMetadata(NamedTuple):
    """What a reply says of itself where the vendor's protocol does not."""

    model: str = ""
    created_s: int = 0

    def head(self, id: str, model: str = "", created_s: int = 0) -> dict[str, Any]:
        """The first fields of a reply or of each of its chunks."""
        return {"id": id, "model": model or self.model, "created": created_s or self.created_s}


def chunk(
    head: dict[str, Any],
    delta: dict[str, Any],
    finish: str | None = None,
    more: dict[str, Any] | None = None,
) -> bytes:
    """One canonical chunk of a stream; `more` stands beside the finish reason."""
    choice = {"index": 0, "delta": delta, "finish_reason": finish, **(more or {})}
    return lenient_json.encode({**head, "object": "chat.completion.chunk", "choices": [choice]})


def usage_chunk(
    head: dict[str, Any], usage: dict[str, Any], kind: str = "chat.completion.chunk"
) -> bytes:
    """The canonical chunk that carries a stream's usage."""
    return _encode({**head, "object": kind, "choices": [], "usage": usage})


def whole(
    head: dict[str, Any],
    message: dict[str, Any],
    finish: str | None,
    usage: dict[str, Any] | None,
    more: dict[str, Any] | None = None,
) -> bytes:
    """A canonical whole reply."""
    choice = {"index": 0, "message": message, "finish_reason": finish, **(more or {})}
    made = {**head, "object": "chat.completion", "choices": [choice]}
    return lenient_json.encode(made if usage is None else {**made, "usage": usage})
