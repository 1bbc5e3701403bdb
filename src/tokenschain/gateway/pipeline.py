"""The life of a call, from the door to the journal.

    admit -> authenticate -> recall -> understand -> plan -> reserve -> screen input
        -> look up cache -> open an upstream (the next one on failure)
        -> deliver -> record -> settle the reservation -> keep for the next -> the last byte

Each step is one verb of one neighbour and knows none of the others. This file
does no I/O of its own, so a test can run a whole call on fakes.
"""

from __future__ import annotations

from typing import NamedTuple

from tokenschain.core.call import Call
from tokenschain.core.errors import ApiError
from tokenschain.core.ports import (
    Auth,
    Cache,
    ConversationState,
    Metering,
    Moderation,
    Opening,
    Quota,
    Routing,
)


class Steps(NamedTuple):
    """The neighbours, each behind its port."""

    metering: Metering
    auth: Auth
    memory: ConversationState
    routing: Routing
    quota: Quota
    moderation: Moderation
    cache: Cache
    opening: Opening


async def serve(call: Call, steps: Steps) -> None:
    """Answer one call.

    The record is written on every way out (answered, refused, failed, caller
    gone) and before the last byte leaves, so a caller never holds a complete
    answer that the journal does not know.
    """
    last = b""
    try:
        steps.metering.admit(call)
        caller = steps.auth.authenticate(call)
        await steps.memory.recall(call, caller)
        call.parsed = call.api_format.parse(call.body)
        plan = steps.routing.plan(call, caller)

        await steps.quota.reserve(call, caller, plan)
        await steps.moderation.screen_input(call, caller, plan)
        answer = await steps.cache.look_up(call, caller, plan)
        if answer is None:
            answer = await steps.opening.open(call, caller, plan)
        last = await answer.deliver(call)

    except ApiError as error:
        call.error = call.error or error
    except Exception:
        call.blame_ourselves()
        raise
    finally:
        steps.metering.settle(call)
        steps.quota.settle(call)
        steps.cache.settle(call, last)
    call.writer.close(call, last)
