"""Admin API: diagnostics of the running platform, as `tokenschain doctor` reads them.

(No postponed annotations here: FastAPI reads them.)
"""

import time
from itertools import chain
from pathlib import Path
from typing import Annotated

from fastapi import APIRouter, Depends

from tokenschain import __version__
from tokenschain.control import gateways, revisions
from tokenschain.control.api.bodies import AnswerBody, Items
from tokenschain.control.api.context import AdminRoute, Permission, RequestContext
from tokenschain.control.billing import ledger
from tokenschain.control.identity.ownership import Extent
from tokenschain.control.upstream_health import RECENT_S
from tokenschain.infra import hardening
from tokenschain.infra.config import Settings
from tokenschain.infra.config.groups import MailWarning
from tokenschain.infra.config.shown import shown_settings
from tokenschain.infra.database import engine as database
from tokenschain.infra.security import self_test
from tokenschain.infra.security.certificates import gm_cipher_suites

router = APIRouter(prefix="/api/v1", route_class=AdminRoute, tags=["diagnostics"])
Reading = Annotated[RequestContext, Depends(Permission("models:read", Extent.PLATFORM))]
ReadingSettings = Annotated[
    RequestContext, Depends(Permission("configuration:read", Extent.PLATFORM))
]


class DatabaseDiagnosis(AnswerBody):
    """The database that control works with."""

    kind: str
    """`sqlite` or `postgresql`."""
    unix_time_s: float | None
    """By its own clock; null where it is control's."""
    migration: str | None
    migration_latest: str
    """The last one that control's program knows."""


class UpstreamDiagnosis(AnswerBody):
    """An upstream, and what calls met there within the last minutes."""

    id: str
    provider: str
    zone: str
    """`unknown` where neither the configuration nor the catalog says it."""
    credentials: int
    """How many keys are configured."""
    probe: str
    """Of own engines: what the last probe said; empty for others."""
    health: str
    """`up`, `down: why`, or empty where no recent calls tell."""
    succeeded: int
    """Of the last attempts, at most 20."""
    failed: int
    last_success_s: float | None
    """Unix time."""
    last_failure_s: float | None
    last_error: str
    unset_variables: dict[str, list[str]]
    """Credentials in the environment that gateways have not got, with the gateways."""


class RefusedKeyDiagnosis(AnswerBody):
    """An API key that is in use and refused."""

    id: str
    tenant: str
    why: str
    """Error code."""
    refused: int
    """Requests since the gateway's process began."""
    last_s: float
    """Unix time."""


class GatewayDiagnosis(AnswerBody):
    """A gateway process as it said it last."""

    name: str
    worker: int
    version: str
    at_s: float
    """When it said so, by its own clock; Unix time."""
    received_s: float
    """When control heard it."""
    revision: int
    snapshot_age_s: float
    """Since it heard of control."""
    journal_backlog_bytes: int
    journal_bytes_max: int
    journal_lag_s: float
    waiting: int
    """Calls that wait for an upstream with room."""
    lost: dict[str, str]
    """What it cannot reach, and why."""
    rejected_revision: int | None
    """The latest configuration, where it cannot use that."""
    rejected_reason: str
    applied_parts: list[str]
    """Of the rejected one, in force all the same: `keys`, `limits`, `residency`."""
    refused_keys: list[RefusedKeyDiagnosis]


class RecordsDiagnosis(AnswerBody):
    """Call records that this control process got since it started."""

    received: int
    entered: int
    rejected: int
    """Set aside in the database, waiting for somebody."""


class CryptographyDiagnosis(AnswerBody):
    """The cryptography that control works with."""

    suite: str
    """`international`, `gm` or `dual`."""
    self_test_failed: list[str]
    """Algorithms that do not give the answers of their standards now: none, or nothing may be
    trusted here."""
    key_store: str
    """What keeps the master key; see `key_store.kind`."""
    master_key_written_s: float | None
    """When its file was written last: made, rotated or put under a key store; null where there is
    none here."""
    audit_key_written_s: float | None
    """The same of the key that signs the audit log."""
    tls_gm_suites: list[str]
    """Cipher suites of RFC 8998 that TLS has here."""


class Diagnostics(AnswerBody):
    """What control knows of the running platform."""

    version: str
    """Of control's program."""
    unix_time_s: float
    revision: int
    """Of the configuration in the database."""
    published_revision: int
    """Of the one that gateways get."""
    database: DatabaseDiagnosis
    recent_s: float
    """How far back the counts of upstreams go."""
    upstreams: list[UpstreamDiagnosis]
    records: RecordsDiagnosis
    gateways: list[GatewayDiagnosis]
    """Those of the last minutes, of all machines."""
    semantic: dict[str, bool]
    """Whether each process that compares questions answers, by its address."""
    cryptography: CryptographyDiagnosis
    mail_warnings: list[MailWarning]
    """What of the settings keeps people from coming in by links in mails:
    `sign_up_without_mail`, `smtp.host` is not set; `links_without_public_url`,
    `control.public_url` is not."""


