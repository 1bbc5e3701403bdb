"""Checks of what is in hand on this machine: settings, files, ports, stores, certificates."""

from __future__ import annotations

import asyncio
import datetime
import os
import shutil
import ssl
import stat
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

from tokenschain.cli import ports
from tokenschain.cli.doctor.findings import Findings
from tokenschain.core.gateway_status import MISSING, GatewayStatus
from tokenschain.core.pricing.catalog import Catalog
from tokenschain.infra import config, hardening
from tokenschain.infra.config import Settings
from tokenschain.infra.model_store import DEFAULT_MODEL
from tokenschain.infra.security import secret_files, secrets

FREE_BYTES_MIN, FREE_BYTES_WARN = 268_435_456, 2_000_000_000
CERTIFICATE_DAYS_WARN = 30
CATALOG_DAYS_WARN = 120
"""Prices and models of clouds change about every month."""
SKEW_WARN_S, SKEW_FAIL_S = 2.0, 20.0
"""Signed requests of the internal channel are refused from 30 s on."""
STATUS_FRESH_S = 15.0


class ThisMachine(NamedTuple):
    """What the checks look at."""

    settings: Settings
    catalog: Catalog
    vault: secrets.Vault
    gateways: tuple[GatewayStatus, ...]
    """What running gateway workers of this machine say."""
    running: bool
    """Whether the running platform is looked at, too."""


def check_settings(machine: ThisMachine, found: Findings) -> None:
    """Providers and models that the catalog does not know, names that nobody serves."""
    from tokenschain.wiring import machine as wiring  # noqa: PLC0415 - doctor alone needs it

    try:
        wiring.check(machine.settings)
    except config.SettingsError as error:
        for line in str(error).splitlines():
            found.fail(line, "correct the settings: a start is refused")
    if not found:
        found.ok(f"usable; file: {config.config_file() or 'none'}")


def check_data_dir(machine: ThisMachine, found: Findings) -> None:
    """The data folder is this user's alone and can be written."""
    folder = machine.settings.data_dir
    if not folder.exists():
        found.ok(f"{folder} is made at the first start")
        return
    if not folder.is_dir():
        found.fail(f"data_dir {folder} is no folder", "set data_dir to one")
        return
    if folder.stat().st_uid != os.geteuid() and os.geteuid() != 0:
        found.fail(f"data_dir {folder} belongs to another user", f"chown it, or set {_DATA_DIR}")
        return
    if stat.S_IMODE(folder.stat().st_mode) & 0o077:
        found.fail(f"other users may look into {folder}", f"chmod 700 {folder}")
    if not os.access(folder, os.W_OK | os.X_OK) or _read_only(folder):
        found.fail(f"data_dir {folder} cannot be written", f"set {_DATA_DIR} to another folder")
    others = hardening.open_to_others(folder)
    if others:
        found.fail(
            f"{len(others)} files in {folder} are readable or writable by others, as {others[0]}",
            f"chmod -R go= {folder}",
        )
    if not found:
        found.ok(f"{folder}, for this user only")


_DATA_DIR = config.variable_of("data_dir")


def _read_only(folder: Path) -> bool:
    return bool(os.statvfs(folder).f_flag & os.ST_RDONLY)


def check_disk(machine: ThisMachine, found: Findings) -> None:
    """There is room for database, journal and models."""
    folder = machine.settings.data_dir
    while not folder.exists():
        folder = folder.parent
    usage, inodes = shutil.disk_usage(folder), os.statvfs(folder)
    said = f"{usage.free / 1e9:.1f} GB free under {folder}"
    mend = f"make room, or set {_DATA_DIR}"
    if usage.free < FREE_BYTES_MIN:
        found.fail(f"only {said}: calls are refused when the journal cannot grow", mend)
    elif usage.free < FREE_BYTES_WARN:
        found.warn(f"only {said}", mend)
    elif inodes.f_files and inodes.f_favail < 10_000:
        found.warn(f"only {inodes.f_favail:,} more files fit under {folder}", mend)
    else:
        found.ok(said)
    log = machine.settings.server.access_log
    if log.startswith("/"):
        # A file that is there is written; else its folder has to take a new one.
        place = Path(log) if Path(log).exists() else Path(log).parent
        if not os.access(place, os.W_OK) or Path(log).is_dir():
            found.fail(
                f"the access log {log} cannot be written",
                "make its folder and let the platform's user write there, or set "
                f"{config.variable_of('server.access_log')}",
            )


