"""Commands of models: the catalog, and model files of your own."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import (
    BarColumn,
    DownloadColumn,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.progress import Progress as Bars

from tokenschain.cli import admin_client, tables
from tokenschain.cli.language import told
from tokenschain.cli.output import console, errors
from tokenschain.cli.tables import Format, Output
from tokenschain.core.pricing.catalog import Price
from tokenschain.infra import catalog_file, config
from tokenschain.infra.model_store import DEFAULT_MODEL, ModelStore
from tokenschain.infra.wheels import Progress

model = typer.Typer(no_args_is_help=True, help="Models: the catalog, and files of your own.")


@model.command("list")
def model_list(
    served: Annotated[bool, typer.Option(help="Only what this platform serves now.")] = False,
    provider: Annotated[str | None, typer.Option(help="Only this provider's.")] = None,
    abilities: Annotated[bool, typer.Option(help="Show abilities.")] = False,
    prices: Annotated[bool, typer.Option(help="Show list prices per 1M tokens.")] = False,
    output_format: Output = Format.TABLE,
) -> None:
    """List the model catalog, or what is served."""
    settings = config.load()
    if served:
        served_now = admin_client.call(settings, "GET", "/api/v1/served-models")["data"]
        tables.show(served_now, ("name", "kind", "offers"), output_format)
        return
    catalog = catalog_file.load()
    if provider is not None and provider not in {info.provider for info in catalog.models}:
        near = catalog_file.near_providers(provider, catalog.providers)
        hint = told("; near: {names}", names=", ".join(near)) if near else ""
        said = told("the catalog has no provider {provider}", provider=provider)
        raise catalog_file.CatalogError(said + hint)
    columns = ["provider", "model", "kind", "context"]
    columns += ["abilities"] * abilities + ["input", "output", "cached"] * prices
    rows = []
    for info in catalog.models:
        if provider is not None and info.provider != provider:
            continue
        cells = [info.provider, info.model, info.kind, info.context_window or "?"]
        if abilities:
            cells.append(" ".join(info.abilities))
        if prices:
            cells += _price_cells(info.price)
        rows.append(dict(zip(columns, cells, strict=True)))
    tables.show(rows, columns, output_format)
    errors.print(
        told("{count} models; catalog of {day}", count=len(rows), day=catalog.version),
        highlight=False,
    )


def _price_cells(price: Price | None) -> list[str]:
    if price is None:
        return ["?", "?", "?"]
    first = price.tiers[0]
    more = "+" if len(price.tiers) > 1 else ""

    def cell(micro: int | None) -> str:
        return "" if micro is None else f"{micro / 1e6:g}{more} {price.currency}"

    return [cell(first.input), cell(first.output), cell(first.cached_input)]


@model.command("show")
def model_show(
    name: Annotated[str, typer.Argument(help="Catalog id, as deepseek/deepseek-flash, or name.")],
    other_catalog: Annotated[
        Path | None, typer.Option("--catalog", help="Another catalog file.")
    ] = None,
) -> None:
    """Show all that the catalog knows of a model, at each provider that sells it."""
    catalog = catalog_file.load(other_catalog)
    found = [info for info in catalog.models if name in (info.id, info.model)]
    if not found:
        near = difflib.get_close_matches(name, [info.id for info in catalog.models], 3, 0.4)
        hint = told("; near: {names}", names=", ".join(near)) if near else ""
        raise catalog_file.CatalogError(told("the catalog has no {name}", name=name) + hint)
    for info in found:
        console.rule(f"[bold]{info.id}")
        for label, value in catalog_file.describe(info):
            console.print(f"{label:<16}{value}", highlight=False, soft_wrap=True)


@model.command("diff")
def model_diff(
    newer: Annotated[Path, typer.Argument(help="A newer catalog file.")],
    older: Annotated[Path | None, typer.Option(help="Compare with this instead.")] = None,
) -> None:
    """Show what a newer catalog changes: models, limits, abilities, prices."""
    count = 0
    for kind, what in catalog_file.differences(catalog_file.load(older), catalog_file.load(newer)):
        count += 1
        colour = {"+": "green", "-": "red", "~": "yellow"}[kind]
        console.print(f"[{colour}]{kind}[/] {what}", highlight=False, soft_wrap=True)
    console.print(told("{count} differences", count=count), highlight=False)


@model.command("pull")
def model_pull(
    source: Annotated[
        str, typer.Argument(help="A path, a URL or the default model's name.")
    ] = DEFAULT_MODEL.name,
    name: Annotated[str | None, typer.Option(help="Name callers use.")] = None,
) -> None:
    """Fetch a GGUF model for the embedded engine."""
    settings = config.load()
    with pull_progress() as report:
        pulled = ModelStore(settings.data_dir / "models").pull(source, name, report)
    console.print(f"pulled [bold]{pulled}[/]; serve it with TOKENSCHAIN_ENGINE__MODEL={pulled}")


@contextmanager
def pull_progress() -> Iterator[Progress]:
    """Show how far a download is."""
    columns = (
        TextColumn("model"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Bars(*columns, console=console) as progress:
        task = progress.add_task("model", total=None)

        def report(done: int, total: int | None) -> None:
            progress.update(task, completed=done, total=total)

        yield report
