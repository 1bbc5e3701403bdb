"""`doctor` finds each of these planted faults, and nothing on a healthy platform."""

from __future__ import annotations

import datetime
import json
import os
import shutil
import socket
import sys
import tarfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import pytest
import trustme

from tests import web
from tests.ports import free_port
from tests.small_server import JsonHandler, serving
from tests.stack import PRICES, Stack
from tests.upstreams import UpstreamSimulator
from tests.waiting import until
from tokenschain import __version__, cli
from tokenschain.cli.doctor import machine_checks, platform_checks
from tokenschain.cli.doctor.command import examine
from tokenschain.cli.doctor.findings import CheckResult, Findings, Verdict
from tokenschain.cli.doctor.platform_checks import UpstreamSeen
from tokenschain.control import gateways, revisions
from tokenschain.control.billing import rejected_records
from tokenschain.core.gateway_status import GatewayStatus, RefusedKey, RefusedRevision
from tokenschain.infra import config, hardening
from tokenschain.infra.database import engine as db
from tokenschain.infra.security import secret_files, self_test

LONG = "0123456789abcdef" * 3


class Place(NamedTuple):
    """A machine with nothing on it yet."""

    folder: Path
    data: Path
    patch: pytest.MonkeyPatch

    def set(self, name: str, value: object) -> None:
        """A setting, by its environment variable without the prefix."""
        text = value if isinstance(value, str) else json.dumps(value)
        self.patch.setenv(f"TOKENSCHAIN_{name}", text)

    def upstream(self, **fields: Any) -> None:
        entry = {"id": "a", "base_url": "http://127.0.0.1:1/v1", "zone": "own", "models": ["m"],
                 "prices": {"m": PRICES}}  # fmt: skip
        self.set("UPSTREAMS", [entry | fields])


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    for name in [name for name in os.environ if name.startswith("TOKENSCHAIN_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    made = Place(tmp_path, tmp_path / "data", monkeypatch)
    made.data.mkdir(mode=0o700)
    made.set("DATA_DIR", str(made.data))
    made.set("ENGINE__ENABLED", "false")
    made.set("SERVER__PORT", str(free_port()))
    made.set("CONTROL__PORT", str(free_port()))
    return made


def bad(findings: list[CheckResult]) -> list[CheckResult]:
    return [finding for finding in findings if finding.verdict is not Verdict.OK]


# --- this machine -------------------------------------------------------------------------


def unknown_provider(at: Place) -> None:
    at.set("UPSTREAMS", [{"id": "a", "provider": "aliyun"}])


def folder_open_to_others(at: Place) -> None:
    at.data.chmod(0o755)


def folder_is_a_file(at: Place) -> None:
    at.data.rmdir()
    at.data.touch()


def file_open_to_others(at: Place) -> None:
    (at.data / "tokenschain.db-copy").touch()
    (at.data / "tokenschain.db-copy").chmod(0o644)


def disk_full(at: Place) -> None:
    usage = shutil.disk_usage("/")._replace(free=1_000_000)
    at.patch.setattr(machine_checks.shutil, "disk_usage", lambda folder: usage)


def access_log_without_a_folder(at: Place) -> None:
    at.set("SERVER__ACCESS_LOG", str(at.folder / "none" / "access.log"))


def weak_secret(at: Place) -> None:
    (at.data / "secrets").mkdir(mode=0o700)
    secret_files.write(at.data / "secrets" / "internal", ["short"])


def rotation_not_finished(at: Place) -> None:
    (at.data / "secrets").mkdir(mode=0o700)
    secret_files.write(at.data / "secrets" / "master", [LONG, LONG[::-1]])


def key_missing(at: Place) -> None:
    at.upstream(credential="env:NO_SUCH_KEY")


def one_key_of_two_missing(at: Place) -> None:
    at.patch.setenv("ONE_KEY", "one-key-of-two")
    at.upstream(credential=["env:ONE_KEY", "sealed:none"])


def key_file_open_to_others(at: Place) -> None:
    (at.folder / "key").write_text("a-key-of-a-cloud")
    (at.folder / "key").chmod(0o644)
    at.upstream(credential=f"file:{at.folder / 'key'}")


def mail_password_missing(at: Place) -> None:
    at.set("SMTP__PASSWORD", "sealed:mail")
    at.set("CONTROL__PUBLIC_URL", "https://ai.example")


def zone_unknown(at: Place) -> None:
    at.upstream(zone="")


def certificate(at: Place, days: int) -> trustme.LeafCert:
    ends = datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=days)
    made = trustme.CA().issue_cert("localhost", not_after=ends, not_before=_LONG_AGO)
    made.private_key_pem.write_to_path(at.folder / "tls.key")
    (at.folder / "tls.key").chmod(0o600)
    made.cert_chain_pems[0].write_to_path(at.folder / "tls.pem")
    at.set("TLS__CERTIFICATE_FILE", str(at.folder / "tls.pem"))
    at.set("TLS__KEY_FILE", str(at.folder / "tls.key"))
    return made


_LONG_AGO = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)


