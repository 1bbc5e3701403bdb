"""Errors of the admin API, all in the API's one shape."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel
from sqlalchemy.exc import DataError, IntegrityError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from tokenschain.control.api import former_names
from tokenschain.core.errors import ApiError

MEANINGS: Mapping[int, str] = {
    400: "The request is wrong.",
    401: "Not signed in.",
    403: "This may not be done here.",
    404: "There is no such thing.",
    409: "It is there already, or in use.",
    412: "It was changed meanwhile.",
    429: "Too many tries.",
    503: "The database does not answer.",
}
"""Statuses that any operation may answer, as the OpenAPI document says."""


_SHOWN_MAX = 20
"""Invalid values of one request that are said."""
_UNSTORABLE: Mapping[str, str] = {
    "22001": "A text is longer than can be stored.",
    "22003": "A number is larger than can be stored.",
}
"""By PostgreSQL's code of what was refused; anything else is about characters."""


class ProblemDetail(BaseModel):
    """One problem of a change of the configuration, and the resource and field it is about."""

    kind: str
    tenant: str
    name: str
    field: str
    message: str


class ErrorDetail(BaseModel):
    """What went wrong; see docs/reference/errors.md."""

    message: str
    type: str
    param: str | None
    code: str
    problems: list[ProblemDetail] | None = None
    """Each by itself, where a change of the configuration is refused."""


class ErrorBody(BaseModel):
    """The API's one error shape."""

    error: ErrorDetail


def unavailable() -> ApiError:
    """The database is gone or slow."""
    return ApiError("database_unavailable", "The database does not answer; try again.")


def answer(error: ApiError) -> Response:
    """An error as it is sent."""
    headers = {}
    if error.retry_after_s is not None:
        headers["retry-after"] = str(max(1, round(error.retry_after_s)))
    if error.status == 401:
        headers["www-authenticate"] = 'Bearer realm="tokenschain"'
    return Response(error.body(), error.status, headers, media_type="application/json")


def add_handlers(app: FastAPI) -> None:
    """Translate every exception that routes may let through."""

    def handle(kind: type[Exception], translate: Callable[[Request, Any], ApiError]) -> None:
        async def handler(request: Request, error: Exception) -> Response:
            response = answer(translate(request, error))
            if isinstance(error, HTTPException) and error.headers:
                response.headers.update(error.headers)  # `allow` of a 405
            return response

        app.add_exception_handler(kind, handler)

    handle(ApiError, lambda _, error: error)
    handle(RequestValidationError, _validation)
    handle(HTTPException, _http)
    handle(DataError, _unstorable)
    handle(UnicodeEncodeError, _unstorable)
    handle(IntegrityError, _duplicate)
    handle(OperationalError, lambda _, __: unavailable())
    handle(PoolTimeout, lambda _, __: unavailable())
    # Nobody hears the answer; the handler is there so that it is no fault of ours in the log.
    handle(ClientDisconnect, lambda _, __: ApiError("caller_gone", "The body was cut off."))


def _validation(_: Request, error: RequestValidationError) -> ApiError:
    found = error.errors()
    former = former_names.of_errors(found)
    if former is not None:
        param, message = former
        return ApiError("invalid_value", message, param=param)
    shown = found[:_SHOWN_MAX]
    params = [".".join(str(part) for part in one["loc"][1:]) for one in shown]
    lines = [
        f"Invalid value for `{param}`: {one['msg']}."
        for param, one in zip(params, shown, strict=True)
    ]
    return ApiError("invalid_value", "\n".join(lines), param=params[0])


def _http(request: Request, error: HTTPException) -> ApiError:
    code = {404: "not_found", 405: "method_not_allowed"}.get(error.status_code, "invalid_value")
    former = former_names.of_path(request.url.path) if error.status_code == 404 else None
    return ApiError(code, former or str(error.detail), status=error.status_code)


def _unstorable(_: Request, error: DataError | UnicodeEncodeError) -> ApiError:
    code = getattr(error.orig, "sqlstate", None) if isinstance(error, DataError) else None
    why = _UNSTORABLE.get(code or "", "A text has characters that cannot be stored.")
    return ApiError("invalid_value", why)


def _duplicate(_: Request, __: IntegrityError) -> ApiError:
    return ApiError("conflict", "The same was created at the same time; read it again.")
