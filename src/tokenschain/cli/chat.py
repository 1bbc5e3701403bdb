"""Command to talk to a model."""

from __future__ import annotations

from typing import Annotated

import typer

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
        Conversation,
    )

    settings = config.load()
    client = ChatClient(settings.gateway_base_url, key)
    talk = Conversation(client, model_name or settings.engine.model)
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
        except ChatError as error:
            errors.print(f"[red]error:[/red] {error}", highlight=False)
        console.print()
