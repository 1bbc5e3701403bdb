"""The wires between processes: what was recorded there is worth nothing when it is sent again."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import msgspec
import pytest

from tests import web
from tests.ports import free_port
from tests.security.platform import Platform, platform
from tests.small_server import serving
from tests.stack import Stack
from tests.upstreams import UpstreamSimulator
from tests.waiting import until
from tokenschain.control import request_nonces
from tokenschain.core.limits import Lease, LeaseRequest
from tokenschain.core.snapshot import Snapshot
from tokenschain.core.snapshot.manifest import SNAPSHOT_FORMAT, Manifest
from tokenschain.core.snapshot.shards import encode_shard
from tokenschain.infra.control_channel.kept_snapshot import KeptSnapshot
from tokenschain.infra.control_channel.protocol import (
    GATEWAYS_PATH,
    JOURNAL_PATH,
    LEASES_PATH,
    PARTS_PATH,
    RESPONSES_PATH,
    SIGNATURE_HEADER,
    SNAPSHOT_PATH,
    LeaseBatch,
)
from tokenschain.infra.control_channel.signatures import (
    NONCES_MAX,
    WINDOW_S,
    BadSignature,
    Nonces,
    Signatures,
    Signed,
)
from tokenschain.infra.security.suite import INTERNATIONAL, Suite

SECRET = "s" * 43
BUDGET = 1_000


class Seen(NamedTuple):
    """One exchange between a gateway and control, as it passed."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    answer: httpx.Response


class Wire:
    """Somebody between a gateway and control: records, and answers in control's place."""

    def __init__(self, control: str) -> None:
        self.control = control
        self.seen: list[Seen] = []
        self.answers: dict[str, httpx.Response] = {}
        """Given instead of control's, by the path's beginning."""

    def last(self, path: str) -> Seen:
        return next(one for one in reversed(self.seen) if one.path.startswith(path))

    def again(self, seen: Seen) -> httpx.Response:
        """Send a recorded request again, byte by byte."""
        return web.request(
            seen.method, self.control + seen.path, headers=seen.headers, content=seen.body
        )

    def handler(wire) -> type[BaseHTTPRequestHandler]:
        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            wbufsize = -1

            def _pass(self) -> None:
                body = self.rfile.read(int(self.headers.get("content-length") or 0))
                headers = {k: v for k, v in self.headers.items() if k.lower() != "host"}
                for path, recorded in wire.answers.items():
                    if self.path.startswith(path):
                        self._give(recorded)
                        return
                try:
                    answer = web.request(
                        self.command, wire.control + self.path, headers=headers, content=body,
                        timeout=40,
                    )  # fmt: skip
                except httpx.HTTPError:
                    self.close_connection = True
                    return
                wire.seen.append(Seen(self.command, self.path, headers, body, answer))
                self._give(answer)

            def _give(self, answer: httpx.Response) -> None:
                self.send_response(answer.status_code)
                for name in (SIGNATURE_HEADER, "etag", "content-type"):
                    if name in answer.headers:
                        self.send_header(name, answer.headers[name])
                if answer.status_code != 304:
                    self.send_header("content-length", str(len(answer.content)))
                self.end_headers()
                self.wfile.write(answer.content)

            do_GET = do_POST = do_DELETE = _pass

            def log_message(self, *_: object) -> None: ...

        return Handler


@pytest.fixture(scope="module")
def tapped(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Stack, Wire]]:
    """A platform whose gateway reaches control over somebody else's wire."""
    upstream = UpstreamSimulator()
    port = free_port()
    wire = Wire(f"http://127.0.0.1:{port}")
    with serving(wire.handler()) as url:
        stack = Stack(
            tmp_path_factory.mktemp("tapped"), upstream.base_url,
            control={"port": port, "url": url},
        )  # fmt: skip
        stack.control_port = port
        stack.start()
        yield stack, wire
        stack.close()
    upstream.close()


def _secret_of(stack: Stack) -> str:
    return (stack.folder / "data" / "secrets" / "internal").read_text().strip()


def _signatures(
    secret: str = SECRET, at: Any = time.time, suite: Suite = INTERNATIONAL
) -> Signatures:
    secrets = (secret,)
    return Signatures(suite, lambda: secrets, at)


def _checked(signatures: Signatures, method: str, path: str, body: bytes, header: str) -> Signed:
    return asyncio.run(signatures.check(method, path, body, header))


