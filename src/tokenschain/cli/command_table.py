"""Which command is which operation of the admin API: names, arguments, columns.

An operation that has no row gets a command by convention: `GET /things` is `things list`,
`GET /things/{id}` is `things show`, PUT `set`, PATCH `change`, DELETE `remove`, POST `create`, and
`POST /things/{id}/verb` is `things verb`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from tokenschain.cli.operations import Operation

KEY = "id prefix name tenant project environment state expires_at_s last_used_at_s"
UNIT = "id tenant name title state prepaid credit_pico created_at_s"
CALL = (
    "event_id started_ms tenant model_asked upstream outcome charge_pico prompt_tokens "
    "completion_tokens total_ms first_token_ms cache key_id project"
)


class Command(NamedTuple):
    """One command that is one operation."""

    name: str
    """As it is typed: `calls list`."""
    operation: str
    """Method and path below `/api/v1`."""
    columns: str = ""
    """Of a list, the most telling first; see `tables.show`. Of a change, what is printed."""
    arguments: str = ""
    """Fields that are given without the name of an option, in this order."""
    fixed: Mapping[str, str | bool] = {}
    """Fields that the command itself says; `{field}` stands for another's value."""
    shown_once: str = ""
    """The field of the answer that is printed alone and never shown again."""
    asks: str = ""
    """Fields that are read from standard input, one a line, or asked for on a terminal."""
    offers: str = ""
    """Fields that are read so when their flag is given."""
    summary: str = ""
    """In place of the operation's own."""
    watched: bool = False
    """Whether it helps to see it again and again."""
    nothing: str = ""
    """What is said of a list without a row, where that says more than that nothing was found."""
    document: str = ""
    """The field of the answer that is a text for people: printed alone and as it is."""


def _units(kind: str, title: str) -> tuple[Command, ...]:
    group, fixed, unit = f"{kind}s", {"kind": kind}, "/organization/units/{unit_id}"
    made, name = fixed, "tenant name"
    if kind == "tenant":
        made, name = fixed | {"name": "{tenant}"}, "tenant"
    return (
        Command(f"{group} list", "GET /organization/units", UNIT, fixed=fixed,
                summary=f"List {group}"),
        Command(f"{group} create", "POST /organization/units", "id", name, made,
                summary=f"Create {title}"),
        Command(f"{group} show", f"GET {unit}", summary=f"Show {title}"),
        Command(f"{group} change", f"PATCH {unit}", summary=f"Change {title}: rename, close, open"),
    )  # fmt: skip


RESOURCE = "name tenant managed_by revision changed_at_ms spec"
_RESOURCES = {"upstreams": "upstreams", "credentials": "upstream-credentials", "models": "models",
              "virtual-models": "virtual-models", "routing": "routing",
              "cache-rules": "cache-rules",
              "moderation-policies": "moderation-policies",
              "filings": "filings",
              "data-classes": "data-classes",
              "processors": "processors",
              "label-rules": "label-rules",
              "receipt-rules": "receipt-rules"}  # fmt: skip
"""Kinds of resources of the configuration by path, and their groups of commands."""


def _resources() -> tuple[Command, ...]:
    found = []
    for path, group in _RESOURCES.items():
        one = f"/{path}/{{resource_name}}"
        found += [
            Command(f"{group} list", f"GET /{path}", RESOURCE),
            Command(f"{group} show", f"GET {one}"),
            *([Command(f"{group} set", f"PUT {one}")] if path != "credentials" else ()),
            Command(f"{group} change", f"PATCH {one}"),
            *([Command(f"{group} remove", f"DELETE {one}")] if path != "upstreams" else ()),
        ]
    return tuple(found)


