"""Screening of one call: its request, its answer as it comes, and what goes on record."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Coroutine, Mapping, Sequence
from functools import partial
from typing import Any

import msgspec

from tokenschain.core import data_class
from tokenschain.core.call import Call, Deliverable, Opened, ResponseWriter
from tokenschain.core.call_record import MODEL_CHARACTERS_MAX, fitting
from tokenschain.core.errors import ApiError
from tokenschain.core.formats import openai_chat
from tokenschain.core.formats.json_bounds import LONG_BYTES
from tokenschain.core.formats.openai_chat import Api
from tokenschain.core.formats.screened_texts import (
    AnswerPart,
    PieceKind,
    RequestTexts,
    blocked_reply,
    json_rewritten,
    rewritten,
    texts_of,
)
from tokenschain.core.formats.token_estimate import text_tokens
from tokenschain.core.moderation import case_record, personal_data
from tokenschain.core.moderation.case_record import CaseRecord, KeptText, kept_text
from tokenschain.core.moderation.detail import ENGINE_MARK, SHADOW
from tokenschain.core.moderation.personal_data import Replacements
from tokenschain.core.moderation.stream import Judge, OutputRules, screen_whole
from tokenschain.core.moderation.verdict import (
    Action,
    Direction,
    EngineContext,
    EngineCost,
    EngineFailed,
    EngineVerdict,
    RiskFinding,
)
from tokenschain.core.ports import ModerationEngine, OffLoop
from tokenschain.core.pricing.catalog import Usage
from tokenschain.core.snapshot import Plan
from tokenschain.core.snapshot.filings import filed_part, number_used
from tokenschain.core.tenancy import KeyGrant
from tokenschain.gateway.moderation.policy_set import PolicySet
from tokenschain.gateway.moderation.screening_writer import ScreeningWriter

WITHOUT_TEXT = frozenset((Api.EMBEDDINGS, Api.RERANK))
"""APIs whose answers are numbers, or the caller's own documents, which were screened as input."""
DETAIL_CHARACTERS_MAX = 200
_OUTCOMES = {
    Action.PASS: "passed", Action.REVIEW: "review", Action.MASK: "masked",
    Action.REPLACE: "replaced", Action.BLOCK: "blocked",
}  # fmt: skip
Seal = Callable[[str, str, bytes], bytes]
"""Seals what is kept of a tenant's call: (tenant, call, texts) -> sealed."""
_GONE = "caller_gone"
_UNANSWERED = frozenset(("open", _GONE))
_ANSWERED = frozenset(("ok", "lost_race"))
_FOR_REVIEW = frozenset((Action.REVIEW, Action.BLOCK))