def certificate_expired(at: Place) -> None:
    certificate(at, -1)


def certificate_expires_soon(at: Place) -> None:
    certificate(at, 9)


def key_of_another_certificate(at: Place) -> None:
    certificate(at, 400)
    trustme.CA().issue_cert("localhost").private_key_pem.write_to_path(at.folder / "tls.key")


def authorities_are_none(at: Place) -> None:
    (at.folder / "ca.pem").write_text("nothing")
    at.set("EGRESS__CA_FILE", str(at.folder / "ca.pem"))


def postgresql_away(at: Place) -> None:
    at.set("DATABASE__URL", "postgresql://u:s3cret-word@127.0.0.1:1/x")


def database_damaged(at: Place) -> None:
    (at.data / "tokenschain.db").write_bytes(b"no database at all" * 1_000)
    (at.data / "tokenschain.db").chmod(0o600)


def database_of_a_later_version(at: Place) -> None:
    engine = db.connect(f"sqlite:///{at.data / 'tokenschain.db'}")
    db.migrate(engine)
    with engine.begin() as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
    engine.dispose()
    for file in at.data.iterdir():
        file.chmod(0o600)


def redis_away(at: Place) -> None:
    at.set("REDIS__URL", "redis://:s3cret-word@127.0.0.1:1/0")


def clock_apart(at: Place) -> None:
    from tokenschain.infra.redis import connection

    async def told(url: str) -> float:
        return time.time() - 45

    at.set("REDIS__URL", "redis://127.0.0.1:1/0")
    at.patch.setattr(connection, "server_time", told)


def model_not_pulled(at: Place) -> None:
    at.set("ENGINE__ENABLED", "true")
    at.set("ENGINE__MODEL", "my-model")


def catalog_old(at: Place) -> None:
    load = machine_checks.ThisMachine

    def aged(settings: Any, catalog: Any, *rest: Any, **more: Any) -> Any:
        return load(settings, msgspec.structs.replace(catalog, version="2026-01-01"), *rest, **more)

    at.patch.setattr(machine_checks, "ThisMachine", aged)


def sign_up_without_mail(at: Place) -> None:
    at.set("SIGN_UP__ENABLED", "true")
    at.set("CONTROL__PUBLIC_URL", "https://ai.example")


def links_lead_to_this_machine(at: Place) -> None:
    at.set("SMTP__HOST", "mail.example")