COMMANDS: tuple[Command, ...] = (
    *_resources(),
    *_units("tenant", "a tenant"),
    *_units("account", "an account"),
    *_units("project", "a project"),
    *_units("environment", "an environment"),
    Command("keys create", "POST /keys", shown_once="key"),
    Command("keys list", "GET /keys", KEY),
    Command("keys show", "GET /keys/{key_id}"),
    Command("keys change", "PATCH /keys/{key_id}"),
    Command("keys revoke", "DELETE /keys/{key_id}", "id"),
    Command("keys playground", "POST /playground/keys", shown_once="key"),
    Command("keys rotate", "POST /keys/{key_id}/rotate", shown_once="key"),
    Command("limits remove", "DELETE /limits/{limit_id}", "id"),
    Command("metrics show", "GET /metrics"),
    Command("calls list", "GET /calls", CALL, watched=True),
    Command("calls show", "GET /calls/{event_id}"),
    Command("calls export", "GET /calls/export"),
    Command("ledger capture", "GET /metering"),
    Command("ledger list", "GET /ledger-entries",
            "id transaction_id at_s kind tenant account amount_pico currency reference"),
    Command("ledger reverse", "POST /ledger-entries/{transaction_id}/reverse", "transaction_id"),
    Command("ledger rerate", "POST /rerate"),
    Command("wallet reverse", "POST /ledger-entries/{transaction_id}/reverse", "transaction_id",
            summary="Undo a deposit by its opposite; its reference may then be entered again"),
    Command("wallet show", "GET /wallets/{tenant}"),
    Command("wallet deposit", "POST /wallets/{tenant}/deposits", "transaction_id", "amount"),
    Command("prices list", "GET /prices", "id tenant model price from_s"),
    Command("prices set", "POST /prices", "id", "model"),
    Command("fx list", "GET /fx-rates", "day usd_cny_micro source"),
    Command("fx set", "PUT /fx-rates/{day}", "day", "usd_cny"),
    Command("audit list", "GET /audit", "at_ms actor tenant action target detail address id",
            watched=True),
    Command("audit search", "GET /audit-log/entries",
            "sequence sealed_at_ms kind tenant id segment position"),
    Command("audit prove", "GET /audit-log/proofs/{event_id}"),
    Command("audit receipt", "GET /audit-log/receipts/{receipt}"),
    Command("audit checkpoint", "GET /audit-log/checkpoint"),
    Command("audit reconcile", "GET /audit-log/reconciliation/{day}"),
    Command("audit consistency", "GET /audit-log/consistency"),
    Command("compliance standards", "GET /compliance/standards", "standard title controls"),
    Command("compliance check", "GET /compliance/reports/{standard}"),
    Command("compliance separation", "GET /compliance/separation"),
    Command("compliance separate", "PUT /compliance/separation", "on"),
    Command("approvals list", "GET /approvals",
            "requested_at_s state operation tenant target requested_by decided_by expires_at_s id",
            watched=True),
    Command("approvals approve", "POST /approvals/{approval_id}/approve", "id state"),
    Command("approvals reject", "POST /approvals/{approval_id}/reject", "id state"),
    Command("compliance deadlines", "GET /compliance/deadlines",
            "due_on subject id tenant duty state certain calendar_ends_on rule", watched=True),
    Command("compliance notice", "GET /compliance/notice"),
    Command("compliance template", "GET /compliance/templates/{template}", document="markdown"),
    Command("incidents create", "POST /incidents", "id", "title"),
    Command("incidents list", "GET /incidents",
            "id tenant severity title detected_at_s reported_at_s ended_at_s", watched=True),
    Command("incidents draft", "GET /incidents/{incident_id}/report", document="markdown"),
    Command("incidents report", "POST /incidents/{incident_id}/report", "id reported_at_s"),
    Command("subject-requests create", "POST /subject-requests", "id due_at_s",
            "tenant kind end_user"),
    Command("subject-requests list", "GET /subject-requests",
            "id tenant kind state received_at_s due_at_s decided_at_s", watched=True),
    Command("subject-requests export", "GET /subject-requests/{request_id}/export"),
    Command("subject-requests decide", "POST /subject-requests/{request_id}/decide", "id state",
            "decision reason"),
    Command("me search", "GET /me/search", "kind name tenant project id", "text"),
    Command("model served", "GET /served-models", "name kind owned_by offers"),
    Command("model latency", "GET /insight/latency",
            "model answered failed first_token_p50_ms first_token_p95_ms total_p50_ms total_p95_ms",
            watched=True),
    Command("upstreams health", "GET /upstream-health",
            "id provider health running drain base_url metrics",
            watched=True),
    Command("gateways list", "GET /gateways",
            "name revision rejected_revision rejected_reason applied_parts running age_s version",
            watched=True),
    Command("revisions list", "GET /revisions",
            "revision at_ms actor tenant resources reason changed rolled_back_of refusals",
            watched=True),
    Command("revisions show", "GET /revisions/{revision}"),
    Command("revisions rollback", "POST /revisions/{revision}/rollback"),
    Command("records discard", "DELETE /rejected-records/{record_id}", "id"),
    Command("alerts list", "GET /alerts",
            "at_s kind tenant detail sent_at_s tries acknowledged_by id", watched=True),
    Command("alerts acknowledge", "POST /alerts/{alert_id}/acknowledge", "id"),
    Command("alerts targets", "GET /alert-targets",
            "id kind name tenant confirmed_at_s created_at_s"),
    Command("alerts add", "POST /alert-targets", "id", "kind address", offers="secret"),
    Command("alerts silence", "POST /alert-silences", "id expires_at_s"),
    Command("alerts silences", "GET /alert-silences",
            "from_s expires_at_s kind tenant upstream reason created_by ended_by id"),
    Command("alerts end-silence", "POST /alert-silences/{silence_id}/end", "id"),
    Command("alerts remove", "DELETE /alert-targets/{target_id}", "id"),
    Command("moderation queue", "GET /moderation-cases",
            "due_at_s overdue state category moderation tenant model claimed_by decision id",
            watched=True),
    Command("moderation waiting", "GET /moderation-cases/counts"),
    Command("moderation show", "GET /moderation-cases/{case_id}"),
    Command("moderation open", "POST /moderation-cases/{case_id}/open", "direction text cut"),
    Command("moderation claim", "POST /moderation-cases/{case_id}/claim",
            "id state claimed_until_s"),
    Command("moderation return", "POST /moderation-cases/{case_id}/return", "id state"),
    Command("moderation decide", "POST /moderation-cases/{case_id}/decide",
            "id state decision", "decision reason"),
    Command("moderation decide-all", "POST /moderation-cases/decide", "id state error"),
    Command("moderation freeze", "POST /moderation-freezes", "id"),
    Command("moderation freezes", "GET /moderation-freezes",
            "created_at_s tenant model reason created_by lifted_at_s id"),
    Command("compliance transfers", "GET /transfers",
            "tenant month calls unnamed_calls end_users_in_year end_users_max "
            "sensitive_end_users_in_year sensitive_end_users_max basis warning stopped recipients",
            nothing="no call of this month sent data abroad"),
    Command("moderation statistics", "GET /moderation/statistics",
            "day tenant action category engine language model calls findings disputed upheld "
            "released"),
    Command("moderation suspensions", "GET /moderation-suspensions",
            "created_at_s tenant end_user cause blocked_calls until_s released_by id"),
    Command("moderation release", "POST /moderation-suspensions/{suspension_id}/release",
            "id released_at_s", "reason"),
    Command("moderation propose", "POST /moderation-cases/{case_id}/proposals", "id", "kind word"),
    Command("moderation proposals", "GET /moderation-proposals",
            "created_at_s state kind word phrase risk proposed_by tenant case_id id"),
    Command("moderation decide-proposal", "POST /moderation-proposals/{proposal_id}/decide",
            "id state", "reason"),
    Command("moderation lift", "POST /moderation-freezes/{freeze_id}/lift", "id lifted_at_s"),
    Command("moderation effective", "GET /moderation/effective", "field value policies"),
    Command("moderation engines", "GET /moderation/engines",
            "name vendor zone breaker answered errors p50_ms p95_ms requests_today "
            "requests_left_today last_error last_error_s",
            watched=True),
    Command("moderation packs", "GET /moderation/packs", "name version words expires reviewer"),
    Command("moderation try", "POST /moderation/test", "stage category level rule text", "text"),
    Command("audit keep", "PUT /content-policies", "tenant project content retention",
            "content"),
    Command("audit policies", "GET /content-policies",
            "tenant project content retention changed_by changed_at_ms"),
    Command("audit open", "POST /audit-log/content/{call_id}/open"),
    Command("audit export-content", "POST /audit-log/content/export",
            "started_ms call_id kept input output"),
    Command("audit hold", "POST /legal-holds", "id", "tenant"),
    Command("audit holds", "GET /legal-holds",
            "created_at_ms tenant subject from_ms until_ms reason created_by released_by id"),
    Command("audit release", "POST /legal-holds/{hold_id}/release", "id released_at_ms"),
    Command("audit erase", "POST /content-erasures"),
    Command("audit erasures", "GET /content-erasures",
            "erased_at_ms tenant subject contents held reason erased_by id"),
    Command("cache feedback", "POST /cache/feedback", arguments="request_id"),
    Command("me show", "GET /me"),
    Command("me sign-in", "POST /sessions", arguments="email", shown_once="token", asks="password",
            offers="recovery_code"),
    Command("me sign-out", "DELETE /sessions"),
    Command("me step-up", "POST /me/step-up", asks="password", offers="recovery_code"),
    Command("me password", "POST /me/password", asks="old new", offers="recovery_code"),
    Command("me totp", "POST /me/totp"),
    Command("me confirm-totp", "POST /me/totp/confirm", shown_once="recovery_codes",
            asks="secret", arguments="code", offers="password recovery_code"),
    Command("me signing-keys", "GET /me/signing-keys",
            "id name public_key created_at_s used_at_ms"),
    Command("me add-signing-key", "POST /me/signing-keys", "id", "name public_key"),
    Command("me delete-signing-key", "DELETE /me/signing-keys/{key_id}"),
    Command("users list", "GET /users", "id email name kind tenant state created_at_s"),
    Command("users show", "GET /users/{user_id}"),
    Command("users change", "PATCH /users/{user_id}", offers="password"),
    Command("users disable", "PATCH /users/{user_id}", "id", fixed={"disabled": True},
            summary="Shut a user out: sessions and tokens end within a second"),
    Command("users enable", "PATCH /users/{user_id}", "id", fixed={"disabled": False},
            summary="Let a user in again"),
    Command("users reset-totp", "POST /users/{user_id}/totp/reset", "id has_totp",
            offers="password recovery_code"),
    Command("users grant", "POST /users/{user_id}/bindings", "id", "role"),
    Command("users revoke", "DELETE /bindings/{binding_id}", "id"),
    Command("roles list", "GET /roles", "name tenant permissions"),
    Command("roles set", "PUT /roles/{tenant}/{name}"),
    Command("roles remove", "DELETE /roles/{tenant}/{name}", "id"),
    Command("tokens create", "POST /users/{user_id}/tokens", shown_once="token"),
    Command("tokens list", "GET /users/{user_id}/tokens", "id kind name permissions expires_at_s"),
    Command("tokens revoke", "DELETE /tokens/{token_id}", "id"),
)  # fmt: skip
"""Groups and their commands in the order in which help shows them."""