def _lease(wire: Wire, signatures: Signatures, sequence: int, holder: str) -> httpx.Response:
    batch = LeaseBatch(holder, (LeaseRequest("small", "", 10, 10),), "budgets", sequence)
    body = msgspec.msgpack.encode(batch)
    header = signatures.sign("POST", LEASES_PATH, body).header
    return web.post(wire.control + LEASES_PATH, content=body, headers={SIGNATURE_HEADER: header})


def _granted(stack: Stack) -> int:
    rows = stack.rows("select granted, spent from budget_counts where budget_id = 'small'")
    return sum(max(row["granted"], row["spent"]) for row in rows)


def test_recorded_requests_are_worthless_and_draw_nothing(tapped: tuple[Stack, Wire]) -> None:
    stack, wire = tapped
    spec = {"kind": "budget", "measure": "requests", "amount": BUDGET, "period": "day"}
    assert stack.admin("PUT", "/api/v1/limits/small", json=spec).status_code in (200, 201)
    stack.until_served()
    assert stack.chat().status_code == 200
    until(lambda: any(one.path.startswith(LEASES_PATH) for one in wire.seen))
    until(lambda: any(one.path.startswith(JOURNAL_PATH) for one in wire.seen))
    for path in (SNAPSHOT_PATH, PARTS_PATH, JOURNAL_PATH):
        again = wire.again(wire.last(path))
        assert (again.status_code, "came before" in again.text) == (401, True), path
    draws = [one for one in wire.seen if one.path.startswith(LEASES_PATH)]
    assert {wire.again(one).status_code for one in draws for _ in range(10)} == {401}
    # With a control that has forgotten the nonces, the sequence still tells: on any of them.
    signatures = _signatures(_secret_of(stack))
    assert _lease(wire, signatures, 7, "other").status_code == 200
    before = _granted(stack)
    assert {_lease(wire, signatures, old, "other").status_code for old in (7, 6, 1)} == {409}
    assert _granted(stack) == before
    assert _lease(wire, signatures, 8, "other").status_code == 200
    assert _granted(stack) > before
    assert stack.chat().status_code == 200, "the gateway itself goes on"


