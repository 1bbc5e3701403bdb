"""Checks of a request to the admin API, made before its body is decoded."""

from __future__ import annotations

from collections.abc import Collection

from fastapi import Request

from tokenschain.control.api import former_names
from tokenschain.core.errors import ApiError
from tokenschain.core.formats.json_bounds import (
    LONG_BYTES,
    JsonBounds,
    TooManyParts,
    check_parts,
)
from tokenschain.core.routing.near_names import near_names


def has_long_body(request: Request) -> bool:
    """Whether a request's body is long by its head; one in chunks may be."""
    length = request.headers.get("content-length")
    if length is None:
        return "transfer-encoding" in request.headers
    return not length.isdecimal() or int(length) > LONG_BYTES


def count_parts(body: bytes, bounds: JsonBounds) -> None:
    """Count what a body is made of, before anything is made of it.

    Raises:
        ApiError: `invalid_json`.
    """
    try:
        check_parts(body, bounds)
    except TooManyParts as error:
        raise ApiError("invalid_json", f"The body has {error}.") from None


def refuse_unknown(request: Request, known: frozenset[str]) -> None:
    """Refuse query parameters that a route does not know.

    Raises:
        ApiError: `invalid_value`.
    """
    for name in request.query_params:
        if name not in known:
            new = former_names.FIELDS.get(name)
            near = near_names(name, known)
            hint = f" Did you mean `{near[0]}`?" if near else ""
            raise ApiError(
                "invalid_value",
                former_names.said_of(name, new)
                if new in known
                else f"There is no query parameter `{name[:60]}` here.{hint}",
                param=name[:60],
            )


def dimensions_of(group_by: str, known: Collection[str]) -> list[str]:
    """The names of a `group_by`, each once.

    Raises:
        ApiError: one of them is not known.
    """
    names = [name.strip() for name in group_by.split(",") if name.strip()]
    for name in names:
        if name not in known:
            may = ", ".join(known)
            raise ApiError(
                "invalid_value", f"`{name[:50]}` is not one of: {may}.", param="group_by"
            )
    return list(dict.fromkeys(names))
