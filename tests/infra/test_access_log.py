"""Access log: every call once, in order, within bounds, whatever the disk does."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tokenschain.core.call_record import AttemptRecord, CallRecord
from tokenschain.core.redaction import Redactor
from tokenschain.infra import access_log
from tokenschain.infra.access_log import AccessLog

KEY = "sk-proj-0123456789abcdef0123456789abcdef"


def record(number: int, **fields: Any) -> CallRecord:
    made = CallRecord(f"req_{number:03}", 1_790_000_000_000, "chat/completions")
    made.tenant, made.project, made.key_id = "acme", "faq", "key_7"
    made.model_asked = made.model_served = "m"
    made.upstream, made.status, made.outcome = "qwen", 200, "ok"
    made.attempts = [AttemptRecord("qwen", 0.5, 41.25)]
    made.total_ms = 1_500.0
    for name, value in fields.items():
        setattr(made, name, value)
    return made


def log_to(
    target: Path, report: Callable[..., None] = lambda event, why="", **fields: None, **more: Any
) -> AccessLog:
    return AccessLog(str(target), "north", "gateway-0", Redactor().secret_free, report, **more)


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def test_a_file_that_cannot_be_written_costs_no_line_until_the_queue_is_full(
    tmp_path: Path,
) -> None:
    path, told = tmp_path / "away" / "access.log", []
    log = log_to(path, lambda event, why="", **fields: told.append((event, why, fields)),
                 waiting_max=5)  # fmt: skip

    async def fails_and_goes_on() -> None:
        for number in range(3):
            log.note(record(number))
        await log._write_waiting()
        await log._write_waiting()
        for number in range(3, 7):
            log.note(record(number))
        path.parent.mkdir()
        await log.close()

    asyncio.run(fails_and_goes_on())
    assert [line["call"] for line in lines(path)] == [f"req_{n:03}" for n in range(5)]
    assert [event for event, _, _ in told] == ["access_log_paused", "access_log_resumed"]
    assert "No such file" in told[0][1] and told[1][2] == {"dropped": 2}
    assert path.stat().st_mode & 0o077 == 0


def test_a_line_says_who_called_and_what_became_of_it_and_holds_no_credential(
    tmp_path: Path,
) -> None:
    path = tmp_path / "access.log"
    log = log_to(path)
    log.note(record(1, finish_reason="stop", prompt_tokens=7))
    log.note(record(2, model_asked=f"x\n{KEY}", model_served="", upstream="", attempts=[],
                    status=404, outcome="model_not_found", error="model_not_found"))  # fmt: skip
    asyncio.run(log.close())
    one, other = lines(path)
    assert one == {
        "event": "call", "level": "info", "timestamp": "2026-09-21T14:13:21.500+00:00",
        "node": "north", "process": "gateway-0", "call": "req_001", "key": "key_7",
        "tenant": "acme", "project": "faq", "api": "chat/completions", "model": "m",
        "model_served": "m", "upstream": "qwen", "attempts": 1, "status": 200, "outcome": "ok",
        "error": "", "finish_reason": "stop", "streamed": False, "cache": "bypass",
        "prompt_tokens": 7, "cached_tokens": 0, "completion_tokens": 0, "first_byte_ms": 41.25,
        "total_ms": 1500.0, "bytes_in": 0, "bytes_out": 0,
    }  # fmt: skip
    assert other["first_byte_ms"] is None and other["error"] == "model_not_found"
    assert KEY not in path.read_text("utf-8")


def test_a_file_that_was_moved_away_is_begun_anew(tmp_path: Path) -> None:
    path = tmp_path / "access.log"
    log = log_to(path)

    async def rotated() -> None:
        log.note(record(1))
        await log._write_waiting()
        path.rename(tmp_path / "access.log.1")
        log.note(record(2))
        await log.close()

    asyncio.run(rotated())
    assert [line["call"] for line in lines(path)] == ["req_002"]


@pytest.mark.parametrize("bytes_max", [1, 10, 4_096])
def test_lines_are_joined_whole(bytes_max: int) -> None:
    given = [b"12345\n", b"123456789\n", b"1\n", b"2\n"]
    joined = list(access_log._joined(given, bytes_max))
    assert b"".join(joined) == b"".join(given)
    assert all(text.endswith(b"\n") for text in joined)
    assert all(len(text) <= max(bytes_max, 10) for text in joined)


TO_STANDARD_ERROR = """
import asyncio
from tests.infra.test_access_log import log_to, record
log = log_to("stderr")
for number in range(100):
    log.note(record(number))
asyncio.run(log.close())
"""


def test_standard_error_gets_the_lines_too() -> None:
    done = subprocess.run(
        [sys.executable, "-c", TO_STANDARD_ERROR], capture_output=True, check=True
    )
    assert [json.loads(line)["call"] for line in done.stderr.splitlines()] == [
        f"req_{number:03}" for number in range(100)
    ]
