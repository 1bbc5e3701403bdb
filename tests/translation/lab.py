"""A whole gateway in this process over strict vendors, without sockets.

Everything from the caller's request to the upstream's bytes and back is the product's own code,
put together as `wiring.gateway` does: HTTP client and server, routes, bridges, readers, writers,
metering. Only the two transports, the journal's disk and the store of responses are stood in for.
So a case takes a millisecond, and thousands can be tried.
"""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from tests.vendors.strict.table import VENDORS
from tests.vendors.strict.vendor import Answer, Counted, Strict
from tokenschain.core.call_record import CallRecord
from tokenschain.core.errors import ApiError
from tokenschain.core.log_events import silent
from tokenschain.core.ports import NoCache, NoModeration, NoQuota
from tokenschain.core.pricing.catalog import Price, PriceTier
from tokenschain.core.snapshot import (
    ModelRoute,
    Offer,
    Served,
    Snapshot,
    Upstream,
)
from tokenschain.core.snapshot.shards import encode_shard
from tokenschain.core.tenancy import KeyGrant
from tokenschain.gateway.api.app import ApiSettings, Gateway
from tokenschain.gateway.api.appeals import Appeals
from tokenschain.gateway.auth import KeyAuth
from tokenschain.gateway.conversation_state import StoredConversationState
from tokenschain.gateway.dispatch.dispatcher import Dispatch
from tokenschain.gateway.dispatch.router import Router
from tokenschain.gateway.metering import JournalMetering
from tokenschain.gateway.pipeline import Steps
from tokenschain.infra import catalog_file
from tokenschain.infra.security.suite import INTERNATIONAL
from tokenschain.providers.images import ImageFetcher
from tokenschain.providers.openai_compat import HttpUpstreams
from tokenschain.providers.vendor_table import vendor_of
from tokenschain.wire import client as http
from tokenschain.wire.exchange import Exchange, Request

KEY = b"lab-key"
PRICE = Price("CNY", (PriceTier(1_000_000, 2_000_000),), "lab")
WAIT_MAX_S = 20.0
GATHERED = "gathered"
"""An upstream that is asked for streams where callers want whole answers (`stream_whole`)."""
Alter = Callable[[Answer], Answer]


class Result(NamedTuple):
    """What the caller got, and what was done for it."""

    status: int
    headers: dict[str, str]
    body: bytes
    sent: list[dict[str, Any]]
    """What the vendors were sent, in order."""
    record: CallRecord | None
    faults: list[BaseException]
    """Faults of our own that the gateway's last border caught."""
    counted: list[Counted]
    """What the vendors counted for it."""

    def says(self, name: str) -> list[str]:
        """The entries of a header that is a list, as `x-tc-dropped`."""
        found = self.headers.get(name, "")
        return [entry.strip() for entry in found.split(",") if entry.strip()]

    @property
    def error(self) -> dict[str, Any]:
        found = json.loads(self.body)["error"]
        return found if isinstance(found, dict) else {"message": str(found)}


class _Journal:
    def check_room(self) -> None: ...

    def append(self, payload: bytes) -> None: ...


class _Store:
    def keep(self, stored: object) -> bool:
        return True

    def __getattr__(self, name: str) -> Any:
        async def missing(*_: object, **__: object) -> Any:
            raise ApiError("not_found", "There is no such response.")

        return missing


async def _no_appeal(*_: str) -> bytes | None:
    return None


class _Caller:
    """The connection that a caller is on."""

    draining = False
    peer_speaks_1_1 = False  # no chunks: the body ends where the exchange does
    date_line = b""

    def __init__(self) -> None:
        self.got: list[bytes] = []
        self.done = asyncio.Event()

    def date_line_of(self) -> bytes:
        return b""

    def client_address(self, request: Request) -> str:
        return "127.0.0.1"

    def send(self, data: bytes) -> None:
        self.got.append(data)

    def exchange_ended(self, keep: bool) -> None:
        self.done.set()

    def abort(self) -> None:
        self.done.set()


class _Transport(asyncio.Transport):
    """The connection to a strict vendor: a request goes in, the answer comes in pieces."""

    def __init__(self, connection: Any, lab: Lab, vendor: str) -> None:
        super().__init__()
        self._connection = connection
        self._lab = lab
        self._vendor = vendor
        self._aborted = False

    def write(self, data: Any) -> None:
        head, _, body = bytes(data).partition(b"\r\n\r\n")
        lines = head.decode("latin-1").split("\r\n")[1:]
        headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
        answer = self._lab.answer(self._vendor, headers, body)
        loop = asyncio.get_running_loop()
        head_lines = "".join(f"{name}: {value}\r\n" for name, value in answer.headers)
        first = f"HTTP/1.1 {answer.status} Lab\r\n{head_lines}connection: close\r\n\r\n"
        for piece in (first.encode("latin-1"), *answer.pieces):
            loop.call_soon(self._feed, piece)
        loop.call_soon(self._end)

    def _feed(self, data: bytes) -> None:
        if not self._aborted and data:
            self._connection.data_received(data)

    def _end(self) -> None:
        if not self._aborted:
            self._connection.connection_lost(None)

    def abort(self) -> None:
        self._aborted = True

    def close(self) -> None:
        self._aborted = True

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return default


class _Client(http.HttpClient):
    def __init__(self, lab: Lab) -> None:
        super().__init__()
        self._lab = lab

    async def _connect(self, origin: http.Origin, connection: Any) -> None:
        connection.connection_made(_Transport(connection, self._lab, origin.host[: -len(".lab")]))


