"""Facts for templates of documents, read from the platform as it is."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import date
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from sqlalchemy import Connection, func, select

from tokenschain import __version__
from tokenschain.control.compliance.evidence.recipients import engines_told
from tokenschain.control.content import content_policies
from tokenschain.control.duties.subject_requests import DAY_S, DUE_DAYS
from tokenschain.core import presentation
from tokenschain.core.compliance.notices import notice_of
from tokenschain.core.compliance.templates import (
    DataProcessor,
    LastDraw,
    PolicyInForce,
    RegisteredFiling,
    ServedModel,
    TemplateFacts,
)
from tokenschain.infra.database.duty_tables import incidents
from tokenschain.infra.database.tables import audit_events

if TYPE_CHECKING:
    from tokenschain.core.snapshot import Snapshot
    from tokenschain.core.snapshot.filings import Filing
    from tokenschain.infra.config import Settings
    from tokenschain.infra.config.moderation import ModerationEngineSettings, ModerationSettings

EVALUATED = "compliance:evaluation"
"""The event of a signed evaluation draw in the audit log."""
LISTED_MAX = 1_000


def read(
    db: Connection, settings: Settings, snapshot: Snapshot, filings: Mapping[str, Filing],
    now_s: float,
) -> TemplateFacts:  # fmt: skip
    """What the platform knows now."""
    today = date.fromisoformat(presentation.date(now_s))
    models = [
        ServedModel(
            name, one.kind, tuple(dict.fromkeys(offer.upstream for offer in one.offers)),
            snapshot.filings.get(name, ""),
        )
        for name, one in sorted(snapshot.models.items())
    ]  # fmt: skip
    chats = [one.name for one in models if one.kind == "chat"]
    notice = notice_of(filings.values(), chats, chats, today)
    opened = select(func.count()).where(incidents.c.created_at_s >= int(now_s) - 365 * DAY_S)
    return TemplateFacts(
        day=today.isoformat(),
        version=__version__,
        service_url=settings.control.gateway_url or "",
        models=models[:LISTED_MAX],
        processors=_processors(settings.moderation, snapshot)[:LISTED_MAX],
        policies=_policies(snapshot)[:LISTED_MAX],
        filings=[_filing(one) for one in filings.values()],
        notice_zh=notice.zh if notice.entries else "",
        notice_en=notice.en if notice.entries else "",
        labels=[
            f"{name or 'platform'}: {one.explicit}; metadata {one.implicit}"
            for name, one in sorted(snapshot.labels.items())
        ],
        kept=_kept(db),
        record_days=settings.database.ledger_days or 0,
        crypto_suite=str(settings.crypto.suite),
        request_days=DUE_DAYS,
        incidents=int(db.execute(opened).scalar() or 0),
        last_draw=_last_draw(db),
    )


def _processors(settings: ModerationSettings, snapshot: Snapshot) -> list[DataProcessor]:
    serves: dict[str, list[str]] = {}
    for name, model in sorted(snapshot.models.items()):
        for offer in model.offers:
            serves.setdefault(offer.upstream, []).append(name)
    engines = engines_told(settings, snapshot.moderation.values())
    return [
        *(_engine(name, settings.engines.get(name)) for name in sorted(engines)),
        *_upstreams(snapshot, serves),
    ]


def _engine(name: str, known: ModerationEngineSettings | None) -> DataProcessor:
    vendor, region, zone = (
        (name, "", "") if known is None else (known.vendor, known.region, known.zone)
    )
    return DataProcessor(f"moderation/{name}", vendor, "", region, zone, ())


def _upstreams(snapshot: Snapshot, serves: Mapping[str, Sequence[str]]) -> list[DataProcessor]:
    return [
        DataProcessor(name, one.provider, urlsplit(one.base_url).hostname or "", one.region,
                      one.zone, tuple(dict.fromkeys(serves.get(name, ()))))
        for name, one in sorted(snapshot.upstreams.items())
    ]  # fmt: skip


def _policies(snapshot: Snapshot) -> list[PolicyInForce]:
    found = []
    for name, one in sorted(snapshot.moderation.items()):
        tenant, _, own = name.rpartition("/")
        if one.state == "active":
            found.append(
                PolicyInForce(
                    own, tenant, one.audience or "", tuple(map(str, one.directions)),
                    one.engines, one.require_filed, bool(one.offenders),
                )
            )  # fmt: skip
    return found


def _filing(one: Filing) -> RegisteredFiling:
    return RegisteredFiling(
        one.kind, one.number, one.title, one.filer, one.province, one.launched_on, one.models
    )


def _kept(db: Connection) -> dict[str, str]:
    found = sorted(content_policies.in_force(db).items())[:LISTED_MAX]
    return {
        "/".join(part for part in place if part) or "*": (
            f"{content}, {content_policies.class_of(days)}"
        )
        for place, (content, days) in found
    }


def _last_draw(db: Connection) -> LastDraw | None:
    c = audit_events.c
    query = select(c.target, c.at_ms, c.detail).where(c.action == EVALUATED)
    row = db.execute(query.order_by(c.at_ms.desc()).limit(1)).first()
    if row is None:
        return None
    detail = json.loads(row.detail)
    return LastDraw(
        row.target, presentation.date(row.at_ms / 1e3), bool(detail["passes"]), detail["asked"]
    )
