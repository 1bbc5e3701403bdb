"""Embedded chat model: llama.cpp's own server, with continuous batching."""

from __future__ import annotations

import os
from importlib import resources
from pathlib import Path
from typing import Any


def start(
    model: Path,
    name: str,
    *,
    host: str,
    port: int,
    key: str,
    slots: int,
    context_tokens: int,
    threads: int,
    template: str | None = None,
    reproducible: bool = False,
) -> Any:
    """Serve a GGUF model over OpenAI's API for as long as the returned object lives.

    Args:
        name: what callers call the model.
        slots: calls decoded at once; each has `context_tokens` of context.
        threads: 0 for all cores.
        template: a Jinja chat template in place of the model's own.
        reproducible: work prompts off token by token as answers are, so that the same text gives
            the same floats however it came to be there.
    """
    import xllamacpp  # noqa: PLC0415 - 100 MB that no other process should load

    params = xllamacpp.CommonParams()
    params.model.path = str(model)
    params.model_alias = {name}
    params.hostnames = [host]
    params.port = port
    params.api_keys = [key]
    params.n_parallel = slots
    params.n_ctx = context_tokens * slots
    params.cont_batching = True
    params.endpoint_metrics = True
    params.use_jinja = True
    if template is not None:
        params.chat_template = template
    if reproducible:
        params.n_ubatch, params.no_extra_bufts = 1, True
    params.ui = False
    params.verbosity = 1
    params.cpuparams.n_threads = threads or os.cpu_count() or 1
    return xllamacpp.Server(params)


def template_with_tools() -> str:
    """A ChatML template that knows tools, for the default model."""
    return resources.files("tokenschain.engine").joinpath("chatml.jinja").read_text("utf-8")
