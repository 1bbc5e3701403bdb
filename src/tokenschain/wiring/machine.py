"""Wiring of one machine: first start, and which processes run."""

from __future__ import annotations

import errno
import os
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import NamedTuple

import httpx
from sqlalchemy import Connection, Engine
from sqlalchemy.exc import SQLAlchemyError

from tokenschain.control.audit import admin_log
from tokenschain.control.audit.admin_log import Author
from tokenschain.control.configuration import configuration, model_routes, settings_file
from tokenschain.control.configuration.kinds import UpstreamSpec
from tokenschain.control.configuration.resources import Origin, ResourceKey
from tokenschain.control.configuration.store import ResourceStore, StoredResource
from tokenschain.control.identity import api_keys, approvals, sign_in_links, signing_keys
from tokenschain.control.identity.approvals import ApprovalRequired, Wanted
from tokenschain.core.errors import ApiError
from tokenschain.core.tenancy import PLATFORM
from tokenschain.infra import catalog_file, hardening, log
from tokenschain.infra.config import (
    ADMIN_TOKEN_VARIABLE,
    ENV_PREFIX,
    Settings,
    SettingsError,
    variable_of,
)
from tokenschain.infra.config.groups import reachable
from tokenschain.infra.database import engine as db
from tokenschain.infra.gateway_status_files import read_statuses
from tokenschain.infra.heartbeat import HeartbeatProbe, heartbeat_path
from tokenschain.infra.model_store import make_private
from tokenschain.infra.security.suite import suite_named
from tokenschain.infra.supervisor import Child

_PROBE_MAX_S = 5.0
_ROOM_BYTES_MIN = 1_048_576
"""For the tables of an empty database; a gateway that has no room for its journal says so."""


class FirstRun(NamedTuple):
    """Credentials made just now; each is shown this once."""

    admin_token: str | None
    api_key: str | None


def check(settings: Settings) -> bool:
    """Check settings against the catalog, and beside what the database has, before anything
    starts.

    Returns:
        Whether the database could be asked; else what it might mend is unchecked.

    Raises:
        SettingsError: with every problem.
    """
    found = kept_resources(settings)
    problems = settings_file.problems(settings, catalog_file.load(), found)
    if problems:
        raise SettingsError("\n".join(map(str, problems)))
    return found is not None


def kept_resources(settings: Settings) -> Mapping[ResourceKey, StoredResource] | None:
    """The resources in the database, without waiting for it or changing anything; None where they
    cannot be had."""
    try:
        probed = db.probe(settings.database_url)
        if probed is None or probed.schema.have is None:
            # It is still to be made; where control is elsewhere, so is its database.
            return {} if settings.control.url is None else None
        if probed.schema.have != probed.schema.latest:
            return None
        engine = db.connect(settings.database_url, 1)
        try:
            with db.reading(engine) as connection:
                return ResourceStore(log.report(process="start")).read(connection)
        finally:
            engine.dispose()
    except (db.DatabaseUnreachable, SQLAlchemyError):
        return None  # whoever needs it waits for it, and says so


def open_folder(settings: Settings) -> None:
    """Make the data folder where it is missing, and see that it can be written.

    Raises:
        SettingsError: it cannot be used.
    """
    try:
        make_private(settings.data_dir)
        with tempfile.TemporaryFile(dir=settings.data_dir) as file:
            os.posix_fallocate(file.fileno(), 0, _ROOM_BYTES_MIN)
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        what = "make room on its disk" if full else "make it a folder that this user may write"
        raise SettingsError(
            f"data_dir {settings.data_dir} cannot be used: {error.strerror}; {what}, or set "
            f"{variable_of('data_dir')} to another"
        ) from None


def prepare(settings: Settings) -> FirstRun:
    """Bring the database up to date; on a fresh one, make the first credentials.

    Raises:
        SettingsError: the data folder cannot be used.
        DatabaseUnreachable: nor can the database.
    """
    open_folder(settings)
    engine = db.connect(settings.database_url)
    try:
        db.wait_for(engine, settings.database.start_wait_s, log.report(process="up"))
        db.migrate(engine)
        with engine.begin() as connection:
            suite = suite_named(settings.crypto.suite)
            token = api_keys.make_admin_token(connection, suite)
            key = None
            if token is not None and not api_keys.any_keys(connection):
                _, key = _first_key(settings, connection)
            _keep_first(settings, FirstRun(token, key))
    finally:
        engine.dispose()
    return FirstRun(token, key)


