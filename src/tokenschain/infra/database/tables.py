"""Database tables, the same on SQLite and PostgreSQL.

On PostgreSQL `ledger` is partitioned by day (`infra.database.engine.ensure_days`).
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Float,
    Index,
    Integer,
    LargeBinary,
    Numeric,
    PrimaryKeyConstraint,
    String,
    Table,
    Text,
    TypeDecorator,
    UniqueConstraint,
    false,
    text,
)
from sqlalchemy.engine import Dialect

from tokenschain.core.call_record import (
    ATTEMPT_CHARACTERS_MAX,
    CHARACTERS_MAX,
    MODEL_CHARACTERS_MAX,
)
from tokenschain.core.tags import TAG_CHARACTERS_MAX
from tokenschain.infra.database import (
    compliance_tables,
    content_tables,
    duty_tables,
    moderation_tables,
    transfer_tables,
)

assert content_tables.metadata is transfer_tables.metadata is moderation_tables.metadata
assert compliance_tables.metadata is duty_tables.metadata is moderation_tables.metadata
metadata = moderation_tables.metadata
"""Of those tables, too, and of the audit log's."""


def _text(
    name: str, *, primary_key: bool = False, server_default: str | None = None
) -> Column[Any]:
    """A text of a call's record, as long as the record says."""
    kind = String(CHARACTERS_MAX[name])
    return Column(
        name, kind, nullable=False, primary_key=primary_key, server_default=server_default
    )


class Pico(TypeDecorator[int]):
    """Amounts of 10^-12 of a currency unit, as integers.

    PostgreSQL holds 38 digits. SQLite holds 64 bits, 9.2 million units, and refuses to add
    beyond: enough for one machine, and never silently wrong.
    """

    impl = Numeric(38, 0)
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> Any:
        """See `sqlalchemy.TypeDecorator`."""
        kind = Numeric(38, 0) if dialect.name == "postgresql" else BigInteger()
        return dialect.type_descriptor(kind)

    def process_result_value(self, value: Any, dialect: Dialect) -> int | None:
        """See `sqlalchemy.TypeDecorator`."""
        return None if value is None else int(value)


meta = Table(
    "meta",
    metadata,
    Column("name", String(64), primary_key=True),
    Column("value", Text, nullable=False),
)
"""Single values: the configuration's revision, the admin token's hash."""

api_keys = Table(
    "api_keys",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("key_hash", String(64), nullable=False, unique=True),
    Column("prefix", String(16), nullable=False),
    Column("name", String(100), nullable=False),
    Column("tenant", String(64), nullable=False),
    Column("project", String(64), nullable=False),
    Column("environment", String(64), nullable=False),
    Column("models", Text),  # JSON array; null: all
    Column("disconnect", String(8), nullable=False),
    Column("created_at_s", BigInteger, nullable=False),
    Column("expires_at_s", BigInteger),
    Column("revoked_at_s", BigInteger),
    Column("account", String(64), nullable=False, server_default=""),
    Column("apis", Text),  # JSON array; null: all
    Column("networks", Text),  # JSON array; null: anywhere
    Column("tags", Text, nullable=False, server_default="[]"),
    Column("priority", String(16), nullable=False, server_default=""),
    Column("data_class", String(32), nullable=False, server_default=""),
    Column("created_by", String(64), nullable=False, server_default=""),
    Column("rotated_from", String(40)),
    Column("last_used_at_s", BigInteger),
    Column("revision", BigInteger, nullable=False, server_default=text("0")),
    Column("routing_details", Boolean, nullable=False, server_default=false()),
    Index("api_keys_by_tenant", "tenant", "created_at_s"),
    Index("api_keys_by_revision", "revision"),
)