BY_HAND: dict[str, str] = {
    "PUT /limits/{limit_id}": "limits set",
    "GET /limits": "limits list",
    "GET /limits/{limit_id}": "limits show",
    "GET /usage": "usage",
    "GET /rejected-records": "records rejected",
    "GET /rejected-records/{record_id}": "records rejected",
    "POST /rejected-records/{record_id}/retry": "records retry",
    "POST /alert-targets/{target_id}/test": "alerts test",
    "POST /users": "users create",
    "POST /configuration/apply": "apply",
    "GET /configuration": "export",
    "PUT /credentials/{resource_name}": "upstream-credentials set",
    "POST /upstreams/{resource_name}/test": "upstreams test",
    "DELETE /upstreams/{resource_name}": "upstreams remove",
    "POST /cache/flush": "cache flush",
    "GET /cache/stats": "cache stats",
    "GET /cache/hit-ages": "cache hit-ages",
    "GET /cache/threshold-preview": "cache threshold-preview",
    "GET /cache/query-clusters": "cache query-clusters",
    "POST /cache/pairs": "cache learn",
    "GET /diagnostics": "doctor",
    "GET /compliance/reports/{standard}/bundle": "compliance report",
    "POST /compliance/evaluations": "compliance draw",
}
"""Operations of commands that do more than one call, or say more than a table."""

