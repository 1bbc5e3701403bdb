"""Client of the semantic processes: measured false hit rates and query clusters."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import msgspec

from tokenschain.core.cache.semantic_protocol import (
    CLUSTERS_PATH,
    PAIRS_PATH,
    REPORT_PATH,
    AskClusters,
    Cluster,
    LabelledPair,
    PairsTaught,
    Report,
    TeachPairs,
)
from tokenschain.core.slots import Slots
from tokenschain.infra.control_channel.signatures import Signatures
from tokenschain.infra.control_channel.signed_client import Refused, SignedClient
from tokenschain.wire.client import ClientError, HttpClient, Waits

ASK_MAX_S, CONNECT_MAX_S = 5.0, 0.5
TEACH_MAX_S = 12.0
"""Whoever teaches is answered in time; see `control.api.app.REQUEST_MAX_S`."""
TEACHERS_MAX = 3
"""At one time: each keeps the processes comparing, and a thread of control waiting."""
_encode = msgspec.msgpack.Encoder().encode


class SemanticProcesses:
    """All of these processes, each asked at once; those that do not answer are left out."""

    def __init__(self, urls: Sequence[str], signatures: Signatures, client: HttpClient) -> None:
        self._urls = tuple(urls)
        self._asks = [SignedClient(url, signatures, client) for url in urls]
        self._teachers = Slots(TEACHERS_MAX, "Other pairs are being learned; try again soon.")

    async def answering(self) -> dict[str, bool]:
        """Whether each of these processes answers, by its address."""
        answers = await self._ask_each(REPORT_PATH, b"")
        return {url: answer is not None for url, answer in zip(self._urls, answers, strict=True)}

    async def reports(self) -> list[Report]:
        """What each measured of each group; a group that several serve comes several times."""
        return [
            one
            for answer in await self._ask_all(REPORT_PATH, b"")
            for one in _read(answer, list[Report])
        ]

    async def clusters(self, tenant: str, keys: list[bytes], count_max: int) -> list[Cluster]:
        """A tenant's questions by what they ask."""
        asked = _encode(AskClusters(tenant, keys, count_max))
        found: list[Cluster] = []
        seen: set[bytes] = set()
        for answer in await self._ask_all(CLUSTERS_PATH, asked):
            for one in _read(answer, list[Cluster]):
                if seen.isdisjoint(one.keys):
                    found.append(one)
                seen.update(one.keys)
        return found

    async def teach(
        self, tenant: str, group: str, pairs: Sequence[LabelledPair], false_hit_rate_max: float
    ) -> list[PairsTaught]:
        """Have each of them learn from these pairs, within `TEACH_MAX_S`; what each says.

        Raises:
            ApiError: `server_busy`: enough pairs are being learned.
        """
        body = _encode(TeachPairs(group, false_hit_rate_max, list(pairs)))
        with self._teachers.taken(tenant):
            answers = await self._ask_all(PAIRS_PATH, body, TEACH_MAX_S)
        return [taught for answer in answers if (taught := _read(answer, PairsTaught))]

    async def _ask_all(self, path: str, body: bytes, wait_max_s: float = ASK_MAX_S) -> list[bytes]:
        answers = await self._ask_each(path, body, wait_max_s)
        return [answer for answer in answers if answer is not None]

    async def _ask_each(
        self, path: str, body: bytes, wait_max_s: float = ASK_MAX_S
    ) -> list[bytes | None]:
        waits = Waits(
            connect_max_s=CONNECT_MAX_S, first_byte_max_s=wait_max_s, total_max_s=wait_max_s
        )

        async def ask(client: SignedClient) -> bytes | None:
            try:
                async with asyncio.timeout(wait_max_s):
                    return await client.ask(path, body, waits)
            except (TimeoutError, ClientError, Refused):
                return None

        return await asyncio.gather(*map(ask, self._asks))


def _read(answer: bytes, kind: Any) -> Any:
    try:
        return msgspec.msgpack.decode(answer, type=kind)
    except msgspec.DecodeError:
        return []  # of another version of the platform
