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