FAULTS: dict[Callable[[Place], None], tuple[str, Verdict, str]] = {
    unknown_provider: ("settings", Verdict.FAIL, "did you mean alibaba"),
    folder_open_to_others: ("data folder", Verdict.FAIL, "other users may look into"),
    folder_is_a_file: ("data folder", Verdict.FAIL, "is no folder"),
    file_open_to_others: ("data folder", Verdict.FAIL, "1 files in"),
    disk_full: ("disk", Verdict.FAIL, "only 0.0 GB free"),
    access_log_without_a_folder: ("disk", Verdict.FAIL, "the access log"),
    weak_secret: ("secret files", Verdict.FAIL, "fewer than 32 characters"),
    rotation_not_finished: ("secret files", Verdict.WARN, "holds a former secret"),
    key_missing: ("credentials", Verdict.FAIL, "upstream a gets no calls: env:NO_SUCH_KEY"),
    one_key_of_two_missing: ("credentials", Verdict.WARN, "lacks 1 of 2 keys: sealed:none"),
    key_file_open_to_others: ("credentials", Verdict.FAIL, "chmod 600"),
    mail_password_missing: ("credentials", Verdict.FAIL, "smtp.password: sealed:mail"),
    zone_unknown: ("zones", Verdict.WARN, "zone unknown: a"),
    sign_up_without_mail: ("mail", Verdict.WARN, "nobody can sign up"),
    links_lead_to_this_machine: ("mail", Verdict.WARN, "control.public_url is not set"),
    certificate_expired: ("certificates", Verdict.FAIL, "has expired on"),
    certificate_expires_soon: ("certificates", Verdict.WARN, "expires on"),
    key_of_another_certificate: ("certificates", Verdict.FAIL, "KEY_VALUES_MISMATCH"),
    authorities_are_none: ("certificates", Verdict.FAIL, "egress.ca_file"),
    postgresql_away: ("database", Verdict.FAIL, "127.0.0.1:1 cannot be used"),
    database_damaged: ("database", Verdict.FAIL, "file is not a database"),
    database_of_a_later_version: ("database", Verdict.FAIL, "9999 by a later version"),
    redis_away: ("redis", Verdict.FAIL, "Redis at 127.0.0.1:1 cannot be used"),
    clock_apart: ("redis", Verdict.FAIL, "Redis' clock is 45"),
    model_not_pulled: ("engine", Verdict.FAIL, "model my-model is not pulled"),
    catalog_old: ("catalog", Verdict.WARN, "of 2026-01-01"),
}


