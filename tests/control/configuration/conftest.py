"""A configuration in a database, with two tenants."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from sqlalchemy import Engine

from tokenschain.control.audit.admin_log import Author
from tokenschain.control.configuration.changes import Change, Configurator, Outcome, State
from tokenschain.control.configuration.resources import Kind, ResourceKey
from tokenschain.control.identity import organization
from tokenschain.core.log_events import silent
from tokenschain.infra import catalog_file
from tokenschain.infra.config import Settings
from tokenschain.infra.database import engine as db
from tokenschain.infra.security.suite import INTERNATIONAL, Sealer

ALICE = Author("alice")


def upstream(*models: str, **fields: Any) -> dict[str, Any]:
    """The spec of an upstream that sells these models."""
    return {
        "base_url": "https://models.example/v1", "zone": "cn", "models": list(models),
        "prices": {model: {"input": "1", "output": "2"} for model in models},
    } | fields  # fmt: skip


class Platform(NamedTuple):
    """A database and what changes its configuration."""

    engine: Engine
    configurator: Configurator

    def put(self, kind: Kind, name: str, values: object, tenant: str = "", **how: Any) -> Outcome:
        """Set one resource; None removes it."""
        return self.change([Change(ResourceKey(kind, tenant, name), values)], **how)

    def change(self, wanted: list[Change], **how: Any) -> Outcome:
        """Make changes as Alice."""
        with self.engine.begin() as connection:
            return self.configurator.change(connection, ALICE, wanted, **how)

    @property
    def state(self) -> State:
        """What is in force."""
        with self.engine.begin() as connection:
            return self.configurator.current(connection)


@pytest.fixture
def platform(tmp_path: Path) -> Iterator[Platform]:
    engine = db.connect(f"sqlite:///{tmp_path / 'tokenschain.db'}")
    db.migrate(engine)
    with engine.begin() as connection:
        for tenant in ("acme", "beta"):
            organization.ensure(connection, tenant, "p1", "default")
    yield Platform(engine, configurator(tmp_path))
    engine.dispose()


def configurator(folder: Path, *, runs_engine: bool = False) -> Configurator:
    """Of a platform, usually without an engine of its own."""
    settings = Settings(data_dir=folder, engine=Settings().engine.__class__(enabled=runs_engine))
    sealer = Sealer(INTERNATIONAL, lambda: ("m" * 43,), lambda _, one: INTERNATIONAL.digest(
        one.encode()))  # fmt: skip
    return Configurator(settings, catalog_file.load(), sealer, INTERNATIONAL, silent)
