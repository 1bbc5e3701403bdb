"""Evidence of processes, ways between them, secrets and algorithms."""

from __future__ import annotations

import time
from operator import attrgetter
from urllib.parse import parse_qs, urlsplit

import msgspec
from sqlalchemy import func, or_, select

from tokenschain import __version__
from tokenschain.control import gateways, revisions
from tokenschain.control.audit import admin_log
from tokenschain.control.compliance.evidence.finding import (
    PlatformFacts,
    QueryResult,
    gaps_if,
    named,
)
from tokenschain.control.crypto_inventory import SEALING, inventory
from tokenschain.core.tenancy import PLATFORM
from tokenschain.infra import boot_manifest, config
from tokenschain.infra.config import declared, loading
from tokenschain.infra.database import engine as database
from tokenschain.infra.database.tables import alert_targets
from tokenschain.infra.security import secret_files, self_test
from tokenschain.infra.security.suite import GM, INTERNATIONAL, suite_named
from tokenschain.wire.client import is_loopback

CLOCK_APART_MAX_S = 180.0
_ENCRYPTED_MODES = {"require", "verify-ca", "verify-full"}
_REFERENCES = ("env:", "file:", "sealed:", "stored:")


def versions(facts: PlatformFacts) -> QueryResult:
    """Which program and which schema runs where."""
    seen = gateways.seen(facts.db)
    schema = database.schema_version(facts.db)
    others = {one.status.name for one in seen if one.status.version != __version__}
    behind = {one.status.name for one in seen if one.status.refused is not None}
    return QueryResult(
        {
            "control": __version__,
            "gateways": len(seen),
            "schema": schema.have,
            "configuration_revision": revisions.current(facts.db),
        },
        [
            *gaps_if(not seen, "no_gateway"),
            *gaps_if(others, "gateway_other_version", who=named(others)),
            *gaps_if(behind, "gateway_refuses_configuration", who=named(behind)),
            *gaps_if(schema.have != schema.latest, "schema_behind", have=schema.have or "-"),
        ],
    )


def started_as_installed(facts: PlatformFacts) -> QueryResult:
    """Whether control runs the files that were installed, and the settings file of its start."""
    found = admin_log.latest(facts.db, admin_log.BOOT)
    if found is None:
        return QueryResult({}, gaps_if(True, "boot_not_noted"))
    boot = msgspec.convert(found, _Boot)
    drifted = boot.settings_file != boot_manifest.digest_of(config.config_file())
    return QueryResult(
        {"version": boot.version, "files": boot.files, "record": boot.record},
        [
            *gaps_if(not boot.files, "files_unlisted"),
            *gaps_if(boot.changed, "files_changed", who=named(boot.changed)),
            *gaps_if(drifted, "settings_file_changed"),
        ],
    )


class _Boot(msgspec.Struct, frozen=True):
    """What is noted of a start."""

    version: str
    files: int
    record: str
    changed: tuple[str, ...]
    settings_file: str


def transport_encrypted(facts: PlatformFacts) -> QueryResult:
    """Which ways lead through a network without encryption."""
    settings = facts.settings
    public = settings.control.public_url or settings.control_base_url
    gateway = settings.control.gateway_url or settings.gateway_base_url
    plain = {one.id for one in facts.snapshot.upstreams.values() if _is_plain(one.base_url)}
    redis = settings.redis.url or ""
    return QueryResult(
        {
            "console": _without_user(public),
            "gateway": _without_user(gateway),
            "upstreams": len(facts.snapshot.upstreams),
            "mail_by_tls": settings.smtp.tls,
        },
        [
            *gaps_if(_is_plain(public), "console_without_tls"),
            *gaps_if(
                _is_plain(gateway)
                or not (is_loopback(settings.server.host) or gateway.startswith("https://")),
                "gateway_without_tls",
            ),
            *gaps_if(plain, "upstream_without_tls", who=named(plain)),
            *gaps_if(
                redis.startswith("redis://") and not is_loopback(urlsplit(redis).hostname or ""),
                "redis_without_tls",
            ),
            *gaps_if(_is_plain_database(settings.database_url), "database_without_tls"),
            *gaps_if(settings.smtp.host is not None and not settings.smtp.tls, "mail_without_tls"),
        ],
        gaps_if(
            not (public.startswith("https://") and gateway.startswith("https://")), "only_near_ways"
        ),
    )


def _is_plain(url: str) -> bool:
    found = urlsplit(url)
    return found.scheme == "http" and not is_loopback(found.hostname or "")


def _is_plain_database(url: str) -> bool:
    found = urlsplit(url)
    asked = parse_qs(found.query)
    host = found.hostname or asked.get("host", [""])[0]
    is_near = not host or host.startswith("/") or is_loopback(host)
    return not is_near and asked.get("sslmode", [""])[0] not in _ENCRYPTED_MODES


