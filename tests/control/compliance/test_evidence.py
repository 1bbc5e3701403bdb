"""Evidence on a running platform: a planted violation of each kind turns its controls red."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple, get_args

import msgspec
import pytest
from sqlalchemy import Connection, Table, delete, insert, update

from tests.control.api.test_audit_log import Sealed
from tests.security.platform import platform
from tokenschain import __version__
from tokenschain.control import gateways, revisions
from tokenschain.control.audit import admin_log, cosigning, log
from tokenschain.control.compliance import controls, evidence
from tokenschain.control.compliance.evidence import screening
from tokenschain.control.compliance.evidence.finding import PlatformFacts, QueryResult
from tokenschain.control.duties import incidents
from tokenschain.control.identity import api_keys, separation
from tokenschain.core.audit import witnessing
from tokenschain.core.cache.key import Identity
from tokenschain.core.compliance.processors import Processor
from tokenschain.core.gateway_status import GatewayStatus, PackStatus, RefusedRevision
from tokenschain.core.limits import Rate, Selector
from tokenschain.core.moderation.personal_data import DataKind
from tokenschain.core.snapshot import ModelRoute, Routing, Snapshot, Upstream
from tokenschain.core.snapshot.label_rules import LabelRule
from tokenschain.core.snapshot.moderation_policy import ModerationPolicy, OffenderLimits
from tokenschain.infra.config import Settings
from tokenschain.infra.config.access import AccessSettings
from tokenschain.infra.config.value_types import GuardedOperation
from tokenschain.infra.database import tables
from tokenschain.infra.database.audit_tables import audit_segments
from tokenschain.infra.database.compliance_tables import signing_keys
from tokenschain.infra.database.duty_tables import incidents as incident_rows
from tokenschain.infra.database.duty_tables import subject_requests
from tokenschain.infra.database.moderation_tables import moderation_cases
from tokenschain.infra.security import self_test
from tokenschain.infra.security.note_keys import NoteSecret
from tokenschain.infra.security.suite import GM, INTERNATIONAL

WITNESS = NoteSecret(INTERNATIONAL, "a secret of a witness, for this test alone")
POLICY = ModerationPolicy(
    state="active",
    personal_data={kind: "mask" for kind in (DataKind.RESIDENT_ID, DataKind.BANK_CARD,
                                             DataKind.MOBILE)},
    engines=("green",), media="block", offenders=OffenderLimits(),
    require_filed=True,
)  # fmt: skip
ENGINES = ("green",)
ALL_BY_TWO = get_args(GuardedOperation)
BOOT = {"version": __version__, "files": 600, "changed": [], "record": "r", "settings_file": ""}
LABEL = LabelRule(explicit="end", implicit="on", producer="001191110000000000000000000")
KEY_ID = "key_bounded"


class House:
    """A platform on which nothing is missing that a program can see."""

    def __init__(self, made: Sealed) -> None:
        self.house = made.house
        self.sealed = made
        context = made.house.app.state.context
        settings: Settings = context.settings
        key = WITNESS.witness_key("witness.test")
        self.settings = msgspec.structs.replace(
            settings,
            control=msgspec.structs.replace(
                settings.control,
                second_factor_required=True,
                second_person_for=ALL_BY_TWO,
                signature_for=ALL_BY_TWO,
                public_url="https://console.test",
                gateway_url="https://models.test/v1",
            ),
            audit=msgspec.structs.replace(settings.audit, witnesses=(f"http://127.0.0.1 {key}",)),
            moderation=msgspec.structs.replace(settings.moderation, pack_keys=("A" * 43 + "=",)),
            database=msgspec.structs.replace(settings.database, ledger_days=1_100),
            access=AccessSettings(
                session_idle_max_s=1_800,
                sessions_max=3,
                passwords_remembered=5,
                password_days_max=90,
            ),
            crypto=msgspec.structs.replace(settings.crypto, suite="gm"),
        )
        self.snapshot = Snapshot(
            "", {"own": Upstream("own", "generic", "https://models.test/v1", zone="cn",
                                 credentials=("env:MODELS_KEY",))},
            {"m": ModelRoute("m", "chat", ())},
            routing=Routing(residency={"*": ("cn", "own")}),
            rates=(Rate("all", "requests", 100, match=Selector()),),
            moderation={"all": POLICY}, filings={"m": "Beijing-1"}, labels={"*": LABEL},
        )  # fmt: skip
        self.now_s = time.time()
        self.processors = {"models": registered()}
        with made.house.engine.begin() as db:
            separation.switch(db, on=True)
            for duty in ("system", "security", "audit"):
                _add_user(db, f"usr_{duty}", f"{duty}-admin", created_at_s=int(self.now_s))
            admin_log.note(db, admin_log.SYSTEM, admin_log.BOOT, "", "control", BOOT)
            db.execute(delete(tables.api_keys))
            db.execute(insert(tables.api_keys).values(**_key(KEY_ID, self.now_s + 86_400)))
            db.execute(insert(tables.alert_targets).values(
                id="alt_1", tenant="", kind="email", name="n", sealed=b"", created_at_s=1,
                confirmed_at_s=1,
            ))  # fmt: skip
            _reviewed(db, id="mc_0", event_id="req_0", state="decided", decided_at_s=1)
            _asked_for(db, "sr_0", "done")
            _incident(db, int(self.now_s))
            db.execute(insert(signing_keys).values(
                id="sgk_1", user_id="usr_system", name="n", public_key="p", created_at_s=1,
                used_at_ms=0,
            ))  # fmt: skip
        gateways.note(made.house.engine, _status(self.now_s))
        self.cosign()

    def cosign(self) -> None:
        """As a witness does."""
        with self.house.engine.begin() as db:
            note = log.latest_checkpoint(db)
            assert note is not None
            line = witnessing.cosignature(note, WITNESS.cosigner("witness.test"), int(self.now_s))
            cosigning.keep(db, note, log.checkpoint_of(note).size, line.strip())

    @contextmanager
    def facts(self, plant: Callable[[Plot], None] | None = None) -> Iterator[PlatformFacts]:
        """What queries read, with something planted that is gone afterwards."""
        with self.house.engine.connect() as db, db.begin() as transaction:
            plot = Plot(self, SimpleNamespace(db=db, settings=self.settings,
                                              snapshot=self.snapshot, now_s=self.now_s,
                                              processors=self.processors))  # fmt: skip
            if plant is not None:
                plant(plot)
            facts = plot.facts
            yield PlatformFacts(
                facts.db, facts.settings, facts.snapshot, facts.now_s, facts.processors
            )
            transaction.rollback()


def registered(**values: Any) -> Processor:
    """An entry of the register for all that is somebody else's, but for this."""
    fields = {"vendor": "V", "purpose": "answers", "upstreams": ("own",), "engines": ENGINES,
              "contract": "C-1", "reviewed_on": time.strftime("%Y-%m-%d")}  # fmt: skip
    return Processor(**fields | values)


