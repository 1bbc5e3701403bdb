"""Admin API: the configuration's resources, all documents at once, and revisions.

(No postponed annotations here: FastAPI reads them.)
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Annotated, Any, ClassVar, NamedTuple

from fastapi import APIRouter, Depends, Path, Query, Response
from pydantic import (
    FailFast,
    Field,
    JsonValue,
    TypeAdapter,
    ValidationError,
    ValidatorFunctionWrapHandler,
    field_validator,
)
from sqlalchemy import Connection

from tokenschain.control.api import configuration_answers as answers
from tokenschain.control.api.approvals import need_approval, need_signature
from tokenschain.control.api.bodies import Example, Items, ListAnswer, RequestBody
from tokenschain.control.api.clearance import keeps_shorter
from tokenschain.control.api.configuration_answers import (
    READ,
    Applied,
    AppliedResource,
    ConfigDocument,
    ConfigResource,
    RevisionDetail,
    RevisionSummary,
)
from tokenschain.control.api.configuration_bodies import BODIES, NewSpec
from tokenschain.control.api.context import (
    AdminRoute,
    IfMatch,
    MaybeLabel,
    NameQuery,
    Paged,
    Permission,
    RequestContext,
    is_version,
    tag,
)
from tokenschain.control.configuration import (
    bounds,
    changes,
    checks,
    history,
    kinds,
    secret_references,
    store,
)
from tokenschain.control.configuration.changes import Change, ConfigurationRefused, Outcome
from tokenschain.control.configuration.history import ConfigRevision
from tokenschain.control.configuration.merge_patch import merge_patch
from tokenschain.control.configuration.resources import Kind, Origin, Problem, ResourceKey
from tokenschain.control.configuration.store import StoredResource
from tokenschain.control.identity import organization, ownership
from tokenschain.control.identity.ownership import Extent
from tokenschain.core.errors import ApiError, ErrorProblem
from tokenschain.core.formats.json_bounds import DOCUMENTS_BOUNDS, JsonBounds
from tokenschain.core.tenancy import PLATFORM
from tokenschain.infra.config.validation import Values
from tokenschain.infra.config.value_types import GuardedOperation
from tokenschain.infra.database.paging import Page

router = APIRouter(prefix="/api/v1", route_class=AdminRoute, tags=["configuration"])
WRITE = "configuration:write"
DOCUMENTS_MAX = bounds.RESOURCES_MAX
_SETTING, _REMOVING = "PUT /upstreams/{resource_name}", "DELETE /upstreams/{resource_name}"
PATHS: dict[Kind, str] = {
    Kind.UPSTREAM: "upstreams",
    Kind.CREDENTIAL: "credentials",
    Kind.MODEL: "models",
    Kind.VIRTUAL_MODEL: "virtual-models",
    Kind.ROUTING: "routing",
    Kind.CACHE_RULES: "cache-rules",
    Kind.MODERATION_POLICY: "moderation-policies",
    Kind.FILING: "filings",
    Kind.DATA_CLASS: "data-classes",
    Kind.PROCESSOR: "processors",
    Kind.LABEL_RULES: "label-rules",
    Kind.RECEIPT_RULES: "receipt-rules",
}
_WORDS: dict[Kind, tuple[str, str]] = {
    Kind.UPSTREAM: ("an upstream", "upstreams"),
    Kind.CREDENTIAL: ("a credential", "credentials; never the secrets"),
    Kind.MODEL: ("a model", "models with offers of their own"),
    Kind.VIRTUAL_MODEL: ("a virtual model", "virtual models"),
    Kind.ROUTING: ("routing rules", "routing rules"),
    Kind.CACHE_RULES: ("cache rules", "cache rules"),
    Kind.MODERATION_POLICY: ("a moderation policy", "moderation policies"),
    Kind.FILING: ("a filing", "filings and registrations of models"),
    Kind.DATA_CLASS: ("a data class", "data classes"),
    Kind.PROCESSOR: ("a processor", "who is handed data of calls"),
    Kind.LABEL_RULES: ("label rules", "label rules"),
    Kind.RECEIPT_RULES: ("receipt rules", "receipt rules"),
}
Tenant = Annotated[str, Query(max_length=64, pattern=r"^[\w.@-]*$")]
"""Whose resource it is; empty for the platform's."""
DryRun = Annotated[bool, Query()]
"""Whether only to say what would become of it."""
ResourceName = Annotated[str, Path(max_length=200)]
Reason = Annotated[str, Query(max_length=history.REASON_CHARACTERS_MAX)]


