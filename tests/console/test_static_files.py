"""Static files: third-party files from wheels, icons, and pages without them."""

from __future__ import annotations

import os
import zipfile
from hashlib import sha256
from pathlib import Path

import pytest

from tests.console.visitors import Browser, House, Page, unseen
from tokenschain.console import browser_files
from tokenschain.console.app import Console, ConsoleSettings
from tokenschain.console.browser_files import BrowserFile
from tokenschain.console.navigation import PAGE_ICONS
from tokenschain.console.rendering import TEMPLATES
from tokenschain.console.static_files import icons_in
from tokenschain.infra.security.suite import INTERNATIONAL
from tokenschain.infra.wheels import PinnedWheel, WheelUnavailable

CACHE = Path(os.environ.get("TEST_MODEL_CACHE", Path.home() / ".cache" / "tokenschain")) / "browser"


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> BrowserFile:
    """A file in a wheel that only pip's own settings lead to."""
    mirror = tmp_path / "mirror"
    mirror.mkdir()
    wheel, info = mirror / "tiny_js-1.0-py3-none-any.whl", "tiny_js-1.0.dist-info"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("tiny/tiny.js", b"1")
        archive.writestr(f"{info}/LICENSE", b"MIT")
        archive.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: tiny-js\nVersion: 1.0\n")
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")
    pinned = PinnedWheel(
        "tiny-js", "1.0", wheel.stat().st_size, sha256(wheel.read_bytes()).hexdigest()
    )
    made = BrowserFile(
        "tiny.js", pinned, "tiny/tiny.js", sha256(b"1").hexdigest(), f"{info}/LICENSE"
    )
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(mirror))
    return made


def test_a_file_is_fetched_once_with_its_licence(
    tmp_path: Path, file: BrowserFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(browser_files, "FILES", (file,))
    folder = browser_files.folder_in(tmp_path / "data")
    browser_files.fetch(folder, lambda _done, _total: None)
    assert sorted(path.name for path in folder.iterdir()) == ["tiny.js", "tiny.js.LICENSE"]
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "nowhere"))
    browser_files.fetch(folder, lambda _done, _total: None)
    assert browser_files.missing(folder) == []


def test_another_file_than_the_pinned_one_is_thrown_away(
    tmp_path: Path, file: BrowserFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(browser_files, "FILES", (file._replace(sha256="0" * 64),))
    folder = browser_files.folder_in(tmp_path)
    with pytest.raises(WheelUnavailable, match="pinned SHA-256"):
        browser_files.fetch(folder, lambda _done, _total: None)
    assert not (folder / "tiny.js").exists()


def test_pages_work_without_third_party_files(house: House, tmp_path: Path) -> None:
    settings = ConsoleSettings(None, False, "http://127.0.0.1:8000/v1", tmp_path)
    console = Console(house.platform.app, settings, INTERNATIONAL, unseen)
    person = house.platform.person("alpha", "developer")
    reply = Browser(console, person.token).get("/console")
    assert reply.status_code == 200
    page = Page(reply.text)
    assert [one["src"] for one in page.all("script") if one.get("src")] == [
        console.address_of("console.js")
    ]
    assert "wordy" in str(page.all("body")[0].get("class")), "buttons show words in place of icons"


@pytest.mark.skipif(not (CACHE / browser_files.ICONS).is_file(), reason="`make test` fetches them")
def test_each_icon_that_pages_draw_is_there() -> None:
    names = icons_in(TEMPLATES) | PAGE_ICONS
    sprite = browser_files.sprite(CACHE, names)
    assert sprite is not None
    assert {name for name in names if f'id="{name}"'.encode() not in sprite} == set()
    assert b"<script" not in sprite and b" style=" not in sprite
