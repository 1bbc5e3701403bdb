"""Traces are read by their format, and reshaped without losing a call."""

from __future__ import annotations

import json
import statistics
from itertools import pairwise
from pathlib import Path

import msgspec
import pytest

from tokenschain.core.call_record import CallRecord
from tokenschain.infra.journal import Journal, JournalLimits
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


def test_a_journal_is_a_trace_also_while_it_is_written(tmp_path: Path) -> None:
    owned = Journal(tmp_path / "0" / "journal", JournalLimits(segment_bytes=65_536))
    records = (
        CallRecord("b", 8_500, "openai.chat", "acme", prompt_tokens=40, completion_tokens=7),
        CallRecord("a", 7_000, "openai.chat", "acme", prompt_tokens=30, completion_tokens=0),
        CallRecord("c", 7_100, "openai.chat", outcome="invalid_api_key"),
    )
    for record in records:
        owned.append(msgspec.msgpack.encode(record))
    first, second = traces.load(tmp_path / "0")
    assert (first.at_s, first.prompt_tokens, first.output_tokens) == (0.0, 30, 1)
    assert (second.at_s, second.prompt_tokens, second.tenant) == (1.5, 40, "acme")
    (segment,) = (tmp_path / "0").rglob("*.segment")
    assert traces.load(segment) == [first, second]
    owned.close()
    segment.write_bytes(segment.read_bytes().replace(b"acme", b"acne", 1))
    with pytest.raises(ValueError, match="damaged"):
        traces.load(segment)


@pytest.mark.parametrize(
    ("name", "text", "why"),
    [
        ("a.csv", "TIMESTAMP,Tokens\n2026-11-27 09:00:00.000,1\n", "no column 'ContextTokens'"),
        ("a.csv", "TIMESTAMP,ContextTokens,GeneratedTokens\n", "no calls"),
        ("a.csv", "TIMESTAMP,ContextTokens,GeneratedTokens\n2026-11-27 09:00:00.0,1\n", "a.csv"),
        ("a.jsonl", '{"timestamp": 1}\n', "input_length"),
        ("a.segment", "", "no calls"),
    ],
)
def test_what_is_wrong_with_a_trace_is_said(tmp_path: Path, name: str, text: str, why: str) -> None:
    file = tmp_path / name
    file.write_text(text)
    with pytest.raises(ValueError, match=why):
        traces.load(file)


def test_bursts_are_the_same_calls_at_the_same_mean_rate() -> None:
    plain = traces.at_rate(traces.synthetic(1_000, 1), 10)
    for shape in (traces.gamma_gaps(plain, 3, 1), traces.on_off(plain, 1)):
        assert [a.prompt_tokens for a in shape] == [a.prompt_tokens for a in plain]
        assert shape[-1].at_s == pytest.approx(plain[-1].at_s, rel=0.01)
        gaps = [b.at_s - a.at_s for a, b in pairwise(shape)]
        assert statistics.stdev(gaps) > 2 * statistics.fmean(gaps)


def test_a_flash_sale_squeezes_a_part_into_a_tenth() -> None:
    plain = traces.at_rate(traces.synthetic(1_000, 1), 10)
    sale = traces.flash_sale(plain)
    assert len(sale) == 1_000
    assert sale[-1].at_s == pytest.approx(plain[-1].at_s * 0.82)
    assert [a.at_s for a in sale] == sorted(a.at_s for a in sale)
