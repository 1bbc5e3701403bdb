"""`tokenschain simulate`: its table and its plots."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

from typer.testing import CliRunner

from tokenschain.cli import app


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