ledger = Table(
    "ledger",
    metadata,
    _text("event_id"),
    Column("started_ms", BigInteger, nullable=False),
    _text("api"),
    _text("tenant"),
    _text("project"),
    _text("environment"),
    _text("key_id"),
    _text("model_asked"),
    _text("model_served"),
    _text("upstream"),
    Column("attempts", Text, nullable=False),  # JSON
    Column("status", Integer, nullable=False),
    _text("outcome"),
    _text("fault"),
    _text("error"),
    Column("streamed", Boolean, nullable=False),
    Column("prompt_tokens", BigInteger, nullable=False),
    Column("cached_tokens", BigInteger, nullable=False),
    Column("completion_tokens", BigInteger, nullable=False),
    Column("reasoning_tokens", BigInteger, nullable=False),
    _text("usage_source"),
    _text("price_version"),
    _text("currency"),
    Column("cost_pico", Pico),  # null: price unknown
    _text("cache"),
    _text("moderation"),
    Column("first_token_ms", Float),
    Column("total_ms", Float, nullable=False),
    Column("bytes_in", BigInteger, nullable=False),
    Column("bytes_out", BigInteger, nullable=False),
    _text("finish_reason"),
    _text("trace_id"),
    Column("tags", Text, nullable=False),
    _text("snapshot_version"),
    Column("cache_write_tokens", BigInteger, nullable=False, server_default=text("0")),
    Column("cache_write_1h_tokens", BigInteger, nullable=False, server_default=text("0")),
    Column("audio_prompt_tokens", BigInteger, nullable=False, server_default=text("0")),
    Column("image_prompt_tokens", BigInteger, nullable=False, server_default=text("0")),
    Column("audio_completion_tokens", BigInteger, nullable=False, server_default=text("0")),
    Column("thinking", Boolean, nullable=False, server_default=false()),
    Column("route", Text, nullable=False, server_default="[]"),  # JSON
    Column("route_reason", Text, nullable=False, server_default=""),
    Column("route_propensity", Float, nullable=False, server_default=text("1")),
    _text("account", server_default=""),
    _text("gateway", server_default=""),
    Column("charge_pico", Pico),  # null: price unknown
    _text("charge_currency", server_default=""),
    _text("charge_version", server_default=""),
    _text("cache_reason", server_default=""),
    _text("cache_key", server_default=""),
    Column("saved_tokens", BigInteger, nullable=False, server_default=text("0")),
    Column("saved_pico", Pico, nullable=False, server_default=text("0")),
    Column("cache_confidence", Float, nullable=False, server_default=text("0")),
    Column("cache_age_s", Float, nullable=False, server_default=text("0")),
    Column("requests", BigInteger, nullable=False, server_default=text("1")),
    _text("moderation_detail", server_default=""),
    _text("filing", server_default=""),
    _text("data_class", server_default=""),
    PrimaryKeyConstraint("event_id", "started_ms"),
    Index("ledger_by_tenant_and_time", "tenant", "started_ms", "event_id"),
    Index("ledger_by_key_and_time", "key_id", "started_ms", "event_id"),
    Index("ledger_by_time", "started_ms", "event_id"),
    Index(
        "ledger_by_failure",
        "outcome",
        "started_ms",
        "event_id",
        postgresql_where=text("outcome <> 'ok'"),
        sqlite_where=text("outcome <> 'ok'"),
    ),
    postgresql_partition_by="RANGE (started_ms)",
)


