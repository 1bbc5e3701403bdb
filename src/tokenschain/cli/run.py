"""Commands that run processes: the whole platform, or one kind of process."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from tokenschain.cli import ports
from tokenschain.cli.language import told
from tokenschain.cli.models import pull_progress
from tokenschain.cli.output import console, errors
from tokenschain.infra import config, folder_lock, hardening, log
from tokenschain.infra.config import Settings
from tokenschain.infra.model_store import DEFAULT_MODEL, ModelStore
from tokenschain.infra.supervisor import Child, Supervisor
from tokenschain.infra.wheels import WheelUnavailable

if TYPE_CHECKING:
    from tokenschain.wiring.machine import FirstRun


class StartFailed(Exception):
    """A process of the platform ended before all were ready."""


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
    settings = _begin(flags)
    checked = machine.check(settings)
    machine.open_folder(settings)
    folder_lock.hold(settings.data_dir)  # until this process ends
    _refuse_taken_ports(settings)
    _pull_default_if_needed(settings)
    _fetch_browser_files(settings)
    first = machine.prepare(settings)
    if not checked:
        machine.check(settings)  # the database is there now
    _hand_down(flags)
    asyncio.run(_up(settings, machine.children(settings, everything=True), first))


def _begin(flags: Mapping[str, object] | None = None) -> Settings:
    """The settings in force, in a data folder of this user's own."""
    settings = config.load(flags)
    log.configure(settings.log_format, settings.node_name)
    hardening.make_own(settings.data_dir, log.report(process="start"))
    return settings


async def _up(settings: Settings, children: Sequence[Child], first: FirstRun) -> None:
    from tokenschain.cli import readiness  # noqa: PLC0415 - gateways do without its client
    from tokenschain.wiring.machine import chat_model, sign_in_link  # noqa: PLC0415

    started = asyncio.Event()
    supervisor = Supervisor(
        children, log.report(process="up"), settings.server.drain_max_s, started
    )

    async def come_up() -> None:
        await readiness.wait(settings, _tell)
        started.set()
        model = chat_model(settings)
        refused = await readiness.first_call(settings, first.api_key, model)
        # A link is for eyes: standard output that is no terminal ends in a log.
        seen = sys.stdout.isatty()
        link = await asyncio.to_thread(sign_in_link, settings) if seen else None
        _greet(settings, first, model, refused, link)

    async with asyncio.TaskGroup() as group:
        running = group.create_task(supervisor.run())
        ready = asyncio.ensure_future(come_up())
        await asyncio.wait({running, ready}, return_when=asyncio.FIRST_COMPLETED)
        ready.cancel()
        (failed,) = await asyncio.gather(ready, return_exceptions=True)
        if isinstance(failed, Exception):
            supervisor.stop()
    if supervisor.failed is not None:
        raise StartFailed(
            f"{supervisor.failed} did not start, so the rest was ended; its line above says why"
        )
    if isinstance(failed, readiness.NotReady):
        raise StartFailed(f"{failed}; see the lines above, and `tokenschain doctor`")
    if isinstance(failed, Exception):
        raise failed


def _tell(line: str) -> None:
    errors.print(
        f"[yellow]{told('waiting:')}[/yellow] {escape(line)}", highlight=False, soft_wrap=True
    )


def _greet(
    settings: Settings, first: FirstRun, model: str | None, refused: str, link: str | None = None
) -> None:
    """Say that the platform is up, and how to call it.

    Args:
        model: that callers may ask for.
        refused: why a first call does not work; empty when it does.
        link: signs the operator in to the console, once.
    """
    base = settings.gateway_base_url
    key = (first.api_key if sys.stdout.isatty() else None) or "YOUR_KEY"
    name = model or "MODEL"
    if refused:
        console.rule("[bold yellow]TokensChain runs, but a first call does not work")
        console.print(refused, highlight=False, soft_wrap=True, markup=False)
    else:
        console.rule("[bold]TokensChain is up")
    address = link or f"{settings.control_base_url}/console"
    console.print(f"Console        [bold cyan]{address}[/]", highlight=False, soft_wrap=True)
    if link is not None:
        console.print(
            "               (signs you in once, within 15 minutes / 一次有效，15 分钟内)",
            highlight=False,
        )
    console.print(f"API base URL   [bold cyan]{base}[/]", highlight=False)
    console.print(f"Admin          [bold cyan]{settings.control_base_url}/[/]", highlight=False)
    if not _show_once(settings, first):
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


