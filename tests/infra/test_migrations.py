"""Every version of the schema, up and down, with rows in it, on both databases."""

from __future__ import annotations

import hashlib
import json
import time
from typing import Any

import pytest
from sqlalchemy import Engine, insert, inspect, select, text

from tests.records import record
from tokenschain.control.billing import ledger, limits
from tokenschain.control.billing.ledger import Ledger
from tokenschain.control.cache import rules_and_stats
from tokenschain.control.content import legal_holds
from tokenschain.core import call_record
from tokenschain.core.call_record import AttemptRecord, Overhead
from tokenschain.core.limits import Budget, Rate, Selector
from tokenschain.infra.database import engine as db
from tokenschain.infra.database import tables
from tokenschain.infra.database.audit_tables import audit_anchors, audit_keys
from tokenschain.infra.database.content_tables import content_keys, tenant_keys

VERSIONS = ("0001", "0002", "0003", "0004", "0005", "0006", "0007", "0008", "0009",
            "0010", "0011", "0012", "0013", "0014", "0015",
            "0016", "0017", "0018", "0019", "0020", "0021",
            "0022", "0023", "0024", "0025", "0026", "0027", "0028", "0029",
            "0030", "0031", "0032", "0034", "0035", "0036", "0037", "0038", "0041",
            "0042", "0043")  # fmt: skip


@pytest.fixture
def bare(database: str) -> Any:
    """A database without tables."""
    made = db.connect(database)
    yield made
    made.dispose()


def sums(engine: Engine) -> tuple[int, ...]:
    """Calls, tokens and cost, by the ledger and by its hourly sums: they must agree."""
    found = []
    for calls, table in (("count(*)", "ledger"), ("sum(calls)", "usage_hourly")):
        with engine.connect() as connection:
            row = connection.execute(
                text(
                    f"select {calls}, sum(prompt_tokens), sum(completion_tokens), "
                    f"sum(cost_pico) from {table}"
                )
            ).one()
        found.append(tuple(int(value) for value in row))
    assert found[0] == found[1]
    return found[0]


def test_down_to_the_first_version_and_up_again_keeps_every_call(bare: Engine) -> None:
    db.migrate(bare)
    made = [record(n, tags="subject=math") for n in range(500)]
    # The same hour and upstream, charged in another currency: one row in older versions.
    made += [record(n, event_id=f"usd_{n}", charge_currency="USD") for n in range(100, 140)]
    Ledger(bare).ingest([call_record.encode(r) for r in made])
    before = sums(bare)
    with bare.connect() as connection:
        usage = ledger.usage(connection, group_by=["tenant", "day"], from_s=0, until_s=2**40)
    for version in (*reversed(VERSIONS), *VERSIONS, "0002", "head"):
        db.migrate(bare, version)
        assert sums(bare) == before, version
    with bare.connect() as connection:
        again = ledger.usage(connection, group_by=["tenant", "day"], from_s=0, until_s=2**40)
    # What an older version has no place for is lost: here the currency of the charges.
    assert sum(row["charge_pico"] for row in again) == sum(row["charge_pico"] for row in usage)
    assert {row["tenant"]: row["calls"] for row in again if row["day"] == "2026-09-21"} == {
        t: sum(r["calls"] for r in usage if r["tenant"] == t and r["day"] == "2026-09-21")
        for t in {r["tenant"] for r in usage if r["day"] == "2026-09-21"}
    }
    # And the newest version still takes what arrives late, once.
    assert Ledger(bare).ingest([call_record.encode(r) for r in made[:50]]) == 0
    assert Ledger(bare).ingest([call_record.encode(record(900))]) == 1


