"""AIGC label: who made a file with AI, and by which call; the JSON that files carry."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

LABEL_BYTES_MAX = 8_192
_Code = Annotated[str, Meta(max_length=512)]


class BadLabel(ValueError):
    """What stands where a label would, and is none; says why."""


class AigcLabel(msgspec.Struct, frozen=True, rename="pascal", forbid_unknown_fields=True):
    """The seven fields of the label, in the standard's order and by its names."""

    label: Literal["1", "2", "3"] = "1"
    """Whether AI made it: 1 yes, 2 possibly, 3 suspected."""
    content_producer: _Code = ""
    """Code of who generated it."""
    produce_id: _Code = msgspec.field(name="ProduceID", default="")
    """The producer's own number: here the call's id."""
    reserved_code_1: _Code = msgspec.field(name="ReservedCode1", default="")
    """The producer's own: here a digest of the content, see `digested`."""
    content_propagator: _Code = ""
    """Code of who passes it on."""
    propagate_id: _Code = msgspec.field(name="PropagateID", default="")
    reserved_code_2: _Code = msgspec.field(name="ReservedCode2", default="")


_decode = msgspec.json.Decoder(AigcLabel).decode


def write_label(label: AigcLabel) -> str:
    """The label's JSON; control characters are escaped, so that it is one line."""
    return msgspec.json.encode(label).decode()


def read_label(text: str) -> AigcLabel:
    """A label from its JSON.

    Raises:
        BadLabel: it is none.
    """
    if len(text) > LABEL_BYTES_MAX:
        raise BadLabel(f"it is longer than {LABEL_BYTES_MAX} characters")
    try:
        return _decode(text)
    except (msgspec.DecodeError, UnicodeError) as error:
        raise BadLabel(str(error)) from None


def digested(label: AigcLabel, content: bytes) -> bytes:
    """What the digest in `ReservedCode1` is made of: the call's id and the unlabelled content."""
    return label.produce_id.encode() + b"\n" + content
