"""JSON schema check of emulated structured output."""

from __future__ import annotations

from typing import Any

import msgspec

from tokenschain.core.errors import ApiError

_decode = msgspec.json.decode
_encode = msgspec.json.encode
_FENCE = "```"


def check_schema(schema: bytes, param: str) -> None:
    """Check a schema before anybody is asked to keep to it.

    Args:
        param: where the caller wrote it.

    Raises:
        ApiError: `invalid_value`: it is none.
    """
    import jsonschema  # noqa: PLC0415 - most gateways never need it

    wanted: Any = _decode(schema)
    try:
        jsonschema.validators.validator_for(wanted).check_schema(wanted)
    except (jsonschema.SchemaError, AttributeError, TypeError) as error:
        raise ApiError(
            "invalid_value",
            f"The JSON schema is none: {getattr(error, 'message', error)}.",
            param=param,
        ) from None


def checked(body: bytes, schema: bytes, upstream: str) -> bytes:
    """A canonical whole reply whose every answer fits the schema; code fences are taken off.

    Raises:
        ApiError: `upstream_invalid_reply`, so that another upstream may be tried.
    """
    import jsonschema  # noqa: PLC0415 - most gateways never need it

    wanted: Any = _decode(schema)
    validator = jsonschema.validators.validator_for(wanted)(wanted)
    reply: Any = _decode(body)
    for choice in reply["choices"]:
        message = choice["message"]
        if message.get("tool_calls") or choice.get("finish_reason") != "stop":
            continue  # no answer, or one that is known to be cut
        text = _bare(message.get("content") or "")
        try:
            validator.validate(_decode(text))
        except (msgspec.DecodeError, jsonschema.ValidationError) as error:
            why = getattr(error, "message", str(error))
            raise ApiError(
                "upstream_invalid_reply",
                f"The upstream `{upstream}` did not keep to the schema it was asked for: {why}.",
            ) from None
        message["content"] = text
    return _encode(reply)


def _bare(text: str) -> str:
    """The text without the code fence that models like to put around JSON."""
    text = text.strip()
    if not text.startswith(_FENCE):
        return text
    return text.strip("`").removeprefix("json").strip()
