"""Upstream calls: opens a call at an upstream of any vendor."""

from __future__ import annotations

import functools
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from typing import NamedTuple

import msgspec
from msgspec import Raw

from tokenschain.core.call import Attempt, Call, WholeAnswer
from tokenschain.core.errors import ApiError, Blame
from tokenschain.core.formats import canonical, openai_chat
from tokenschain.core.formats.bridged_request import Bridged
from tokenschain.core.formats.continuation import PartialOutput, Splice
from tokenschain.core.formats.dialect import Dialect
from tokenschain.core.formats.openai_chat import Api, ParsedRequest
from tokenschain.core.formats.translation_changes import Policy
from tokenschain.core.gateway_status import MISSING, KeyStatus
from tokenschain.core.ports import Answer, OffLoop, delivered, on_loop
from tokenschain.core.snapshot import Candidate, Upstream
from tokenschain.providers import rerank
from tokenschain.providers.access_tokens import TokenKeeper
from tokenschain.providers.auth import EXCHANGES
from tokenschain.providers.credential_pool import KeyRing, KeyState, UpstreamKey
from tokenschain.providers.images import BESIDE_MESSAGES, ImageFetcher, MediaUrls, may_name_media
from tokenschain.providers.openai_compat import embeddings
from tokenschain.providers.openai_compat.failures import note_failure, refusal_of, unreachable
from tokenschain.providers.openai_compat.fan_out import side_by_side
from tokenschain.providers.openai_compat.replies import (
    REPLY_BYTES_MAX,
    read_native,
    read_whole,
    takes_long,
    understood,
)
from tokenschain.providers.openai_compat.reply_budget import UNBOUNDED, ReplyBudget
from tokenschain.providers.openai_compat.request_bridge import (
    bridged_request,
    policy_of,
    schema_param,
    tell,
)
from tokenschain.providers.openai_compat.stream_collector import as_stream, gather
from tokenschain.providers.openai_compat.streams import StreamAnswer
from tokenschain.providers.openai_compat.targets import (
    Target,
    head_of,
    lines_of,
    loop_line,
    probe_of,
    target_of,
)  # fmt: skip
from tokenschain.providers.schema_check import SchemaChecker
from tokenschain.providers.signing import Signable
from tokenschain.providers.vendor_profile import Vendor
from tokenschain.wire import client as http

KEYS_TRIED_MAX = 3
"""Keys of one upstream tried for one call."""
PROMPTS_MAX = 128
"""Of one text completion, where each is a call."""
PROBE_WAITS = http.Waits(connect_max_s=1.0, first_byte_max_s=2.0, total_max_s=3.0)
PROBE_BYTES_MAX = 65_536
# Looked up once: a member of an enumeration costs more than the comparison with it.
_CHAT, _COMPLETIONS, _EMBEDDINGS = Api.CHAT, Api.COMPLETIONS, Api.EMBEDDINGS
_KEY_STATES = frozenset(KeyState)
_decode_list = msgspec.json.Decoder(list[Raw]).decode
_encode = msgspec.json.Encoder().encode


class _Account(NamedTuple):
    """What keys belong to: they rest, or hold a token, whatever else changes of an upstream."""

    id: str
    provider: str
    base_url: str
    auth: str
    token_url: str | None
    credentials: tuple[str, ...]


