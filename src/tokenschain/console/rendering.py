"""HTML of the console: templates filled in, with the shell around each page."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from tokenschain.console.navigation import NAVIGATION
from tokenschain.console.static_files import StaticFiles
from tokenschain.console.visit import Visit
from tokenschain.core import presentation
from tokenschain.core.presentation import Language

TEMPLATES = Path(__file__).parent / "templates"


class CloudProvider(NamedTuple):
    """A vendor of the catalog, as a form offers it."""

    id: str
    name: str
    has_address: bool
    """Whether the catalog knows where it is."""


class Renderer:
    """Fills in templates; everything that goes in is text, and stays it."""

    def __init__(
        self, static: StaticFiles, gateway_url: str, providers: Sequence[CloudProvider] = ()
    ) -> None:
        """
        Args:
            gateway_url: where callers reach the gateway, for samples to copy.
            providers: clouds that can be connected by name.
        """
        self._environment = Environment(
            loader=FileSystemLoader(TEMPLATES),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
            auto_reload=False,
        )
        self._environment.globals.update(
            fmt=presentation,
            static=static.address,
            has_file=static.__contains__,
            gateway_url=gateway_url,
            providers=providers,
        )

    def page(self, template: str, visit: Visit, **values: object) -> str:
        """A whole page, or the fragment of one that was asked for."""
        return self._environment.get_template(template).render(
            visit=visit,
            t=visit.text,
            lang=visit.language,
            theme=visit.theme,
            navigation=_visible(visit),
            now_s=time.time(),
            **values,
        )

    def alone(self, template: str, language: Language, theme: str, **values: object) -> str:
        """A page without the shell, for who is not signed in."""
        return self._environment.get_template(template).render(lang=language, theme=theme, **values)


def _visible(visit: Visit) -> list[tuple[str, list[tuple[str, str, str, bool]]]]:
    """The navigation that the reader may use: by group, each with key, address, icon and whether
    it is the page that is shown."""
    shown = []
    for group, entries in NAVIGATION:
        own = [
            (one.key, visit.link(one.path), one.icon, _is_at(one.path, visit.path))
            for one in entries
            if visit.reader.may(one.permission)
        ]
        if own:
            shown.append((group, own))
    return shown


def _is_at(entry: str, path: str) -> bool:
    """Whether an entry's page, or one below it, is shown; all are below the first."""
    return path == entry or (entry.count("/") > 1 and path.startswith(f"{entry}/"))
