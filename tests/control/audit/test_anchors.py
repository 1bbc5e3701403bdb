"""Checkpoints are time-stamped and put under object lock, over sockets; what is not is said."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import pytest
from sqlalchemy import select

from tests.control.audit.test_witness import WitnessedLog
from tests.vendors.anchor_places import (
    CREDENTIAL,
    Authority,
    Bucket,
    serving_authority,
    serving_bucket,
)
from tokenschain.control.audit.anchors import ACTION, Anchor, AnchoringJob, listed
from tokenschain.control.observability import alerts as alerting
from tokenschain.infra.config.audit import AuditSettings, ObjectLockSettings
from tokenschain.infra.config.groups import Settings
from tokenschain.infra.database import engine as db
from tokenschain.infra.database.tables import alerts, audit_events
from tokenschain.infra.security.secrets import SecretMissing
from tokenschain.wire.client import HttpClient
from tokenschain.wiring.anchors import anchor_places

DAY_S = 86_400


class Places(NamedTuple):
    """A time stamp authority and a bucket, and where they answer."""

    authority: Authority
    bucket: Bucket
    urls: tuple[str, str]


class AnchoredLog:
    """A log with both."""

    def __init__(self, made: WitnessedLog, places: Places) -> None:
        self.made = made
        self.authority, self.bucket, self.urls = places
        self.said: list[tuple[str, str]] = []
        self.credential = CREDENTIAL
        self.authority.mode = self.bucket.mode = ""
        self.bucket.objects.clear()

    def look(self, *after_s: float) -> list[tuple[str, str]]:
        """What is said while one control looks now, and so long after it each."""
        self.said.clear()
        asyncio.run(self._look(after_s))
        return list(self.said)

    async def _look(self, after_s: tuple[float, ...]) -> None:
        stamps, bucket = self.urls
        lock = ObjectLockSettings(url=bucket, credential="env:X", retain_days=9)
        settings = Settings(audit=AuditSettings(timestamp_urls=(stamps,), object_lock=lock))
        now = [self.made.now_s]
        client = HttpClient()
        job = AnchoringJob(
            self.made.engine, anchor_places(settings, client, self._secret, lambda: now[0]),
            3_600.0, lambda event, /, why="", **_: self.said.append((event, why)),
            alerting.audit_unanchored, lambda: now[0],
        )  # fmt: skip
        for moment in (0.0, *after_s):
            now[0] = self.made.now_s + moment
            await job.look()
        client.close()

    def _secret(self, reference: str) -> str:
        assert reference == "env:X"
        if not self.credential:
            raise SecretMissing("env:X is not set")
        return self.credential

    def anchors(self) -> list[Anchor]:
        with db.reading(self.made.engine) as connection:
            return listed(connection, 100)

    def of(self, kind: str) -> Anchor:
        return next(one for one in self.anchors() if one.kind == kind)

    def alerts(self) -> list[dict[str, Any]]:
        with db.reading(self.made.engine) as connection:
            rows = connection.execute(select(alerts.c.kind, alerts.c.detail)).all()
        return [{"kind": row.kind} | json.loads(row.detail) for row in rows]


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Places]:
    authority, bucket = Authority(tmp_path_factory.mktemp("tsa")), Bucket()
    with serving_authority(authority) as stamps, serving_bucket(bucket) as objects:
        yield Places(authority, bucket, (stamps, objects))


@pytest.fixture
def log(tmp_path: Path, places: Places) -> Iterator[AnchoredLog]:
    made = WitnessedLog(tmp_path)
    made.now_s = float(int(time.time()))  # what is locked is locked by the bucket's own clock
    yield AnchoredLog(made, places)
    made.engine.dispose()


def test_a_checkpoint_is_stamped_and_locked_and_the_log_itself_says_so(
    log: AnchoredLog, tmp_path: Path
) -> None:
    log.made.seal(3)
    assert log.look(1_000) == [] and len(log.anchors()) == 2, "one each, an hour long"
    stamp, locked = log.of("timestamp"), log.of("object")
    assert stamp.size == locked.size == 4 and stamp.note == locked.note
    assert log.authority.verifies(stamp.note.encode(), stamp.evidence)
    assert not log.authority.verifies(stamp.note.encode() + b" ", stamp.evidence)
    where = json.loads(locked.evidence)
    ((path, version),) = log.bucket.objects
    assert where["url"].endswith(path) and where["version"] == version
    assert log.bucket.objects[path, version][0] == stamp.note.encode()
    assert log.bucket.delete(path, version) == 403, "nobody deletes it"
    with db.reading(log.made.engine) as connection:
        said = connection.execute(
            select(audit_events.c.target).where(audit_events.c.action == ACTION)
        )
        assert set(said.scalars()) == set(log.urls)
    log.made.seal(2)
    assert log.made.report(tmp_path / "b.tar", witnessed=False, former=stamp.note)["verified"]


def test_a_log_that_is_written_anew_contradicts_its_anchor(
    log: AnchoredLog, tmp_path: Path
) -> None:
    before = log.made.content()
    log.made.seal(4)
    assert log.look() == []
    log.made.put_back(before)
    log.made.seal(6, tenant="other")  # with the signing key, and no witness
    assert log.made.report(tmp_path / "b.tar", witnessed=False)["verified"], "by itself it is whole"
    former = log.of("timestamp").note
    assert not log.made.report(tmp_path / "b.tar", witnessed=False, former=former)["verified"]


@pytest.mark.parametrize("mode", ["refuses", "replays", "no answer", "other digest", "fails"])
def test_what_is_no_stamp_of_the_checkpoint_is_none_and_said_once(
    log: AnchoredLog, mode: str
) -> None:
    assert log.look() == []
    log.authority.mode = mode
    log.made.seal(2)
    said = log.look(4_000, 4_060, 4_120)
    assert [event for event, _ in said] == ["audit_anchor_failed"], said
    words = {
        "refuses": "status 2", "replays": "another digest", "no answer": "no answer of RFC 3161",
        "other digest": "another digest", "fails": "HTTP 500",
    }  # fmt: skip
    assert words[mode] in said[0][1]
    assert [one.kind for one in log.anchors()].count("timestamp") == 1


@pytest.mark.parametrize("mode", ["no lock", "ignores", "shorter", "other bytes", "key", "no key"])
def test_what_is_not_locked_is_not_taken_for_kept(log: AnchoredLog, mode: str) -> None:
    log.bucket.mode = mode
    log.credential = {"key": CREDENTIAL + "x", "no key": ""}.get(mode, CREDENTIAL)
    said = log.look(60)
    assert [event for event, _ in said] == ["audit_anchor_failed"], said
    words = {
        "no lock": "no lock", "ignores": "did not lock", "shorter": "did not lock", "other bytes": "another",
        "key": "SignatureDoesNotMatch", "no key": "not set",
    }  # fmt: skip
    assert words[mode] in said[0][1] and CREDENTIAL not in said[0][1]
    assert [one.kind for one in log.anchors()] == ["timestamp"]


def test_without_an_anchor_for_a_day_there_is_an_alert(log: AnchoredLog) -> None:
    log.authority.mode = "fails"
    said = log.look(DAY_S / 2)
    assert [event for event, _ in said] == ["audit_anchor_failed"] and log.alerts() == []
    log.look(DAY_S + 60, DAY_S + 120)
    (alert,) = log.alerts()
    assert (alert["kind"], alert["count"], alert["amount"]) == ("audit_unanchored", 1, 2)
    assert "HTTP 500" in alert["reason"]
    for words in alerting.words("audit_unanchored", "", alert):
        assert "HTTP 500" in words


def test_an_authority_that_answers_again_is_said(log: AnchoredLog) -> None:
    log.authority.mode = "fails"

    asked = 0
    answer = log.authority.answer

    def mended(query: bytes) -> bytes:
        nonlocal asked
        asked += 1
        log.authority.mode = "fails" if asked == 1 else ""
        return answer(query)

    log.authority.answer = mended  # type: ignore[method-assign]
    try:
        said = log.look(60)
    finally:
        del log.authority.answer
    assert [event for event, _ in said] == ["audit_anchor_failed", "audit_anchor_resumed"]


@pytest.mark.parametrize(
    "url",
    ["https://me:pass@tsa.example/tsr", "https://tsa.example/tsr?token=x", "ftp://tsa.example"],
)
def test_an_address_has_no_password_for_it_stands_in_the_log(url: str) -> None:
    for named in ({"timestamp_urls": [url]}, {"object_lock": {"url": url, "credential": "env:X"}}):
        with pytest.raises(msgspec.ValidationError) as refused:
            msgspec.convert(named, AuditSettings)
        assert url not in str(refused.value)
    for right in ("https://tsa.example", "http://127.0.0.1:318/tsr", "https://[2001:db8::1]/a/b"):
        assert msgspec.convert({"timestamp_urls": [right]}, AuditSettings).timestamp_urls == (
            right,
        )