class HttpUpstreams:
    """Upstream client: sends a request to an upstream of any vendor and opens its reply."""

    def __init__(
        self,
        client: http.HttpClient,
        secret_of: Callable[[str], str | None],
        vendor_of: Callable[[str], Vendor],
        report: Callable[[str, int, KeyState, float, str], None],
        images: ImageFetcher,
        off_loop: OffLoop = on_loop,
        outside: http.HttpClient | None = None,
        replies: ReplyBudget = UNBOUNDED,
    ) -> None:
        """
        Args:
            secret_of: the secret behind a reference, or None while it cannot be had.
            vendor_of: the row of a provider in the table of vendors.
            report: told of a key's new state: upstream, number of the key, state, for how long.
            off_loop: where long requests are written and long replies are read.
            outside: for upstreams of tenants, see `infra.egress.outside_client`.
            replies: bounds what is held of answers.
        """
        self._client = client
        self._replies = replies
        self._outside = outside or client
        self._secret_of = secret_of
        self._vendor_of = vendor_of
        self._report = report
        self._images = images
        self._off_loop = off_loop
        self._schemas = SchemaChecker()
        self._targets: dict[tuple[str, Api, bool], Target] = {}
        self._numbers_only: set[str] = set()
        """Upstreams that have refused embeddings as base64."""
        self._rings: dict[_Account, KeyRing] = {}
        self._keepers: dict[_Account, TokenKeeper] = {}

    async def refresh_keys(self) -> None:
        """Read all keys' references again, so that a new key needs no restart."""
        for account, ring in self._rings.items():
            ring.refresh()
            keeper = self._keepers.get(account)
            if keeper is not None:
                await keeper.refresh({key.value for key in ring.keys})

    def without_key(self, upstreams: Iterable[Upstream]) -> frozenset[str]:
        """The ids of those that need a key, where none can be had."""
        rings = ((upstream.id, self._ring(upstream)) for upstream in upstreams)
        return frozenset(name for name, ring in rings if ring is not None and not ring.keys)

    async def probe(self, upstream: Upstream) -> None:
        """Ask whether an upstream is there; see `Upstream.probe_path`.

        Raises:
            ApiError: it does not say so within `PROBE_WAITS`.
        """
        try:
            origin, head = probe_of(upstream)
            reply = await self._client_of(upstream).open(origin, head, PROBE_WAITS)
            await reply.read(PROBE_BYTES_MAX)
        except (http.ClientError, ValueError) as error:
            raise unreachable(upstream, error) from error
        if reply.status != 200:
            raise ApiError("upstream_failed", f"`{upstream.id}` answered HTTP {reply.status}.")

    def check(self, upstream: Upstream) -> None:
        """
        Raises:
            ValueError: it cannot be asked as it is configured. Where a tenant names an address
                that is none, its own calls fail.
        """
        try:
            vendor = self._vendor_of(upstream.provider)
            if upstream.auth == "token" and vendor.rules not in EXCHANGES:
                raise ValueError(f"the provider {upstream.provider} has no token service")
            for url in () if upstream.tenant else (upstream.base_url, upstream.token_url):
                if url is not None:
                    http.Origin.of(url)
        except (ValueError, LookupError) as error:
            raise ValueError(f"upstream {upstream.id}: {error}") from error

    def keep_only(self, upstreams: Iterable[Upstream]) -> None:
        """Let go of upstreams that have left the configuration; calls that run there go on, and
        their connections are closed afterwards, when they have been idle (`IDLE_KEEP_S`)."""
        there = set(map(_account_of, upstreams))
        ids = {account.id for account in there}
        for known in [one for one in self._rings if one not in there]:
            del self._rings[known]
        for known in [one for one in self._keepers if one not in there]:
            del self._keepers[known]
        for name in [name for name in self._targets if name[0] not in ids]:
            del self._targets[name]
        self._numbers_only &= ids

    def credentials(self) -> frozenset[str]:
        """The values that no text may hold: keys, and tokens that were traded for them."""
        keys = {key.value for ring in self._rings.values() for key in ring.keys}
        tokens = (token for keeper in self._keepers.values() for token in keeper.values())
        return frozenset((*keys, *(part for key in keys for part in key.split(":")), *tokens))

    def key_states(self) -> dict[str, list[KeyStatus]]:
        """How each upstream's keys are; those whose reference leads to nothing are `missing`."""
        now = time.monotonic()
        found = {}
        for account, ring in self._rings.items():
            known = {key.number: key for key in ring.keys}
            found[account.id] = [
                KeyStatus(number, key.state, max(0.0, key.rests_until - now))
                if (key := known.get(number)) is not None
                else KeyStatus(number, MISSING)
                for number in range(1, len(account.credentials) + 1)
            ]
        return found

    def heard(self, upstream: str, number: int, state: str, for_s: float) -> None:
        """Another gateway's key at an upstream has changed its state: so has ours. A state that is
        none is of a newer gateway, or of nobody."""
        if state not in _KEY_STATES:
            return
        for known, ring in self._rings.items():
            if known.id == upstream:
                ring.heard(number, KeyState(state), for_s)

    def can_resume(self, candidate: Candidate) -> bool:
        """See `core.ports.Upstreams.can_resume`."""
        return self._vendor_of(candidate.upstream.provider).prefill is not None

    def open(
        self, call: Call, candidate: Candidate, said: PartialOutput | None = None
    ) -> Coroutine[None, None, Answer]:
        """See `core.ports.Upstreams.open`.

        A key that the upstream complains about rests, and the next one is tried.
        """
        # Not a coroutine itself: each that a call waits in costs it some 1,500 instructions.
        target = self._target(candidate.upstream, call.parsed.api, said is not None)
        if call.takes_long:
            return self._open_long(call, candidate, target, said)
        bridged = bridged_request(call, candidate, target.vendor, said)
        if not bridged.untouched or call.attempts or call.parsed.mended:
            tell(call, bridged)
        texts = (
            call.parsed.all_text
            and not bridged.relays  # as its caller wrote it: not all of that was translated
            and BESIDE_MESSAGES.isdisjoint(bridged.fields)
        )
        if bridged.schema is not None or (not texts and may_name_media(bridged.fields)):
            return self._open_prepared(call, candidate, target, bridged, said)
        if target.keys is None:
            return self._try(call, candidate, target, bridged, None, said)
        return self._with_keys(call, candidate, target, bridged, target.keys, said)

    async def _open_long(
        self, call: Call, candidate: Candidate, target: Target, said: PartialOutput | None
    ) -> Answer:
        bridging = functools.partial(bridged_request, call, candidate, target.vendor, said)
        bridged = await self._off_loop(bridging, call.caller)
        tell(call, bridged)
        return await self._open_prepared(call, candidate, target, bridged, said)

    async def _open_prepared(
        self,
        call: Call,
        candidate: Candidate,
        target: Target,
        bridged: Bridged,
        said: PartialOutput | None,
    ) -> Answer:
        """Check the schema of the answer and addresses of media, or fetch those; then ask."""
        if bridged.schema is not None:
            await self._schemas.check_schema(bridged.schema, schema_param(call.parsed), call.caller)
        media = target.media_urls
        if media is not MediaUrls.INLINED:
            if media is not MediaUrls.PASSED:
                await self._images.check(bridged.fields, media, call.caller)
            return await self._with_key(call, candidate, target, bridged, said)
        async with self._images.inlined(bridged.fields, call.caller) as fields:
            bridged = msgspec.structs.replace(bridged, fields=fields)
            return await self._with_key(call, candidate, target, bridged, said)

    def _with_key(
        self,
        call: Call,
        candidate: Candidate,
        target: Target,
        bridged: Bridged,
        said: PartialOutput | None,
    ) -> Coroutine[None, None, Answer]:
        if target.keys is None:
            return self._try(call, candidate, target, bridged, None, said)
        return self._with_keys(call, candidate, target, bridged, target.keys, said)

    async def _with_keys(
        self,
        call: Call,
        candidate: Candidate,
        target: Target,
        bridged: Bridged,
        ring: KeyRing,
        said: PartialOutput | None,
    ) -> Answer:
        failure: ApiError | None = None
        for _ in range(min(len(ring.keys), KEYS_TRIED_MAX)):
            key = ring.take()
            if key is None:
                break
            held = False
            try:
                answer = await self._try(call, candidate, target, bridged, key, said)
                ring.answered(key)
                held = call.parsed.stream and len(ring.keys) > 1
                return _Held(answer, key) if held else answer
            except ApiError as error:
                if error.kind.blame is not Blame.KEY:
                    raise
                ring.blame(key, error.code, error.retry_after_s)
                failure = error
            finally:
                if not held:
                    key.end()
        raise failure or _no_key(candidate.upstream, ring)

    async def _try(
        self,
        call: Call,
        candidate: Candidate,
        target: Target,
        bridged: Bridged,
        key: UpstreamKey | None,
        said: PartialOutput | None,
    ) -> Answer:
        parsed, upstream, vendor = call.parsed, candidate.upstream, target.vendor
        attempt = Attempt(candidate, time.monotonic())
        if bridged.thinking:
            attempt.thinking = True
        api, fields = parsed.api, bridged.fields
        prompts = _prompts(fields, vendor.dialect) if api is _COMPLETIONS else []
        if prompts or parsed.choices > vendor.dialect.choices_max:
            return await self._several(call, candidate, target, attempt, bridged, prompts, key)
        call.attempts.append(attempt)
        try:
            sent, relays = parsed, bridged.relays
            gathers = upstream.stream_whole and not parsed.stream and api is _CHAT and not relays
            if gathers:
                sent, fields = as_stream(parsed, fields)
            if api is _EMBEDDINGS:
                ask = functools.partial(self._send, call, sent, candidate, target, key)
                reply = await self._embed(call, candidate, vendor, fields, ask)
            elif call.takes_long:
                given = (call, sent, candidate, target, key, fields)
                writing = functools.partial(self._send, *given, relays=relays)
                reply = await self._send_long(call, writing)
            else:
                reply = await self._send(call, sent, candidate, target, key, fields, relays=relays)
            attempt.first_byte_at = time.monotonic()
            if reply.status != 200:
                raise await refusal_of(reply, upstream.id, vendor)
            if parsed.stream:
                stream = StreamAnswer(
                    reply, call, attempt, vendor, splice=said and Splice(said), relays=relays,
                    replies=self._replies,
                )  # fmt: skip
                return await stream.first_token(self._off_loop)
            if relays:
                return await read_native(
                    reply, call, attempt, vendor, self._off_loop, self._replies
                )
            if gathers:
                body = await gather(reply, call, attempt, vendor, self._off_loop, self._replies)
            else:
                body, now = reply.whole(REPLY_BYTES_MAX), attempt.first_byte_at
                if not body:
                    body = await reply.read(
                        REPLY_BYTES_MAX, functools.partial(self._replies.hold, call)
                    )
                    now = time.monotonic()
                if takes_long(body):
                    reading = functools.partial(read_whole, body, reply, call, attempt, vendor)
                    body = await self._off_loop(reading, call.caller)
                else:
                    attempt.first_token_at = attempt.ended_at = now
                    body = understood(body, call, attempt, vendor)
            if bridged.schema is not None:
                body = await self._schemas.checked(body, bridged.schema, upstream.id, call.caller)
            return WholeAnswer(body)
        except BaseException as error:
            note_failure(attempt, parsed, upstream.id, error)
            raise

    async def _embed(
        self,
        call: Call,
        candidate: Candidate,
        vendor: Vendor,
        fields: dict[str, Raw],
        ask: Callable[[dict[str, Raw]], Awaitable[http.Reply]],
    ) -> http.Reply:
        """Ask for embeddings, as numbers where base64 is refused: that is made here."""
        upstream = candidate.upstream.id
        if not embeddings.wants_base64(call.parsed):
            return await ask(fields)
        if upstream not in self._numbers_only:
            reply = await ask(dict(fields))
            if reply.status == 200:
                return reply
            refusal = await refusal_of(reply, upstream, vendor)
            if not embeddings.refuses_base64(refusal):
                raise refusal
            self._numbers_only.add(upstream)
        call.adapted += ("encoding_format",)
        return await ask(embeddings.as_numbers(fields))

    def _send(
        self,
        call: Call,
        parsed: ParsedRequest,
        candidate: Candidate,
        target: Target,
        key: UpstreamKey | None,
        fields: dict[str, Raw],
        *,
        relays: bool = False,
    ) -> Coroutine[None, None, http.Reply]:
        protocol, chats = target.vendor.protocol, parsed.api is _CHAT
        offer = candidate.offer
        lines = loop_line(call.request.headers) if target.may_lead_back else b""
        if relays:
            body = _encode(fields)
            beta = call.request.headers.get(b"anthropic-beta")
            lines += b"anthropic-beta: %b\r\n" % beta if beta is not None else b""
        elif protocol is not None and chats:
            asked = canonical.read(fields)
            body = protocol.request(asked, offer.model, offer.output_tokens_max)
            if parsed.stream:
                lines += lines_of(protocol.stream_headers)
        elif target.vendor.texts_rerank and parsed.api is Api.RERANK:
            body = rerank.texts_request(fields)
        else:
            known = target.vendor.dialect.stream_usage
            body = openai_chat.encode_for(parsed, fields, offer.model, stream_usage=known)
        head = target.keyless_head
        if key is None:
            pass
        elif target.sign is not None:
            headers = (("content-type", "application/json"), ("host", target.origin.authority))
            request = Signable("POST", target.path, headers, body)
            lines += lines_of(target.sign(request, key.value, time.time()))
        elif target.tokens is not None:
            return self._send_with_token(target, target.tokens, key, offer.model, lines, body)
        else:
            head = head_of(target, key)
        return self._exchange(target, head, lines, body)

    async def _send_long(
        self, call: Call, writing: Callable[[], Coroutine[None, None, http.Reply]]
    ) -> http.Reply:
        """As `_send`, which writes the request at once, in the thread, and sends it when it is
        awaited, on the loop: nothing of the client may be touched before."""
        return await (await self._off_loop(writing, call.caller))

    async def _send_with_token(
        self,
        target: Target,
        tokens: TokenKeeper,
        key: UpstreamKey,
        model: str,
        lines: bytes,
        body: bytes,
    ) -> http.Reply:
        token = await tokens.token_of(key.value, model)
        lines += lines_of((("authorization", f"Bearer {token}"),))
        return await self._exchange(target, target.keyless_head, lines, body)

    def _exchange(
        self, target: Target, head: bytes, lines: bytes, body: bytes
    ) -> Coroutine[None, None, http.Reply]:
        client = self._outside if target.upstream.tenant else self._client
        return client.open(
            target.origin,
            b"%b%bcontent-length: %d\r\n\r\n%b" % (head, lines, len(body), body),
            target.waits,
            target.upstream.limits.connections_max,
        )

    async def _several(
        self,
        call: Call,
        candidate: Candidate,
        target: Target,
        attempt: Attempt,
        bridged: Bridged,
        prompts: list[Raw],
        key: UpstreamKey | None,
    ) -> Answer:
        """More choices or prompts than the vendor takes at once: as many calls, side by side."""
        if prompts and call.parsed.choices > 1:
            raise ApiError(
                "unsupported_parameter", "With several prompts the upstream gives one choice each.",
                param="n",
            )  # fmt: skip
        if not prompts and policy_of(call) in (Policy.ERROR, Policy.DROP):
            most = target.vendor.dialect.choices_max
            raise ApiError(
                "unsupported_parameter", f"The upstream gives {most} choices at most.", param="n"
            )
        call.attempts.append(attempt)
        call.emulated += ("prompt" if prompts else "n",)

        async def ask_one(number: int) -> http.Reply:
            fields = dict(bridged.fields)
            if prompts:
                fields["prompt"] = prompts[number]
            given = (call, call.parsed, candidate, target, key, fields)
            if call.takes_long:
                reply = await self._send_long(call, functools.partial(self._send, *given))
            else:
                reply = await self._send(*given)
            if reply.status != 200:
                raise await refusal_of(reply, candidate.upstream.id, target.vendor)
            return reply

        try:
            count = len(prompts) or call.parsed.choices
            return await side_by_side(
                call, attempt, target.vendor, count, ask_one, self._off_loop, self._replies
            )
        except BaseException as error:
            note_failure(attempt, call.parsed, candidate.upstream.id, error)
            raise

    def _target(self, upstream: Upstream, api: Api, resumes: bool) -> Target:
        target = self._targets.get((upstream.id, api, resumes))
        if target is None or target.upstream is not upstream:
            vendor = self._vendor_of(upstream.provider).passing(upstream.allowed_parameters)
            elsewhere, ring = vendor.prefill_path if resumes else None, self._ring(upstream)
            try:
                target = target_of(upstream, vendor, api, elsewhere, ring, self._keeper(upstream))
            except ValueError as error:
                raise unreachable(upstream, error) from error
            self._targets[upstream.id, api, resumes] = target
        return target

    def _keeper(self, upstream: Upstream) -> TokenKeeper | None:
        if upstream.auth != "token":
            return None
        account = _account_of(upstream)
        keeper = self._keepers.get(account)
        if keeper is None:
            exchange = EXCHANGES.get(self._vendor_of(upstream.provider).rules)
            if exchange is None:
                raise ApiError(
                    "no_upstream", f"The provider of `{upstream.id}` has no token service."
                )
            keeper = TokenKeeper(self._client_of(upstream), exchange, upstream.token_url)
            self._keepers[account] = keeper
        return keeper

    def _client_of(self, upstream: Upstream) -> http.HttpClient:
        return self._outside if upstream.tenant else self._client

    def _ring(self, upstream: Upstream) -> KeyRing | None:
        if not upstream.credentials:
            return None
        account = _account_of(upstream)
        ring = self._rings.get(account)
        if ring is None:
            ring = self._rings[account] = KeyRing(
                upstream.credentials,
                self._secret_of,
                time.monotonic,
                functools.partial(self._report, upstream.id),
            )
        return ring


