"""Wiring of the control process."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Callable, Coroutine, Mapping
from functools import partial
from ipaddress import ip_network
from pathlib import Path
from typing import NamedTuple

import uvloop
from fastapi import FastAPI
from sqlalchemy import Engine

from tokenschain import __version__
from tokenschain.console import browser_files
from tokenschain.console.app import Console, ConsoleSettings
from tokenschain.console.gateway import HttpGateway
from tokenschain.console.playground import Playground
from tokenschain.console.rendering import CloudProvider, SignUpOffer
from tokenschain.control import resealing
from tokenschain.control.api import open_doors
from tokenschain.control.api.app import create_app
from tokenschain.control.api.context import ApiContext
from tokenschain.control.api.internal import (
    BODY_BYTES_MAX,
    CONTENTS_BATCH_BYTES_MAX,
    RESPONSES_BATCH_BYTES_MAX,
)
from tokenschain.control.api.sessions import LOGIN_BYTES_MAX, SESSIONS_PATH
from tokenschain.control.audit import admin_log
from tokenschain.control.audit.anchors import AnchoringJob
from tokenschain.control.audit.cosigning import CosigningJob
from tokenschain.control.audit.daily_reconciliation import ReconciliationJob
from tokenschain.control.audit.egress_refusals import EgressRefusals
from tokenschain.control.audit.log import SealingJob, SegmentSealer
from tokenschain.control.billing.ledger import Ledger
from tokenschain.control.billing.limits import LeaseManager
from tokenschain.control.cache.semantic_client import SemanticProcesses
from tokenschain.control.configuration import store as resource_store
from tokenschain.control.configuration.changes import Configurator
from tokenschain.control.configuration.settings_file import SettingsFile
from tokenschain.control.content.retention import RetentionJob
from tokenschain.control.identity.oidc import Oidc, OidcClient
from tokenschain.control.mails import Mail, Outbox
from tokenschain.control.maintenance import Maintenance
from tokenschain.control.moderation.review_queue import CaseBook
from tokenschain.control.observability import alerts
from tokenschain.control.observability.alert_destinations import Destinations
from tokenschain.control.observability.alerts import Sender
from tokenschain.control.publisher import Publisher
from tokenschain.control.response_archive import ResponseArchive
from tokenschain.control.secret_reports import SecretReports
from tokenschain.control.sovereignty import transfers
from tokenschain.core.errors import ApiError, wire_refusal
from tokenschain.core.log_events import Reporter
from tokenschain.core.moderation.verdict import ENGINE_PREFIX
from tokenschain.core.pricing.catalog import PICO_PER_UNIT
from tokenschain.core.snapshot import Snapshot
from tokenschain.infra import boot_manifest, catalog_file, config, descriptors, holidays_file, log
from tokenschain.infra.asgi import AsgiHandler
from tokenschain.infra.background import kept_up
from tokenschain.infra.config import Settings
from tokenschain.infra.control_channel.protocol import (
    CONTENTS_PATH,
    JOURNAL_PATH,
    RESPONSES_PATH,
    SIGNATURE_HEADER,
)
from tokenschain.infra.control_channel.signatures import Signatures
from tokenschain.infra.database import engine as db
from tokenschain.infra.egress import PublicResolver, upstream_tls
from tokenschain.infra.egress_rules import Egress
from tokenschain.infra.security import case_texts, secret_files, secrets, self_test
from tokenschain.infra.security.note_keys import NoteSecret
from tokenschain.infra.security.secret_files import SecretFile
from tokenschain.infra.security.suite import INTERNATIONAL, Sealer, Suite
from tokenschain.providers.images import ImageFetcher
from tokenschain.providers.upstream_tester import HttpUpstreamTester
from tokenschain.providers.vendor_table import vendor_of
from tokenschain.wire.exchange import Exchange
from tokenschain.wire.server import HttpServer, Limits
from tokenschain.wiring import key_stores
from tokenschain.wiring.anchors import anchor_places
from tokenschain.wiring.machine import want_semantic

_DRAIN_MAX_S = 5
FILES_NAMED_MAX = 20
"""Of installed files that are not what was installed."""
_JSON_LINE = b"content-type: application/json\r\n"
_BODY_RATE_MIN = 65_536
"""Slowest upload, in bytes per second: gateways are near, and strangers may have no longer."""
_STRANGER_GRACE_S = 3.0
_WRITE_STALL_MAX_S = 20.0
_BODY_BYTES_TOTAL_MAX = max(268_435_456, 4 * RESPONSES_BATCH_BYTES_MAX)
"""Of the bodies that are received or served at one time."""


def run(settings: Settings) -> None:
    """Serve the admin API and the internal channel until SIGTERM or SIGINT."""
    log.configure(settings.log_format, settings.node_name)
    report = log.EventLog(log.get(process="control"))
    egress = Egress(settings, report)
    egress.hold()
    engine = db.connect(settings.database_url, settings.database.connections_max)
    db.wait_for(engine, settings.database.start_wait_s, report)
    db.migrate(engine)
    descriptors.raise_limit()
    uvloop.run(_serve(settings, *_build(settings, engine, egress, report)))


class _Running(NamedTuple):
    """What a running control is told of."""

    publisher: Publisher
    settings_file: SettingsFile
    egress: Egress


def _build(
    settings: Settings, engine: Engine, egress: Egress, report: log.EventLog
) -> tuple[FastAPI, _Running]:
    """Control's parts over the database."""
    suite = self_test.suite_in_force(settings.crypto.suite)
    master = key_stores.master_key(settings, report)
    sealer = secrets.master_sealer(master, suite)
    resealing.bring_up_to_date(engine, sealer, report)
    internal = SecretFile(settings.internal_secret_path, report)
    configurator = Configurator(settings, catalog_file.load(), sealer, suite, report)
    _note_boot(engine, report)
    settings_file = _settings_file(engine, configurator, suite, report)
    settings_file.apply(settings)
    publisher = Publisher(engine, settings, configurator, suite, internal, report, egress.client())
    ledger = _ledger(settings, engine)
    cases = CaseBook(engine, case_texts.sealer_of(suite, internal), sealer)
    _follow(publisher, ledger.follow, cases.follow)
    _follow(publisher, partial(_want_semantic, settings.semantic_wanted_path, report))
    lease_manager = LeaseManager(engine)
    vault = key_stores.vault(settings, suite)
    archive = _archive(settings, engine, sealer)
    signatures = Signatures(suite, internal, time.time)
    semantic = SemanticProcesses(settings.semantic_base_urls, signatures, egress.client())
    mail = _mail(settings, vault, report)
    maintenance = Maintenance(
        engine,
        ledger,
        lease_manager,
        archive,
        _alert_sender(settings, egress, engine, sealer, mail, report),
        Outbox(engine, sealer, mail, report),
        settings.database.ledger_days,
        report,
        semantic,
        partial(_upstreams_down, publisher, ledger),
    )
    holidays_file.known(settings.control.holidays_file)
    context = ApiContext(
        engine,
        publisher,
        ledger,
        lease_manager,
        settings,
        configurator,
        sealer,
        suite,
        secret_files.read_or_make(settings.operator_token_path)[0],
        semantic,
        secret_files.read_or_make(settings.metrics_token_path)[0],
        report.counts,
        _upstream_tester(egress, vault),
    )
    return create_app(
        context,
        archive,
        cases,
        [
            partial(kept_up, run, report)
            for run in (
                publisher.run,
                maintenance.run,
                settings_file.run,
                SecretReports(engine, settings.node_name, internal, master, report).run,
                *_audit_jobs(settings, egress, engine, vault, report),
                _retention(settings, engine, report).run,
            )
        ],
        signatures,
        _single_sign_on(settings, egress, sealer, vault),
    ), _Running(publisher, settings_file, egress)


