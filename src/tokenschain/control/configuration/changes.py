"""Changes of the configuration: checked whole, previewed, written as one revision, rolled back."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import NamedTuple

from sqlalchemy import Connection, select

from tokenschain.control import revisions
from tokenschain.control.audit import admin_log
from tokenschain.control.audit.admin_log import Author
from tokenschain.control.configuration import (
    bounds,
    checks,
    configuration,
    history,
    kinds,
    model_routes,
    tenant_rules,
)
from tokenschain.control.configuration import store as resource_store
from tokenschain.control.configuration.bounds import Measured
from tokenschain.control.configuration.checks import Organization
from tokenschain.control.configuration.configuration import Configuration
from tokenschain.control.configuration.history import ConfigRevision, Effects, ResourceChange
from tokenschain.control.configuration.kinds import CredentialSpec, Spec
from tokenschain.control.configuration.model_routes import Routes
from tokenschain.control.configuration.resources import (
    MANAGED_BY,
    PROBLEMS_MAX,
    Kind,
    NamedInVain,
    Origin,
    Owned,
    Problem,
    ResourceKey,
)
from tokenschain.control.configuration.store import ResourceStore, StoredResource
from tokenschain.core.errors import ApiError
from tokenschain.core.log_events import Reporter
from tokenschain.core.pricing.catalog import Catalog
from tokenschain.core.snapshot import Snapshot, encoding
from tokenschain.infra.config import Settings
from tokenschain.infra.database.tables import meta, organization_units
from tokenschain.infra.security.suite import Sealer, Suite

ACTION = "configuration:write"
_SHOWN_MAX = 20
_AUDITED_MAX = 50


class Change(NamedTuple):
    """What a resource is to be."""

    key: ResourceKey
    values: object
    """Its spec as somebody gives it; None: it is removed."""


class ConfigurationRefused(Exception):
    """What was asked for is wrong; nothing was changed."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        lines = list(map(str, problems[:_SHOWN_MAX]))
        if len(problems) > _SHOWN_MAX:
            lines.append(f"and {len(problems) - _SHOWN_MAX} more")
        super().__init__("\n".join(lines))
        self.problems = tuple(problems)

    @property
    def is_conflict(self) -> bool:
        """Whether nothing is wrong but that the settings file manages what was to change."""
        return all(one.field == MANAGED_BY for one in self.problems)


class Outcome(NamedTuple):
    """What was changed, or would be."""

    revision: int
    """0 where nothing was written: a dry run, or everything is so already."""
    changed: tuple[ResourceChange, ...]
    effects: Effects
    warnings: tuple[Problem, ...]
    """What a tenant's resources, or rules of the settings file, name in vain."""
    resources: Mapping[ResourceKey, StoredResource]
    """All of them as they are then."""


class State(NamedTuple):
    """Resources, the configuration they make up, and what gateways route by then."""

    resources: dict[ResourceKey, StoredResource]
    given: Configuration
    routes: Routes