class Lab:
    """One gateway, and strict vendors whose names are also the names of the models."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.vendors = {name: Strict(name, vendor) for name, vendor in VENDORS.items()}
        self.vendors[GATHERED] = Strict(GATHERED, VENDORS["openai"])
        self.alter: Alter | None = None
        """Changes what vendors answer; for faults."""
        self.records: list[CallRecord] = []
        self.faults: list[BaseException] = []
        self.counted: list[Counted] = []
        """What vendors counted, over all calls."""
        self.owed: list[CallRecord] = []
        """All records, over all calls."""
        self._sent: list[dict[str, Any]] = []
        self._client: _Client | None = None
        self.served = Served(_snapshot(self.vendors))
        digest = INTERNATIONAL.digest(KEY)
        grant = KeyGrant("key_1", "t", "p", "e")
        self.served.replace_shard(digest[0], encode_shard({digest: grant}))
        self.fresh()

    def fresh(self) -> None:
        """A gateway that remembers nothing of upstreams that failed."""
        self.loop.run_until_complete(self._build())

    async def _build(self) -> None:
        if self._client is not None:
            self._client.close()
        client = self._client = _Client(self)
        upstreams = HttpUpstreams(
            client,
            lambda reference: self.vendors[reference.removeprefix("env:")].credential,
            vendor_of,
            lambda *_: None,
            ImageFetcher(client),
        )
        chance = random.Random(7).random
        self.router = Router(self.served, time.monotonic, time.time, chance)
        self.dispatch = Dispatch(self.router, upstreams, time.monotonic, chance, silent)
        auth = KeyAuth(self.served, INTERNATIONAL.digest, time.time)
        memory = StoredConversationState(_Store(), lambda *_: None)
        steps = Steps(
            metering=JournalMetering(
                _Journal(),
                OSError,
                self.records.append,
                self.served,
                "lab",
                memoryview(bytearray(16)).cast("Q"),
                lambda record: "",
            ),
            auth=auth,
            conversation=memory,
            routing=self.router,
            quota=NoQuota(),
            moderation=NoModeration(),
            cache=NoCache(),
            opening=self.dispatch,
        )
        self.gateway = Gateway(
            steps, auth, self.served, lambda: b"", "", lambda _, fault: self.faults.append(fault),
            ApiSettings(), memory, lambda text: text,
            Appeals(lambda _: None, OSError, lambda *_: b"", _no_appeal),
        )  # fmt: skip

    def answer(self, name: str, headers: Mapping[str, str], body: bytes) -> Answer:
        strict = self.vendors[name]
        seen = len(strict.received), len(strict.counted)
        answer = strict.answer(headers, body)
        self._sent += strict.received[seen[0] :]
        self._got += strict.counted[seen[1] :]
        return answer if self.alter is None else self.alter(answer)

    def ask(self, path: str, body: Any, *, method: str = "POST", **headers: str) -> Result:
        """One request; `body` is JSON or bytes, a header's name has `_` for `-`."""
        return self.loop.run_until_complete(self._ask(path, body, method, headers))

    async def _ask(self, path: str, body: Any, method: str, more: Mapping[str, str]) -> Result:
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        headers = {b"authorization": b"Bearer " + KEY, b"content-type": b"application/json"}
        for name, value in more.items():
            headers[name.replace("_", "-").encode()] = value.encode()
        self._sent, self._got = [], []
        self.records.clear()
        self.faults.clear()
        caller = _Caller()
        target = path.encode()
        plain, _, query = target.partition(b"?")
        request = Request(method, target, plain, query, headers, time.monotonic(), body=raw)
        caller.date_line = caller.date_line_of  # type: ignore[assignment]
        self.gateway.answer(Exchange(caller, request, True))  # type: ignore[arg-type]
        async with asyncio.timeout(WAIT_MAX_S):
            await caller.done.wait()
        head, _, answered = b"".join(caller.got).partition(b"\r\n\r\n")
        lines = head.decode("latin-1").split("\r\n")
        found = {n.lower(): v for n, v in (line.split(": ", 1) for line in lines[1:] if line)}
        record = self.records[-1] if self.records else None
        if record is not None:
            self.owed.append(record)
        self.counted += self._got
        return Result(
            int(lines[0].split(" ")[1]), found, answered, self._sent, record,
            list(self.faults), self._got,
        )  # fmt: skip


def _snapshot(vendors: Mapping[str, Strict]) -> Snapshot:
    known = {(info.provider, info.model): info for info in catalog_file.load().models}
    upstreams, models = {}, {}
    for name, strict in vendors.items():
        vendor = strict.vendor
        tail = {"hunyuan": "", "dashscope": "/api/v1"}.get(vendor.wire, "/v1")
        upstreams[name] = Upstream(
            name, vendor.provider, f"http://{name}.lab{tail}", (f"env:{name}",),
            stream_whole=name == GATHERED,
        )  # fmt: skip
        provider = {"tencent-hunyuan-native": "tencent-hunyuan", "alibaba-native": "alibaba"}
        info = known[provider.get(vendor.provider, vendor.provider), vendor.model]
        abilities = (*info.abilities, "json_schema") if info.abilities else None
        offer = Offer(
            name, vendor.model, PRICE, info.output_tokens_max, info.context_window, abilities
        )
        models[name] = ModelRoute(name, "chat", (offer,))
    embed = Offer("openai", "text-embedding-3-small", PRICE)
    models["openai-embed"] = ModelRoute("openai-embed", "embedding", (embed,))
    return Snapshot("lab", upstreams, models)
