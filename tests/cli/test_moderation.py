"""Moderation commands: a text is tested, a pack is checked, signed and compared."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tokenschain import cli
from tokenschain.infra.security.pack_signatures import is_signed


def test_a_text_is_tested_and_a_pack_signed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOKENSCHAIN_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("TOKENSCHAIN_LANG", "en")

    def run(*words: str) -> str:
        ended = CliRunner().invoke(cli.app, ["moderation", *words])
        assert ended.exit_code == 0, (ended.output, ended.exception)
        return ended.output

    rows = json.loads(run("test", "违 规测试词甲，打13800138000", "-o", "json"))
    found = {(row["stage"], row["rule"], row["text"]) for row in rows}
    assert ("rules", "seed#13", "违 规测试词甲") in found
    assert ("personal data", "mobile", "138****8000") in found
    (opinion,) = [row for row in rows if row["stage"] == "classifier"]
    assert opinion["level"] == "none" and 0 < float(opinion["rule"]) < 0.5
    key, pack = tmp_path / "key", tmp_path / "made.json"
    public = run("new-key", str(key), "--suite", "gm").strip()
    assert public.startswith("sm2:B")
    assert key.stat().st_mode & 0o077 == 0
    given = {
        "name": "made", "version": "1", "author": "one", "reviewer": "two",
        "expires": "2999-01-01", "words": [],
    }  # fmt: skip
    pack.write_text(json.dumps(given))
    assert "made.json.sig" in run("sign", str(pack), "--key", str(key))
    signature = (tmp_path / "made.json.sig").read_bytes()
    assert is_signed(pack.read_bytes(), signature, [public])
    assert "10000" in run("coverage", str(pack))
    pack.write_text("{}")
    assert (
        CliRunner().invoke(cli.app, ["moderation", "sign", str(pack), "--key", str(key)]).exit_code
    )