def check_secret_files(machine: ThisMachine, found: Findings) -> None:
    """The platform's own secrets: strong, read by their owner only, no rotation left half done."""
    settings = machine.settings
    paths = [settings.internal_secret_path, settings.metrics_token_path,
             settings.operator_token_path]  # fmt: skip
    if settings.key_store.kind == "file":  # else `crypto_check` asks the store
        paths.append(settings.master_key_path)
    for path in paths:
        try:
            held = secret_files.read(path)
        except FileNotFoundError:
            continue
        except secret_files.SecretFileRefused as error:
            found.fail(str(error), "then start again")
            continue
        if len(held) > 1:
            found.warn(f"{path} holds a former secret", "tokenschain secrets rotate")
    if not found:
        found.ok("in order")


def check_credentials(machine: ThisMachine, found: Findings) -> None:
    """For every upstream a key can be had, and files with keys are their owner's alone."""
    told = {u.id: u.keys for status in machine.gateways for u in status.upstreams}
    for upstream in machine.settings.upstreams:
        references = upstream.credential
        known = told.get(upstream.id)
        if known:
            # The gateway's own word: its environment need not be this shell's.
            references = tuple(
                references[key.number - 1]
                for key in known
                if key.state == MISSING and key.number <= len(references)
            )
        missing = [
            why or f"{name} holds no secret for the gateway"
            for name in references
            if (why := _why_missing(name, machine.vault)) or known
        ]
        if missing and len(missing) == len(upstream.credential):
            found.fail(f"upstream {upstream.id} gets no calls: {'; '.join(missing)}", _MEND_KEY)
        elif missing:
            found.warn(
                f"upstream {upstream.id} lacks {len(missing)} of {len(upstream.credential)} keys: "
                f"{'; '.join(missing)}",
                _MEND_KEY,
            )
    for name, other in _other_references(machine.settings):
        # Where the platform runs, its processes have an environment of their own.
        elsewhere = machine.running and other.startswith("env:")
        if not elsewhere and (why := _why_missing(other, machine.vault)):
            found.fail(f"{name}: {why}", _MEND_KEY)
    if not found:
        count = sum(len(upstream.credential) for upstream in machine.settings.upstreams)
        found.ok(f"{count} keys of {len(machine.settings.upstreams)} upstreams can be had")


_MEND_KEY = "set the variable, write the file, or `tokenschain secrets set NAME`"


def _other_references(settings: Settings) -> Iterator[tuple[str, str]]:
    judge, embedder = settings.cache.judge, settings.cache.embedder
    named = {
        "smtp.password": settings.smtp.password,
        "oidc.client_secret": settings.oidc.client_secret,
        "audit.object_lock.credential": settings.audit.anchor_credential,
        "cache.judge.credential": judge.credential if judge is not None else None,
        "cache.embedder.credential": embedder.credential if embedder is not None else None,
    }
    yield from ((name, reference) for name, reference in named.items() if reference is not None)
    for name, engine in settings.moderation.engines.items():
        yield f"moderation.engines.{name}.credential", engine.credential


def _why_missing(reference: str, vault: secrets.Vault) -> str:
    try:
        secrets.resolve(reference, vault)
    except secrets.SecretMissing as error:
        return str(error)
    return ""


def check_zones(machine: ThisMachine, found: Findings) -> None:
    """Where data goes at each upstream."""
    zones = {provider.id: provider.zone for provider in machine.catalog.providers}
    by_zone: dict[str, list[str]] = {}
    for upstream in machine.settings.upstreams:
        zone: str = upstream.zone or zones.get(upstream.provider) or "unknown"
        by_zone.setdefault(zone, []).append(upstream.id)
    unknown = by_zone.pop("unknown", [])
    if unknown:
        found.warn(
            f"zone unknown: {', '.join(unknown)}; under a residency rule no call goes there",
            "set `zone` of the upstream: cn, abroad, mlps3, gov or own",
        )
    for zone, names in sorted(by_zone.items()):
        found.ok(f"{zone}: {', '.join(names)}")


