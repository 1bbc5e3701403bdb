"""The sealed audit log by the admin API: found, proved, and to each tenant its own alone."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.records import record
from tests.security.platform import Caller, Platform, platform
from tokenschain.cli import audit_verify
from tokenschain.control.audit import search
from tokenschain.control.audit.log import SegmentSealer
from tokenschain.control.observability import alerts as alerting
from tokenschain.core import call_record
from tokenschain.core.audit import merkle
from tokenschain.core.call_record import CallRecord
from tokenschain.infra.security import receipts, secret_files
from tokenschain.infra.security.note_keys import NoteSecret
from tokenschain.infra.security.suite import INTERNATIONAL

CALLS = 12
HIDDEN = ("gw-secret", "cost_pico", "price_version", '"currency"')
digest = INTERNATIONAL.digest


class Sealed:
    """A platform with a log."""

    def __init__(self, house: Platform, first_ms: int = 0) -> None:
        """
        Args:
            first_ms: how long before its calls the log began.
        """
        self.house = house
        self.clock_s = time.time()
        context = house.app.state.context
        secret = secret_files.read_or_make(context.settings.audit_key_path)[0]
        self.sealer = SegmentSealer(
            house.engine, INTERNATIONAL, NoteSecret(INTERNATIONAL, secret), 1.0,
            lambda: self.clock_s, idle_s=0.5,
        )  # fmt: skip
        if first_ms:
            self.clock_s -= first_ms / 1e3
            self.seal()
            self.clock_s = time.time()
        for number in range(CALLS):
            tenant = "alpha" if number % 3 else "beta"
            call = record(
                number, event_id=f"req_{tenant}_{number}", tenant=tenant, project=f"p{number % 2}",
                gateway="gw-secret", started_ms=int(self.clock_s * 1e3) - 3_000,
            )  # fmt: skip
            context.ledger.ingest([call_record.encode(call)])
            if number % 4 == 3:
                self.seal()

    def seal(self) -> None:
        self.clock_s += 1
        assert self.sealer.seal() is not None


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sealed]:
    with platform(tmp_path_factory.mktemp("log")) as house:
        for tenant in ("alpha", "beta"):
            unit = {"kind": "tenant", "tenant": tenant, "name": tenant}
            assert house.operator("POST", "/organization/units", unit).status_code == 201
        yield Sealed(house)


def entries(who: Caller, query: str = "") -> list[dict[str, Any]]:
    """All that somebody is shown, page by page."""
    found, cursor = list[dict[str, Any]](), ""
    while True:
        reply = who("GET", f"/audit-log/entries?limit=3&cursor={cursor}{query}")
        assert reply.status_code == 200, reply.text
        found += reply.json()["data"]
        cursor = reply.json()["next_cursor"]
        if cursor is None:
            return found


def test_all_that_was_sealed_is_found_once_and_in_order(made: Sealed) -> None:
    boss = made.house.operator
    found = entries(boss)
    assert [one["sequence"] for one in found] == list(range(len(found)))
    calls = [one for one in found if one["kind"] == "call"]
    assert len(calls) == CALLS and calls[0]["platform"]["gateway"] == "gw-secret"
    assert entries(boss, "&kind=call") == calls
    assert entries(boss, "&tenant=beta&kind=call") == [c for c in calls if c["tenant"] == "beta"]
    (one,) = entries(boss, "&event_id=req_alpha_7")
    assert one == next(c for c in calls if c["id"] == "req_alpha_7")
    (event,) = entries(boss, "&tenant=alpha&kind=event")
    assert event["record"]["action"] == "org:write"
    assert entries(boss, f"&event_id={event['id']}") == [event]
    late = entries(boss, f"&from_s={int(made.clock_s) - 1}")
    assert late and late == found[-len(late) :] and len(late) < len(found)
    early = entries(boss, f"&until_s={int(made.clock_s) - 1}")
    assert early + late == found
    assert entries(boss, "&event_id=req_none") == []


def test_a_page_that_looked_at_enough_ends_and_goes_on(
    made: Sealed, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = entries(made.house.operator, "&tenant=beta")
    monkeypatch.setattr(search, "RECORDS_READ_MAX", 1)
    assert entries(made.house.operator, "&tenant=beta") == whole
    wrong = made.house.operator("GET", "/audit-log/entries?cursor=WyJhIl0=")
    assert wrong.status_code == 400


def test_a_tenant_finds_its_own_records_without_what_is_the_platforms(made: Sealed) -> None:
    auditor = made.house.person("alpha", "auditor")
    found = entries(auditor)
    assert {one["tenant"] for one in found} == {"alpha"} and len(found) > CALLS // 2
    text = json.dumps(found)
    assert not any(one in text for one in HIDDEN) and "req_beta" not in text
    assert auditor("GET", "/audit-log/entries?tenant=beta").status_code == 403
    assert entries(auditor, "&event_id=req_beta_3") == []
    of_project = made.house.person("alpha", "auditor", project="p1")
    assert {one["record"]["project"] for one in entries(of_project)} == {"p1"}
    assert made.house.person("alpha", "developer")("GET", "/audit-log/entries").status_code == 403


def test_a_proof_is_verified_offline_and_tells_nothing_of_others(
    made: Sealed, tmp_path: Path
) -> None:
    auditor = made.house.person("alpha", "auditor")
    key = auditor("GET", "/audit-log/checkpoint").json()["key"]
    reply = auditor("GET", "/audit-log/proofs/req_alpha_7")
    assert reply.status_code == 200
    assert not any(one in reply.text for one in (*HIDDEN, "req_beta", "req_alpha_5"))
    path = tmp_path / "proof.json"
    path.write_text(reply.text, "utf-8")
    report = audit_verify.report_of(str(path), key)
    assert report["verified"] and report["record"]["id"] == "req_alpha_7"
    path.write_text(reply.text.replace('\\"status\\":200', '\\"status\\":500'), "utf-8")
    assert not audit_verify.report_of(str(path), key)["verified"]
    whole = made.house.operator("GET", "/audit-log/proofs/req_alpha_7")
    assert "gw-secret" in whole.text
    path.write_text(whole.text, "utf-8")
    assert audit_verify.report_of(str(path), key)["verified"]
    for name in ("req_beta_3", "req_none"):
        assert auditor("GET", f"/audit-log/proofs/{name}").status_code == 404
    other = made.house.person("alpha", "auditor", project="p0")
    assert other("GET", "/audit-log/proofs/req_alpha_7").status_code == 404
    assert other("GET", "/audit-log/proofs/req_alpha_8").status_code == 200


def test_checkpoints_that_were_kept_are_shown_to_be_a_beginning(made: Sealed) -> None:
    boss = made.house.operator
    size = boss("GET", "/audit-log/checkpoint").json()["size"]
    for old in range(size + 1):
        found = boss("GET", f"/audit-log/consistency?old_size={old}").json()
        assert found["new_size"] == size
        proof = [bytes.fromhex(one) for one in found["proof"]]
        roots = bytes.fromhex(found["old_root"]), bytes.fromhex(found["new_root"])
        assert merkle.is_consistent(digest, old, size, *roots, proof)
    for wrong in (f"old_size={size + 1}", f"new_size={size + 1}", "old_size=2&new_size=1"):
        assert boss("GET", f"/audit-log/consistency?{wrong}").status_code == 400


# --- against the ledger ----------------------------------------------------------------------


def reconciled(made: Sealed) -> dict[str, Any]:
    day = time.strftime("%Y-%m-%d", time.gmtime(time.time() + 8 * 3_600))
    reply = made.house.operator("GET", f"/audit-log/reconciliation/{day}")
    assert reply.status_code == 200, reply.text
    return dict(reply.json())


def test_what_is_removed_added_or_changed_on_either_side_is_named(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    with platform(tmp_path_factory.mktemp("ledger")) as house:
        made = Sealed(house, first_ms=5_000)
        found = reconciled(made)
        assert found["agrees"] and found["differences"] == []
        assert found["log"] == found["ledger"] and found["ledger"]["calls"] == CALLS
        late = record(50, event_id="req_late", started_ms=int(time.time() * 1e3))
        house.app.state.context.ledger.ingest([call_record.encode(late)])
        assert reconciled(made)["agrees"] and reconciled(made)["waiting"] == 1
        with house.engine.begin() as connection:
            run = connection.exec_driver_sql
            run("delete from ledger where event_id = 'req_alpha_1'")
            run("update ledger set completion_tokens = 1 where event_id = 'req_alpha_2'")
            run("update ledger set charge_pico = 1, charge_version = 'v2'"
                " where event_id = 'req_alpha_4'")  # fmt: skip
            run("update ledger set cost_pico = 1 where event_id = 'req_alpha_5'")
            run("delete from audit_pending where calls_from_ms is not null")
        found = reconciled(made)
        assert not found["agrees"]
        named = {one["event_id"]: (one["kind"], one["fields"]) for one in found["differences"]}
        assert named == {
            "req_alpha_1": ("not_in_ledger", []),
            "req_alpha_2": ("changed", ["completion_tokens"]),
            "req_alpha_4": ("rerated", ["charge_pico", "charge_version"]),
            "req_alpha_5": ("changed", ["cost_pico"]),
            "req_late": ("not_in_log", []),
        }
        segments = {one["event_id"]: one["segment"] for one in found["differences"]}
        assert segments["req_alpha_5"] == 2 and segments["req_late"] is None
        owner = house.person("alpha", "auditor")
        assert owner("GET", "/audit-log/reconciliation/2026-11-25").status_code == 403
        wrong = house.operator("GET", "/audit-log/reconciliation/yesterday")
        assert wrong.status_code == 400
        for day in ("2020-01-01", "2999-01-01"):
            reply = house.operator("GET", f"/audit-log/reconciliation/{day}")
            assert reply.status_code == 404 and "nothing to compare" in reply.text


# --- receipts --------------------------------------------------------------------------------


def test_a_receipt_says_what_became_of_its_call(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    with platform(tmp_path_factory.mktemp("receipts")) as house:
        made = Sealed(house, first_ms=5_000)
        context = house.app.state.context
        secrets = secret_files.read_or_make(context.settings.internal_secret_path)
        issue = receipts.issuer(INTERNATIONAL, lambda: secrets, "gw-1")

        def answered(number: int, age_s: float = 0.0) -> tuple[CallRecord, str]:
            call = record(
                number, tenant="alpha", project="p0", gateway="gw-1", sequence=number,
                started_ms=int((time.time() - age_s) * 1e3),
            )  # fmt: skip
            return call, issue(call)

        def verified(text: str) -> dict[str, Any]:
            reply = house.operator("GET", f"/audit-log/receipts/{text}")
            assert reply.status_code == 200, reply.text
            return dict(reply.json())

        (first, of_first), (second, of_second) = answered(1), answered(2)
        # Attack 9: a call is answered, and left out of ledger and log alike.
        _, of_suppressed = answered(3, age_s=7_200)
        assert verified(of_first)["state"] == "waiting", "it is on its way"
        second.completion_tokens += 1  # what the record says is changed on its way
        context.ledger.ingest([call_record.encode(first), call_record.encode(second)])
        assert verified(of_first)["state"] == "waiting"
        made.seal()
        found = verified(of_first)
        assert found["state"] == "sealed" and found["call"] == first.event_id
        proof = house.operator("GET", f"/audit-log/proofs/{first.event_id}").json()
        assert audit_verify.verify_proof(json.dumps(proof).encode())["segment"] == found["segment"]
        assert verified(of_second)["state"] == "contradicted"
        assert verified(of_suppressed)["state"] == "missing"

        def alarms() -> dict[str, str]:
            found = house.operator("GET", "/alerts").json()["data"]
            mine = [one for one in found if one["kind"] == "audit_receipt_broken"]
            assert all(one["detail"]["subject"][0] in alerting.words(one["kind"], "", one["detail"])[1]
                       for one in mine)  # fmt: skip
            return {one["detail"]["subject"][0]: one["detail"]["reason"] for one in mine}

        third = of_suppressed.split(".")[1]
        assert verified(of_suppressed)["state"] == "missing", "and is not said again"
        assert alarms() == {second.event_id: "contradicted", third: "missing"}
        for wrong in (of_first[:-1] + "x", "r1.x", of_first.replace("gw", "gx") + "0"):
            assert house.operator("GET", f"/audit-log/receipts/{wrong}").status_code == 404
        with house.engine.begin() as connection:  # the ledger is no witness of the log
            connection.exec_driver_sql("delete from ledger")
        assert verified(of_first)["state"] == "sealed"
        for tenant, status in (("alpha", 200), ("beta", 404)):
            unit = {"kind": "tenant", "tenant": tenant, "name": tenant}
            assert house.operator("POST", "/organization/units", unit).status_code == 201
            who = house.person(tenant, "auditor")
            assert who("GET", f"/audit-log/receipts/{of_first}").status_code == status