class GivenDocument(RequestBody):
    """A resource as a document."""

    example: ClassVar[Example] = {
        "kind": "virtual-model", "name": "writer", "spec": {"entries": [{"model": "qwen3-max"}]},
    }  # fmt: skip
    kind: Kind
    name: Annotated[str, Field(min_length=1, max_length=200)]
    tenant: MaybeLabel = ""
    spec: Annotated[dict[str, JsonValue], Field(default_factory=dict)]


_UNTIL_WRONG = TypeAdapter(Annotated[list[GivenDocument], FailFast()])
_WRONG_DOCUMENTS_MAX = 20


class Documents(RequestBody):
    """Documents that the configuration is to be as."""

    example: ClassVar[Example] = {"documents": [dict(GivenDocument.example)], "dry_run": True}
    bounds: ClassVar[JsonBounds] = DOCUMENTS_BOUNDS
    documents: Annotated[list[GivenDocument], Field(max_length=DOCUMENTS_MAX)]
    prune: bool = False
    """Whether resources that the API made and that are in no document are removed: the
    platform's, and those of tenants that the documents name."""
    dry_run: bool = False
    reason: Annotated[str, Field(max_length=history.REASON_CHARACTERS_MAX)] = ""

    @field_validator("documents", mode="wrap")
    @classmethod
    def _some_mistakes(
        cls, given: object, validate: ValidatorFunctionWrapHandler
    ) -> list[GivenDocument]:
        """Mistakes of some documents from the first wrong one on: those of 20,000 take seconds."""
        if isinstance(given, list) and len(given) <= DOCUMENTS_MAX:
            try:
                return _UNTIL_WRONG.validate_python(given)
            except ValidationError as error:
                first = int(error.errors()[0]["loc"][0])
                given = given[: first + _WRONG_DOCUMENTS_MAX]
        found: list[GivenDocument] = validate(given)
        return found


class Rollback(RequestBody):
    """Why a revision is undone."""

    example: ClassVar[Example] = {"reason": "wrong prices", "dry_run": True}
    reason: Annotated[str, Field(max_length=history.REASON_CHARACTERS_MAX)] = ""
    dry_run: bool = False


# --- each kind ---------------------------------------------------------------------------


class _Guards(NamedTuple):
    """The permissions of one kind's operations."""

    listing: Permission
    reading: Permission
    writing: Permission
    removing: Permission


def _guards(kind: Kind) -> _Guards:
    own = kinds.spec_type(kind, "tenant") is not None
    extent = Extent.TENANT if own else Extent.PLATFORM
    return _Guards(
        Permission(READ, Extent.ROWS if own else Extent.PLATFORM), Permission(READ, extent),
        Permission(WRITE, extent), Permission(WRITE, extent, READ),
    )  # fmt: skip


_SHOWN = {Kind.MODERATION_POLICY: answers.policy_shown}
"""Kinds of which one by itself is shown with more than its spec."""


def _add_reading(kind: Kind, guards: _Guards) -> None:
    """The operations of a kind that change nothing."""

    def list_all(
        asked: Annotated[RequestContext, Depends(guards.listing)],
        page: Paged,
        tenant: NameQuery = None,
    ) -> ListAnswer[ConfigResource]:
        return _listed(asked, kind, page, tenant)

    def read(
        asked: Annotated[RequestContext, Depends(guards.reading)],
        response: Response,
        resource_name: ResourceName,
        tenant: Tenant = "",
    ) -> ConfigResource:
        found = _found(asked, ResourceKey(kind, tenant, resource_name))
        tag(response, found.revision)
        return _SHOWN.get(kind, answers.resource_shown)(found)

    if kind in _SHOWN:
        read.__annotations__["return"] = answers.ModerationPolicyResource
    one, several = _WORDS[kind]
    _add(kind, "GET", "list", list_all, f"List {several}.", item=False)
    _add(kind, "GET", "read", read, f"Read {one}.")