class CallScreening:
    """What moderation does for one call; see `core.call.Screening`."""

    __slots__ = (
        "_actions", "_classes", "_costs", "_counts", "_engines", "_filings", "_first", "_kept",
        "_live", "_may_ask", "_off_loop", "_pictures_screened", "_replacements", "_seal", "_shadow",
        "_shadow_action", "_verdict", "caller", "end_user", "may_cache", "plan", "screens_output",
        "writer",
    )  # fmt: skip

    def __init__(
        self,
        live: PolicySet | None,
        shadow: PolicySet | None,
        caller: KeyGrant,
        digest: Callable[[bytes], bytes],
        engines: Mapping[str, ModerationEngine],
        off_loop: OffLoop,
        seal: Seal,
    ) -> None:
        """
        Args:
            live: the policies in force.
            shadow: those that only watch.
        """
        self._live, self._shadow, self.caller = live, shadow, caller
        self._engines, self._off_loop, self._seal = engines, off_loop, seal
        self._kept: list[KeptText] | None = None
        if live is not None and live.keeps_texts:
            self._kept = []
        whose = f"{caller.tenant}\0{caller.project}\0".encode()
        self._replacements = Replacements(lambda value: digest(whose + value.encode()))
        self._actions: list[Action] = [Action.PASS]
        self._shadow_action = Action.PASS
        self._costs: dict[str, EngineCost] = {}
        self._counts: Counter[str] = Counter()
        self._first: Counter[str] = Counter()
        """Data classes that were found, by which people are counted whose data goes abroad, and
        engines that failed or were slow; first in the record, so that nothing cuts them off."""
        self._may_ask: Callable[[str, KeyGrant], bool] = lambda name, caller: True
        self._pictures_screened = False
        self._classes: frozenset[str] = frozenset()
        """Data classes of what was found in the request."""
        self._verdict: asyncio.Task[bool] | None = None
        """Of engines that look at the request while an upstream is opened."""
        self.plan: Plan | None = None
        """What is filed of the call's plan, where a policy asks for it."""
        self._filings: Mapping[str, str] = {}
        self.may_cache = True
        self.screens_output = False
        self.end_user = ""
        """As a keyed hash, where blocked calls are counted by it."""
        self.writer: ScreeningWriter | None = None

    # --- the request -------------------------------------------------------------------------

    @property
    def counts_end_users(self) -> bool:
        """Whether a policy in force counts blocked calls by end user."""
        return self._live is not None and self._live.counts_end_users

    def require_filed(self, call: Call, plan: Plan, filings: Mapping[str, str]) -> None:
        """Leave only filed models to the call, where a policy in force asks for them.

        Args:
            filings: numbers in force, by model.

        Raises:
            ApiError: `model_not_filed`.
        """
        live = self._live
        if live is None or not live.requires_filing or call.parsed.api in WITHOUT_TEXT:
            return
        self.plan, self._filings = filed_part(filings, plan), filings
        # An answer that is kept may be of any of the models that the name has ever stood for.
        self.may_cache &= not plan.others

    def filing_of(self, upstream: str, model: str) -> str:
        """See `core.call.Screening.filing_of`."""
        plan = self.plan
        return "" if plan is None else number_used(self._filings, plan, upstream, model)

    async def screen_input(self, call: Call, may_ask: Callable[[str, KeyGrant], bool]) -> None:
        """Refuse what may not be asked; rewrite what may not be said.

        Args:
            may_ask: whether residency lets the texts of a call of this caller's go to an engine,
                by its name.

        Raises:
            ApiError: `content_filter`, or `moderation_unavailable`.
        """
        self._may_ask = may_ask
        parsed = call.parsed
        native = parsed.native
        fields = parsed.fields if native is None else {**parsed.fields, **native.fields}
        size = sum(memoryview(raw).nbytes for raw in fields.values())

        def look() -> tuple[RequestTexts, bool]:
            texts = texts_of(fields)
            return texts, self._look(texts)

        is_long = size > LONG_BYTES
        texts, edits = await self._off_loop(look, self.caller) if is_long else look()
        live = self._live
        if live is not None and live.screens(Direction.INPUT):
            if self._classes:
                self._classify(call)
            images = [one.url for one in texts.media if one.is_picture]
            if live.refuses_media and len(images) < len(texts.media):
                self._note(Action.BLOCK, "media")
            if Action.BLOCK not in self._actions:
                asking = self._ask(call, texts.texts, images, Direction.INPUT)
                if live.asks_beside and not (live.refuses_media and images):
                    self._verdict = asyncio.create_task(asking)
                    self._verdict.add_done_callback(_heard)
                else:
                    await asking
            if live.refuses_media and images and not self._pictures_screened:
                self._note(Action.BLOCK, "media")
            if Action.BLOCK in self._actions:
                self.note(call)
                raise ApiError("content_filter", live.message)
            if edits and is_long:
                await self._off_loop(partial(self._rewrite, call), self.caller)
            elif edits:
                self._rewrite(call)
        self.screens_output = parsed.api not in WITHOUT_TEXT and (
            self._answers_matter
            or (self._shadow is not None and self._shadow.screens(Direction.OUTPUT))
        )
        call.reads_answer |= self.screens_output
        self.note(call)

    def _look(self, texts: RequestTexts) -> bool:
        """Screen the request's texts; whether any of them is to be rewritten."""
        edits = False
        for policies in (self._live, self._shadow):
            if policies is None or not policies.screens(Direction.INPUT):
                continue
            judge = policies.judge(Direction.INPUT)
            cuts = policies.cuts(Direction.INPUT, self._replacements)
            classify = policies.classify(Direction.INPUT)
            classes = policies.data_classes if policies is self._live else {}
            for text in texts.texts:
                for data in personal_data.find(text) if classes else ():
                    self._classes |= classes.get(data.kind, frozenset())
                found = policies.rules.screen(text, Direction.INPUT)
                found += [one for one, _ in cuts(text)] if cuts is not None else ()
                found += classify(text) if classify is not None else ()
                edits |= self._judge(found, policies, judge)
                if found and policies is self._live:
                    self._keep(Direction.INPUT, text, found, judge)
            edits |= self._judge(_split(policies, texts), policies, judge)
        return edits

    def _judge(self, found: Sequence[RiskFinding], policies: PolicySet, judge: Judge) -> bool:
        """Note findings of a request; whether a text is to be rewritten for one of them."""
        edits = False
        for one in found:
            action = judge(one)
            self._judged(one, action, shadow=policies is self._shadow)
            edits |= policies is self._live and Action.MASK <= action < Action.BLOCK
        return edits

    def _classify(self, call: Call) -> None:
        """The call's data is of the classes that were found: it goes where the highest may go,
        and nothing of it is kept if that is more than general."""
        self.caller = self.caller.of_classes(self._classes)
        for name in sorted(data_class.in_force(self._classes)):
            self._first[f"data_class:{name}"] += 1
        if data_class.may_be_kept(self._classes):
            return
        self.may_cache = False
        if call.parsed.kept_input:
            call.parsed = msgspec.structs.replace(call.parsed, kept_input=b"")
            call.dropped = (*call.dropped, "store")

    def _rewrite(self, call: Call) -> None:
        """Write the request anew; the one that other calls share stays as it is."""
        live = self._live
        assert live is not None, "somebody wants it rewritten"
        rules = self._output_rules(live, Direction.INPUT)

        def edit(text: str) -> str:
            return screen_whole(text, rules)[0]

        parsed, native = call.parsed, call.parsed.native
        if native is not None:
            native = msgspec.structs.replace(native, fields=rewritten(native.fields, edit))
        fields = rewritten(parsed.fields, edit)
        call.parsed = msgspec.structs.replace(parsed, fields=fields, native=native)
        self._check_rewritten(call, live)
        # What is written back into an answer is for this caller: a question that means the same
        # must not find it.
        self.may_cache &= not self._replacements.restores

    def _check_rewritten(self, call: Call, live: PolicySet) -> None:
        """What cannot be written otherwise, as a word in two messages, is not sent.

        Raises:
            ApiError: `content_filter`.
        """
        parsed = call.parsed
        fields = parsed.fields if parsed.native is None else parsed.fields | parsed.native.fields
        texts, judge = texts_of(fields), live.judge(Direction.INPUT)
        left = _split(live, texts)
        for text in texts.texts:
            left += live.rules.screen(text, Direction.INPUT)
        if any(Action.MASK <= judge(one) < Action.BLOCK for one in left):
            self._note(Action.BLOCK, "not_rewritten")
            self.note(call)
            raise ApiError("content_filter", live.message)

    def _output_rules(self, policies: PolicySet, direction: Direction) -> OutputRules:
        replacements = self._replacements
        restores = direction is Direction.OUTPUT and replacements.restores
        return OutputRules(
            policies.rules,
            policies.judge(direction),
            held=policies.held,
            cuts=policies.cuts(direction, replacements),
            classify=policies.classify(direction),
            replacements=replacements if restores else None,
            replacement=policies.replacement,
        )

    async def beside(self, call: Call, opening: Coroutine[None, None, Opened]) -> Opened:
        """See `core.call.Screening.beside`."""
        if self._verdict is None:
            return await opening
        opened = asyncio.create_task(opening)
        try:
            await asyncio.wait((opened, self._verdict), return_when=asyncio.FIRST_COMPLETED)
            if not opened.done():
                await self._allowed(call)
            return await opened
        except ApiError:
            await _withdrawn(opened)
            _note_withdrawn(call, "content_filter")
            raise
        finally:
            await _withdrawn(opened)

    async def _allowed(self, call: Call) -> None:
        """Wait for the verdict on the request.

        Raises:
            ApiError: it may not be answered.
        """
        if self._verdict is None:
            return
        allowed = await self._verdict
        self.note(call)
        if not allowed:
            assert self._live is not None, "its engines were asked"
            raise ApiError("content_filter", self._live.message)

    def end(self) -> None:
        """See `core.call.Screening.end`."""
        if self._verdict is not None:
            self._verdict.cancel()

    # --- the answer --------------------------------------------------------------------------

    def around(self, call: Call, writer: ResponseWriter) -> ResponseWriter:
        """A writer that screens what it passes on; the same where nothing is screened."""
        if not self.screens_output or not call.parsed.stream:
            return writer
        live = shadow = None
        if self._live is not None and self._answers_matter:
            live = self._output_rules(self._live, Direction.OUTPUT)
        if self._shadow is not None and self._shadow.screens(Direction.OUTPUT):
            shadow = self._output_rules(self._shadow, Direction.OUTPUT)
        gathers = _wants_json(call)
        keeps = self._kept is not None
        self.writer = ScreeningWriter(writer, live, shadow, gathers=gathers, keeps=keeps)
        return self.writer

    @property
    def _answers_matter(self) -> bool:
        """Whether anything in an answer may be found or put back."""
        live = self._live
        return live is not None and (live.screens(Direction.OUTPUT) or self._replacements.restores)

    async def deliver(self, call: Call, answer: Deliverable) -> bytes:
        """Deliver an answer, screened; see `core.ports.Answer.deliver`."""
        try:
            await self._allowed(call)
        except BaseException as error:
            answer.abort()
            _note_withdrawn(call, "content_filter" if isinstance(error, ApiError) else _GONE)
            raise
        if not self.screens_output:
            return await _delivered(call, answer)
        if self.writer is not None:
            return await self._deliver_stream(call, answer, self.writer)
        last = await _delivered(call, answer)
        long = len(last) > LONG_BYTES
        screened = await self._off_loop(lambda: self._whole(last), self.caller) if long else (
            self._whole(last)
        )  # fmt: skip
        body, blocked, texts = screened
        if not blocked:
            blocked = not await self._ask(call, texts, [], Direction.OUTPUT)
        if blocked:
            body = blocked_reply(body, _empty_choices(body))
            usage = self._close_blocked(call, 0)
            if usage is not None:
                body = openai_chat.with_usage(body, usage)
        if body is not last:
            call.native_answer, call.relays = b"", False
        self.note(call)
        return body

    async def _deliver_stream(
        self, call: Call, answer: Deliverable, writer: ScreeningWriter
    ) -> bytes:
        delivering = asyncio.create_task(_delivered(call, answer))
        try:
            first: tuple[asyncio.Future[Any], ...] = (delivering, writer.over)
            await asyncio.wait(first, return_when=asyncio.FIRST_COMPLETED)
            if not writer.over.done():
                engines = self._live is not None and self._live.engines(Direction.OUTPUT)
                if engines and delivering.exception() is None:
                    texts = writer.texts()
                    if not await self._ask(call, texts, [], Direction.OUTPUT):
                        writer.block()
                writer.end()
        finally:
            if not delivering.done():
                delivering.cancel()
                await asyncio.wait({delivering})
            for one, action in writer.judged():
                self._judged(one, action, shadow=False)
            for text, found, judge in writer.found_in():
                self._keep(Direction.OUTPUT, text, found, judge)
            for one, action in writer.judged_in_shadow():
                self._judged(one, action, shadow=True)
            self.note(call)
        if writer.over.done():
            call.partial = False
            self._note(Action.BLOCK, "")
            self.note(call)
            writer.close_blocked(self._close_blocked(call, writer.released_bytes), call)
            return b""
        return delivering.result()

    def _close_blocked(self, call: Call, released_bytes: int) -> Usage | None:
        """Put on record that an answer was blocked; the usage that its caller has had."""
        if not call.attempts:
            return None
        attempt = call.attempts[-1]
        attempt.outcome, attempt.finish_reason = "ok", "content_filter"
        usage = attempt.usage
        prompt = usage.prompt_tokens if usage is not None else call.parsed.prompt_tokens_estimate
        had = text_tokens(released_bytes) if released_bytes else 0
        cached = usage.cached_tokens if usage is not None else 0
        attempt.delivered = Usage(prompt, had, cached, 0, "estimated")
        return attempt.delivered

    def _whole(self, reply: bytes) -> tuple[bytes, bool, list[str]]:
        """A whole reply as it may leave, whether it is blocked, and its texts."""
        part = AnswerPart(reply)
        live = self._live
        texts = [piece.text for piece in part.pieces]
        changed = blocked = False
        if self._shadow is not None and self._shadow.screens(Direction.OUTPUT):
            rules = self._output_rules(self._shadow, Direction.OUTPUT)
            for piece in part.pieces:
                for one in screen_whole(piece.text, rules)[1]:
                    self._judged(one, rules.judge(one), shadow=True)
        if live is None or not self._answers_matter:
            return reply, False, texts
        rules = self._output_rules(live, Direction.OUTPUT)
        for piece in part.pieces:
            text, found, why = screen_json_or_text(
                piece.text, rules, as_json=piece.kind is PieceKind.GATHERED
            )
            for one in found:
                self._judged(one, rules.judge(one), shadow=False)
            if found:
                self._keep(Direction.OUTPUT, piece.text, found, rules.judge)
            blocked |= why is not None
            if text != piece.text:
                piece.put(text)
                changed = True
        return part.written() if changed and not blocked else reply, blocked, texts

    # --- engines -----------------------------------------------------------------------------

    async def _ask(
        self, call: Call, texts: list[str], images: list[str], direction: Direction
    ) -> bool:
        """Ask the engines of the policies in force; false where one of them blocks.

        Raises:
            ApiError: `moderation_unavailable`: one that must have its say has none.
        """
        live = self._live
        if live is None or not (names := live.engines(direction)):
            return True
        context = EngineContext(
            call.request.id, self.caller.tenant, session=call.request.id,
            deadline_s=live.engine_wait_max_s, policy_version=call.snapshot_version,
            fails_closed=live.fails_closed,
        )  # fmt: skip
        judge = live.judge(direction)
        for name in names:
            engine = self._engines.get(name)
            try:
                if engine is None or not self._may_ask(name, self.caller):
                    raise ApiError("moderation_unavailable", _no_verdict(name))
                shown = images if engine.takes_images else []
                verdict = await engine.screen(texts, direction, context, shown)
            except (EngineFailed, ApiError) as error:
                if isinstance(error, EngineFailed):
                    self._owe(error.costs)
                    self._first.update(error.degraded)
                self._first[f"{name}:no_verdict"] += 1
                if live.fails_closed or getattr(error, "closed", False):
                    self.note(call)
                    raise ApiError("moderation_unavailable", _no_verdict(name)) from error
                continue
            self._owe(verdict.costs)
            self._first.update(verdict.degraded)
            self._pictures_screened |= engine.takes_images
            for category in verdict.disputed:
                self._note(Action.REVIEW, f"{category}:disputed:{verdict.engine}")
            self._keep_of_engine(direction, texts, verdict, judge)
            for one in verdict.findings:
                self._judged(one, judge(one), shadow=False, engine=verdict.engine)
                if judge(one) is Action.BLOCK:
                    return False
        return True

    def _owe(self, costs: Sequence[EngineCost]) -> None:
        for one in costs:
            known = self._costs.get(one.engine, EngineCost(one.engine, 0, 0))
            self._costs[one.engine] = EngineCost(
                one.engine, known.requests + one.requests, known.cost_pico + one.cost_pico
            )

    @property
    def engine_costs(self) -> list[EngineCost]:
        """See `core.call.Screening.engine_costs`."""
        return list(self._costs.values())

    # --- the record --------------------------------------------------------------------------

    def _judged(self, one: RiskFinding, action: Action, *, shadow: bool, engine: str = "") -> None:
        name = f"{one.category}:{one.level.name.lower()}:{one.label}"
        if engine:
            name += ENGINE_MARK + engine
        if shadow:
            self._shadow_action = max(self._shadow_action, action)
            self._counts[SHADOW + name] += 1
        else:
            self._note(action, name)

    def _note(self, action: Action, name: str) -> None:
        self._actions.append(action)
        if name:
            self._counts[name] += 1

    def _keep(
        self, direction: Direction, text: str, found: Sequence[RiskFinding], judge: Judge
    ) -> None:
        """Keep a text for reviewers, where something in it is theirs to look at."""
        if self._kept is None or len(self._kept) >= case_record.TEXTS_MAX:
            return
        ours = [one for one in found if judge(one) in _FOR_REVIEW]
        if ours:
            spans = [one.span for one in ours if one.span is not None]
            self._kept.append(kept_text(direction.value, text, spans))

    def _keep_of_engine(
        self, direction: Direction, texts: list[str], verdict: EngineVerdict, judge: Judge
    ) -> None:
        found: dict[int, list[RiskFinding]] = {}
        for one in verdict.findings:
            found.setdefault(one.text, []).append(one)
        for at, those in found.items():
            if at < len(texts):
                self._keep(direction, texts[at], those, judge)
        if verdict.disputed and not found and self._kept is not None:
            self._kept += [kept_text(direction.value, text, ()) for text in texts[-2:]]

    def case(self, call: Call) -> CaseRecord | None:
        """What people are to see of the call; None where they are to see nothing."""
        queued = not _FOR_REVIEW.isdisjoint(self._actions)
        if not queued and not self.end_user:
            return None
        caller, request = self.caller, call.request
        sealed = b""
        if self._kept and queued:
            sealed = self._seal(caller.tenant, request.id, case_record.encode_texts(self._kept))
        return CaseRecord(
            request.id, request.started_ms, caller.tenant, caller.project, caller.key_id,
            request.api_format.name, fitting(call.parsed.model, MODEL_CHARACTERS_MAX),
            call.moderation, call.moderation_detail, sealed, end_user=self.end_user, queued=queued,
        )  # fmt: skip

    def note(self, call: Call) -> None:
        """Put the verdict on the call: outcome and what was found, never a caller's words."""
        action = max(self._actions)
        if action is Action.PASS and self._shadow_action is not Action.PASS:
            call.moderation = SHADOW + _OUTCOMES[self._shadow_action]
        else:
            call.moderation = _OUTCOMES[action]
        counts = (*self._first.items(), *self._counts.items())
        parts = [name if count == 1 else f"{name}*{count}" for name, count in counts]
        call.moderation_detail = ";".join(parts)[:DETAIL_CHARACTERS_MAX]


