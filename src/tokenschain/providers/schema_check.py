"""JSON schema check of emulated structured output: without retrieval, off the loop, in bounds.

A caller's schema is hostile until shown otherwise: references are followed inside the schema only,
regular expressions are left out of the check (`re` may need longer than the universe lasts, and
the answer is the model's anyway), and every check has bounds of size, depth, steps and time.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterator
from typing import Any

import msgspec

from tokenschain.core.errors import ApiError
from tokenschain.core.tenancy import KeyGrant
from tokenschain.infra.off_loop import WorkThread

SCHEMA_BYTES_MAX = 65_536
ANSWER_BYTES_MAX = 1_048_576
"""Of one answer; a longer one is given unchecked to nobody."""
STEPS_MAX = 200_000
"""Keywords that one check may apply."""
DEPTH_MAX = 64
"""Of nested keywords, references included."""
CHECK_MAX_S = 1.0
CHECKS_WAITING_MAX = 64
CHECKS_OF_KEY_MAX = 8

_UNREAD = ("const", "default", "enum", "example", "examples")
"""Keywords whose values are data, not schemas."""
_REFERENCES = ("$ref", "$dynamicRef", "$recursiveRef")
# Regular expressions, and what would look for them below other keywords.
_LEFT_OUT = ("pattern", "patternProperties", "unevaluatedItems", "unevaluatedProperties")
_MESSAGE_CHARACTERS_MAX = 300

_decode = msgspec.json.decode
_encode = msgspec.json.encode
_FENCE = "```"


class SchemaChecker:
    """Checks schemas and answers in a thread of its own, so that no other caller waits."""

    def __init__(self) -> None:
        self._off_loop = WorkThread("JSON schemas", CHECKS_WAITING_MAX, CHECKS_OF_KEY_MAX)

    async def check_schema(self, schema: bytes, param: str, caller: KeyGrant | None = None) -> None:
        """See `check_schema`.

        Raises:
            ApiError: `overloaded` as well: too many checks are waiting.
        """
        await self._off_loop(functools.partial(check_schema, schema, param), caller)

    async def checked(
        self, body: bytes, schema: bytes, upstream: str, caller: KeyGrant | None = None
    ) -> bytes:
        """See `checked`.

        Raises:
            ApiError: `overloaded` as well: too many checks are waiting.
        """
        return await self._off_loop(functools.partial(checked, body, schema, upstream), caller)


def check_schema(schema: bytes, param: str) -> None:
    """Check a schema before anybody is asked to keep to it.

    Args:
        param: where the caller wrote it.

    Raises:
        ApiError: `invalid_value`: it is none, or one that is not checked here.
    """
    if len(schema) > SCHEMA_BYTES_MAX:
        raise _bad_schema(f"it is larger than {SCHEMA_BYTES_MAX} bytes", param)
    wanted: Any = _decode(schema)
    _check_references(wanted, param)
    try:
        kind = _kind_of(wanted)
        found = next(_bounded(kind, kind.META_SCHEMA).iter_errors(wanted), None)
    except _TooMuch as error:
        raise _bad_schema(str(error), param) from None
    except Exception:  # noqa: BLE001 - whatever an odd schema does to the library is its own fault
        raise _bad_schema("it cannot be understood", param) from None
    if found is not None:
        raise _bad_schema(found.message[:_MESSAGE_CHARACTERS_MAX], param)


def checked(body: bytes, schema: bytes, upstream: str) -> bytes:
    """A canonical whole reply whose every answer fits the schema; code fences are taken off.

    Args:
        schema: one that `check_schema` has passed.

    Raises:
        ApiError: `upstream_invalid_reply`, so that another upstream may be tried;
            `invalid_value`: the schema cannot be checked within its bounds.
    """
    wanted: Any = _decode(schema)
    kind = _kind_of(wanted)
    validator = _bounded(kind, wanted)
    reply: Any = _decode(body)
    for choice in reply["choices"]:
        message = choice["message"]
        if message.get("tool_calls") or choice.get("finish_reason") != "stop":
            continue  # no answer, or one that is known to be cut
        text = _bare(message.get("content") or "")
        why = _misfit(validator, text)
        if why:
            raise ApiError(
                "upstream_invalid_reply",
                f"The upstream `{upstream}` did not keep to the schema it was asked for: {why}.",
            )
        message["content"] = text
    return _encode(reply)


def _misfit(validator: Any, text: str) -> str:
    """Why an answer does not fit; empty where it does."""
    if len(text) > ANSWER_BYTES_MAX:
        return f"the answer is longer than {ANSWER_BYTES_MAX} characters"
    try:
        answer = _decode(text)
    except (msgspec.DecodeError, RecursionError, UnicodeEncodeError) as error:
        return str(error)[:_MESSAGE_CHARACTERS_MAX]
    try:
        found = next(validator.iter_errors(answer), None)
    except _TooMuch as error:
        raise _bad_schema(str(error)) from None
    except Exception:  # noqa: BLE001 - as above: references to nowhere, for one
        raise _bad_schema("it cannot be understood") from None
    return "" if found is None else str(found.message)[:_MESSAGE_CHARACTERS_MAX]


def _bad_schema(why: str, param: str | None = None) -> ApiError:
    return ApiError("invalid_value", f"The JSON schema is not usable: {why}.", param=param)


def _check_references(schema: Any, param: str) -> None:
    """
    Raises:
        ApiError: a reference leads out of the schema.
    """
    waiting = [schema]
    while waiting:
        found = waiting.pop()
        if isinstance(found, list):
            waiting.extend(found)
        elif isinstance(found, dict):
            for name in _REFERENCES:
                target = found.get(name)
                if isinstance(target, str) and not target.startswith("#"):
                    raise _bad_schema(
                        f"`{name}` may only lead into the schema itself, by `#`", param
                    )
            waiting.extend(below for name, below in found.items() if name not in _UNREAD)


# --- bounds ---------------------------------------------------------------------------------


class _TooMuch(Exception):
    """A check went over one of its bounds."""


class _Budget:
    """What one check may still do."""

    def __init__(self) -> None:
        self.steps = STEPS_MAX
        self.depth = 0
        self.until = time.monotonic() + CHECK_MAX_S

    def step(self) -> None:
        self.steps -= 1
        if self.steps < 0 or self.depth > DEPTH_MAX or time.monotonic() > self.until:
            raise _TooMuch("checking answers against it takes too much")


def _kind_of(schema: Any) -> Any:
    """The validator class of a schema's draft."""
    import jsonschema  # noqa: PLC0415 - most gateways never need it

    return jsonschema.validators.validator_for(schema)