def _account_of(upstream: Upstream) -> _Account:
    return _Account(
        upstream.id, upstream.provider, upstream.base_url, upstream.auth, upstream.token_url,
        upstream.credentials,
    )  # fmt: skip


class _Held:
    """A stream that keeps its key's place until it is over."""

    __slots__ = ("_answer", "_key")

    def __init__(self, answer: Answer, key: UpstreamKey) -> None:
        self._answer = answer
        self._key: UpstreamKey | None = key

    async def deliver(self, call: Call) -> bytes:
        try:
            return await delivered(self._answer, call)
        finally:
            self._end()

    def abort(self) -> None:
        self._answer.abort()
        self._end()

    def partial_output(self) -> PartialOutput | None:
        return self._answer.partial_output()

    def _end(self) -> None:
        if self._key is not None:
            self._key.end()
            self._key = None


def _no_key(upstream: Upstream, ring: KeyRing) -> ApiError:
    if not ring.keys:
        missing = ", ".join(upstream.credentials)
        return ApiError(
            "no_upstream",
            f"The credential of the upstream `{upstream.id}` is missing.",
            detail=f"missing: {missing}",
        )
    return ApiError(
        "upstream_rate_limited",
        f"All keys of the upstream `{upstream.id}` are resting; try again later.",
        retry_after_s=ring.ready_in_s,
    )


def _prompts(fields: dict[str, Raw], known: Dialect) -> list[Raw]:
    """The prompts of a text completion, where the upstream takes one at a time.

    Raises:
        ApiError: there are more than are asked side by side.
    """
    if known.many_prompts:
        return []
    raw = bytes(fields["prompt"])
    prompts = _decode_list(raw) if raw[:1] == b"[" else []
    if not prompts or bytes(prompts[0])[:1] not in (b'"', b"["):
        return []  # a list of numbers is one prompt
    if len(prompts) > PROMPTS_MAX:
        raise ApiError("invalid_value", f"`prompt` holds {PROMPTS_MAX} at most.", param="prompt")
    return prompts