def _split(policies: PolicySet, texts: RequestTexts) -> list[RiskFinding]:
    """Words in two messages, one after the other or of one role."""
    found = {one.label: one for one in policies.rules.across(texts.texts)}
    roles = set(texts.roles)
    for role in roles if len(roles) > 1 else ():
        mine = [text for text, whose in zip(texts.texts, texts.roles, strict=True) if whose == role]
        found |= {one.label: one for one in policies.rules.across(mine)}
    return list(found.values())


def _heard(verdict: asyncio.Task[bool]) -> None:
    """A verdict that nobody waits for any more is none that failed unseen."""
    if not verdict.cancelled():
        verdict.exception()


async def _withdrawn(opened: asyncio.Task[Opened]) -> None:
    """An upstream that is being opened is told to stop; nothing happens where it was."""
    if not opened.done():
        opened.cancel()
        await asyncio.wait({opened})
    elif not opened.cancelled():
        opened.exception()


def _note_withdrawn(call: Call, outcome: str) -> None:
    """Put on record that upstreams were asked in vain, and what they may be owed."""
    for attempt in call.attempts:
        if attempt.outcome in _UNANSWERED or (
            attempt is call.attempts[-1] and attempt.outcome in _ANSWERED
        ):
            attempt.outcome = outcome
            if attempt.usage is None:
                attempt.usage = Usage(call.parsed.prompt_tokens_estimate, source="estimated")