def _first_key(settings: Settings, connection: Connection) -> tuple[str, str]:
    return api_keys.create_key(
        connection,
        suite_named(settings.crypto.suite),
        name="first key",
        tenant="default",
        project="default",
        environment="default",
    )


def first_credentials_path(settings: Settings) -> Path:
    """Where credentials are that were made at the start, until they are shown on a terminal."""
    return settings.data_dir / "secrets" / "first-credentials"


def _keep_first(settings: Settings, made: FirstRun) -> None:
    """Before the database knows them: a start that fails later must not lose them."""
    named = {"API key": made.api_key, "Admin token": made.admin_token}
    found = {name: value for name, value in named.items() if value is not None}
    if not found:
        return
    path = first_credentials_path(settings)
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    path.unlink(missing_ok=True)
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(fd, "w", encoding="utf-8") as file:
        file.writelines(f"{name:<15}{value}\n" for name, value in found.items())


OPERATOR = Author("operator")
"""Who has this machine's files, as the audit log names them."""


def need_second_person(settings: Settings, act: str, signature: str | None = None) -> None:
    """Insist that a second person has approved an act on keys, and that a person has signed it,
    where `keys` takes that; audited.

    On a machine without control's database it is done: nothing there could approve it.

    Args:
        act: what is done, the same each time. It may be done again until the approval ends.
        signature: of a person; see `signing_keys.evidence`.

    Raises:
        ApprovalRequired: nobody has approved it yet; it waits from now on.
        ApiError: `signature_required`, `invalid_signature`.
        DatabaseUnreachable: the database cannot be used.
    """
    engine = db.connect(settings.database_url)
    try:
        if not db.is_made(engine):
            return
        digest = suite_named(settings.crypto.suite).hex_digest(f"keys\0{act}".encode())
        with engine.begin() as connection:
            author = OPERATOR
            if signature is not None:
                signed = signing_keys.evidence(connection, signature, "RUN", act, b"")
                signing_keys.use(connection, signed)
                author = Author(str(signed["user"]), "", signed)
            elif "keys" in settings.control.signature_for:
                raise ApiError("signature_required", signing_keys.SIGN_IT)
            wanted = Wanted("keys", PLATFORM, act, digest, author)
            if "keys" in settings.control.second_person_for:
                approvals.use(connection, wanted, int(time.time()), keeps=True)
            admin_log.note(connection, author, "keys:operate", PLATFORM, act)
    except ApprovalRequired as refused:
        if not refused.known:
            approvals.keep(engine, refused, settings.control.second_person_hours * 3_600)
        raise
    finally:
        engine.dispose()


def renew_admin_token(settings: Settings) -> str:
    """Another admin token; the former is worth nothing from now on, and who came in by a sign-in
    link is signed out. Audited.

    Raises:
        DatabaseUnreachable: the database cannot be used.
    """
    with _database(settings) as engine, engine.begin() as connection:
        token = api_keys.renew_admin_token(connection, suite_named(settings.crypto.suite))
        sign_in_links.end_sessions(connection)
        admin_log.note(connection, OPERATOR, "users:write", "", "admin-token", {"renewed": True})
    return token


def sign_in_link(settings: Settings) -> str:
    """An address that signs the operator in to the console, once and soon. Audited.

    Raises:
        DatabaseUnreachable: the database cannot be used.
    """
    with _database(settings) as engine, engine.begin() as connection:
        code = sign_in_links.make(connection, suite_named(settings.crypto.suite))
        detail = {"lasts_s": sign_in_links.LINK_S}
        admin_log.note(connection, OPERATOR, "users:write", "", "sign-in-link", detail)
    base = settings.control.public_url or settings.control_base_url
    return f"{base}/console/enter?code={code}"


def another_key(settings: Settings) -> str:
    """Another API key like the first. Audited.

    Raises:
        DatabaseUnreachable: the database cannot be used.
    """
    with _database(settings) as engine, engine.begin() as connection:
        key_id, key = _first_key(settings, connection)
        admin_log.note(connection, OPERATOR, "keys:create", "default", key_id)
    return key


def kept_credentials(settings: Settings) -> str:
    """Credentials of the first start that were not shown yet; empty where none are. Audited."""
    try:
        found = first_credentials_path(settings).read_text(encoding="utf-8")
    except FileNotFoundError:
        return ""
    with _database(settings) as engine, engine.begin() as connection:
        admin_log.note(connection, OPERATOR, "users:read", "", "first-credentials")
    return found


@contextmanager
def _database(settings: Settings) -> Iterator[Engine]:
    engine = db.connect(settings.database_url)
    try:
        db.wait_for(engine, 0.0, log.report(process="credentials"))
        db.migrate(engine)
        yield engine
    finally:
        engine.dispose()


