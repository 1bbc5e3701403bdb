"""Admin API: test of an upstream, stored or not yet, with the models that it says it has.

(No postponed annotations here: FastAPI reads them.)
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Annotated, ClassVar, Literal

from fastapi import APIRouter, Depends, Path, Query
from pydantic import Field, JsonValue
from sqlalchemy import Connection

from tokenschain.control import gateways
from tokenschain.control.api.bodies import AnswerBody, Example, RequestBody
from tokenschain.control.api.configuration import (
    WRITE,
    check_upstreams,
    missing,
    refusal,
)
from tokenschain.control.api.configuration_answers import READ, gateways_named
from tokenschain.control.api.context import AdminRoute, Permission, RequestContext
from tokenschain.control.configuration import discovery, store
from tokenschain.control.configuration.changes import Change, ConfigurationRefused, State
from tokenschain.control.configuration.checks import STORED
from tokenschain.control.configuration.resources import Kind, ResourceKey
from tokenschain.control.identity.ownership import Extent
from tokenschain.core.errors import ApiError
from tokenschain.core.snapshot import Upstream
from tokenschain.core.tenancy import PLATFORM
from tokenschain.core.upstream_report import MEND_VARIABLE, StepResult, UpstreamReport
from tokenschain.infra import hardening
from tokenschain.infra.database.engine import reading

router = APIRouter(prefix="/api/v1", route_class=AdminRoute, tags=["configuration"])
SHOWN_MAX = 200
"""Of names of models, in each list."""


class TestBody(RequestBody):
    """What is tested."""

    __test__ = False  # its name is no test's
    example: ClassVar[Example] = {"model": "qwen3-max"}
    spec: dict[str, JsonValue] | None = None
    """Of an upstream that is not stored yet; the stored one's by default."""
    key: Annotated[str, Field(max_length=4096)] = ""
    """The secret of the `stored:NAME` that the spec names as `credential`: it is tried, and kept
    nowhere."""
    model: Annotated[str, Field(max_length=200)] = ""
    """Which of its models is called, by the name that callers use; by default the first one."""


class TestStep(AnswerBody):
    """One step of a test."""

    __test__ = False
    step: Literal["credential", "connection", "models", "call"]
    outcome: Literal["ok", "failed", "skipped"]
    message: str
    """What was found, or why it was left out."""
    remedy: str
    """What to do about it, where it failed."""
    took_ms: int | None


class DiscoveredModels(AnswerBody):
    """What an upstream lists, beside what is configured; at most 200 names in each list."""

    listed: int
    """How many models its own list has."""
    missing: list[str]
    """Configured here, and not in its list."""
    new: list[str]
    """In its list, not configured, and with a known price."""
    unpriced: list[str]
    """In its list, and without a price here."""
    proposed: JsonValue
    """What `models` would be with the new and without the missing; null: as it is."""


class UpstreamTest(AnswerBody):
    """What a test of an upstream found."""

    ok: bool
    """Whether no step failed."""
    steps: list[TestStep]
    models: DiscoveredModels | None
    """Null where it has no list of models that can be read."""


Testing = Annotated[RequestContext, Depends(Permission(WRITE, Extent.TENANT, READ))]


@router.post("/upstreams/{resource_name:path}/test")
def test_upstream(
    asked: Testing,
    resource_name: Annotated[str, Path(max_length=200)],
    wanted: TestBody,
    tenant: Annotated[str, Query(max_length=64, pattern=r"^[\w.@-]*$")] = "",
) -> UpstreamTest:
    """Test an upstream from control: credential, connection, its list of models, one small call.

    Each step says what failed and how to mend it. A spec that is not stored yet is tested as it
    would be stored. Tenants' own upstreams are asked at public addresses only. The call is not
    metered; the vendor charges its account some ten tokens.
    """
    key = ResourceKey(Kind.UPSTREAM, tenant, resource_name)
    tester = asked.context.upstream_tester
    if tester is None:
        raise ApiError("not_found", "This control tests no upstreams.")
    asked.need(tenant or PLATFORM)
    with reading(asked.context.engine) as db:
        state = _state(asked, db, key, wanted)
        found = discovery.subject(state, key, wanted.model)
        if found is None:
            raise ApiError("invalid_value", f"The {key} has no address.", param="spec")
        if wanted.key:
            stored = dict.fromkeys(found.upstream.credentials, wanted.key)
        else:
            stored = _secrets(asked, db, state, found.upstream)
        named = hardening.variables_in(found.upstream.credentials)
        lacking = {
            name: gateways_named(asked, at) for name, at in gateways.lacking(db, named).items()
        }
        heard = bool(gateways.seen(db))
    if wanted.model and found.trial is None:
        why = f"The {key} does not serve `{wanted.model}`."
        raise ApiError("invalid_value", why, param="model")
    report = asked.wait_for(tester.test, found.upstream, found.trial, stored)
    if named and heard:
        report = _at_gateways(report, named, lacking)
    failed = [one.step for one in report.steps if one.outcome == "failed"]
    asked.note(tenant, str(key), {"test": failed or "ok"})
    return UpstreamTest(
        ok=not failed,
        steps=[TestStep.model_validate(one) for one in report.steps],
        models=None if report.models is None else _models(asked, state, key, report.models),
    )


