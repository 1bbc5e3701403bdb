"""Cases of the review queue for tests, entered as gateways ship them."""

from __future__ import annotations

import itertools
import time
from collections.abc import Sequence
from typing import Any

from tests.security.platform import Platform
from tokenschain.control.moderation.review_queue import CaseBook
from tokenschain.core.moderation import case_record
from tokenschain.core.moderation.case_record import CaseRecord, KeptText
from tokenschain.core.snapshot import Snapshot
from tokenschain.core.snapshot.moderation_policy import ModerationPolicy, OffenderLimits
from tokenschain.infra.security import case_texts

_numbers = itertools.count()


def enter(
    house: Platform,
    tenant: str,
    texts: Sequence[KeptText] = (),
    policy: ModerationPolicy | None = None,
    **more: Any,
) -> str:
    """A call that is for review; returns the case's id."""
    sealer = house.app.state.context.sealer
    book: CaseBook = house.app.state.internal.cases
    if policy is not None:
        book.follow(Snapshot("", {}, {}, moderation={"p": policy}))
    else:
        book.follow(Snapshot("", {}, {}))
    call = more.pop("event_id", f"req_case_{next(_numbers)}")
    place = case_texts.place_of(tenant, call)
    sealed = sealer.seal(place, case_record.encode_texts(texts)) if texts else b""
    fields: dict[str, Any] = {
        "started_ms": int(time.time() * 1e3), "project": "p1", "key_id": "key_1",
        "api": "chat/completions", "model": "m", "moderation": "blocked",
        "detail": "values/other:high:seed:1", "sealed": sealed,
    }  # fmt: skip
    made = CaseRecord(event_id=call, tenant=tenant, **fields | more)
    assert book.enter([case_record.encode(made)]) == []
    return str(house.rows(f"select id from moderation_cases where event_id = '{call}'")[0][0])


def suspend(house: Platform, tenant: str) -> str:
    """An end user with three blocked calls in a row; returns the suspension's id."""
    policy, user = ModerationPolicy(offenders=OffenderLimits()), f"{next(_numbers):032x}"
    for _ in range(3):
        enter(house, tenant, policy=policy, end_user=user)
    query = f"select id from end_user_suspensions where end_user = '{user}'"
    return str(house.rows(query)[0][0])


def count_only(house: Platform, tenant: str, call: str, end_user: str, started_ms: int) -> None:
    """A call that nobody looks at, of an end user that is counted."""
    made = CaseRecord(
        call, started_ms, tenant, "p1", "key_1", "chat/completions", "m", "passed", "",
        end_user=end_user, queued=False,
    )  # fmt: skip
    assert house.app.state.internal.cases.enter([case_record.encode(made)]) == []


def propose(house: Platform, tenant: str) -> str:
    """A word that a reviewer proposes; returns the proposal's id."""
    path, number = f"/moderation-cases/{enter(house, tenant)}/proposals", next(_numbers)
    body = {"kind": "word", "word": f"word {number}"}
    made = house.person(tenant, "reviewer")("POST", path, body)
    assert made.status_code == 201, made.text
    return str(made.json()["id"])