def _archive(settings: Settings, engine: Engine, sealer: Sealer) -> ResponseArchive:
    stored = settings.database
    return ResponseArchive(
        engine, sealer, stored.response_ttl_s, stored.response_bytes_per_tenant_max
    )


def _retention(settings: Settings, engine: Engine, report: Reporter) -> RetentionJob:
    destroyed = settings.destroyed_keys_path
    return RetentionJob(engine, destroyed, report, resource_store.data_classes)


def _ledger(settings: Settings, engine: Engine) -> Ledger:
    ledger = Ledger(engine, settings.database.tags_per_key_day_max, audited=settings.audit.sealing)
    engines = settings.moderation.engines
    ledger.engine_zones = {f"{ENGINE_PREFIX}{name}": one.zone for name, one in engines.items()}
    ledger.beside.append(partial(transfers.note, settings=settings.sovereignty))
    return ledger


def _note_boot(engine: Engine, report: Reporter) -> None:
    """Put what this control started from into the audit log, before it does anything."""
    found = boot_manifest.look(config.config_file())
    if found.changed:
        report("installed_files_changed", ", ".join(found.changed[:FILES_NAMED_MAX]))
    detail = found._asdict() | {"changed": list(found.changed[:FILES_NAMED_MAX])}
    with engine.begin() as connection:
        admin_log.note(
            connection, admin_log.SYSTEM, admin_log.BOOT, "", "control",
            detail | {"version": __version__},
        )  # fmt: skip


