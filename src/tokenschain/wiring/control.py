"""The control plane's process."""

from __future__ import annotations

import socket
from ipaddress import ip_network

import uvicorn

from tokenschain.control.api.app import create_app
from tokenschain.control.api.context import ApiContext
from tokenschain.control.billing.ledger import Ledger
from tokenschain.control.billing.limits import LeaseManager
from tokenschain.control.cache.semantic_client import Insight
from tokenschain.control.identity.oidc import Oidc, OidcSettings
from tokenschain.control.maintenance import Maintenance
from tokenschain.control.observability.alerts import Mail, Sender
from tokenschain.control.publisher import Publisher
from tokenschain.control.response_archive import ResponseArchive
from tokenschain.infra import catalog_file, log
from tokenschain.infra.config import Settings
from tokenschain.infra.database import engine as db
from tokenschain.infra.egress import PublicResolver
from tokenschain.infra.security import secrets
from tokenschain.infra.security.suite import INTERNATIONAL, Signer
from tokenschain.wire.client import HttpClient

_DRAIN_MAX_S = 5


def run(settings: Settings) -> None:
    """Serve the admin API and the internal channel until SIGTERM or SIGINT."""
    log.configure(settings.log_format)
    logger = log.get(process="control")
    engine = db.connect(settings.database_url, settings.database.connections_max)
    db.migrate(engine)
    report = lambda event, why: logger.warning(event, why=why)  # noqa: E731
    suite = INTERNATIONAL
    publisher = Publisher(engine, settings, catalog_file.load(), suite, report)
    ledger = Ledger(engine)
    ledger.follow(publisher.snapshot)
    publisher.changed.append(ledger.follow)
    lease_manager = LeaseManager(engine)
    sealer = secrets.master_sealer(settings.master_key_path, suite)
    archive = ResponseArchive(engine, sealer, settings.database.response_ttl_s)
    vault = secrets.Vault(settings.vault_path, settings.master_key_path, suite)
    allowed = [ip_network(network) for network in settings.alerts.networks]
    sender = Sender(
        engine,
        sealer,
        HttpClient(resolver=PublicResolver(allowed)),
        Mail(
            settings.smtp.host,
            settings.smtp.port,
            settings.smtp.user,
            lambda: _secret(settings.smtp.password, vault),
            settings.smtp.sender,
            settings.smtp.tls,
        ),
        report,
    )
    public = settings.control.public_url or settings.control_base_url
    oidc = Oidc(
        OidcSettings(
            settings.oidc.issuer,
            settings.oidc.client_id,
            lambda: _secret(settings.oidc.client_secret, vault),
            f"{public}/api/v1/oidc/callback",
            settings.oidc.groups_claim,
        ),
        HttpClient(),
        sealer,
    )
    signer = Signer(suite, secrets.read_or_make(settings.internal_secret_path))
    insight = (
        Insight(settings.semantic_base_urls, signer, HttpClient())
        if settings.cache.compares_meanings
        else None
    )
    maintenance = Maintenance(
        engine,
        ledger,
        lease_manager,
        archive,
        sender,
        settings.database.ledger_days,
        report,
        insight,
    )
    app = create_app(
        ApiContext(
            engine,
            publisher,
            ledger,
            lease_manager,
            settings,
            sealer,
            suite,
            secrets.read_or_make(settings.operator_token_path),
            insight,
        ),
        archive,
        [publisher.run, maintenance.run],
        signer,
        oidc,
    )
    config = uvicorn.Config(
        app,
        host=settings.control.host,
        port=settings.control.port,
        log_config=None,
        access_log=False,
        timeout_graceful_shutdown=_DRAIN_MAX_S,
        server_header=False,
    )
    _ControlServer(config, publisher).run()


def _secret(reference: str | None, vault: secrets.Vault) -> str | None:
    return None if reference is None else secrets.resolve(reference, vault)


class _ControlServer(uvicorn.Server):
    """Lets waiting snapshot polls go before it waits for connections to end."""

    def __init__(self, config: uvicorn.Config, publisher: Publisher) -> None:
        super().__init__(config)
        self._publisher = publisher

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        await self._publisher.close()
        await super().shutdown(sockets)
