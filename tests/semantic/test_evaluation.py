"""`tokenschain cache evaluate`, as its user runs it, and what its streams count."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

from tests.semantic.test_matcher import Letters
from tokenschain.semantic.evaluation import StreamCall, run
from tokenschain.semantic.verifier import Verifier

PAIRS = [
    ("How do I return a lamp?", "How can I return a lamp?", 1, "same"),
    ("怎么开通会员", "如何开通会员", 1, "same"),
    ("三天能到吗", "3天能到吗", 1, "same"),
    ("Where is my parcel?", "Where can I find my parcel?", 1, "same"),
    ("Refund within 30 days?", "Refund within 3 days?", 0, "number"),
    ("转账5000元要手续费吗", "转账5万元要手续费吗", 0, "number"),
    ("How do I enable the alarm?", "How do I disable the alarm?", 0, "negation"),
    ("从北京到上海的高铁", "从上海到北京的高铁", 0, "direction"),
]


def evaluate(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "tokenschain", "cache", "evaluate", *arguments],
        capture_output=True, text=True, env=os.environ | {"COLUMNS": "200"}, timeout=100,
    )  # fmt: skip


def test_a_file_of_pairs_is_weighed_shown_written_and_drawn(tmp_path: Path) -> None:
    file = tmp_path / "mine.jsonl"
    lines = [json.dumps({"a": a, "b": b, "y": y, "cat": kind}) for a, b, y, kind in PAIRS]
    file.write_text("\n".join(lines), "utf-8")
    done = evaluate("--data", str(file), "--out", str(tmp_path / "t.md"), "--plots", str(tmp_path))
    assert done.returncode == 0, done.stderr
    rows = {
        cells[1].strip(): [cell.strip() for cell in cells[2:]]
        for line in (tmp_path / "t.md").read_text("utf-8").splitlines()
        if len(cells := line.split("|")) > 4
    }
    served, wrong = rows["ours"][:2]
    assert float(served.rstrip("%")) >= 75 and float(wrong.rstrip("%")) == 0
    assert rows["number"][0] == "2" and rows["number"][2] == "0%"
    for name in ("cache-calibration", "cache-roc-mine"):
        picture = ElementTree.parse(tmp_path / f"{name}.svg")
        drawn = picture.findall(".//{http://www.w3.org/2000/svg}g[@id]")
        assert [part for part in drawn if part.attrib["id"].startswith("line2d")], name


def test_what_are_no_pairs_is_said(tmp_path: Path) -> None:
    file = tmp_path / "other.jsonl"
    file.write_text('{"question": "x"}\n', "utf-8")
    done = evaluate("--data", str(file))
    assert done.returncode == 2 and "not lines of" in done.stderr
    assert "Traceback" not in done.stderr


def test_what_exact_matching_would_have_served_alone_is_not_gained() -> None:
    """Each question in two ways: a way that got a semantic hit is stored nowhere, and asked again
    it is a semantic hit again, which exact matching alone would have had."""
    ways = ("where is my {0}{0}{0} parcel{1}", "my {0}{0}{0} parcel{1}, where is it")
    names = [(name, "?" * times) for times in range(5) for name in "abcdefghijklmnopqrstuvwxyz"]
    stream = [
        StreamCall(way.format(*name), name[0]) for name in names for way in (*ways, *ways[1:])
    ]  # fmt: skip
    ran = run(stream, Letters(), Verifier.shipped(), seed=1, false_hit_rate_max=0.1)
    alone = len(stream) - len({one.text for one in stream})
    assert ran.exact_alone == alone and ran.exact < alone < ran.exact + ran.semantic
    served = round(ran.hits * len(stream))
    assert ran.gained == pytest.approx((served - alone) / (len(stream) - 26 - alone))
    warmed = run(stream[:2], Letters(), Verifier.shipped(), seed=1, warmed=stream[:2])
    assert warmed.exact_alone == 2