class Plot(NamedTuple):
    """Where violations are planted."""

    house: House
    facts: Any

    def set(self, group: str, **values: Any) -> None:
        """Settings of a group that are other ones."""
        settings = self.facts.settings
        changed = msgspec.structs.replace(getattr(settings, group), **values)
        self.facts.settings = msgspec.structs.replace(settings, **{group: changed})

    def snapshot(self, **values: Any) -> None:
        """What is published, but for this."""
        self.facts.snapshot = msgspec.structs.replace(self.facts.snapshot, **values)

    def policy(self, **values: Any) -> None:
        """The policy, but for this."""
        changed = {"all": msgspec.structs.replace(POLICY, **values)}
        self.facts.snapshot = msgspec.structs.replace(self.facts.snapshot, moderation=changed)

    def upstream(self, **values: Any) -> None:
        """The upstream, but for this."""
        changed = msgspec.structs.replace(self.facts.snapshot.upstreams["own"], **values)
        self.facts.snapshot = msgspec.structs.replace(
            self.facts.snapshot, upstreams={"own": changed}
        )

    def register(self, **values: Any) -> None:
        """The register of processors, but for this."""
        self.facts.processors = {"models": registered(**values)}

    def gateway(self, **values: Any) -> None:
        """What the gateway says, but for this."""
        seen = gateways.Seen(msgspec.structs.replace(_status(self.facts.now_s), **values),
                             self.facts.now_s)  # fmt: skip
        revisions.put_meta(self.facts.db, "gw/gw-1", msgspec.json.encode(seen).decode())

    def user(self, user_id: str, role: str | None = None, **values: Any) -> None:
        """Somebody with an account."""
        _add_user(self.facts.db, user_id, role, **{"created_at_s": int(self.facts.now_s)} | values)

    def empty(self, *emptied: Table) -> None:
        """Tables without a row."""
        for table in emptied:
            self.facts.db.execute(delete(table))