_MAIL_WARNINGS: dict[str, tuple[str, str]] = {
    "sign_up_without_mail": (
        "sign_up.enabled is on and no mail server is set: nobody can sign up",
        f"set {config.variable_of('smtp.host')}, or switch sign_up.enabled off",
    ),
    "links_without_public_url": (
        "links in mails lead to control's own machine, since control.public_url is not set",
        f"set {config.variable_of('control.public_url')} to where browsers reach the console",
    ),
}


def check_mail(machine: ThisMachine, found: Findings) -> None:
    """People who are invited or sign up can come in by the links in their mails."""
    for gap in machine.settings.mail_warnings:
        found.warn(*_MAIL_WARNINGS[gap])
    if not found:
        smtp = machine.settings.smtp.host
        found.ok(f"through {smtp}" if smtp else "no mail server: links are handed over by hand")


def check_certificates(machine: ThisMachine, found: Findings) -> None:
    """Certificate, key and authorities can be read, fit together and are not about to expire."""
    tls, authorities = machine.settings.tls, machine.settings.egress.ca_file
    if tls.certificate_file is not None and tls.key_file is not None:
        try:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(tls.certificate_file, tls.key_file)
        except (OSError, ssl.SSLError) as error:
            found.fail(
                f"tls.certificate_file and tls.key_file: {_why(error)}",
                "name a PEM certificate chain and the PEM key that belongs to it",
            )
        else:
            _check_expiry(tls.certificate_file, "tls.certificate_file", found)
        try:
            secret_files.check_access(tls.key_file)
        except FileNotFoundError:
            pass  # told above
        except secret_files.SecretFileRefused as error:
            found.fail(f"tls.key_file: {error}", f"chmod 600 {tls.key_file}")
    if authorities is not None:
        try:
            ssl.create_default_context(cafile=str(authorities))
        except (OSError, ssl.SSLError) as error:
            found.fail(f"egress.ca_file {authorities}: {_why(error)}", "name a PEM file")
        else:
            _check_expiry(authorities, "egress.ca_file", found)
    if not found:
        found.ok("none is configured" if tls.certificate_file is None else "in order")


def _check_expiry(path: Path, name: str, found: Findings) -> None:
    from tokenschain.infra.security import certificates  # noqa: PLC0415 - slow to load

    now = datetime.datetime.now(datetime.UTC)
    for begins, ends in certificates.validities(path):
        left, until = ends - now, f"{ends:%Y-%m-%d}"
        if left < datetime.timedelta(0):
            found.fail(f"{name} {path} has expired on {until}", "renew it")
        elif begins > now:
            found.fail(f"{name} {path} is not valid yet", "look at this machine's clock")
        elif left < datetime.timedelta(days=CERTIFICATE_DAYS_WARN):
            found.warn(f"{name} {path} expires on {until}, in {left.days} days", "renew it")


def _why(error: OSError) -> str:
    if isinstance(error, ssl.SSLError):
        return error.reason or "is no PEM file"
    return error.strerror or str(error)


def check_ports(machine: ThisMachine, found: Findings) -> None:
    """The ports are free, or our own processes listen there."""
    for name, host, port in ports.all_of(machine.settings):
        if not port or not ports.is_taken(host, port):
            continue
        if not ports.is_ours(machine.settings, name):
            found.fail(
                f"port {port} on {host} ({name}) is used by another program",
                f"stop it, or set {config.variable_of(name)} to another",
            )
    if not found:
        found.ok("free, or our own processes listen")


def check_database(machine: ThisMachine, found: Findings) -> None:
    """The database can be used, and its tables are of this program."""
    from tokenschain.infra.database import engine as database  # noqa: PLC0415 - slow to load

    settings = machine.settings
    asked_s = time.time()
    try:
        probed = database.probe(settings.database_url)
    except database.DatabaseUnreachable as error:
        found.fail(str(error), f"start it, or set {config.variable_of('database.url')}")
        return
    kind = urlsplit(settings.database_url).scheme.partition("+")[0]
    if probed is None:
        if settings.control.url is None:
            found.ok(f"{kind}: made at the first start")
        return
    schema = probed.schema
    if schema.is_newer:
        found.fail(
            f"{kind}: migrated to {schema.have} by a later version; this program knows "
            f"{schema.latest}",
            "run the version that migrated it, or restore the backup from before",
        )
    elif schema.have != schema.latest and machine.running:
        found.fail(
            f"{kind}: at migration {schema.have}, this program needs {schema.latest}",
            "start control of this version: it migrates",
        )
    else:
        found.ok(f"{kind}: usable, migration {schema.have or 'none yet'}")
    if probed.unix_time_s is not None:
        check_skew("the database's clock", probed.unix_time_s, asked_s, time.time(), found)


