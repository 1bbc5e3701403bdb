"""The world in virtual time: repeatable, and worth believing where it can be checked."""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree

import pytest
from typer.testing import CliRunner

from tokenschain.cli import app
from tokenschain.simulation import report, scenarios, traces
from tokenschain.simulation.engines import A100_TP2, H100, Fault
from tokenschain.simulation.world import CLOUDS, Setup, capacity, simulate


def setup(policy: str, load: float, calls: int = 500, seed: int = 1, **more: object) -> Setup:
    trace = traces.made_up(calls, seed)
    trace = traces.at_rate(trace, load * capacity(CLOUDS, trace))
    return Setup(trace, policy, seed, **more)  # type: ignore[arg-type]


def test_the_same_setup_gives_the_same_result() -> None:
    assert simulate(setup("balanced", 0.7)) == simulate(setup("balanced", 0.7))


def test_every_call_is_accounted_for_and_none_fails_below_capacity() -> None:
    seen = simulate(setup("balanced", 0.6))
    assert len(seen) == 500 and {s.outcome for s in seen} == {"ok"}
    assert all(s.first_token_s is not None and s.cost_yuan > 0 for s in seen)


def test_overload_is_refused_and_not_waited_for() -> None:
    ours = setup("balanced", 1.5, 1_500)
    theirs = setup("least-request", 1.5, 1_500)
    mine, other = report.figures(ours, simulate(ours)), report.figures(theirs, simulate(theirs))
    assert mine.shed > 0.1 and other.shed == 0
    assert mine.goodput > 1.5 * other.goodput
    assert mine.p99_s < 0.5 * other.p99_s


def test_twice_the_calls_do_not_lower_goodput_though_prompts_are_long() -> None:
    found = {}
    for load in (1.0, 2.0):
        trace = [a._replace(prompt_tokens=8 * a.prompt_tokens) for a in traces.made_up(1_500, 1)]
        whole = setup("balanced", load)._replace(
            trace=traces.at_rate(trace, load * capacity(CLOUDS, trace))
        )
        found[load] = report.figures(whole, simulate(whole))
    assert found[2.0].goodput >= 0.95 * found[1.0].goodput


def test_streams_that_all_break_off_at_once_go_on_elsewhere() -> None:
    whole = setup("balanced", 0.6, 1_500)
    span_s = whole.trace[-1].at_s
    lost = [Fault(name, "down", 0.5 * span_s, 0.6 * span_s) for name in ("volcano", "baidu")]
    seen = simulate(whole._replace(faults=lost))
    assert {s.outcome for s in seen} <= {"ok", "overloaded"}
    assert sum(s.outcome == "ok" for s in seen) > 0.99 * len(seen)
    assert sum(s.attempts > 1 for s in seen) > 20


def test_it_is_cheaper_than_least_request_without_being_late() -> None:
    ours, theirs = setup("balanced", 0.6, 1_000), setup("least-request", 0.6, 1_000)
    mine, other = report.figures(ours, simulate(ours)), report.figures(theirs, simulate(theirs))
    assert mine.yuan_per_million < other.yuan_per_million
    assert mine.in_time >= 0.99


@pytest.mark.parametrize("kind", ["down", "error", "black hole", "429", "cut", "slow"])
def test_a_fault_of_one_cloud_reaches_no_caller(kind: str) -> None:
    whole = setup("balanced", 0.4, 600)
    span_s = whole.trace[-1].at_s
    faults = (Fault("alibaba", kind, 0.3 * span_s, 0.6 * span_s),)
    seen = simulate(whole._replace(faults=faults))
    assert {s.outcome for s in seen} == {"ok"}
    assert max(s.first_token_s or 0 for s in seen) < 5
    assert any(s.attempts > 1 for s in seen)


def test_steps_follow_the_measured_curves() -> None:
    assert H100.step(64) == pytest.approx(29.7 + 0.32 * 64)
    assert A100_TP2.step(32) == 144.0 and A100_TP2.step(6) == pytest.approx(68.95)
    assert A100_TP2.step(128) == 2 * A100_TP2.step(64)


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
    plain = traces.at_rate(traces.made_up(1_000, 1), 10)
    sale = traces.flash_sale(plain)
    assert len(sale) == 1_000
    assert sale[-1].at_s == pytest.approx(plain[-1].at_s * 0.82)
    assert [a.at_s for a in sale] == sorted(a.at_s for a in sale)


@pytest.mark.parametrize("name", scenarios.SCENARIOS)
def test_every_scenario_runs(name: str) -> None:
    runs = scenarios.setups(name, traces.made_up(400, 1), ["balanced"], 120, 1, None, 2)
    seen = simulate(runs["balanced"][0])
    assert len(seen) >= 100


def test_the_command_prints_a_table_and_draws(tmp_path: Path) -> None:
    arguments = ["simulate", "steady", "--calls", "60", "--seeds", "2", "--policy", "balanced",
                 "--policy", "round-robin", "--out", str(tmp_path)]  # fmt: skip
    done = CliRunner().invoke(app, arguments, env={"COLUMNS": "200"})
    assert done.exit_code == 0, done.output
    assert "balanced" in done.output and "round-robin" in done.output
    assert (tmp_path / "steady.md").read_text().count("|") > 20
    for name in ("steady-first-token.svg", "steady-cost.svg"):
        assert ElementTree.parse(tmp_path / name).getroot().tag.endswith("svg")
    wrong = CliRunner().invoke(app, ["simulate", "stedy"])
    assert wrong.exit_code == 2 and "did you mean steady" in wrong.output
    missing = CliRunner().invoke(app, ["simulate", "--trace", str(tmp_path / "none.csv")])
    assert missing.exit_code == 2