def test_a_step_back_and_forth_keeps_days_and_balances(bare: Engine) -> None:
    db.migrate(bare)
    Ledger(bare).ingest([call_record.encode(record(n)) for n in range(300)])
    with bare.begin() as connection:
        ledger.deposit(connection, "t1", "CNY", 5 * 10**12, "bank")
        balances = ledger.balances_of(connection, "t1")
        credited = ledger.credited(connection, "t1", 7_000_000)
    month = {"group_by": ["project", "day"], "from_s": 0, "until_s": 2**40}
    with bare.connect() as connection:
        usage = ledger.usage(connection, **month)
    db.migrate(bare, "0003")
    db.migrate(bare)
    with bare.connect() as connection:
        assert ledger.usage(connection, **month) == usage
        assert ledger.balances_of(connection, "t1") == balances
        assert ledger.credited(connection, "t1", 7_000_000) == credited == 5 * 10**12


# --- 0007: standard names -------------------------------------------------------------------

DAY = 20_700
DETAIL = {"subject": "t/p/m", "period_s": DAY * 86_400, "agreed": 0.01, "wrong": 0.03}
SPECS = {
    "r": '{"id":"r","measure":"requests","amount":9007199254740993,"of":{"tenant":"t"},'
    '"each":["key_id","tag:学科"],"borrow":true,"unknown":"closed"}',
    "b": '{"id":"b","measure":"spend","amount":5,"unknown":"open"}',
    "plain": '{"id":"plain","measure":"tokens","amount":1}',
}
FORMER = {
    "ledger": ("cache", ["bypass", "exact", "miss", "semantic", "shared"]),
    "nodes": ("name", ["t"]),
    "entries": ("id", ["txn_0", "txn_1"]),
    "api_keys": ("endpoints", ['["embeddings"]', None]),
    "limits": ("spec", [SPECS["b"], SPECS["plain"], SPECS["r"]]),
    "alerts": ("kind", ["budget_reached", "cache_wrong"]),
}
"""Tables, a column of each, and what it held in version 0006."""
OLD_WORDS = ("nodes", "door", "endpoints", "likeness")


def alert_id(kind: str) -> str:
    identity = (kind, None, DETAIL["subject"], DETAIL["period_s"], None, None)
    return hashlib.sha256(repr(identity).encode()).hexdigest()


def insert_former_rows(engine: Engine) -> None:
    """Rows of version 0006 in every table that 0007 touches."""
    db.ensure_days(engine, [DAY, DAY + 1])
    with engine.begin() as connection:

        def put(table: str, **values: Any) -> None:
            names = ", ".join(values)
            marks = ", ".join(f":{name}" for name in values)
            connection.execute(text(f"INSERT INTO {table} ({names}) VALUES ({marks})"), values)

        call = {
            "door": "chat/completions", "tenant": "t", "project": "p", "environment": "e",
            "key_id": "k", "model_asked": "m", "model_served": "m", "upstream": "up",
            "attempts": "[]", "status": 200, "outcome": "ok", "fault": "", "error": "",
            "streamed": False, "prompt_tokens": 1, "cached_tokens": 0, "completion_tokens": 2,
            "reasoning_tokens": 0, "usage_source": "provider", "price_version": "",
            "currency": "CNY", "cost_pico": 7, "moderation": "", "total_ms": 1.0, "bytes_in": 1,
            "bytes_out": 1, "finish_reason": "stop", "trace_id": "", "tags": "",
            "snapshot_version": "", "charge_pico": 9, "charge_currency": "CNY",
            "cache_likeness": 0.75, "route": '[{"in_time":true,"left_out":"a \\"in_time\\": b"}]',
        }  # fmt: skip
        for number, outcome in enumerate(FORMER["ledger"][1]):
            started_ms = (DAY + number % 2) * db.DAY_MS
            put("ledger", event_id=f"req_{number}", started_ms=started_ms, cache=outcome, **call)
        put("nodes", id="node_1", kind="tenant", tenant="t", account="", project="", name="t",
            title="T", prepaid=True, credit_pico=3, created_at_s=1)  # fmt: skip
        for number, amount in enumerate((5, -5)):
            put("entries", id=f"txn_{number}", transaction_id="txn", at_s=1, kind="deposit",
                account="customer:t" if number else "cash", tenant="t", currency="CNY",
                amount_pico=amount, reference="bank")  # fmt: skip
        for number, apis in enumerate(FORMER["api_keys"][1]):
            put("api_keys", id=f"key_{number}", key_hash=f"{number:064x}", prefix="p", name="n",
                tenant="t", project="p", environment="e", disconnect="cancel", created_at_s=1,
                endpoints=apis)  # fmt: skip
        for name, spec in SPECS.items():
            put("limits", id=name, kind="budget" if name == "b" else "rate", tenant="t", spec=spec,
                created_at_s=1)  # fmt: skip
        for kind in FORMER["alerts"][1]:
            put("alerts", id=alert_id(kind), tenant="t", at_s=1, kind=kind, next_try_s=1,
                detail=json.dumps(DETAIL, separators=(",", ":")))  # fmt: skip


