"""Moderation step: finds a call's policies, screens its request, prepares for its answer.

A call that no policy is for costs one look at the snapshot.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from functools import partial

from tokenschain.core.call import Call
from tokenschain.core.errors import ApiError
from tokenschain.core.formats.end_user import end_user_of
from tokenschain.core.moderation import personal_data
from tokenschain.core.moderation.library import RuleLibrary
from tokenschain.core.moderation.personal_data import DataAction
from tokenschain.core.moderation.verdict import ClassifierThresholds, Direction, RiskFinding
from tokenschain.core.ports import ModerationEngine, OffLoop, on_loop
from tokenschain.core.snapshot import Plan, Served, Snapshot
from tokenschain.core.snapshot.freeze import holds
from tokenschain.core.snapshot.kept_content import KeptContent, kept_of
from tokenschain.core.snapshot.label_rules import LabelRule, rule_for
from tokenschain.core.snapshot.moderation_policy import in_force, policies_for
from tokenschain.core.tenancy import KeyGrant
from tokenschain.gateway.moderation.call_screening import CallScreening, Seal
from tokenschain.gateway.moderation.content_recording import ContentRecording
from tokenschain.gateway.moderation.labelling_writer import label
from tokenschain.gateway.moderation.policy_set import NamedPolicy, PolicySet, data_finding

REMEMBERED_MAX = 10_000
"""Projects whose policies are remembered, and sets of policies."""
NewRecording = Callable[[Call, KeyGrant, KeptContent, OffLoop], ContentRecording]
MayAsk = Callable[[str, Call, KeyGrant, Plan], bool]
_Set = tuple[tuple[str, ...], tuple[str, ...]]
"""Names of policies in force, and of those that watch."""


class ModerationStep:
    """See `core.ports.Moderation`."""

    def __init__(
        self,
        served: Served,
        library: RuleLibrary,
        digest: Callable[[bytes], bytes],
        engines: Mapping[str, ModerationEngine],
        seal: Seal,
        off_loop: OffLoop = on_loop,
        may_ask: MayAsk = lambda *_: True,
        recording: NewRecording | None = None,
    ) -> None:
        """
        Args:
            recording: keeps what a call says, where a policy wants it; None: nothing is kept.
            may_ask: whether residency lets the texts of a call go to an engine.
            digest: keyed: what stands for personal data is made by it.
            engines: by the names that policies give them.
            seal: what reviewers are shown of calls.
        """
        self._served, self._library, self._digest = served, library, digest
        self._engines, self._seal, self._off_loop = engines, seal, off_loop
        self._may_ask, self._recording = may_ask, recording
        self._snapshot: Snapshot | None = None
        self._generation = -1
        self._of_projects: dict[tuple[str, str], list[NamedPolicy]] = {}
        self._sets: dict[_Set, tuple[PolicySet | None, PolicySet | None]] = {}

    def screen_input(
        self, call: Call, caller: KeyGrant, plan: Plan
    ) -> Coroutine[None, None, None] | None:
        """See `core.ports.Moderation.screen_input`."""
        if not self._served.moderates:
            return None
        snapshot = self._served.get()
        if snapshot.freezes:
            _check_frozen(snapshot, call, caller, plan)
        if snapshot.labels or snapshot.contents:
            rule = rule_for(snapshot.labels, caller.tenant, caller.project)
            kept = kept_of(snapshot.contents, caller.tenant, caller.project)
            if rule is not None or kept is not KeptContent.NONE:
                return self._label_and_keep(call, caller, plan, rule, kept)
        if not snapshot.moderation or not self.policies_of(caller):
            return None
        return self._screen(call, caller, plan)

    async def classify(self, caller: KeyGrant, texts: Sequence[str]) -> list[list[RiskFinding]]:
        """See `core.ports.Moderation.classify`: by the packs of the caller's policies, or all."""
        policies = self.policies_of(caller)

        def look() -> list[list[RiskFinding]]:
            one = self._set_of(policies)
            rules = self._library.rules(("*",)) if one is None else one.rules
            classifier = self._library.classifier()
            return [
                [
                    *rules.screen(text, Direction.INPUT),
                    *classifier.find(text, ClassifierThresholds()),
                    *(data_finding(data, DataAction.ALLOW) for data in personal_data.find(text)),
                ]
                for text in texts
            ]

        return await self._off_loop(look, caller)

    def policies_of(self, caller: KeyGrant) -> list[NamedPolicy]:
        """The policies of a caller's project, in force or watching."""
        snapshot = self._served.get()
        if snapshot is not self._snapshot or self._library.generation != self._generation:
            self._snapshot, self._generation = snapshot, self._library.generation
            self._of_projects, self._sets = {}, {}
        key = (caller.tenant, caller.project)
        found = self._of_projects.get(key)
        if found is None:
            if len(self._of_projects) >= REMEMBERED_MAX:
                self._of_projects = {}
            found = [NamedPolicy(*one) for one in policies_for(snapshot.moderation, *key)]
            self._of_projects[key] = found
        return found

    async def screening_of(self, caller: KeyGrant) -> CallScreening | None:
        """What a caller's request and its answer are screened by; None where no policy is for
        it."""
        policies = self.policies_of(caller)
        if not policies:
            return None
        position = self._position(caller)
        live = [one for one in policies if in_force(one.policy, position)]
        shadow = [one for one in policies if not in_force(one.policy, position)]
        key: _Set = (tuple(one.name for one in live), tuple(one.name for one in shadow))
        sets = self._sets
        found = sets.get(key)
        if found is None:
            # To compile the words of large packs takes long.
            compiling = partial(self._compiled, live, shadow)
            found = await self._off_loop(compiling, caller)
            if len(sets) >= REMEMBERED_MAX:
                sets.clear()
            sets[key] = found
        return CallScreening(
            *found, caller, self._digest, self._engines, self._off_loop, self._seal
        )

    async def _label_and_keep(
        self, call: Call, caller: KeyGrant, plan: Plan, rule: LabelRule | None, kept: KeptContent
    ) -> None:
        """Label the answer, keep what the call says, and screen it: what policies there are for."""
        recording = None
        if rule is not None:
            label(call, rule)
        if kept is not KeptContent.NONE and self._recording is not None:
            recording = call.screening = self._recording(call, caller, kept, self._off_loop)
        if self.policies_of(caller):
            await self._screen(call, caller, plan, recording)

    async def _screen(
        self, call: Call, caller: KeyGrant, plan: Plan, recording: ContentRecording | None = None
    ) -> None:
        screening = await self.screening_of(caller)
        if screening is not None:
            screening.require_filed(call, plan, self._served.get().filings)
            if screening.counts_end_users:
                screening.end_user = self._end_user_of(call, caller)
            call.screening = screening if recording is None else recording.over(screening)
            may_ask = self._may_ask
            await screening.screen_input(
                call, lambda name, caller: may_ask(name, call, caller, plan)
            )

    def _end_user_of(self, call: Call, caller: KeyGrant) -> str:
        """The end user that the caller names, as a keyed hash; empty where it names none.

        Raises:
            ApiError: `end_user_suspended`.
        """
        named = end_user_of(call.parsed.fields)
        if not named:
            return ""
        found = self._digest(f"end user\0{caller.tenant}\0{named}".encode())[:16].hex()
        until_s = self._served.get().suspended.get(caller.tenant, {}).get(found, 0)
        if until_s * 1_000 > call.request.started_ms:
            until = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(until_s))
            raise ApiError(
                "end_user_suspended",
                f"This end user is suspended until {until} after several blocked calls. To appeal, "
                "send the request id of one of those calls, or of this one, to POST "
                "/v1/moderations/appeals.",
                param="user",
            )
        return found

    def _compiled(
        self, live: list[NamedPolicy], shadow: list[NamedPolicy]
    ) -> tuple[PolicySet | None, PolicySet | None]:
        return self._set_of(live), self._set_of(shadow)

    def _set_of(self, policies: list[NamedPolicy]) -> PolicySet | None:
        if not policies:
            return None
        names = sorted({name for one in policies for name in one.policy.packs})
        words = tuple(word for one in policies for word in one.policy.words)
        rules = self._library.rules(tuple(names), words)
        return PolicySet(policies, rules, self._library.classifier)

    def _position(self, caller: KeyGrant) -> float:
        """Where a key stands among all, from 0 to 1: the same each time."""
        digest = self._digest(b"share\0" + caller.key_id.encode())
        return int.from_bytes(digest[:6], "big") / 2**48


def _check_frozen(snapshot: Snapshot, call: Call, caller: KeyGrant, plan: Plan) -> None:
    """Refuse what is frozen, also as one of several that could serve the call.

    Raises:
        ApiError: `frozen`.
    """
    models = (call.parsed.model, plan.route.name, *(other.route.name for other in plan.others))
    if holds(snapshot.freezes, caller.tenant, models):
        why = "Calls like this one are not served for now, because of an incident."
        raise ApiError("frozen", why, param="model")
