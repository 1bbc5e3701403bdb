"""Command that compares routing policies in simulation."""

from __future__ import annotations

import difflib
import os
from collections.abc import Collection
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import Progress

from tokenschain.cli import tables
from tokenschain.cli.language import told
from tokenschain.cli.output import errors
from tokenschain.cli.tables import Format, Output
from tokenschain.infra import config


def simulate(
    scenario: Annotated[str, typer.Argument(help="Which; `list` names them.")] = "steady",
    policy: Annotated[
        list[str] | None, typer.Option(help="A policy or baseline; several times. Default: all.")
    ] = None,
    trace: Annotated[
        Path | None,
        typer.Option(help="Arrivals: a journal, Azure's .csv, Mooncake's or Bailian's .jsonl."),
    ] = None,
    ledger: Annotated[bool, typer.Option(help="Arrivals from this platform's own ledger.")] = False,
    load: Annotated[
        float | None, typer.Option(min=0.01, max=10, help="Share of all machines' capacity.")
    ] = None,
    calls: Annotated[int, typer.Option(min=10, max=1_000_000, help="Calls a run.")] = 2_000,
    seeds: Annotated[int, typer.Option(min=1, max=100, help="Runs, each with other calls.")] = 5,
    replicas: Annotated[int, typer.Option(min=1, max=64, help="Gateways, each on its own.")] = 2,
    out: Annotated[Path | None, typer.Option(help="Folder for the table and plots.")] = None,
    output_format: Output = Format.TABLE,
) -> None:
    """Compare routing policies in virtual time over modelled clouds."""
    from tokenschain.cli import plots  # noqa: PLC0415 - loads the simulation
    from tokenschain.simulation import report, scenarios, traces  # noqa: PLC0415 - slow to load

    if scenario == "list":
        known = [
            {"name": name, "load": found.load, "what happens": found.meaning}
            for name, found in scenarios.SCENARIOS.items()
        ]
        tables.show(known, ("name", "load", "what happens"), output_format)
        return
    _known(scenario, scenarios.SCENARIOS, "scenario")
    policies = policy or list(scenarios.ALL_POLICIES)
    for name in policies:
        _known(name, scenarios.ALL_POLICIES, "policy")
    try:
        if trace is not None:
            arrivals = traces.load(trace)
        elif ledger:
            arrivals = traces.from_ledger(config.load(), calls * seeds)
        else:
            arrivals = traces.synthetic(calls * seeds * 2, 1)
    except (OSError, ValueError) as error:
        raise typer.BadParameter(str(error)) from None
    if out is not None:
        plots.check_available()
    runs = scenarios.setups(scenario, arrivals, policies, calls, seeds, load, replicas)
    with Progress(console=errors, transient=True) as progress:
        task = progress.add_task("simulating", total=len(policies) * seeds)
        workers = max(1, os.cpu_count() or 1)
        rows = report.compare(runs, workers, lambda: progress.advance(task))
    shown = [dict(zip(report.HEADINGS, report.cells(row), strict=True)) for row in rows]
    tables.show(shown, report.HEADINGS, output_format)
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        title = f"{scenario}, load {load or scenarios.SCENARIOS[scenario].load:g}"
        (out / f"{scenario}.md").write_text(report.markdown(rows), "utf-8")
        plots.first_tokens(
            out / f"{scenario}-first-token.svg", rows, f"{title}: who waits how long"
        )
        plots.cost(out / f"{scenario}-cost.svg", rows, f"{title}: cost against wait")
        errors.print(told("written to {path}", path=out), highlight=False, markup=False)


def _known(name: str, names: Collection[str], what: str) -> None:
    if name not in names:
        close = difflib.get_close_matches(name, list(names), 1)
        hint = f"; did you mean {close[0]}?" if close else f"; known: {', '.join(names)}"
        raise typer.BadParameter(f"no {what} `{name}`{hint}")
