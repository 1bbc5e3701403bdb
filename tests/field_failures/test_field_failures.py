"""Failures that hurt users of other gateways, each as a test with its number.

The numbers are those of docs/field-failures.md.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import threading
from pathlib import Path

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.flows.test_calls import events_of, text_of
from tests.stack import Stack
from tests.upstreams import UpstreamSimulator
from tests.waiting import until, until_steady


def open_stream(stack: Stack, key: str, **body) -> tuple[socket.socket, str]:
    """A raw streamed call; returns its socket and request id once the head is here."""
    sent = {"model": "sim-chat", "messages": [{"role": "user", "content": "hi"}]} | body
    data = json.dumps(sent).encode()
    caller = socket.create_connection(("127.0.0.1", stack.port), timeout=10)
    caller.sendall(
        b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer %b\r\n"
        b"content-length: %d\r\n\r\n%b" % (key.encode(), len(data), data)
    )
    return caller, ""


def read_events(caller: socket.socket, count: int) -> str:
    """Read until that many events have come; returns the request id."""
    got = b""
    while got.count(b"data: ") < count:
        data = caller.recv(4096)
        assert data, got
        got += data
    head = got.split(b"\r\n\r\n")[0].decode()
    return next(li.split(": ")[1] for li in head.split("\r\n") if li.startswith("x-request-id"))


@pytest.mark.parametrize("events", [1, 3, 8])
def test_01_a_caller_who_hangs_up_mid_stream_is_billed_an_estimate(
    stack: Stack, upstream: UpstreamSimulator, events: int
) -> None:
    upstream.reset()
    sim = {"tokens": 60, "pause_s": 0.03}
    caller, _ = open_stream(stack, stack.key, stream=True, x_sim=sim)
    call = read_events(caller, events)
    caller.close()
    row = stack.row_of(call)
    assert (row["outcome"], row["error"]) == ("partial", "caller_gone")
    assert row["usage_source"] == "estimated"
    # The upstream is stopped at once, and what was relayed is what is billed.
    until(lambda: upstream.disconnects == 1)
    assert events - 2 <= row["completion_tokens"] <= upstream.tokens + 1 < 20
    assert row["cost_pico"] > 0


def test_01_before_the_first_byte_too(stack: Stack, upstream: UpstreamSimulator) -> None:
    upstream.reset()
    before = {row["event_id"] for row in stack.rows()}
    for number, stream in enumerate((False, True)):
        caller, _ = open_stream(stack, stack.key, stream=stream, x_sim={"delay_s": 1.2})
        until(lambda n=number: len(upstream.requests) > n)
        caller.close()

    def gone() -> list:
        rows = [row for row in stack.rows() if row["event_id"] not in before]
        return [row for row in rows if row["error"] == "caller_gone"]

    until(lambda: len(gone()) == 2)
    assert all(row["usage_source"] == "estimated" for row in gone())
    assert all(row["completion_tokens"] == 0 for row in gone())


def test_01_drain_mode_reads_on_and_bills_exactly(
    stack: Stack, upstream: UpstreamSimulator
) -> None:
    made = stack.admin("POST", "/api/v1/keys", json={"disconnect": "drain"}).json()
    stack.until_known(made["key"])
    sim = {"tokens": 30, "pause_s": 0.02}
    caller, _ = open_stream(stack, made["key"], stream=True, x_sim=sim)
    call = read_events(caller, 4)
    caller.close()
    row = stack.row_of(call)
    assert (row["completion_tokens"], row["usage_source"]) == (30, "provider")
    assert row["error"] == "caller_gone"


def test_02_failures_charge_nothing_and_zero_stays_zero(stack: Stack) -> None:
    for sim in ({"status": 500}, {"hang": True}, {"cut_after": 0}):
        row = stack.row_of(stack.chat(x_sim=sim, max_tokens=50))
        assert (row["cost_pico"], row["completion_tokens"], row["prompt_tokens"]) == (0, 0, 0)
    for stream in (False, True):
        row = stack.row_of(stack.chat(x_sim={"usage": "zero"}, stream=stream))
        assert (row["prompt_tokens"], row["completion_tokens"], row["cost_pico"]) == (0, 0, 0)
        assert row["usage_source"] == "provider"


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    tokens=st.integers(1, 40),
    allowed=st.integers(1, 30),
    usage=st.sampled_from(["none", "absurd"]),
    stream=st.booleans(),
)
def test_02_an_estimate_never_exceeds_what_was_allowed(
    stack: Stack, tokens: int, allowed: int, usage: str, stream: bool
) -> None:
    sim = {"tokens": tokens, "usage": usage, "text": ["x" * 40] * tokens}
    row = stack.row_of(stack.chat(x_sim=sim, max_tokens=allowed, stream=stream))
    assert row["usage_source"] == "estimated"
    assert 0 < row["completion_tokens"] <= allowed
    assert 0 < row["prompt_tokens"] < 200


def resident(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def test_04_what_was_in_flight_when_a_gateway_was_killed_blocks_nothing(
    own_stack, upstream: UpstreamSimulator
) -> None:
    """Nothing is left over; for reservations of limits see `test_limits`."""
    stack = own_stack().start()
    sims = [{"x_sim": {"delay_s": 3}}] * 20
    upstream.reset()
    callers = [open_stream(stack, stack.key, **body)[0] for body in sims]
    until(lambda: len(upstream.requests) == len(sims))
    stack.kill("gateway")
    for caller in callers:
        caller.close()
    stack.start("gateway")
    assert stack.chat().status_code == 200
    text = stack.metrics()
    assert 'tokenschain_running_calls{worker="0"} 0.0' in text
    assert len(stack.settled(1)) == 1


def test_09_memory_is_flat_over_aborted_streams_and_large_bodies(own_stack) -> None:
    stack = own_stack().start()
    pid = stack.processes["gateway"].pid

    def abort_streams(count: int) -> None:
        for _ in range(count):
            sim = {"tokens": 1000, "pause_s": 0.001}
            caller, _ = open_stream(stack, stack.key, stream=True, x_sim=sim)
            read_events(caller, 2)
            caller.close()

    def large_bodies(count: int) -> None:
        for _ in range(count):
            stack.chat(messages=[{"role": "user", "content": "x" * 10_000_000}])

    abort_streams(150)
    large_bodies(3)
    base = resident(pid)
    abort_streams(400)
    large_bodies(10)
    assert resident(pid) < base * 1.2, (base, resident(pid))


def test_09_a_slow_reader_pauses_the_upstream(stack: Stack, upstream: UpstreamSimulator) -> None:
    upstream.reset()
    sim = {"large": [1_000, 100_000]}
    caller, _ = open_stream(stack, stack.key, stream=True, x_sim=sim)
    until(lambda: upstream.tokens)
    sent = until_steady(lambda: upstream.tokens)
    # Four buffers of the kernel of up to 6 MB each lie between, too.
    assert sent < 400, "the gateway read 40 MB ahead of a caller who reads nothing"
    got = bytearray()
    while b"[DONE]" not in got[-4096:]:
        data = caller.recv(1 << 20)
        assert data, bytes(got[-300:])
        got += data
    caller.close()
    assert got.count(b"y" * 100) >= 1_000 * 1_000


TEXT = ["你好，", "世界🌏！", "龘", "👩‍👩‍👧‍👦", "\u0000é", "末"]


@pytest.mark.parametrize("split", [1, 2, 3, 5, 7])
def test_17_chinese_and_emoji_survive_any_cut(stack: Stack, split: int) -> None:
    reply = stack.chat(stream=True, x_sim={"text": TEXT, "split": split})
    assert text_of(events_of(reply.text)) == "".join(TEXT)
    assert "\ufffd" not in reply.text


def test_17_single_bytes_from_the_socket(stack: Stack) -> None:
    reply = stack.chat(stream=True, x_sim={"text": TEXT[:2], "drip_s": 0.0002})
    assert text_of(events_of(reply.text)) == "".join(TEXT[:2])


def test_18_silence_is_bridged_by_comments(stack: Stack) -> None:
    """The stack's heartbeat is 0.4 s: what 60 s proxies need at 15 s, in small."""
    reply = stack.chat(stream=True, x_sim={"silence_s": 1.3})
    assert reply.text.count(": keep-alive\n") >= 2
    assert text_of(events_of(reply.text)) == "word0 word1 word2 word3 "
    early = stack.chat(stream=True, x_sim={"delay_s": 1.3})
    assert early.text.startswith(": keep-alive\n")
    assert text_of(events_of(early.text)) == "word0 word1 word2 word3 "