def rows_of(engine: Engine) -> dict[str, list[Any]]:
    """All rows of the touched tables, under their former names."""
    found = {}
    with engine.connect() as connection:
        for table in FORMER:
            rows = connection.execute(text(f"SELECT * FROM {table}")).mappings()
            found[table] = sorted((dict(row) for row in rows), key=repr)
    return found


def names_of(engine: Engine) -> set[str]:
    """Every table, column, index and constraint there is."""
    seen, found = inspect(engine), set()
    for table in seen.get_table_names():
        found |= {table, *(f"{table}.{column['name']}" for column in seen.get_columns(table))}
        found |= {str(index["name"]) for index in seen.get_indexes(table)}
    if engine.dialect.name == "postgresql":
        with engine.connect() as connection:
            found |= set(connection.execute(text("SELECT conname FROM pg_constraint")).scalars())
            found |= set(
                connection.execute(
                    text("SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace")
                ).scalars()
            )
    return found


def test_standard_names_reach_every_row_and_go_back(bare: Engine) -> None:
    db.migrate(bare, "0006")
    insert_former_rows(bare)
    rows, names = rows_of(bare), names_of(bare)
    for table, (column, values) in FORMER.items():
        assert sorted((row[column] for row in rows[table]), key=str) == sorted(values, key=str)

    db.migrate(bare, "0007")
    now = names_of(bare)
    assert not [name for name in now if any(word in name for word in OLD_WORDS)]
    assert not [name for name in now if name.startswith("entries")]
    with bare.begin() as connection:
        seen = tables.ledger.c
        calls = connection.execute(
            select(seen.api, seen.cache, seen.cache_confidence, seen.route).order_by(seen.event_id)
        ).all()
        assert [call.cache for call in calls] == [
            "bypass", "hit-exact", "miss", "hit-semantic", "hit-inflight",
        ]  # fmt: skip
        assert {(call.api, call.cache_confidence) for call in calls} == {("chat/completions", 0.75)}
        assert json.loads(calls[0].route) == [{"meets_slo": True, "excluded": 'a "in_time": b'}]
        units = tables.organization_units.c
        named = (units.kind == "tenant", units.tenant == "t", units.name == "t")
        unit = connection.execute(select(units.id, units.credit_pico).where(*named)).one()
        assert tuple(unit) == ("node_1", 3)
        reversed_ = ledger.reverse(connection, "txn", "undone")
        assert reversed_ is not None
        connection.execute(
            tables.ledger_entries.delete().where(tables.ledger_entries.c.kind == "reversal")
        )
        connection.execute(tables.balances.delete())
        apis = connection.execute(text("select apis from api_keys order by id")).scalars().all()
        assert apis == ['["embeddings"]', None]
        rates, budgets = limits.all_limits(connection)
        assert rates == (
            Rate("plain", "tokens", 1),
            Rate("r", "requests", 9_007_199_254_740_993, match=Selector("t"),
                 per=("key_id", "tag:学科"), burst_when_idle=True, on_unavailable="deny"),
        )  # fmt: skip
        assert budgets == (Budget("b", "spend", 5, on_unavailable="allow"),)
        kinds = connection.execute(select(tables.alerts.c.id, tables.alerts.c.kind)).all()
        details = connection.execute(select(tables.alerts.c.detail)).scalars().all()
        assert {tuple(json.loads(detail))[2:] for detail in details} == {
            ("false_hit_rate_max", "false_hit_rate")
        }
        # Said once: the id is what the new version would make of it.
        assert {(name, kind) for name, kind in kinds} == {
            (alert_id(kind), kind) for kind in ("budget_reached", "cache_false_hits")
        }

    db.migrate(bare, "0006")
    assert rows_of(bare) == rows
    assert names_of(bare) == names


