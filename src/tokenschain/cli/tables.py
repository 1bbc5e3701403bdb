"""What commands show: tables that fit the terminal, or tab-separated, JSON, CSV and YAML."""

from __future__ import annotations

import csv
import io
import re
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from enum import StrEnum
from functools import partial
from typing import Annotated, Any, NamedTuple

import msgspec
import typer
from rich.cells import cell_len, set_cell_size

from tokenschain.cli.language import told
from tokenschain.cli.output import console, errors
from tokenschain.core.pricing.catalog import format_pico
from tokenschain.core.spreadsheet import text_cell

Row = Mapping[str, Any]
"""One object of an answer of the admin API."""
CHINA = timezone(timedelta(hours=8), "Asia/Shanghai")
GAP = "  "
_COMMANDING = re.compile(r"[\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")
"""What JSON leaves as it is and a terminal obeys: second half of control codes, directions."""
SHORTENED_MIN = 12
"""Columns that are narrower than this are not shortened, but left out."""
BOM = "\ufeff"
"""Excel takes a CSV file without it for one in the system's old encoding."""
WHOLE = {"name", "model", "upstream", "tenant", "email", "prefix", "key", "day", "kind"}
"""Columns that are copied into the next command, besides ids."""
_MOMENTS_MS = {"started_ms", "at_ms", "from_ms", "until_ms", "first_ms", "last_ms"}
"""Times, besides what ends in `_at_ms`; other milliseconds are lengths of time."""
_FOREVER_MS = 2**53
"""Of what has no end; years that no calendar has."""
_CURRENCY_OF = {"charge_pico": "charge_currency"}
"""Where the currency of an amount is not in `currency`."""


class Format(StrEnum):
    """How what is found is shown."""

    TABLE = "table"
    WIDE = "wide"
    JSON = "json"
    CSV = "csv"
    EXCEL = "excel"
    YAML = "yaml"


Output = Annotated[
    Format,
    typer.Option(
        "-o",
        "--output-format",
        help="wide: every column; json and yaml: as the API says it; excel: CSV that Excel opens.",
    ),
]


def show(found: Sequence[Row] | Row, columns: Sequence[str], output: Format) -> None:
    """Show a list, or one object.

    Args:
        columns: of a list, the most telling first: those at the end are left out where the
            terminal is too narrow. Others are shown by `wide` and `csv`.
    """
    match output:
        case Format.JSON:
            text = msgspec.json.format(msgspec.json.encode(found), indent=2).decode()
            print(_COMMANDING.sub(lambda found: f"\\u{ord(found.group()):04x}", text))
        case Format.YAML:
            import yaml  # noqa: PLC0415 - slow to load

            text = yaml.safe_dump(found, allow_unicode=True, sort_keys=False)
            print(printable(text, keep="\n") if console.is_terminal else text, end="")
        case Format.CSV | Format.EXCEL:
            rows = [found] if isinstance(found, Mapping) else found
            text = _csv(rows, _all(rows, columns), for_excel=output is Format.EXCEL)
            sys.stdout.write(printable(text, keep="\r\n\t") if console.is_terminal else text)
        case _ if isinstance(found, Mapping):
            _show_object(found)
        case _:
            _show_list(found, columns, wide=output is Format.WIDE)


def nothing_found() -> None:
    """Say that a list is empty, where it does not disturb who reads the list."""
    errors.print(told("nothing found"), highlight=False)


# --- lists -----------------------------------------------------------------------------------


def _all(rows: Sequence[Row], first: Sequence[str]) -> list[str]:
    """These columns, and then all others that the rows have."""
    names = dict.fromkeys(name for row in rows for name in row)
    return [*first, *(name for name in names if name not in first)]


def _show_list(rows: Sequence[Row], columns: Sequence[str], *, wide: bool) -> None:
    if not rows:
        nothing_found()
        return
    every = _all(rows, columns)
    there = {name for row in rows for name in row} | {"state"}
    columns = [name for name in (every if wide or not columns else columns) if name in there]
    cells = [[cell(row, name) for name in columns] for row in rows]
    if not console.is_terminal:
        for line in ([*columns], *cells):
            print("\t".join(line))
        return
    headings = [heading(name) for name in columns]
    widths = [max(cell_len(line[at]) for line in (headings, *cells)) for at in range(len(columns))]
    if not wide:
        widths = fit(columns, widths, console.width)
    for at, line in enumerate((headings, *cells)):
        parts = [_sized(text, width) for text, width in zip(line, widths, strict=False)]
        text = GAP.join(parts).rstrip()
        console.print(
            text, style="bold" if at == 0 else None, highlight=False, markup=False,
            soft_wrap=True,
        )  # fmt: skip
    left_out = headings[len(widths) :]
    if left_out:
        errors.print(
            told("not shown: {columns} (-o wide)", columns=", ".join(left_out)),
            style="dim", highlight=False, markup=False, soft_wrap=True,
        )  # fmt: skip


