"""Tests of upstreams: is the credential there, who answers, which models, and does a call work?

The call goes the way of all calls, in the vendor's own dialect, and is some ten tokens long.
Nothing is metered: whoever has the upstream's account pays the vendor for it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from tokenschain.core.call import Call, CallRequest
from tokenschain.core.errors import ApiError
from tokenschain.core.formats.formats import API_FORMATS
from tokenschain.core.formats.openai_chat import UNREAD, Api
from tokenschain.core.ports import delivered
from tokenschain.core.redaction import Redactor
from tokenschain.core.slots import Slots
from tokenschain.core.snapshot import Candidate, Upstream
from tokenschain.core.upstream_report import (
    MEND_CERTIFICATE,
    MEND_HOST,
    MEND_MODELS,
    MEND_OTHERS,
    MEND_REFERENCE,
    MENDS,
    MODELS_MAX,
    NO_CONNECTION,
    NO_CREDENTIAL,
    NO_CREDENTIAL_CONFIGURED,
    NO_MODEL_SERVED,
    TEST_MAX_S,
    StepResult,
    Trial,
    UpstreamReport,
)
from tokenschain.providers.images import ImageFetcher
from tokenschain.providers.openai_compat.body_decoding import BadEncoding, decoded
from tokenschain.providers.openai_compat.upstreams import HttpUpstreams
from tokenschain.providers.vendor_profile import KeyScheme, Vendor
from tokenschain.wire import client as http
from tokenschain.wire.request_head import can_be_value, encode_lines

TESTS_MAX = 4
"""At one time: each holds a connection and may wait for long, as the upstream likes."""
LIST_BYTES_MAX = 2_097_152
_NAME_CHARACTERS_MAX = 200
_LIST_WAITS = http.Waits(5.0, 5.0, 8.0, 8.0, 8.0)
_KEY_LINES = {KeyScheme.BEARER: "authorization: Bearer ", KeyScheme.X_API_KEY: "x-api-key: "}
_WORDS = "Reply with OK."
_ASKED: dict[str, tuple[Api, dict[str, object]]] = {
    "chat": (Api.CHAT, {"messages": [{"role": "user", "content": _WORDS}], "max_tokens": 16}),
    "embedding": (Api.EMBEDDINGS, {"input": _WORDS}),
    "rerank": (Api.RERANK, {"query": _WORDS, "documents": [_WORDS]}),
}


class HttpUpstreamTester:
    """See `core.upstream_report.UpstreamTester`."""

    def __init__(
        self,
        client: http.HttpClient,
        outside: http.HttpClient,
        secret_of: Callable[[str], str | None],
        vendor_of: Callable[[str], Vendor],
        images: ImageFetcher,
    ) -> None:
        """
        Args:
            client: for upstreams of the platform.
            outside: one with a `PublicResolver`, for those that tenants name.
            secret_of: the secret behind a reference to what this machine holds; None while it
                cannot be had.
        """
        self._client = client
        self._outside = outside
        self._secret_of = secret_of
        self._vendor_of = vendor_of
        self._images = images
        self._slots = Slots(TESTS_MAX, "Other upstreams are being tested; try again soon.")

    async def test(
        self, upstream: Upstream, trial: Trial | None, stored: Mapping[str, str]
    ) -> UpstreamReport:
        """See `core.upstream_report.UpstreamTester.test`."""
        with self._slots.taken(upstream.tenant):
            return await self._tested(upstream, trial, stored)

    async def _tested(
        self, upstream: Upstream, trial: Trial | None, stored: Mapping[str, str]
    ) -> UpstreamReport:
        def secret_of(reference: str) -> str | None:
            found = stored.get(reference) or self._secret_of(reference)
            return found if found and can_be_value(found) else None

        secrets = {reference: secret_of(reference) for reference in upstream.credentials}
        credential = _credential_step(upstream, secrets)
        key = next((secret for secret in secrets.values() if secret), None)
        client = self._outside if upstream.tenant else self._client
        began = time.monotonic()
        connection, listing, models = await self._listed(client, upstream, key)
        steps = [credential, connection, listing]
        if connection.outcome == "failed":
            steps.append(StepResult("call", "skipped", NO_CONNECTION))
        elif credential.outcome == "failed":
            steps.append(StepResult("call", "skipped", NO_CREDENTIAL))
        elif trial is None:
            steps.append(StepResult("call", "failed", NO_MODEL_SERVED, MEND_MODELS))
        else:
            upstreams = HttpUpstreams(client, secret_of, self._vendor_of, _ignore, self._images)
            left_s = TEST_MAX_S - (time.monotonic() - began)
            steps.append(await _called(upstreams, upstream, trial, left_s))
        known = frozenset(part for secret in secrets.values() if secret for part in _parts(secret))
        return _without_secrets(UpstreamReport(tuple(steps), models), Redactor(lambda: known))

    async def _listed(
        self, client: http.HttpClient, upstream: Upstream, key: str | None
    ) -> tuple[StepResult, StepResult, tuple[str, ...] | None]:
        """Who answers, and which models it lists."""
        vendor = self._vendor_of(upstream.provider)
        try:
            origin = http.Origin.of(upstream.base_url)
            head = _list_head(upstream, vendor, origin, key)
        except ValueError as error:
            failed = StepResult("connection", "failed", str(error), MEND_HOST)
            return failed, StepResult("models", "skipped", NO_CONNECTION), None
        began = time.monotonic()
        try:
            reply = await client.open(origin, head, _LIST_WAITS)
            took_ms = round((time.monotonic() - began) * 1e3)
            body = decoded(await reply.read(LIST_BYTES_MAX), reply.headers, LIST_BYTES_MAX)
        except (http.ConnectFailed, http.TimedOut, http.PoolExhausted) as error:
            mend = MENDS["upstream_unreachable"]
            if "certificate" in str(error).lower():
                mend = MEND_CERTIFICATE
            failed = StepResult("connection", "failed", str(error), mend)
            return failed, StepResult("models", "skipped", NO_CONNECTION), None
        except (http.ClientError, BadEncoding) as error:
            said = f"{origin.authority} answers, but not as an API does: {error}"
            failed = StepResult("connection", "failed", said, MENDS["upstream_invalid_reply"])
            return failed, StepResult("models", "skipped", NO_CONNECTION), None
        tls = "TLS, its certificate is valid" if origin.tls else "without TLS"
        answers = StepResult("connection", "ok", f"{origin.authority} answers ({tls})", "", took_ms)
        models = _names_in(body) if reply.status == 200 else None
        if models is None:
            why = f"it has no list of models to compare with (HTTP {reply.status})"
            return answers, StepResult("models", "skipped", why), None
        return (
            answers,
            StepResult(
                "models", "ok", f"it lists {len(models)} model{'' if len(models) == 1 else 's'}"
            ),
            models,
        )


def _parts(secret: str) -> tuple[str, ...]:
    """A credential, and the halves of an `id:secret`."""
    return (secret, *secret.split(":"))


def _without_secrets(report: UpstreamReport, redactor: Redactor) -> UpstreamReport:
    """An upstream may say again what it was sent; who asks may know the upstream, not its key."""
    steps = tuple(one._replace(message=redactor.secret_free(one.message)) for one in report.steps)
    models = report.models
    if models is not None:
        models = tuple(name for name in models if redactor.secret_free(name) == name)
    return UpstreamReport(steps, models)


def _credential_step(upstream: Upstream, secrets: Mapping[str, str | None]) -> StepResult:
    if not secrets:
        return StepResult("credential", "skipped", NO_CREDENTIAL_CONFIGURED)
    missing = [_named(upstream, one) for one, secret in secrets.items() if not secret]
    if not missing:
        return StepResult("credential", "ok", f"{len(secrets)} of {len(secrets)} are there")
    said = f"not to be had here: {', '.join(missing)}"
    mend = MEND_REFERENCE
    if len(missing) < len(secrets):
        return StepResult("credential", "ok", f"{said}; the others are there", mend)
    return StepResult("credential", "failed", said, mend)


def _named(upstream: Upstream, reference: str) -> str:
    """A reference as whoever wrote it knows it."""
    return f"`{reference.replace(f'stored:{upstream.tenant}/', 'stored:', 1)}`"


def _list_head(upstream: Upstream, vendor: Vendor, origin: http.Origin, key: str | None) -> bytes:
    address, mark, query = upstream.base_url.partition("?")
    base = "/" + address.split("://", 1)[1].partition("/")[2].strip("/")
    headers = vendor.protocol.headers if vendor.protocol is not None else ()
    lines = [
        f"GET {base.rstrip('/')}/models{mark}{query} HTTP/1.1",
        f"host: {origin.authority}",
        "accept-encoding: identity",
        "user-agent: tokenschain",
        *(f"{name}: {value}" for name, value in headers),
    ]
    scheme = _KEY_LINES.get(vendor.auth)
    if key is not None and scheme is not None and not upstream.auth:
        lines.append(f"{scheme}{key}")
    return encode_lines(lines) + b"\r\n"


class _Listed(msgspec.Struct, frozen=True):
    id: str


class _List(msgspec.Struct, frozen=True):
    """OpenAI's answer to `GET /v1/models`, which Anthropic's is like."""

    data: list[_Listed]


def _names_in(body: bytes) -> tuple[str, ...] | None:
    try:
        found = msgspec.json.decode(body, type=_List).data
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    names = (one.id for one in found[:MODELS_MAX])
    kept = (name for name in names if 0 < len(name) <= _NAME_CHARACTERS_MAX and name.isprintable())
    return tuple(dict.fromkeys(kept))


async def _called(
    upstreams: HttpUpstreams, upstream: Upstream, trial: Trial, left_s: float
) -> StepResult:
    """One small call."""
    call = _call(trial)
    began = time.monotonic()
    named = f"`{trial.offer.model}`"
    try:
        async with asyncio.timeout(max(1.0, left_s)):
            answer = await upstreams.open(call, Candidate(upstream, trial.offer))
            await delivered(answer, call)
    except TimeoutError:
        said = f"{named} gave no answer within {left_s:.0f} s"
        return StepResult("call", "failed", said, MENDS["upstream_timeout"])
    except ApiError as error:
        said = f"{named}: {error.message} {error.detail or ''}".strip()
        return StepResult("call", "failed", said, MENDS.get(error.code, MEND_OTHERS))
    took_ms = round((time.monotonic() - began) * 1e3)
    usage = call.attempts[-1].usage if call.attempts else None
    tokens = "" if usage is None else f": {usage.prompt_tokens} + {usage.completion_tokens} tokens"
    return StepResult("call", "ok", f"{named} answers{tokens}", "", took_ms)


def _call(trial: Trial) -> Call:
    api, fields = _ASKED.get(trial.kind, _ASKED["chat"])
    body = msgspec.json.encode({"model": trial.offer.model, **fields})
    api_format = next(one for one in API_FORMATS if one.name == api.value)
    now = time.monotonic()
    request = CallRequest("upstream-test", api_format, body, b"", {}, now, time.time_ns() // 10**6)
    nobody = _NoCaller()
    call = Call(request, nobody, nobody, UNREAD)
    call.parsed = api_format.parse(body)
    return call


class _NoCaller:
    """A way back to nobody; the answer is whole, so that nothing is written."""

    on_pause: Callable[[], None] | None = None
    on_resume: Callable[[], None] | None = None
    bytes_out = 0
    takes_raw = False
    ends_long = False

    def begin_stream(self, call: Call) -> None: ...

    def add_headers(self, lines: bytes) -> None: ...

    def write(self, data: bytes) -> None: ...

    def event(self, data: bytes) -> None: ...

    def native(self, data: bytes, chunks: list[bytes]) -> None: ...

    def complete(self, call: Call, last: bytes) -> bytes:
        return last

    def keeps_long(self, call: Call, last: bytes) -> bool:
        return False

    def keep(self, call: Call, last: bytes) -> bytes:
        return last

    def close(self, call: Call, last: bytes) -> None: ...


def _ignore(*_: Any) -> None:
    """A key's state is of this test alone."""
