"""Audit commands: what is sealed is exported, verified, and its key shown."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path

import pytest

from tests.cli.shell import shell
from tests.records import record
from tokenschain.control.audit.log import SegmentSealer
from tokenschain.control.billing.ledger import Ledger
from tokenschain.core import call_record
from tokenschain.infra import config
from tokenschain.infra.database import engine as db
from tokenschain.infra.security import secret_files
from tokenschain.infra.security.note_keys import NoteSecret
from tokenschain.infra.security.suite import INTERNATIONAL


def test_a_bundle_is_exported_and_verified_with_a_key_that_was_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    with shell(monkeypatch, capsys, TOKENSCHAIN_DATA_DIR=str(tmp_path)) as run:
        settings = config.load()
        assert run("audit", "key").code, "there is no key yet"
        engine = db.connect(settings.database_url)
        db.migrate(engine)
        secret = NoteSecret(INTERNATIONAL, secret_files.read_or_make(settings.audit_key_path)[0])
        none = run("audit", "export", "none.tar")
        assert none.code and "nothing is sealed" in none.err and not Path("none.tar").exists()
        now = [1_790_000_000.0]
        sealer = SegmentSealer(engine, INTERNATIONAL, secret, 1.0, lambda: now[0])
        for number in range(3):
            Ledger(engine).ingest([call_record.encode(record(number))])
            assert sealer.seal() is not None
            now[0] += 1
        engine.dispose()
        printed = run("audit", "key").out
        key, _, note = printed.partition("\n\n")
        Path("kept").write_text(printed, "utf-8")
        digits = run("audit", "fingerprint", "kept").out
        Path("note").write_text(note, "utf-8")
        assert "segments: 3" in digits and run("audit", "fingerprint", "note").out == digits
        assert run("audit", "export", "log.tar").out.startswith("segments 0 to 2 of 3")
        asked = ("audit", "verify", "log.tar", "--key", key, "--former-checkpoint", "kept")
        done = run(*asked)
        assert done.code == 0 and json.loads(done.out)["records"] == 3
        data = Path("log.tar").read_bytes()
        Path("log.tar").write_bytes(data.replace(b'"count":1', b'"count":2', 1))
        done = run(*asked)
        assert done.code == 1 and json.loads(done.out)["problems"][0]["segment"] == 0
        Path("log.tar").write_bytes(b"else")
        assert run(*asked).code == 2


def test_the_key_is_rotated_and_the_log_verified_with_the_one_that_was_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    with shell(monkeypatch, capsys, TOKENSCHAIN_DATA_DIR=str(tmp_path)) as run:
        settings = config.load()
        secret = secret_files.read_or_make(settings.audit_key_path)[0]
        engine = db.connect(settings.database_url)
        db.migrate(engine)
        none_kept = ("audit", "fingerprint", "none")
        none = run("audit", "rotate-key")
        assert none.code and "nothing is sealed" in none.err
        SegmentSealer(engine, INTERNATIONAL, NoteSecret(INTERNATIONAL, secret), 1.0).seal()
        engine.dispose()
        kept = run("audit", "key").out.partition("\n")[0]
        new = run("audit", "rotate-key").out.partition("\n")[0]
        assert new != kept and run("audit", "key").out.startswith(new)
        assert secret not in settings.audit_key_path.read_text("utf-8")
        early = run("audit", "fingerprint", "--size", "1").out.splitlines()
        assert early[1] == "segments: 1" and run("audit", "fingerprint").out.splitlines() != early
        assert [len(group) for group in early[2].split(" ")] == [5] * 8
        assert run("audit", "fingerprint", "--size", "99").code and run(*none_kept).code
        assert run("audit", "export", "log.tar").code == 0
        report = json.loads(run("audit", "verify", "log.tar", "--key", kept).out)
        with tarfile.open("log.tar") as tar:
            found = tar.extractfile("checkpoint")
            assert found is not None
            Path("checkpoint").write_bytes(found.read())
        digits = run("audit", "fingerprint", "checkpoint").out.splitlines()[2]
        assert report["fingerprint"] == digits
        assert report["verified"] and [one["key"] for one in report["keys"]] == [kept, new]