# --- 0008: platform costs -------------------------------------------------------------------


def test_platform_costs_come_and_go_and_calls_stay(bare: Engine) -> None:
    db.migrate(bare)
    wasted = AttemptRecord("other", 0.1, outcome="lost_race", prompt_tokens=5, completion_tokens=3)
    wasted.currency, wasted.cost_pico, wasted.overhead = "CNY", 700, Overhead.HEDGE
    made = [record(n, requests=2) for n in range(50)]
    for one in made[:7]:
        one.attempts = [wasted, *one.attempts]
    Ledger(bare).ingest([call_record.encode(one) for one in made])
    before = sums(bare)

    def ask(what: str) -> int:
        with bare.connect() as connection:
            return int(connection.execute(text(f"select {what}")).scalar_one() or 0)

    assert ask("count(*) from platform_costs") == 7
    assert ask("sum(platform_cost_pico) from usage_daily") == 7 * 700
    assert ask("sum(requests) from ledger") == 100
    db.migrate(bare, "0007")
    assert sums(bare) == before
    assert ask("count(*) from usage_hourly where upstream = 'other'") == 0
    assert ask("sum(amount_pico) from ledger_entries where account = 'upstream:other'") == 7 * 700
    db.migrate(bare)
    assert sums(bare) == before
    assert ask("count(*) from platform_costs") == 0
    assert ask("sum(requests) from ledger") == 50
    assert Ledger(bare).ingest([call_record.encode(one) for one in made]) == 0
    late = record(900)
    late.attempts = [wasted, *late.attempts]
    assert Ledger(bare).ingest([call_record.encode(late)]) == 1
    assert ask("sum(platform_cost_pico) from usage_hourly") == 700


# --- 0035: what the cache did, by the hour --------------------------------------------------


def test_what_the_cache_did_is_added_up_from_the_calls_that_are_there(bare: Engine) -> None:
    db.migrate(bare)
    made = [
        record(n, cache="hit-exact" if n % 2 else "miss", saved_pico=n % 2 * 7) for n in range(90)
    ]
    Ledger(bare).ingest([call_record.encode(one) for one in made])
    with bare.connect() as connection:
        before = rules_and_stats.stats(connection, None, 0, 2**40, ["tenant", "hour"])
    assert len(before) > 4
    db.migrate(bare, "0034")
    db.migrate(bare)
    with bare.connect() as connection:
        assert rules_and_stats.stats(connection, None, 0, 2**40, ["tenant", "hour"]) == before


def test_keys_of_data_classes_stay_where_they_were_after_a_step_back(bare: Engine) -> None:
    db.migrate(bare)
    classes = {"a": "important", "b": "", "c": "general"}
    with bare.begin() as connection:
        for name, data_class in classes.items():
            live = {"tenant": "t", "created_at_ms": 1, "data_class": data_class}
            connection.execute(insert(tenant_keys).values(id=f"t{name}", sealed=b"x", **live))
            for key, parent, subject in (("d", "t", ""), ("s", "d", "ada")):
                row = {"id": f"{key}{name}", "parent": f"{parent}{name}", "subject": subject}
                connection.execute(insert(content_keys).values(day=1, wrapped=b"x", **live, **row))
    for version in ("0047", "head"):
        db.migrate(bare, version)
    with bare.connect() as connection:
        found = dict(connection.execute(select(tenant_keys.c.id, tenant_keys.c.data_class)).all())
        below = dict(connection.execute(select(content_keys.c.id, content_keys.c.data_class)).all())
    assert found == {"ta": "", "tb": "~tb", "tc": "~tc"}, "of which class is forgotten"
    assert below == {f"{key}{name}": found[f"t{name}"] for key in "ds" for name in "abc"}