def _add_user(db: Connection, user_id: str, role: str | None, **values: Any) -> None:
    row = {"id": user_id, "tenant": "*", "kind": "user", "email": f"{user_id}@x.example",
           "name": "U", "password_hash": "hash", "totp_sealed": GM.sealed_version + b"sealed"} | values  # fmt: skip
    db.execute(insert(tables.users).values(**row))
    if role is not None:
        db.execute(insert(tables.bindings).values(
            id=f"bnd_{user_id}", user_id=user_id, role=role, tenant="*", account="", project="",
            environment="",
        ))  # fmt: skip


def _key(key_id: str, expires_at_s: float | None) -> dict[str, Any]:
    return {
        "id": key_id, "key_hash": key_id, "prefix": "sk-", "name": "k", "tenant": "alpha",
        "project": "p0", "environment": "default", "disconnect": "cancel", "created_at_s": 1,
        "expires_at_s": None if expires_at_s is None else int(expires_at_s),
    }  # fmt: skip


def _status(now_s: float) -> GatewayStatus:
    return GatewayStatus(
        "gw-1", 0, 1, __version__, now_s, 1, 0.1, 0, 1, 0.0,
        packs=(PackStatus("own", "1", now_s, 12_000, 0),),
    )  # fmt: skip


def _witness_silent(plot: Plot) -> None:
    plot.facts.now_s += 3_600


def _much_later(plot: Plot) -> None:
    plot.facts.now_s += 7_200


def _rewrite(plot: Plot) -> None:
    emptied = update(audit_segments).where(audit_segments.c.records.is_not(None))
    plot.facts.db.execute(emptied.values(records=None))


def _no_gateway(plot: Plot) -> None:
    plot.facts.db.execute(delete(tables.meta).where(tables.meta.c.name == "gw/gw-1"))


def _reviewed(db: Connection, **values: Any) -> None:
    row: dict[str, Any] = dict.fromkeys((c.name for c in moderation_cases.c), "")
    row |= {"id": "mc_1", "state": "open", "second_review": False, "started_ms": 1,
            "created_at_s": 1, "due_at_s": 2, "sealed": b"", "claimed_until_s": None,
            "decided_at_s": None, "event_id": "req_1"} | values  # fmt: skip
    db.execute(insert(moderation_cases).values(**row))


def _overdue(plot: Plot) -> None:
    _reviewed(plot.facts.db)


def _reject(plot: Plot) -> None:
    plot.facts.db.execute(insert(tables.rejected_records).values(
        payload_hash="h", received_at_s=1, reason="r", payload=b""))  # fmt: skip


def _forgotten(plot: Plot) -> None:
    plot.facts.db.execute(delete(tables.ledger))


def _unreported(plot: Plot) -> None:
    _incident(plot.facts.db, int(plot.facts.now_s), int(plot.facts.now_s) - 5 * 3_600)


