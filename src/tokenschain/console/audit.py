"""Audit log page: who changed what, when and from where; filters and CSV."""

from __future__ import annotations

import csv
import io
import time
from collections.abc import Awaitable, Mapping
from datetime import datetime

import msgspec
from starlette.responses import Response

from tokenschain.console.admin_api import ApiRefusal, Query
from tokenschain.console.people import People
from tokenschain.console.rendering import Pages, Renderer
from tokenschain.console.visit import PagePart, Visit
from tokenschain.core import presentation
from tokenschain.core.spreadsheet import text_cell
from tokenschain.core.tenancy import ACTIONS

PATH = "/console/audit"
SHOWN_MAX = 50
EXPORT_LINES_MAX = 10_000
EXPORT_PAGE = 200
NAMED_MAX = 200
DAY_S = 86_400
FILTERS = ("actor", "action", "target", "since", "until")
EVENTS = (
    "login",
    "login:failed",
    "logout",
    "step-up",
    "password",
    "totp",
    "compliance:report",
    "approval:request",
    "keys:operate",
    "signing-key",
    "boot",
)
"""What people do about themselves; beside these, changes are named by their permission."""
COLUMNS = ("at", "actor", "tenant", "action", "target", "address", "detail", "id")


class AuditLine(msgspec.Struct):
    """Who changed what; see `GET /audit`."""

    id: str
    at_ms: int
    actor: str
    tenant: str
    action: str
    target: str
    detail: dict[str, object]
    address: str

    @property
    def shown_detail(self) -> str:
        """What it is now, as JSON in lines; empty where nothing is said."""
        if not self.detail:
            return ""
        return msgspec.json.format(msgspec.json.encode(self.detail), indent=2).decode()


class AuditLines(msgspec.Struct):
    """A page of them."""

    data: list[AuditLine]
    next_cursor: str | None = None


async def show(visit: Visit, renderer: Renderer) -> Response:
    """The lines that match, the latest first."""
    given = {name: visit.query.get(name, "").strip() for name in FILTERS}
    query = _query(visit, given) | {"limit": SHOWN_MAX, "cursor": visit.query.get("cursor")}
    reads: dict[str, Awaitable[object]] = {"lines": visit.api.get("/audit", AuditLines, query)}
    if visit.reader.may("users:read"):
        who: Query = {"limit": NAMED_MAX, "tenant": visit.tenant}
        reads["people"] = visit.api.get("/users", People, who)
    parts = await visit.parts(**reads)
    return renderer.page_or_part(
        "audit.html", "_audit.html", visit, lines=parts["lines"], given=given,
        names=_names(parts.get("people")), actions=(*EVENTS, *ACTIONS), known=ACTIONS,
        events=EVENTS, filtered=any(given.values()), lines_max=EXPORT_LINES_MAX,
    )  # fmt: skip


def _names(part: PagePart | None) -> Mapping[str, str]:
    """Names of people by id, where they were read."""
    people = [] if part is None or part.data is None else part.data.data
    return {one.id: one.name for one in people}


def _query(visit: Visit, given: Mapping[str, str]) -> dict[str, str | int | None]:
    """The filters as the API takes them; days are Beijing's."""
    until_s = _day(given["until"])
    return {
        **{name: given[name] for name in ("actor", "action", "target")},
        "from_s": _day(given["since"]),
        "until_s": None if until_s is None else until_s + DAY_S,
        "tenant": visit.tenant,
    }


def _day(text: str) -> int | None:
    """When a day begins; None where none is given.

    Raises:
        ApiRefusal: it is none.
    """
    if not text:
        return None
    try:
        found = datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=presentation.SHANGHAI)
    except ValueError:
        raise ApiRefusal(400, "invalid_value", f"{text[:20]} is no day.") from None
    return int(found.timestamp())


async def export(visit: Visit, _renderer: Renderer) -> Response:
    """The lines that match as CSV, the latest first, up to a number of them."""
    given = {name: visit.query.get(name, "").strip() for name in FILTERS}
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow(COLUMNS)
    cursor: str | None = None
    for _ in range(EXPORT_LINES_MAX // EXPORT_PAGE):
        query = _query(visit, given) | {"limit": EXPORT_PAGE, "cursor": cursor}
        page = await visit.api.get("/audit", AuditLines, query)
        for one in page.data:
            cells = (
                presentation.zoned_stamp(one.at_ms), one.actor, one.tenant, one.action,
                one.target, one.address, msgspec.json.encode(one.detail).decode(), one.id,
            )  # fmt: skip
            writer.writerow([text_cell(cell) for cell in cells])
        cursor = page.next_cursor
        if cursor is None:
            break
    response = Response(out.getvalue(), media_type="text/csv; charset=utf-8")
    name = f"audit-{presentation.date(time.time())}.csv"
    response.headers["content-disposition"] = f'attachment; filename="{name}"'
    return response


PAGES: Pages = {("GET", PATH): show, ("GET", f"{PATH}/export"): export}