async def _delivered(call: Call, answer: Deliverable) -> bytes:
    last = answer.deliver(call)
    return last if isinstance(last, bytes) else await last


def screen_json_or_text(
    text: str, rules: OutputRules, *, as_json: bool
) -> tuple[str, list[RiskFinding], RiskFinding | None]:
    """A text as it may leave; within JSON, each of its strings by itself."""
    found: list[RiskFinding] = []
    blocked: list[RiskFinding] = []

    def edit(one: str) -> str:
        made, there, why = screen_whole(one, rules)
        found.extend(there)
        if why is not None:
            blocked.append(why)
        return made

    made = json_rewritten(text, edit) if as_json or text[:1] in ("{", "[") else None
    if made is None:
        made = edit(text)
    return made, found, blocked[0] if blocked else None


def _wants_json(call: Call) -> bool:
    """Whether the answer's text is to be JSON."""
    wanted = call.parsed.fields.get("response_format")
    return wanted is not None and b'"json' in bytes(wanted)


def _empty_choices(reply: bytes) -> dict[int, str]:
    choices = msgspec.json.decode(reply).get("choices") or ()
    return {choice.get("index", at): "" for at, choice in enumerate(choices)}


def _no_verdict(name: str) -> str:
    return f"The moderation engine `{name}` gave no verdict; the call was not served."