def _sums(name: str, since: str) -> Table:
    """What calls add up to, from a Unix time on."""
    return Table(
        name,
        metadata,
        Column(since, BigInteger, primary_key=True),
        _text("tenant", primary_key=True),
        _text("project", primary_key=True),
        _text("environment", primary_key=True),
        _text("key_id", primary_key=True),
        Column("model", String(MODEL_CHARACTERS_MAX), primary_key=True),
        _text("upstream", primary_key=True),
        _text("currency", primary_key=True),
        _text("charge_currency", primary_key=True, server_default=""),
        Column("calls", BigInteger, nullable=False),
        Column("failed_calls", BigInteger, nullable=False),
        Column("estimated_calls", BigInteger, nullable=False),
        Column("unpriced_calls", BigInteger, nullable=False),
        Column("prompt_tokens", BigInteger, nullable=False),
        Column("cached_tokens", BigInteger, nullable=False),
        Column("completion_tokens", BigInteger, nullable=False),
        Column("reasoning_tokens", BigInteger, nullable=False),
        Column("cost_pico", Pico, nullable=False),
        _text("account", server_default=""),
        Column("cloud", String(64), nullable=False, server_default=""),
        Column("charge_pico", Pico, nullable=False, server_default=text("0")),
        Column("platform_prompt_tokens", BigInteger, nullable=False, server_default=text("0")),
        Column("platform_completion_tokens", BigInteger, nullable=False, server_default=text("0")),
        Column("platform_cost_pico", Pico, nullable=False, server_default=text("0")),
        Index(f"{name}_by_tenant", "tenant", since),
    )


usage_hourly = _sums("usage_hourly", "hour_s")
usage_daily = _sums("usage_daily", "day_s")
"""The same by days of UTC: what is asked of a month reads a 24th."""

usage_by_tag = Table(
    "usage_by_tag",
    metadata,
    Column("hour_s", BigInteger, primary_key=True),
    _text("tenant", primary_key=True),
    _text("project", primary_key=True),
    _text("key_id", primary_key=True),
    Column("tag", String(TAG_CHARACTERS_MAX), primary_key=True),  # name=value
    Column("model", String(MODEL_CHARACTERS_MAX), primary_key=True),
    _text("charge_currency", primary_key=True),
    Column("calls", BigInteger, nullable=False),
    Column("prompt_tokens", BigInteger, nullable=False),
    Column("completion_tokens", BigInteger, nullable=False),
    Column("charge_pico", Pico, nullable=False),
    Index("usage_by_tag_by_tenant", "tenant", "hour_s"),
)
"""What each tag of calls used; a call with two tags is in two rows."""

cache_hourly = Table(
    "cache_hourly",
    metadata,
    Column("hour_s", BigInteger, primary_key=True),
    _text("tenant", primary_key=True),
    Column("model", String(MODEL_CHARACTERS_MAX), primary_key=True),
    _text("cache", primary_key=True),
    _text("cache_reason", primary_key=True),
    _text("currency", primary_key=True),  # of what was saved
    Column("calls", BigInteger, nullable=False),
    Column("saved_tokens", BigInteger, nullable=False),
    Column("saved_pico", Pico, nullable=False),
    Index("cache_hourly_by_tenant", "tenant", "hour_s"),
)
"""What the cache did for calls that went well."""

platform_costs = Table(
    "platform_costs",
    metadata,
    _text("event_id", primary_key=True),
    Column("attempt", Integer, primary_key=True),  # its number in the call, from 0
    Column("started_ms", BigInteger, nullable=False),
    Column(
        "kind", String(ATTEMPT_CHARACTERS_MAX["overhead"]), nullable=False
    ),  # core.call_record.Overhead
    _text("tenant"),
    _text("project"),
    _text("key_id"),
    _text("model_asked"),
    _text("model_served"),
    _text("upstream"),
    _text("outcome"),
    Column("prompt_tokens", BigInteger, nullable=False),
    Column("cached_tokens", BigInteger, nullable=False),
    Column("completion_tokens", BigInteger, nullable=False),
    Column("reasoning_tokens", BigInteger, nullable=False),
    _text("usage_source"),
    _text("price_version"),
    _text("currency"),
    Column("cost_pico", Pico),  # null: price unknown
    Index("platform_costs_by_time", "started_ms", "event_id"),
    Index("platform_costs_by_upstream", "upstream", "started_ms"),
)
"""What upstreams are owed for attempts whose answers no caller pays for."""

rejected_records = Table(
    "rejected_records",
    metadata,
    Column("payload_hash", String(64), primary_key=True),
    Column("received_at_s", BigInteger, nullable=False),
    Column("reason", Text, nullable=False),
    Column("payload", LargeBinary, nullable=False),
)
"""Journal payloads that could not be read: kept for a person, never dropped."""