def _add_writing(kind: Kind, guards: _Guards) -> None:
    """The operations of a kind that change something."""

    def put(
        asked: Annotated[RequestContext, Depends(guards.writing)],
        response: Response,
        resource_name: ResourceName,
        wanted: NewSpec,
        tenant: Tenant = "",
        dry_run: DryRun = False,
        if_match: IfMatch = "",
    ) -> AppliedResource:
        key = ResourceKey(kind, tenant, resource_name)
        asked.need(tenant or PLATFORM)
        if kind in (Kind.LABEL_RULES, Kind.RECEIPT_RULES):
            _check_tenant(asked, tenant)
        _check_version(store.find(_locked(asked), key), if_match)
        return _changed(asked, response, key, dict(wanted.spec), wanted.reason, dry_run=dry_run)

    def patch(
        asked: Annotated[RequestContext, Depends(guards.writing)],
        response: Response,
        resource_name: ResourceName,
        wanted: NewSpec,
        tenant: Tenant = "",
        dry_run: DryRun = False,
        if_match: IfMatch = "",
    ) -> AppliedResource:
        key = ResourceKey(kind, tenant, resource_name)
        asked.need(tenant or PLATFORM)
        found = store.find(_locked(asked), key)
        if found is None:
            raise missing(key)
        _check_version(found, if_match)
        values = merge_patch({} if kind is Kind.CREDENTIAL else found.values, wanted.spec)
        return _changed(asked, response, key, values, wanted.reason, dry_run=dry_run)

    def remove(
        asked: Annotated[RequestContext, Depends(guards.removing)],
        response: Response,
        resource_name: ResourceName,
        tenant: Tenant = "",
        dry_run: DryRun = False,
        reason: Reason = "",
        if_match: IfMatch = "",
    ) -> AppliedResource:
        key = ResourceKey(kind, tenant, resource_name)
        _check_version(_found(asked, key), if_match)
        return _changed(asked, response, key, None, reason, dry_run=dry_run)

    for function in (put, patch):
        function.__annotations__["wanted"] = BODIES[kind]
    one, _ = _WORDS[kind]
    set_it = f"Set {one}, anew or changed; in force at all gateways within a second."
    _add(kind, "PUT", "put", put, set_it)
    back = f"Change fields of {one}; null takes one back to its default (RFC 7396)."
    _add(kind, "PATCH", "patch", patch, back)
    _add(kind, "DELETE", "delete", remove, f"Take {one} away.")


def _add(
    kind: Kind, method: str, verb: str, function: Callable[..., Any], said: str, *,
    item: bool = True,
) -> None:  # fmt: skip
    path = PATHS[kind]
    name = f"{verb}_{path.replace('-', '_')}"
    function.__doc__ = said
    at = f"/{path}/{{resource_name:path}}" if item else f"/{path}"
    router.add_api_route(at, function, methods=[method], name=name, operation_id=name)


for _kind in Kind:
    _add_reading(_kind, _guards(_kind))
    _add_writing(_kind, _guards(_kind))


def _listed(
    asked: RequestContext, kind: Kind, page: Page, tenant: str | None
) -> ListAnswer[ConfigResource]:
    whose = None
    if kinds.spec_type(kind, "tenant") is None:
        asked.need(PLATFORM)
    else:
        whose = asked.tenant(tenant)
    found = store.page(asked.db, kind, page, whose)
    shown = [
        answers.resource_shown(one)
        for one in found.resources
        if asked.may(READ, one.key.tenant or PLATFORM)
    ]
    # Of one tenant, all is seen or nothing: then not even where the next page begins.
    cursor = found.next_cursor if asked.may(READ, whose or PLATFORM) else None
    return ListAnswer[ConfigResource](data=shown, next_cursor=cursor)