def _upstreams_down(publisher: Publisher, ledger: Ledger, now_s: float) -> dict[str, str]:
    """Why upstreams are down, by a probe or by what calls met, without the word itself."""
    found: dict[str, str] = {}
    for name in publisher.snapshot.upstreams:
        for told in (ledger.upstream_health.of(name, now_s), publisher.health.get(name, "")):
            if told.startswith("down"):
                found.setdefault(name, told.removeprefix("down: "))
    return found


def _follow(publisher: Publisher, *followers: Callable[[Snapshot], None]) -> None:
    """Tell of the snapshot that there is, and of each new one."""
    for follow in followers:
        follow(publisher.snapshot)
        publisher.changed.append(follow)


def _sealing(settings: Settings, engine: Engine, report: Reporter) -> SealingJob:
    """The job that seals the audit log; where that is off, it says so hour by hour."""

    file: SecretFile | None = None
    made: tuple[tuple[str, ...], SegmentSealer] | None = None

    def sealer() -> SegmentSealer | None:
        nonlocal file, made
        if not settings.audit.sealing:
            report("audit_sealing_off")
            return None
        file = file or SecretFile(settings.audit_key_path, report)
        found = file()
        if made is None or made[0] is not found:
            # A log is one tree: its hash is SHA-256 (RFC 6962), whatever the suite.
            signs = NoteSecret(INTERNATIONAL, found[0], settings.crypto.suite, found[1:])
            interval_s = settings.audit.interval_s
            made = found, SegmentSealer(engine, INTERNATIONAL, signs, interval_s)
        return made[1]

    def alert(why: str) -> None:
        alerts.audit_unsealed(engine, {"reason": why}, time.time())

    return SealingJob(sealer, settings.audit.interval_s, report, alert)


def _audit_jobs(
    settings: Settings, egress: Egress, engine: Engine, vault: secrets.Vault, report: Reporter
) -> list[Callable[[], Coroutine[None, None, None]]]:
    """What seals the audit log, has its checkpoints cosigned where there are witnesses, and notes
    what was not connected to."""
    refusals = EgressRefusals(engine, report, time.monotonic)
    egress.refused.append(refusals.refused)
    jobs = [_sealing(settings, engine, report).run, refusals.run]
    if settings.audit.sealing:
        jobs.append(
            ReconciliationJob(engine, INTERNATIONAL.digest, report, alerts.audit_differs).run
        )
    if settings.audit.witnesses and settings.audit.sealing:
        client = egress.client(tls=upstream_tls(settings.egress.ca_file))
        cosigning = CosigningJob(
            engine, INTERNATIONAL, settings.audit.witnesses, client, report,
            quorum=settings.audit.witness_quorum, alert=alerts.audit_unwitnessed,
        )  # fmt: skip
        jobs.append(cosigning.run)
    secret_of = partial(secrets.resolve, vault=vault)
    places = anchor_places(settings, egress.operators_client(), secret_of, time.time)
    if places and settings.audit.sealing:
        jobs.append(
            AnchoringJob(
                engine, places, settings.audit.anchor_interval_s, report, alerts.audit_unanchored
            ).run
        )
    return jobs


