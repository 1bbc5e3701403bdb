"""Label commands: a file is labelled, verified, and found out when it was changed."""

from __future__ import annotations

import json
from pathlib import Path

from typer.testing import CliRunner, Result

from tokenschain.cli import app

CODE = "001191110108MA01KP2T5U00000"


def _run(*words: str) -> Result:
    return CliRunner().invoke(app, ["label", *words])


def test_a_file_is_labelled_verified_and_found_out_when_it_was_changed(tmp_path: Path) -> None:
    file = tmp_path / "a.md"
    file.write_text("# Title\n", "utf-8")
    assert _run("verify", str(file)).exit_code == 1, "there is no label"
    other = tmp_path / "b.md"
    written = _run("write", str(file), "--call", "req_1", "--producer", CODE, "--into", str(other))
    assert written.exit_code == 0, written.output
    assert file.read_text("utf-8") == "# Title\n"
    verified = _run("verify", str(other), "--output-format", "json")
    assert verified.exit_code == 0, verified.output
    (row,) = json.loads(verified.output)
    assert row == {"call": "req_1", "producer": CODE, "label": "1", "content": "unchanged"}
    other.write_text(other.read_text("utf-8").replace("Title", "Other"), "utf-8")
    changed = _run("verify", str(other))
    assert changed.exit_code == 1 and "changed" in changed.output
    file.write_bytes(b"\x00\x01")
    refused = _run("write", str(file), "--call", "req_1", "--producer", CODE)
    assert refused.exit_code == 2 and file.read_bytes() == b"\x00\x01"
    assert sorted(one.name for one in tmp_path.iterdir()) == ["a.md", "b.md"]


def test_a_file_that_a_label_would_break_stays_as_it_is(tmp_path: Path) -> None:
    for name, data in (("a.json", b"{}"), ("a.py", b"#!/usr/bin/python3\n"), ("a.docx", b"")):
        file = tmp_path / name
        file.write_bytes(data)
        refused = _run("write", str(file), "--call", "req_1", "--producer", CODE)
        assert refused.exit_code == 2 and "may break" in refused.output, refused.output
        assert file.read_bytes() == data
    plain = tmp_path / "a.txt"
    plain.write_text("x", "utf-8")
    to = ["--into", str(tmp_path / "b.json"), "--call", "req_1", "--producer", CODE]
    assert _run("write", str(plain), *to).exit_code == 2
    assert sorted(one.name for one in tmp_path.iterdir()) == ["a.docx", "a.json", "a.py", "a.txt"]