stored_responses = Table(
    "stored_responses",
    metadata,
    Column("id", String(80), primary_key=True),
    Column("tenant", String(64), nullable=False),
    Column("expires_at_s", BigInteger, nullable=False),
    Column("sealed", LargeBinary, nullable=False),
    Index("stored_responses_by_expiry", "expires_at_s"),
    Index("stored_responses_by_tenant", "tenant"),
)
"""What callers of the Responses API asked to be kept; sealed, and deleted when expired."""

organization_units = Table(
    "organization_units",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("kind", String(16), nullable=False),  # tenant, account, project, environment
    Column("tenant", String(64), nullable=False),
    Column("account", String(64), nullable=False),
    Column("project", String(64), nullable=False),
    Column("name", String(64), nullable=False),
    Column("title", String(200), nullable=False),
    Column("closed_at_s", BigInteger),
    Column("prepaid", Boolean, nullable=False, server_default=false()),
    Column("credit_pico", Pico, nullable=False, server_default=text("0")),
    Column("created_at_s", BigInteger, nullable=False),
    Column("version", Integer, nullable=False, server_default=text("1")),
    Column("closed_by_platform", Boolean, nullable=False, server_default=false()),
    Column("second_factor_required", Boolean, nullable=False, server_default=false()),
    Column("data_class", String(32), nullable=False, server_default=""),
    UniqueConstraint("tenant", "kind", "project", "name"),
)
"""The organisation: a project's name is unique in its tenant, an environment's in its project."""

limits = Table(
    "limits",
    metadata,
    Column("id", String(128), primary_key=True),  # TENANT/NAME; the platform's: NAME
    Column("kind", String(8), nullable=False),  # rate, budget
    Column("tenant", String(64), nullable=False),  # who may see it; empty: the platform's
    Column("spec", Text, nullable=False),  # JSON of core.limits.Rate or Budget
    Column("alerts", Text, nullable=False, server_default="[]"),  # percents of a budget
    Column("created_at_s", BigInteger, nullable=False),
    Column("version", Integer, nullable=False, server_default=text("1")),
    Column("set_by_platform", Boolean, nullable=False, server_default=false()),
    Index("limits_by_tenant", "tenant"),
)

budget_counts = Table(
    "budget_counts",
    metadata,
    Column("budget_id", String(128), primary_key=True),
    Column("subject", String(300), primary_key=True),
    Column("period_s", BigInteger, primary_key=True),  # Unix time of the period's start
    Column("holder", String(80), primary_key=True),
    Column("granted", Pico, nullable=False),
    Column("spent", Pico, nullable=False),
    Column("seen_at_s", Float, nullable=False),
)
"""What each gateway was granted of a budget, and what its calls cost, as the ledger knows."""

lease_streams = Table(
    "lease_streams",
    metadata,
    Column("stream", String(100), primary_key=True),  # holder/kind of counts
    Column("sequence", BigInteger, nullable=False),
    Column("seen_at_s", Float, nullable=False),
)
"""The last request for budgets of each gateway process: an earlier one draws nothing."""

users = Table(
    "users",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("tenant", String(64), nullable=False),  # `*`: of the platform
    Column("kind", String(8), nullable=False),  # user, service
    Column("email", String(200), nullable=False),
    Column("name", String(100), nullable=False),
    Column("password_hash", String(200)),
    Column("password_set_at_s", BigInteger),  # null: before that was noted
    Column("totp_sealed", LargeBinary),
    Column("totp_last", BigInteger),  # the last time step used: a code counts once
    Column("totp_since_s", BigInteger),  # null: since before that was noted
    Column("disabled_at_s", BigInteger),
    Column("created_at_s", BigInteger, nullable=False),
    Column("version", Integer, nullable=False, server_default=text("1")),
    Column("disabled_by_platform", Boolean, nullable=False, server_default=false()),
    Column("oidc_issuer", String(300)),  # of whom single sign-on lets in, with its subject
    Column("oidc_subject", String(255)),
    Column("email_confirmed_at_s", BigInteger),  # null: nobody showed that the address is theirs
    Index("users_by_tenant", "tenant"),
    Index("users_by_email", "email", "tenant", unique=True),
    Index("users_by_subject", "oidc_subject", "oidc_issuer", unique=True),
)

