"""HTML of the console: templates filled in, with the shell around each page."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.responses import Response

from tokenschain.console.admin_api import ApiRefusal
from tokenschain.console.browser_files import ECHARTS, HTMX
from tokenschain.console.navigation import NAVIGATION, NavigationEntry
from tokenschain.console.polling import POLLED
from tokenschain.console.static_files import SPRITE, StaticFiles
from tokenschain.console.strings import translate
from tokenschain.console.visit import Preferences, Visit
from tokenschain.core import presentation

TEMPLATES = Path(__file__).parent / "templates"
THIRD_PARTY = {"htmx": HTMX, "echarts": ECHARTS, "icons": SPRITE}
"""Files that may not be here: what templates call their addresses, which are empty then."""


class CloudProvider(NamedTuple):
    """A vendor of the catalog, as a form offers it."""

    id: str
    name: str
    has_address: bool
    """Whether the catalog knows where it is."""


class SignUpOffer(NamedTuple):
    """What the sign-up page says, where anyone may sign up."""

    terms_url: str
    """Empty: there are no terms to accept."""
    credit_pico: int
    credit_days: int


class Renderer:
    """Fills in templates; everything that goes in is text, and stays it."""

    def __init__(
        self,
        static: StaticFiles,
        gateway_url: str,
        providers: Sequence[CloudProvider] = (),
        sign_up: SignUpOffer | None = None,
    ) -> None:
        """
        Args:
            gateway_url: where callers reach the gateway, for samples to copy.
            providers: clouds that can be connected by name.
            sign_up: None where nobody signs up.
        """
        self.sign_up = sign_up
        self._environment = Environment(
            loader=FileSystemLoader(TEMPLATES),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
            auto_reload=False,
        )
        # Values are read by people, too: as they were put down, and in their own letters.
        self._environment.policies["json.dumps_kwargs"] = {"ensure_ascii": False}
        self._environment.globals.update(
            fmt=presentation,
            static=static.address,
            gateway_url=gateway_url,
            providers=providers,
            sign_up=sign_up,
            polled=POLLED,
            **{
                name: static.address(file) if file in static else ""
                for name, file in THIRD_PARTY.items()
            },
        )

    def page(self, template: str, visit: Visit, status: int = 200, **values: object) -> Response:
        """A whole page, or a fragment of one."""
        return self._html(
            template,
            status,
            visit=visit,
            t=visit.text,
            lang=visit.language,
            theme=visit.theme,
            navigation=_visible(visit),
            now_s=time.time(),
            **values,
        )

    def page_or_part(self, page: str, part: str, visit: Visit, /, **values: object) -> Response:
        """A whole page; or where a fragment was asked for, the part of it that changes, and the
        address for the browser to show."""
        if not visit.fragment:
            return self.page(page, visit, 200, **values)
        response = self.page(part, visit, 200, **values)
        response.headers["hx-push-url"] = visit.here()
        return response

    def form(
        self,
        template: str,
        visit: Visit,
        refusal: ApiRefusal | None = None,
        wrong: str = "",
        **values: object,
    ) -> Response:
        """A form, to be filled in or after what it was sent with did not do.

        Args:
            wrong: key of the text that says what was typed wrongly, before the API was asked.
        """
        status = refusal.status if refusal is not None else 400 if wrong else 200
        return self.page(template, visit, status, refusal=refusal, wrong=wrong, **values)

    def alone(
        self, template: str, preferences: Preferences, status: int = 200, **values: object
    ) -> Response:
        """A page without the shell, for who is not signed in."""
        language, theme = preferences
        text = partial(translate, language=language)
        return self._html(template, status, t=text, lang=language, theme=theme, **values)

    def _html(self, template: str, status: int, **values: object) -> Response:
        text = self._environment.get_template(template).render(**values)
        return Response(text, status, media_type="text/html")


Handler = Callable[[Visit, Renderer], Awaitable[Response]]
Pages = Mapping[tuple[str, str], Handler]
"""By method and path."""


class OpenAnswer(NamedTuple):
    """A page for who is not signed in, and the token of a session that began with it."""

    response: Response
    token: str = ""


OpenPages = Mapping[tuple[str, str], Callable[[Visit, Renderer], Awaitable[OpenAnswer]]]
"""Pages for who is not signed in, by method and path."""


def _visible(visit: Visit) -> list[tuple[str, list[tuple[str, str, str, bool]]]]:
    """The navigation that the reader may use: by group, each with key, address, icon and whether
    it is the page that is shown."""
    shown = []
    for group, entries in NAVIGATION:
        own = [
            (one.key, visit.link(one.path), one.icon, _is_at(one.path, visit.path))
            for one in entries
            if _may_open(visit, one)
        ]
        if own:
            shown.append((group, own))
    return shown


def first_page(visit: Visit) -> str | None:
    """Where the first page of the navigation is that the reader may open."""
    for _, entries in _visible(visit):
        return entries[0][1]
    return None


def _may_open(visit: Visit, entry: NavigationEntry) -> bool:
    if entry.of_platform:
        return visit.reader.may_at(entry.permission)
    return visit.reader.may(entry.permission)


def _is_at(entry: str, path: str) -> bool:
    """Whether an entry's page, or one below it, is shown; all are below the first."""
    return path == entry or (entry.count("/") > 1 and path.startswith(f"{entry}/"))