def test_cryptography_that_does_not_work_is_found(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    def said() -> tuple[Verdict, str]:
        (found,) = [
            one for one in examine(config.load(), offline=True) if one.check == "cryptography"
        ]
        return found.verdict, found.said

    verdict, text = said()
    assert verdict is Verdict.OK and "suite international, key store file" in text
    assert "RFC 8998" in text
    place.set("KEY_STORE__KIND", "passphrase")
    verdict, text = said()
    assert verdict is Verdict.FAIL and "key_store.passphrase" in text
    place.set("KEY_STORE__KIND", "file")
    monkeypatch.setattr(self_test, "_sm2", lambda: False)
    place.set("CRYPTO__SUITE", "dual")
    verdict, text = said()
    assert verdict is Verdict.FAIL and "SM2" in text


FOLLOWED = (unknown_provider, folder_is_a_file)
"""Faults that others follow from: its zone is unknown, too; nothing can be read in a file."""


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_a_fault_of_this_machine_is_found(fault: Callable[[Place], None], place: Place) -> None:
    assert not bad(list(examine(config.load(), offline=True)))
    fault(place)
    found = bad(list(examine(config.load(), offline=True)))
    check, verdict, said = FAULTS[fault]
    assert len(found) == 1 or fault in FOLLOWED, found
    assert (found[0].check, found[0].verdict) == (check, verdict), found
    assert said in found[0].said and found[0].mend
    assert "s3cret" not in str(found)


def test_a_port_of_another_program_is_found(place: Place) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        place.set("SERVER__PORT", str(other.getsockname()[1]))
        found = bad(list(examine(config.load(), offline=True)))
    assert [(one.check, one.verdict) for one in found] == [("ports", Verdict.FAIL)]
    assert "server.port" in found[0].said


def test_a_wrong_setting_is_a_finding(
    place: Place, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    place.set("SERVER__PORT", "x")
    assert run(monkeypatch, "doctor", "--json") == 1
    told = json.loads(capsys.readouterr().out)
    assert told["verdict"] == "fail" and "server.port" in told["findings"][0]["said"]


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    """A command's exit code."""
    monkeypatch.setattr(hardening, "harden", lambda: None)  # it would harden the tests, too
    monkeypatch.setattr(sys, "argv", ["tokenschain", *arguments])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    return int(ended.value.code or 0)


def test_only_what_is_no_default_is_shown_and_passwords_never(
    place: Place, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    place.set("EGRESS__PROXY", "http://user:s3cret-word@proxy.example:3128")
    place.set("DATABASE__URL", "postgresql://u:s3cret-word@127.0.0.1:1/x")
    place.upstream(base_url="http://127.0.0.1:1/v1?token=s3cret-word")
    assert run(monkeypatch, "doctor", "--offline") == 1
    shown = capsys.readouterr().out
    assert "s3cret" not in shown
    assert "egress.proxy = http://proxy.example:3128  (environment)" in shown
    assert "upstreams.a.zone = own" in shown and "server.idle_max_s" not in shown
    assert "None" not in shown and "UpstreamSettings(" not in shown
    run(monkeypatch, "doctor", "--offline", "--all")
    assert "server.idle_max_s = 75.0  (default)" in capsys.readouterr().out


# --- the running platform -----------------------------------------------------------------


class Refuses(JsonHandler):
    """A cloud that knows none of our keys."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        self._send(401, {"error": {"message": "invalid api key", "code": "invalid_api_key"}})


@pytest.fixture(scope="module")
def running(
    tmp_path_factory: pytest.TempPathFactory, upstream: UpstreamSimulator
) -> Iterator[Stack]:
    os.environ["A_KEY_OF_A_CLOUD"] = "key-of-a-cloud-0815"
    with serving(Refuses) as refusing:
        entries = [
            {"id": name, "base_url": url, "models": [name], "prices": {name: PRICES}, "zone": "own"}
            | more
            for name, url, more in (
                ("sim", upstream.base_url, {}),
                ("gone", "http://127.0.0.1:9/v1", {}),
                ("refusing", f"{refusing}/v1", {"credential": "env:A_KEY_OF_A_CLOUD"}),
            )
        ]  # fmt: skip
        before = os.umask(0o077)  # as all processes of the platform have it
        stack = Stack(tmp_path_factory.mktemp("doctor"), "http://unused", upstreams=entries)
        os.umask(before)
        stack.start()
        yield stack
        stack.close()
    del os.environ["A_KEY_OF_A_CLOUD"]


def ask(stack: Stack, model: str) -> int:
    body = {"model": model, "messages": [{"role": "user", "content": "hi"}], "max_tokens": 3}
    return web.post(f"{stack.url}/v1/chat/completions", json=body,
                    headers=stack.headers, timeout=30).status_code  # fmt: skip


def look(stack: Stack) -> list[CheckResult]:
    return bad(list(examine(stack.settings, offline=False)))


def found_in_time(stack: Stack, check: str, said: str) -> CheckResult:
    """The finding that a fault just planted leads to, once everybody has told of it."""
    seen = until_seen(
        stack, lambda found: any(one.check == check and said in one.said for one in found)
    )
    return next(one for one in seen if one.check == check and said in one.said)


def until_seen(stack: Stack, wanted: Callable[[list[CheckResult]], bool]) -> list[CheckResult]:
    """What is found once it is as wanted."""
    seen: list[CheckResult] = []

    def look_again() -> bool:
        seen[:] = look(stack)
        return wanted(seen)

    try:
        until(look_again)
    except AssertionError:
        raise AssertionError(seen) from None
    return seen


def test_a_healthy_platform_has_nothing(running: Stack) -> None:
    assert ask(running, "sim") == 200
    until_seen(running, lambda found: not found)


def test_upstreams_that_fail_are_found_with_breaker_and_cause(running: Stack) -> None:
    for _ in range(4):
        assert ask(running, "gone") in (502, 503)
        assert ask(running, "refusing") in (502, 503)
    gone = found_in_time(running, "upstreams", "upstream gone is down: the last")
    assert gone.verdict is Verdict.FAIL and "upstream_unreachable" in gone.said
    assert "see that it runs" in gone.mend
    until_seen(running, lambda found: any("breaker " in one.said for one in found))
    refused = found_in_time(running, "upstreams", "upstream refusing has no usable key")
    assert "key 1 dead" in refused.said
    assert not [one for one in look(running) if "upstream sim" in one.said]

    def told() -> set[str]:
        found = running.admin("GET", "/api/v1/alerts").json()["data"]
        return {one["detail"]["upstream"] for one in found if one["kind"] == "upstream_down"}

    until(lambda: "gone" in told())
    assert "sim" not in told()
    head = running.admin("HEAD", "/api/v1/alerts")
    assert head.status_code == 200 and head.content == b"" and int(head.headers["content-length"])
    assert running.admin("HEAD", "/api/v1/alert-silences/x/end").status_code == 405


def test_a_record_that_could_not_be_entered_is_found(running: Stack) -> None:
    engine = db.connect(running.settings.database_url)
    rejected_records.keep(engine, [(b"no record", "damaged")])
    found_in_time(running, "records", "1 call records")
    with engine.begin() as connection:
        connection.exec_driver_sql("DELETE FROM rejected_records")
    engine.dispose()


def test_a_variable_that_gateways_have_not_got_is_found() -> None:
    found = Findings("upstreams")
    seen = UpstreamSeen("one", "cn", 1, unset_variables={"VENDOR_KEY": ["gw-1", "gw-2"]})
    platform_checks._check_upstream("one", seen, [], 0.0, found)
    (one,) = found
    assert one.verdict is Verdict.FAIL and "stored:NAME" in one.mend
    assert one.said == "upstream one: `env:VENDOR_KEY` is not set at gw-1, gw-2"


FAR = GatewayStatus(
    name="far-8000-0-aaaa", worker=0, pid=1, version=__version__, at_s=0.0, revision=10**15,
    snapshot_age_s=1.0, journal_backlog_bytes=0, journal_bytes_max=10**9, journal_lag_s=0.0,
)  # fmt: skip
REFUSED = RefusedRevision(10**15 + 1, "", "no room")
KEY = RefusedKey("key_far", "acme", "api_key_expired", 7, time.time())
ELSEWHERE: dict[str, tuple[dict[str, Any], str, Verdict, str]] = {
    "clock": ({"at_s": 45.0}, "gateways", Verdict.FAIL, "the clock of far-8000-0 is 45"),
    "version": ({"version": "0.0"}, "gateways", Verdict.WARN, "far-8000-0 is of version 0.0"),
    "refused": ({"refused": REFUSED}, "gateways", Verdict.FAIL, "cannot use 1000000000000001: no room"),
    "no configuration": ({"revision": 0}, "gateways", Verdict.FAIL, "has no configuration yet"),
    "deaf": ({"snapshot_age_s": 300.0}, "gateways", Verdict.WARN, "heard nothing of control for"),
    "lag": ({"journal_lag_s": 90.0, "journal_backlog_bytes": 5 * 10**6}, "gateways", Verdict.WARN,
            "far-8000-0 holds 5.0 MB of records that control has not got for 90 s"),
    "full": ({"journal_backlog_bytes": 95 * 10**7}, "gateways", Verdict.FAIL, "95% of what it may"),
    "redis": ({"lost": {"redis": "refused"}}, "gateways", Verdict.WARN, "cannot reach Redis"),
    "key": ({"refused_keys": (KEY,)}, "keys", Verdict.WARN, "key_far of tenant acme is in use"),
}  # fmt: skip


def report_from_elsewhere(stack: Stack, ago_s: float = 1.0, **fields: Any) -> None:
    """What a gateway of another machine told control; its clock is ahead by `at_s`."""
    heard_s = time.time() - ago_s
    fields["at_s"] = heard_s + fields.get("at_s", 0.0)
    status = msgspec.structs.replace(FAR, **fields)
    row = msgspec.json.encode(gateways.Seen(status, heard_s)).decode()
    engine = db.connect(stack.settings.database_url)
    with engine.begin() as connection:
        revisions.put_meta(connection, f"gw/{status.name}", row)
    engine.dispose()


def test_faults_of_gateways_on_other_machines_are_found(running: Stack) -> None:
    for fields, check, verdict, said in ELSEWHERE.values():
        report_from_elsewhere(running, **fields)
        found = [one for one in look(running) if "far" in one.said]
        assert [(one.check, one.verdict) for one in found] == [(check, verdict)], (said, found)
        assert said in found[0].said and found[0].mend
    report_from_elsewhere(running, ago_s=120.0)
    (found,) = [one for one in look(running) if "far" in one.said]
    assert found.verdict is Verdict.WARN and "told control nothing for 12" in found.said
    # A process in its place: the one before is no fault.
    report_from_elsewhere(running, name="far-8000-0-bbbb")
    assert not [one for one in look(running) if "far" in one.said]
    engine = db.connect(running.settings.database_url)
    with engine.begin() as connection:
        connection.exec_driver_sql("DELETE FROM meta WHERE name LIKE 'gw/far%'")
    engine.dispose()


def test_no_planted_secret_is_in_the_bundle(
    running: Stack, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    folder = running.settings.data_dir / "secrets"
    planted = {
        "A_KEY_OF_A_CLOUD": "key-of-a-cloud-0815",
        "TOKENSCHAIN_ADMIN_TOKEN": running.admin_token,
        "TOKENSCHAIN_REDIS__URL": "redis://:redis-pass-word@127.0.0.1:1/0",
        "TOKENSCHAIN_EGRESS__PROXY": "http://u:pr0xy@127.0.0.1:1",
        "TOKENSCHAIN_SMTP__PASSWORD": "env:MAIL_WORD",
        "MAIL_WORD": "mail-pass-word",
    }
    for name, value in planted.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("TOKENSCHAIN_CONFIG", str(running.folder / "tokenschain.yaml"))
    secret = [planted["A_KEY_OF_A_CLOUD"], running.admin_token, "redis-pass-word", "pr0xy",
              "mail-pass-word"]  # fmt: skip
    secret += [line for name in ("internal", "operator", "metrics")
               for line in (folder / name).read_text().split()]  # fmt: skip
    log = tmp_path / "log"
    log.write_text("".join(f"a line with {word}\n" for word in secret) + "the last line\n")
    archive = tmp_path / "bundle.tar.gz"
    run(monkeypatch, "doctor", "--bundle", str(archive), "--log", str(log))
    assert archive.stat().st_mode & 0o077 == 0
    with tarfile.open(archive) as opened:
        held = {
            member.name.rpartition("/")[2]: opened.extractfile(member).read().decode()  # type: ignore[union-attr]
            for member in opened.getmembers()
        }
    assert "the last line" in held["log.txt"]
    assert "tokenschain_calls_total" in held["metrics-gateway.txt"]
    assert "tokenschain_control_records" in held["metrics-control.txt"]
    assert json.loads(held["doctor.json"])["findings"]
    assert json.loads(held["gateways.json"])[0]["upstreams"]
    for word in secret:
        assert not [name for name, text in held.items() if word in text], word


def test_processes_that_are_gone_are_found(running: Stack) -> None:
    """The last, since it ends them."""
    running.kill("control")
    lost = found_in_time(running, "gateways", "gateway-0 cannot reach control")
    assert lost.verdict is Verdict.WARN and "calls go on" in lost.mend
    assert any(one.check == "control" and one.verdict is Verdict.FAIL for one in look(running))
    running.spawn("control")
    running.wait_ready("control")
    running.kill("gateway")
    found_in_time(running, "gateways", "runs no more")
    running.spawn("gateway")
    running.wait_ready("gateway")
    until_seen(running, lambda found: not {one.check for one in found} & {"control", "gateways"})
