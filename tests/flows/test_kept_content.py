"""Kept content of real calls: sealed, opened with a reason, held, erased for good, nowhere in clear."""

from __future__ import annotations

import hashlib
import hmac
import json
import sqlite3
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests import web
from tests.stack import Stack
from tests.upstreams import UpstreamSimulator
from tests.waiting import until

MOBILE = "13812345678"
PLANTED = "planted-words-of-nobody"


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory, upstream: UpstreamSimulator) -> Iterator[Stack]:
    made = Stack(tmp_path_factory.mktemp("content"), upstream.base_url).start()
    yield made
    made.close()


class Tenant:
    """A tenant with a content policy, and its calls."""

    def __init__(self, house: Stack, name: str, content: str, retention: str = "days:30") -> None:
        self.house, self.name = house, name
        self.key = house.new_key(tenant=name, project="p1")
        self.put(content, retention)
        house.until_served()

    def put(self, content: str, retention: str, **more: Any) -> httpx.Response:
        body = {"tenant": self.name, "content": content, "retention": retention, **more}
        return self.house.admin("PUT", "/api/v1/content-policies", json=body)

    def ask(self, text: str, key: str = "", **more: Any) -> str:
        """A call; returns its id."""
        body = {
            "model": "sim-chat", "messages": [{"role": "user", "content": text}], **more,
        }  # fmt: skip
        answer = web.post(
            f"{self.house.url}/v1/chat/completions",
            json=body,
            headers={"authorization": f"Bearer {key or self.key}"},
            timeout=30,
        )
        assert answer.status_code == 200, answer.text
        return str(answer.headers["x-request-id"])

    def open(self, call: str) -> httpx.Response:
        path = f"/api/v1/audit-log/content/{call}/open"
        return self.house.admin("POST", path, json={"reason": "a test"})

    def kept(self, call: str) -> dict[str, Any] | None:
        """The content of a call, if it has arrived."""
        answer = self.open(call)
        return dict(answer.json()) if answer.status_code == 200 else None

    def erase(self, **more: Any) -> dict[str, Any]:
        body = {"tenant": self.name, "reason": "asked for", **more}
        answer = self.house.admin("POST", "/api/v1/content-erasures", json=body)
        assert answer.status_code == 200, answer.text
        return dict(answer.json())


def arrived(tenant: Tenant, call: str) -> dict[str, Any]:
    found = until(lambda: tenant.kept(call))
    assert found is not None
    return found


@pytest.mark.parametrize("stream", [False, True])
def test_words_are_kept_and_the_log_commits_to_them(house: Stack, stream: bool) -> None:
    tenant = Tenant(house, f"full{stream}", "full")
    call = tenant.ask(PLANTED, stream=stream, user="ada")
    found = arrived(tenant, call)
    asked, answered = json.loads(found["input"]), json.loads(found["output"])
    assert asked["messages"] == [{"role": "user", "content": PLANTED}]
    assert answered["choices"][0]["message"]["content"] == "word0 word1 word2 word3 "
    assert not found["cut"] and not found["blocked"] and not found["released"]

    def leaf() -> dict[str, Any] | None:
        path = f"/api/v1/audit-log/entries?event_id=content_{call}"
        rows = house.admin("GET", path).json()["data"]
        return dict(rows[0]["record"]) if rows else None

    record = until(leaf)
    assert record["call"] == call and record["kept"] == "full" and PLANTED not in str(record)
    for side in ("input", "output"):
        said = f"{side}\0{found[side]}".encode()
        code = hmac.new(bytes.fromhex(found["salt"]), said, hashlib.sha256)
        assert code.hexdigest() == record[f"{side}_commitment"] == found[f"{side}_commitment"]
    proof = house.admin("GET", f"/api/v1/audit-log/proofs/content_{call}").json()
    assert json.loads(proof["record"]) == record
    events = house.admin("GET", "/api/v1/audit?action=content:open").json()["data"]
    assert any(one["target"] == call and one["detail"] == {"reason": "a test"} for one in events)


def test_personal_data_is_masked_or_nothing_but_commitments_kept(house: Stack) -> None:
    tenant = Tenant(house, "careful", "redacted")
    call = tenant.ask(f"call me: {MOBILE}", user="ada-of-the-test", metadata={"tel": MOBILE})
    found = arrived(tenant, call)
    assert MOBILE not in str(found) and "138****5678" in str(found) and "ada-of" not in str(found)
    body = {"project": "p1"}
    assert tenant.put("hash", "days:30", **body).status_code == 200
    tenant.put("hash", "days:30")
    house.until_served()
    found = arrived(tenant, tenant.ask(PLANTED))
    assert found["kept"] == "hash"
    assert found["input"] == "" == found["output"] and len(found["salt"]) == 64
    other = house.new_key(tenant=tenant.name, project="p2")
    tenant.put("none", "days:30", **body)
    house.until_served()
    call = tenant.ask("what now?")
    arrived(tenant, tenant.ask("and later?", key=other))
    assert tenant.kept(call) is None


