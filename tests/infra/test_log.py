"""Log lines: JSON for machines, and no storm of the same event."""

from __future__ import annotations

import json
import subprocess
import sys

SCRIPT = """
from tokenschain.infra import log
log.configure("json")
logger = log.get(process="p")
for number in range(1000):
    logger.warning("again", number=number)
logger.warning("other", what="一")
"""


def test_one_line_a_second_of_each_event_as_json() -> None:
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True)
    lines = [json.loads(line) for line in done.stderr.splitlines()]
    assert [line["event"] for line in lines] == ["again", "other"]
    assert lines[0]["process"] == "p" and lines[0]["number"] == 0
    assert lines[1]["what"] == "一" and "一" in done.stderr


AFTERWARDS = """
import time
from tokenschain.infra import log
log.configure("json", "north-8000")
report = log.report(process="p")
for number in range(9):
    report("upstream_key_dead", "refused", upstream="a", key=1 + number % 2, number=number)
report("upstream_key_ready", upstream="a", key=1)
time.sleep(3 * log.REPEAT_S)
"""


def test_the_last_line_of_each_thing_comes_when_its_second_is_over() -> None:
    done = subprocess.run([sys.executable, "-c", AFTERWARDS], capture_output=True, text=True)
    lines = [json.loads(line) for line in done.stderr.splitlines()]
    assert {line["node"] for line in lines} == {"north-8000"}
    assert [(line["key"], line["level"]) for line in lines[:3]] == [
        (1, "warning"), (2, "warning"), (1, "info")
    ]  # fmt: skip
    assert sorted((li["key"], li["number"], li["repeated"]) for li in lines[3:]) == [
        (1, 8, 4), (2, 7, 3)
    ]  # fmt: skip
