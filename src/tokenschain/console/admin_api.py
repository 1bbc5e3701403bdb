"""Client of the admin API in the same process (ASGI), with the reader's own token."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any, NamedTuple, TypeVar
from urllib.parse import quote, unquote, urlencode

import msgspec

Message = MutableMapping[str, Any]
AsgiApp = Callable[
    [Message, Callable[[], Awaitable[Message]], Callable[[Message], Awaitable[None]]],
    Awaitable[None],
]
Kind = TypeVar("Kind")
Query = Mapping[str, str | int | None]
PREFIX = "/api/v1"


class ApiRefusal(Exception):
    """The API answered with an error, or not in time.

    Attributes:
        status: of HTTP; 504 where no answer came in time.
        code: of `core.errors`, or `timeout`.
        param: the field that is wrong; empty where none is named.
    """

    def __init__(self, status: int, code: str, message: str, param: str = "") -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.param = param


class StepUpNeeded(Exception):
    """The API wants password and second factor shown again first (step-up).

    Attributes:
        wrong: why what was shown did not do; None where nothing was.
    """

    def __init__(self, wrong: ApiRefusal | None = None) -> None:
        super().__init__("step-up")
        self.wrong = wrong


class _Detail(msgspec.Struct):
    message: str = ""
    code: str | None = None
    param: str | None = None


class _Error(msgspec.Struct):
    error: _Detail


class ApiAnswer(NamedTuple):
    """An answer of the API, before it is read."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class AdminApi:
    """The admin API as one reader sees it."""

    def __init__(
        self,
        app: AsgiApp,
        report: Callable[[str, BaseException], None],
        address: str,
        token: str,
        *,
        wait_max_s: float,
    ) -> None:
        """
        Args:
            report: told of a fault of the API: `(path, why)`.
            address: where the reader is, for the audit trail and the delay of wrong sign-ins.
            token: the reader's own; empty before signing in.
            wait_max_s: for an answer.
        """
        self._app = app
        self._report = report
        self._address = address
        self._token = token
        self._wait_max_s = wait_max_s

    async def get(self, path: str, kind: type[Kind], query: Query | None = None) -> Kind:
        """Read something.

        Raises:
            ApiRefusal: see there.
        """
        return _read(await self.ask("GET", path, query), kind)

    async def send(
        self,
        method: str,
        path: str,
        kind: type[Kind],
        body: object = None,
        headers: Mapping[str, str] | None = None,
        query: Query | None = None,
    ) -> Kind:
        """Change something.

        Raises:
            ApiRefusal: see there.
            StepUpNeeded: see there.
        """
        return _read(await self.ask(method, path, query, body, headers), kind)

    def with_wait(self, wait_max_s: float) -> AdminApi:
        """The same, for what takes longer."""
        return AdminApi(self._app, self._report, self._address, self._token, wait_max_s=wait_max_s)

    async def ask(
        self,
        method: str,
        path: str,
        query: Query | None = None,
        body: object = None,
        headers: Mapping[str, str] | None = None,
    ) -> ApiAnswer:
        """The answer as it comes.

        Args:
            path: below `/api/v1`; what came from outside in it, by `segment`.

        Raises:
            ApiRefusal: none came in time.
        """
        given = {k: str(v) for k, v in (query or {}).items() if v not in (None, "")}
        lines = {"host": "console", **(headers or {})}
        if self._token:
            lines["authorization"] = f"Bearer {self._token}"
        data = b""
        if body is not None:
            data = msgspec.json.encode(body)
            lines |= {"content-type": "application/json", "content-length": str(len(data))}
        # What no header can hold cannot be right either: whoever reads it refuses it.
        headers_out = [(k.encode(), v.encode("latin-1", "replace")) for k, v in lines.items()]
        scope: Message = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": "1.1",
            "method": method,
            "scheme": "http",
            "path": unquote(PREFIX + path),
            "raw_path": (PREFIX + path).encode("ascii"),
            "query_string": urlencode(given).encode(),
            "root_path": "",
            "headers": headers_out,
            "client": (self._address, 0),
            "server": None,
            "state": {},
        }
        try:
            async with asyncio.timeout(self._wait_max_s):
                return await _run(self._app, scope, data)
        except TimeoutError:
            raise ApiRefusal(504, "timeout", f"No answer within {self._wait_max_s:g} s.") from None
        except Exception as fault:  # the border of the API: its other answers stay readable
            self._report(scope["path"], fault)
            raise ApiRefusal(500, "internal_error", "The API failed; its log says why.") from fault


def segment(text: str) -> str:
    """A part of a path that came from outside: it stays one part."""
    return quote(text, safe="")


async def _run(app: AsgiApp, scope: Message, body: bytes) -> ApiAnswer:
    begun: Message = {"status": 500, "headers": []}
    parts: list[bytes] = []
    asked = False

    async def receive() -> Message:
        nonlocal asked
        if asked:
            await asyncio.Event().wait()  # the reader stays until the answer is complete
        asked = True
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: Message) -> None:
        if message["type"] == "http.response.start":
            begun.update(message)
        else:
            parts.append(message.get("body", b""))

    await app(scope, receive, send)
    headers = {name.decode().lower(): value.decode("latin-1") for name, value in begun["headers"]}
    return ApiAnswer(begun["status"], headers, b"".join(parts))


def _read(answer: ApiAnswer, kind: type[Kind]) -> Kind:
    if answer.status < 300:
        return msgspec.json.decode(answer.body, type=kind)
    if answer.status < 400:
        # Of a path that something was missing from; there is nothing to follow.
        raise ApiRefusal(404, "not_found", "There is nothing at this address.")
    refusal = refusal_of(answer)
    if refusal.code == "step_up_required":
        raise StepUpNeeded
    raise refusal


def refusal_of(answer: ApiAnswer) -> ApiRefusal:
    """An answer that is an error."""
    try:
        detail = msgspec.json.decode(answer.body, type=_Error).error
    except msgspec.MsgspecError:
        detail = _Detail("The API failed; its log says why.", "internal_error")
    return ApiRefusal(
        answer.status, detail.code or "internal_error", detail.message, detail.param or ""
    )
