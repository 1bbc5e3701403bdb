"""The admin API in one process over SQLite, and people of chosen rights, for attacks on it."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
from fastapi import FastAPI
from fastapi.testclient import TestClient
from sqlalchemy import Engine, text

from tokenschain.control.api.app import create_app
from tokenschain.control.api.context import ApiContext
from tokenschain.control.billing.ledger import Ledger
from tokenschain.control.billing.limits import LeaseManager
from tokenschain.control.configuration.changes import Configurator
from tokenschain.control.identity import organization, roles, tokens, users
from tokenschain.control.moderation.review_queue import CaseBook
from tokenschain.core.log_events import silent
from tokenschain.core.snapshot import Snapshot, Upstream
from tokenschain.core.upstream_report import StepResult, Trial, UpstreamReport
from tokenschain.infra import catalog_file
from tokenschain.infra.config import Settings
from tokenschain.infra.config.access import AccessSettings
from tokenschain.infra.config.groups import ControlSettings
from tokenschain.infra.database import engine as db
from tokenschain.infra.security import secrets
from tokenschain.infra.security.secret_files import SecretFile
from tokenschain.infra.security.suite import INTERNATIONAL

OPERATOR = "tco-of-the-operator"
_numbers = itertools.count()


class Caller:
    """The admin API as one person sees it."""

    def __init__(self, client: TestClient, token: str, user_id: str) -> None:
        self._client = client
        self.token = token
        self.id = user_id

    def __call__(self, method: str, path: str, body: Any = None, **more: Any) -> httpx.Response:
        headers = {"authorization": f"Bearer {self.token}"}
        found: httpx.Response = self._client.request(
            method, f"/api/v1{path}", json=body, headers=headers, **more
        )
        return found


class Platform:
    """Control's admin API without a process of its own."""

    def __init__(self, engine: Engine, app: FastAPI, client: TestClient) -> None:
        self.engine = engine
        self.app = app
        self.client = client
        self.operator = Caller(client, OPERATOR, "platform")

    def person(
        self,
        tenant: str,
        role: str | None,
        *,
        over: str | None = None,
        kind: str = "user",
        token_kind: str = "session",
        password: str | None = None,
        stepped_up: bool = True,
        **where: Any,
    ) -> Caller:
        """Somebody with one role, signed in.

        Args:
            stepped_up: whether password and second factor were shown again a moment ago.
            over: the tenant that the role is over, if not the person's own.
        """
        email = f"p{next(_numbers)}@{tenant.replace('*', 'platform')}.example"
        with self.engine.begin() as connection:
            user_id = users.create_user(
                connection, tenant=tenant, email=email, name="P", kind=kind,
                password_hash=None if password is None else users.hash_password(password, AccessSettings()),
            )  # fmt: skip
            if role is not None:
                roles.bind(connection, user_id, role, tenant=over or tenant, **where)
            _, token = tokens.issue(connection, INTERNATIONAL, user_id, token_kind, "t", 3_600)
            if stepped_up and token_kind == "session":
                tokens.note_step_up(connection, INTERNATIONAL, token)
        return Caller(self.client, token, user_id)

    def with_token(self, token: str, user_id: str) -> Caller:
        """The admin API as a token's user sees it."""
        return Caller(self.client, token, user_id)

    def signed_in(self, user_id: str) -> Caller:
        """A user in a session."""
        with self.engine.begin() as connection:
            _, token = tokens.issue(connection, INTERNATIONAL, user_id, "session", "t", 3_600)
        return Caller(self.client, token, user_id)

    def rows(self, statement: str) -> list[tuple[Any, ...]]:
        """What the database says."""
        with self.engine.begin() as connection:
            return [tuple(row) for row in connection.execute(text(statement))]

    def have_tenants(self, *names: str) -> None:
        """Make tenants, with a project and an environment each."""
        with self.engine.begin() as connection:
            for name in names:
                organization.ensure(connection, name, "p1", "default")

    def unit(self, kind: str, tenant: str, name: str) -> str:
        """The id of a unit."""
        with self.engine.begin() as connection:
            found = organization.find(connection, kind, tenant, name)
        assert found is not None
        return str(found["id"])


class NothingTested:
    """In place of what reaches upstreams: no test leaves this machine."""

    async def test(
        self, upstream: Upstream, trial: Trial | None, stored: Mapping[str, str]
    ) -> UpstreamReport:
        return UpstreamReport((StepResult("credential", "skipped", f"{len(stored)} stored"),))


@contextmanager
def platform(folder: Path, oidc: Any = None, database: str | None = None) -> Iterator[Platform]:
    """An empty platform.

    Args:
        oidc: in place of the single sign-on's client.
        database: its URL; by default a SQLite file.
    """
    engine = db.connect(database or f"sqlite:///{folder / 'tokenschain.db'}")
    db.migrate(engine)
    snapshot = Snapshot("", {}, {})
    publisher: Any = SimpleNamespace(
        snapshot=snapshot,
        health={},
        engine_metrics={},
        revision=1,
        database_up=True,
        shared_secrets=("internal",),
    )
    often = ControlSettings(configuration_changes_per_minute_max=100_000)  # as tests change it
    settings = Settings(data_dir=folder, control=often)
    sealer = secrets.master_sealer(SecretFile(folder / "master"), INTERNATIONAL)
    context = ApiContext(
        engine,
        publisher,
        Ledger(engine),
        LeaseManager(engine),
        settings,
        Configurator(settings, catalog_file.load(), sealer, INTERNATIONAL, silent),
        sealer,
        INTERNATIONAL,
        OPERATOR,
        None,
        upstream_tester=NothingTested(),
    )
    nothing: Any = None
    app = create_app(context, nothing, CaseBook(engine, sealer, sealer), [], nothing, oidc)
    with TestClient(app, raise_server_exceptions=False) as client:
        yield Platform(engine, app, client)
    engine.dispose()
