"""Conversation state: stored responses that calls go on from, read back and deleted."""

from __future__ import annotations

import time
from collections.abc import Callable, Coroutine
from functools import partial
from typing import NamedTuple, Protocol, TypeVar
from urllib.parse import parse_qs

from tokenschain.core.call import Call
from tokenschain.core.errors import ApiError
from tokenschain.core.formats import stored_responses
from tokenschain.core.formats.json_bounds import LONG_BYTES, TooManyParts, check_parts
from tokenschain.core.formats.responses_reader import INCLUDABLE
from tokenschain.core.formats.stored_responses import ITEMS_PAGE, ITEMS_PAGE_MAX, Stored
from tokenschain.core.ports import OffLoop, on_loop
from tokenschain.core.tenancy import KeyGrant, is_within, may_use

T = TypeVar("T")
_NUMBER_DIGITS_MAX = 9


class Store(Protocol):
    """Where responses are kept; `infra.control_channel.response_store.ResponseStore` is one."""

    def keep(self, stored: Stored) -> bool: ...
    async def find(self, tenant: str, response_id: str) -> Stored: ...
    async def delete(self, tenant: str, response_id: str) -> None: ...


class StoredConversationState:
    """The step before a call is parsed, and what the API does with stored responses."""

    def __init__(
        self, store: Store, report: Callable[[str], None], off_loop: OffLoop = on_loop
    ) -> None:
        """
        Args:
            report: told of a response that could not be kept, by its id.
            off_loop: where long conversations are read and written.
        """
        self._store = store
        self._report = report
        self._off_loop = off_loop

    def load(self, call: Call, caller: KeyGrant) -> Coroutine[None, None, bytes] | None:
        """See `core.ports.ConversationState.load`."""
        if call.request.api_format.name != "responses":
            return None
        goes_on = stored_responses.may_go_on(call.request.body)
        return self._continued(call, caller) if goes_on else None

    async def _continued(self, call: Call, caller: KeyGrant) -> bytes:
        body = call.request.body
        before = await self._do(caller, partial(_previous_of, body), body)
        if before is None:
            return body
        try:
            stored = await self._find(Reader(caller, call.request.client_address), before)
            call.goes_on_from = stored.models
            continued = partial(stored_responses.continued, body, stored)
            return await self._do(caller, continued, body, stored.input_items, stored.response)
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

    async def _do(self, caller: KeyGrant, work: Callable[[], T], *read: bytes) -> T:
        """Do what reads these, where nobody waits for it if it takes long."""
        return await self._off_loop(work, caller) if max(map(len, read)) > LONG_BYTES else work()

    async def _find(self, reader: Reader, response_id: str) -> Stored:
        """A response that its reader may have.

        Raises:
            ApiError: `not_found`, whether there is none or it is another's.
        """
        stored = await self._store.find(reader.grant.tenant, response_id)
        if not reader.may_have(stored):
            raise ApiError("not_found", f"There is no response `{response_id}`.")
        return stored

    def keep(self, call: Call, name: str, response: bytes) -> bool:
        """Keep an answer, if its caller asked for that; false when it could not be kept.

        Args:
            name: the response's id.
        """
        caller = call.caller
        if not call.parsed.kept_input or not response or caller is None:
            return True
        model = call.parsed.model
        # A key that knows a model by another name only is asked for the names it knows.
        named = (model,) if may_use(caller, model) else caller.models or ()
        stored = Stored(
            name,
            caller.tenant,
            time.time(),
            call.parsed.kept_input,
            response,
            caller.project,
            caller.environment,
            caller.data_class,
            caller.networks,
            tuple(dict.fromkeys((*call.goes_on_from, *named))),
        )
        if self._store.keep(stored):
            return True
        self._report(name)
        return False

    async def delete(self, reader: Reader, response_id: str) -> bytes:
        """Forget a response.

        Raises:
            ApiError: there is none.
        """
        await self._find(reader, response_id)
        await self._store.delete(reader.grant.tenant, response_id)
        return b'{"id":"%b","object":"response","deleted":true}' % response_id.encode()

    async def read(self, reader: Reader, response_id: str, query: ReadQuery) -> ReadAnswer:
        """Read a response, as JSON or as the events of a stream.

        Raises:
            ApiError: there is none.
        """
        response = (await self._find(reader, response_id)).response
        if not query.stream:
            return ReadAnswer(response)
        events = partial(stored_responses.events_of, response, query.starting_after)
        return ReadAnswer(await self._do(reader.grant, events, response), stream=True)

    async def input_items(self, reader: Reader, response_id: str, query: ReadQuery) -> ReadAnswer:
        """One page of what led to a response.

        Raises:
            ApiError: there is no such response, or no item to go on after.
        """
        stored = await self._find(reader, response_id)
        page = partial(
            stored_responses.input_items_of,
            stored,
            limit=query.limit,
            order=query.order,
            after=query.after,
        )
        return ReadAnswer(await self._do(reader.grant, page, stored.input_items))

    async def cancel(self, reader: Reader, response_id: str) -> None:
        """
        Raises:
            ApiError: always: no response runs in the background.
        """
        await self._find(reader, response_id)
        raise ApiError("invalid_value", "Cannot cancel a synchronous response.")