WITHOUT: dict[str, str] = {
    "GET /oidc/start": "a browser goes there to sign in",
    "POST /sessions/link": "a browser comes in by the link",
    "POST /invitations/look": "a browser comes in by the link",
    "POST /invitations/accept": "a browser comes in by the link",
    "POST /sign-ups": "a stranger signs up in a browser",
    "POST /sign-ups/look": "a browser comes in by the link",
    "POST /sign-ups/confirm": "a browser comes in by the link",
    "POST /alert-targets/confirm": "a browser comes in by the link",
    "GET /oidc/callback": "the identity provider sends the browser back there",
}
"""Operations that no command is for, with the reason."""

_VERBS = {"PUT": "set", "PATCH": "change", "DELETE": "remove", "POST": "create"}


def all_commands(operations: Iterable[Operation]) -> list[Command]:
    """The table, and a command by convention for each operation that is not in it."""
    known = {command.operation for command in COMMANDS} | set(BY_HAND) | set(WITHOUT)
    made = [by_convention(one) for one in operations if one.name not in known]
    return [*COMMANDS, *made]


def by_convention(operation: Operation) -> Command:
    """The command of an operation that has no row."""
    parts = operation.path.strip("/").split("/")
    words = [part for part in parts if not part.startswith("{")]
    of_one = bool(re.search(r"\}$", operation.path))
    if len(words) > 1 and operation.method == "POST":
        return Command(f"{words[0]} {'-'.join(words[1:])}", operation.name)
    group = "-".join(words)
    if operation.method == "GET":
        verb = "show" if of_one or operation.answers == "object" else "list"
        return Command(f"{group} {verb}", operation.name, " ".join(operation.columns))
    return Command(f"{group} {_VERBS[operation.method]}", operation.name)