def test_retention_classes_only_go_upwards(house: Stack) -> None:
    tenant = Tenant(house, "patient", "full", "6 months")
    for shorter, where in (("days:183", {}), ("days:1", {"project": "p1"})):
        refused = tenant.put("full", shorter, **where)
        assert refused.status_code == 409 and "upwards" in refused.json()["error"]["message"]
    assert tenant.put("full", "3 years", project="p1").json()["retention"] == "3 years"
    assert tenant.put("none", "6 months").json()["content"] == "none", (
        "less may be kept from now on"
    )
    for wrong in ("a year", "days:0", "days:99999"):
        assert tenant.put("full", wrong).status_code == 400


def test_an_end_users_words_are_erased_and_a_hold_keeps_them(house: Stack) -> None:
    tenant = Tenant(house, "forgetful", "full")
    hers, his = tenant.ask(PLANTED, user="ada"), tenant.ask(PLANTED, user="bob")
    arrived(tenant, hers), arrived(tenant, his)
    for why in ("one", "two"):  # no answer is kept: erasure would not reach it
        opened = web.post(
            f"http://127.0.0.1:{house.control_port}/api/v1/audit-log/content/{hers}/open",
            json={"reason": why},
            headers={"authorization": f"Bearer {house.admin_token}", "idempotency-key": "same"},
            timeout=10,
        )
        assert opened.status_code == 200 and "idempotent-replay" not in opened.headers
    hold = {"tenant": tenant.name, "end_user": "ada", "reason": "case 7"}
    made = house.admin("POST", "/api/v1/legal-holds", json=hold).json()["id"]
    assert tenant.erase(end_user="ada", dry_run=True) == {
        "id": "", "contents": 0, "held": 1, "keys": [],
    }  # fmt: skip
    assert tenant.erase(end_user="ada")["held"] == 1 and tenant.kept(hers)
    why = {"reason": "closed"}
    house.admin("POST", f"/api/v1/legal-holds/{made}/release", json=why)
    done = tenant.erase(end_user="ada")
    assert (done["contents"], done["held"], len(done["keys"])) == (1, 0, 1)
    assert tenant.open(hers).status_code == 404 and tenant.kept(his)
    assert tenant.erase(end_user="nobody")["contents"] == 0
    listed = house.admin("GET", f"/api/v1/content-erasures?tenant={tenant.name}").json()["data"]
    assert listed[1]["keys"] == done["keys"] and listed[1]["subject"]
    body = {"tenant": tenant.name, "end_user": "bob", "reason": "asked for"}
    exported = house.admin("POST", "/api/v1/audit-log/content/export", json=body).json()["data"]
    assert [one["call_id"] for one in exported] == [his]


def test_a_planted_number_is_nowhere_in_clear_and_gone_after_erasure(house: Stack) -> None:
    """Database, write-ahead log, journals, snapshots, logs and a dump of all tables."""
    tenant = Tenant(house, "secret", "full")
    call = tenant.ask(f"{PLANTED} {MOBILE}", user="eve-of-the-test")
    arrived(tenant, call)
    database = Path(house.settings.data_dir) / "tokenschain.db"
    with sqlite3.connect(f"file:{database}?mode=ro", uri=True) as found:
        (key,) = found.execute("select key_id from call_contents where call_id = ?", (call,))
        row = "select wrapped from content_keys where id = ?"
        wrapped = bytes(found.execute(row, key).fetchone()[0])
    assert holding(house, wrapped)
    assert tenant.erase()["contents"] >= 1
    until(lambda: not holding(house, wrapped))
    for planted in (PLANTED.encode(), MOBILE.encode(), b"eve-of-the-test"):
        assert holding(house, planted) == []
    with sqlite3.connect(f"file:{database}?mode=ro", uri=True) as found:
        dump = "\n".join(found.iterdump())
        assert wrapped.hex().upper() not in dump
        query = "select records from audit_segments where records is not null"
        sealed = b"".join(zlib.decompress(records) for (records,) in found.execute(query)).decode()
    assert f"content_{call}" in sealed
    for planted in (PLANTED, MOBILE, "eve-of-the-test"):
        assert planted not in dump and planted not in sealed
    destroyed = (Path(house.settings.data_dir) / "destroyed-keys").read_text().split()
    assert key[0] in destroyed


def holding(house: Stack, planted: bytes) -> list[str]:
    """The files in the folder of a platform that hold some bytes."""
    return [
        str(path)
        for path in house.folder.rglob("*")
        if path.is_file() and planted in path.read_bytes()
    ]
