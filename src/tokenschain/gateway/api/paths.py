"""Request paths as clients write them: Azure's form, stray slashes, a missing or doubled `/v1`.

Only what is not in the route table comes here, so the usual path costs nothing.
"""

from __future__ import annotations

import re
from typing import NamedTuple
from urllib.parse import unquote_to_bytes

import msgspec

from tokenschain.gateway.api import routes

_SLASHES = re.compile(rb"/{2,}")
_VERSIONS = re.compile(rb"\A(?:/(?:openai|api|anthropic))?(?:/v1)*(?=/)")
_DEPLOYMENT = re.compile(rb"/openai/deployments/([^/]+)/(.+)")
_AZURE = b"/openai/"
METHODS_OF_ALL = "GET, HEAD, POST, DELETE, OPTIONS"
_encode = msgspec.json.encode


class Place(NamedTuple):
    """What a path means."""

    path: bytes
    """As the route table has it."""
    model: bytes = b""
    """Where the path names it, as Azure's do; nothing where the body does."""


def place_of(path: bytes) -> Place:
    """A path without stray slashes, and Azure's paths as those of the route table."""
    tidy = _SLASHES.sub(b"/", path)
    if len(tidy) > 1:
        tidy = tidy.removesuffix(b"/")
    if not tidy.startswith(_AZURE):
        return Place(tidy)
    deployment = _DEPLOYMENT.fullmatch(tidy)
    if deployment is not None:
        return Place(b"/v1/" + deployment.group(2), unquote_to_bytes(deployment.group(1)))
    rest = tidy.removeprefix(_AZURE).removeprefix(b"v1/")
    return Place(b"/v1/" + rest)


def hint_of(path: bytes) -> str:
    """The path that a caller probably meant, when the one asked for is not served."""
    tidy = place_of(path).path
    meant = _VERSIONS.sub(b"/v1", tidy, count=1)
    if meant != path and routes.find(meant) is not None:
        return meant[:200].decode("latin-1")
    return ""


def with_model(body: bytes, model: bytes) -> bytes:
    """A body with the model that its path names, as its last field: that one counts. Unchanged
    where it is no JSON object, so that parsing says what is wrong."""
    start = body.rstrip()
    if not start.endswith(b"}"):
        return body
    start = start[:-1].rstrip()
    comma = b"" if start.endswith(b"{") else b","
    return b'%b%b"model":%b}' % (start, comma, _encode(model.decode("utf-8", "replace")))
