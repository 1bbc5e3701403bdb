"""Stored responses: what is kept of a call, gone on from, listed, and streamed once more."""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import Raw, Struct

from tokenschain.core.errors import ApiError
from tokenschain.core.formats.json_body import without_mark

KEPT_INPUT_BYTES_MAX = 48 * 1_048_576
"""A longer conversation is not kept, and the response says so."""
KEPT_AT_ONCE_BYTES_MAX = 2_097_152
"""A longer response, as one with pictures, is stored in a file of its own, off the loop."""
RESPONSE_ID_BYTES = 16
"""Of chance, last in the id of a response; what stands before names the process."""
ITEMS_PAGE = 20
ITEMS_PAGE_MAX = 100
_encode = msgspec.json.Encoder().encode
_decode_fields = msgspec.json.Decoder(dict[str, Raw]).decode
_decode_items = msgspec.json.Decoder(list[dict[str, Any]]).decode
_PREVIOUS = b'"previous_response_id"'


class Stored(Struct):
    """A response that was kept, with all that led to it."""

    id: str
    tenant: str
    created_s: float
    input_items: bytes
    """JSON list, oldest first, the conversation before included."""
    response: bytes
    """JSON object."""
    project: str = ""
    """Empty of what was kept before version 0.3: control fills it in from the ledger."""
    environment: str = ""
    data_class: str = ""
    networks: tuple[str, ...] | None = None
    """Where the key it was made with may be used from; None: anywhere."""
    models: tuple[str, ...] = ()
    """That answered in the conversation, as they were asked for."""


class Input(Struct):
    """The part of a request that is kept."""

    input: str | list[dict[str, Any]] = []


class _Before(Struct):
    output: list[dict[str, Any]]


def items_of(given: str | list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Input items, each with an id, as `input_items` lists them."""
    if isinstance(given, str):
        content = [{"type": "input_text", "text": given}]
        given = [{"type": "message", "role": "user", "content": content}]
    return [{"id": f"item_{at}", "type": "message"} | item for at, item in enumerate(given)]


def may_go_on(body: bytes) -> bool:
    """A quick look whether a request goes on from a response."""
    return _PREVIOUS in body


def previous_of(body: bytes) -> str | None:
    """The id of the response that a request goes on from."""
    try:
        raw = _decode_fields(without_mark(body)).get("previous_response_id", Raw(b"null"))
        return msgspec.json.decode(raw, type=str | None)
    except msgspec.DecodeError:
        return None  # parsing says what is wrong


def continued(body: bytes, before: Stored) -> bytes:
    """A request with the conversation before it written out.

    Raises:
        msgspec.DecodeError: the request is none.
    """
    body = without_mark(body)
    fields = _decode_fields(body)
    items = _decode_items(before.input_items)
    items += msgspec.json.decode(before.response, type=_Before).output
    items += items_of(msgspec.json.decode(body, type=Input).input)
    fields["input"] = Raw(_encode(items))
    return _encode(fields)


def input_items_of(stored: Stored, *, limit: int, order: str, after: str) -> bytes:
    """The list that `GET /v1/responses/{id}/input_items` answers, one page of it.

    Args:
        order: `asc` from the oldest, `desc` from the newest.
        after: the id of the item that the page follows; empty for the first page.

    Raises:
        ApiError: there is no such item.
    """
    items = _decode_items(stored.input_items)
    for at, item in enumerate(items):
        item["id"] = item.get("id") or f"item_{at}"
    if order != "asc":
        items.reverse()
    if after:
        names = [item["id"] for item in items]
        if after not in names:
            raise ApiError("invalid_value", f"There is no item `{after[:80]}`.", param="after")
        items = items[names.index(after) + 1 :]
    page = items[:limit]
    return _encode(
        {
            "object": "list",
            "data": page,
            "first_id": page[0]["id"] if page else None,
            "last_id": page[-1]["id"] if page else None,
            "has_more": len(items) > limit,
        }
    )


# --- streamed once more -------------------------------------------------------------

_DELTAS = {
    "output_text": ("response.output_text", "text"),
    "refusal": ("response.refusal", "refusal"),
    "reasoning_text": ("response.reasoning_text", "text"),
}
_CALLS = {
    "function_call": ("response.function_call_arguments", "arguments"),
    "custom_tool_call": ("response.custom_tool_call_input", "input"),
}


def events_of(response: bytes, starting_after: int = -1) -> bytes:
    """The events of a stored response; those up to `starting_after` are left out."""
    whole: dict[str, Any] = msgspec.json.decode(response)
    events = _Events(starting_after)
    begun = {**whole, "status": "in_progress", "output": [], "usage": None, "error": None,
             "incomplete_details": None}  # fmt: skip
    events.add("response.created", response=begun)
    events.add("response.in_progress", response=begun)
    for at, item in enumerate(whole["output"]):
        events.item(at, item)
    events.add(f"response.{whole['status']}", response=whole)
    return b"".join(events.made)


class _Events:
    """The events of one response, numbered."""

    def __init__(self, starting_after: int) -> None:
        self.made: list[bytes] = []
        self._after = starting_after
        self._number = 0

    def add(self, kind: str, **fields: Any) -> None:
        if self._number > self._after:
            data = _encode({"type": kind, "sequence_number": self._number, **fields})
            self.made.append(b"event: %b\ndata: %b\n\n" % (kind.encode(), data))
        self._number += 1

    def item(self, at: int, item: dict[str, Any]) -> None:
        place = {"item_id": item.get("id"), "output_index": at}
        call = _CALLS.get(item["type"])
        begun = {**item, "status": "in_progress"}
        for name in ("content", "summary"):
            if name in begun:
                begun[name] = []
        if call is not None:
            begun[call[1]] = ""
        self.add("response.output_item.added", output_index=at, item=begun)
        for index, part in enumerate(item.get("summary") or ()):
            self._summary({**place, "summary_index": index}, part)
        for index, part in enumerate(item.get("content") or ()):
            self._part({**place, "content_index": index}, part)
        if call is not None:
            kind, name = call
            self.add(f"{kind}.delta", **place, delta=item[name])
            self.add(f"{kind}.done", **place, **{name: item[name], "name": item["name"]})
        self.add("response.output_item.done", output_index=at, item=item)

    def _summary(self, place: dict[str, Any], part: dict[str, Any]) -> None:
        empty = {**part, "text": ""}
        self.add("response.reasoning_summary_part.added", **place, part=empty)
        self.add("response.reasoning_summary_text.delta", **place, delta=part["text"])
        self.add("response.reasoning_summary_text.done", **place, text=part["text"])
        self.add("response.reasoning_summary_part.done", **place, part=part)

    def _part(self, place: dict[str, Any], part: dict[str, Any]) -> None:
        kind, name = _DELTAS[part["type"]]
        more = {"logprobs": part.get("logprobs") or []} if kind.endswith("output_text") else {}
        if part["type"] != "reasoning_text":
            empty = {**part, name: ""}
            self.add("response.content_part.added", **place, part=empty)
        self.add(f"{kind}.delta", **place, delta=part[name], **more)
        self.add(f"{kind}.done", **place, **{name: part[name]}, **more)
        if part["type"] != "reasoning_text":
            self.add("response.content_part.done", **place, part=part)
