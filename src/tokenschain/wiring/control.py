"""Wiring of the control process."""

from __future__ import annotations

import socket
import time
from functools import partial
from ipaddress import ip_network

import uvicorn
from fastapi import FastAPI
from sqlalchemy import Engine

from tokenschain.control.api.app import create_app
from tokenschain.control.api.context import ApiContext
from tokenschain.control.billing.ledger import Ledger
from tokenschain.control.billing.limits import LeaseManager
from tokenschain.control.cache.semantic_client import SemanticProcesses
from tokenschain.control.identity.oidc import Oidc, OidcClient
from tokenschain.control.maintenance import Maintenance
from tokenschain.control.observability.alerts import Mail, Sender
from tokenschain.control.publisher import Publisher
from tokenschain.control.response_archive import ResponseArchive
from tokenschain.infra import catalog_file, log
from tokenschain.infra.config import Settings
from tokenschain.infra.control_channel.signatures import Signatures
from tokenschain.infra.database import engine as db
from tokenschain.infra.egress import PublicResolver
from tokenschain.infra.security import secret_files, secrets
from tokenschain.infra.security.secret_files import SecretFile
from tokenschain.infra.security.suite import INTERNATIONAL, Sealer
from tokenschain.wire.client import HttpClient

_DRAIN_MAX_S = 5


def run(settings: Settings) -> None:
    """Serve the admin API and the internal channel until SIGTERM or SIGINT."""
    log.configure(settings.log_format)
    engine = db.connect(settings.database_url, settings.database.connections_max)
    db.migrate(engine)
    _build(settings, engine).run()


def _build(settings: Settings, engine: Engine) -> _ControlServer:
    """Control's parts over the database."""
    suite = INTERNATIONAL
    publisher = Publisher(engine, settings, catalog_file.load(), suite, _warn)
    ledger = Ledger(engine)
    ledger.follow(publisher.snapshot)
    publisher.changed.append(ledger.follow)
    lease_manager = LeaseManager(engine)
    sealer = secrets.master_sealer(settings.master_key_path, suite)
    vault = secrets.Vault(settings.vault_path, settings.master_key_path, suite)
    archive = ResponseArchive(engine, sealer, settings.database.response_ttl_s)
    internal = SecretFile(settings.internal_secret_path, _warn)
    signatures = Signatures(suite, internal, time.time)
    semantic = (
        SemanticProcesses(settings.semantic_base_urls, signatures, HttpClient())
        if settings.cache.compares_meanings
        else None
    )
    maintenance = Maintenance(
        engine,
        ledger,
        lease_manager,
        archive,
        _alert_sender(settings, engine, sealer, vault),
        settings.database.ledger_days,
        _warn,
        semantic,
    )
    context = ApiContext(
        engine,
        publisher,
        ledger,
        lease_manager,
        settings,
        sealer,
        suite,
        secret_files.read_or_make(settings.operator_token_path)[0],
        semantic,
    )
    app = create_app(
        context,
        archive,
        [publisher.run, maintenance.run],
        signatures,
        _single_sign_on(settings, sealer, vault),
    )
    return _ControlServer(_server_config(settings, app), publisher)


def _alert_sender(
    settings: Settings, engine: Engine, sealer: Sealer, vault: secrets.Vault
) -> Sender:
    smtp = settings.smtp
    mail = Mail(
        smtp.host,
        smtp.port,
        smtp.user,
        partial(_secret, smtp.password, vault),
        smtp.sender,
        smtp.tls,
    )
    allowed = [ip_network(network) for network in settings.alerts.networks]
    return Sender(engine, sealer, HttpClient(resolver=PublicResolver(allowed)), mail, _warn)


def _single_sign_on(settings: Settings, sealer: Sealer, vault: secrets.Vault) -> Oidc:
    oidc = settings.oidc
    public = settings.control.public_url or settings.control_base_url
    agreed = OidcClient(
        oidc.issuer,
        oidc.client_id,
        partial(_secret, oidc.client_secret, vault),
        f"{public}/api/v1/oidc/callback",
        oidc.groups_claim,
    )
    return Oidc(agreed, HttpClient(), sealer)


def _server_config(settings: Settings, app: FastAPI) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        host=settings.control.host,
        port=settings.control.port,
        log_config=None,
        access_log=False,
        timeout_graceful_shutdown=_DRAIN_MAX_S,
        server_header=False,
        proxy_headers=bool(settings.control.trusted_proxies),
        forwarded_allow_ips=list(settings.control.trusted_proxies),
    )


def _secret(reference: str | None, vault: secrets.Vault) -> str | None:
    return None if reference is None else secrets.resolve(reference, vault)


def _warn(event: str, why: str) -> None:
    log.get(process="control").warning(event, why=why)


class _ControlServer(uvicorn.Server):
    """Lets waiting snapshot polls go before it waits for connections to end."""

    def __init__(self, config: uvicorn.Config, publisher: Publisher) -> None:
        super().__init__(config)
        self._publisher = publisher

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        await self._publisher.close()
        await super().shutdown(sockets)