def _found(asked: RequestContext, key: ResourceKey) -> StoredResource:
    """A resource that the actor may see.

    Raises:
        ApiError: `not_found`, `permission_denied`.
    """
    if not asked.may(READ, key.tenant or PLATFORM):
        raise missing(key)
    asked.need(key.tenant or PLATFORM)
    found = store.find(_locked(asked), key)
    if found is None:
        raise missing(key)
    return found


def missing(key: ResourceKey) -> ApiError:
    return ApiError("not_found", f"There is no {key}.", param="resource_name")


def _check_version(found: StoredResource | None, if_match: str) -> None:
    """Insist that a resource is as it was read.

    Raises:
        ApiError: `precondition_failed`, with both revisions.
    """
    if is_version(if_match, None if found is None else found.revision):
        return
    if found is None:
        raise ApiError("precondition_failed", "There is no such resource any more.")
    wanted = if_match.strip().removeprefix("W/").strip('"')
    raise ApiError(
        "precondition_failed",
        f'You have revision {wanted}; it is at revision "{found.revision}" now: read it again.',
    )


def _check_tenant(asked: RequestContext, tenant: str) -> None:
    """
    Raises:
        ApiError: `not_found`: what is set for nobody is seen by nobody to be missing.
    """
    if tenant and organization.find(asked.db, "tenant", tenant, tenant) is None:
        raise ApiError("not_found", "There is no such tenant.", param="tenant")


def _changed(
    asked: RequestContext,
    response: Response,
    key: ResourceKey,
    values: dict[str, Any] | None,
    reason: str,
    *,
    dry_run: bool,
) -> AppliedResource:
    asked.need(key.tenant or PLATFORM)
    outcome = _made(asked, [Change(key, values)], reason, dry_run=dry_run)
    found = outcome.resources.get(key)
    if found is not None and found.revision:
        tag(response, found.revision)
    shown = None if found is None else answers.resource_shown(found)
    return AppliedResource(resource=shown, **answers.applied(asked, outcome, dry_run=dry_run))


def _locked(asked: RequestContext) -> Connection:
    """The request's transaction; where it writes, no other one changes what it checks."""
    if asked.action == WRITE:
        changes.lock(asked.db)
    return asked.db


def _made(
    asked: RequestContext, wanted: Sequence[Change], reason: str, *, dry_run: bool
) -> Outcome:
    configurator = asked.context.configurator
    if not dry_run:
        _need_second_person(asked, wanted)
    check_upstreams(asked, _locked(asked), wanted)
    try:
        return configurator.change(
            asked.db, asked.author, wanted, reason=reason, dry_run=dry_run,
            per_minute_max=_per_minute_max(asked),
        )  # fmt: skip
    except ConfigurationRefused as error:
        raise refusal(error) from None


_SECOND_PERSON: dict[Kind, GuardedOperation] = {
    Kind.CREDENTIAL: "credentials", Kind.MODERATION_POLICY: "moderation"
}  # fmt: skip
"""Kinds of the platform's resources that two people change."""


def _need_second_person(asked: RequestContext, wanted: Sequence[Change]) -> None:
    found = {
        operation: [one for one in wanted if one.key.kind is kind and not one.key.tenant]
        for kind, operation in _SECOND_PERSON.items()
    }
    erasing = [one for one in wanted if keeps_shorter(asked.db, one)]
    operations = [operation for operation, own in found.items() if own]
    if erasing:
        operations.append("content:erase")
    need_signature(asked, *operations)
    for one in erasing:
        asked.need_also("content:erase", one.key.tenant or PLATFORM)
        need_approval(asked, "content:erase", one.key.tenant or PLATFORM, one.key.name, one.values)
    for operation, own in found.items():
        if own:
            names = ", ".join(one.key.name for one in own)
            request = [[one.key.name, one.values] for one in own]
            need_approval(asked, operation, PLATFORM, names, request)


