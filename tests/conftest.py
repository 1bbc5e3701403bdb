"""Shared fixtures; no test may reach beyond this machine."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest
from sqlalchemy import Engine

from tests.clouds import clouds  # noqa: F401 - a fixture
from tests.servers import Postgres, RedisStack
from tests.stack import EDGE, Stack
from tests.upstreams import UpstreamSimulator
from tokenschain.infra.database import engine as db
from tokenschain.infra.security.suite import SUITES, Suite

_connect = socket.socket.connect


def _guarded(self: socket.socket, address: Any) -> None:
    host = address[0] if isinstance(address, tuple) else "unix"
    if host not in ("127.0.0.1", "::1", "localhost", "unix"):
        raise AssertionError(f"a test tried to reach {host}")
    _connect(self, address)


@pytest.fixture(autouse=True, scope="session")
def _only_loopback() -> Iterator[None]:
    socket.socket.connect = _guarded  # type: ignore[method-assign]
    yield
    socket.socket.connect = _connect  # type: ignore[method-assign]


@pytest.fixture(scope="session")
def upstream() -> Iterator[UpstreamSimulator]:
    simulator = UpstreamSimulator()
    yield simulator
    simulator.close()


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory, upstream: UpstreamSimulator) -> Iterator[Stack]:
    """Control and gateway with short limits, shared by the tests that only call them."""
    made = Stack(
        tmp_path_factory.mktemp("stack"),
        upstream.base_url,
        server={
            "heartbeat_s": 0.4,
            "head_wait_max_s": 1.0,
            "body_grace_s": 1.0,
            "body_bytes_max": 2_000_000,
            "trusted_proxies": [f"{EDGE}/32"],
        },
        control={"trusted_proxies": [f"{EDGE}/32"]},
        limits={"first_byte_max_s": 2.0, "idle_max_s": 1.5, "total_max_s": 6.0},
    ).start()
    yield made
    made.close()


@pytest.fixture(scope="session")
def cached(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Stack, UpstreamSimulator]]:
    """Control and gateway that give answers a second time, at half the price."""
    simulator = UpstreamSimulator()
    rules = {"mode": "exact", "hit_price": 0.5, "mode_overrides": {"tenant/plain": "off"}}
    made = Stack(tmp_path_factory.mktemp("cached"), simulator.base_url, cache=rules).start()
    yield made, simulator
    made.close()
    simulator.close()


@pytest.fixture
def own_stack(tmp_path: Path, upstream: UpstreamSimulator) -> Iterator[Any]:
    """Makes stacks that a test may break."""
    made: list[Stack] = []

    def make(**settings: Any) -> Stack:
        made.append(Stack(tmp_path / f"stack{len(made)}", upstream.base_url, **settings))
        return made[-1]

    yield make
    for stack in made:
        stack.close()


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    server = Postgres()
    yield server
    server.close()


@pytest.fixture(scope="session")
def redis() -> Iterator[RedisStack]:
    server = RedisStack()
    yield server
    server.close()


@pytest.fixture(params=SUITES, ids=lambda suite: suite.name)
def suite(request: pytest.FixtureRequest) -> Suite:
    """Each cryptographic suite."""
    return cast("Suite", request.param)


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A fresh database of each kind."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'x.db'}"
    return str(request.getfixturevalue("postgres").database())


@pytest.fixture
def engine(database: str) -> Iterator[Engine]:
    """The same, with its tables."""
    made = db.connect(database)
    db.migrate(made)
    yield made
    made.dispose()