def _at_gateways(
    report: UpstreamReport, named: Collection[str], lacking: Mapping[str, str]
) -> UpstreamReport:
    """A report with what gateways have of the variables that are named: they make the calls.

    Args:
        lacking: variables that are not set, and at which gateways.
    """
    credential = next((one for one in report.steps if one.step == "credential"), None)
    others = [one for one in report.steps if one is not credential]
    if lacking:
        said = f"not set: {'; '.join(f'`env:{name}` at {at}' for name, at in lacking.items())}"
        credential = StepResult("credential", "failed", said, MEND_VARIABLE)
    elif credential is not None and credential.outcome == "failed":
        variables = ", ".join(f"`env:{name}`" for name in sorted(named))
        said = f"{variables}: gateways have it, control has not, so that it cannot call"
        credential = StepResult("credential", "skipped", said)
    first = () if credential is None else (credential,)
    return report._replace(steps=(*first, *others))


def _state(asked: RequestContext, db: Connection, key: ResourceKey, wanted: TestBody) -> State:
    """The configuration, with what is to be tested in it.

    Raises:
        ApiError: there is no such upstream, or the spec is wrong.
    """
    configurator, spec = asked.context.configurator, wanted.spec
    resources = configurator.read(db)
    if not asked.may(READ, key.tenant or PLATFORM) or (spec is None and key not in resources):
        raise missing(key)
    if spec is None and not wanted.key:
        return configurator.state_of(resources)
    changes = [Change(key, spec)]
    check_upstreams(asked, db, changes)
    if wanted.key:
        changes.append(Change(_credential_of(key, spec), {"value": wanted.key}))
    try:
        outcome = configurator.change(db, asked.author, changes, dry_run=True)
    except ConfigurationRefused as error:
        raise refusal(error) from None
    return configurator.state_of(outcome.resources)


def _credential_of(key: ResourceKey, spec: dict[str, JsonValue] | None) -> ResourceKey:
    """The credential whose secret is given with the test.

    Raises:
        ApiError: the spec names none that is stored.
    """
    named = "" if spec is None else str(spec.get("credential", ""))
    if not named.startswith(STORED):
        why = "Name it in the spec: `credential: stored:NAME`, the only one."
        raise ApiError("invalid_value", why, param="key")
    return ResourceKey(Kind.CREDENTIAL, key.tenant, named.removeprefix(STORED))


def _secrets(
    asked: RequestContext, db: Connection, state: State, upstream: Upstream
) -> dict[str, str]:
    """The secrets of stored credentials that an upstream names, by reference."""
    named = [name.partition("/") for name in _stored_names(upstream)]
    keys = [ResourceKey(Kind.CREDENTIAL, tenant, name) for tenant, _, name in named]
    kept = {key: state.resources[key] for key in keys if key in state.resources}
    opened = store.secrets_of(db, asked.context.sealer, kept)
    return {f"{STORED}{name}": secret.decode() for name, secret in opened.items()}


def _stored_names(upstream: Upstream) -> list[str]:
    given = upstream.credentials
    return [one.removeprefix(STORED) for one in given if one.startswith(STORED)]


def _models(
    asked: RequestContext, state: State, key: ResourceKey, listed: Sequence[str]
) -> DiscoveredModels:
    found = discovery.compare(asked.context.configurator, state, key, listed)
    shown = {
        "listed": len(listed), "missing": found.missing[:SHOWN_MAX], "new": found.new[:SHOWN_MAX],
        "unpriced": found.unpriced[:SHOWN_MAX], "proposed": found.proposed,
    }  # fmt: skip
    return DiscoveredModels.model_validate(shown)
