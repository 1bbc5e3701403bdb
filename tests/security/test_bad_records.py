"""Poison records: what does not fit is clipped or kept apart, and the others are entered."""

from __future__ import annotations

import os
import random
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_type_hints

import pytest
from sqlalchemy import Engine, String, func, select

from tests.fakes import BODY, GRANT, LoggedReservation, LoggedSteps, call_of
from tests.records import record
from tests.security.platform import Platform, platform
from tests.stack import Stack
from tests.waiting import until
from tokenschain.control.billing.ledger import Ledger
from tokenschain.control.observability import alerts
from tokenschain.core import call_record
from tokenschain.core.call import Attempt, Call
from tokenschain.core.call_record import AttemptRecord, CallRecord, Overhead
from tokenschain.core.formats.openai_chat import Api, parse
from tokenschain.core.pricing.catalog import Price, PriceTier, Usage
from tokenschain.core.snapshot import Candidate, Offer, Served, Snapshot, Upstream
from tokenschain.core.tags import TAG_CHARACTERS_MAX, tags_of
from tokenschain.core.tags import parse as parse_tags
from tokenschain.gateway import metering, pipeline
from tokenschain.gateway.metering import JournalMetering
from tokenschain.infra.database.tables import (
    balances,
    ledger,
    platform_costs,
    rejected_records,
    usage_by_tag,
    usage_daily,
    usage_hourly,
)
from tokenschain.infra.journal import Journal, read_frames
from tokenschain.infra.telemetry import GatewayMetrics

FULL = os.environ.get("PROOFS") == "full"
RECORDS = 100_000 if FULL else 3_000
BATCH = 500
ONE_IN = 10
"""Of the records of the fuzz one in so many is hostile."""
DAY_MS = 86_400_000
DAYS = 3

TEXTS = (
    "\0", "evil\0chat", "x" * 20_000, "a\tb\nc\\d\x01\\N\\.\r\n", "=1+1", "\ud7ff\U0010ffff", "",
    "a,b=c", "'; drop table ledger; --", "\u202e\u200b", "x" * 65, "名" * 300, "x=" + "y" * 127,
)  # fmt: skip
COUNTS = (
    -1, -(2**63), 2**31, 2**53, 2**63 - 1, 2**63, 2**64 - 1, 10**12, 10**12 + 1,
    9_200_000_000_000, 10**16, 10**18,
)  # fmt: skip
NUMBERS = (float("nan"), float("inf"), float("-inf"), -1.0, 1e308, 5e-324)


def hostile_fields(kind: type) -> dict[str, tuple[object, ...]]:
    """Each field of a record, with the hostile values of its type."""
    found: dict[str, tuple[object, ...]] = {}
    for name, hint in get_type_hints(kind).items():
        if hint is str:
            found[name] = TEXTS
        elif hint in (int, int | None):
            found[name] = COUNTS
        elif hint in (float, float | None):
            found[name] = NUMBERS
    return found


FIELDS, ATTEMPT_FIELDS = hostile_fields(CallRecord), hostile_fields(AttemptRecord)


def attempt(**fields: object) -> AttemptRecord:
    made = AttemptRecord("up", 0.1, 1.0, 2.0, "ok", overhead=Overhead.FAILOVER, currency="CNY")
    for name, value in fields.items():
        setattr(made, name, value)
    return made


def walked() -> Iterator[CallRecord]:
    """Every field with every hostile value, one in each record."""
    number = 0
    for name, values in FIELDS.items():
        for value in values:
            number += 1
            yield record(number % 97, **{"event_id": f"walk_{number}", name: value})
    for name, values in ATTEMPT_FIELDS.items():
        for value in values:
            number += 1
            attempts = [attempt(), attempt(**{name: value})]
            yield record(number % 97, event_id=f"walk_{number}", attempts=attempts)


def drawn(chance: random.Random, number: int) -> CallRecord:
    """A record of the fuzz: at times with some hostile values."""
    made = record(number % 97, event_id=f"fuzz_{number}")
    made.started_ms = 1_790_000_000_000 + chance.randrange(DAYS * DAY_MS)
    made.tags = chance.choice(("", "vip", "team=a,vip", "team=b"))
    if chance.random() < 0.2:
        made.attempts = [attempt(prompt_tokens=3, cost_pico=7), *made.attempts]
    if not chance.randrange(ONE_IN):
        for _ in range(chance.randint(1, 3)):
            if chance.random() < 0.3:
                name = chance.choice(list(ATTEMPT_FIELDS))
                setattr(made.attempts[0], name, chance.choice(ATTEMPT_FIELDS[name]))
            else:
                name = chance.choice([name for name in FIELDS if name != "event_id"])
                setattr(made, name, chance.choice(FIELDS[name]))
    return made


