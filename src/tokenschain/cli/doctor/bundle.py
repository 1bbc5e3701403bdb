"""Bundle for support: findings, settings, metrics and the last log lines, without any secret."""

from __future__ import annotations

import io
import os
import re
import tarfile
import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote, urlsplit

import msgspec

from tokenschain.cli import admin_client
from tokenschain.cli.http import read_own
from tokenschain.core.redaction import Redactor
from tokenschain.infra.config import ADMIN_TOKEN_VARIABLE, ENV_PREFIX, Settings
from tokenschain.infra.gateway_status_files import read_statuses
from tokenschain.infra.security import secrets
from tokenschain.infra.security.suite import suite_named

LOG_LINES_MAX = 5_000
_SECRET_BYTES_MAX = 65_536
_SECRET_CHARACTERS_MIN = 4
_TOKEN = re.compile(r"[\w+/=.-]{16,}")


def write(path: Path, settings: Settings, report: bytes, log: Path | None) -> None:
    """Write the archive.

    Args:
        report: the findings and settings, as JSON.
        log: a log file, for its last lines.
    """
    known = frozenset(known_secrets(settings))
    redactor = Redactor(lambda: known)
    members = {
        "doctor.json": report.decode(),
        "gateways.json": msgspec.json.encode(list(read_statuses(settings.data_dir))).decode(),
        "environment.txt": "".join(
            f"{name}\n" for name in sorted(os.environ) if name.startswith(ENV_PREFIX)
        ),
        "metrics-gateway.txt": _gateway_metrics(settings),
        "metrics-control.txt": _control_metrics(settings),
    }
    if log is not None:
        with log.open(encoding="utf-8", errors="replace") as lines:
            members["log.txt"] = "".join(deque(lines, LOG_LINES_MAX))
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(fd, "wb") as file, tarfile.open(fileobj=file, mode="w:gz") as archive:
        for name, text in members.items():
            body = redactor.secret_free(_without_short(text, known)).encode()
            entry = tarfile.TarInfo(f"tokenschain-doctor/{name}")
            entry.size, entry.mtime, entry.mode = len(body), int(time.time()), 0o600
            archive.addfile(entry, io.BytesIO(body))


def _without_short(text: str, known: frozenset[str]) -> str:
    """Passwords too short for the redactor, where they stand by themselves."""
    for secret in known:
        if len(secret) < 6:
            text = re.sub(rf"(?<!\w){re.escape(secret)}(?!\w)", "…", text)
    return text


def known_secrets(settings: Settings) -> Iterator[str]:
    """Every secret that this machine can read, to be taken out of what leaves it."""
    for found in _candidates(settings):
        if len(found) >= _SECRET_CHARACTERS_MIN:
            yield found


def _candidates(settings: Settings) -> Iterator[str]:
    yield os.environ.get(ADMIN_TOKEN_VARIABLE, "")
    folder = settings.data_dir / "secrets"
    own = [path for path in folder.rglob("*") if path.is_file() and path.suffix != ".sealed"]
    for path in (
        *own, settings.internal_secret_path, settings.master_key_path,
        settings.metrics_token_path,
    ):  # fmt: skip
        yield from _TOKEN.findall(_text_of(path))
    from tokenschain.wiring import key_stores  # noqa: PLC0415 - reaches for clouds and devices

    suite = suite_named(settings.crypto.suite)
    vault = key_stores.vault_or_closed(settings, suite)
    references = {f"sealed:{name}" for name in vault.names()}
    for value in _strings(settings):
        if value.startswith(("env:", "file:", "sealed:")):
            references.add(value)
        elif "://" in value:
            yield from _in_address(value)
    for reference in references:
        try:
            secret = secrets.resolve(reference, vault)
        except secrets.SecretMissing:
            continue
        yield secret
        yield from secret.split(":")  # `id:secret`, of clouds that sign


def _text_of(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return file.read(_SECRET_BYTES_MAX).decode("utf-8", "replace")
    except OSError:
        return ""


def _strings(value: object) -> Iterator[str]:
    """Every text in the settings."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, msgspec.Struct):
        yield from _strings(list(msgspec.structs.asdict(value).values()))
    elif isinstance(value, dict):
        yield from _strings(list(value.values()))
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _strings(item)


def _in_address(url: str) -> Iterator[str]:
    """The password of an address, and the values that are asked for there."""
    try:
        parts = urlsplit(url)
        password = parts.password or ""
    except ValueError:
        parts, password = None, ""
    yield password
    yield unquote(password)
    if parts is not None:
        for field in parts.query.split("&"):
            yield field.partition("=")[2]


def _gateway_metrics(settings: Settings) -> str:
    try:
        token = settings.metrics_token_path.read_text(encoding="utf-8").strip()
    except OSError as error:
        return f"no token for metrics: {error}\n"
    base = settings.gateway_base_url.removesuffix("/v1")
    return read_own(f"{base}/metrics", token) or "the gateway does not answer\n"


def _control_metrics(settings: Settings) -> str:
    try:
        return admin_client.text(settings, "/api/v1/metrics")
    except admin_client.AdminError as error:
        return f"not to be had: {error}\n"
