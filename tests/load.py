"""A steady load on gateways: calls at a rate, a part of them streams, none of which may fail."""

from __future__ import annotations

import http.client
import itertools
import json
import threading
import time
from collections.abc import Sequence
from typing import NamedTuple
from urllib.parse import urlsplit

THREADS = 8
STREAM_EVERY = 4
"""Every fourth call is a stream."""
ANSWER_MAX_S = 60.0


class Target(NamedTuple):
    """Who asks for what."""

    key: str
    model: str


class Answered(NamedTuple):
    """How a call of the load ended."""

    at: float
    """When it was sent, on the monotonic clock."""
    target: Target
    gateway: int
    status: int
    upstream: str
    wrong: str
    """What was wrong with it; empty where nothing was."""


class Load:
    """Calls in turn to all gateways and targets until it is closed; targets may be exchanged."""

    def __init__(self, urls: Sequence[str], targets: Sequence[Target], per_s: float) -> None:
        self._urls = urls
        self.targets = tuple(targets)
        self.answers: list[Answered] = []
        self._ended = threading.Event()
        self._numbers = itertools.count()
        self._began = time.monotonic()
        self._per_s = per_s
        self._threads = [threading.Thread(target=self._run, daemon=True) for _ in range(THREADS)]
        for thread in self._threads:
            thread.start()

    def close(self) -> None:
        """Send no more, and wait for what runs."""
        self._ended.set()
        for thread in self._threads:
            thread.join()

    @property
    def wrong(self) -> list[Answered]:
        """Calls that were not answered as they should be."""
        return [one for one in self.answers if one.wrong]

    def _run(self) -> None:
        connections: dict[int, http.client.HTTPConnection] = {}
        try:
            self._send(connections)
        finally:
            for connection in connections.values():
                connection.close()

    def _send(self, connections: dict[int, http.client.HTTPConnection]) -> None:
        while not self._ended.is_set():
            number = next(self._numbers)
            due_in_s = self._began + number / self._per_s - time.monotonic()
            if due_in_s > 0 and self._ended.wait(due_in_s):
                return
            at = number % len(self._urls)
            address = urlsplit(self._urls[at]).netloc
            connection = connections.setdefault(
                at, http.client.HTTPConnection(address, timeout=ANSWER_MAX_S)
            )
            # Each gateway is asked by each target, by whole answers and by streams.
            target = self.targets[number // len(self._urls) % len(self.targets)]
            self.answers.append(ask(connection, at, target, stream=number % STREAM_EVERY == 0))


def ask(
    connection: http.client.HTTPConnection, gateway: int, target: Target, *, stream: bool = False,
    **more: object,
) -> Answered:  # fmt: skip
    """One call, read to its end."""
    began = time.monotonic()
    body = {"model": target.model, "messages": [{"role": "user", "content": "hi"}]}
    headers = {"authorization": f"Bearer {target.key}", "content-type": "application/json"}
    try:
        connection.request(
            "POST", "/v1/chat/completions",
            json.dumps(body | {"stream": stream} | more), headers,
        )  # fmt: skip
        reply = connection.getresponse()
        upstream = reply.headers.get("x-tc-upstream", "")
        text = reply.read().decode()
    except (OSError, http.client.HTTPException) as error:
        connection.close()
        return Answered(began, target, gateway, 0, "", repr(error))
    ends = "data: [DONE]" in text and '"error"' not in text if stream else '"choices"' in text
    wrong = "" if reply.status == 200 and ends else text[:300]
    return Answered(began, target, gateway, reply.status, upstream, wrong)