def children(settings: Settings, *, everything: bool) -> list[Child]:
    """The processes of one machine: the gateway's workers, and the rest if wanted."""
    found = [
        Child(
            f"gateway-{worker}",
            ["gateway", "--worker", str(worker)],
            HeartbeatProbe(heartbeat_path(settings.data_dir, worker)),
        )
        for worker in range(settings.server.workers)
    ]
    if everything:
        # Gateways end first: their streams come from the engine, their records go to control.
        workers = [child.name for child in found]
        probe = partial(
            answers, f"http://{reachable(settings.control.host)}:{settings.control.port}/livez"
        )
        found.insert(0, Child("control", ["control"], probe, workers, reloads=True))
        probe = partial(answers, f"{settings.semantic_base_url}/health")
        if settings.cache.compares_meanings:
            want_semantic(settings.semantic_wanted_path, wanted=True)
        found.append(
            Child("semantic", ["semantic"], probe, wanted=settings.semantic_wanted_path.exists)
        )
        if settings.runs_engine:
            address = f"http://{settings.engine.host}:{settings.engine.port}"
            probe = partial(answers, f"{address}/health")
            found.append(Child("engine", ["engine"], probe, workers))
    named = _named_references(settings)
    return [
        child._replace(environment=_environment_of(settings, child.arguments[0], named))
        for child in found
    ]


def want_semantic(path: Path, *, wanted: bool) -> None:
    """Say whether the semantic process of this machine is to run.

    Raises:
        OSError: it cannot be said.
    """
    if wanted:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        path.touch(mode=0o600)
    else:
        path.unlink(missing_ok=True)


def _named_references(settings: Settings) -> list[str]:
    """Where credentials of upstreams are: by the settings, by the resources in the database, and,
    where that is elsewhere, by what gateways of this machine served last."""
    found = [one for upstream in settings.upstreams for one in upstream.credential]
    for resource in (kept_resources(settings) or {}).values():
        if isinstance(resource.spec, UpstreamSpec):
            found += resource.spec.credential
    for status in read_statuses(settings.data_dir):
        found += [f"env:{name}" for name in status.variables]
    return found


_CONTROLS_OWN = ("DATABASE", "SMTP", "OIDC", "ALERTS")
_SHARED = ("REDIS",)
"""Groups of settings that may hold secrets, by who needs them."""


def _environment_of(settings: Settings, kind: str, named: Sequence[str]) -> dict[str, str]:
    """What one kind of process needs of our environment: settings, and the secrets it uses.

    Args:
        named: references to credentials of upstreams.
    """
    cache = settings.cache
    references: dict[str, list[str | None]] = {
        "gateway": [*named],
        # Control asks own engines how they are, and tests every upstream.
        "control": [
            settings.smtp.password,
            settings.oidc.client_secret,
            settings.audit.anchor_credential,
            *named,
        ],
        "semantic": [one.credential for one in (cache.judge, cache.embedder) if one is not None],
        "engine": [],
    }
    withheld = [ADMIN_TOKEN_VARIABLE]
    withheld += [ENV_PREFIX + group for group in _CONTROLS_OWN if kind != "control"]
    withheld += [ENV_PREFIX + group for group in _SHARED if kind not in ("gateway", "semantic")]
    return hardening.lean_environment(os.environ, ENV_PREFIX, withheld, references[kind])


def chat_model(settings: Settings) -> str | None:
    """A model that callers may ask for from the start; None where nothing names one."""
    if settings.runs_engine:
        return settings.engine.model
    if settings.routing.models:
        return next(iter(settings.routing.models))
    kept = kept_resources(settings) or {}
    made = {key: one.spec for key, one in kept.items() if one.managed_by is Origin.API}
    given = configuration.of_specs({**made, **configuration.specs_of(settings)})
    if given.virtual_names:
        return min(given.virtual_names)
    routes = model_routes.build(given, settings, catalog_file.load(), ())
    return next((name for name, route in routes.models.items() if route.kind == "chat"), None)


async def answers(url: str) -> bool:
    """Whether a GET of one of this machine's own processes is answered with 200, in time."""
    # Its certificate is for callers' name of it; nothing is sent that it could betray.
    try:
        async with httpx.AsyncClient(
            verify=False,  # noqa: S501  # nosec B501  # see above
            trust_env=False,
            timeout=_PROBE_MAX_S,
        ) as client:
            return (await client.get(url)).status_code == 200
    except httpx.HTTPError:
        return False