def _incident(db: Connection, now_s: int, began_s: int = 0) -> None:
    began_s = began_s or now_s
    values = {"tenant": "", "kind": "personal-data", "severity": "larger", "operator": "operator",
              "title": "leak", "model": "", "description": "", "began_at_s": began_s,
              "detected_at_s": began_s}  # fmt: skip
    incidents.add(db, values, "usr_1", now_s)


def _asked_for(db: Connection, request_id: str, state: str) -> None:
    db.execute(insert(subject_requests).values(
        id=request_id, tenant="alpha", kind="access", end_user="h", content_subjects="[]",
        note="", state=state, received_at_s=1, due_at_s=2, created_by="usr_1", reason="",
        outcome="",
    ))  # fmt: skip


def _unanswered(plot: Plot) -> None:
    _asked_for(plot.facts.db, "sr_1", "open")


def _long_session(plot: Plot) -> None:
    plot.facts.db.execute(insert(tables.tokens).values(
        id="tok_x", token_hash="h", user_id="u", kind="session", name="s", created_at_s=1,
        expires_at_s=int(plot.facts.now_s) + 86_400 * 3_650))  # fmt: skip


def _open_file(plot: Plot) -> None:
    path = plot.house.house.app.state.context.settings.data_dir / "open-secret"
    path.write_text("x" * 40)
    path.chmod(0o644)
    plot.set("secrets", master_key_file=path)


def _key_without_end(plot: Plot) -> None:
    plot.facts.db.execute(insert(tables.api_keys).values(**_key("key_endless", None)))


def _unlimited(plot: Plot) -> None:
    plot.facts.snapshot = msgspec.structs.replace(plot.facts.snapshot, rates=())