class SettingInForce(AnswerBody):
    """A setting of control's process, with what is secret in it masked."""

    name: str
    value: str
    origin: str
    """`environment`, the settings file, or `default`."""


@router.get("/settings")
def list_settings(asked: ReadingSettings) -> Items[SettingInForce]:
    """List the settings that control runs with, never secrets, and where each is from.

    Processes on other machines have settings of their own.
    """
    shown = shown_settings(asked.context.settings)
    return Items[SettingInForce](
        data=[SettingInForce(name=one.name, value=one.value, origin=one.origin) for one in shown]
    )


@router.get("/diagnostics")
def read_diagnostics(asked: Reading) -> Diagnostics:
    """Read how the platform is: database, upstreams as calls found them, records, processes."""
    context, now_s = asked.context, time.time()
    schema = database.schema_version(asked.db)
    captured = ledger.capture(asked.db, context.ledger)
    semantic = context.semantic if context.publisher.snapshot.cache.compares_meanings else None
    return Diagnostics(
        version=__version__,
        unix_time_s=now_s,
        revision=revisions.current(asked.db),
        published_revision=context.publisher.revision,
        database=DatabaseDiagnosis(
            kind=asked.db.dialect.name,
            unix_time_s=database.unix_time(asked.db),
            migration=schema.have,
            migration_latest=schema.latest,
        ),
        recent_s=RECENT_S,
        upstreams=_upstreams(asked, now_s),
        records=RecordsDiagnosis(
            received=captured["received"],
            entered=captured["entered"],
            rejected=captured["rejected"],
        ),
        gateways=[_gateway(one) for one in gateways.seen(asked.db)],
        semantic={} if semantic is None else asked.wait_for(semantic.answering),
        cryptography=_cryptography(context.settings),
        mail_warnings=list(context.settings.mail_warnings),
    )


def _cryptography(settings: Settings) -> CryptographyDiagnosis:
    return CryptographyDiagnosis(
        suite=settings.crypto.suite,
        self_test_failed=self_test.failed(settings.crypto.suite),
        key_store=settings.key_store.kind,
        master_key_written_s=_written_s(settings.master_key_path),
        audit_key_written_s=_written_s(settings.audit_key_path),
        tls_gm_suites=gm_cipher_suites(),
    )


def _written_s(path: Path) -> float | None:
    try:
        return path.stat().st_mtime
    except OSError:
        return None


def _gateway(seen: gateways.Seen) -> GatewayDiagnosis:
    status, rejected = seen.status, seen.status.refused
    return GatewayDiagnosis(
        name=status.name, worker=status.worker, version=status.version, at_s=status.at_s,
        received_s=seen.seen_s, revision=status.revision, snapshot_age_s=status.snapshot_age_s,
        journal_backlog_bytes=status.journal_backlog_bytes,
        journal_bytes_max=status.journal_bytes_max, journal_lag_s=status.journal_lag_s,
        waiting=status.waiting, lost=status.lost,
        rejected_revision=None if rejected is None else rejected.revision,
        rejected_reason="" if rejected is None else rejected.why,
        applied_parts=[] if rejected is None else list(rejected.applied),
        refused_keys=[
            RefusedKeyDiagnosis(
                id=key.id, tenant=key.tenant, why=key.why, refused=key.refused, last_s=key.last_s
            )
            for key in status.refused_keys
        ],
    )  # fmt: skip


def _upstreams(asked: RequestContext, now_s: float) -> list[UpstreamDiagnosis]:
    publisher, called = asked.context.publisher, asked.context.ledger.upstream_health
    upstreams = publisher.snapshot.upstreams.values()
    named = {one.id: hardening.variables_in(one.credentials) for one in upstreams}
    lacking = gateways.lacking(asked.db, chain.from_iterable(named.values()))
    return [
        UpstreamDiagnosis(
            id=upstream.id,
            provider=upstream.provider,
            zone=upstream.zone or "unknown",
            credentials=len(upstream.credentials),
            probe=publisher.health.get(upstream.id, ""),
            health=called.of(upstream.id, now_s),
            **called.recent(upstream.id, now_s)._asdict(),
            unset_variables={
                name: at for name, at in lacking.items() if name in named[upstream.id]
            },
        )
        for upstream in upstreams
    ]
