"""Admin API: the notice that apps show, and what is due to authorities and data subjects.

(No postponed annotations here: FastAPI reads them.)
"""

import datetime
import time
from collections.abc import Sequence
from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Query

from tokenschain.control.api.bodies import AnswerBody, Items
from tokenschain.control.api.context import AdminRoute, NameQuery, Permission, RequestContext
from tokenschain.control.billing.limits import CHINA
from tokenschain.control.configuration.kinds import FilingSpec
from tokenschain.control.configuration.resources import Kind
from tokenschain.control.duties import incidents, subject_requests
from tokenschain.control.identity.ownership import Extent
from tokenschain.core.compliance.deadlines import deadlines_of
from tokenschain.core.compliance.notices import notice_of
from tokenschain.core.pricing.calendar import Holidays
from tokenschain.core.snapshot.filings import FilingKind
from tokenschain.core.tenancy import PLATFORM
from tokenschain.infra import holidays_file

router = APIRouter(prefix="/api/v1/compliance", route_class=AdminRoute, tags=["compliance"])
ReadingModels = Annotated[RequestContext, Depends(Permission("models:read", Extent.ROWS))]
Reading = Annotated[RequestContext, Depends(Permission("compliance:read", Extent.ROWS))]
LISTED_MAX = 1_000
"""Of requests and clocks each."""


class ShownNumber(AnswerBody):
    """A number that a notice has."""

    model: str
    title: str
    kind: FilingKind
    number: str
    filer: str
    link: str


class NoticeAnswer(AnswerBody):
    """What an app shows of its models."""

    zh: str
    en: str
    numbers: list[ShownNumber]
    missing: list[str]
    """Models without a number in force: the texts do not name them."""


class DueReport(AnswerBody):
    """Something that is due, or was done."""

    subject: Literal["filing", "incident", "subject-request"]
    id: str
    """Name of the filing, id of the incident or request."""
    tenant: str
    duty: str
    due_at_s: int
    """The last moment, in Unix time; of a day, its end in China."""
    due_on: str
    """The same as a day in China."""
    working_days: int | None
    """Of the period, where it is counted so."""
    certain: bool
    """False where a year's holidays are not known, or the period is known from secondary sources
    or is customary."""
    calendar_ends_on: str | None = None
    """The last day whose holidays are known, where working days are counted beyond it: the day
    that is given is then the one by weekdays. `control.holidays_file` adds years."""
    state: Literal["done", "late", "due", "overdue"]
    rule: str


@router.get("/notice")
def read_notice(
    asked: ReadingModels, model: Annotated[str | None, Query(max_length=256)] = None
) -> NoticeAnswer:
    """Read what an app shows of its models: names and filing numbers, in Chinese and English.

    By default of all models that answer chats; of a virtual model its own and those behind it.
    """
    snapshot = asked.context.publisher.snapshot
    asked.tenant(None)
    whose = "" if asked.actor.tenant == PLATFORM else asked.actor.tenant
    own = snapshot.tenants.get(whose)
    virtual = dict(snapshot.routing.models) | (own.virtual_models if own else {})
    if model is None:
        needed = sorted(name for name, one in snapshot.models.items() if one.kind == "chat")
        shown = [*virtual, *needed]
    elif model in virtual:
        needed = list(dict.fromkeys(entry.model for entry in virtual[model]))
        shown = [model, *needed]
    else:
        alias = snapshot.aliases.get(model)
        shown = needed = [model if alias is None else alias.model]
    found = notice_of(registered(asked).values(), shown, needed, _today())
    return NoticeAnswer(
        zh=found.zh, en=found.en, missing=found.missing,
        numbers=[ShownNumber.model_validate(one) for one in found.entries],
    )  # fmt: skip


@router.get("/deadlines")
def list_deadlines(
    asked: Reading, tenant: NameQuery = None, is_open: bool = False
) -> Items[DueReport]:
    """List what is due to authorities and data subjects: filings (for the platform), reports of
    incidents, answers to requests; the first due first."""
    whose, now_s = asked.tenant(tenant), int(time.time())
    found = [
        *(_of_filings(asked) if whose is None and asked.permitted(PLATFORM) else ()),
        *_of_incidents(asked, whose, now_s),
        *_of_requests(asked, whose, now_s),
    ]
    if is_open:
        found = [one for one in found if one.state in ("due", "overdue")]
    found.sort(key=lambda one: (one.state in ("done", "late"), one.due_at_s, one.id))
    return Items[DueReport](data=found)


def _of_filings(asked: RequestContext) -> Sequence[DueReport]:
    return [
        DueReport(
            subject="filing", id=one.filing, tenant="", duty=one.duty,
            due_at_s=_end_of(one.due_on), due_on=one.due_on.isoformat(),
            working_days=one.working_days, certain=one.certain, state=one.state, rule=one.rule,
            calendar_ends_on=(
                None if one.calendar_ends_on is None else one.calendar_ends_on.isoformat()
            ),
        )
        for one in deadlines_of(registered(asked), _today(), _holidays(asked))
    ]  # fmt: skip


def _of_incidents(asked: RequestContext, whose: str | None, now_s: int) -> Sequence[DueReport]:
    rows = [
        {"tenant": row["tenant"], "id": row["id"], "clock": clock}
        for row, clock in incidents.running(asked.db, whose, now_s)[:LISTED_MAX]
    ]
    return [
        DueReport(
            subject="incident", id=row["id"], tenant=row["tenant"], duty=row["clock"].name,
            due_at_s=row["clock"].due_at_s, due_on=_day_of(row["clock"].due_at_s),
            working_days=None, certain=row["clock"].confirmed,
            state="due" if row["clock"].state == "running" else "overdue", rule=row["clock"].rule,
        )
        for row in asked.visible(rows)
    ]  # fmt: skip


def _of_requests(asked: RequestContext, whose: str | None, now_s: int) -> Sequence[DueReport]:
    return [
        DueReport(
            subject="subject-request", id=row["id"], tenant=row["tenant"], duty=row["kind"],
            due_at_s=row["due_at_s"], due_on=_day_of(row["due_at_s"]), working_days=None,
            certain=False, state="due" if now_s <= row["due_at_s"] else "overdue",
            rule="PIPL, Arts. 44 to 50; GB/T 35273-2020, 8.7",
        )
        for row in asked.visible(subject_requests.due(asked.db, whose, LISTED_MAX))
    ]  # fmt: skip


def registered(asked: RequestContext) -> dict[str, FilingSpec]:
    """The filings of the register, by name."""
    found = asked.context.configurator.read(asked.db)
    return {
        key.name: one.spec
        for key, one in sorted(found.items())
        if key.kind is Kind.FILING and isinstance(one.spec, FilingSpec)
    }


def _holidays(asked: RequestContext) -> Holidays:
    return holidays_file.known(asked.context.settings.control.holidays_file)


def _today() -> datetime.date:
    return datetime.datetime.now(CHINA).date()


def _end_of(day: datetime.date) -> int:
    after = datetime.datetime.combine(day + datetime.timedelta(days=1), datetime.time(), CHINA)
    return int(after.timestamp()) - 1


def _day_of(at_s: int) -> str:
    return datetime.datetime.fromtimestamp(at_s, CHINA).date().isoformat()
