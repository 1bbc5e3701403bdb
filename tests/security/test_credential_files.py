"""Credentials in files: none that others can read, and nothing that is no file is waited for."""

from __future__ import annotations

import os
import ssl
import threading
from pathlib import Path

import pytest

from tests.stack import Stack
from tests.upstreams import UpstreamSimulator
from tests.waiting import until
from tokenschain.infra.config import Settings
from tokenschain.infra.config.groups import TlsSettings
from tokenschain.infra.security.secret_files import SecretFileRefused
from tokenschain.infra.security.secrets import SecretMissing, resolve
from tokenschain.wiring import gateway

KEY = "sk-of-the-cloud"


def written(path: Path, text: str | bytes = KEY, mode: int = 0o600) -> Path:
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    path.chmod(mode)
    return path


@pytest.mark.parametrize("mode", [0o600, 0o400, 0o700])
def test_a_file_of_its_owner_is_read_through_a_link_too(tmp_path: Path, mode: int) -> None:
    """As Kubernetes mounts it."""
    path = written(tmp_path / "key", f" {KEY}\n", mode)
    (tmp_path / "link").symlink_to(path)
    assert resolve(f"file:{path}") == resolve(f"file:{tmp_path}/link") == KEY


@pytest.mark.parametrize("mode", [0o640, 0o644, 0o620, 0o604, 0o602, 0o610, 0o666])
def test_a_file_that_others_may_reach_is_refused_with_what_to_do(tmp_path: Path, mode: int) -> None:
    path = written(tmp_path / "key", mode=mode)
    with pytest.raises(SecretMissing, match="chmod 600") as refused:
        resolve(f"file:{path}")
    assert KEY not in str(refused.value)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_another_users_file_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path / "key")
    os.chown(path, 12_345, 12_345)
    with pytest.raises(SecretMissing, match="chown"):
        resolve(f"file:{path}")


def _pipe(path: Path) -> None:
    os.mkfifo(path, 0o600)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda path: path.symlink_to("/dev/null"), "no file"),
        (lambda path: path.symlink_to("/dev/zero"), "no file"),
        (_pipe, "no file"),
        (lambda path: path.mkdir(mode=0o700), "no file"),
        (lambda path: path.symlink_to(path), "cannot be read"),
        (lambda path: written(path, "x" * 65_537), "65536 bytes"),
        (lambda path: written(path, b"\xff\xfe"), "no text"),
        (lambda path: written(path, f"{KEY}\r\nx-other: 1"), "one line"),
        (lambda path: written(path, f"{KEY}\0"), "one line"),
    ],
)  # fmt: skip
def test_what_is_no_file_of_one_line_is_refused_at_once(
    tmp_path: Path, make: object, says: str
) -> None:
    assert callable(make)
    make(tmp_path / "key")
    said: list[str] = []

    def ask() -> None:
        try:
            resolve(f"file:{tmp_path}/key")
        except SecretMissing as error:
            said.append(str(error))

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(20)  # a pipe without a writer would be waited for without an end
    assert said and says in said[0] and KEY not in said[0]


def test_a_gateway_says_what_to_do_and_serves_once_it_is_done(
    tmp_path: Path, upstream: UpstreamSimulator
) -> None:
    key = written(tmp_path / "key", mode=0o644)
    credential = {"credential": f"file:{key}"}
    stack = Stack(tmp_path / "stack", upstream.base_url, limits=credential)
    try:
        stack.start()
        assert stack.chat().status_code == 503
        assert "chmod 600" in stack.read_log() and KEY not in stack.read_log()
        key.chmod(0o600)
        until(lambda: stack.chat().status_code == 200)
    finally:
        stack.close()


@pytest.mark.parametrize("mode", [0o640, 0o644, 0o620, 0o602])
def test_a_gateway_does_not_speak_https_with_a_key_that_others_may_reach(
    tmp_path: Path, mode: int
) -> None:
    files = {"certificate_file": tmp_path / "chain.pem", "key_file": tmp_path / "key.pem"}
    for path in files.values():
        written(path, "no certificate", mode)
    settings = Settings(data_dir=tmp_path, tls=TlsSettings(**files))
    with pytest.raises(SecretFileRefused, match="chmod 600"):
        gateway._server_tls(settings)
    files["key_file"].chmod(0o600)
    with pytest.raises(ssl.SSLError):  # now it is read
        gateway._server_tls(settings)
