"""Kept content for tests, entered as gateways ship it, and a legal hold."""

from __future__ import annotations

import itertools
import time

from tests.security.platform import Platform
from tokenschain.control.api.content import archive_of
from tokenschain.control.content.content_archive import ContentArchive
from tokenschain.core.audit import content
from tokenschain.core.audit.content import ContentBody, ContentRecord
from tokenschain.core.snapshot.kept_content import KeptContent
from tokenschain.infra.security import case_texts
from tokenschain.infra.security.suite import INTERNATIONAL

_numbers = itertools.count()


def shipped(
    house: Platform,
    tenant: str,
    call: str,
    end_user: str = "",
    said: str = "hi",
    started_ms: int | None = None,
    project: str = "p1",
    data_class: str = "",
) -> bytes:
    """Content of a call as a gateway ships it."""
    kept = ContentBody(b"s" * content.SALT_BYTES, f'"{said}"'.encode(), b"{}", end_user=end_user)
    sealer = house.app.state.context.sealer
    sealed = sealer.seal(case_texts.content_place_of(tenant, call), content.encode(kept))
    at_ms = int(time.time() * 1e3) if started_ms is None else started_ms
    committed = content.commitments(INTERNATIONAL.mac, kept)
    made = ContentRecord(call, at_ms, tenant, project, KeptContent.FULL, False, *committed, sealed,
                         data_class)  # fmt: skip
    return content.encode(made)


def archive(house: Platform) -> ContentArchive:
    """The archive, as gateways' content comes to it."""
    return archive_of(house.app.state.context, house.app.state.internal.cases.shared)


def enter(house: Platform, tenant: str, end_user: str = "", said: str = "hi") -> str:
    """A call whose words are kept; returns its id."""
    call = f"req_kept_{next(_numbers)}"
    archive(house).enter([shipped(house, tenant, call, end_user, said)])
    return call


def hold(house: Platform, tenant: str) -> str:
    """A legal hold in a period in which there is nothing; returns its id."""
    body = {"tenant": tenant, "from_s": 1, "until_s": 2, "reason": "case 7"}
    made = house.operator("POST", "/legal-holds", body)
    assert made.status_code == 201, made.text
    return str(made.json()["id"])
