"""Command to talk to a model."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.markup import escape

from tokenschain.cli import tables
from tokenschain.cli.output import console, errors
from tokenschain.infra import config


def chat(
    key: Annotated[str, typer.Option(envvar="TC_API_KEY", help="API key.")],
    model_name: Annotated[str | None, typer.Option("--model", help="Model.")] = None,
) -> None:
    """Talk to a model; an empty line or Ctrl-D ends it."""
    from tokenschain.cli.chat_client import (  # noqa: PLC0415
        ChatClient,
        ChatError,
        ChatSession,
    )

    settings = config.load()
    with ChatClient(settings.gateway_base_url, key) as client:
        talk = ChatSession(client, model_name or settings.engine.model)
        while (said := _asked()) is not None:
            console.print(f"[bold green]{escape(talk.model)}[/] ", end="")
            try:
                for piece in talk.say(said):
                    shown = tables.printable(piece, keep="\n\t")
                    console.print(shown, end="", markup=False, highlight=False, soft_wrap=True)
            except ChatError as error:
                errors.print(f"[red]error:[/red] {escape(str(error))}", highlight=False)
            console.print()


def _asked() -> str | None:
    """The next question; None at an empty line or the end."""
    try:
        return console.input("[bold cyan]you[/] ").strip() or None
    except (EOFError, KeyboardInterrupt):
        return None
