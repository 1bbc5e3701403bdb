"""Signed acts: a person's own key signs the request, the audit log keeps it, and anyone verifies."""

from __future__ import annotations

import base64
import hashlib
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.control.api.test_audit_log import Sealed
from tests.security.platform import Caller, Platform, platform
from tokenschain.cli import audit_verify, signing
from tokenschain.control.audit import admin_log, bundle
from tokenschain.control.audit.admin_log import Author
from tokenschain.control.identity import users
from tokenschain.core.errors import ApiError
from tokenschain.infra.security import pack_signatures, secret_files
from tokenschain.infra.security.note_keys import NoteSecret
from tokenschain.infra.security.signed_act import HEADER, SignedAct, body_digest, key_id_of
from tokenschain.infra.security.suite import INTERNATIONAL
from tokenschain.wiring import machine

ERASURES = "/content-erasures"
ERASURE = {"tenant": "acme", "end_user": "ada-of-the-test", "reason": "request 12"}


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    with platform(tmp_path_factory.mktemp("signed")) as made:
        context = made.app.state.context
        control = msgspec.structs.replace(
            context.settings.control, signature_for=("content:erase", "calls:export", "keys")
        )
        settings = msgspec.structs.replace(context.settings, control=control)
        made.app.state.context = context._replace(settings=settings)
        unit = {"kind": "tenant", "tenant": "acme", "name": "acme"}
        assert made.operator("POST", "/organization/units", unit).status_code == 201
        yield made


@pytest.fixture(scope="module")
def sealed(house: Platform) -> Sealed:
    return Sealed(house)