recovery_codes = Table(
    "recovery_codes",
    metadata,
    Column("code_hash", String(64), primary_key=True),
    Column("user_id", String(40), nullable=False),
    Index("recovery_codes_by_user", "user_id"),
)
"""Codes that let in without the second factor; one that was used is gone."""

request_nonces = Table(
    "request_nonces",
    metadata,
    Column("nonce", String(16), primary_key=True),
    Column("at_s", BigInteger, nullable=False),  # when it came
    Index("request_nonces_by_time", "at_s"),
)
"""Signed requests that were believed, by whichever control: each is once."""

login_failures = Table(
    "login_failures",
    metadata,
    Column("account", String(300), primary_key=True),
    Column("address", String(64), primary_key=True),
    Column("failed", Integer, nullable=False),
    Column("next_try_s", BigInteger, nullable=False),
    Column("forget_at_s", BigInteger, nullable=False),
    Index("login_failures_by_time", "forget_at_s"),
)
"""Sign-ins begun and not succeeded; see `control.identity.login_throttle`."""

roles = Table(
    "roles",
    metadata,
    Column("tenant", String(64), primary_key=True),
    Column("name", String(64), primary_key=True),
    Column("permissions", Text, nullable=False),  # JSON array
    Column("version", Integer, nullable=False, server_default=text("1")),
)

bindings = Table(
    "bindings",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("user_id", String(40), nullable=False),
    Column("role", String(64), nullable=False),
    Column("tenant", String(64), nullable=False),
    Column("account", String(64), nullable=False),
    Column("project", String(64), nullable=False),
    Column("environment", String(64), nullable=False),
    Column("models", Text),
    Column("source", String(16), nullable=False, server_default="admin"),  # admin, oidc
    Column("created_at_s", BigInteger),  # null: before that was noted
    Index("bindings_by_user", "user_id"),
)

tokens = Table(
    "tokens",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("token_hash", String(64), nullable=False, unique=True),
    Column("user_id", String(40), nullable=False),
    Column("kind", String(8), nullable=False),  # session, api, link, invite
    Column("name", String(100), nullable=False),
    Column("created_at_s", BigInteger, nullable=False),
    Column("expires_at_s", BigInteger, nullable=False),
    Column("permissions", Text, nullable=False, server_default='["*"]'),  # JSON array
    Column("stepped_up_at_s", BigInteger),  # of a session: when its user showed all proof again
    Column("used_at_s", BigInteger),  # of a session; null: not noted
    Index("tokens_by_user", "user_id"),
    Index("tokens_by_expiry", "expires_at_s"),
)

audit_events = Table(
    "audit_events",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("at_ms", BigInteger, nullable=False),
    Column("actor", String(64), nullable=False),
    Column("tenant", String(64), nullable=False),
    Column("action", String(64), nullable=False),
    Column("target", String(300), nullable=False),
    Column("detail", Text, nullable=False),  # JSON, never a secret
    Column("address", String(64), nullable=False),
    Index("audit_events_by_tenant", "tenant", "at_ms", "id"),
    Index("audit_events_by_time", "at_ms", "id"),
)

prices = Table(
    "prices",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("tenant", String(64), nullable=False),  # empty: for all
    Column("model", String(256), nullable=False),
    Column("from_s", BigInteger, nullable=False),
    Column("price", Text, nullable=False),  # JSON of core.pricing.catalog.Price
    Column("created_at_s", BigInteger, nullable=False),
    UniqueConstraint("tenant", "model", "from_s"),
)
"""What customers pay. A price is never changed: a later one begins, or calls are rated again."""

