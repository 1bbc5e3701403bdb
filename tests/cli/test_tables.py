"""What commands show: ids are never broken, money is exact, times are China's."""

from __future__ import annotations

import csv
import io
import json
import random

import pytest
import yaml

from tests.cli.shell import terminal
from tokenschain.cli import tables
from tokenschain.cli.tables import BOM, GAP, Format

ROWS = [
    {"id": "key_0123456789abcdef", "name": "nightly", "tenant": "acme", "model": "通义千问",
     "detail": "a long sentence that says much, and could be said in fewer words",
     "charge_pico": 49_500_000, "charge_currency": "CNY", "created_at_s": 1_764_000_000},
    {"id": "key_x", "name": "n", "tenant": "杭州", "model": "m", "detail": "=1+1\ttab\x1b[31m",
     "charge_pico": -12_500_000_000_000, "charge_currency": "USD", "created_at_s": None},
]  # fmt: skip
COLUMNS = ("id", "tenant", "detail", "charge_pico", "created_at_s", "model")


def shown(capsys: pytest.CaptureFixture[str], output: Format, rows: object = ROWS) -> str:
    capsys.readouterr()
    tables.show(rows, COLUMNS, output)  # type: ignore[arg-type]
    return capsys.readouterr().out


@pytest.mark.parametrize("width", [200, 100, 80, 60, 40, 20])
def test_a_table_fits_and_breaks_no_id(
    width: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with terminal(monkeypatch, width):
        tables.show(ROWS, COLUMNS, Format.TABLE)
    found = capsys.readouterr()
    lines = found.out.splitlines()
    assert len(lines) == 3, "one line a row"
    assert lines[1].startswith("key_0123456789abcdef") and "\x1b" not in found.out
    assert all(tables.cell_len(line) <= max(width, 20) for line in lines)
    assert ("-o wide" in found.err) == (width < 100), (lines, "what is left out is said")
    if width >= 200:
        assert "0.0000495 CNY" in lines[1] and "2025-11-25 00:00:00" in lines[1]


def test_columns_are_shortened_before_they_are_left_out_and_ids_never() -> None:
    drawn = random.Random(7)
    for _ in range(500):
        names = [
            drawn.choice(["id", "model", "detail", "reason", "a_id", "text"]) for _ in range(6)
        ]
        widths = [drawn.randint(1, 60) for _ in names]
        available = drawn.randint(10, 200)
        found = tables.fit(names, widths, available)
        assert 1 <= len(found) <= len(names)
        for name, width, given in zip(names, widths, found, strict=False):
            assert given == width or not tables._is_whole(name)
            assert given >= min(width, tables.SHORTENED_MIN)
        fits = sum(found) + len(GAP) * (len(found) - 1) <= available
        assert fits or len(found) == 1


def test_what_is_no_terminal_gets_tabs_and_names_of_fields(
    capsys: pytest.CaptureFixture[str],
) -> None:
    head, first, second = shown(capsys, Format.TABLE).splitlines()
    assert head.split("\t") == list(COLUMNS)
    assert first.split("\t")[2] == ROWS[0]["detail"], "nothing is shortened"
    assert second.split("\t")[2:4] == ["=1+1 tab [31m", "-12.5 USD"]


def test_json_and_yaml_are_raw(capsys: pytest.CaptureFixture[str]) -> None:
    assert json.loads(shown(capsys, Format.JSON)) == ROWS
    assert yaml.safe_load(shown(capsys, Format.YAML)) == ROWS
    assert json.loads(shown(capsys, Format.JSON, [])) == []


def test_no_form_commands_a_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    evil = "a\x1b]52;c;ZXZpbA==\x07b\x9b31mc\u202egpj.exe\x7f"
    rows = [{"id": "key_1", "name": evil}]
    with terminal(monkeypatch, 100):
        for output in Format:
            text = shown(capsys, output, rows)
            assert not any(c in text for c in "\x1b\x07\x9b\u202e\x7f"), output
            assert "key_1" in text
    assert json.loads(shown(capsys, Format.JSON, rows)) == rows


def test_csv_has_every_column_exact_numbers_and_no_formula(
    capsys: pytest.CaptureFixture[str],
) -> None:
    text = shown(capsys, Format.CSV)
    rows = list(csv.DictReader(io.StringIO(text)))
    assert set(rows[0]) == set(ROWS[0]) - {"charge_pico"} | {"charge"}
    assert [row["charge"] for row in rows] == ["0.0000495", "-12.5"]
    assert [row["charge_currency"] for row in rows] == ["CNY", "USD"]
    assert rows[1]["detail"].startswith("'=")
    excel = shown(capsys, Format.EXCEL)
    assert excel.startswith(BOM) and "\r\n" in excel and "杭州" in excel


def test_csv_says_the_currency_in_the_heading_where_no_column_does(
    capsys: pytest.CaptureFixture[str],
) -> None:
    wallet = {"tenant": "shop", "credit_pico": 5 * 10**12, "credited_pico_cny": 10**12,
              "balances_pico": {"CNY": 1_003_490_000_000_000, "USD": 0}}  # fmt: skip
    tables.show(wallet, (), Format.CSV)
    (row,) = csv.DictReader(io.StringIO(capsys.readouterr().out))
    assert row == {
        "tenant": "shop", "credit_cny": "5", "credited_cny": "1", "balances_cny": "1003.49",
        "balances_usd": "0",
    }  # fmt: skip
    tables.show(wallet, (), Format.EXCEL)
    assert "balances (CNY)" in capsys.readouterr().out.splitlines()[0]


def test_times_are_shown_as_times_and_lengths_as_numbers() -> None:
    row = {"changed_at_ms": 1_764_000_000_000, "until_ms": 2**53, "from_ms": 0, "total_ms": 1_200}
    shown = {name: tables.cell(row, name) for name in row}
    assert shown["changed_at_ms"].startswith("2025-11-25 00:00:00") and shown["until_ms"] == ""
    assert shown["from_ms"].startswith("1970-01-01") and shown["total_ms"] == "1200"


def test_an_empty_list_says_so_beside(capsys: pytest.CaptureFixture[str]) -> None:
    tables.show([], COLUMNS, Format.TABLE)
    found = capsys.readouterr()
    assert (found.out, found.err.strip()) == ("", "nothing found")


def test_one_object_is_shown_by_its_fields(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    found = {"id": "x", "balances_pico": {"CNY": 10**13, "USD": 5}, "attempts": [{"upstream": "a"}]}
    tables.show(found, (), Format.TABLE)
    lines = capsys.readouterr().out.splitlines()
    assert lines[:2] == ["id\tx", "balances_pico\t10 CNY, 0.000000000005 USD"]
    assert lines[-3:] == ["attempts", "upstream", "a"]
    with terminal(monkeypatch, 80):
        tables.show(found, (), Format.TABLE)
    assert "balances  10 CNY" in capsys.readouterr().out


def test_states_are_told_from_times() -> None:
    assert tables.state_of({"revoked_at_s": 1, "expires_at_s": 1}, 5) == "revoked"
    assert tables.state_of({"revoked_at_s": None, "expires_at_s": 1}, 5) == "expired"
    assert tables.state_of({"expires_at_s": 9}, 5) == "active"
    assert tables.state_of({"closed_at_s": 3}, 5) == "closed"
