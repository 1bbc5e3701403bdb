"""Key store of a device by its SDF library, here a simulated one."""

from __future__ import annotations

import base64
import ctypes
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.infra.security.sdf import compiled
from tokenschain.infra.security.sdf_store import SdfStore
from tokenschain.infra.security.secret_files import SecretFileRefused

WORD = "m" * 43


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compiled(tmp_path_factory.mktemp("sdf"))


@pytest.fixture(autouse=True)
def closed(library: Path) -> Iterator[None]:
    """Nothing of the device is left open, whatever happened."""
    yield
    assert ctypes.CDLL(str(library)).simulated_open() == 0


@pytest.mark.parametrize("length", [32, 43, 47, 48, 400])
def test_a_secret_comes_back_from_the_device_alone(library: Path, length: int) -> None:
    store, word = SdfStore(library, 1), "k" * length
    line = store.wrap(word)
    assert line.startswith("wrapped:sdf:1:") and line != store.wrap(word)
    assert word.encode() not in b"".join(base64.b64decode(p) for p in line.split(":")[3:])
    assert store.unwrap(line) == word
    assert SdfStore(library, 2).unwrap(line) == word, "the line says which key"


def test_another_key_and_a_changed_line_are_found(library: Path) -> None:
    store = SdfStore(library, 1)
    line = store.wrap(WORD)
    mark, kind, number, key, iv, sealed = line.split(":")
    flipped = base64.b64encode(bytes([base64.b64decode(iv)[0] ^ 1]) + base64.b64decode(iv)[1:])
    for changed in (
        f"{mark}:{kind}:2:{key}:{iv}:{sealed}",
        f"{mark}:{kind}:{number}:{iv}:{iv}:{sealed}",
        f"{mark}:{kind}:{number}:{key}:{flipped.decode()}:{sealed}",
        f"{mark}:{kind}:{number}:{key}:{iv}:{iv}",
    ):
        with pytest.raises(SecretFileRefused, match="another device or key"):
            store.unwrap(changed)
    for none in ("wrapped:sdf:", "wrapped:sdf:x:AAAA:AAAA:AAAA", f"{mark}:{kind}:1:{key}:{iv}:",
                 f"{mark}:{kind}:1:{key}:AAAA:{sealed}"):  # fmt: skip
        with pytest.raises(SecretFileRefused, match="did not write"):
            store.unwrap(none)
    with pytest.raises(SecretFileRefused, match="is `sdf`"):
        store.unwrap("wrapped:passphrase:gm:16:AAAA")
    with pytest.raises(SecretFileRefused, match="crypto wrap"):
        store.unwrap(WORD)


def test_what_the_device_refuses_is_said(library: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = SdfStore(library, 1)
    with pytest.raises(SecretFileRefused, match="no key encryption key of this number"):
        SdfStore(library, 3).wrap(WORD)
    with pytest.raises(SecretFileRefused, match="0x01000010"):
        store.unwrap(store.wrap(WORD).replace(":1:", ":1:AAAA", 1))
    for fault, why in (
        ("no-device", "cannot be opened"),
        ("no-session", "no more sessions"),
        ("broken", "is broken"),
    ):
        monkeypatch.setenv("SIMULATED_SDF", fault)
        with pytest.raises(SecretFileRefused, match=why):
            store.wrap(WORD)


def test_what_is_no_such_library_is_refused(tmp_path: Path) -> None:
    for path in (tmp_path / "none.so", Path("libc.so.6")):
        with pytest.raises(SecretFileRefused, match="no SDF library"):
            SdfStore(path, 1)