def _per_minute_max(asked: RequestContext) -> int:
    """Each change is built into every gateway's memory anew; operators apply whole fleets."""
    control = asked.context.settings.control
    if asked.actor.tenant == PLATFORM:
        return control.operator_changes_per_minute_max
    return control.configuration_changes_per_minute_max


def refusal(error: ConfigurationRefused) -> ApiError:
    """The answer to what was refused: every problem, with the resource and field it is about."""
    problems = [
        ErrorProblem(one.kind, one.tenant, one.name, one.field, f"{one.why}{one.hint()}")
        for one in error.problems
    ]
    code = "conflict" if error.is_conflict else "invalid_value"
    return ApiError(code, str(error), param=error.problems[0].field or None, problems=problems)


def check_upstreams(asked: RequestContext, db: Connection, wanted: Iterable[Change]) -> None:
    """What the platform alone says of a tenant's own upstream: where data goes, what a call costs,
    and keys of the gateway's machine. Where it has said so, the upstream stays where it is. And no
    upstream is given another key of the machine than the settings allow.

    Raises:
        ApiError: `permission_denied`, or `invalid_value` for a key.
    """
    upstreams = [one for one in wanted if one.key.kind is Kind.UPSTREAM]
    before = asked.context.configurator.read(db) if upstreams else {}
    for key, values in upstreams:
        known = before.get(key)
        old = {} if known is None else known.values
        if key.tenant:
            _check_own_upstream(asked, key, old, values)
        if isinstance(values, dict):
            # What was named before may stay, but goes nowhere else.
            stays = not checks.address_fields(old, values)
            _check_references(
                asked, key, _references(values) - (_references(old) if stays else set())
            )


def _check_own_upstream(
    asked: RequestContext, key: ResourceKey, old: Values, values: object
) -> None:
    if isinstance(values, dict):
        fields = checks.platform_fields(old, values)
        ownership.check_fields(asked, _SETTING, ownership.OWN, fields)
    pinned = checks.platform_set(old)
    if not pinned:
        return
    said = f"The platform set {' and '.join(pinned)} of the {key}: only the platform"
    if values is None:
        why = f"{said} takes it away."
        ownership.check_fields(asked, _REMOVING, ownership.PINNED, why=why)
    elif isinstance(values, dict):
        moved = checks.address_fields(old, values)
        why = f"{said} changes its {' and '.join(moved)}."
        ownership.check_fields(asked, _SETTING, ownership.PINNED, moved, why)


def _check_references(asked: RequestContext, key: ResourceKey, named: Iterable[str]) -> None:
    problems = [
        Problem(*key, "credential", f"credential: `{reference}` may not be named here: {why}")
        for reference in sorted(named)
        if (why := secret_references.refusal_of(reference, asked.context.settings)) is not None
    ]
    if problems:
        raise refusal(ConfigurationRefused(problems))


def _references(values: Mapping[str, object]) -> set[str]:
    """The keys that an upstream names, but for stored ones: those are of this API. What is no
    reference may be a key itself, and is refused without being repeated."""
    return {one for one in checks.references_in(values) if one.startswith(_OF_THE_MACHINE)}


_OF_THE_MACHINE = ("env:", "file:", "sealed:")


# --- all at once -------------------------------------------------------------------------

Applying = Annotated[RequestContext, Depends(Permission(WRITE, Extent.TENANT))]
Exporting = Annotated[RequestContext, Depends(Permission(READ, Extent.ROWS))]
ReadingRevisions = Annotated[RequestContext, Depends(Permission(READ, Extent.ROWS))]
ReadingRevision = Annotated[RequestContext, Depends(Permission(READ, Extent.TENANT))]
RollingBack = Annotated[RequestContext, Depends(Permission(WRITE, Extent.TENANT, READ))]


