"""Signatures of requests by the person who sends them, in a header."""

from __future__ import annotations

from collections.abc import Mapping

from sqlalchemy import Connection
from starlette.requests import Request

from tokenschain.control.identity import signing_keys
from tokenschain.core.errors import ApiError
from tokenschain.infra.security.signed_act import HEADER


def signature_of(request: Request, db: Connection, user_id: str) -> Mapping[str, object] | None:
    """What the audit log keeps of the request's signature; None where there is none.

    Raises:
        ApiError: `invalid_signature`: it does not hold, or is another person's.
    """
    header = request.headers.get(HEADER)
    if header is None:
        return None
    query: bytes = request.scope["query_string"]
    target = request.scope["raw_path"] + (b"?" + query if query else b"")
    found = signing_keys.evidence(
        db, header, request.method, target.decode("latin-1"), request.state.body
    )
    if found["user"] != user_id:
        raise ApiError("invalid_signature", "The request is signed by another person.")
    return found