def _lost_call(plot: Plot) -> None:
    plot.facts.now_s += 7_200  # the log began within the hour that was full last
    at_ms = int(plot.facts.now_s // 3_600 * 3_600_000) - 1_000
    columns = {c.name: c for c in tables.ledger.c}
    row: dict[str, Any] = {
        name: "" for name, c in columns.items()
        if not c.nullable and c.server_default is None and c.type.python_type is str
    } | {
        name: 0 for name, c in columns.items()
        if not c.nullable and c.server_default is None and c.type.python_type in (int, float)
    } | {"event_id": "req_lost", "started_ms": at_ms, "streamed": False}  # fmt: skip
    plot.facts.db.execute(insert(tables.ledger).values(**row))


def _residency(plot: Plot) -> None:
    plot.facts.snapshot = msgspec.structs.replace(plot.facts.snapshot, routing=Routing())


def _many_owners(plot: Plot) -> None:
    for number in range(4):
        plot.user(f"usr_{number}", "owner")


def _nobody_alerted(plot: Plot) -> None:
    plot.facts.db.execute(delete(tables.alert_targets))


def _no_boot(plot: Plot) -> None:
    plot.facts.db.execute(
        delete(tables.audit_events).where(tables.audit_events.c.action == admin_log.BOOT)
    )


def _boot(plot: Plot, **values: Any) -> None:
    _no_boot(plot)
    admin_log.note(plot.facts.db, admin_log.SYSTEM, admin_log.BOOT, "", "control", BOOT | values)


PLANTS: dict[str, tuple[str, Callable[[Plot], None]]] = {
    "administrators_without_factor": (
        "second_factors", lambda p: p.user("usr_admin", "admin", totp_sealed=None)),
    "people_without_factor": ("second_factors", lambda p: p.user("usr_1", totp_sealed=None)),
    "passwords_without_end": (
        "password_rules", lambda p: p.set("access", password_days_max=0)),
    "passwords_used_again": (
        "password_rules", lambda p: p.set("access", passwords_remembered=0)),
    "session_idle_without_end": (
        "sessions", lambda p: p.set("access", session_idle_max_s=0)),
    "sessions_unbounded": ("sessions", lambda p: p.set("access", sessions_max=0)),
    "session_without_end": ("sessions", _long_session),
    "admin_token_in_use": (
        "standing_accounts",
        lambda p: (revisions.put_meta(p.facts.db, api_keys.ADMIN_HASH, "h"),
                   p.user("usr_1", "owner"))[1]),
    "admin_token_alone": (
        "standing_accounts",
        lambda p: (revisions.put_meta(p.facts.db, api_keys.ADMIN_HASH, "h"),
                   p.empty(tables.bindings))[1]),
    "accounts_unused": ("standing_accounts", lambda p: p.user("usr_old", created_at_s=1)),
    "owners_many": ("owners_few", _many_owners),
    "powers_together": ("powers_apart", lambda p: separation.switch(p.facts.db, on=False)),
    "powers_held_together": ("powers_apart", lambda p: p.user("usr_both", "admin")),
    "second_person_not_asked": (
        "second_person", lambda p: p.set("control", second_person_for=("roles",))),
    "signature_not_asked": (
        "acts_signed", lambda p: p.set("control", signature_for=("roles",))),
    "keys_without_end": ("keys_bounded", _key_without_end),
    "keys_without_limits": ("keys_bounded", _unlimited),
    "audit_off": ("audit_is_sealed", lambda p: p.set("audit", sealing=False)),
    "audit_behind": ("audit_is_sealed", _witness_silent),
    "audit_segment_wrong": ("audit_verifies", _rewrite),
    "audit_signature_wrong": (
        "audit_verifies", lambda p: p.set("audit", key_file=Path("/nonexistent"))),
    "no_witness": ("witness_cosigns", lambda p: p.set("audit", witnesses=())),
    "witness_silent": ("witness_cosigns", _witness_silent),
    "audit_and_ledger_differ": ("audit_reconciles", _lost_call),
    "records_kept_short": ("records_kept", lambda p: p.set("database", ledger_days=30)),
    "handing_over_short": ("handing_over_kept", lambda p: p.set("database", ledger_days=400)),
    "call_untraced": ("labels_traced", _forgotten),
    "incident_reports_overdue": ("incidents_reported", _unreported),
    "requests_overdue": ("requests_answered", _unanswered),
    "records_set_aside": ("records_entered", _reject),
    "gateway_other_version": ("versions", lambda p: p.gateway(version="0.0.1")),
    "gateway_refuses_configuration": (
        "versions", lambda p: p.gateway(refused=RefusedRevision(2, "v", "why"))),
    "boot_not_noted": ("started_as_installed", _no_boot),
    "files_unlisted": ("started_as_installed", lambda p: _boot(p, files=0)),
    "files_changed": ("started_as_installed", lambda p: _boot(p, changed=["tokenschain/a.py"])),
    "settings_file_changed": ("started_as_installed", lambda p: _boot(p, settings_file="d")),
    "no_gateway": ("versions", _no_gateway),
    "console_without_tls": (
        "transport_encrypted", lambda p: p.set("control", public_url="http://console.test")),
    "gateway_without_tls": (
        "transport_encrypted",
        lambda p: (p.set("control", gateway_url=None), p.set("server", host="0.0.0.0"))[0]),
    "upstream_without_tls": (
        "transport_encrypted", lambda p: p.upstream(base_url="http://models.test/v1")),
    "redis_without_tls": (
        "transport_encrypted", lambda p: p.set("redis", url="redis://:pw@cache.test:6379/0")),
    "database_without_tls": (
        "transport_encrypted",
        lambda p: p.set("database", url="postgresql://tc@db.test/tc?sslmode=prefer")),
    "mail_without_tls": (
        "transport_encrypted", lambda p: p.set("smtp", host="mail.test", tls=False)),
    "secret_file_open": ("secrets_sealed", _open_file),
    "secret_in_clear": ("secrets_sealed", lambda p: p.upstream(credentials=("sk-in-clear",))),
    "suite_international": (
        "national_algorithms", lambda p: p.set("crypto", suite="international")),
    "nobody_alerted": ("alerts_reach", _nobody_alerted),
    "no_policy_for_all": ("moderation_in_force", lambda p: p.policy(state="shadow")),
    "input_unscreened": ("moderation_in_force", lambda p: p.policy(directions=("output",))),
    "output_unscreened": ("moderation_in_force", lambda p: p.policy(directions=("input",))),
    "public_fails_open": ("moderation_fails_closed", lambda p: p.policy(engine_failure="local")),
    "no_engine": ("engines_asked", lambda p: p.policy(engines=())),
    "offenders_go_on": ("offenders_suspended", lambda p: p.policy(offenders=None)),
    "media_passes": ("media_screened", lambda p: p.policy(media="pass")),
    "no_packs": ("keyword_packs", lambda p: p.gateway(packs=())),
    "words_missing": ("keyword_packs", lambda p: p.gateway(words_missing=9_000)),
    "packs_stale": (
        "keyword_packs", lambda p: p.gateway(packs=(PackStatus("own", "1", 1.0, 12_000, 0),))),
    "packs_expired": (
        "keyword_packs",
        lambda p: p.gateway(packs=(PackStatus("own", "1", p.facts.now_s, 12_000, 7),))),
    "packs_unsigned": ("packs_signed", lambda p: p.set("moderation", pack_keys=())),
    "reviews_overdue": ("review_in_time", _overdue),
    "personal_data_passes": (
        "personal_data_kept_in", lambda p: p.policy(personal_data={DataKind.MOBILE: "mask"})),
    "responses_kept_long": (
        "texts_kept", lambda p: p.set("database", response_ttl_s=86_400 * 365)),
    "filing_not_required": ("models_filed", lambda p: p.policy(require_filed=False)),
    "models_without_filing": ("models_filed", lambda p: p.snapshot(filings={})),
    "answers_unlabelled": ("answers_labelled", lambda p: p.snapshot(labels={})),
    "rules_without_notice": (
        "answers_labelled", lambda p: p.snapshot(labels={"*": LABEL, "tenant/beta": LabelRule()})),
    "metadata_off": ("metadata_labelled", lambda p: p.snapshot(labels={})),
    "rules_without_metadata": (
        "metadata_labelled",
        lambda p: p.snapshot(labels={"*": LABEL, "tenant/beta": LabelRule(explicit="end")})),
    "producer_unknown": (
        "metadata_labelled",
        lambda p: p.snapshot(labels={"*": LabelRule(explicit="end", implicit="on")})),
    "residency_open": ("data_stays", _residency),
    "processors_missing": ("processors_registered", lambda p: p.register(upstreams=())),
    "processors_without_contract": ("processors_registered", lambda p: p.register(contract="")),
    "processors_unreviewed": (
        "processors_registered", lambda p: p.register(reviewed_on="2020-01-01")),
    "clock_apart": ("clock_agrees", lambda p: p.gateway(at_s=p.facts.now_s - 900)),
}  # fmt: skip
"""By the gap that is to be found: the query, and what plants it."""
EMPTIED: dict[str, tuple[str, Callable[[Plot], None]]] = {
    "nobody_has_password": ("second_factors", lambda p: p.empty(tables.users)),
    "no_person": ("owners_few", lambda p: p.empty(tables.bindings)),
    "duties_of_nobody": ("powers_apart", lambda p: p.empty(tables.bindings)),
    "nobody_second": ("second_person", lambda p: p.empty(tables.bindings)),
    "nobody_signs": ("acts_signed", lambda p: p.empty(signing_keys)),
    "no_key": ("keys_bounded", lambda p: p.empty(tables.api_keys)),
    "no_call": ("calls_sealed", lambda p: p.empty(audit_segments)),
    "no_calls_compared": ("audit_reconciles", _much_later),
    "no_incident": ("incidents_reported", lambda p: p.empty(incident_rows)),
    "no_request": ("requests_answered", lambda p: p.empty(subject_requests)),
    "no_case": ("review_in_time", lambda p: p.empty(moderation_cases)),
    "no_model": ("models_filed", lambda p: p.snapshot(models={})),
    "only_near_ways": (
        "transport_encrypted", lambda p: p.set("control", public_url=None, gateway_url=None)),
    "no_processor": (
        "processors_registered",
        lambda p: p.snapshot(upstreams={}, moderation={})),
    "no_clock_compared": ("clock_agrees", _no_gateway),
}  # fmt: skip
"""By what there is nothing of: the query, and what takes it away."""
DECIDED_BEFORE_USE = {
    "password_rules", "lockout", "sessions",  # rules that bind whoever comes
    "audit_is_sealed", "audit_verifies",  # its own start is in the log already
    "records_kept", "handing_over_kept", "texts_kept",  # settings
    "algorithms_tested", "meanings_apart",  # what the program computes now
    "secrets_sealed", "started_as_installed",  # files
}  # fmt: skip
"""Queries that a new platform may answer with "met"."""


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    with platform(tmp_path_factory.mktemp("evidence")) as made:
        for tenant in ("alpha", "beta"):
            unit = {"kind": "tenant", "tenant": tenant, "name": tenant}
            assert made.operator("POST", "/organization/units", unit).status_code == 201
        yield House(Sealed(made, first_ms=7_200_000))


def found(house: House, query: str, plant: Callable[[Plot], None] | None = None) -> QueryResult:
    with house.facts(plant) as facts:
        return evidence.run(query, facts)


def codes(finding: QueryResult) -> set[str]:
    return {gap.code for gap in finding.gaps}


def absent(finding: QueryResult) -> set[str]:
    return {gap.code for gap in finding.absent}


@pytest.mark.parametrize("code", PLANTS)
def test_a_planted_violation_turns_its_controls_red(house: House, code: str) -> None:
    query, plant = PLANTS[code]
    assert code not in codes(found(house, query)), "it is red without"
    red = found(house, query, plant)
    assert code in codes(red)
    words = controls.shipped().gaps[code]
    gap = next(one for one in red.gaps if one.code == code)
    assert words.en.format(**gap.values) != words.zh.format(**gap.values)


def test_nothing_is_red_where_nothing_is_planted_but_what_a_test_cannot_have(house: House) -> None:
    with house.facts() as facts:
        found_now = {name: evidence.run(name, facts) for name in evidence.QUERIES}
    red = {name: codes(one) for name, one in found_now.items() if one.gaps}
    # Its API keys and tokens are stored by the other suite's digests.
    assert red == {"national_algorithms": {"rows_of_other_suite"}}
    unproven = {name: absent(one) for name, one in found_now.items() if one.absent}
    unproven.pop("audit_reconciles", None)  # its calls are of this hour
    assert unproven == {}


@pytest.mark.parametrize("code", EMPTIED)
def test_nothing_is_met_where_nothing_is_there(house: House, code: str) -> None:
    query, empty = EMPTIED[code]
    assert code in absent(found(house, query, empty))


def test_calls_of_the_hour_that_is_compared_are_evidence(house: House) -> None:
    def later(plot: Plot) -> None:
        plot.facts.now_s += 3_600

    finding = found(house, "audit_reconciles", later)
    assert finding.values["log_calls"] and not finding.absent


def test_a_new_platform_has_met_only_what_is_decided_before_anybody_uses_it(
    tmp_path: Path,
) -> None:
    """Each standard, as `tokenschain up` starts: nothing is met because nothing is there."""
    with platform(tmp_path) as made:
        context = made.app.state.context
        with made.engine.connect() as db:
            facts = PlatformFacts(db, context.settings, context.publisher.snapshot, time.time())
            results = {name: evidence.run(name, facts) for name in evidence.QUERIES}
    met = {name for name, one in results.items() if not one.gaps and not one.absent}
    assert met <= DECIDED_BEFORE_USE, met - DECIDED_BEFORE_USE
    assert absent(results["transport_encrypted"]) == {"only_near_ways"}
    assert absent(results["second_factors"]) == {"nobody_has_password"}


@pytest.mark.parametrize("values", [{"state": "shadow"}, {"scope": "tenant/alpha"}])
@pytest.mark.parametrize(
    "query",
    ["moderation_in_force", "moderation_fails_closed", "engines_asked", "offenders_suspended",
     "media_screened", "personal_data_kept_in", "models_filed"],
)  # fmt: skip
def test_no_policy_for_all_is_no_evidence_of_what_policies_do(
    house: House, query: str, values: dict[str, Any]
) -> None:
    assert "no_policy_for_all" in codes(found(house, query, lambda plot: plot.policy(**values)))


def test_a_mode_that_sends_data_abroad_keeps_nothing_in(house: House) -> None:
    def mode(name: str) -> Callable[[Plot], None]:
        def plant(plot: Plot) -> None:
            plot.snapshot(routing=Routing())
            plot.set("sovereignty", mode=name)

        return plant

    assert codes(found(house, "data_stays", mode("domestic-only"))) == set()
    assert codes(found(house, "data_stays", mode("zone:abroad"))) == {"residency_open"}


@pytest.mark.parametrize(
    "url",
    ["postgresql://tc@db.test/tc?sslmode=verify-full", "postgresql://tc@127.0.0.1/tc",
     "postgresql:///tc?host=/run/postgresql", "sqlite:////data/tc.db"],
)  # fmt: skip
def test_a_database_that_is_near_or_asks_for_encryption_is_well(house: House, url: str) -> None:
    plant: Callable[[Plot], None] = lambda plot: plot.set("database", url=url)  # noqa: E731
    assert codes(found(house, "transport_encrypted", plant)) == set()


def test_a_password_in_the_settings_file_is_named(
    house: House, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = "redis://:hunter2-hunter2@cache.test:6379/0"
    path = tmp_path / "tokenschain.yaml"
    path.write_text(f"redis:\n  url: {url}\n")
    monkeypatch.setenv("TOKENSCHAIN_CONFIG", str(path))
    finding = found(house, "secrets_sealed", lambda plot: plot.set("redis", url=url))
    assert [gap.values for gap in finding.gaps] == [{"who": "redis.url"}]
    assert "hunter2" not in str(finding)
    path.write_text("redis:\n  url: redis://cache.test:6379/0\n")
    assert not found(house, "secrets_sealed").gaps


def test_what_the_program_itself_decides_is_shown(house: House) -> None:
    assert found(house, "password_rules").values["characters_min"] == 12
    assert found(house, "lockout").values["tries_before_delay"] == 5


def test_questions_that_tenants_would_share_are_found(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert codes(found(house, "meanings_apart")) == set()
    same = Identity(b"key", b"for all", "the same question")
    monkeypatch.setattr(screening, "identify", lambda *_, **__: same)
    assert codes(found(house, "meanings_apart")) == {"meanings_shared"}


def test_an_algorithm_that_fails_is_named(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    failed = self_test.TestedAlgorithm("SM3", "known answer", passed=False)
    monkeypatch.setattr(self_test, "known_answers", lambda _: [failed])
    assert [gap.values for gap in found(house, "algorithms_tested").gaps] == [{"who": "SM3"}]


def test_rows_that_nothing_known_sealed_are_named(house: House) -> None:
    assert codes(found(house, "stored_sealed")) == set()
    with house.house.engine.begin() as db:  # the inventory opens the database itself
        db.execute(insert(tables.alert_targets).values(
            id="alt_old", tenant="alpha", kind="email", name="n", sealed=b"\x07old",
            created_at_s=1))  # fmt: skip
    try:
        assert codes(found(house, "stored_sealed")) == {"rows_unreadable"}
    finally:
        with house.house.engine.begin() as db:
            db.execute(delete(tables.alert_targets).where(tables.alert_targets.c.id == "alt_old"))
