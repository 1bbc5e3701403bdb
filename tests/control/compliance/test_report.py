"""Compliance report: real values, gaps named as gaps, a bundle that shows every change."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.control.api.test_audit_log import Sealed
from tests.security.platform import platform
from tokenschain.cli import compliance
from tokenschain.cli.admin_client import AdminError
from tokenschain.control.compliance.controls import STANDARDS
from tokenschain.infra.security.note_keys import NoteSecret
from tokenschain.infra.security.suite import INTERNATIONAL


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sealed]:
    with platform(tmp_path_factory.mktemp("report")) as house:
        yield Sealed(house)


@pytest.fixture(scope="module")
def bundle(made: Sealed, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("bundle") / "compliance-mlps3.tar"
    reply = made.house.operator("GET", "/compliance/reports/mlps3/bundle")
    assert reply.status_code == 200, reply.text
    path.write_bytes(reply.content)
    return path


@pytest.mark.parametrize("standard", STANDARDS)
def test_a_report_counts_what_is_met_what_is_open_and_what_people_have_to_show(
    made: Sealed, standard: str
) -> None:
    found = made.house.operator("GET", f"/compliance/reports/{standard}").json()
    states = [one["state"] for one in found["controls"]]
    assert found["counts"] == {
        state: states.count(state) for state in ("met", "open", "unproven", "organizational")
    }
    for one in found["controls"]:
        assert (one["state"] == "met") == (not one["gaps"])
        assert all(gap["en"] and gap["zh"] for gap in one["gaps"])


def test_a_report_has_the_values_of_the_platform_that_runs(made: Sealed) -> None:
    found = made.house.operator("GET", "/compliance/reports/mlps3").json()
    by_id = {one["id"]: one for one in found["controls"]}
    protected = by_id["mlps3-audit-protected"]
    assert protected["state"] == "met"
    assert protected["values"]["segments_checked"] == 3
    assert protected["values"]["log"] == found["log"]
    assert {gap["code"] for gap in by_id["mlps3-audit-witness"]["gaps"]} == {"no_witness"}


def test_a_bundle_holds_a_page_json_and_what_each_query_found(bundle: Path) -> None:
    files = compliance.opened(bundle).files
    report = json.loads(files["report.json"])
    page = files["report.html"].decode()
    for one in report["controls"]:
        assert f'id="{one["id"]}"' in page
        if one["query"]:
            found = json.loads(files[f"evidence/{one['query']}.json"])
            assert found == {"query": one["query"], "values": one["values"]}
    assert "no certificate" in page
    assert not any(mark in page for mark in ("<script", "src=", "href=", "url(", "@import"))


def test_an_untouched_bundle_verifies_by_the_key_from_elsewhere(made: Sealed, bundle: Path) -> None:
    key = made.house.operator("GET", "/audit-log/checkpoint").json()["key"]
    compliance.compliance_verify(bundle, key)
    compliance.compliance_verify(bundle)


@pytest.mark.parametrize(
    ("name", "data", "why"),
    [
        ("report.json", b'{"counts":{}}', "report.json was changed"),
        ("evidence/sessions.json", None, "evidence/sessions.json is missing"),
        ("more.html", b"<p>certified</p>", "more.html is not in the manifest"),
        ("manifest", b"nothing", "no signed note"),
    ],
)
def test_a_bundle_that_was_changed_is_refused(
    bundle: Path, tmp_path: Path, name: str, data: bytes | None, why: str
) -> None:
    files = {**compliance.opened(bundle).files, name: data}
    changed = tmp_path / "changed.tar"
    with tarfile.open(changed, "w") as tar:
        for file, held in files.items():
            if held is not None:
                info = tarfile.TarInfo(file)
                info.size = len(held)
                tar.addfile(info, io.BytesIO(held))
    with pytest.raises(AdminError, match=why):
        compliance.compliance_verify(changed)


def test_a_bundle_that_another_key_signed_is_refused(made: Sealed, bundle: Path) -> None:
    key = made.house.operator("GET", "/audit-log/checkpoint").json()["key"]
    log = json.loads(compliance.opened(bundle).files["report.json"])["log"]
    stranger = NoteSecret(INTERNATIONAL, "y" * 43).public_key(log)
    assert stranger != key
    for other in (stranger, key.replace("log_", "gol_")):
        with pytest.raises(AdminError, match=r"not signed by|no public key"):
            compliance.compliance_verify(bundle, other)


def test_making_a_bundle_is_on_record_with_its_digest(made: Sealed, bundle: Path) -> None:
    assert bundle.is_file()
    rows = made.house.rows(
        "SELECT target, detail FROM audit_events WHERE action = 'compliance:report'"
    )
    assert [row[0] for row in rows] == ["mlps3"]
    assert len(json.loads(rows[0][1])["manifest"]) == 64


def test_a_file_that_is_no_bundle_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.tar"
    path.write_bytes(b"x" * 600)
    with pytest.raises(AdminError):
        compliance.compliance_verify(path)


def test_only_who_audits_the_platform_reads_reports(made: Sealed) -> None:
    auditor, tenant = made.house.person("*", "auditor"), made.house.person("alpha", "owner")
    assert auditor("GET", "/compliance/reports/pipl").status_code == 200
    assert len(auditor("GET", "/compliance/standards").json()["data"]) == len(STANDARDS)
    for path in ("standards", "reports/pipl", "reports/pipl/bundle"):
        assert tenant("GET", f"/compliance/{path}").status_code == 403
    unknown = auditor("GET", "/compliance/reports/gdpr")
    assert (unknown.status_code, unknown.json()["error"]["code"]) == (404, "not_found")
