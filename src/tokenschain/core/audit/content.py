"""Content of a call for the audit: what was asked and answered, masked where a policy wants it, and
salted commitments by which it can later be shown to be the one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from tokenschain.core.formats import end_user
from tokenschain.core.moderation import personal_data
from tokenschain.core.moderation.personal_data import DataKind
from tokenschain.core.snapshot.kept_content import KeptContent

INPUT_BYTES_MAX = OUTPUT_BYTES_MAX = 2 * 1_048_576
"""Of each side that is kept; what is longer is cut, and says so."""
RECORD_BYTES_MAX = INPUT_BYTES_MAX + 2 * OUTPUT_BYTES_MAX + 65_536
"""Of one in the gateway's journal: of a blocked answer, what was released is kept, too."""
SALT_BYTES = 32
INPUT, OUTPUT = b"input\0", b"output\0"
_HIDDEN = "***"
Mac = Callable[[bytes, bytes], bytes]


class ContentBody(msgspec.Struct, array_like=True, frozen=True):
    """What is sealed of a call."""

    salt: bytes
    """Of the commitments: gone with the content, so that nobody finds the words by trying."""
    input: bytes
    """The request in the canonical form, JSON."""
    output: bytes
    """The answer as it came, JSON; of a stream put together."""
    released: bytes = b""
    """What the caller got of an answer that was blocked."""
    cut: bool = False
    """Whether a part is missing; commitments are over what is kept."""
    end_user: str = ""
    """As the caller names it; control keeps its hash alone."""


class ContentRecord(msgspec.Struct, array_like=True, tag="content", frozen=True):
    """Content on its way from gateway to control."""

    call_id: str
    started_ms: int
    tenant: str
    project: str
    kept: KeptContent
    blocked: bool
    input_commitment: bytes
    output_commitment: bytes
    sealed: bytes
    """`ContentBody`, sealed for its call."""
    data_class: str = ""
    """See `CallRecord.data_class`."""


encode = msgspec.msgpack.Encoder().encode
decode = msgspec.msgpack.Decoder(ContentRecord).decode
decode_content = msgspec.msgpack.Decoder(ContentBody).decode
_to_json = msgspec.json.Encoder().encode
_of_json = msgspec.json.Decoder().decode


def commitments(mac: Mac, content: ContentBody) -> tuple[bytes, bytes]:
    """Salted digests of input and output, which the audit log holds."""
    salt = content.salt
    return mac(salt, INPUT + content.input), mac(salt, OUTPUT + content.output)


def made(
    kept: KeptContent,
    salt: bytes,
    fields: Mapping[str, msgspec.Raw],
    output: bytes,
    released: bytes,
    cut: bool,
) -> ContentBody:
    """What is kept of a call, whole: it is still to be committed to.

    Args:
        fields: of the canonical request.
        output: JSON, or nothing.
    """
    named = end_user.end_user_of(fields)
    asked = _to_json(fields)
    if kept is KeptContent.REDACTED:
        asked = masked_json(asked, end_user.FIELDS)
        output, released = masked_json(output), masked_json(released)
    cut |= len(asked) > INPUT_BYTES_MAX or max(len(output), len(released)) > OUTPUT_BYTES_MAX
    return ContentBody(
        salt, _within(asked, INPUT_BYTES_MAX), _within(output, OUTPUT_BYTES_MAX),
        _within(released, OUTPUT_BYTES_MAX), cut, named,
    )  # fmt: skip


def _within(data: bytes, bytes_max: int) -> bytes:
    """Text in UTF-8, as much as fits."""
    return data[:bytes_max].decode("utf-8", "ignore").encode()


def without_words(content: ContentBody) -> ContentBody:
    """What is left where commitments alone are kept: their salt."""
    return ContentBody(content.salt, b"", b"", b"", content.cut, content.end_user)


def masked_json(data: bytes, hidden: tuple[str, ...] = ()) -> bytes:
    """JSON with the personal data in all of its texts, names and long numbers masked.

    Args:
        hidden: fields at the top whose values are hidden whatever they are.
    """
    if not data:
        return data
    try:
        value = _of_json(data)
    except (msgspec.DecodeError, RecursionError):
        return masked_text(data.decode("utf-8", "replace")).encode()
    if isinstance(value, dict):
        value |= dict.fromkeys(set(hidden) & value.keys(), _HIDDEN)
    return _to_json(_masked(value))


def _masked(value: Any) -> Any:
    if isinstance(value, str):
        return masked_text(value)
    if isinstance(value, dict):
        return {masked_text(name): _masked(one) for name, one in value.items()}
    if isinstance(value, list):
        return [_masked(one) for one in value]
    if isinstance(value, int | float) and not isinstance(value, bool):
        said = str(value)
        found = masked_text(said)
        return value if found == said else found
    return value


def masked_text(text: str) -> str:
    """A text with the personal data in it masked; secrets are hidden whole."""
    pieces, at = [], 0
    for one in personal_data.find(text):
        value = text[one.start : one.end]
        secret = one.kind is DataKind.SECRET
        pieces += [
            text[at : one.start],
            _HIDDEN if secret else personal_data.masked(value, one.kind),
        ]
        at = one.end
    return "".join((*pieces, text[at:])) if pieces else text
