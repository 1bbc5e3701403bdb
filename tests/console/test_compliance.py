"""Compliance pages: red and green of each standard, the signed report, a second person's word."""

from __future__ import annotations

import html
import re
from pathlib import Path

import pytest

from tests import waiting_approvals
from tests.console.visitors import House, inline_code
from tokenschain.cli import compliance as commands
from tokenschain.console.compliance import APPROVALS, PATH, STANDARDS
from tokenschain.control.audit.log import SegmentSealer
from tokenschain.control.compliance import controls
from tokenschain.infra.security import secret_files
from tokenschain.infra.security.note_keys import NoteSecret
from tokenschain.infra.security.suite import INTERNATIONAL


def test_the_page_knows_the_standards_that_there_are() -> None:
    assert STANDARDS == controls.STANDARDS


@pytest.mark.parametrize("language", ["zh", "en"])
@pytest.mark.parametrize("standard", STANDARDS)
def test_each_control_is_shown_with_what_is_missing(
    house: House, language: str, standard: str
) -> None:
    page = house.browser("*", "auditor", language).get(f"{PATH}?standard={standard}").text
    assert not inline_code(page)
    text = html.unescape(page)
    for one in controls.shipped().of(standard):
        assert f'id="{one.id}"' in text
        assert getattr(one.asks, language).replace("`", "") in re.sub("</?code>", "", text)
    assert "`" not in text, "what a text has between backticks is shown as code"
    assert standard != "mlps3" or "<code>access.sessions_max</code>" in text
    assert {"zh": "未满足", "en": "Open"}[language] in text


def test_a_tenants_people_and_unknown_standards_are_refused(house: House) -> None:
    assert house.browser("*", "auditor").get(f"{PATH}?standard=gdpr").status_code == 404
    owner = house.browser("alpha", "owner")
    assert "audit:read" in owner.get(PATH).text
    assert owner.get(f"{PATH}/export").status_code == 403


def test_the_report_that_is_downloaded_verifies(house: House, tmp_path: Path) -> None:
    context = house.platform.app.state.context
    secret = secret_files.read_or_make(context.settings.audit_key_path)[0]
    SegmentSealer(house.platform.engine, INTERNATIONAL, NoteSecret(INTERNATIONAL, secret), 1.0,
                  idle_s=0.0).seal()  # fmt: skip
    reply = house.browser("*", "auditor").get(f"{PATH}/export?standard=pipl")
    assert reply.status_code == 200, reply.text
    path = tmp_path / "pipl.tar"
    path.write_bytes(reply.content)
    commands.compliance_verify(path)


def test_somebody_else_is_approved_or_rejected_by_a_form(house: House) -> None:
    approved, rejected = (waiting_approvals.ask(house.platform, "alpha") for _ in range(2))
    browser = house.browser("alpha", "admin")
    assert approved in browser.get(APPROVALS).text
    for name, decision in ((approved, "approve"), (rejected, "reject")):
        form = {"approval": name, "decision": decision}
        assert browser.post(f"{APPROVALS}/decide", form).status_code in (200, 303)
    states = dict(house.platform.rows("select id, state from approvals"))
    assert (states[approved], states[rejected]) == ("approved", "rejected")
    again = browser.post(f"{APPROVALS}/decide", {"approval": approved, "decision": "reject"})
    assert again.status_code == 409 and 'role="alert"' in again.text
    assert approved not in house.browser("beta", "admin").get(APPROVALS).text
