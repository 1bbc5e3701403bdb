"""Appeals as a gateway reads them from control."""

from __future__ import annotations

from urllib.parse import quote

from tokenschain.core.errors import ApiError
from tokenschain.infra.control_channel.client import Channel
from tokenschain.infra.control_channel.protocol import APPEALS_PATH
from tokenschain.infra.control_channel.signed_client import Refused
from tokenschain.wire.client import ClientError, Waits

ANSWER_BYTES_MAX = 65_536
_WAITS = Waits(connect_max_s=2.0, first_byte_max_s=10.0, total_max_s=15.0)


async def find(channel: Channel, tenant: str, project: str, appeal_id: str) -> bytes | None:
    """A project's appeal as JSON; None where there is none.

    Raises:
        ApiError: `database_unavailable`: control is away.
    """
    name, whose, where = (quote(one, safe="") for one in (appeal_id, tenant, project))
    path = f"{APPEALS_PATH}/{name}?tenant={whose}&project={where}"
    away = ApiError("database_unavailable", "Appeals cannot be reached now; try again.")
    try:
        reply, body = await channel.exchange("GET", path, b"", _WAITS, ANSWER_BYTES_MAX)
    except (ClientError, Refused) as error:
        raise away from error
    if reply.status == 404:
        return None
    if reply.status != 200:
        raise away
    return body