def encodable(records: Iterator[CallRecord]) -> list[bytes]:
    payloads = []
    for one in records:
        try:
            payloads.append(call_record.encode(one))
        except OverflowError:
            continue
    return payloads


def ids_in(engine: Engine) -> list[str]:
    with engine.connect() as connection:
        return list(connection.execute(select(ledger.c.event_id)).scalars())


def rejected_in(engine: Engine) -> dict[bytes, str]:
    with engine.connect() as connection:
        rows = connection.execute(select(rejected_records)).all()
    return {row.payload: row.reason for row in rows}


# --- the ledger takes all that fits ----------------------------------------------------------


def test_records_with_hostile_values_stop_no_others_and_sums_stay_exact(engine: Engine) -> None:
    chance = random.Random(15)
    payloads = encodable(drawn(chance, number) for number in range(RECORDS))
    assert len(payloads) > RECORDS * 0.95
    book = Ledger(engine)
    for at in range(0, len(payloads), BATCH):
        book.ingest(payloads[at : at + BATCH])
    # Whatever comes a second time, as after an answer that was lost, counts nothing.
    for at in range(0, len(payloads), RECORDS // 3):
        book.ingest(payloads[at : at + BATCH])
    rejected = rejected_in(engine)
    assert all(rejected.values())
    good = [call_record.decode(payload) for payload in payloads if payload not in rejected]
    assert all(call_record.problem_of(call_record.decode(payload)) for payload in rejected), (
        "what fits is entered"
    )
    assert sorted(ids_in(engine)) == sorted(one.event_id for one in good), "none lost, none twice"
    _sums_are_of(engine, good)


def _sums_are_of(engine: Engine, good: list[CallRecord]) -> None:
    """Ledger, hours, days, tags, platform costs and balances are what the records add up to."""
    wanted = {
        "calls": len(good),
        "prompt_tokens": sum(one.prompt_tokens for one in good),
        "completion_tokens": sum(one.completion_tokens for one in good),
        "cost_pico": sum(one.cost_pico or 0 for one in good),
        "charge_pico": sum(one.charge_pico or 0 for one in good),
    }
    borne = [one for r in good for one in r.attempts if one.overhead]
    borne_pico = sum(one.cost_pico or 0 for one in borne)
    with engine.connect() as connection:

        def total(column: Any) -> int:
            # Row by row: SQLite's own SUM has 64 bits, too.
            return sum(int(value or 0) for value in connection.execute(select(column)).scalars())

        for table in (usage_hourly, usage_daily):
            assert {name: total(table.c[name]) for name in wanted} == wanted, table.name
            assert total(table.c.platform_cost_pico) == borne_pico
        assert {name: total(ledger.c[name]) for name in wanted if name != "calls"} == {
            name: amount for name, amount in wanted.items() if name != "calls"
        }
        assert total(platform_costs.c.cost_pico) == borne_pico
        count = connection.execute(select(func.count()).select_from(platform_costs)).scalar_one()
        assert count == len(borne)
        assert total(usage_by_tag.c.calls) == sum(len(parse_tags(one.tags)) for one in good)
        accounts: dict[str, int] = defaultdict(int)
        for row in connection.execute(select(balances)):
            accounts[row.account.partition(":")[0]] += int(row.amount_pico)
    assert accounts["revenue"] == -accounts["customer"] == wanted["charge_pico"]
    assert -accounts["cost"] == wanted["cost_pico"] and -accounts["platform_cost"] == borne_pico


def test_every_field_with_every_hostile_value_is_entered_or_kept_apart(engine: Engine) -> None:
    payloads = encodable(walked())
    assert len(payloads) > 600
    good = [call_record.encode(record(n, event_id=f"good_{n}")) for n in range(50)]
    mixed = [*good[:25], *payloads, *good[25:]]
    Ledger(engine).ingest(mixed)
    rejected = rejected_in(engine)
    assert 100 < len(rejected) < len(payloads) and not set(good) & set(rejected)
    assert sorted({call_record.decode(p).event_id for p in mixed if p not in rejected}) == sorted(
        ids_in(engine)
    )


def test_each_record_can_be_entered_when_it_is_reduced(engine: Engine) -> None:
    hostile = [*walked(), record(1, event_id="huge", prompt_tokens=2**70, cost_pico=10**30)]
    reduced = []
    for one in hostile:
        if not one.event_id or "\0" in one.event_id:
            continue  # it stays what tells it apart
        kept = call_record.reduced(one)
        assert call_record.problem_of(kept) == "" and kept.usage_source == "estimated"
        reduced.append(call_record.encode(kept))
        assert len(reduced[-1]) <= call_record.BYTES_MAX
    Ledger(engine).ingest(reduced)
    assert not rejected_in(engine)
    assert len(ids_in(engine)) == len({call_record.decode(p).event_id for p in reduced})


def test_a_record_reduced_keeps_what_it_can() -> None:
    odd = record(
        1, finish_reason="x" * 20_000, prompt_tokens=2**70, cost_pico=10**30, tags="t" * 99
    )
    odd.attempts = [attempt(prompt_tokens=5, model="m" * 99), *odd.attempts]
    with pytest.raises(OverflowError):
        call_record.encode(odd)
    kept = call_record.decode(call_record.encode(call_record.reduced(odd)))
    assert (kept.event_id, kept.tenant, kept.tags) == (odd.event_id, odd.tenant, odd.tags)
    assert kept.usage_source == "estimated" and kept.cost_pico is None
    assert kept.prompt_tokens == call_record.COUNT_MAX and len(kept.finish_reason) == 64
    assert [one.prompt_tokens for one in kept.attempts] == [5, 0]
    many = record(2, attempts=[attempt(model="名" * 256, price_version="名" * 300)] * 40)
    assert 1 <= len(call_record.reduced(many).attempts) < 40


def test_the_columns_of_the_ledger_are_as_wide_as_the_bounds() -> None:
    texts = {name for name, hint in get_type_hints(CallRecord).items() if hint is str}
    assert texts == set(call_record.CHARACTERS_MAX)
    texts = {name for name, hint in get_type_hints(AttemptRecord).items() if hint is str}
    assert texts == set(call_record.ATTEMPT_CHARACTERS_MAX)
    for name, width in call_record.CHARACTERS_MAX.items():
        if name not in ledger.c:
            assert name == "subject", "a digest of the end user is for the audit log alone"
            continue
        kind = ledger.c[name].type
        assert isinstance(kind, String) and kind.length in (width, None), name


BAD_FIELDS: tuple[dict[str, Any], ...] = (
    {"tags": "x" * 127},
    {"tags": "x" * 64},
    {"model_asked": "evil\0chat"},
    {"finish_reason": "y" * 200},
    {"prompt_tokens": 2**63},
    {"prompt_tokens": 9_200_000_000_000_000_000},
    {"cost_pico": 2**64 - 1},
)


@pytest.mark.parametrize("checked", [True, False])
@pytest.mark.parametrize("fields", BAD_FIELDS, ids=repr)
def test_one_bad_record_of_a_batch_stops_no_later_one(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, fields: dict[str, Any], checked: bool
) -> None:
    if not checked:  # a record that only the database knows to be bad
        monkeypatch.setattr(call_record, "problem_of", lambda _: "")
    bad = [call_record.encode(record(n, event_id=f"bad_{n}", **fields)) for n in range(2)]
    good = [call_record.encode(record(n, event_id=f"good_{n}")) for n in range(2)]
    assert Ledger(engine).ingest([good[0], *bad]) >= 1
    assert Ledger(engine).ingest([*bad, good[1]]) >= 1
    assert {"good_0", "good_1"} <= set(ids_in(engine))


# --- texts are clipped where they come in -----------------------------------------------------


def words(count: int) -> Iterator[str]:
    for length in range(count):
        yield "n" * length
        yield "n" * (length // 2) + "=" + "v" * (length - length // 2)


def test_tags_fit_into_their_column_as_name_and_value() -> None:
    for word in words(300):
        for name, value in parse_tags(word).items():
            assert len(f"{name}={value}") <= TAG_CHARACTERS_MAX
    assert parse_tags("x" * 63) and not parse_tags("x" * 64)
    assert tags_of(b"a=1, b\x7f=2, c=\x00, d").line == "a=1,d"


def test_words_from_outside_are_cut_and_keep_no_control_characters() -> None:
    assert call_record.fitting("gpt-4o", 64) == "gpt-4o"
    assert call_record.fitting("evil\0chat", 64) == "evil\ufffdchat"
    assert len(call_record.fitting("x" * 20_000, 64)) == 64


INCREDIBLE: tuple[dict[str, Any], ...] = (
    {"x_sim": {"usage": {"prompt_tokens": 2**70, "completion_tokens": 1}}},
    {"x_sim": {"usage": {"prompt_tokens": 10**18, "completion_tokens": 10**18}}},
    {"x_sim": {"usage": {"prompt_tokens": 9_200_000_000_000, "completion_tokens": 1}}},
    {"x_sim": {"usage": {"prompt_tokens": 5, "completion_tokens": 1e308}}},
    {"x_sim": {"usage": {"prompt_tokens": 5, "completion_tokens": 1,
                         "prompt_tokens_details": {"cached_tokens": 2**63}}}},
)  # fmt: skip
"""What an upstream says that nobody used: such a call is charged by an estimate."""
HOSTILE_CALLS: tuple[dict[str, Any], ...] = (
    *INCREDIBLE,
    {"x_sim": {"reason": "x" * 20_000}},
    {"x_sim": {"reason": "stop\0"}},
    {"x_sim": {"usage": {"prompt_tokens": 10**9, "completion_tokens": 10**9}}},
    {"x_sim": {"usage": "absurd"}},
    {"model": "evil\0chat"},
    {"model": "m" * 100_000},
    {"model": "sim-chat\u202e"},
)  # fmt: skip
HOSTILE_HEADERS: tuple[dict[str, str], ...] = (
    {"x-tc-tags": "x" * 127},
    {"x-tc-tags": ",".join(f"n{number}={'v' * 100}" for number in range(200))},
    {"traceparent": f"00-{'z' * 32}-{'0' * 16}-01"},
    {"traceparent": "-".join("x" * 5_000)},
)


@pytest.mark.parametrize("stream", [False, True])
def test_each_hostile_call_has_its_row_and_gives_back_what_it_held(
    stack: Stack, stream: bool
) -> None:
    key = stack.new_key(project="hostile")
    limit = {"kind": "rate", "measure": "concurrent", "amount": 2, "match": {"project": "hostile"}}
    assert stack.admin("PUT", "/api/v1/limits/two-at-once", json=limit).status_code == 200
    stack.until_served()
    headers = {"authorization": f"Bearer {key}"}
    calls = [*HOSTILE_CALLS, *(dict[str, Any]() for _ in HOSTILE_HEADERS)]
    more = [*(dict[str, str]() for _ in HOSTILE_CALLS), *HOSTILE_HEADERS]
    seen = []
    for body, extra in zip(calls, more, strict=True):
        reply = stack.chat(**body, stream=stream, headers=headers | extra)
        assert reply.status_code in (200, 400, 404), (body, reply.text)
        seen.append(reply.headers["x-request-id"])
        if body in INCREDIBLE:
            row = stack.row_of(reply)
            assert row["usage_source"] == "estimated" and row["prompt_tokens"] < 1_000, body
    for _ in range(3):
        reply = stack.chat(headers=headers)
        assert reply.status_code == 200, "nothing is held any more"
        seen.append(reply.headers["x-request-id"])
    ids = ", ".join(f"'{name}'" for name in seen)
    query = f"select event_id from ledger where event_id in ({ids})"
    until(lambda: len(stack.rows(query)) == len(seen))
    assert not stack.rows("select reason from rejected_records")


# --- a call is settled whatever its record does -------------------------------------------------


class KeptReservation(LoggedReservation):
    """What a call holds; it knows the record that it was settled by."""

    def __init__(self) -> None:
        super().__init__([])
        self.settled: list[CallRecord] = []

    def settle(self, record: CallRecord) -> None:
        self.settled.append(record)


class Metered:
    """A call over a real journal, answered by an upstream that says what it likes."""

    def __init__(self, folder: Path) -> None:
        self.journal = Journal(folder)
        self.observed: list[CallRecord] = []
        self.metering = JournalMetering(
            self.journal, OSError, self.observed.append, Served(Snapshot("1", {}, {})), "g",
            memoryview(bytearray(16)).cast("Q"), lambda record: "",
        )  # fmt: skip

    def call(self, usage: Usage, finish: str = "stop", micro: int = 10**6) -> Call:
        call = call_of(BODY)
        call.caller, call.parsed = GRANT, parse(Api.CHAT, BODY)
        price = Price("CNY", (PriceTier(micro, micro),), "v")
        upstream = Upstream("up", "sim", "http://127.0.0.1/v1")
        attempt = Attempt(Candidate(upstream, Offer("up", "m", price)), 0.0)
        attempt.outcome, attempt.usage, attempt.finish_reason = "ok", usage, finish
        call.attempts.append(attempt)
        return call

    @property
    def records(self) -> list[CallRecord]:
        self.journal.close_segment()
        batch = self.journal.next_batch(10**6, 100)
        frames = b"" if batch is None else batch.frames
        return [call_record.decode(frame) for frame in read_frames(frames)]


@pytest.mark.parametrize(
    ("usage", "micro"),
    [
        (Usage(2**70, 1), 0),
        (Usage(2**70, 1), 1),
        (Usage(10**9, 10**9), 10**12),
        (Usage(10**9, 10**9), 10**9),
    ],
)
def test_what_no_record_holds_is_written_reduced(tmp_path: Path, usage: Usage, micro: int) -> None:
    house = Metered(tmp_path)
    kept = house.metering.settle(house.call(usage, "x" * 50_000, micro))
    (written,) = house.records
    assert written == kept == house.observed[0] and written.usage_source == "estimated"
    assert call_record.problem_of(written) == ""


def test_a_fault_while_a_call_is_recorded_leaves_a_record(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError

    house = Metered(tmp_path)
    call = house.call(Usage(1, 1))
    monkeypatch.setattr(metering, "_attempt_record", broken)
    with pytest.raises(ZeroDivisionError):
        house.metering.settle(call)
    (written,) = house.records
    assert (written.tenant, written.outcome) == ("t", "internal_error") and call.record == written


def test_what_a_call_held_is_given_back_when_it_cannot_be_recorded() -> None:
    class Broken(LoggedSteps):
        def settle(self, call: Call, unsent: int = 0) -> CallRecord:
            raise ZeroDivisionError

    house = Broken()
    call = house.call()
    call.reservation = held = KeptReservation()
    with pytest.raises(ZeroDivisionError):
        pipeline._settle(call, house, b"", b"")
    assert [one.event_id for one in held.settled] == [call.request.id]
    assert held.settled[0].charge_pico == 0


def test_metrics_count_on_beyond_64_bits(tmp_path: Path) -> None:
    metrics = GatewayMetrics("w", tmp_path, dict)
    for number in range(3):
        metrics.observe(record(number, cost_pico=2**63))
    assert b"tokenschain_cost_total" in metrics.text()


# --- somebody looks at them, and enters them again ------------------------------------------------


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    with platform(tmp_path_factory.mktemp("rejected")) as made:
        yield made


def set_aside(house: Platform, name: str, **fields: object) -> str:
    """A rejected record; returns its id."""
    book = house.app.state.context.ledger
    book.ingest([call_record.encode(record(7, event_id=name, **fields))])
    listed = house.operator("GET", "/rejected-records").json()["data"]
    return next(str(one["id"]) for one in listed if one["event_id"] == name)


def test_a_rejected_record_is_looked_at_retried_and_entered_reduced(house: Platform) -> None:
    name = set_aside(house, "cut", finish_reason="y" * 200, tenant="acme")
    boss = house.operator
    listed = boss("GET", "/rejected-records").json()["data"][0]
    assert listed["reason"] == "finish_reason has more than 64 characters"
    assert (listed["tenant"], listed["readable"]) == ("acme", True)
    whole = boss("GET", f"/rejected-records/{name}").json()
    assert whole["record"]["finish_reason"] == "y" * 200
    assert whole["record"]["attempts"][0]["upstream"] == "up"
    again = boss("POST", f"/rejected-records/{name}/retry", {})
    assert again.status_code == 409 and "64 characters" in again.text
    assert "cut" not in ids_in(house.engine)
    done = boss("POST", f"/rejected-records/{name}/retry", {"reduced": True})
    assert done.json() == {"id": name, "event_id": "cut"}
    assert ids_in(house.engine).count("cut") == 1
    assert boss("GET", f"/rejected-records/{name}").status_code == 404
    assert any(event["target"] == name for event in boss("GET", "/audit").json()["data"])


def test_what_was_refused_for_a_sum_is_entered_when_there_is_room(house: Platform) -> None:
    boss = house.operator
    huge = call_record.AMOUNT_MAX
    book = house.app.state.context.ledger
    many = [record(0, event_id=f"big_{n}", cost_pico=huge, tenant="big") for n in range(1_000)]
    book.ingest([call_record.encode(one) for one in many])
    listed = boss("GET", "/rejected-records?limit=200").json()["data"]
    waiting = [one for one in listed if one["tenant"] == "big"]
    assert waiting and len([n for n in ids_in(house.engine) if n.startswith("big_")]) > 900
    # A sum that is full takes other calls still; and this one once there is room again.
    book.ingest([call_record.encode(record(0, event_id="other", upstream="elsewhere"))])
    with house.engine.begin() as connection:
        for table in (usage_hourly, usage_daily, balances):
            connection.execute(table.delete())
    again = boss("POST", f"/rejected-records/{waiting[0]['id']}/retry", {})
    assert again.status_code == 200, again.text
    for one in waiting[1:]:
        boss("DELETE", f"/rejected-records/{one['id']}")


def test_what_is_no_record_can_only_be_discarded(house: Platform) -> None:
    house.app.state.context.ledger.ingest([b"\xc1 no record"])
    boss = house.operator
    odd = next(
        one for one in boss("GET", "/rejected-records").json()["data"] if not one["readable"]
    )
    path = f"/rejected-records/{odd['id']}"
    assert boss("GET", path).json()["record"] is None
    assert boss("POST", f"{path}/retry", {"reduced": True}).status_code == 409
    assert boss("DELETE", path).status_code == 200
    assert boss("DELETE", path).status_code == 404


def test_a_formula_in_an_export_is_text(house: Platform) -> None:
    """CWE-1236: a spreadsheet would run it."""
    made = record(3, event_id="formula", tenant="acme", model_asked="=cmd|'/c calc'!A0")
    house.app.state.context.ledger.ingest([call_record.encode(made)])
    text = house.operator("GET", f"/calls/export?from_s=0&until_s={2**40}&tenant=acme").text
    assert "'=cmd|" in text and ",=cmd" not in text


def test_rejected_records_are_the_platforms(house: Platform) -> None:
    name = set_aside(house, "mine", finish_reason="y" * 200, tenant="acme")
    owner, viewer = house.person("acme", "owner"), house.person("*", "viewer")
    auditor, admin = house.person("*", "auditor"), house.person("*", "admin")
    calls = [("GET", ""), ("GET", f"/{name}"), ("POST", f"/{name}/retry"), ("DELETE", f"/{name}")]
    for method, path in calls:
        body = {} if method == "POST" else None
        for caller in (owner, viewer, *([auditor] if method != "GET" else [])):
            reply = caller(method, f"/rejected-records{path}", body)
            assert reply.status_code == 403, (method, path, reply.text)
    assert auditor("GET", f"/rejected-records/{name}").status_code == 200
    assert admin("DELETE", f"/rejected-records/{name}").status_code == 200


def test_rejected_records_are_told_by_an_alert_and_a_metric(house: Platform) -> None:
    name = set_aside(house, "told", finish_reason="y" * 200)
    with house.engine.connect() as connection:
        found = connection.execute(select(rejected_records.c.received_at_s)).scalars().first()
    assert found is not None
    assert alerts.look_at_records(house.engine, found) == 1
    assert alerts.look_at_records(house.engine, found) == 0, "said once a day"
    said = house.operator("GET", "/alerts").json()["data"][0]
    assert said["kind"] == "records_rejected" and said["detail"]["count"] >= 1
    zh, en = alerts.words(said["kind"], said["tenant"], said["detail"])
    assert "could not be entered" in en and "入账" in zh
    text = house.operator("GET", "/metrics").text
    assert "tokenschain_control_rejected_records 1.0" in text
    assert "tokenschain_control_records_received_total" in text
    assert house.person("acme", "owner")("GET", "/metrics").status_code == 403
    house.operator("DELETE", f"/rejected-records/{name}")
