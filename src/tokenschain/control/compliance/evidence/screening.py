"""Evidence of moderation, personal data and where calls go."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial

from sqlalchemy import select

from tokenschain.control import gateways
from tokenschain.control.compliance.evidence.finding import (
    DAY_S,
    KEPT_DAYS_MIN,
    Gap,
    PlatformFacts,
    QueryResult,
    gaps_if,
    named,
)
from tokenschain.control.moderation import review_queue
from tokenschain.core.cache.key import Identity, Namespace, identify
from tokenschain.core.compliance.transfers import ABROAD
from tokenschain.core.formats import openai_chat
from tokenschain.core.formats.openai_chat import Api
from tokenschain.core.moderation.personal_data import DataKind
from tokenschain.core.moderation.verdict import Direction
from tokenschain.core.snapshot.moderation_policy import ModerationPolicy
from tokenschain.core.snapshot.zones import EVERYBODY, under
from tokenschain.infra.database.content_tables import content_policies
from tokenschain.infra.database.moderation_tables import moderation_cases
from tokenschain.infra.security.suite import INTERNATIONAL

PACKS_FRESH_S = 7 * DAY_S
_QUESTION = b'{"model":"m","messages":[{"role":"user","content":"the same question"}]}'
_SENSITIVE = (DataKind.RESIDENT_ID, DataKind.BANK_CARD, DataKind.MOBILE)


def _public(facts: PlatformFacts) -> dict[str, ModerationPolicy]:
    """Policies in force for the public."""
    return {
        name: one
        for name, one in facts.snapshot.moderation.items()
        if one.audience == "public" and one.state == "active"
    }


def _missing_for_all(policies: Iterable[ModerationPolicy]) -> list[Gap]:
    """What is right with policies says nothing of calls that none of them is for."""
    return gaps_if(all(one.scope != EVERYBODY for one in policies), "no_policy_for_all")


def _public_gaps(
    facts: PlatformFacts, faults: Mapping[str, Callable[[ModerationPolicy], bool]]
) -> list[Gap]:
    """Whether a policy for the public is there for all calls, and what is wrong with any.

    Args:
        faults: by the gap that it is.
    """
    found = _public(facts)
    gaps = _missing_for_all(found.values())
    for code, is_wrong in faults.items():
        wrong = {name for name, one in found.items() if is_wrong(one)}
        gaps += gaps_if(wrong, code, who=named(wrong))
    return gaps


def moderation_in_force(facts: PlatformFacts) -> QueryResult:
    """Whether what the public asks and is answered is screened."""
    return QueryResult(
        {
            "policies": len(facts.snapshot.moderation),
            "active_for_the_public": sorted(_public(facts)),
        },
        _public_gaps(
            facts,
            {
                "input_unscreened": lambda policy: not policy.screens(Direction.INPUT),
                "output_unscreened": lambda policy: not policy.screens(Direction.OUTPUT),
            },
        ),
    )


def moderation_fails_closed(facts: PlatformFacts) -> QueryResult:
    """What an engine without a verdict means for the public."""
    return QueryResult(
        {"active_for_the_public": sorted(_public(facts))},
        _public_gaps(facts, {"public_fails_open": lambda policy: not policy.fails_closed}),
    )


def engines_asked(facts: PlatformFacts) -> QueryResult:
    """Whether somebody besides the local rules screens what the public is answered."""
    return QueryResult(
        {"configured": sorted(facts.settings.moderation.engines)},
        _public_gaps(
            facts,
            {"no_engine": lambda policy: not policy.engines and policy.classifier is None},
        ),
    )


def offenders_suspended(facts: PlatformFacts) -> QueryResult:
    """Whether end users are suspended who ask again and again for what is blocked."""
    return QueryResult(
        {"suspended": sum(map(len, facts.snapshot.suspended.values()))},
        _public_gaps(facts, {"offenders_go_on": lambda policy: policy.offenders is None}),
    )


def media_screened(facts: PlatformFacts) -> QueryResult:
    """Whether pictures that nothing has screened pass."""
    return QueryResult(
        {}, _public_gaps(facts, {"media_passes": lambda policy: policy.media == "pass"})
    )


def keyword_packs(facts: PlatformFacts) -> QueryResult:
    """The keyword library of each gateway: how large, how fresh, what has expired."""
    seen = [one.status for one in gateways.seen(facts.db)]
    packs = [pack for status in seen for pack in status.packs]
    stale = {one.name for one in packs if facts.now_s - one.renewed_s > PACKS_FRESH_S}
    expired = {one.name for one in packs if one.expired}
    missing = max((status.words_missing for status in seen), default=0)
    return QueryResult(
        {
            "packs": sorted({f"{one.name} {one.version}" for one in packs}),
            "words": max((sum(p.words for p in status.packs) for status in seen), default=0),
        },
        [
            *gaps_if(not packs, "no_packs"),
            *gaps_if(missing > 0, "words_missing", count=missing),
            *gaps_if(stale, "packs_stale", who=named(stale)),
            *gaps_if(expired, "packs_expired", who=named(expired)),
        ],
    )


def packs_signed(facts: PlatformFacts) -> QueryResult:
    """Whose signature keyword packs need."""
    keys = len(facts.settings.moderation.pack_keys)
    return QueryResult({"keys": keys}, gaps_if(not keys, "packs_unsigned"))


def review_in_time(facts: PlatformFacts) -> QueryResult:
    """Whether people decide what was put before them."""
    found = review_queue.counts(facts.db, None, int(facts.now_s))
    late = found["overdue"]
    none = facts.db.execute(select(moderation_cases.c.id).limit(1)).first() is None
    return QueryResult(
        dict(found), gaps_if(late > 0, "reviews_overdue", count=late), gaps_if(none, "no_case")
    )


def personal_data_kept_in(facts: PlatformFacts) -> QueryResult:
    """Whether identity cards, bank cards and mobile numbers reach upstreams as they are."""

    def passes(policy: ModerationPolicy) -> bool:
        return any(policy.personal_data.get(kind, "allow") == "allow" for kind in _SENSITIVE)

    found = {n: p for n, p in facts.snapshot.moderation.items() if p.state == "active"}
    wrong = {name for name, one in found.items() if passes(one)}
    return QueryResult(
        {"policies": sorted(found)},
        [
            *_missing_for_all(found.values()),
            *gaps_if(wrong, "personal_data_passes", who=named(wrong)),
        ],
    )


def texts_kept(facts: PlatformFacts) -> QueryResult:
    """Which texts of calls are kept, and for how long."""
    keeping = sorted(name for name, one in facts.snapshot.moderation.items() if one.keep_texts)
    days = facts.settings.database.response_ttl_s // DAY_S
    c = content_policies.c
    contents = facts.db.execute(select(c.tenant, c.project, c.content, c.retention_days))
    return QueryResult(
        {
            "policies_that_keep": keeping,
            "content_policies": sorted(
                f"{one.tenant}/{one.project}: {one.content}, {one.retention_days} days"
                for one in contents
            ),
            "stored_responses_days": days,
        },
        gaps_if(days > KEPT_DAYS_MIN, "responses_kept_long", days=days),
    )


def meanings_apart(facts: PlatformFacts) -> QueryResult:
    """Whether the same question of two tenants is compared with other questions in two places."""
    rules = facts.snapshot.cache
    asked = openai_chat.parse(Api.CHAT, _QUESTION)
    digest = partial(INTERNATIONAL.keyed_digest, b"nothing is kept under it")
    place = Namespace("one", "p", "e", "", "", "m", "m", "", "")
    places = [
        identify(asked, one, digest, semantic=True)
        for one in (place, place._replace(tenant="other"))
    ]
    apart = {one.namespace for one in places if isinstance(one, Identity) and one.namespace}
    return QueryResult(
        {"mode": rules.mode, "by_meaning": rules.compares_meanings, "shared_within": rules.scope},
        gaps_if(len(apart) < 2, "meanings_shared"),
    )


def data_stays(facts: PlatformFacts) -> QueryResult:
    """Whether calls can leave the country."""
    routing, mode = facts.snapshot.routing, facts.settings.sovereignty.mode
    allowed = under(routing.residency, {EVERYBODY: mode}).get(EVERYBODY)
    abroad = {one.id for one in facts.snapshot.upstreams.values() if one.zone in ABROAD}
    bounded = allowed is not None and "abroad" not in allowed
    return QueryResult(
        {
            "mode": mode,
            "rule_for_all": list(allowed or ()),
            "upstreams_abroad_or_unknown": sorted(abroad),
        },
        [
            *gaps_if(not bounded, "residency_open"),
            *gaps_if(not bounded and bool(abroad), "upstreams_abroad", who=named(abroad)),
        ],
    )


def models_filed(facts: PlatformFacts) -> QueryResult:
    """Whether the public is answered by models with a filing number alone."""
    chat = {name for name, route in facts.snapshot.models.items() if route.kind == "chat"}
    without = chat - facts.snapshot.filings.keys()
    return QueryResult(
        {"models": len(chat), "with_number": len(chat) - len(without)},
        [
            *_public_gaps(facts, {"filing_not_required": lambda policy: not policy.require_filed}),
            *gaps_if(without, "models_without_filing", count=len(without), who=named(without)),
        ],
        gaps_if(not chat, "no_model"),
    )


def answers_labelled(facts: PlatformFacts) -> QueryResult:
    """Whether answers say that AI made them, in their text."""
    rule = facts.snapshot.labels.get(EVERYBODY)
    without = {scope for scope, one in facts.snapshot.labels.items() if one.explicit == "none"}
    return QueryResult(
        {"rules": len(facts.snapshot.labels), "of_all": "" if rule is None else rule.explicit},
        [
            *gaps_if(rule is None, "answers_unlabelled"),
            *gaps_if(without, "rules_without_notice", who=named(without)),
        ],
    )


def metadata_labelled(facts: PlatformFacts) -> QueryResult:
    """Whether answers carry the label's metadata, with the code of who offers the service."""
    rules = facts.snapshot.labels
    rule = rules.get(EVERYBODY)
    off = {scope for scope, one in rules.items() if one.implicit == "off"}
    nameless = any(not one.producer for one in rules.values())
    return QueryResult(
        {"rules": len(rules), "of_all": "" if rule is None else rule.implicit},
        [
            *gaps_if(rule is None, "metadata_off"),
            *gaps_if(off, "rules_without_metadata", who=named(off)),
            *gaps_if(nameless, "producer_unknown"),
        ],
    )