def _want_semantic(path: Path, report: Reporter, snapshot: Snapshot) -> None:
    """Have `tokenschain up` run the semantic process while questions are compared by meaning."""
    try:
        want_semantic(path, wanted=snapshot.cache.compares_meanings)
    except OSError as error:
        report("chore_failed", str(error))


def _settings_file(
    engine: Engine, configurator: Configurator, suite: Suite, report: Reporter
) -> SettingsFile:
    def alert(detail: Mapping[str, object]) -> None:
        alerts.configuration_refused(engine, detail, time.time())

    return SettingsFile(
        engine, configurator, suite, config.load, config.config_file(), report, alert
    )


def _mail(settings: Settings, vault: secrets.Vault, report: Reporter) -> Mail:
    for missing in settings.mail_warnings:
        report("mail_setting_missing", missing)
    smtp = settings.smtp
    return Mail(
        smtp.host,
        smtp.port,
        smtp.user,
        partial(_secret, smtp.password, vault),
        smtp.sender,
        smtp.tls,
    )


def _alert_sender(
    settings: Settings, egress: Egress, engine: Engine, sealer: Sealer, mail: Mail, report: Reporter
) -> Sender:
    allowed = [ip_network(network) for network in settings.alerts.networks]
    client = egress.client(resolver=PublicResolver(allowed))
    return Sender(engine, sealer, client, mail, report, Destinations(settings, egress))


def _upstream_tester(egress: Egress, vault: secrets.Vault) -> HttpUpstreamTester:
    def secret_of(reference: str) -> str | None:
        try:
            return secrets.resolve(reference, vault)
        except secrets.SecretMissing:
            return None

    outside, client = egress.outside_client(), egress.operators_client()
    return HttpUpstreamTester(client, outside, secret_of, vendor_of, ImageFetcher(outside))


def _single_sign_on(
    settings: Settings, egress: Egress, sealer: Sealer, vault: secrets.Vault
) -> Oidc:
    oidc = settings.oidc
    public = settings.control.public_url or settings.control_base_url
    agreed = OidcClient(
        oidc.issuer,
        oidc.client_id,
        partial(_secret, oidc.client_secret, vault),
        f"{public}/api/v1/oidc/callback",
        oidc.groups_claim,
    )
    allowed = [ip_network(network) for network in oidc.networks]
    return Oidc(agreed, egress.client(resolver=PublicResolver(allowed)), sealer)


async def _serve(settings: Settings, app: FastAPI, running: _Running) -> None:
    stopping, loop = asyncio.Event(), asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    loop.add_signal_handler(signal.SIGHUP, running.settings_file.hang_up)
    running.egress.upstreams = lambda: running.publisher.snapshot.upstreams
    server = _server(settings, app, running.egress)
    async with app.router.lifespan_context(app):
        await server.listen(settings.control.host, settings.control.port)
        log.get(process="control").info(
            "listening", host=settings.control.host, port=settings.control.port
        )
        await stopping.wait()
        # Waiting polls of snapshots are let go, or connections would not end before the limit.
        await running.publisher.close()
        await server.drain(_DRAIN_MAX_S)


