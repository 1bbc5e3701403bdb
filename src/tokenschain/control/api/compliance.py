"""Admin API: compliance reports, with evidence as the running platform gives it.

(No postponed annotations here: FastAPI reads them.)
"""

import time
from typing import Annotated, ClassVar, Literal

import msgspec
from fastapi import APIRouter, Depends, Response
from pydantic import JsonValue

from tokenschain.control.api.approvals import need_second_person
from tokenschain.control.api.audit_log import note_secret
from tokenschain.control.api.bodies import AnswerBody, Example, Items, RequestBody
from tokenschain.control.api.context import AdminRoute, Permission, RequestContext
from tokenschain.control.audit import log
from tokenschain.control.compliance import controls, report
from tokenschain.control.compliance.controls import STANDARDS, Standard
from tokenschain.control.compliance.evidence.finding import PlatformFacts
from tokenschain.control.compliance.results import ComplianceReport, State
from tokenschain.control.identity import roles, separation
from tokenschain.control.identity.ownership import Extent, StepUp
from tokenschain.core.errors import ApiError
from tokenschain.core.tenancy import PLATFORM

router = APIRouter(prefix="/api/v1/compliance", route_class=AdminRoute, tags=["compliance"])
Auditing = Annotated[RequestContext, Depends(Permission("audit:read", Extent.PLATFORM))]
Authorizing = Annotated[
    RequestContext, Depends(Permission("users:write", Extent.PLATFORM, step_up=StepUp.ALWAYS))
]
HOLDERS_CHARACTERS_MAX = 1_000
REPORTED = "compliance:report"
"""The event in the audit log."""


class BothLanguages(AnswerBody):
    """A text in both languages."""

    en: str
    zh: str


class NewSeparation(RequestBody):
    """Whether powers are kept apart from now on."""

    example: ClassVar[Example] = {"on": False}
    on: bool


class HolderOfSeveral(AnswerBody):
    """Somebody who holds several duties of the platform."""

    user_id: str
    duties: list[str]
    """Of `system`, `security` and `audit`."""


class Separation(AnswerBody):
    """Whether system, security and audit administrators have to be different people."""

    on: bool
    holders: list[HolderOfSeveral]
    """While there are any, it cannot be switched on."""


class StandardAnswer(AnswerBody):
    """A standard of which there are reports."""

    standard: Standard
    title: BothLanguages
    source: str
    """Where its clauses were taken from."""
    controls: int
    by_evidence: int
    """Those that a query decides."""


class ControlGap(AnswerBody):
    """Something that a clause asks and that is missing."""

    code: str
    en: str
    zh: str


class ControlAnswer(AnswerBody):
    """A control as it was found."""

    id: str
    clause: str
    asks: BothLanguages
    """In our own words."""
    applies_when: BothLanguages
    state: State
    """`met`: nothing is missing; `open`: something is, or nothing shows it; `unproven`: nothing is
    there yet that could show it; `organizational`: people have to show it."""
    gaps: list[ControlGap]
    query: str
    """What found it; empty where nothing does."""
    values: dict[str, JsonValue]
    """What it found."""
    feature: str
    """Page of the documentation."""
    test: str
    """What regenerates the evidence."""
    source: str
    confidence: Literal["primary", "secondary", "general"]
    """Whether the clause's own text was read, a text that quotes it, or neither."""


class ReportAnswer(AnswerBody):
    """What was found of one standard now. It certifies nothing."""

    standard: Standard
    title: BothLanguages
    source: str
    at_ms: int
    version: str
    log: str
    """Name of the audit log."""
    counts: dict[str, int]
    controls: list[ControlAnswer]


@router.get("/separation")
def read_separation(asked: Auditing) -> Separation:
    """Read whether powers are kept apart, and who holds several duties of the platform."""
    asked.need(PLATFORM)
    return _separation(asked)


@router.put("/separation")
def set_separation(asked: Authorizing, wanted: NewSeparation) -> Separation:
    """Keep the powers of system, security and audit administrators apart, or no longer.

    It is refused while anyone holds several duties: the answer names them.
    """
    asked.need(PLATFORM)
    asked.need_step_up()
    if not wanted.on:
        need_second_person(asked, "separation", PLATFORM, "off", None)
    elif held := roles.holders_of_several_duties(asked.db):
        names = "; ".join(f"{who}: {', '.join(sorted(duties))}" for who, duties in held.items())
        raise ApiError("conflict", f"These hold several duties: {names[:HOLDERS_CHARACTERS_MAX]}.")
    separation.switch(asked.db, on=wanted.on)
    asked.note(PLATFORM, "separation-of-powers", {"on": wanted.on})
    return _separation(asked)


def _separation(asked: RequestContext) -> Separation:
    held = roles.holders_of_several_duties(asked.db)
    return Separation(
        on=separation.is_on(asked.db),
        holders=[
            HolderOfSeveral(user_id=who, duties=sorted(duties)) for who, duties in held.items()
        ],
    )


@router.get("/standards")
def list_standards(asked: Auditing) -> Items[StandardAnswer]:
    """List the standards of which there are reports."""
    asked.need(PLATFORM)
    known = controls.shipped()
    found = []
    for standard, info in known.standards.items():
        listed = known.of(standard)
        found.append(
            StandardAnswer(
                standard=standard,
                title=BothLanguages.model_validate(info.title),
                source=info.source,
                controls=len(listed),
                by_evidence=sum(one.status == "evidence" for one in listed),
            )
        )
    return Items[StandardAnswer](data=found)


@router.get("/reports/{standard}")
def read_report(asked: Auditing, standard: str) -> ReportAnswer:
    """Read how the platform stands to a standard: every query runs now."""
    return ReportAnswer.model_validate(msgspec.to_builtins(_made(asked, standard)))


@router.get(
    "/reports/{standard}/bundle",
    response_class=Response,
    responses={200: {"content": {"application/x-tar": {"schema": {"type": "string"}}}}},
)
def download_report(asked: Auditing, standard: str) -> Response:
    """Download a report as a bundle that is signed with the audit log's key.

    A tar file with a page for people, JSON and what each query found; `tokenschain compliance
    verify` checks it. That it was made is in the audit log, with the digest of its manifest.
    """
    made = _made(asked, standard)
    secret = note_secret(asked)
    if not made.log:
        raise ApiError("not_found", "Nothing is sealed yet.")
    found = report.bundle(made, log.latest_checkpoint(asked.db), secret, made.log)
    asked.note(
        PLATFORM,
        standard,
        {"counts": made.counts, "manifest": found.manifest_digest},
        action=REPORTED,
    )
    name = f"compliance-{standard}.tar"
    head = {"content-disposition": f'attachment; filename="{name}"'}
    return Response(found.tar, media_type="application/x-tar", headers=head)


def _made(asked: RequestContext, standard: str) -> ComplianceReport:
    asked.need(PLATFORM)
    if standard not in STANDARDS:
        known = ", ".join(STANDARDS)
        raise ApiError("not_found", f"There are reports of: {known}.", param="standard")
    context = asked.context
    facts = PlatformFacts(
        asked.db, context.settings, context.publisher.snapshot, time.time(),
        context.configurator.current(asked.db).given.processors,
    )  # fmt: skip
    return report.make(standard, facts)
