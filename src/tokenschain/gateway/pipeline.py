"""The pipeline: the life of a call, from the API to the journal.

    admit -> authenticate -> load conversation state -> parse -> plan -> reserve quota
        -> screen input -> look up cache -> open an upstream (the next one on failure), while
           engines look at the input where the policy lets them
        -> deliver, screen output -> complete in the caller's form -> record
        -> settle the reservation -> cache -> send the final chunk

Each step is one verb of one port and knows none of the others; what it makes of the call stands
in a slot of `core.call.Call` that only it writes. This file does no I/O of its own, so a test can
run a whole call on fakes.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from contextlib import suppress
from functools import partial

import msgspec

from tokenschain.core.call import Call
from tokenschain.core.call_record import CallRecord
from tokenschain.core.errors import ApiError
from tokenschain.core.formats.json_bounds import LONG_BYTES
from tokenschain.core.formats.openai_chat import UNREAD, ParsedRequest
from tokenschain.core.ports import (
    Auth,
    Cache,
    ConversationState,
    Metering,
    Moderation,
    OffLoop,
    Opening,
    Quota,
    ReadyAnswer,
    RoutePlanner,
    on_loop,
)
from tokenschain.core.tenancy import KeyGrant


class Steps(msgspec.Struct, frozen=True):
    """The steps, each behind its port."""

    metering: Metering
    auth: Auth
    conversation: ConversationState
    routing: RoutePlanner
    quota: Quota
    moderation: Moderation
    cache: Cache
    opening: Opening
    off_loop: OffLoop = on_loop
    """Where long bodies are read and written."""


async def serve(call: Call, steps: Steps) -> None:
    """Answer one call.

    The record is written on every way out (answered, refused, failed, caller
    gone) and before the last byte leaves, so a caller never holds a complete
    answer that the journal does not know. It is written after the answer stands in
    the caller's form, so an answer that cannot be given is never charged.
    """
    last = final = b""
    try:
        steps.metering.admit(call)
        caller = steps.auth.authenticate(call)
        # Nothing here holds on to the body: the answer's stream may outlast it by far.
        if (loading := steps.conversation.load(call, caller)) is None:
            long = _parse(call, caller, steps.cache, call.request.body)
        else:
            long = _parse(call, caller, steps.cache, await loading)
        if long is not None:
            call.parsed = await steps.off_loop(long, caller)
            del long
        plan = steps.routing.plan(call, caller)

        if (reserving := steps.quota.reserve(call, caller, plan)) is not None:
            await reserving
        if (screening := steps.moderation.screen_input(call, caller, plan)) is not None:
            await screening
        moderated, answer = call.screening, None
        if moderated is not None:
            caller = call.caller = moderated.caller
            plan = moderated.plan or plan
        if moderated is None or moderated.may_cache:
            looking_up = steps.cache.look_up(call, caller, plan)
            answer = None if looking_up is None else await looking_up
        if call.cache.in_flight is not None:
            call.output = call.cache.in_flight.recorder(call.writer)
        if moderated is not None:
            call.output = moderated.around(call, call.output)
        if answer is None:
            opening = steps.opening.open(call, caller, plan)
            answer = await (opening if moderated is None else moderated.beside(call, opening))
        delivering = answer.deliver(call) if moderated is None else moderated.deliver(call, answer)
        last = delivering if isinstance(delivering, bytes) else await delivering
        if len(last) > LONG_BYTES or call.writer.ends_long:
            final = await steps.off_loop(partial(call.writer.complete, call, last), caller)
        else:
            final = call.writer.complete(call, last)

    except ApiError as error:
        call.fail(error)
    except Exception:
        call.blame_ourselves()
        raise
    finally:
        _settle(call, steps.metering, last, final)
    if call.writer.keeps_long(call, final):
        with suppress(ApiError):  # too much waits there: then it is stored as it is sent
            final = await steps.off_loop(partial(call.writer.keep, call, final), caller)
    call.writer.close(call, final)


def answer_at_once(call: Call, steps: Steps, ready: ReadyAnswer) -> bool:
    """Answer a call whose answer stands ready, by the same steps, none of which waits; false
    where `serve` has to.

    Nothing is taken or noted of a call that is left to `serve`, which says what is wrong with it.
    """
    if not _may_have(call, steps, ready):
        return False
    answer = b""
    try:
        answer = ready.give(call)
    finally:
        _settle(call, steps.metering, answer, answer)
    call.writer.close(call, answer)
    return True


def _may_have(call: Call, steps: Steps, ready: ReadyAnswer) -> bool:
    """Whether a call may have the answer now; its quota is reserved then."""
    try:
        steps.metering.admit(call)
        caller = steps.auth.authenticate(call)
        call.parsed = ready.parsed
        plan = steps.routing.plan(call, caller)
        if (
            ready.holds(call, plan)
            and not _waits(steps.moderation.screen_input(call, caller, plan))
            and not _waits(steps.quota.reserve(call, caller, plan))
        ):
            return True
    except ApiError:
        pass
    call.parsed, call.reservation = UNREAD, None
    return False


def _waits(step: Coroutine[None, None, None] | None) -> bool:
    """Whether a step waits for something; then it has not begun, and never will."""
    if step is None:
        return False
    step.close()
    return True


def _parse(
    call: Call, caller: KeyGrant, cache: Cache, body: bytes
) -> Callable[[], ParsedRequest] | None:
    """Parse the body, or give back how: it takes long."""
    known = cache.recall(call, caller, body)
    if known is not None:
        call.parsed = known
    elif len(body) > LONG_BYTES:
        call.takes_long = True
        return partial(call.request.api_format.parse, body)
    else:
        call.parsed = call.request.api_format.parse(body)
    return None


def _settle(call: Call, metering: Metering, last: bytes, final: bytes) -> None:
    """Record, give back what was reserved, keep the answer; each whether or not another fails.

    Args:
        final: what is still to be sent.
    """
    record = None
    try:
        record = metering.settle(call, len(final))
    finally:
        try:
            if call.screening is not None:
                call.screening.end()
            if call.reservation is not None:
                call.reservation.settle(record or call.record or _nothing_used(call))
        finally:
            if call.cache.in_flight is not None:
                call.cache.in_flight.settle(call, last)


def _nothing_used(call: Call) -> CallRecord:
    """For a call that could not be recorded at all: what it held is given back."""
    return CallRecord(call.request.id, call.request.started_ms, call.request.api_format.name)