class Signer:
    """A person with a key of their own."""

    def __init__(self, house: Platform, suite: str, folder: Path) -> None:
        self.house = house
        self.who: Caller = house.person("*", "owner")
        self.pem, self.public = pack_signatures.new_key(suite)
        self.file = folder / f"{self.who.id}.pem"
        self.file.write_bytes(self.pem)
        body = {"name": "laptop", "public_key": self.public}
        made = self.who("POST", "/me/signing-keys", body)
        assert made.status_code == 201, made.text
        self.key_id = made.json()["id"]

    def header(self, method: str, target: str, body: bytes, **more: Any) -> str:
        """What signs a request, by hand."""
        salt = b"s" * 16
        at_ms = more.get("at_ms", time.time_ns() // 1_000_000)
        act = SignedAct(method, target, at_ms, body_digest(salt, body))
        signed = pack_signatures.sign(act.text(), [more.get("pem", self.pem)]).decode().strip()
        return f"{self.key_id} {at_ms} {salt.hex()} {signed}"

    def send(
        self, method: str, path: str, body: bytes = b"", header: str | None = None, **more: Any
    ) -> Any:
        """A signed request."""
        target = f"/api/v1{path}"
        given = header or self.header(method, target, body, **more)
        headers = {"authorization": f"Bearer {self.who.token}", HEADER: given,
                   "content-type": "application/json"}  # fmt: skip
        return self.house.client.request(method, target, content=body, headers=headers)


@pytest.fixture(scope="module", params=["international", "gm"])
def ada(
    house: Platform, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Signer:
    return Signer(house, request.param, tmp_path_factory.mktemp("keys"))


def code_of(reply: Any) -> str:
    return str(reply.json()["error"]["code"])


def erasure(number: int) -> bytes:
    return json.dumps(ERASURE | {"reason": f"request {number}"}).encode()


def test_a_signed_act_is_done_and_its_record_verifies(house: Platform, ada: Signer) -> None:
    assert code_of(ada.who("POST", ERASURES, ERASURE)) == "signature_required"
    assert code_of(house.operator("POST", ERASURES, ERASURE)) == "signature_required"
    assert ada.send("POST", ERASURES, erasure(1)).status_code == 200
    query = f"select actor, detail from audit_events where actor = '{ada.who.id}'"
    rows = [r for r in house.rows(f"{query} and action = 'content:erase'") if "signed" in r[1]]
    record = {"actor": rows[-1][0], "detail": rows[-1][1]}
    signed = json.loads(record["detail"])["signed"]
    assert signed["key"] == ada.key_id == key_id_of(ada.public)
    assert signed["target"] == f"/api/v1{ERASURES}" and "ada-of" not in record["detail"]
    assert audit_verify.is_signed_act(record)
    for name, value in (("at_ms", 1), ("target", "/"), ("method", "PUT"), ("body", "00")):
        changed = json.dumps({"signed": signed | {name: value}})
        with pytest.raises(audit_verify.NotProved):
            audit_verify.is_signed_act(record | {"detail": changed})
    with pytest.raises(audit_verify.NotProved):
        audit_verify.is_signed_act(record | {"actor": "usr_other"})
    assert not audit_verify.is_signed_act({"detail": "{}"})


def test_a_signature_that_does_not_hold_does_nothing(
    house: Platform, ada: Signer, tmp_path: Path
) -> None:
    target, body = f"/api/v1{ERASURES}", erasure(2)
    good = ada.header("POST", target, body)
    other = Signer(house, "international", tmp_path)
    wrong = {
        "another body": (erasure(3), good),
        "another path": (body, ada.header("POST", f"{target}?x=1", body)),
        "another method": (body, ada.header("PUT", target, body)),
        "long ago": (body, ada.header("POST", target, body, at_ms=1_700_000_000_000)),
        "another key": (body, ada.header("POST", target, body, pem=other.pem)),
        "another person": (body, other.header("POST", target, body)),
        "no signature": (body, "x"),
        "no base64": (body, good.rpartition(" ")[0] + " ???"),
        "no number": (body, good.replace(good.split()[1], "soon")),
        "no such time": (body, f"k {'9' * 320} {'00' * 16} AA=="),
        "no salt": (body, good.replace(good.split()[2], "00")),
    }
    before = house.rows("select id from content_erasures")
    for why, (sent, header) in wrong.items():
        reply = ada.send("POST", ERASURES, sent, header)
        assert (reply.status_code, code_of(reply)) == (403, "invalid_signature"), why
    assert house.rows("select id from content_erasures") == before
    assert ada.send("POST", ERASURES, body, good).status_code == 200
    again = ada.send("POST", ERASURES, body, good)
    assert code_of(again) == "invalid_signature" and "used before" in again.text


def test_an_export_is_signed_with_its_query(house: Platform, ada: Signer) -> None:
    path = "/calls/export?from_s=0&until_s=1000&tenant=acme"
    assert code_of(ada.who("GET", path)) == "signature_required"
    assert ada.send("GET", path).status_code == 200
    noted = house.rows(f"select detail from audit_events where actor = '{ada.who.id}'")
    assert any(path in row[0] for row in noted)


def test_only_a_person_registers_keys_and_a_deleted_one_signs_nothing(
    house: Platform, tmp_path: Path
) -> None:
    signer = Signer(house, "international", tmp_path)
    taken = {"name": "again", "public_key": signer.public}
    assert code_of(signer.who("POST", "/me/signing-keys", taken)) == "conflict"
    for public in ("", "x", "sm2:AAAA", base64.b64encode(b"short").decode()):
        reply = signer.who("POST", "/me/signing-keys", {"name": "n", "public_key": public})
        assert reply.status_code == 400, public
    new = {"name": "n", "public_key": pack_signatures.new_key("international")[1]}
    program = house.person("*", "owner", token_kind="api")
    for who in (house.operator, program):
        assert code_of(who("POST", "/me/signing-keys", new)) == "permission_denied"
    stranger = house.person("acme", "owner")
    path = f"/me/signing-keys/{signer.key_id}"
    assert stranger("DELETE", path).status_code == 404
    assert [one["id"] for one in signer.who("GET", "/me/signing-keys").json()["data"]] == [
        signer.key_id
    ]
    assert stranger("GET", "/me/signing-keys").json()["data"] == []
    assert signer.who("DELETE", path).status_code == 200
    assert code_of(signer.send("POST", ERASURES, erasure(5))) == "invalid_signature"


def test_an_act_on_keys_of_the_machine_is_signed_by_a_command(
    house: Platform, ada: Signer, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = house.app.state.context.settings
    with pytest.raises(ApiError, match="takes a signature"):
        machine.need_second_person(settings, "crypto reseal")
    assert signing.signature("RUN", "crypto reseal", b"") is None
    monkeypatch.setenv(signing.SIGN_WITH_VARIABLE, str(ada.file))
    other = signing.signature("RUN", "crypto wrap", b"")
    with pytest.raises(ApiError, match="does not hold"):
        machine.need_second_person(settings, "crypto reseal", other)
    machine.need_second_person(settings, "crypto reseal", signing.signature(
        "RUN", "crypto reseal", b""))  # fmt: skip
    row = house.rows("select actor, detail from audit_events where action = 'keys:operate'")[-1]
    assert row[0] == ada.who.id
    assert audit_verify.is_signed_act({"actor": row[0], "detail": row[1]})
    monkeypatch.setenv(signing.SIGN_WITH_VARIABLE, __file__)
    with pytest.raises(ValueError, match="no private key"):
        signing.signature("RUN", "crypto reseal", b"")


def test_who_signs_keeps_what_proves_the_body_later(
    house: Platform, ada: Signer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    body, file = erasure(7), tmp_path / "signed.jsonl"
    monkeypatch.setenv(signing.SIGN_WITH_VARIABLE, str(ada.file))
    assert signing.signature("POST", f"/api/v1{ERASURES}", body) and not file.exists()
    monkeypatch.setenv(signing.SIGNED_ACTS_VARIABLE, str(file))
    assert ada.send("POST", ERASURES, body, signing.signature(
        "POST", f"/api/v1{ERASURES}", body)).status_code == 200  # fmt: skip
    signing.signature("DELETE", "/api/v1/other", b"")
    assert file.stat().st_mode & 0o777 == 0o600
    kept, other = map(json.loads, file.read_text("utf-8").splitlines())
    assert other["target"] == "/api/v1/other"
    query = f"select detail from audit_events where actor = '{ada.who.id}'"
    (on_record,) = [
        one for row in house.rows(query)
        if (one := json.loads(row[0] or "{}").get("signed", {}))
        and one["signature"] == kept["signature"]
    ]  # fmt: skip
    shown = base64.b64decode(kept["body_base64"])
    salted = bytes.fromhex(kept["salt"]) + shown
    assert shown == body and hashlib.sha256(salted).hexdigest() == on_record["body"]
    monkeypatch.setenv(signing.SIGNED_ACTS_VARIABLE, str(tmp_path / "none" / "signed.jsonl"))
    with pytest.raises(OSError):
        signing.signature("DELETE", "/api/v1/other", b"")


def test_the_key_of_who_is_shut_out_signs_nothing(
    house: Platform, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    signer = Signer(house, "international", tmp_path)
    monkeypatch.setenv(signing.SIGN_WITH_VARIABLE, str(signer.file))
    given = signing.signature("RUN", "crypto reseal", b"")
    with house.engine.begin() as db:
        users.disable(db, signer.who.id)
    with pytest.raises(ApiError, match="does not hold"):
        machine.need_second_person(house.app.state.context.settings, "crypto reseal", given)


def test_the_verifier_of_the_log_counts_signed_acts_and_finds_a_forged_one(
    house: Platform, sealed: Sealed, ada: Signer, tmp_path: Path
) -> None:
    assert ada.send("POST", ERASURES, erasure(7)).status_code == 200
    found = verified(sealed, tmp_path / "good.tar")
    assert found["signed_acts"] >= 1
    query = f"select detail from audit_events where actor = '{ada.who.id}'"
    detail = next(row[0] for row in house.rows(query) if "signed" in row[0])
    forged = json.loads(detail)["signed"] | {"target": "/api/v1/content-erasures?of=others"}
    with house.engine.begin() as db:  # as who has the log's key can
        admin_log.note(db, Author(ada.who.id, "", forged), "content:erase", "acme", "x")
    problems = verified(sealed, tmp_path / "forged.tar")["problems"]
    assert len(problems) == len(found["problems"]) + 1
    assert "has not signed so" in problems[-1]["why"]


def verified(sealed: Sealed, path: Path) -> dict[str, Any]:
    """What the offline verifier says of the log as it is now."""
    sealed.seal()
    settings = sealed.house.app.state.context.settings
    secret = NoteSecret(INTERNATIONAL, secret_files.read(settings.audit_key_path)[0])
    with path.open("wb") as out:
        bundle.write(sealed.house.engine, INTERNATIONAL, secret, out, 0, 2**42)
    return audit_verify.report_of(str(path))
