"""Poison records: what does not fit is clipped or kept apart, and the others are entered."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest
from sqlalchemy import Engine, select

from tests.records import record
from tokenschain.control.billing import ledger as ledger_module
from tokenschain.control.billing.ledger import Ledger
from tokenschain.core import call_record
from tokenschain.core.call_record import CallRecord
from tokenschain.core.tags import TAG_CHARACTERS_MAX, parse, tags_of
from tokenschain.infra.database.tables import ledger, rejected_records

RECORDS = 2_000
TEXTS = ("\0", "x" * 129, "x" * 20_000, "a\tb\nc\\d\x01", "=1+1", "\ud7ff\U0010ffff", "", "a,b=c")
COUNTS = (-1, 2**31, 2**63 - 1, 2**63, 2**64 - 1, 10**12, 9_200_000_000_000)
NUMBERS = (float("nan"), float("inf"), -1.0, 1e308)
TEXT_FIELDS = (
    "model_asked", "finish_reason", "tags", "trace_id", "outcome", "tenant", "upstream", "currency",
    "key_id", "cache_reason", "route_reason", "charge_version",
)  # fmt: skip
COUNT_FIELDS = (
    "prompt_tokens", "completion_tokens", "cost_pico", "charge_pico", "bytes_out", "status",
    "started_ms", "requests", "saved_pico",
)  # fmt: skip
NUMBER_FIELDS = ("total_ms", "first_token_ms", "route_propensity")


def hostile(chance: random.Random, number: int) -> CallRecord:
    """A record with a hostile value somewhere."""
    kind = chance.randrange(3)
    fields, values = ((TEXT_FIELDS, TEXTS), (COUNT_FIELDS, COUNTS), (NUMBER_FIELDS, NUMBERS))[kind]
    made = record(number, model_asked="hostile")
    setattr(made, chance.choice(fields), chance.choice(values))
    return made


def sums(engine: Engine) -> dict[str, int]:
    with engine.connect() as connection:
        rows = ledger_module.usage(connection, group_by=["model"], from_s=0, until_s=2**33)
    good = [row for row in rows if row["model"] == "m"]
    return {name: sum(int(row[name]) for row in good) for name in ("calls", "prompt_tokens")}


def test_hostile_records_stop_no_others_and_sums_stay_exact(engine: Engine) -> None:
    chance = random.Random(15)
    good, bad = range(RECORDS), range(RECORDS, RECORDS + RECORDS // 20)
    payloads = [call_record.encode(record(n % 97, event_id=f"good_{n}")) for n in good]
    payloads += [call_record.encode(hostile(chance, n)) for n in bad]
    chance.shuffle(payloads)
    book = Ledger(engine)
    for _ in range(2):  # whatever was refused is refused again, and nothing is counted twice
        for at in range(0, len(payloads), 500):
            book.ingest(payloads[at : at + 500])
    tokens = sum(n % 97 for n in good)
    assert sums(engine) == {"calls": RECORDS, "prompt_tokens": tokens}
    with engine.connect() as connection:
        entered = set(connection.execute(select(ledger.c.event_id)).scalars())
        rejected = {row.payload: row.reason for row in connection.execute(select(rejected_records))}
    assert all(rejected.values())
    known = {payload for payload in payloads if call_record.decode(payload).event_id in entered}
    assert known.isdisjoint(rejected) and known | set(rejected) == set(payloads)


@pytest.mark.parametrize(
    "fields",
    [
        {"tags": "x" * 127},
        {"tags": "x" * 64},
        {"model_asked": "evil\0chat"},
        {"finish_reason": "y" * 200},
        {"prompt_tokens": 2**63},
        {"prompt_tokens": 9_200_000_000_000_000_000},
        {"cost_pico": 2**64 - 1},
    ],
    ids=repr,
)
def test_one_bad_record_of_a_batch_stops_no_later_one(engine: Engine, fields: object) -> None:
    assert isinstance(fields, dict)
    bad = [call_record.encode(record(n, event_id=f"bad_{n}", **fields)) for n in range(2)]
    good = [call_record.encode(record(n, event_id=f"good_{n}")) for n in range(2)]
    assert Ledger(engine).ingest([good[0], *bad]) >= 1
    assert Ledger(engine).ingest([*bad, good[1]]) >= 1
    with engine.connect() as connection:
        entered = set(connection.execute(select(ledger.c.event_id)).scalars())
    assert {"good_0", "good_1"} <= entered


def words(count: int) -> Iterator[str]:
    for length in range(count):
        yield "n" * length
        yield "n" * (length // 2) + "=" + "v" * (length - length // 2)


def test_tags_fit_into_their_column_as_name_and_value() -> None:
    for word in words(300):
        for name, value in parse(word).items():
            assert len(f"{name}={value}") <= TAG_CHARACTERS_MAX
    assert parse("x" * 63) and not parse("x" * 64)
    assert tags_of(b"a=1, b\x7f=2, c=\x00, d").line == "a=1,d"


def test_words_from_outside_are_cut_and_keep_no_control_characters() -> None:
    assert call_record.fitting("gpt-4o", 64) == "gpt-4o"
    assert call_record.fitting("evil\0chat", 64) == "evil\ufffdchat"
    assert len(call_record.fitting("x" * 20_000, 64)) == 64


def test_what_no_record_holds_is_recorded_reduced() -> None:
    odd = record(
        1, finish_reason="x" * 20_000, prompt_tokens=2**70, cost_pico=10**30, tags="t" * 99
    )
    with pytest.raises(OverflowError):
        call_record.encode(odd)
    kept = call_record.decode(call_record.encode(call_record.reduced(odd)))
    assert kept.event_id == odd.event_id and kept.tenant == odd.tenant
    assert kept.usage_source == "estimated" and kept.cost_pico is None
    assert kept.prompt_tokens == call_record.COUNT_MAX and len(kept.finish_reason) == 64
