"""Hostile input: whatever a caller sends, others are answered meanwhile and nothing is fetched."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.small_server import serving
from tokenschain.core.errors import ApiError
from tokenschain.providers.schema_check import CHECK_MAX_S, SchemaChecker
from tokenschain.wire.chunked import ChunkedBody, ChunkError
from tokenschain.wire.exchange import Exchange
from tokenschain.wire.server import HttpServer
from tokenschain.wire.sse import EVENT_BYTES_MAX, SseError, SseReader

PAUSE_MAX_S = 0.05
"""For which the loop may stand still at most, on a machine that has nothing else to do."""
SLOWNESS = 6
"""By how much a loaded machine may be slower."""

DRAFT_7 = "http://json-schema.org/draft-07/schema#"
CATASTROPHE = "^(a+)+$"


class Pauses:
    """The longest pause of the running loop, by the time that this process was computing in it."""

    def __init__(self) -> None:
        self.longest_s = 0.0

    async def __aenter__(self) -> Pauses:
        self._task = asyncio.create_task(self._watch())
        await asyncio.sleep(0.01)
        return self

    async def __aexit__(self, *_: object) -> None:
        await asyncio.sleep(0.01)
        self._task.cancel()

    async def _watch(self) -> None:
        while True:
            began, computed = time.perf_counter(), time.process_time()
            await asyncio.sleep(0.002)
            late = min(time.perf_counter() - began, time.process_time() - computed)
            self.longest_s = max(self.longest_s, late)

    def check(self) -> None:
        assert self.longest_s < PAUSE_MAX_S * SLOWNESS


# --- a caller's JSON schema -----------------------------------------------------------------


def reply(answer: Any) -> bytes:
    text = msgspec.json.encode(answer).decode()
    return msgspec.json.encode(
        {"choices": [{"message": {"content": text}, "finish_reason": "stop"}]}
    )


async def check(schema: Any, answer: Any) -> bytes:
    checker, encoded = SchemaChecker(), msgspec.json.encode(schema)
    await checker.check_schema(encoded, "schema")
    return await checker.checked(reply(answer), encoded, "up")


@pytest.mark.parametrize("keyword", ["$ref", "$dynamicRef"])
@pytest.mark.parametrize("wrapped", [False, True])
@pytest.mark.parametrize("where", ["file", "url", "relative"])
def test_a_schema_reads_no_file_and_no_url(
    tmp_path: Path, keyword: str, wrapped: bool, where: str
) -> None:
    from http.server import BaseHTTPRequestHandler

    asked: list[str] = []

    class Secret(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b'{"enum": ["INTERNAL"]}')

        def log_message(self, *_: object) -> None: ...

    secret = tmp_path / "secret.json"
    secret.write_text('{"enum": ["INTERNAL"]}')
    with serving(Secret) as url:
        target = {"file": secret.as_uri(), "url": f"{url}/s.json", "relative": "s.json"}[where]
        schema: dict[str, Any] = {keyword: target}
        if where == "relative":
            schema["$id"] = f"{url}/base.json"
        if wrapped:
            schema = {"allOf": [{"properties": {"a": schema}}], "$defs": {"b": [schema]}}
        with pytest.raises(ApiError) as refused:
            asyncio.run(check(schema, {"a": "x"}))
    assert refused.value.code == "invalid_value" and "INTERNAL" not in str(refused.value)
    assert refused.value.param == "schema", "it is refused before anybody is asked"
    assert not asked


@pytest.mark.filterwarnings("ignore:Automatically retrieving remote references")
def test_a_reference_that_the_check_of_the_schema_overlooks_is_not_fetched_either(
    tmp_path: Path,
) -> None:
    secret = tmp_path / "secret.json"
    secret.write_text('{"enum": ["INTERNAL"]}')
    hidden = {"$ref": "#/default", "default": {"$ref": secret.as_uri()}}
    with pytest.raises(ApiError) as refused:
        asyncio.run(check(hidden, "x"))
    assert refused.value.code == "invalid_value" and "INTERNAL" not in str(refused.value)


@pytest.mark.parametrize(
    "schema",
    [
        {"properties": {"a": {"pattern": CATASTROPHE}}},
        {"patternProperties": {CATASTROPHE: {}}},
        {"patternProperties": {CATASTROPHE: {}}, "additionalProperties": False},
        {"patternProperties": {CATASTROPHE: {}}, "unevaluatedProperties": False},
        {"propertyNames": {"pattern": CATASTROPHE}},
        {"properties": {"a": {"$schema": DRAFT_7, "pattern": CATASTROPHE}}},
        {"$schema": DRAFT_7, "properties": {"a": {"pattern": CATASTROPHE}}},
    ],
)
def test_a_regular_expression_of_a_caller_is_never_run(schema: Any) -> None:
    name = "a" * 40 + "!"
    began = time.perf_counter()
    assert asyncio.run(check(schema, {"a": name, name: 1}))
    assert time.perf_counter() - began < CHECK_MAX_S * SLOWNESS


def doubling(levels: int) -> dict[str, Any]:
    """A schema that branches at each of its levels."""
    levels_of = {f"l{at}": {"allOf": [{"$ref": f"#/$defs/l{at + 1}"}] * 2} for at in range(levels)}
    return {"$ref": "#/$defs/l0", "$defs": {**levels_of, f"l{levels}": {"type": "string"}}}


HOSTILE_SCHEMAS = [
    (doubling(30), "x"),
    ({"$ref": "#"}, 1),
    ({"anyOf": [{"$ref": "#"}, {"$ref": "#"}]}, 1),
    ({"anyOf": [{"enum": ["y" * 30]}] * 1_400}, ["x" * 1_000] * 900),
    ({"items": doubling(12), "type": "array"}, ["x"] * 3_000),
]


@pytest.mark.parametrize(("schema", "answer"), HOSTILE_SCHEMAS, ids=range(len(HOSTILE_SCHEMAS)))
def test_a_check_of_a_schema_ends_and_lets_others_go_on(schema: Any, answer: Any) -> None:
    async def run() -> float:
        began = time.perf_counter()
        async with Pauses() as pauses:
            with pytest.raises(ApiError):
                await check(schema, answer)
        pauses.check()
        return time.perf_counter() - began

    assert asyncio.run(run()) < CHECK_MAX_S * SLOWNESS


def test_unique_items_take_linear_time() -> None:
    answer = [value for at in range(8_000) for value in ({"a": at}, at)]
    assert asyncio.run(check({"uniqueItems": True}, answer))
    with pytest.raises(ApiError):
        asyncio.run(check({"uniqueItems": True}, [*answer, {"a": 5}]))


def test_a_huge_schema_and_one_that_is_none_are_refused() -> None:
    schemas: list[Any] = [{"enum": ["x" * 70_000]}, {"type": "nonsense"}, [], {"$schema": []}, 3]
    for schema in schemas:
        with pytest.raises(ApiError) as refused:
            asyncio.run(check(schema, "x"))
        assert refused.value.code == "invalid_value"


# --- what a caller sends over its connection ------------------------------------------------


class Small:
    """Answers everything at once; keeps count."""

    def __init__(self) -> None:
        self.answered = 0

    def __call__(self, exchange: Exchange) -> None:
        self.answered += 1
        exchange.reply(200, b"", b"x" * 200)


def refusal(status: int, code: str, message: str, path: bytes) -> tuple[bytes, bytes]:
    return b"", code.encode()


def connections_of(server: HttpServer) -> list[Any]:
    return list(server.connections)


async def ask(port: int) -> float:
    """How long another caller waits for an answer, on a connection of its own."""
    began = time.perf_counter()
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET /x HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
    assert (await reader.read(12)).endswith(b"200")
    writer.close()
    return time.perf_counter() - began


@pytest.mark.parametrize("reads", [True, False])
def test_pipelined_megabytes_keep_nobody_waiting_and_are_not_kept(reads: bool) -> None:
    """4 MB of requests: the buffer stays within its limit, others are answered in between."""

    async def run() -> None:
        handler = Small()
        server = HttpServer(handler, refusal)
        port = await server.listen("127.0.0.1", 0)
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        flood = b"GET /livez HTTP/1.1\r\nhost: x\r\n\r\n" * 128_000
        sending = asyncio.create_task(_send(writer, flood))
        reading = asyncio.create_task(_drop(reader)) if reads else None
        await asyncio.sleep(0.05)
        async with Pauses() as pauses:
            waits = [await ask(port) for _ in range(10)]
            for connection in connections_of(server):
                limit = server.limits.pipeline_bytes_max + 1_048_576  # one read of the loop
                assert len(connection._buffer) <= limit
        pauses.check()
        assert sorted(waits)[5] < PAUSE_MAX_S * SLOWNESS
        if not reads:
            for _ in range(200):  # what the kernel keeps of the answers has to fill up first
                before = handler.answered
                await asyncio.sleep(0.1)
                if handler.answered == before:
                    break
            assert handler.answered < 128_000, "who reads no answer gets no more"
        for task in (sending, reading):
            if task is not None:
                task.cancel()
        writer.close()
        await server.drain(0)

    asyncio.run(run())


async def _send(writer: asyncio.StreamWriter, data: bytes) -> None:
    writer.write(data)
    await writer.drain()


async def _drop(reader: asyncio.StreamReader) -> None:
    while await reader.read(65_536):
        pass


def test_many_pipelined_requests_are_all_answered_in_linear_time() -> None:
    async def run(count: int) -> float:
        handler = Small()
        server = HttpServer(handler, refusal)
        port = await server.listen("127.0.0.1", 0)
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        posts = b"POST /a HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\n{}\r\n"
        chunked = (
            b"POST /a HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n"
        )
        gets = b"GET /a HTTP/1.1\r\nhost: x\r\n\r\n"
        last = b"GET /a HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"
        began = time.process_time()
        sending = asyncio.create_task(_send(writer, (posts + gets + chunked) * count + last))
        await asyncio.wait_for(_drop(reader), 30)
        await sending
        assert handler.answered == 3 * count + 1
        writer.close()
        await server.drain(0)
        return time.process_time() - began

    small, large = asyncio.run(run(250)), asyncio.run(run(2_000))
    assert large < 8 * small * 3


def test_who_is_refused_at_the_head_has_no_byte_of_its_body_kept() -> None:
    async def run() -> None:
        handler = Small()
        server = HttpServer(handler, refusal)

        def refuse(exchange: Exchange) -> bool:
            exchange.reply(401, b"", b"no")
            return False

        server.at_head = refuse
        port = await server.listen("127.0.0.1", 0)
        head = b"POST /a HTTP/1.1\r\nhost: x\r\n%b\r\n\r\n"
        for field in (b"content-length: 33000000", b"transfer-encoding: chunked",
                      b"content-length: 9\r\nexpect: 100-continue"):  # fmt: skip
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(head % field)
            assert b" 401 " in await reader.readline()
            writer.write(b"x" * 2_000_000)
            await asyncio.sleep(0.05)
            for connection in connections_of(server):
                assert not connection._buffer and not connection._body and not connection._chunks
            writer.close()
        assert not handler.answered
        await server.drain(0)

    asyncio.run(run())


@pytest.mark.parametrize("first", [b"", b"GET /a HTTP/1.1\r\nhost: x\r\n\r\n"])
def test_empty_lines_in_place_of_a_request_are_refused(first: bytes) -> None:
    async def run() -> None:
        server = HttpServer(Small(), refusal)
        port = await server.listen("127.0.0.1", 0)
        for piece in (b"\r\n" * 100, b"\r\n"):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(first)
            if first:
                await reader.readuntil(b"\r\n\r\n")
            for _ in range(100):
                writer.write(piece)
                await asyncio.sleep(0)
            async with asyncio.timeout(20):
                assert b" 400 " in await reader.read()  # and the connection is closed
            writer.close()
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"\r\n\r\nGET /a HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
        async with asyncio.timeout(20):
            assert b" 200 " in await reader.read(), "one or two are ignored"
        writer.close()
        await server.drain(0)

    asyncio.run(run())


def test_a_body_cut_into_single_bytes_is_refused_before_it_costs() -> None:
    body = ChunkedBody(33_554_432)
    with pytest.raises(ChunkError, match="too many chunks"):
        body.feed(b"1\r\nx\r\n" * 100_000)
    assert not ChunkedBody(100).feed(b"1\r\nx\r\n" * 100)


def test_chunk_extensions_and_endless_trailers_are_refused() -> None:
    for hostile in (b"2;a=b\r\n{}\r\n", b"0\r\n" + b"a:b\r\n" * 1_500_000, b"0" * 2_000):
        with pytest.raises(ChunkError):
            ChunkedBody(1_000).feed(hostile)


def test_an_event_in_small_pieces_takes_linear_time_and_empty_lines_count() -> None:
    def spent(pieces: int) -> float:
        reader, piece = SseReader(), b"x" * 1_400
        reader.feed(b"data: ")
        began = time.process_time()
        for _ in range(pieces):
            reader.feed(piece)
        return time.process_time() - began

    assert spent(5_600) < 8 * max(spent(700), 0.002) * 4
    lines = b"data\n" * 100_000
    reader = SseReader()
    with pytest.raises(SseError):
        for _ in range(EVENT_BYTES_MAX // 100_000 + 2):
            reader.feed(lines)
    for line in (b"\n", b":\n", b"\r\n", b"x\r"):
        with pytest.raises(SseError):
            SseReader().feed(b"data: a\n\n" + line * 100_000)