fx_rates = Table(
    "fx_rates",
    metadata,
    Column("day", String(10), primary_key=True),  # 2026-11-25, China Standard Time
    Column("usd_cny_micro", BigInteger, nullable=False),
    Column("source", String(200), nullable=False),
)

ledger_entries = Table(
    "ledger_entries",
    metadata,
    Column("id", String(44), primary_key=True),
    Column("transaction_id", String(40), nullable=False),
    Column("at_s", BigInteger, nullable=False),
    Column("kind", String(16), nullable=False),  # see control.billing
    Column("account", String(160), nullable=False),
    Column("tenant", String(64), nullable=False),
    Column("currency", String(3), nullable=False),
    Column("amount_pico", Pico, nullable=False),
    Column("reference", String(200), nullable=False),
    Index("ledger_entries_by_transaction", "transaction_id"),
    Index("ledger_entries_by_account", "account", "currency", "at_s", "id"),
    Index("ledger_entries_by_tenant", "tenant", "at_s", "id"),
)
"""The double-entry ledger: rows are only ever added, and each transaction sums to zero."""

balances = Table(
    "balances",
    metadata,
    Column("account", String(160), primary_key=True),
    Column("currency", String(3), primary_key=True),
    Column("kind", String(16), primary_key=True),
    Column("amount_pico", Pico, nullable=False),
)
"""What the entries of each account add up to; kept in their transactions."""

cache_flushes = Table(
    "cache_flushes",
    metadata,
    Column("selector", String(400), primary_key=True),  # see core.cache.store.flush_name
    Column("at_ms", BigInteger, nullable=False),
)

idempotency = Table(
    "idempotency",
    metadata,
    Column("key_hash", String(64), primary_key=True),  # of the actor and its key
    Column("request_hash", String(64), nullable=False),
    Column("status", Integer, nullable=False),
    Column("sealed", LargeBinary, nullable=False),
    Column("created_at_s", BigInteger, nullable=False),
    Index("idempotency_by_time", "created_at_s"),
)

mails = Table(
    "mails",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("sealed", LargeBinary, nullable=False),  # address, subject and text
    Column("tries", Integer, nullable=False),
    Column("next_try_s", BigInteger, nullable=False),
    Column("expires_at_s", BigInteger, nullable=False),
    Column("user_id", String(40)),  # whom it invites; such a one stays when it was given up
    Index("mails_due", "next_try_s", "id"),
    Index("mails_by_user", "user_id"),
)
"""Messages to people that the mail server has not taken yet; see `control.mails`."""

sign_ups = Table(
    "sign_ups",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("email", String(200), nullable=False),
    Column("network", String(64), nullable=False),
    Column("organization", String(200), nullable=False),
    Column("password_hash", String(200), nullable=False),
    Column("code_hash", String(64), unique=True),  # null: used, or of a known address
    Column("terms_url", String(500), nullable=False),  # that were accepted; empty: there are none
    Column("created_at_s", BigInteger, nullable=False),
    Index("sign_ups_by_time", "created_at_s"),
    Index("sign_ups_by_email", "email"),
)
"""Who wants an account, for a day; see `control.identity.sign_ups`."""

credited_mailboxes = Table(
    "credited_mailboxes",
    metadata,
    Column("mailbox_hash", String(64), primary_key=True),
    Column("at_s", BigInteger, nullable=False),
)
"""Who was given free credit: once, whatever becomes of the account; see
`control.identity.sign_ups`."""

grants = Table(
    "grants",
    metadata,
    Column("transaction_id", String(40), primary_key=True),
    Column("tenant", String(64), nullable=False),
    Column("amount_pico", Pico, nullable=False),  # pico-yuan
    Column("expires_at_s", BigInteger, nullable=False),
    Column("ended_at_s", BigInteger),
    Index("grants_by_tenant", "tenant"),
    Index("grants_by_end", "ended_at_s", "expires_at_s"),
)
"""Free credit, and when it ends; its entries are in the ledger."""