def _bounded(kind: Any, schema: Any) -> Any:
    """A validator of a draft that fetches nothing and keeps to a budget."""
    import jsonschema  # noqa: PLC0415
    import referencing  # noqa: PLC0415

    budget = _Budget()
    keywords = {
        name: _within(budget, check) for name, check in kind.VALIDATORS.items()
    } | dict.fromkeys(_LEFT_OUT, _nothing)
    if "uniqueItems" in keywords:
        keywords["uniqueItems"] = _within(budget, _unique_items)
    properties = keywords.get("additionalProperties")
    if properties is not None:
        keywords["additionalProperties"] = _unless_by_pattern(properties)
    extend: Any = jsonschema.validators.extend
    bounded = extend(kind, keywords)
    fields = [(field.name, field.alias) for field in bounded.__attrs_attrs__ if field.init]

    def evolve(self: Any, **changes: Any) -> Any:
        # The library's own picks the class by a nested `$schema`, which is out of all bounds.
        for name, alias in fields:
            changes.setdefault(alias, getattr(self, name))
        return bounded(**changes)

    bounded.evolve = evolve
    # Without a `retrieve`, what is not in the schema or in the standard's own is an error.
    return bounded(schema, registry=referencing.Registry())


_Keyword = Callable[[Any, Any, Any, Any], Any]


def _within(budget: _Budget, check: _Keyword) -> _Keyword:
    def bounded(validator: Any, value: Any, instance: Any, schema: Any) -> Iterator[Any]:
        budget.depth += 1
        try:
            budget.step()
            yield from check(validator, value, instance, schema) or ()
        finally:
            budget.depth -= 1

    return bounded


def _nothing(*_: Any) -> None:
    """A keyword that is not checked."""


def _unless_by_pattern(check: _Keyword) -> _Keyword:
    def additional(validator: Any, value: Any, instance: Any, schema: Any) -> Any:
        # Which names the patterns have is not known here.
        if "patternProperties" in schema:
            return ()
        return check(validator, value, instance, schema)

    return additional


def _unique_items(validator: Any, value: Any, instance: Any, _: Any) -> Iterator[Any]:
    """`uniqueItems` in linear time; the library's compares each with each."""
    import jsonschema  # noqa: PLC0415

    if value and validator.is_type(instance, "array"):
        items = {_encode(item, order="sorted") for item in instance}
        if len(items) != len(instance):
            yield jsonschema.ValidationError("the items are not unique")


def _bare(text: str) -> str:
    """The text without the code fence that models like to put around JSON."""
    text = text.strip()
    if not text.startswith(_FENCE):
        return text
    return text.strip("`").removeprefix("json").strip()
