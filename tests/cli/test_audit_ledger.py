"""An exported bundle against an exported ledger, offline: each call is in both and says the same."""

from __future__ import annotations

import csv
import io
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine

from tests.cli.test_audit_verify import packed
from tests.records import record
from tokenschain.cli import audit_ledger
from tokenschain.cli.audit_ledger import NotComparable
from tokenschain.control.api import usage
from tokenschain.control.audit import bundle, reconciliation
from tokenschain.control.audit.log import SegmentSealer
from tokenschain.control.billing import ledger
from tokenschain.control.billing.ledger import Ledger
from tokenschain.core import call_record
from tokenschain.infra.database import engine as db
from tokenschain.infra.security.note_keys import NoteSecret
from tokenschain.infra.security.suite import INTERNATIONAL

BEGAN_S = 1_790_000_000
HOUR_S = 3_600
SECRET = NoteSecret(INTERNATIONAL, "x" * 43)
Rows = list[dict[str, str]]


class Exports:
    """A bundle and a ledger of six calls of one minute each, and a seventh that waits."""

    def __init__(self, folder: Path) -> None:
        self.engine: Engine = db.connect(f"sqlite:///{folder / 'x.db'}")
        db.migrate(self.engine)
        self.bundle, self.ledger = folder / "log.tar", folder / "calls.csv"
        now = [float(BEGAN_S)]
        sealer = SegmentSealer(self.engine, INTERNATIONAL, SECRET, 1.0, lambda: now[0], idle_s=0.5)
        assert sealer.seal() is not None
        for number in range(6):
            # Names as callers make them up: in another form of Unicode, and as a formula.
            name = ("cafe\u0301", "=1+1", "m")[number % 3]
            self.enter(number, model_asked=name)
            now[0] += 60
            assert sealer.seal() is not None
        now[0] += 2 * HOUR_S
        assert sealer.seal() is not None
        self.enter(7, started_ms=int(now[0] * 1e3) - 5_000)
        with self.bundle.open("wb") as file:
            bundle.write(self.engine, INTERNATIONAL, SECRET, file, 0, 2**62)
        pages = ledger.each_call(self.engine, tenant=None, from_ms=0, until_ms=2**62)
        self.text = "".join(usage._csv(pages, {}))
        self.ledger.write_text(self.text, "utf-8")

    def enter(self, number: int, **fields: object) -> None:
        made = record(number, **{"started_ms": BEGAN_S * 1_000 + number} | fields)
        Ledger(self.engine).ingest([call_record.encode(made)])

    def compared(self, change: Callable[[Rows], object] = lambda rows: None) -> dict[str, Any]:
        """The report after somebody changed the ledger."""
        rows = list(csv.DictReader(io.StringIO(self.text)))
        change(rows)
        with self.ledger.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
        return audit_ledger.compare(self.bundle, self.ledger)


@pytest.fixture(scope="module")
def exports(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Exports]:
    made = Exports(tmp_path_factory.mktemp("exports"))
    yield made
    made.engine.dispose()


def test_what_both_say_agrees_to_the_call(exports: Exports) -> None:
    report = exports.compared()
    assert report["agrees"] and report["differences"] == [], report
    assert (report["calls_in_log"], report["calls_in_ledger"], report["waiting"]) == (6, 7, 1)
    assert {"prompt_tokens", "charge_pico", "cost_pico"} <= set(report["compared"])


def test_names_in_another_form_of_unicode_are_the_same_in_the_live_comparison(
    exports: Exports,
) -> None:
    with db.reading(exports.engine) as connection:
        found = reconciliation.compare(
            connection, INTERNATIONAL.digest, 0, (BEGAN_S + 3 * HOUR_S) * 1_000
        )
    assert found.agrees() and (found.log.calls, found.ledger.calls, found.waiting) == (6, 7, 1)


def _third(rows: Rows) -> dict[str, str]:
    return next(row for row in rows if row["event_id"] == "req_00000002")


def _drop(rows: Rows) -> None:
    rows.remove(_third(rows))


def _add(rows: Rows) -> None:
    rows.append(_third(rows) | {"event_id": "req_made_up"})


def _cheaper(rows: Rows) -> None:
    _third(rows)["charge_pico"] = "1"


def _fewer(rows: Rows) -> None:
    _third(rows)["prompt_tokens"] = "1"


def _later(rows: Rows) -> None:
    _third(rows)["started_ms"] = str(BEGAN_S * 1_000 + 59_000)


def _earlier(rows: Rows) -> None:
    _third(rows)["started_ms"] = "1"


def _rerate(rows: Rows) -> None:
    _third(rows).update({"charge_pico": "1", "charge_version": "other"})


@pytest.mark.parametrize(
    ("change", "kind", "fields"),
    [
        (_drop, "not_in_ledger", []),
        (_add, "not_in_log", []),
        (_cheaper, "changed", ["charge_pico"]),
        (_fewer, "changed", ["prompt_tokens"]),
        (_later, "changed", ["started_ms"]),
        (_earlier, "changed", ["started_ms"]),
        (_rerate, "rerated", ["charge_pico", "charge_version"]),
    ],
)
def test_a_ledger_that_was_changed_is_found_and_the_call_named(
    exports: Exports, change: Callable[[Rows], object], kind: str, fields: list[str]
) -> None:
    report = exports.compared(change)
    (found,) = report["differences"]
    call = "req_made_up" if kind == "not_in_log" else "req_00000002"
    assert (found["kind"], found["call"], found["fields"]) == (kind, call, fields)
    assert report["counts"][kind] == 1
    assert report["agrees"] == (kind == "rerated"), "new prices are no manipulation"
    assert (found["segment"] is None) == (kind == "not_in_log")


def test_a_ledger_without_calls_lacks_those_of_the_log(exports: Exports, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.write_bytes(b"")
    report = audit_ledger.compare(exports.bundle, other)
    assert not report["agrees"] and report["counts"]["not_in_ledger"] == 6


def test_what_is_no_bundle_or_no_ledger_is_said(exports: Exports, tmp_path: Path) -> None:
    exports.compared()
    other = tmp_path / "other"
    for data in (b"a,b\n", b"a,b\n1,2\n", b"\xff\xfe\x00", b"event_id,started_ms\nreq_1,x\n"):
        other.write_bytes(data)
        with pytest.raises(NotComparable):
            audit_ledger.compare(exports.bundle, other)
        with pytest.raises(NotComparable):
            audit_ledger.compare(other, exports.ledger)
    with pytest.raises(NotComparable, match="twice"):
        exports.compared(lambda rows: rows.append(rows[0]))


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("headers/0", b"{}"),
        ("headers/0", b'{"from_ms":"1","until_ms":2}'),
        ("records/1", b'{"kind":"call"}'),
        ("records/1", b'{"at_ms":1,"id":["x"],"kind":"call"}'),
        ("records/1", b'{"at_ms":"1","id":"x","kind":"call"}'),
        ("records/1", b"[1]"),
        ("records/1", b"no zlib"),
    ],
)
def test_a_bundle_of_whoever_made_it_up_is_refused_in_words(
    exports: Exports, tmp_path: Path, name: str, data: bytes
) -> None:
    exports.compared()
    kind = name.partition("/")[0]
    right = b'{"from_ms":1,"until_ms":2}\n'
    body = data + b"\n" if kind == "headers" or b"zlib" in data else zlib.compress(data)
    made = packed(tmp_path / "b.tar", {"headers/0": right, name: body})
    with pytest.raises(NotComparable):
        audit_ledger.compare(Path(made), exports.ledger)