def check_redis(machine: ThisMachine, found: Findings) -> None:
    """Redis answers, and its clock is this machine's."""
    url = machine.settings.redis.url
    if url is None:
        many = machine.settings.gateway_processes > 1
        found.ok("not used" + ("; rates are shared through control" if many else ""))
        return
    from tokenschain.infra.redis import connection  # noqa: PLC0415 - slow to load

    asked_s = time.time()
    try:
        told_s = asyncio.run(connection.server_time(url))
    except connection.REDIS_FAILURES as error:
        parts = urlsplit(url)
        found.fail(
            f"Redis at {parts.hostname or parts.path}:{parts.port or 6379} cannot be used: "
            f"{str(error) or type(error).__name__}",
            f"start it, or set {config.variable_of('redis.url')}; meanwhile each gateway counts "
            "an equal share of every rate by itself",
        )
        return
    found.ok("answers")
    check_skew("Redis' clock", told_s, asked_s, time.time(), found)


def check_skew(
    whose: str,
    told_s: float,
    asked_s: float,
    answered_s: float,
    found: Findings,
    other: str = "this machine's",
) -> None:
    """Two clocks, one read while the other showed `asked_s` to `answered_s`."""
    apart_s = max(asked_s - told_s, told_s - answered_s, 0.0)
    said = f"{whose} is {apart_s:.1f} s apart from {other}"
    mend = "let NTP (chrony, systemd-timesyncd) set the clock of each machine"
    if apart_s >= SKEW_FAIL_S:
        found.fail(f"{said}; at 30 s gateways and control refuse each other", mend)
    elif apart_s >= SKEW_WARN_S:
        found.warn(said, mend)


def check_engine(machine: ThisMachine, found: Findings) -> None:
    """The embedded engine's model is here."""
    engine = machine.settings.engine
    if not machine.settings.runs_engine:
        found.ok(f"another server stands in: {engine.url}" if engine.url else "off")
        return
    file = machine.settings.data_dir / "models" / f"{engine.model}.gguf"
    if not file.is_file() and engine.model == DEFAULT_MODEL.name and not file.parent.exists():
        found.ok(f"{engine.model} is fetched at the first start")
    elif not file.is_file():
        found.fail(f"model {engine.model} is not pulled", f"tokenschain model pull {engine.model}")
    template = engine.chat_template_file
    if template is not None and not template.is_file():
        found.fail(f"engine.chat_template_file {template} is not there", "name a Jinja file")
    if not found:
        found.ok(f"{engine.model} is here")


def check_catalog(machine: ThisMachine, found: Findings) -> None:
    """How old the shipped prices and models are."""
    version = machine.catalog.version
    try:
        compiled = datetime.date.fromisoformat(version)
    except ValueError:
        found.ok(version)
        return
    days = (datetime.datetime.now(datetime.UTC).date() - compiled).days
    said = f"models and prices of {version}, {max(0, days)} days old"
    if days > CATALOG_DAYS_WARN:
        found.warn(said, "upgrade, or set `prices` of the upstreams whose prices have changed")
    else:
        found.ok(said)


Check = Callable[[ThisMachine, Findings], None]

MACHINE_CHECKS: dict[str, Check] = {
    "settings": check_settings,
    "data folder": check_data_dir,
    "disk": check_disk,
    "secret files": check_secret_files,
    "credentials": check_credentials,
    "zones": check_zones,
    "mail": check_mail,
    "certificates": check_certificates,
    "ports": check_ports,
    "database": check_database,
    "redis": check_redis,
    "engine": check_engine,
    "catalog": check_catalog,
}
"""By name, in the order they are told in."""
