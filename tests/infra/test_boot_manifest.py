"""Boot manifest: a file that was changed after the installation is named at the next start."""

from __future__ import annotations

import base64
import hashlib
import sys
from pathlib import Path

import pytest

from tokenschain.infra import boot_manifest


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package as pip leaves it."""
    package, info = tmp_path / "madeup", tmp_path / "madeup-1.0.dist-info"
    package.mkdir()
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: madeup\nVersion: 1.0\n")
    lines = []
    for name in ("__init__.py", "a.py"):
        (package / name).write_text(f"# {name}\n")
        raw = hashlib.sha256((package / name).read_bytes()).digest()
        digest = base64.urlsafe_b64encode(raw).rstrip(b"=").decode()
        lines.append(f"madeup/{name},sha256={digest},{(package / name).stat().st_size}")
    (info / "RECORD").write_text("\n".join([*lines, "madeup-1.0.dist-info/RECORD,,", ""]))
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    return package


def test_untouched_files_are_what_the_list_says(installed: Path) -> None:
    found = boot_manifest.look(None, "madeup")
    assert (found.files, found.changed, found.settings_file) == (2, (), "")
    assert len(found.record) == 64


def test_a_changed_and_a_missing_file_are_named(installed: Path) -> None:
    (installed / "a.py").write_text("# other\n")
    (installed / "__init__.py").unlink()
    found = boot_manifest.look(None, "madeup")
    assert set(found.changed) == {"madeup/a.py", "madeup/__init__.py"}


def test_the_settings_file_has_a_digest_of_its_own(tmp_path: Path) -> None:
    path = tmp_path / "tokenschain.yaml"
    path.write_text("server:\n  port: 1\n")
    one = boot_manifest.look(path, "no-such-package")
    path.write_text("server:\n  port: 2\n")
    other = boot_manifest.look(path, "no-such-package")
    assert (one.files, one.changed) == (0, ())
    assert len({one.settings_file, other.settings_file, ""}) == 3