class Configurator:
    """Changes the configuration in the database."""

    def __init__(
        self,
        settings: Settings,
        catalog: Catalog,
        sealer: Sealer,
        suite: Suite,
        report: Reporter,
    ) -> None:
        self._settings = settings
        self._catalog = catalog
        self._sealer = sealer
        self._suite = suite
        self._store = ResourceStore(report)
        self.discovered: tuple[str, ...] = ()
        """Models that an engine under `engine.url` says it serves."""
        self.settings_file = "the environment of control"
        """Where what is managed by the settings is, as people know it."""

    def read(self, connection: Connection) -> dict[ResourceKey, StoredResource]:
        """Every resource in force."""
        return self._store.read(connection)

    def change(
        self,
        connection: Connection,
        author: Author,
        wanted: Sequence[Change],
        *,
        origin: Origin = Origin.API,
        reason: str = "",
        rolled_back_of: int | None = None,
        dry_run: bool = False,
        detail: Mapping[str, object] | None = None,
        per_minute_max: int | None = None,
    ) -> Outcome:
        """Make changes, all or none, as one revision with its audit note.

        Args:
            origin: the file may take over what the API made, and not the other way round.
            dry_run: only say what would become of it.
            detail: more for the audit log.
            per_minute_max: changes of a tenant's resources; None: no bound.

        Raises:
            ApiError: `rate_limit_exceeded`, or `conflict` beyond a bound of the configuration.
            ConfigurationRefused: with every problem, also that the settings file manages one.
        """
        if not dry_run:
            lock(connection)
        before = self.state_of(self._store.read(connection))
        specs, wrong = self._specs(connection, wanted, before.resources, origin)
        changed = _changed(specs, before.resources, origin)
        after = self._after(before, specs, origin)
        fatal, warnings = self._check(connection, before, after, {c.key for c in changed}, origin)
        if wrong or fatal:
            raise ConfigurationRefused([*wrong, *_besides(wrong, fatal)])
        why = _unreadable(before, after) if changed else ""
        if why:
            raise ConfigurationRefused([Problem(*changed[0].key, "spec", why)])
        cache = before.given.cache != after.given.cache
        cache = cache or before.given.tenant_cache != after.given.tenant_cache
        effects = history.effects_of(before.routes, after.routes, cache=cache)
        if dry_run or not changed:
            return Outcome(0, changed, effects, warnings, after.resources)
        number = revisions.bump(connection)
        found = history.written(number, author, origin, reason, changed, effects, rolled_back_of)
        if per_minute_max is not None:
            history.check_rate(connection, found.tenant, per_minute_max, found.at_ms)
        resources = self._write(connection, found, after, wanted)
        named = [str(one.key) for one in changed[:_AUDITED_MAX]]
        more = {"reason": reason} if reason else {}
        told = {"changed": len(changed), "resources": named, **more, **(detail or {})}
        admin_log.note(connection, author, ACTION, found.tenant, f"revision {number}", told)
        return Outcome(number, changed, effects, warnings, resources)

    def roll_back(
        self,
        connection: Connection,
        author: Author,
        revision: ConfigRevision,
        *,
        reason: str = "",
        dry_run: bool = False,
        per_minute_max: int | None = None,
    ) -> Outcome:
        """Undo what a revision did: a new revision that makes each of its resources what it was.

        Raises:
            ApiError: `conflict`: a later revision changed one of them and was not rolled back
                itself.
            ConfigurationRefused: it would be wrong today, or the settings file manages it.
        """
        later = history.changed_since(connection, revision.revision)
        current = self.read(connection)
        for one in revision.changes:
            now = current.get(one.key)
            if one.key in later and one.after != (None if now is None else now.values):
                raise ApiError(
                    "conflict",
                    f"Revision {later[one.key]} changed {one.key} since; roll that back first.",
                    param="revision",
                )
        wanted = [Change(one.key, one.before) for one in revision.changes]
        return self.change(
            connection, author, wanted, reason=reason or f"roll back revision {revision.revision}",
            rolled_back_of=revision.revision, dry_run=dry_run, per_minute_max=per_minute_max,
        )  # fmt: skip

    def current(self, connection: Connection) -> State:
        """What is in force."""
        return self.state_of(self._store.read(connection))

    def secrets(self, connection: Connection, state: State) -> dict[str, bytes]:
        """The secrets of all credentials, by `tenant/name`."""
        return resource_store.secrets_of(connection, self._sealer, state.resources)

    def state_of(self, resources: Mapping[ResourceKey, StoredResource]) -> State:
        """The configuration that resources make up, in force or not."""
        resources = dict(resources)
        given = configuration.of_specs({key: one.spec for key, one in resources.items()})
        routes = model_routes.build(given, self._settings, self._catalog, self.discovered)
        return State(resources, given, routes)

    def _specs(
        self,
        connection: Connection,
        wanted: Sequence[Change],
        before: Mapping[ResourceKey, StoredResource],
        origin: Origin,
    ) -> tuple[dict[ResourceKey, Spec | None], list[Problem]]:
        """The specs that are asked for, None of what is to be removed, and what is wrong with
        them; of those that are, what is left without it."""
        specs: dict[ResourceKey, Spec | None] = {}
        problems: list[Problem] = []
        for key, values in wanted:
            if len(problems) >= PROBLEMS_MAX:
                raise ConfigurationRefused(problems)
            known = before.get(key)
            if known is not None and known.managed_by is Origin.FILE and origin is Origin.API:
                if _same(known, values):
                    continue
                # What it would be is checked with the rest all the same.
                problems.append(Problem(*key, MANAGED_BY, self._managed(key)))
            if key in specs:
                problems.append(Problem(*key, "name", "it is given twice"))
            elif values is None:
                specs[key] = None
            else:
                spec, found = kinds.read(key, values)
                if isinstance(spec, CredentialSpec) and not found:
                    spec, found = self._marked(connection, key, spec)
                problems += found
                if spec is not None:
                    specs[key] = spec
        return specs, problems

    def _managed(self, key: ResourceKey) -> str:
        place = configuration.place_in_file(key)
        return f"it is managed by {self.settings_file}, under {place}: change it there"

    def _marked(
        self, connection: Connection, key: ResourceKey, spec: CredentialSpec
    ) -> tuple[CredentialSpec, list[Problem]]:
        """A credential as it is kept: by the fingerprint of its secret alone."""
        if spec.value:
            mark = resource_store.fingerprint(self._suite, key, spec.value)
            return CredentialSpec(fingerprint=mark), []
        if not spec.fingerprint:
            return spec, [Problem(*key, "value", "`value` is missing: the secret itself")]
        if not resource_store.has_secret(connection, key, spec.fingerprint):
            why = f"no secret with fingerprint {spec.fingerprint} is kept: give its `value`"
            return spec, [Problem(*key, "value", why)]
        return spec, []

    def _after(
        self, before: State, specs: Mapping[ResourceKey, Spec | None], origin: Origin
    ) -> State:
        resources = dict(before.resources)
        for key, spec in specs.items():
            if spec is None:
                resources.pop(key, None)
            else:
                resources[key] = StoredResource(key, spec, origin, 0, 0)
        after = self.state_of(resources)
        bounds.check(
            Measured(before.resources, before.routes), Measured(after.resources, after.routes),
            {key.tenant for key in specs},
        )  # fmt: skip
        return after

    def _check(
        self,
        connection: Connection,
        before: State,
        after: State,
        changed: set[ResourceKey],
        origin: Origin,
    ) -> tuple[tuple[Problem, ...], tuple[Problem, ...]]:
        """What is wrong with the whole then, and what is only to be said: what was wrong before is
        nobody's fault now, nor does a tenant's mistake keep the platform from its changes."""
        old = set(checks.problems(before.given, before.routes))
        fatal, warnings = dict[Problem, None](), dict[Problem, None]()
        for problem in checks.problems(after.given, after.routes):
            if problem.key in changed or (problem not in old and not problem.tenant):
                fatal[problem] = None
            elif problem not in old:
                warnings[problem] = None
        organization = organization_of(connection)
        for problem in checks.reference_problems(after.given, after.routes, organization):
            if problem.key in changed:
                (warnings if origin is Origin.FILE else fatal)[problem] = None
        found = [*islice(warnings, PROBLEMS_MAX)]
        if origin is not Origin.FILE:
            found += checks.consequences(before.given, after.given)
        return tuple(islice(fatal, PROBLEMS_MAX)), tuple(found)

    def _write(
        self, connection: Connection, made: ConfigRevision, after: State, wanted: Sequence[Change]
    ) -> dict[ResourceKey, StoredResource]:
        history.write(connection, made)
        resources = dict(after.resources)
        for one in made.changes:
            if one.kind is Kind.CREDENTIAL:
                self._write_secret(connection, one, wanted)
            if one.after is None:
                resource_store.remove(connection, one.key)
                continue
            found = resources[one.key]._replace(revision=made.revision, changed_at_ms=made.at_ms)
            resources[one.key] = found
            resource_store.put(connection, found)
        return resources

    def _write_secret(
        self, connection: Connection, one: ResourceChange, wanted: Sequence[Change]
    ) -> None:
        before = str((one.before or {}).get("fingerprint", ""))
        after = str((one.after or {}).get("fingerprint", ""))
        given = next((change.values for change in wanted if change.key == one.key), None)
        if isinstance(given, dict) and given.get("value"):
            secret = str(given["value"])
            resource_store.keep_secret(connection, self._sealer, one.key, after, secret)
        resource_store.name_secret(connection, one.key, before, after)