def _without_user(url: str) -> str:
    found = urlsplit(url)
    return f"{found.scheme}://{found.hostname or ''}"


def secrets_sealed(facts: PlatformFacts) -> QueryResult:
    """Whether secrets lie open: in files, in settings, in the configuration."""
    settings = facts.settings
    paths = (settings.master_key_path, settings.internal_secret_path, settings.audit_key_path,
             settings.operator_token_path)  # fmt: skip
    opened, there = set[str](), 0
    for path in paths:
        try:
            secret_files.check_access(path)
            there += 1
        except FileNotFoundError:
            continue
        except secret_files.SecretFileRefused:
            there += 1
            opened.add(path.name)
    raw = {
        one.id
        for one in facts.snapshot.upstreams.values()
        if any(not given.startswith(_REFERENCES) for given in one.credentials)
    }
    origins = loading.sources()
    written = {
        name
        for name, found in declared.settings()
        if found.holds_password
        and origins[name] not in ("default", "environment")
        and urlsplit(attrgetter(name)(settings) or "").password
    }
    return QueryResult(
        {
            "files_checked": there,
            "credentials_of_upstreams": sum(
                len(one.credentials) for one in facts.snapshot.upstreams.values()
            ),
        },
        [
            *gaps_if(opened, "secret_file_open", who=named(opened)),
            *gaps_if(raw, "secret_in_clear", who=named(raw)),
            *gaps_if(written, "password_in_settings_file", who=named(written)),
        ],
    )


def algorithms_tested(facts: PlatformFacts) -> QueryResult:
    """Whether the algorithms give the answers of their standards, now."""
    suite = suite_named(facts.settings.crypto.suite)
    found = [*self_test.known_answers(suite)]
    if suite is not INTERNATIONAL:
        found += self_test.known_answers(INTERNATIONAL)
    failed = {one.algorithm for one in found if not one.passed}
    return QueryResult(
        {"suite": suite.name, "tested": [one.algorithm for one in found]},
        gaps_if(failed, "algorithm_fails", who=named(failed)),
    )


def national_algorithms(facts: PlatformFacts) -> QueryResult:
    """What is protected by which algorithm."""
    found = inventory(facts.settings)
    other = {
        one.what
        for one in found
        if one.rows and not one.algorithm.startswith("SM") and one.algorithm != "Argon2id"
    }
    unknown = {one.what for one in found if one.algorithm in ("unknown", "of an earlier version")}
    suite = facts.settings.crypto.suite
    return QueryResult(
        {"suite": suite, "protected": [f"{one.what}: {one.algorithm}" for one in found]},
        [
            *gaps_if(suite_named(suite) is not GM, "suite_international"),
            *gaps_if(
                suite_named(suite) is GM and bool(other), "rows_of_other_suite", who=named(other)
            ),
            *gaps_if(unknown, "rows_unreadable", who=named(unknown)),
        ],
    )


def stored_sealed(facts: PlatformFacts) -> QueryResult:
    """What lies sealed in the database, and whether all of it can be read."""
    found = inventory(facts.settings)
    unknown = {one.what for one in found if one.algorithm in ("unknown", "of an earlier version")}
    return QueryResult(
        {"protected": [f"{one.what}: {one.algorithm} x {one.rows}" for one in found if one.rows]},
        gaps_if(unknown, "rows_unreadable", who=named(unknown)),
        gaps_if(not any(one.rows and one.algorithm in SEALING for one in found), "nothing_sealed"),
    )


def alerts_reach(facts: PlatformFacts) -> QueryResult:
    """Whether alerts of the platform reach somebody."""
    query = select(func.count()).where(
        or_(alert_targets.c.tenant == PLATFORM, alert_targets.c.tenant == ""),
        alert_targets.c.confirmed_at_s.is_not(None),
    )
    count = facts.db.execute(query).scalar_one()
    return QueryResult({"targets": count}, gaps_if(not count, "nobody_alerted"))


def clock_agrees(facts: PlatformFacts) -> QueryResult:
    """Whether control's and the database's clocks agree, and those of gateways."""
    theirs = database.unix_time(facts.db)
    apart = 0.0 if theirs is None else abs(theirs - time.time())
    seen = gateways.seen(facts.db)
    late = {
        one.status.name for one in seen if abs(one.seen_s - one.status.at_s) > CLOCK_APART_MAX_S
    }
    return QueryResult(
        {
            "database_apart_s": None if theirs is None else round(apart, 3),
            "gateways_compared": len(seen),
        },
        [
            *gaps_if(apart > 2.0, "clock_apart", who="database"),
            *gaps_if(late, "clock_apart", who=named(late)),
        ],
        gaps_if(theirs is None and not seen, "no_clock_compared"),
    )