def test_evidence_of_the_audit_log_stays_through_a_step_back(bare: Engine) -> None:
    db.migrate(bare)
    with bare.begin() as connection:
        connection.execute(insert(audit_keys).values(size=3, key="k", note="n"))
        made = {"size": 3, "kind": "timestamp", "place": "p", "at_s": 1, "note": "n"}
        connection.execute(insert(audit_anchors).values(id="a", evidence=b"e", **made))
    for version in ("0043", "head"):
        db.migrate(bare, version)
    with bare.connect() as connection:
        assert connection.execute(select(audit_keys.c.note)).scalars().all() == ["n"]
        assert connection.execute(select(audit_anchors.c.evidence)).scalars().all() == [b"e"]


def test_what_is_held_stays_held(bare: Engine) -> None:
    db.migrate(bare, "0042")
    with bare.begin() as connection:
        for hold, subject in (("all", ""), ("ada", "a" * 32)):
            connection.execute(
                text(
                    "insert into legal_holds (id, tenant, subject, from_ms, until_ms, reason, "
                    f"created_by, created_at_ms) values ('{hold}', 't', '{subject}', 0, 9, '', "
                    "'u', 1)"
                )
            )
    for version in ("head", "0042", "head"):
        db.migrate(bare, version)
    with bare.connect() as connection:
        held = {
            hold: (legal_holds.find(connection, hold) or {})["subject"] for hold in ("all", "ada")
        }
    assert held == {"all": "", "ada": "a" * 32}


# --- 0010: signing in -----------------------------------------------------------------------


def test_who_can_be_entered_otherwise_loses_what_groups_gave(bare: Engine) -> None:
    db.migrate(bare, "0009")
    with bare.begin() as connection:
        for name, kind, password in (
            ("hijacked", "user", "hash"),
            ("person", "user", None),
            ("robot", "service", None),
        ):
            connection.execute(
                text(
                    "INSERT INTO users (id, tenant, kind, email, name, password_hash, created_at_s, "
                    "failed_logins, locked_until_s) VALUES (:id, 't', :kind, :email, 'N', :hash, 1, "
                    "4, 2)"
                ),
                {"id": name, "kind": kind, "email": f"{name}@x.example", "hash": password},
            )
            for source in ("admin", "oidc"):
                connection.execute(
                    text(
                        "INSERT INTO bindings (id, user_id, role, tenant, account, project, "
                        "environment, source) VALUES (:id, :user, 'owner', '*', '', '', '', :source)"
                    ),
                    {"id": f"{name}-{source}", "user": name, "source": source},
                )
        connection.execute(
            text(
                "INSERT INTO tokens (id, token_hash, user_id, kind, name, created_at_s, "
                "expires_at_s) VALUES ('tok', 'h', 'robot', 'api', 'ci', 1, 2)"
            )
        )
    db.migrate(bare)
    with bare.begin() as connection:
        held = set(connection.execute(select(tables.bindings.c.id)).scalars())
        scope = connection.execute(select(tables.tokens.c.permissions)).scalar()
        insert = text(
            "INSERT INTO users (id, tenant, kind, email, name, created_at_s) "
            "VALUES ('same', 'other', 'user', 'person@x.example', 'N', 1)"
        )
        connection.execute(insert)
        columns = {column["name"] for column in inspect(connection).get_columns("users")}
    assert held == {"hijacked-admin", "person-admin", "person-oidc", "robot-admin"}
    assert scope == '["*"]'
    assert columns == set(tables.users.c.keys())
    db.migrate(bare, "0009")
    with bare.connect() as connection:
        emails = connection.execute(text("SELECT id, email FROM users ORDER BY id")).all()
    assert dict(map(tuple, emails)) == {
        "hijacked": "hijacked@x.example",
        "person": "person@x.example",
        "robot": "robot@x.example",
        "same": "same@duplicate.invalid",
    }
    db.migrate(bare)