def _changed(
    specs: Mapping[ResourceKey, Spec | None],
    before: Mapping[ResourceKey, StoredResource],
    origin: Origin,
) -> tuple[ResourceChange, ...]:
    """What differs from what is there; in the order of kinds and names."""
    found = []
    for key in sorted(specs):
        spec, known = specs[key], before.get(key)
        if spec is None and known is None:
            continue
        same = known is not None and known.spec == spec and known.managed_by is origin
        if not same:
            old = None if known is None else known.values
            new = None if spec is None else kinds.canonical(spec)
            found.append(ResourceChange(*key, old, new, origin))
    return tuple(found)


def _same(known: StoredResource, values: object) -> bool:
    """Whether what is asked for is there already."""
    return values is not None and kinds.read(known.key, values) == (known.spec, [])


def _besides(wrong: Sequence[Problem], others: Iterable[Problem]) -> Iterator[Problem]:
    """Problems of the whole that are more than what wrong specs lead to."""
    specs = [one for one in wrong if one.field != MANAGED_BY]
    by_key: dict[ResourceKey, list[Problem]] = {}
    for one in specs:
        by_key.setdefault(one.key, []).append(one)
    sold_in_doubt = any(kinds.may_sell_otherwise(one) for one in specs)
    for problem in others:
        field, because = kinds.field_of(problem), problem.because
        same_fault = any(
            kinds.field_of(one) == field or (because and kinds.may_be_of(one, because))
            for one in by_key.get(problem.key, ())
        )
        if not (same_fault or _is_in_doubt(problem.names, by_key, sold_in_doubt=sold_in_doubt)):
            yield problem