def _show_once(settings: Settings, first: FirstRun) -> bool:
    """Show credentials made just now; they cannot be shown again.

    Standard output that is no terminal ends in a log: then they go into a file of their owner's.
    """
    from tokenschain.wiring.machine import first_credentials_path  # noqa: PLC0415

    path = first_credentials_path(settings)
    made = {"API key": first.api_key, "Admin token": first.admin_token}
    found = {name: value for name, value in made.items() if value is not None}
    if found and not sys.stdout.isatty():
        console.print(
            f"Credentials    {path}  (keep them, then delete the file)",
            highlight=False,
            soft_wrap=True,
        )
        return first.api_key is not None
    for name, value in found.items():
        line = f"{name:<15}[bold green]{value}[/]  (shown once, keep it)"
        console.print(line, highlight=False, soft_wrap=True)
    if found:
        path.unlink(missing_ok=True)
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
    with pull_progress() as report:
        store.pull(DEFAULT_MODEL.name, None, report)


def _fetch_browser_files(settings: Settings) -> None:
    """Files of others that the console's pages load; they work without, so nothing waits for it."""
    from tokenschain.console import browser_files  # noqa: PLC0415

    folder = browser_files.folder_in(settings.data_dir)
    if not browser_files.missing(folder):
        return
    console.print(f"{told('Fetching files of the console once:')} htmx, ECharts, Lucide (1.4 MB)",
                  highlight=False)  # fmt: skip
    try:
        browser_files.fetch(folder, lambda _done, _total: None)
    except WheelUnavailable as why:
        said = told("the console works without charts and icons")
        errors.print(f"{escape(str(why))}; {said}", highlight=False, soft_wrap=True)


def _refuse_taken_ports(settings: Settings) -> None:
    for name, host, port in ports.all_of(settings):
        if port and ports.is_taken(host, port):
            raise config.SettingsError(
                f"port {port} on {host} is taken: stop what uses it, or set "
                f"{config.variable_of(name)} to another"
            )


def _hand_down(flags: dict[str, object]) -> None:
    """Flags reach the child processes as environment variables."""
    for name, value in flags.items():
        if value is not None:
            os.environ[config.variable_of(name)] = str(value)


def gateway(
    workers: Annotated[int | None, typer.Option(help="Processes sharing the port.")] = None,
    worker: Annotated[int | None, typer.Option(hidden=True)] = None,
) -> None:
    """Run only the data plane: the API on its port."""
    flags: dict[str, object] = {"server.workers": workers}
    settings = _begin(flags)
    if worker is not None:
        from tokenschain.wiring import gateway as process  # noqa: PLC0415

        process.run(settings, worker)
        return
    from tokenschain.wiring import machine  # noqa: PLC0415

    _hand_down(flags)
    supervisor = Supervisor(
        machine.children(settings, everything=False),
        log.report(process="gateway"),
        settings.server.drain_max_s,
    )
    asyncio.run(supervisor.run())


def control() -> None:
    """Run only the control plane: admin API, ledger, configuration."""
    from tokenschain.wiring import control as process  # noqa: PLC0415
    from tokenschain.wiring import machine  # noqa: PLC0415

    settings = _begin()
    checked = machine.check(settings)
    _show_once(settings, machine.prepare(settings))
    if not checked:
        machine.check(settings)  # the database is there now
    process.run(settings)


def engine() -> None:
    """Run only the embedded engine: a small chat model and an embedder."""
    from tokenschain.wiring import engine as process  # noqa: PLC0415

    process.run(_begin())


def semantic() -> None:
    """Run only the process that compares questions for the semantic cache."""
    from tokenschain.wiring import semantic as process  # noqa: PLC0415

    process.run(_begin())