# --- 0041: passwords are renewed ------------------------------------------------------------


def test_passwords_from_before_it_was_noted_count_from_then(bare: Engine) -> None:
    db.migrate(bare, "0038")
    made = text(
        "INSERT INTO users (id, tenant, kind, email, name, password_hash, created_at_s) "
        "VALUES (:id, 't', 'user', :id, 'N', :hash, 1)"
    )
    began_s = int(time.time())
    with bare.begin() as connection:
        connection.execute(made, [{"id": "old", "hash": "h"}, {"id": "invited", "hash": None}])
    db.migrate(bare)
    with bare.connect() as connection:
        query = select(tables.users.c.id, tables.users.c.password_set_at_s)
        found = dict(map(tuple, connection.execute(query)))
    assert found["invited"] is None
    assert began_s <= found["old"] <= time.time()


# --- 0015: limits are named in their tenant --------------------------------------------------


def test_limits_and_what_was_spent_of_them_get_their_tenants_name(bare: Engine) -> None:
    db.migrate(bare, "0014")
    former = {
        "all": Rate("all", "requests", 5),
        "cap": Budget("cap", "spend", 6, match=Selector("t")),
        "wallet/t": Budget("wallet/t", "spend", 7, "total", Selector("t"), wallet=True),
    }
    detail = {"budget": "cap", "subject": [], "period_s": 1, "percent": 80, "amount": 6}

    def identity(budget: str) -> str:
        said = ("budget_reached", budget, [], 1, 80, 6)
        return hashlib.sha256(repr(said).encode()).hexdigest()

    with bare.begin() as connection:
        for name, limit in former.items():
            limits.put(connection, limit, limit.match.tenant)
            connection.execute(
                text(
                    "INSERT INTO budget_counts (budget_id, subject, period_s, holder, granted, "
                    "spent, seen_at_s) VALUES (:id, '', 1, 'h', 0, 3, 0)"
                ),
                {"id": name},
            )
        connection.execute(
            text(
                "INSERT INTO alerts (id, tenant, at_s, kind, detail, next_try_s) "
                "VALUES (:id, 't', 1, 'budget_reached', :detail, 1)"
            ),
            {"id": identity("cap"), "detail": json.dumps(detail)},
        )

    def found() -> tuple[set[str], set[str], dict[str, str]]:
        with bare.connect() as connection:
            rates, budgets = limits.all_limits(connection)
            counted = connection.execute(text("SELECT budget_id FROM budget_counts")).scalars()
            said = connection.execute(text("SELECT id, detail FROM alerts")).all()
            return (
                {limit.id for limit in (*rates, *budgets)},
                set(counted),
                {row.id: json.loads(row.detail)["budget"] for row in said},
            )

    db.migrate(bare)
    names = {"all", "t/cap", "t/wallet"}
    assert found() == (names, names, {identity("t/cap"): "t/cap"})
    with bare.begin() as connection:
        limits.put(connection, Rate("u/cap", "requests", 1, match=Selector("u")), "u")
        long = f"{'t' * 64}/{'n' * 63}"
        limits.put(connection, Rate(long, "requests", 1, match=Selector("t" * 64)), "t" * 64)
    db.migrate(bare, "0014")
    ids, counted, said = found()
    assert ids == {*former, "u.cap", "n" * 63}
    assert (counted, said) == ({*former}, {identity("cap"): "cap"})
    db.migrate(bare)
