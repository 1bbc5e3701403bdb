"""HTTP client of the admin API, for the commands."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import quote

import msgspec
import typer

from tokenschain.cli.language import told
from tokenschain.cli.output import secret_input
from tokenschain.core.errors import ErrorProblem
from tokenschain.core.routing.near_names import near_names
from tokenschain.infra import config
from tokenschain.infra.config import ADMIN_TOKEN_VARIABLE, Settings

if TYPE_CHECKING:
    import httpx

_TIMEOUT_S = 10.0
_STEP_UP = "step_up_required"
_PAGE = 200
"""Rows asked for at once: the most that control gives."""


class AdminError(Exception):
    """Control refused; the message says what to do."""

    def __init__(self, message: str, problems: Sequence[ErrorProblem] = ()) -> None:
        """
        Args:
            problems: of a change of the configuration, each by itself.
        """
        super().__init__(message)
        self.problems = problems


class Unreachable(AdminError):
    """Control does not answer."""


class StepUpRequired(AdminError):
    """Whoever has the session is to show password and second factor again first."""


class AdminRequest(NamedTuple):
    """One request to the admin API."""

    method: str
    path: str
    body: object | None = None
    query: Mapping[str, str] = {}
    headers: Mapping[str, str] = {}
    anonymous: bool = False
    """Whether it needs no token."""


def call(
    settings: Settings,
    method: str,
    path: str,
    body: object | None = None,
    query: Mapping[str, str] | None = None,
) -> Any:
    """One call of the admin API; returns the decoded answer.

    Raises:
        AdminError: refused, or not reachable.
    """
    return send(settings, AdminRequest(method, path, body, query or {}))


def send(settings: Settings, request: AdminRequest, timeout_s: float = _TIMEOUT_S) -> Any:
    """The same, for a request as a whole; at a terminal, asks for what has to be shown again."""
    try:
        return _sent(settings, request, timeout_s)
    except StepUpRequired:
        if not sys.stdin.isatty():
            raise
    proof = {
        "password": secret_input("password"),
        "code": typer.prompt(told("code of the second factor, if there is one"), default="",
                             show_default=False) or None,
    }  # fmt: skip
    _sent(settings, AdminRequest("POST", "/api/v1/me/step-up", proof), timeout_s)
    return _sent(settings, request, timeout_s)


def _sent(settings: Settings, request: AdminRequest, timeout_s: float) -> Any:
    with _answering(settings, request, timeout_s) as reply:
        return msgspec.json.decode(reply.read())


def text(settings: Settings, path: str) -> str:
    """What a GET of the admin API answers as text.

    Raises:
        AdminError: refused, or not reachable.
    """
    with _answering(settings, AdminRequest("GET", path)) as reply:
        return reply.read().decode("utf-8", "replace")


def pages(settings: Settings, request: AdminRequest, most: int | None) -> tuple[list[Any], bool]:
    """The rows of a list, page by page, and whether these are all.

    Args:
        most: at most so many; None: all.

    Raises:
        AdminError: refused, or not reachable.
    """
    rows: list[Any] = []
    query = dict(request.query)
    while True:
        if request.method == "GET":
            query["limit"] = str(_PAGE if most is None else min(_PAGE, most - len(rows)))
        found = send(settings, request._replace(query=query))
        rows += found["data"]
        if most is not None and (len(rows) > most or (len(rows) == most and found["next_cursor"])):
            return rows[:most], False
        if found["next_cursor"] is None:
            return rows, True
        if request.method == "GET":
            query["cursor"] = found["next_cursor"]
        else:  # a list that is asked for with a body, whose pages are as long as the API has them
            assert isinstance(request.body, dict)
            request = request._replace(body=request.body | {"cursor": found["next_cursor"]})


def download(settings: Settings, request: AdminRequest, path: Path | None) -> None:
    """An answer as it comes, into a file or to standard output.

    Raises:
        AdminError: refused, or not reachable.
    """
    with _answering(settings, request) as reply:
        binary = "text/" not in reply.headers.get("content-type", "")
        if path is None and binary and sys.stdout.isatty():
            raise AdminError(told("this is no text: name a file with --out"))
        with nullcontext(sys.stdout.buffer) if path is None else path.open("wb") as file:
            for piece in reply.iter_bytes():
                file.write(piece)
            file.flush()


def check_tenant(settings: Settings, tenant: str | None) -> None:
    """Insist that a tenant is there, of which nothing was found.

    Raises:
        AdminError: it is not; names those that are like it.
    """
    if not tenant or tenant == "*":
        return
    every = AdminRequest("GET", "/api/v1/organization/units", query={"kind": "tenant"})
    try:
        names = [unit["name"] for unit in pages(settings, every, None)[0]]
    except AdminError:
        return  # who sees no tenants is told nothing of them
    if tenant not in names:
        near = near_names(tenant, names)
        said = told("there is no tenant {tenant}", tenant=tenant)
        hint = told("; did you mean {names}?", names=", ".join(near)) if near else ""
        raise AdminError(said + hint)


def quoted(part: str) -> str:
    """A part of a path, whatever it is made of."""
    return quote(part, safe="")


@contextmanager
def _answering(
    settings: Settings, request: AdminRequest, timeout_s: float = _TIMEOUT_S
) -> Iterator[httpx.Response]:
    """An answer that is no error, whose body is still to be read."""
    import httpx  # noqa: PLC0415 - gateways do without

    from tokenschain.cli import http  # noqa: PLC0415

    at = settings.control_base_url
    token = None if request.anonymous else _token(settings)
    with http.client(at, token, timeout_s) as client:
        try:
            made = client.build_request(
                request.method, request.path, json=request.body, params=dict(request.query),
                headers=dict(request.headers),
            )  # fmt: skip
            _sign(made)
            with closing(client.send(made, stream=True)) as reply:
                if reply.is_error:
                    reply.read()
                    kind = StepUpRequired if http.code_of(reply) == _STEP_UP else AdminError
                    raise kind(http.message_of(reply), http.problems_of(reply))
                yield reply
        except httpx.HTTPError as error:
            raise Unreachable(
                told(
                    "control at {address} cannot be reached ({why}); is `tokenschain up` running? "
                    "Settings: {file}",
                    address=at,
                    why=error,
                    file=config.config_file() or told("no tokenschain.yaml in this folder"),
                )
            ) from None


def _sign(request: httpx.Request) -> None:
    from tokenschain.cli import signing  # noqa: PLC0415 - loads the algorithms
    from tokenschain.infra.security.signed_act import HEADER  # noqa: PLC0415

    target = request.url.raw_path.decode("ascii")
    try:
        signature = signing.signature(request.method, target, request.content)
    except ValueError as error:
        raise AdminError(str(error)) from None
    if signature is not None:
        request.headers[HEADER] = signature


def _token(settings: Settings) -> str:
    named = os.environ.get(ADMIN_TOKEN_VARIABLE)
    if named:
        return named
    try:
        return settings.operator_token_path.read_text(encoding="utf-8").strip()
    except OSError:
        raise AdminError(
            told(
                "no admin token: set {variable}, or run this on the machine and as the user that "
                "runs control",
                variable=ADMIN_TOKEN_VARIABLE,
            )
        ) from None