def _previous_of(body: bytes) -> str | None:
    try:
        if len(body) > LONG_BYTES:
            check_parts(body)
    except TooManyParts:
        return None  # parsing says so
    return stored_responses.previous_of(body)


class Reader(NamedTuple):
    """Who wants a stored response."""

    grant: KeyGrant
    address: Callable[[], str]
    """Where the request came from; asked for only where networks matter."""

    def may_have(self, stored: Stored) -> bool:
        """Whether this is a key of the same place, for all that the conversation holds: what
        was said under a data class, with a model or from within networks stays there."""
        grant = self.grant
        where = (stored.tenant, stored.project, stored.environment, stored.data_class)
        return (
            where == (grant.tenant, grant.project, grant.environment, grant.data_class)
            and all(may_use(grant, model, "responses") for model in stored.models)
            and (stored.networks is None or is_within(self.address(), stored.networks))
        )


class ReadAnswer(NamedTuple):
    """What was read."""

    body: bytes
    stream: bool = False
    """Whether the body is server-sent events."""


class ReadQuery(NamedTuple):
    """What the query of a read asks for."""

    stream: bool = False
    starting_after: int = -1
    limit: int = ITEMS_PAGE
    order: str = "desc"
    after: str = ""


def query_of(query: bytes) -> ReadQuery:
    """The query of a read.

    Raises:
        ApiError: a value that cannot be.
    """
    asked = parse_qs(query.decode("latin-1"), keep_blank_values=True)

    def value(name: str, default: str) -> str:
        return asked.get(name, [default])[-1]

    stream, order = value("stream", "false").lower(), value("order", "desc")
    if stream not in ("true", "false"):
        raise _wrong("stream", "true or false")
    if order not in ("asc", "desc"):
        raise _wrong("order", "asc or desc")
    limit, number = value("limit", str(ITEMS_PAGE)), value("starting_after", "-1")
    if not limit.isdecimal() or not 1 <= int(limit[:9]) <= ITEMS_PAGE_MAX:
        raise _wrong("limit", f"a number from 1 to {ITEMS_PAGE_MAX}")
    if number != "-1" and (not number.isdecimal() or len(number) > _NUMBER_DIGITS_MAX):
        raise _wrong("starting_after", "the number of an event")
    for name in (*asked.get("include", ()), *asked.get("include[]", ())):
        if name not in INCLUDABLE:
            raise ApiError(
                "invalid_value", f"`include`: there is no `{name[:80]}`.", param="include"
            )
    return ReadQuery(stream == "true", int(number), int(limit), order, value("after", ""))


def _wrong(name: str, wanted: str) -> ApiError:
    return ApiError("invalid_value", f"`{name}` must be {wanted}.", param=name)