def fit(columns: Sequence[str], widths: Sequence[int], available: int) -> list[int]:
    """How wide each column is shown; those at the end that do not fit are missing.

    Columns are left out from the end until ids fit whole and the others not too short; then the
    widest of the others are shortened.
    """
    whole = [_is_whole(name) for name in columns]
    least = [
        width if kept else min(width, SHORTENED_MIN)
        for width, kept in zip(widths, whole, strict=True)
    ]
    count = len(columns)
    while count > 1 and sum(least[:count]) + len(GAP) * (count - 1) > available:
        count -= 1
    found = list(widths[:count])
    over = sum(found) + len(GAP) * (count - 1) - available
    while over > 0:
        at = max(range(count), key=lambda i: -1 if whole[i] else found[i] - least[i])
        if whole[at] or found[at] <= least[at]:
            break
        found[at] -= 1
        over -= 1
    return found


def _is_whole(name: str) -> bool:
    """Ids, amounts, times and counts say something wrong when they are cut."""
    return name in WHOLE or name.endswith(("id", "_pico", "_s", "_ms", "_tokens"))


def _sized(text: str, width: int) -> str:
    if cell_len(text) > width:
        text = set_cell_size(text, width - 1).rstrip() + "…"
    return text + " " * (width - cell_len(text))


def heading(name: str) -> str:
    """The heading of a column: its field without the unit, in the reader's language."""
    words = name
    for unit in ("_pico", "_at_s", "_at_ms", "_s", "_ms", "_micro"):
        words = words.removesuffix(unit)
    return told(words.replace("_", " "))


# --- one object ------------------------------------------------------------------------------


def _show_object(found: Row) -> None:
    tables = {name: value for name, value in found.items() if _is_table(value)}
    names = [name for name in found if name not in tables]
    if not console.is_terminal:
        for name in names:
            print(f"{name}\t{cell(found, name)}")
    else:
        headings = {name: heading(name) for name in names}
        width = max((cell_len(text) for text in headings.values()), default=0)
        for name, text in headings.items():
            console.print(
                _sized(text, width) + GAP + cell(found, name), highlight=False, markup=False,
                soft_wrap=True,
            )  # fmt: skip
    for name, rows in tables.items():
        print(f"\n{heading(name) if console.is_terminal else name}")
        _show_list(rows, _all(rows, ()), wide=False)


def _is_table(value: object) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(one, dict) for one in value)


# --- CSV -------------------------------------------------------------------------------------


def _csv(rows: Sequence[Row], columns: Sequence[str], *, for_excel: bool) -> str:
    found = [one for name in columns for one in _csv_columns(rows, name, for_excel=for_excel)]
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\r\n" if for_excel else "\n")
    writer.writerow([one.heading for one in found])
    for row in rows:
        writer.writerow([text_cell(one.cell(row)) for one in found])
    return (BOM if for_excel else "") + out.getvalue()


class _CsvColumn(NamedTuple):
    heading: str
    cell: Callable[[Row], str]


def _csv_columns(rows: Sequence[Row], name: str, *, for_excel: bool) -> list[_CsvColumn]:
    """What becomes of a field: amounts are plain numbers, by currency where the field has several,
    and their heading says the currency where no other column does."""
    shown = heading(name) if for_excel else name.replace("_pico", "")
    if "_pico" not in name:
        return [_CsvColumn(heading(name) if for_excel else name, partial(cell, name=name))]
    amounts = [row[name] for row in rows if isinstance(row.get(name), Mapping)]
    if amounts:
        currencies = sorted({one for amount in amounts for one in amount} or {"CNY"})
        return [
            _CsvColumn(f"{shown} ({one})" if for_excel else f"{shown}_{one.lower()}",
                       partial(_amount_of, name=name, currency=one))
            for one in currencies
        ]  # fmt: skip
    alone = not any(_CURRENCY_OF.get(name, "currency") in row for row in rows)
    if alone and not shown.lower().endswith("cny"):
        shown = f"{shown} (CNY)" if for_excel else f"{shown}_cny"
    return [_CsvColumn(shown, partial(cell, name=name, bare=True))]