def test_18_an_upstreams_comments_are_not_progress(stack: Stack) -> None:
    reply = stack.chat(stream=True, x_sim={"silence_s": 4, "comments": True})
    assert events_of(reply.text)[-1]["error"]["code"] == "upstream_timeout"


@pytest.mark.parametrize("cut_after", [0, 1])
def test_19_cut_before_the_first_token_is_a_plain_error(stack: Stack, cut_after: int) -> None:
    reply = stack.chat(stream=True, x_sim={"cut_after": cut_after})
    assert (reply.status_code, reply.json()["error"]["code"]) == (502, "upstream_interrupted")
    row = stack.row_of(reply)
    assert (row["outcome"], row["cost_pico"]) == ("upstream_interrupted", 0)


@pytest.mark.parametrize("cut_after", [2, 3, 7])
def test_19_cut_after_the_first_token_is_an_error_event_and_partial(
    stack: Stack, cut_after: int
) -> None:
    sim = {"cut_after": cut_after, "tokens": 10, "pause_s": 0.01}
    reply = stack.chat(stream=True, x_sim=sim)
    events = events_of(reply.text)
    assert "event: error\n" in reply.text and "[DONE]" not in reply.text
    assert events[-1]["error"]["code"] == "upstream_interrupted"
    assert all(c["finish_reason"] is None for e in events[:-1] for c in e["choices"])
    row = stack.row_of(reply)
    assert (row["outcome"], row["error"]) == ("partial", "upstream_interrupted")
    assert (row["usage_source"], row["finish_reason"]) == ("estimated", "")
    assert row["completion_tokens"] == cut_after - 1


