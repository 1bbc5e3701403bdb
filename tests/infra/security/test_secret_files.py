"""Secret files are long, private, made once, and read again when they change."""

from __future__ import annotations

import os
import stat
import threading
from pathlib import Path

import pytest

from tests.waiting import until
from tokenschain.infra.security import secret_files
from tokenschain.infra.security.secret_files import CHARACTERS_MIN, SecretFile, SecretFileRefused

LONG = "x" * CHARACTERS_MIN


def put(path: Path, text: str, mode: int = 0o600) -> Path:
    path.write_text(text)
    path.chmod(mode)
    return path


@pytest.mark.parametrize(
    ("text", "mode", "says"),
    [
        ("", 0o600, "openssl rand"),
        ("x", 0o600, "fewer than 32 characters"),
        (f"{LONG[1:]}\n", 0o600, "fewer than 32 characters"),
        (f"{LONG}\nshort\n", 0o600, "fewer than 32 characters"),
        (f"{LONG}\n" * 5, 0o600, "more than 4"),
        (LONG, 0o644, "chmod 600"),
        (LONG, 0o640, "chmod 600"),
        (LONG, 0o606, "chmod 600"),
    ],
)
def test_weak_and_open_files_are_refused_with_what_to_do(
    tmp_path: Path, text: str, mode: int, says: str
) -> None:
    path = put(tmp_path / "secret", text, mode)
    for read in (secret_files.read, secret_files.read_or_make):
        with pytest.raises(SecretFileRefused, match=says) as refused:
            read(path)
        assert "xxx" not in str(refused.value)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_another_users_file_is_refused(tmp_path: Path) -> None:
    path = put(tmp_path / "secret", LONG)
    os.chown(path, 12_345, 12_345)
    with pytest.raises(SecretFileRefused, match="chown"):
        secret_files.read(path)


def test_the_first_line_is_in_force_and_a_change_is_noticed(tmp_path: Path) -> None:
    now, said = [0.0], []
    path = tmp_path / "secret"
    file = SecretFile(path, lambda event, _: said.append(event), lambda: now[0])
    first = file()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600 and file() is first
    new = secret_files.new_secret()
    secret_files.write(path, (new, *first))
    assert file() is first, "it looks once a second"
    now[0] += 2 * secret_files.REREAD_S
    assert file() == (new, *first)
    put(path, "short")
    now[0] += 2 * secret_files.REREAD_S
    assert file() == (new, *first) and said == ["secret_file_refused"]
    path.unlink()
    now[0] += 2 * secret_files.REREAD_S
    assert file() == (new, *first)
    assert stat.S_IMODE(put(path, new).stat().st_mode) == 0o600
    now[0] += 2 * secret_files.REREAD_S
    assert file() == (new,)


class FarStore:
    """Answers when it may."""

    def __init__(self) -> None:
        self.away, self.may_answer = False, threading.Event()
        self.may_answer.set()

    def wrap(self, secret: str) -> str:
        return secret_files.WRAPPED + secret

    def unwrap(self, line: str) -> str:
        assert self.may_answer.wait(30)
        if self.away:
            raise SecretFileRefused("away")
        return line.removeprefix(secret_files.WRAPPED)


def test_nothing_waits_for_a_key_store_but_the_start(tmp_path: Path) -> None:
    now, store, path = [0.0], FarStore(), tmp_path / "secret"
    file = SecretFile(path, clock=lambda: now[0], store=store)
    first, new = file(), secret_files.new_secret()
    store.may_answer.clear()
    secret_files.write(path, (store.wrap(new), *map(store.wrap, first)))
    for _ in range(3):
        now[0] += 2 * secret_files.REREAD_S
        assert file() == first
    # It changes while the store is asked about it.
    secret_files.write(path, (store.wrap(new),))
    store.may_answer.set()

    def is_new() -> bool:
        now[0] += 2 * secret_files.REREAD_S
        return file() == (new,)

    until(is_new)


def test_a_key_store_that_was_away_is_asked_again(tmp_path: Path) -> None:
    now, said, store = [0.0], list[str](), FarStore()
    path = tmp_path / "secret"
    file = SecretFile(path, lambda event, _: said.append(event), lambda: now[0], store)
    first, new = file(), secret_files.new_secret()
    store.away = True
    secret_files.write(path, (store.wrap(new), *map(store.wrap, first)))
    now[0] += secret_files.REREAD_S
    assert file() == first
    until(lambda: said == ["secret_file_refused"])

    def is_new() -> bool:
        now[0] += secret_files.ASK_AGAIN_S
        return file() == (new, *first)

    assert not is_new()
    store.away = False
    until(is_new)
    assert said == ["secret_file_refused"]
