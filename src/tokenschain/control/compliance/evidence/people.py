"""Evidence of people and keys: factors, sessions, accounts, limits."""

from __future__ import annotations

from collections.abc import Sequence
from typing import get_args

from sqlalchemy import Connection, func, or_, select

from tokenschain.control import revisions
from tokenschain.control.compliance.evidence.finding import (
    DAY_S,
    PlatformFacts,
    QueryResult,
    gaps_if,
    named,
)
from tokenschain.control.identity import (
    api_keys,
    login_throttle,
    roles,
    separation,
)
from tokenschain.core.limits import Budget, Facts, Rate, subject_of
from tokenschain.core.tenancy import DUTIES, PLATFORM, is_power_over_accounts
from tokenschain.infra.config.value_types import GuardedOperation
from tokenschain.infra.database.compliance_tables import signing_keys
from tokenschain.infra.database.tables import api_keys as key_rows
from tokenschain.infra.database.tables import audit_events
from tokenschain.infra.database.tables import bindings as binding_rows
from tokenschain.infra.database.tables import tokens as token_rows
from tokenschain.infra.database.tables import users as user_rows

SESSION_MAX_S = DAY_S
UNUSED_DAYS_MAX = 90
OWNERS_MAX = 3
KEY_DAYS_MAX = 400
APPROVERS_MIN = 2
"""Whoever asks for it and whoever approves it."""


def second_factors(facts: PlatformFacts) -> QueryResult:
    """Who signs in by a password alone."""
    query = select(user_rows.c.id, user_rows.c.totp_sealed.is_(None)).where(
        user_rows.c.kind == "user",
        user_rows.c.disabled_at_s.is_(None),
        user_rows.c.password_hash.is_not(None),
    )
    people = {user_id: bool(lacks) for user_id, lacks in facts.db.execute(query)}
    lacking = {user_id for user_id, lacks in people.items() if lacks}
    administrators = {user_id for user_id in lacking if _is_administrator(facts.db, user_id)}
    return QueryResult(
        {
            "people_with_password": len(people),
            "with_second_factor": len(people) - len(lacking),
            "demanded_of_all": facts.settings.control.second_factor_required,
        },
        [
            *gaps_if(administrators, "administrators_without_factor", who=named(administrators)),
            *gaps_if(
                lacking - administrators,
                "people_without_factor",
                count=len(lacking - administrators),
            ),
        ],
        gaps_if(not people, "nobody_has_password"),
    )


def _is_administrator(db: Connection, user_id: str) -> bool:
    """Whether somebody has a role of the platform, or power over accounts."""
    return any(
        one.tenant == PLATFORM or is_power_over_accounts(one.permissions)
        for one in roles.bindings_of(db, user_id)
    )


def password_rules(facts: PlatformFacts) -> QueryResult:
    """How passwords are chosen, renewed and stored."""
    rules = facts.settings.access
    return QueryResult(
        {
            "characters_min": rules.password_characters_min,
            "remembered": rules.passwords_remembered,
            "days_max": rules.password_days_max,
            "stored_as": "Argon2id",
        },
        [
            *gaps_if(not rules.password_days_max, "passwords_without_end"),
            *gaps_if(not rules.passwords_remembered, "passwords_used_again"),
        ],
    )


def lockout(facts: PlatformFacts) -> QueryResult:
    """How often a password may be guessed."""
    return QueryResult(
        {
            "tries_before_delay": login_throttle.FREE_TRIES,
            "delays_s": [*map(str, login_throttle.DELAYS_S), str(login_throttle.DELAY_MAX_S)],
            "tries_of_an_address_max": login_throttle.ADDRESS_TRIES_MAX,
            "wrong_sign_ins_noted_90_days": _events(facts, ("login:failed",), 90),
        }
    )


def _events(facts: PlatformFacts, actions: Sequence[str], days: int) -> int:
    query = (
        select(func.count())
        .select_from(audit_events)
        .where(
            audit_events.c.at_ms >= int((facts.now_s - days * DAY_S) * 1_000),
            audit_events.c.action.in_(actions),
        )
    )
    return int(facts.db.execute(query).scalar_one())