def test_19_an_end_without_a_finish_is_no_success(stack: Stack) -> None:
    reply = stack.chat(stream=True, x_sim={"finish": False, "done": False})
    assert "error" in events_of(reply.text)[-1] and "[DONE]" not in reply.text
    assert stack.row_of(reply)["outcome"] == "partial"


def test_19_an_error_event_before_the_first_token_hides_its_words(stack: Stack) -> None:
    reply = stack.chat(stream=True, x_sim={"wrong": "error_event"})
    assert (reply.status_code, reply.json()["error"]["code"]) == (502, "upstream_failed")
    assert "secret inside" not in reply.text


def test_concurrent_calls_are_all_metered_once(stack: Stack) -> None:
    ids: list[str] = []

    async def many() -> None:
        async with httpx.AsyncClient(timeout=30) as client:
            body = {"model": "sim-chat", "messages": [{"role": "user", "content": "x"}]}
            url = f"{stack.url}/v1/chat/completions"
            replies = await asyncio.gather(
                *(
                    client.post(url, json=body | {"stream": i % 2 == 0}, headers=stack.headers)
                    for i in range(200)
                )
            )
            ids.extend(reply.headers["x-request-id"] for reply in replies)

    thread = threading.Thread(target=lambda: asyncio.run(many()))
    thread.start()
    thread.join()
    assert len(set(ids)) == 200

    def all_there() -> bool:
        found = [row["event_id"] for row in stack.rows()]
        return len(found) == len(set(found)) and set(ids) <= set(found)

    until(all_there)
    sums = stack.rows("select sum(calls) c, sum(cost_pico) p from usage_hourly")[0]
    raw = stack.rows("select count(*) c, sum(cost_pico) p from ledger")[0]
    assert (sums["c"], sums["p"]) == (raw["c"], raw["p"])
