"""Choices and prompts are worth as many calls, however many upstream calls they become."""

from __future__ import annotations

import threading
from pathlib import Path

from tests.stack import Stack
from tests.upstreams import UpstreamSimulator
from tests.waiting import until

AT_ONCE = 4


def test_choices_take_as_many_places_of_a_limit_of_calls_at_once(
    tmp_path: Path, upstream: UpstreamSimulator
) -> None:
    stack = Stack(tmp_path, upstream.base_url)
    statuses: list[int] = []
    try:
        stack.start()
        limit = {"kind": "rate", "measure": "concurrent", "amount": AT_ONCE}
        stack.admin("PUT", "/api/v1/limits/at-once", json=limit)
        until(lambda: stack.chat(n=AT_ONCE + 1).status_code == 429)
        assert "alone needs 5" in stack.chat(n=AT_ONCE + 1).json()["error"]["message"]
        upstream.reset()
        slow = threading.Thread(
            target=lambda: statuses.append(stack.chat(n=3, x_sim={"delay_s": 3}).status_code)
        )
        slow.start()
        until(lambda: bool(upstream.requests))
        assert stack.chat(n=2).status_code == 429
        assert stack.chat().status_code == 200, "there is one place left"
        slow.join()
        assert stack.chat(n=AT_ONCE).status_code == 200, "all are given back"
        assert statuses == [200]
    finally:
        stack.close()