@router.post("/configuration/apply")
def apply_documents(asked: Applying, wanted: Documents) -> Applied:
    """Make the configuration what documents say, all or none, as one revision.

    Their order does not matter, and the same documents again change nothing.
    """
    owners = {document.tenant for document in wanted.documents}
    if wanted.prune and asked.may(WRITE, PLATFORM):
        owners.add("")
    for owner in owners or {asked.actor.tenant.replace(PLATFORM, "")}:
        asked.need(owner or PLATFORM)
    given = [
        Change(ResourceKey(one.kind, one.tenant, one.name), dict(one.spec))
        for one in wanted.documents
    ]
    if wanted.prune:
        named = {one.key for one in given}
        given += [
            Change(key, None)
            for key, one in asked.context.configurator.read(_locked(asked)).items()
            if key.tenant in owners and key not in named and one.managed_by is Origin.API
        ]
    outcome = _made(asked, given, wanted.reason, dry_run=wanted.dry_run)
    return Applied(**answers.applied(asked, outcome, dry_run=wanted.dry_run))


@router.get("/configuration")
def export_documents(asked: Exporting, tenant: NameQuery = None) -> Items[ConfigDocument]:
    """Export the configuration as documents, which applied to an empty platform make the same
    snapshot; of credentials, the fingerprints alone."""
    whose = asked.tenant(tenant)
    found = asked.context.configurator.read(asked.db)
    documents = [
        ConfigDocument(kind=key.kind, name=key.name, tenant=key.tenant, spec=found[key].values)
        for key in sorted(found)
        if (whose is None or key.tenant == whose) and asked.may(READ, key.tenant or PLATFORM)
    ]
    return Items[ConfigDocument](data=documents)


# --- revisions ---------------------------------------------------------------------------


@router.get("/revisions", response_model_exclude_unset=True, tags=["configuration"])
def list_revisions(
    asked: ReadingRevisions, page: Paged, tenant: NameQuery = None
) -> ListAnswer[RevisionSummary]:
    """List changes of the configuration, the latest first."""
    whose = asked.tenant(tenant)
    found, rows = history.page(asked.db, page, whose)
    hidden = ownership.hidden_fields(asked, "GET /revisions")
    shown = [
        RevisionSummary(**answers.summary(one, hidden))
        for one in found
        if asked.may(READ, one.tenant or PLATFORM)
    ]
    cursor = rows.next_cursor if asked.may(READ, whose or PLATFORM) else None
    return ListAnswer[RevisionSummary](data=shown, next_cursor=cursor)


@router.get("/revisions/{revision}", response_model_exclude_unset=True)
def read_revision(asked: ReadingRevision, revision: int) -> RevisionDetail:
    """Read one change of the configuration: who, when, why, what differs and what it did."""
    hidden = ownership.hidden_fields(asked, "GET /revisions/{revision}")
    return answers.detail(_revision(asked, revision), hidden)


@router.post("/revisions/{revision}/rollback")
def roll_back_revision(asked: RollingBack, revision: int, wanted: Rollback) -> Applied:
    """Undo what a revision did, by a new revision.

    It is refused where a later revision changed the same resources, or where what was would be
    wrong today.
    """
    found = _revision(asked, revision)
    for owner in {one.tenant for one in found.changes}:
        asked.need(owner or PLATFORM)
    configurator = asked.context.configurator
    back = [Change(one.key, one.before) for one in found.changes]
    if not wanted.dry_run:
        _need_second_person(asked, back)
    check_upstreams(asked, _locked(asked), back)
    try:
        outcome = configurator.roll_back(
            asked.db, asked.author, found, reason=wanted.reason, dry_run=wanted.dry_run,
            per_minute_max=_per_minute_max(asked),
        )  # fmt: skip
    except ConfigurationRefused as error:
        raise refusal(error) from None
    return Applied(**answers.applied(asked, outcome, dry_run=wanted.dry_run))


def _revision(asked: RequestContext, number: int) -> ConfigRevision:
    found = history.find(asked.db, number) if 0 < number < 2**63 else None
    if found is None or not asked.may(READ, found.tenant or PLATFORM):
        raise ApiError("not_found", f"There is no revision {number}.", param="revision")
    asked.need(found.tenant or PLATFORM)
    return found