@pytest.fixture(params=["sqlite", "postgresql"])
def controls(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[list[Platform]]:
    """Two controls on one database; the second may as well be the first after a restart."""
    database = None
    if request.param == "postgresql":
        database = str(request.getfixturevalue("postgres").database())
    with platform(tmp_path, database=database) as one, platform(tmp_path, database=database) as two:
        for made in (one, two):
            internal = made.app.state.internal
            made.app.state.internal = internal._replace(signatures=_signatures())
        yield [one, two]


def test_what_one_control_believed_is_believed_by_no_other(controls: list[Platform]) -> None:
    """A recorded report, or a stored response that was deleted meanwhile, would come back."""
    requests = (
        ("POST", GATEWAYS_PATH, b"status"),
        ("POST", RESPONSES_PATH, b"frames"),
        ("POST", JOURNAL_PATH, b"frames"),
        ("POST", LEASES_PATH, b"lease"),
        ("DELETE", f"{RESPONSES_PATH}/resp_1?tenant=a", b""),
    )
    for method, path, body in requests:
        headers = {SIGNATURE_HEADER: _signatures().sign(method, path, body).header}
        answers = [
            made.client.request(method, path, content=body, headers=headers) for made in controls
        ]
        assert answers[0].status_code != 401, (path, answers[0].text)
        assert answers[1].status_code == 401 and "came before" in answers[1].text, path
    one, two = controls
    for seconds, left in ((request_nonces.KEPT_S - 60, len(requests)), (61, 0)):
        with one.engine.begin() as connection:
            aged = f"update request_nonces set at_s = at_s - {int(seconds)}"
            connection.exec_driver_sql(aged)
            request_nonces.sweep(connection)
        assert two.rows("select count(*) from request_nonces") == [(left,)]
    assert request_nonces.KEPT_S > 2 * WINDOW_S


def test_no_internal_route_answers_unsigned_or_leaves_its_answer_unsigned(
    tapped: tuple[Stack, Wire],
) -> None:
    stack, wire = tapped
    signatures = _signatures(_secret_of(stack))
    strangers = _signatures()
    old = _signatures(_secret_of(stack), lambda: time.time() - 2 * WINDOW_S)
    early = _signatures(_secret_of(stack), lambda: time.time() + 2 * WINDOW_S)
    for method, path in [
        ("GET", SNAPSHOT_PATH), ("GET", f"{PARTS_PATH}?names=x"), ("POST", JOURNAL_PATH),
        ("POST", LEASES_PATH), ("POST", RESPONSES_PATH),
        ("GET", f"{RESPONSES_PATH}/resp_x?tenant=t"),
        ("DELETE", f"{RESPONSES_PATH}/resp_x?tenant=t"),
    ]:  # fmt: skip
        url = wire.control + path
        right = signatures.sign(method, path, b"")
        otherwhere = signatures.sign(method, f"{path}x", b"").header
        for header in (
            "", "é", "0 0 0", strangers.sign(method, path, b"").header, otherwhere,
            old.sign(method, path, b"").header, early.sign(method, path, b"").header,
        ):  # fmt: skip
            raw = {SIGNATURE_HEADER: header.encode("latin-1")}
            refused = web.request(method, url, headers=raw)  # type: ignore[arg-type]
            assert refused.status_code == 401, (path, header)
        answer = web.request(method, url, headers={SIGNATURE_HEADER: right.header})
        assert answer.status_code != 401
        signature = answer.headers[SIGNATURE_HEADER]
        assert right.answered(answer.status_code, answer.content, signature), path
        other = signatures.sign(method, path, b"")
        assert not other.answered(answer.status_code, answer.content, signature)


def test_an_old_answer_of_control_is_not_taken_again(tapped: tuple[Stack, Wire]) -> None:
    stack, wire = tapped
    key = stack.new_key()
    old = until(
        lambda: next(
            (one for one in reversed(wire.seen)
             if one.path.startswith(SNAPSHOT_PATH) and one.answer.status_code == 200), None,
        )
    )  # fmt: skip
    listed = stack.admin("GET", "/api/v1/keys", params={"limit": 100}).json()["data"]
    for one in listed:
        if one["prefix"] == key[: len(one["prefix"])]:
            stack.admin("DELETE", f"/api/v1/keys/{one['id']}")
    stack.until_known(key, known=False)
    try:
        wire.answers = {
            SNAPSHOT_PATH: old.answer,
            JOURNAL_PATH: wire.last(JOURNAL_PATH).answer,
        }
        call = stack.chat()
        assert call.status_code == 200
        until(lambda: "not signed with our secret" in stack.read_log())
        headers = {"authorization": f"Bearer {key}"}
        deadline = time.monotonic() + 1.5
        while time.monotonic() < deadline:
            assert web.get(f"{stack.url}/v1/models", headers=headers).status_code == 401
            time.sleep(0.05)
    finally:
        wire.answers = {}
    stack.row_of(call)  # what another said it had taken was kept, and shipped when control said so


def test_a_request_is_believed_once_within_the_window_by_its_own_secret() -> None:
    now = [1_000.0]
    ours, theirs = _signatures(at=lambda: now[0]), _signatures(at=lambda: now[0])
    header = ours.sign("POST", "/x", b"body").header
    _checked(theirs, "POST", "/x", b"body", header)
    for method, path, body in [
        ("GET", "/x", b"body"),
        ("POST", "/y", b"body"),
        ("POST", "/x", b""),
    ]:
        with pytest.raises(BadSignature, match="wrong"):
            _checked(theirs, method, path, body, header)
    for at in (1_000.0, 1_029.0, 1_031.0, 1_100.0, 969.0):
        now[0] = at
        with pytest.raises(
            BadSignature, match="before" if abs(at - 1_000) <= WINDOW_S else "clocks"
        ):
            _checked(theirs, "POST", "/x", b"body", header)
    with pytest.raises(BadSignature):
        _checked(theirs, "POST", "/x", b"body", header.replace(" ", "\n", 1))


def test_nonces_are_bounded_and_forgotten_with_their_window() -> None:
    nonces = Nonces(3)
    assert all(nonces.is_new(f"{one:016x}", 100.0, 100.0) for one in range(3))
    assert not nonces.is_new("f" * 16, 100.0, 100.0), "what cannot be remembered is not believed"
    later = 100.0 + 3 * WINDOW_S
    assert nonces.is_new("f" * 16, later, later)
    assert NONCES_MAX >= 100_000


def _kept(folder: Path) -> tuple[KeptSnapshot, list[str]]:
    said: list[str] = []
    return KeptSnapshot(
        folder, "0", INTERNATIONAL, _signatures(), lambda _, why: said.append(why)
    ), said


def _manifest(revision: int, at_ms: int) -> tuple[Manifest, bytes, dict[str, bytes]]:
    part = msgspec.msgpack.encode(Snapshot(str(revision), {}, {}))
    shard = encode_shard({})
    parts = {INTERNATIONAL.hex_digest(one): one for one in (part, shard)}
    names = (INTERNATIONAL.hex_digest(shard), *[""] * 255)
    found = Manifest(
        str(revision), INTERNATIONAL.hex_digest(part), names, SNAPSHOT_FORMAT, revision, at_ms
    )
    return found, msgspec.json.encode(found), parts


def test_files_put_back_are_not_served_by(tmp_path: Path) -> None:
    kept, _ = _kept(tmp_path)
    kept.write(*_manifest(5, 10))
    folder = tmp_path / "snapshot" / "0"
    copy = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert _kept(tmp_path)[0].read() is not None
    for later in (_manifest(5, 11), _manifest(6, 11)):
        kept.write(*later)
        found = _kept(tmp_path)[0].read()
        assert found is not None and found[0] == later[0]
        for name, payload in copy.items():
            (folder / name).write_bytes(payload)
        again, said = _kept(tmp_path)
        assert again.read() is None
        assert said == ["the snapshot on disk is older than the last that was served here"]
        kept.write(*later)
    changed = (folder / "manifest").read_bytes().replace(b'"revision":6', b'"revision":9')
    (folder / "manifest").write_bytes(changed)
    again, said = _kept(tmp_path)
    assert again.read() is None and "not signed" in said[0]


def test_what_is_kept_is_signed_again_when_the_secret_changes(tmp_path: Path, suite: Suite) -> None:
    secrets = [("a" * 40,)]
    signatures = Signatures(suite, lambda: secrets[0], time.time)

    def kept() -> KeptSnapshot:
        return KeptSnapshot(tmp_path, "0", suite, signatures, lambda *_: None)

    first = kept()
    first.write(*_manifest(5, 10))
    secrets[0] = ("b" * 40,)
    assert kept().read() is None
    first.renew()
    found = kept()
    assert found.read() is not None and found.highest == (5, 10)


def test_a_control_restored_from_a_backup_is_refused_until_it_says_so(
    tmp_path: Path, upstream: UpstreamSimulator
) -> None:
    stack = Stack(tmp_path, upstream.base_url).start()
    try:
        backup = tmp_path / "backup.db"
        live = sqlite3.connect(stack.settings.data_dir / "tokenschain.db")
        with sqlite3.connect(backup) as target:
            live.backup(target)
        live.close()
        key = stack.new_key()
        stack.stop("control")
        for name in ("tokenschain.db", "tokenschain.db-wal", "tokenschain.db-shm"):
            (stack.settings.data_dir / name).unlink(missing_ok=True)
        (stack.settings.data_dir / "tokenschain.db").write_bytes(backup.read_bytes())
        stack.start("control")
        until(lambda: "snapshot_older_refused" in stack.read_log())
        headers = {"authorization": f"Bearer {key}"}
        assert web.get(f"{stack.url}/v1/models", headers=headers).status_code == 200
        command = [sys.executable, "-m", "tokenschain", "advance-revision"]
        environment = os.environ | stack.environment
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        assert "revision" in done.stdout
        stack.until_known(key, known=False)
    finally:
        stack.close()


def test_leases_answer_what_was_asked_only(suite: Suite) -> None:
    ours = _signatures(suite=suite)
    one, two = ours.sign("POST", LEASES_PATH, b"1"), ours.sign("POST", LEASES_PATH, b"1")
    body = msgspec.msgpack.encode([Lease(10**15, 0)])
    assert one.answered(200, body, one.answer(200, body))
    assert not two.answered(200, body, one.answer(200, body))
    assert not one.answered(409, body, one.answer(200, body))
    assert not one.answered(200, body + b"\x00", one.answer(200, body))
    assert not one.answered(200, body, one.header.split()[2]), "a request is no answer"


def test_a_secret_that_was_replaced_is_believed_while_it_stands_in_the_file(suite: Suite) -> None:
    def of(*secrets: str) -> Signatures:
        return Signatures(suite, lambda: secrets, lambda: 1e9)

    former, both, alone = of("o" * 32), of("n" * 32, "o" * 32), of("n" * 32)
    signed = former.sign("POST", "/internal", b"batch")
    asked = _checked(both, "POST", "/internal", b"batch", signed.header)
    assert both.former_at_s == 1e9, "who rotates sees that it is still used"
    assert signed.answered(200, b"taken", asked.answer(200, b"taken"))
    assert both.is_of_disk(b"kept", former.of_disk(b"kept"))
    with pytest.raises(BadSignature):
        _checked(
            alone, "POST", "/internal", b"batch", former.sign("POST", "/internal", b"batch").header
        )
    assert not alone.is_of_disk(b"kept", former.of_disk(b"kept"))
