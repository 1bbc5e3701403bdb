"""Conversation state: stored responses that calls go on from, read back and deleted."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Protocol

from tokenschain.core.call import Call
from tokenschain.core.errors import ApiError
from tokenschain.core.formats import openai_responses
from tokenschain.core.formats.openai_responses import Stored
from tokenschain.core.tenancy import KeyGrant


class Store(Protocol):
    """Where responses are kept; `infra.control_channel.response_store.ResponseStore` is one."""

    def keep(self, stored: Stored) -> bool: ...
    async def find(self, tenant: str, response_id: str) -> Stored: ...
    async def delete(self, tenant: str, response_id: str) -> None: ...


class ConversationState:
    """The step before a call is parsed, and what the API does with stored responses."""

    def __init__(self, store: Store, report: Callable[[str], None]) -> None:
        """
        Args:
            report: told of a response that could not be kept, by its id.
        """
        self._store = store
        self._report = report

    async def load(self, call: Call, caller: KeyGrant) -> bytes:
        """See `core.ports.ConversationState.load`."""
        body = call.request.body
        if call.request.api_format.name != "responses":
            return body
        before = openai_responses.previous_of(body)
        if before is None:
            return body
        try:
            stored = await self._store.find(caller.tenant, before)
            return openai_responses.continued(body, stored)
        except ApiError as error:
            if error.code == "not_found":
                raise ApiError(
                    "previous_response_not_found",
                    f"Previous response with id `{before[:80]}` not found.",
                    param="previous_response_id",
                ) from None
            raise
        except ValueError:
            return body  # parsing says what is wrong with the request

    def keep(self, call: Call, response: bytes) -> None:
        """Keep an answer, if its caller asked for that."""
        caller = call.caller
        if not call.parsed.kept_input or not response or caller is None:
            return
        name = f"resp_{call.request.id}"
        stored = Stored(name, caller.tenant, time.time(), call.parsed.kept_input, response)
        if not self._store.keep(stored):
            self._report(name)

    async def read(self, caller: KeyGrant, method: str, path: list[str]) -> bytes:
        """Answer what is asked of a stored response: `[id]`, `[id, input_items]`.

        Raises:
            ApiError: 404 and 405, among others.
        """
        response_id = path[0]
        match method, path[1:]:
            case "GET" | "HEAD", []:
                return (await self._store.find(caller.tenant, response_id)).response
            case "GET" | "HEAD", ["input_items"]:
                return openai_responses.input_items_of(
                    await self._store.find(caller.tenant, response_id)
                )
            case "DELETE", []:
                await self._store.delete(caller.tenant, response_id)
                return b'{"id":"%b","object":"response","deleted":true}' % response_id.encode()
            case "POST", ["cancel"]:
                await self._store.find(caller.tenant, response_id)
                raise ApiError("invalid_value", "Only background responses can be cancelled.")
            case _, [] | ["input_items"] | ["cancel"]:
                raise ApiError("method_not_allowed", "This path has other methods.")
        raise ApiError("not_found", "There is nothing of that name below a response.")
