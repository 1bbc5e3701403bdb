"""Who opens all connections that there may be ends no process and shuts nobody out."""

from __future__ import annotations

import resource
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack

import httpx
import pytest

from tests.stack import Stack
from tests.upstreams import UpstreamSimulator
from tests.waiting import until

OPEN_MAX = 300
"""Files that the attacked process may have open."""
IDLE = 400
"""Connections that somebody opens and uses for nothing."""


class FewDescriptors(Stack):
    """A gateway that the system gives few descriptors."""

    def spawn(self, name: str) -> None:
        super().spawn(name)
        if name == "gateway":  # which takes a second to get to where it reads the limit
            limit = OPEN_MAX, OPEN_MAX
            resource.prlimit(self.processes[name].pid, resource.RLIMIT_NOFILE, limit)


@pytest.fixture(scope="module")
def few(tmp_path_factory: pytest.TempPathFactory, upstream: UpstreamSimulator) -> Iterator[Stack]:
    made = FewDescriptors(tmp_path_factory.mktemp("few"), upstream.base_url).start()
    yield made
    made.close()


def test_idle_connections_beyond_the_limit_shut_nobody_out(few: Stack) -> None:
    with ExitStack() as opened:
        for _ in range(IDLE):
            opened.enter_context(socket.create_connection(("127.0.0.1", few.port)))
        for _ in range(5):
            few.row_of(few.chat(timeout=10))
    assert few.processes["gateway"].poll() is None


def test_a_process_without_a_descriptor_lives_on_and_serves_when_it_has_some(few: Stack) -> None:
    process = few.processes["gateway"]
    body = {"model": "sim-chat", "messages": [{"role": "user", "content": "a" * 500}]}
    with httpx.Client(base_url=few.url, headers=few.headers, timeout=10) as caller:
        assert caller.post("/v1/chat/completions", json=body).status_code == 200
        resource.prlimit(process.pid, resource.RLIMIT_NOFILE, (3, OPEN_MAX))
        try:
            # While what goes on beside the calls wants files: metrics, the heartbeat, control.
            for _ in range(15):
                status = caller.post("/v1/chat/completions", json=body).status_code
                assert status in (200, 502, 503)
                time.sleep(0.1)
            assert process.poll() is None
        finally:
            resource.prlimit(process.pid, resource.RLIMIT_NOFILE, (OPEN_MAX, OPEN_MAX))
        until(lambda: few.chat().status_code == 200)
    assert process.poll() is None, "it is the process from before"
