"""Plots: files that are the same each time, and a clear word where matplotlib is missing."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tokenschain.cli import plots


def test_a_plot_is_an_svg_that_is_the_same_each_time(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        file = tmp_path / folder / "plot.svg"
        plots.shares(file, [("ours", [(0.0, 0.0), (0.5, 0.9), (1.0, 1.0)])], "ROC", "x", "y")
    first, second = (tmp_path / folder / "plot.svg" for folder in ("a", "b"))
    assert first.read_bytes() == second.read_bytes()
    assert b"<svg" in first.read_bytes() and b"ours" in first.read_bytes()


def test_without_matplotlib_it_is_said_before_the_work_begins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(plots.PlotsMissing, match=r"pip install 'tokenschain\[plots\]'"):
        plots.check_available()
    script = (
        "import sys; sys.modules['matplotlib.figure'] = None; "
        f"sys.argv = ['tokenschain', 'simulate', 'steady', '--out', {str(tmp_path)!r}]; "
        "from tokenschain.cli import main; main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, cwd=tmp_path
    )
    assert done.returncode == 2 and "tokenschain[plots]" in done.stderr, done.stderr
    assert "Traceback" not in done.stderr
