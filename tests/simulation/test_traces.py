"""Traces are read by their format, and reshaped without losing a call."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tokenschain.simulation import traces


def test_traces_are_read_by_their_form(tmp_path: Path) -> None:
    azure = tmp_path / "a.csv"
    azure.write_text(
        "TIMESTAMP,ContextTokens,GeneratedTokens\n"
        "2023-11-16 18:15:46.6805900,374,44\n2023-11-16 18:15:48.1805900,396,109\n"
    )
    first, second = traces.load(azure)
    assert (first.at_s, first.prompt_tokens, first.output_tokens) == (0.0, 374, 44)
    assert second.at_s == pytest.approx(1.5)
    mooncake = tmp_path / "m.jsonl"
    line = {"timestamp": 3_000, "input_length": 1_024, "output_length": 9, "hash_ids": [1, 2]}
    mooncake.write_text(json.dumps(line) + "\n")
    (found,) = traces.load(mooncake)
    assert (found.at_s, found.blocks, found.block_tokens) == (3.0, (1, 2), 512)
    bailian = tmp_path / "b.jsonl"
    line |= {"timestamp": 3.5, "input_length": 32, "chat_id": 1, "turn": 1}
    bailian.write_text(json.dumps(line) + "\n")
    (found,) = traces.load(bailian)
    assert (found.at_s, found.block_tokens) == (3.5, 16)
    with pytest.raises(ValueError, match="a trace is"):
        traces.load(tmp_path / "x.parquet")


def test_a_flash_sale_squeezes_a_part_into_a_tenth() -> None:
    plain = traces.at_rate(traces.synthetic(1_000, 1), 10)
    sale = traces.flash_sale(plain)
    assert len(sale) == 1_000
    assert sale[-1].at_s == pytest.approx(plain[-1].at_s * 0.82)
    assert [a.at_s for a in sale] == sorted(a.at_s for a in sale)