def _is_in_doubt(
    named: NamedInVain | None,
    wrong: Mapping[ResourceKey, Sequence[Problem]],
    *,
    sold_in_doubt: bool,
) -> bool:
    """Whether what is named in vain may be there once the specs that are wrong are mended."""
    if named is None:
        return False
    if named.field:
        key = ResourceKey(named.kind, named.tenant, named.name)
        return any(kinds.may_be_of(one, (named.field,)) for one in wrong.get(key, ()))
    if named.kind is Kind.MODEL and sold_in_doubt:
        return True
    as_kinds = (Kind.MODEL, Kind.VIRTUAL_MODEL) if named.kind is Kind.MODEL else (named.kind,)
    return any(
        ResourceKey(kind, tenant, named.name) in wrong
        for kind in as_kinds
        for tenant in {named.tenant, ""}
    )


def _unreadable(before: State, after: State) -> str:
    """Why gateways could not take the configuration in; empty: they can. Whatever gets past the
    other checks must not keep every later change from them."""
    try:
        body = encoding.encode(_published(after))
        encoding.decode(body)
    except Exception as error:  # noqa: BLE001 - any would be theirs
        return f"gateways could not read it: {error}"
    most = bounds.SNAPSHOT_BYTES_MAX
    # What is too large already may shrink.
    if len(body) > most and len(body) >= len(encoding.encode(_published(before))):
        return f"the whole configuration would be larger than {most} bytes"
    return ""


def _published(state: State) -> Snapshot:
    """The part of a snapshot that the configuration makes up."""
    routes, cache = state.routes, tenant_rules.cache(state.given)
    return Snapshot(
        "", routes.upstreams, routes.models, routes.routing, cache=cache, aliases=routes.aliases,
        tenants=routes.tenants, moderation=tenant_rules.moderation(state.given),
        labels=tenant_rules.labels(state.given), receipts=tenant_rules.receipts(state.given),
    )  # fmt: skip


def lock(connection: Connection) -> None:
    """Changes of the configuration come one after the other; on SQLite, all do anyway. What a
    change depends on is read after this."""
    row = select(meta.c.value).where(meta.c.name == revisions.REVISION)
    connection.execute(row.with_for_update()).first()


def organization_of(connection: Connection) -> Organization:
    """The tenants and projects that there are."""
    units = organization_units.c
    rows = connection.execute(
        select(units.kind, units.tenant, units.name).where(units.kind.in_(("tenant", "project")))
    ).all()
    return Organization(
        frozenset(row.name for row in rows if row.kind == "tenant"),
        frozenset(Owned(row.tenant, row.name) for row in rows if row.kind == "project"),
    )
