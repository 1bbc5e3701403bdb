"""Offline comparison of an audit bundle with an exported ledger: each call is in both, and says the
same.

The bundle is `audit export`, the ledger the CSV of `calls export` of the same time. Neither a
database nor a network is asked; whether the bundle itself is right is for `cli.audit_verify`.
"""

from __future__ import annotations

import csv
import json
import sys
import tarfile
import unicodedata
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tokenschain.cli.audit_verify import FILE_BYTES_MAX
from tokenschain.core.audit import records
from tokenschain.core.audit.receipt import DUE_MS
from tokenschain.core.spreadsheet import text_cell

CALLS_MAX = 5_000_000
"""Of a file; more are compared day by day."""
NAMED_MAX = 200
"""Differences that are named one by one; all are counted."""
_COMPARED = (
    "tenant", "project", "key_id", "model_asked", "model_served", "upstream", "status", "outcome",
    "prompt_tokens", "completion_tokens",
)  # fmt: skip
_PLATFORM = ("cost_pico", "currency")
"""Compared too where the file has them: what the platform alone is shown."""
_CHARGED = ("charge_pico", "charge_currency", "charge_version")
"""May differ where new prices were applied, by another version of them."""


class NotComparable(Exception):
    """One of the files is not what it should be; the text says why."""


def compare(bundle: Path, calls: Path) -> dict[str, Any]:
    """The report: counts of both sides, and what differs.

    Calls that began before the bundle does are not looked at. Those that began less than an hour
    before its end may be sealed behind it, and are `waiting`.

    Raises:
        NotComparable: a file is none of those.
    """
    columns, rows = _read_calls(calls)
    from_ms, until_ms = _span(bundle)
    counts = {"not_in_log": 0, "not_in_ledger": 0, "changed": 0, "rerated": 0}
    named: list[dict[str, Any]] = []
    in_log = waiting = 0

    def differs(kind: str, call: str, segment: int | None, fields: list[str]) -> None:
        counts[kind] += 1
        if len(named) < NAMED_MAX:
            named.append({"kind": kind, "call": call, "segment": segment, "fields": fields})

    seen = 0
    for segment, call in sealed_calls(bundle):
        row = rows.pop(call["id"], None)
        if row is None and call["at_ms"] < from_ms:
            continue
        in_log += 1
        if row is None:
            differs("not_in_ledger", call["id"], segment, [])
            continue
        seen += 1
        wrong = [name for name, value in zip(columns, row[1:], strict=True)
                 if value != _cell(call.get(name))]  # fmt: skip
        wrong += ["started_ms"] * (row[0] != str(call["at_ms"]))
        if wrong:
            rerated = "charge_version" in wrong and set(wrong) <= set(_CHARGED)
            differs("rerated" if rerated else "changed", call["id"], segment, wrong)
    for name, row in rows.items():
        began_ms = int(row[0])
        if began_ms >= until_ms - DUE_MS:
            waiting += 1
        elif began_ms >= from_ms:
            differs("not_in_log", name, None, [])
        else:
            continue
        seen += 1
    agrees = not any(count for kind, count in counts.items() if kind != "rerated")
    return {
        "agrees": agrees, "from_ms": from_ms, "until_ms": until_ms, "calls_in_log": in_log,
        "calls_in_ledger": seen, "waiting": waiting, "counts": counts, "differences": named,
        "compared": columns,
    }  # fmt: skip


def _read_calls(path: Path) -> tuple[list[str], dict[str, tuple[str, ...]]]:
    """What is compared of each call by its id, behind the moment it began."""
    wanted = (*_COMPARED, *_PLATFORM, *_CHARGED)
    found: dict[str, tuple[str, ...]] = {}
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, strict=True)
            heading = reader.fieldnames or ["event_id", "started_ms"]
            if not {"event_id", "started_ms"} <= set(heading):
                raise NotComparable(f"{path.name} is no export of calls")
            columns = [name for name in wanted if name in heading]
            for row in reader:
                values = tuple(sys.intern(_text(row[name])) for name in columns)
                if row["event_id"] in found:
                    raise NotComparable(f"the ledger has {row['event_id'][:60]} twice")
                found[row["event_id"]] = (str(int(row["started_ms"])), *values)
                if len(found) > CALLS_MAX:
                    raise NotComparable(f"more than {CALLS_MAX} calls: export fewer days")
    except (OSError, ValueError, LookupError, TypeError, csv.Error) as error:
        raise NotComparable(f"{path.name} is no export of calls: {error}") from None
    return columns, found


def _text(value: str) -> str:
    return unicodedata.normalize("NFC", value)


def _cell(value: object) -> str:
    """A value of the log as the export has it."""
    return "" if value is None else text_cell(value) if isinstance(value, str) else str(value)


def _span(bundle: Path) -> tuple[int, int]:
    moments = [
        header[name]
        for _, data in _files(bundle, "headers")
        for header in (
            _object(line, {"from_ms": int, "until_ms": int}) for line in data.split(b"\n")[:-1]
        )
        for name in ("from_ms", "until_ms")
    ]
    if not moments:
        raise NotComparable("the bundle has no segments")
    return min(moments), max(moments)


def sealed_calls(bundle: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """The calls of a bundle with the segment of each; platform's part and record in one.

    Raises:
        NotComparable: it cannot be read as one.
    """
    for number, data in _files(bundle, "records"):
        inflate = zlib.decompressobj()
        try:
            lines = inflate.decompress(data, FILE_BYTES_MAX).split(b"\n")
        except zlib.error:
            raise NotComparable(f"segment {number} cannot be decompressed") from None
        if not inflate.eof:
            raise NotComparable(f"segment {number} is too long")
        for line in lines:
            record, part = records.split(line)
            found = _object(record, {})
            if found.get("kind") == records.CALL:
                found |= _object(part, {}) if part else {}
                yield number, _insisted(found, {"id": str, "at_ms": int})


def _files(bundle: Path, kind: str) -> Iterator[tuple[int, bytes]]:
    try:
        with tarfile.open(bundle, mode="r|") as tar:
            for one in tar:
                of, _, number = one.name.partition("/")
                if of != kind or not number.isdigit():
                    continue
                file = tar.extractfile(one) if one.size <= FILE_BYTES_MAX else None
                if file is None:
                    raise NotComparable(f"{one.name[:60]!r} is no file, or too large")
                yield int(number), file.read()
    except (OSError, tarfile.TarError, EOFError, RecursionError) as error:
        raise NotComparable(f"{bundle.name} is no bundle: {error}") from None


def _object(data: bytes, fields: Mapping[str, type]) -> dict[str, Any]:
    try:
        found = json.loads(data)
    except (ValueError, RecursionError):
        found = None
    return _insisted(found, fields)


def _insisted(found: object, fields: Mapping[str, type]) -> dict[str, Any]:
    """An object that has these fields, of these types: enough to compare it."""
    if not isinstance(found, dict) or any(type(found.get(n)) is not t for n, t in fields.items()):
        raise NotComparable("a record or header that is no JSON object, or lacks what is compared")
    return found
