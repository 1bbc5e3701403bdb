"""Idempotency of requests: a POST that was done is answered again, by its `Idempotency-Key`."""

from __future__ import annotations

from typing import NamedTuple

from fastapi import Request, Response
from sqlalchemy import Connection

from tokenschain.control import idempotency
from tokenschain.infra.security.prescribed import fingerprint
from tokenschain.infra.security.suite import Sealer


class Replay(Exception):
    """The request was done before; this was the answer."""

    def __init__(self, response: Response) -> None:
        super().__init__("done before")
        self.response = response


class Repetition(NamedTuple):
    """One request that may come again."""

    key: str
    """Hash of the caller with its key."""
    what: str
    """Hash of what is asked."""
    sealer: Sealer

    @classmethod
    def of(cls, request: Request, sealer: Sealer, whose: str) -> Repetition:
        """A request whose body was read.

        Args:
            whose: the caller with its key.
        """
        url = request.url
        what = f"{url.path}?{url.query}\n".encode() + request.state.body
        # The same whatever the suite: a request that comes again after a change was done before.
        return cls(fingerprint(whose.encode()), fingerprint(what), sealer)

    def claim(self, db: Connection) -> None:
        """Note that the request is being done.

        Raises:
            Replay: it was done before.
            ApiError: `conflict`: the key came with another request.
        """
        if not idempotency.claim(db, self.key, self.what):
            self.replay(db)

    def replay(self, db: Connection) -> None:
        """Answer again a request that was done before.

        Raises:
            Replay: it was.
            ApiError: `conflict`: the key came with another request.
        """
        done = idempotency.find(db, self.sealer, self.key, self.what)
        if done is not None:
            headers = {"idempotent-replay": "true"}
            raise Replay(Response(done.body, done.status, headers, done.media_type))

    def keep(self, db: Connection, response: Response) -> None:
        """Keep the answer of a claimed request."""
        media_type = response.headers.get("content-type", idempotency.JSON_TYPE)
        answer = idempotency.Answered(response.status_code, bytes(response.body), media_type)
        idempotency.keep(db, self.sealer, self.key, answer)