def _server(settings: Settings, app: FastAPI, egress: Egress) -> HttpServer:
    """What strangers may use of control is bounded before any of its routes is asked."""
    connections_max = min(settings.control.connections_max, descriptors.for_callers())
    limits = Limits(
        body_bytes_max=RESPONSES_BATCH_BYTES_MAX,
        stranger_grace_s=_STRANGER_GRACE_S,
        body_rate_min=_BODY_RATE_MIN,
        write_stall_max_s=_WRITE_STALL_MAX_S,
        body_bytes_total_max=_BODY_BYTES_TOTAL_MAX,
        body_bytes_per_address_max=_BODY_BYTES_TOTAL_MAX // 2,
        connections_max=connections_max,
        connections_per_address_max=max(1, connections_max // 2),
    )
    bytes_max = {
        JOURNAL_PATH.encode(): BODY_BYTES_MAX,
        RESPONSES_PATH.encode(): RESPONSES_BATCH_BYTES_MAX,
        CONTENTS_PATH.encode(): CONTENTS_BATCH_BYTES_MAX,
        **{path.encode(): LOGIN_BYTES_MAX for path in (SESSIONS_PATH, *open_doors.PATHS)},
    }
    proxies = [ip_network(network) for network in settings.control.trusted_proxies]
    server = HttpServer(
        AsgiHandler(_console(settings, app, egress), _failed, _fault), wire_refusal, limits, proxies
    )
    server.at_head = _HeadCheck(app.state.internal.signatures)
    server.body_bytes_max_of = lambda path: bytes_max.get(path, settings.control.body_bytes_max)
    return server


def _console(settings: Settings, app: FastAPI, egress: Egress) -> Console:
    gateway_url = settings.control.gateway_url or settings.gateway_base_url
    known = ConsoleSettings(
        settings.control.public_url,
        bool(settings.oidc.issuer),
        gateway_url,
        browser_files.folder_in(settings.data_dir),
        tuple(
            CloudProvider(one.id, one.name, one.base_url is not None)
            for one in catalog_file.load().providers
            if one.chat_models_of is None
        ),
        _sign_up_offer(settings),
    )
    gateway = HttpGateway(egress.client(tls=upstream_tls(settings.egress.ca_file)), gateway_url)
    playground = Playground(gateway, app.state.context.sealer)
    return Console(app, known, app.state.context.suite, _fault, playground)


def _sign_up_offer(settings: Settings) -> SignUpOffer | None:
    found = settings.sign_up
    if not settings.takes_sign_ups:
        return None
    credit_pico = int(found.credit * PICO_PER_UNIT)
    return SignUpOffer(found.terms_url or "", credit_pico, found.credit_days)


def _needs_token(path: str) -> bool:
    """Whether a body is for the admin API, and not of somebody who comes in; the console looks at
    its own."""
    return path.startswith("/api/") and not (
        path.startswith(SESSIONS_PATH) or path in open_doors.PATHS
    )


class _HeadCheck:
    """Who may send a body to control: gateways whose head is signed, who signs in, and who shows
    a token. Only the first is proven by the head alone; see `HttpServer.at_head`."""

    def __init__(self, signatures: Signatures) -> None:
        self._signatures = signatures

    def __call__(self, exchange: Exchange) -> bool:
        request = exchange.request
        path = request.path.decode("latin-1")
        try:
            if path.startswith("/internal/"):
                query = request.query.decode("latin-1")
                header = request.headers.get(SIGNATURE_HEADER.encode(), b"").decode("latin-1")
                asked = f"{path}?{query}" if query else path
                self._signatures.check_head(request.method, asked, header)
                return True
            if _needs_token(path) and b"authorization" not in request.headers:
                raise ApiError("missing_api_key", "Send a token as `Authorization: Bearer`.")
        except ApiError as error:
            exchange.reply(error.status, _JSON_LINE, error.body())
        return False


def _failed() -> tuple[int, bytes, bytes]:
    error = ApiError("internal_error", "Control failed; its log says why.")
    return error.status, _JSON_LINE, error.body()


def _fault(path: str, error: BaseException) -> None:
    log.get(process="control").error("fault", at=path[:200], exc_info=error)


def _secret(reference: str | None, vault: secrets.Vault) -> str | None:
    return None if reference is None else secrets.resolve(reference, vault)
