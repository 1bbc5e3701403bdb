"""Parquet export of rows; the only owner of that library."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq


def encode(pages: Iterable[list[dict[str, Any]]]) -> Iterator[bytes]:
    """All rows in one file, a page a row group, piece by piece; amounts of money as decimals of
    38 digits."""
    out = _Pieces()
    writer: pq.ParquetWriter | None = None
    schema: pa.Schema | None = None
    for rows in pages:
        if schema is None:
            schema = pa.schema([(name, _kind(name, value)) for name, value in rows[0].items()])
            writer = pq.ParquetWriter(out, schema, compression="zstd")
        assert writer is not None
        writer.write_table(pa.Table.from_pylist([_row(row) for row in rows], schema))
        yield out.take()
    if writer is None:
        pq.write_table(pa.table({}), out)
    else:
        writer.close()
    yield out.take()


class _Pieces(io.RawIOBase):
    """A file that is sent as it is written."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []
        self._at = 0

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self._pieces.append(bytes(data))
        self._at += len(self._pieces[-1])
        return len(self._pieces[-1])

    def tell(self) -> int:
        return self._at

    def take(self) -> bytes:
        """What was written since it was last asked."""
        found = b"".join(self._pieces)
        self._pieces.clear()
        return found


def _row(row: dict[str, Any]) -> dict[str, Any]:
    return {
        name: Decimal(value) if name.endswith("_pico") and value is not None else value
        for name, value in row.items()
    }


def _kind(name: str, value: Any) -> pa.DataType:
    if name.endswith("_pico"):
        return pa.decimal128(38, 0)
    if isinstance(value, float) or name in ("first_token_ms", "total_ms", "route_propensity"):
        return pa.float64()
    if isinstance(value, bool):
        return pa.bool_()
    return pa.int64() if isinstance(value, int) else pa.string()