alert_targets = Table(
    "alert_targets",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("tenant", String(64), nullable=False),
    Column("kind", String(16), nullable=False),  # webhook, email, dingtalk, feishu, wecom
    Column("name", String(100), nullable=False),
    Column("sealed", LargeBinary, nullable=False),  # address and secret
    Column("created_at_s", BigInteger, nullable=False),
    Column("version", Integer, nullable=False, server_default=text("1")),
    Column("confirmed_at_s", BigInteger),  # null: nothing is sent to it yet
    Column("code_hash", String(64)),  # of the link that confirms it
    Index("alert_targets_by_tenant", "tenant"),
    Index("alert_targets_by_code", "code_hash"),
)

alerts = Table(
    "alerts",
    metadata,
    Column("id", String(64), primary_key=True),  # of what it says, so that it is said once
    Column("tenant", String(64), nullable=False),
    Column("at_s", BigInteger, nullable=False),
    Column("kind", String(32), nullable=False),
    Column("detail", Text, nullable=False),  # JSON
    Column("tries", Integer, nullable=False, server_default=text("0")),
    Column("next_try_s", BigInteger, nullable=False),
    Column("sent_at_s", BigInteger),
    Column("targets_left", Text),  # JSON array of those it has still to reach; null: all
    Column("acknowledged_at_s", BigInteger),
    Column("acknowledged_by", String(64)),
    Column("silenced_by", String(64)),  # the silence that kept it from being sent
    Index("alerts_by_tenant", "tenant", "at_s"),
    Index("alerts_unsent", "sent_at_s", "next_try_s"),
)

alert_silences = Table(
    "alert_silences",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("tenant", String(64), nullable=False),  # empty: all
    Column("kind", String(32), nullable=False),  # empty: all that may be silenced
    Column("upstream", String(64), nullable=False),  # empty: about anything
    Column("from_s", BigInteger, nullable=False),
    Column("expires_at_s", BigInteger, nullable=False),
    Column("reason", String(500), nullable=False),
    Column("created_by", String(64), nullable=False),
    Column("created_at_s", BigInteger, nullable=False),
    Column("ended_by", String(64)),  # who ended it early
    Index("alert_silences_by_end", "expires_at_s", "tenant"),
)

resources = Table(
    "resources",
    metadata,
    Column("kind", String(32), primary_key=True),  # of control.configuration.resources.Kind
    Column("tenant", String(64), primary_key=True),  # empty: the platform's
    Column("name", String(200), primary_key=True),
    Column("spec", Text, nullable=False),  # JSON, canonical; never a secret
    Column("managed_by", String(8), nullable=False),  # api, file
    Column("revision", BigInteger, nullable=False),
    Column("changed_at_ms", BigInteger, nullable=False),
)
"""The configuration in force."""

credential_values = Table(
    "credential_values",
    metadata,
    Column("id", String(160), primary_key=True),  # tenant/name/fingerprint
    Column("sealed", LargeBinary, nullable=False),
    Column("replaced_at_s", BigInteger),  # null while a resource names it
)
"""Secrets of credentials; those that were replaced stay a while, for rollbacks."""

config_revisions = Table(
    "config_revisions",
    metadata,
    Column("revision", BigInteger, primary_key=True, autoincrement=False),
    Column("at_ms", BigInteger, nullable=False),
    Column("actor", String(64), nullable=False),
    Column("origin", String(8), nullable=False),  # api, file
    Column("tenant", String(64), nullable=False),  # whose resources changed; empty: not one's
    Column("reason", String(500), nullable=False),
    Column("changes", Text, nullable=False),  # JSON: each resource before and after
    Column("effects", Text, nullable=False),  # JSON: models and upstreams gained and lost
    Column("rolled_back_of", BigInteger),
    Column("refusals", Text, nullable=False, server_default="[]"),  # JSON: gateways that kept the
    # configuration before, and why
    Index("config_revisions_by_tenant", "tenant", "revision"),
)
"""Every change of the configuration."""