def sessions(facts: PlatformFacts) -> QueryResult:
    """How long sessions last."""
    c, rules = token_rows.c, facts.settings.access
    query = (
        select(func.count(), func.max(c.expires_at_s - c.created_at_s))
        .select_from(token_rows)
        .where(c.kind == "session", c.expires_at_s > int(facts.now_s))
    )
    count, found = facts.db.execute(query).one()
    longest = found or 0
    return QueryResult(
        {
            "open": count,
            "longest_s": longest,
            "absolute_max_s": rules.session_max_s,
            "idle_max_s": rules.session_idle_max_s,
            "of_one_person_max": rules.sessions_max,
        },
        [
            *gaps_if(longest > SESSION_MAX_S, "session_without_end", hours=longest // 3_600),
            *gaps_if(not rules.session_idle_max_s, "session_idle_without_end"),
            *gaps_if(not rules.sessions_max, "sessions_unbounded"),
        ],
    )


def standing_accounts(facts: PlatformFacts) -> QueryResult:
    """Accounts that are nobody's own, and those that nobody uses."""
    shared = revisions.get_meta(facts.db, api_keys.ADMIN_HASH) is not None
    has_people = roles.has_person(facts.db)
    since_s = int(facts.now_s - UNUSED_DAYS_MAX * DAY_S)
    active = select(audit_events.c.actor).where(audit_events.c.at_ms >= since_s * 1_000)
    unused = set(
        facts.db.execute(
            select(user_rows.c.id).where(
                user_rows.c.kind == "user",
                user_rows.c.disabled_at_s.is_(None),
                user_rows.c.created_at_s < since_s,
                user_rows.c.id.not_in(active),
            )
        ).scalars()
    )
    return QueryResult(
        {"admin_token": shared, "people_of_the_platform": has_people, "unused": len(unused)},
        [
            *gaps_if(shared and has_people, "admin_token_in_use"),
            *gaps_if(shared and not has_people, "admin_token_alone"),
            *gaps_if(unused, "accounts_unused", count=len(unused), who=named(unused)),
        ],
        gaps_if(not has_people, "no_person"),
    )


def owners_few(facts: PlatformFacts) -> QueryResult:
    """How many people may do everything on the platform."""
    query = (
        select(binding_rows.c.user_id)
        .join(user_rows, user_rows.c.id == binding_rows.c.user_id)
        .where(
            binding_rows.c.role == "owner",
            binding_rows.c.tenant == PLATFORM,
            user_rows.c.disabled_at_s.is_(None),
        )
        .distinct()
    )
    found = set(facts.db.execute(query).scalars())
    return QueryResult(
        {"owners": len(found)},
        gaps_if(len(found) > OWNERS_MAX, "owners_many", count=len(found), most=OWNERS_MAX),
        gaps_if(not roles.has_person(facts.db), "no_person"),
    )


def powers_apart(facts: PlatformFacts) -> QueryResult:
    """Whether system, security and audit administrators are different people."""
    kept = separation.is_on(facts.db)
    duties = roles.duties_of_people(facts.db)
    held = {user_id for user_id, of_one in duties.items() if len(of_one) > 1}
    nobodys = DUTIES.keys() - frozenset().union(*duties.values())
    return QueryResult(
        {"kept_apart": kept, "holders_of_several": len(held)},
        [
            *gaps_if(not kept, "powers_together"),
            *gaps_if(held, "powers_held_together", who=named(held)),
        ],
        gaps_if(nobodys, "duties_of_nobody", who=named(nobodys)),
    )


def second_person(facts: PlatformFacts) -> QueryResult:
    """Which acts take a second person."""
    asked = facts.settings.control.second_person_for
    lacking = set(get_args(GuardedOperation)) - set(asked)
    deciding = roles.permitted_people(facts.db, "approvals:write", PLATFORM)
    return QueryResult(
        {
            "taken_by_two": sorted(asked),
            "within_hours": facts.settings.control.second_person_hours,
            "people_who_approve": len(deciding),
        },
        gaps_if(lacking, "second_person_not_asked", who=named(lacking)),
        gaps_if(len(deciding) < APPROVERS_MIN, "nobody_second", count=len(deciding)),
    )


def acts_signed(facts: PlatformFacts) -> QueryResult:
    """Which acts are signed with a key of the person's own."""
    asked = facts.settings.control.signature_for
    lacking = set(get_args(GuardedOperation)) - set(asked)
    query = select(func.count()).where(signing_keys.c.revoked_at_s.is_(None))
    keys = int(facts.db.execute(query).scalar_one())
    return QueryResult(
        {"signed": sorted(asked), "keys": keys},
        gaps_if(lacking, "signature_not_asked", who=named(lacking)),
        gaps_if(not keys, "nobody_signs"),
    )


def keys_bounded(facts: PlatformFacts) -> QueryResult:
    """Whether each API key ends one day, and has a limit."""
    rows = facts.db.execute(
        select(key_rows).where(
            key_rows.c.revoked_at_s.is_(None),
            or_(key_rows.c.expires_at_s.is_(None), key_rows.c.expires_at_s > int(facts.now_s)),
        )
    ).all()
    limits: list[Rate | Budget] = [*facts.snapshot.rates, *facts.snapshot.budgets]
    endless = {
        row.id
        for row in rows
        if row.expires_at_s is None or row.expires_at_s > facts.now_s + KEY_DAYS_MAX * DAY_S
    }
    unlimited = {
        row.id
        for row in rows
        if not any(
            subject_of(one, Facts(row.tenant, row.account, row.project, row.environment,
                                       row.id, one.match.model)) is not None
            for one in limits
        )
    }  # fmt: skip
    return QueryResult(
        {"keys": len(rows), "limits": len(limits), "stored_as": "digest"},
        [
            *gaps_if(endless, "keys_without_end", count=len(endless), who=named(endless)),
            *gaps_if(unlimited, "keys_without_limits", count=len(unlimited), who=named(unlimited)),
        ],
        gaps_if(not rows, "no_key"),
    )