def _amount_of(row: Row, name: str, currency: str) -> str:
    amount = (row.get(name) or {}).get(currency)
    return "" if amount is None else money(amount, currency, bare=True)


# --- cells -----------------------------------------------------------------------------------


def cell(row: Row, name: str, *, bare: bool = False) -> str:
    """A value as a person reads it: money in units of its currency, times in China's.

    Args:
        bare: an amount without its currency, which has a column of its own.
    """
    if name == "state" and name not in row:
        return told(state_of(row, time.time()))
    value = row.get(name)
    if value is None or value == "":
        return ""
    if "_pico" in name:
        return money(value, str(row.get(_CURRENCY_OF.get(name, "currency")) or "CNY"), bare=bare)
    if type(value) is int and name.endswith("_micro"):
        return _micro(value)
    if type(value) is int and name.endswith(("_at_s", "at_s", "from_s", "until_s")):
        return moment(value)
    if type(value) is int and (name in _MOMENTS_MS or name.endswith("_at_ms")):
        return moment(value / 1_000, milliseconds=True) if value < _FOREVER_MS else ""
    if name == "price" and isinstance(value, dict) and "tiers" in value:
        return _price(value)
    if name == "offers" and isinstance(value, list):
        return ", ".join(str(offer["upstream"]) for offer in value)
    return printable(_words(value, name))


def _price(price: Row) -> str:
    """A price list by 1,000,000 tokens: input, output and cached input of each tier."""
    tiers = []
    for tier in price["tiers"]:
        amounts = [tier["input"], tier["output"], tier.get("cached_input")]
        tiers.append(" / ".join(_micro(amount) for amount in amounts if amount is not None))
    return f"{'; '.join(tiers)} {price['currency']}"


def _words(value: object, name: str) -> str:
    if isinstance(value, bool):
        return told("yes") if value else told("no")
    if isinstance(value, float):
        return f"{value:.1f}" if name.endswith("_ms") else f"{value:.4g}"
    if isinstance(value, list) and not any(isinstance(one, (dict, list)) for one in value):
        return ", ".join(map(str, value))
    if isinstance(value, dict):
        told_of = {
            key: one for key, one in value.items() if one is not None and one not in ("", [], {})
        }
        return ", ".join(f"{key}: {_inner(one)}" for key, one in told_of.items())
    if isinstance(value, list):
        return "; ".join(_words(one, name) for one in value)
    return str(value)


def _inner(value: object) -> str:
    """A value within another: in brackets, where it has parts itself."""
    words = _words(value, "")
    return f"({words})" if isinstance(value, (dict, list)) and value else words


def state_of(row: Row, now_s: float) -> str:
    """What has become of a key, token, user or unit."""
    for name in ("revoked", "disabled", "closed"):
        if row.get(f"{name}_at_s") is not None:
            return name
    expires_s = row.get("expires_at_s")
    return "expired" if expires_s is not None and expires_s <= now_s else "active"


def money(amount: int | Mapping[str, int], currency: str, *, bare: bool = False) -> str:
    """An amount of pico-units exactly, as `12.5 CNY`; of several currencies, one after another."""
    if isinstance(amount, Mapping):
        there = {name: value for name, value in amount.items() if value}
        some = there or {name: 0 for name in sorted(amount) if name}
        return ", ".join(money(value, name) for name, value in some.items()) or "0"
    text = format_pico(amount, currency)
    return text.partition(" ")[0] if bare else text


def _micro(amount: int) -> str:
    return f"{Decimal(amount).scaleb(-6).normalize():f}"


def moment(at_s: float, *, milliseconds: bool = False) -> str:
    """A time in China, as `2026-11-27 12:35:12`."""
    at = datetime.fromtimestamp(at_s, CHINA).replace(tzinfo=None)
    return at.isoformat(" ", "milliseconds" if milliseconds else "seconds")


def printable(text: str, keep: str = "") -> str:
    """A text on one line and without what a terminal would obey.

    Args:
        keep: what stays all the same, as line feeds.
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in keep else " " for c in text)


# --- again and again -------------------------------------------------------------------------


def watch(every_s: float | None, once: Callable[[], None]) -> None:
    """Show something once, or again and again until Ctrl-C."""
    while True:
        if every_s is not None and console.is_terminal:
            console.clear()
        once()
        if every_s is None:
            return
        sys.stdout.flush()
        try:
            time.sleep(every_s)
        except KeyboardInterrupt:
            return
