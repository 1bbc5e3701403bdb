"""Commands over the admin API: API keys, limits, users, wallets, rejected records, usage."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from decimal import Decimal, InvalidOperation
from typing import Annotated, Any

import typer

from tokenschain.cli import admin_client
from tokenschain.cli.output import console, errors, table
from tokenschain.core.pricing.catalog import PICO_PER_UNIT, format_pico
from tokenschain.infra import config

keys = typer.Typer(no_args_is_help=True, help="API keys: create, list, rotate, revoke.")
limits = typer.Typer(no_args_is_help=True, help="Rates and budgets: set, list, remove.")
users = typer.Typer(no_args_is_help=True, help="People and service accounts: create, list, grant.")
tokens = typer.Typer(no_args_is_help=True, help="Programs' tokens: create, list, revoke.")
wallet = typer.Typer(no_args_is_help=True, help="What tenants have paid: show, deposit.")
records = typer.Typer(
    no_args_is_help=True, help="Call records that the ledger could not take: look, retry, discard."
)


def call(method: str, path: str, body: Any = None, query: dict[str, str] | None = None) -> Any:
    """One request to the admin API of the platform that the settings name."""
    return admin_client.call(config.load(), method, path, body, query=query)


# --- keys ----------------------------------------------------------------------------


@keys.command("create")
def keys_create(
    name: Annotated[str, typer.Option(help="What the key is for.")] = "key",
    tenant: Annotated[str, typer.Option()] = "default",
    project: Annotated[str, typer.Option()] = "default",
    environment: Annotated[str, typer.Option()] = "default",
    models: Annotated[list[str] | None, typer.Option("--model", help="Allow only these.")] = None,
    expires_in_days: Annotated[int | None, typer.Option(min=1)] = None,
    disconnect: Annotated[str, typer.Option(help="cancel or drain.")] = "cancel",
    *,
    routing_details: Annotated[
        bool,
        typer.Option("--routing-details", help="Show it costs, loads and other upstreams."),
    ] = False,
) -> None:
    """Create an API key; it is shown once."""
    expires = None if expires_in_days is None else int(time.time()) + expires_in_days * 86_400
    body = {
        "name": name,
        "tenant": tenant,
        "project": project,
        "environment": environment,
        "models": models,
        "expires_at_s": expires,
        "disconnect": disconnect,
        "routing_details": routing_details,
    }
    made = call("POST", "/api/v1/keys", body)
    console.print(made["key"], highlight=False, soft_wrap=True)
    errors.print(f"{made['id']}: keep the key, it is not shown again", highlight=False)


@keys.command("list")
def keys_list(tenant: Annotated[str | None, typer.Option()] = None) -> None:
    """List API keys by their prefixes."""
    query = None if tenant is None else {"tenant": tenant}
    found = call("GET", "/api/v1/keys", query=query)["data"]
    shown = table("id", "key", "name", "tenant", "project", "environment", "state")
    for key in found:
        shown.add_row(
            key["id"],
            f"{key['prefix']}…",
            key["name"],
            key["tenant"],
            key["project"],
            key["environment"],
            _state(key),
        )
    console.print(shown)


def _state(key: dict[str, Any]) -> str:
    if key["revoked_at_s"] is not None:
        return "revoked"
    if key["expires_at_s"] is not None and key["expires_at_s"] <= time.time():
        return "expired"
    return "active"


@keys.command("revoke")
def keys_revoke(key_id: str) -> None:
    """Revoke an API key; it is refused within a second."""
    call("DELETE", f"/api/v1/keys/{key_id}")
    console.print(f"revoked {key_id}")


@keys.command("rotate")
def keys_rotate(
    key_id: str,
    overlap_s: Annotated[int, typer.Option(min=0, help="How long the old one goes on.")] = 86_400,
) -> None:
    """Make a successor that may do the same; it is shown once."""
    made = call("POST", f"/api/v1/keys/{key_id}/rotate", {"overlap_s": overlap_s})
    console.print(made["key"], highlight=False, soft_wrap=True)
    errors.print(f"{made['id']}: {key_id} is served for {overlap_s} s more", highlight=False)


# --- limits ----------------------------------------------------------------------------

_WINDOWS = {"second": 1, "minute": 60, "hour": 3_600}
_PERIODS = ("day", "month", "total")


@limits.command("set")
def limits_set(
    name: Annotated[str, typer.Argument(help="Its name; setting it again changes it.")],
    amount: Annotated[str, typer.Argument(help="Requests, tokens, calls, or yuan as `12.50`.")],
    measure: Annotated[
        str, typer.Option(help="requests, tokens, spend or concurrent.")
    ] = "requests",
    period: Annotated[
        str, typer.Option(help="second, minute, hour (a rate); day, month, total (a budget).")
    ] = "minute",
    match: Annotated[
        list[str] | None, typer.Option(help="Which calls: tenant=x, model=y, tag=a=b; several.")
    ] = None,
    per: Annotated[
        list[str] | None, typer.Option(help="Counted per: key_id, tenant, tag:user; several.")
    ] = None,
    wait_s: Annotated[float, typer.Option(min=0, help="A call over the rate may wait.")] = 0,
    soft: Annotated[bool, typer.Option("--soft", help="A budget that only alerts.")] = False,
    alert: Annotated[
        list[int] | None, typer.Option(help="Percent of a budget to alert at; several.")
    ] = None,
) -> None:
    """Set a rate or a budget; gateways follow within a second."""
    if period not in (*_WINDOWS, *_PERIODS):
        known = ", ".join((*_WINDOWS, *_PERIODS))
        raise typer.BadParameter(f"one of {known}", param_hint="--period")
    if per is not None and not {*_WINDOWS, *_PERIODS}.isdisjoint(per):
        raise typer.BadParameter("a length of time is now --period", param_hint="--per")
    try:
        number = Decimal(amount) * (PICO_PER_UNIT if measure == "spend" else 1)
    except InvalidOperation:
        raise typer.BadParameter(f"`{amount}` is no number", param_hint="amount") from None
    body: dict[str, Any] = {
        "kind": "rate" if period in _WINDOWS else "budget",
        "measure": measure,
        "amount": int(number),
        "match": dict(part.partition("=")[::2] for part in match or ()),
        "per": per or [],
    }
    if period in _WINDOWS:
        body |= {"window_s": _WINDOWS[period], "wait_s": wait_s}
    else:
        body |= {"period": period, "hard": not soft}
        if alert:
            body["alerts"] = alert
    call("PUT", f"/api/v1/limits/{name}", body)
    console.print(f"set {name}")


@limits.command("list")
def limits_list(tenant: Annotated[str | None, typer.Option()] = None) -> None:
    """List limits; of budgets what is spent."""
    found = call("GET", "/api/v1/limits", query=None if tenant is None else {"tenant": tenant})
    shown = table("name", "measure", "amount", "period", "match", "per", "spent")
    windows = {seconds: name for name, seconds in _WINDOWS.items()}
    for limit in found["data"]:
        spend = limit["measure"] == "spend"
        amounts = [limit["amount"], *(use["spent"] for use in limit.get("used", ()))]
        texts = [format_pico(a, "CNY") if spend else f"{a:,}" for a in amounts]
        period = limit.get("period") or windows[limit["window_s"]]
        match = ", ".join(f"{k}={v}" for k, v in limit["match"].items() if v)
        spent = ", ".join(texts[1:3]) + (" …" if len(texts) > 3 else "")
        shown.add_row(
            limit["id"], limit["measure"], texts[0], period, match, ", ".join(limit["per"]), spent
        )
    console.print(shown)


@limits.command("remove")
def limits_remove(name: str) -> None:
    """Take a limit away."""
    call("DELETE", f"/api/v1/limits/{name}")
    console.print(f"removed {name}")


# --- people ----------------------------------------------------------------------------


@users.command("create")
def users_create(
    email: str,
    tenant: Annotated[str, typer.Option(help="Its tenant; `*` is the platform.")] = "default",
    name: Annotated[str, typer.Option()] = "",
    role: Annotated[str | None, typer.Option(help="Given in the tenant at once.")] = None,
    service: Annotated[bool, typer.Option("--service", help="A service account.")] = False,
) -> None:
    """Create a user; the password is read from standard input."""
    body: dict[str, Any] = {"email": email, "tenant": tenant, "name": name or email}
    if service:
        body["kind"] = "service"
    elif sys.stdin.isatty():
        body["password"] = typer.prompt("password", hide_input=True, confirmation_prompt=True)
    else:
        body["password"] = sys.stdin.read().strip()
    made = call("POST", "/api/v1/users", body)
    if role is not None:
        users_grant(made["id"], role, tenant)
    console.print(made["id"])


@users.command("grant")
def users_grant(
    user_id: str,
    role: str,
    tenant: Annotated[str, typer.Option()] = "default",
) -> None:
    """Give a user a role in a tenant."""
    call("POST", f"/api/v1/users/{user_id}/bindings", {"role": role, "tenant": tenant})
    errors.print(f"{user_id} is {role} of {tenant}")


@users.command("list")
def users_list(tenant: Annotated[str | None, typer.Option()] = None) -> None:
    """List people and service accounts."""
    found = call("GET", "/api/v1/users", query=None if tenant is None else {"tenant": tenant})
    shown = table("id", "email", "name", "kind", "tenant", "state")
    for user in found["data"]:
        state = "disabled" if user["disabled_at_s"] else "active"
        shown.add_row(*(user[n] for n in ("id", "email", "name", "kind", "tenant")), state)
    console.print(shown)


# --- programs' tokens ------------------------------------------------------------------


@tokens.command("create")
def tokens_create(
    user_id: Annotated[str, typer.Argument(help="A service account; or yourself, signed in.")],
    permission: Annotated[
        list[str] | None,
        typer.Option(help="What it may do, as keys:read, usage:* or *; several."),
    ] = None,
    name: Annotated[str, typer.Option(help="What it is for.")] = "token",
    expires_in_days: Annotated[int, typer.Option(min=1, max=366)] = 90,
) -> None:
    """Create a token for a program; it is shown once.

    It may do what is named, of what its user may.
    """
    if not permission:
        raise typer.BadParameter("name what it may do", param_hint="--permission")
    body = {"name": name, "lasts_s": expires_in_days * 86_400, "permissions": permission}
    made = call("POST", f"/api/v1/users/{user_id}/tokens", body)
    console.print(made["token"], highlight=False, soft_wrap=True)
    errors.print(f"{made['id']}: keep the token, it is not shown again", highlight=False)


@tokens.command("list")
def tokens_list(user_id: str) -> None:
    """List a user's tokens and sessions."""
    shown = table("id", "kind", "name", "permissions", "expires")
    for token in call("GET", f"/api/v1/users/{user_id}/tokens")["data"]:
        day = time.strftime("%Y-%m-%d", time.gmtime(token["expires_at_s"]))
        shown.add_row(
            token["id"], token["kind"], token["name"], ", ".join(token["permissions"]), day
        )
    console.print(shown)


@tokens.command("revoke")
def tokens_revoke(token_id: str) -> None:
    """End a token or a session."""
    call("DELETE", f"/api/v1/tokens/{token_id}")
    console.print(f"revoked {token_id}")


# --- money -----------------------------------------------------------------------------


@wallet.command("show")
def wallet_show(tenant: str) -> None:
    """Show what a tenant has left."""
    found = call("GET", f"/api/v1/wallets/{tenant}")
    shown = table("tenant", "prepaid", "balance", "credit line")
    balances = [format_pico(v, k) for k, v in found["balances_pico"].items()]
    shown.add_row(
        tenant, "yes" if found["prepaid"] else "no", ", ".join(balances) or "0",
        format_pico(found["credit_pico"], "CNY"),
    )  # fmt: skip
    console.print(shown)


@wallet.command("deposit")
def wallet_deposit(
    tenant: str,
    amount: Annotated[str, typer.Argument(help="As `1000.00`.")],
    reference: Annotated[str, typer.Option(help="The bank's, for reconciliation.")],
    currency: Annotated[str, typer.Option(help="CNY or USD.")] = "CNY",
) -> None:
    """Enter what a tenant paid."""
    body = {"amount": amount, "currency": currency, "reference": reference}
    made = call("POST", f"/api/v1/wallets/{tenant}/deposits", body)
    console.print(made["transaction_id"], highlight=False)


@wallet.command("reverse")
def wallet_reverse(
    transaction_id: Annotated[str, typer.Argument(help="As `wallet deposit` printed it.")],
    reason: Annotated[str, typer.Option(help="Why it is undone.")],
) -> None:
    """Undo a deposit by its opposite; its reference may then be entered again."""
    made = call("POST", f"/api/v1/ledger-entries/{transaction_id}/reverse", {"reason": reason})
    console.print(made["transaction_id"], highlight=False)


# --- rejected records ------------------------------------------------------------------


@records.command("rejected")
def records_rejected(
    record_id: Annotated[str | None, typer.Argument(help="Show all that it says.")] = None,
) -> None:
    """List the records that could not be entered, with the reason; or show one."""
    if record_id is not None:
        console.print_json(data=call("GET", f"/api/v1/rejected-records/{record_id}"))
        return
    shown = table("id", "received", "event", "tenant", "model", "gateway", "reason")
    for one in _rejected():
        received = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(one["received_at_s"]))
        words = (one[name] for name in ("event_id", "tenant", "model_asked", "gateway", "reason"))
        shown.add_row(one["id"], received, *words)
    console.print(shown)


@records.command("retry")
def records_retry(
    record_ids: Annotated[list[str] | None, typer.Argument(help="All of them by default.")] = None,
    reduced: Annotated[
        bool, typer.Option("--reduced", help="Cut what is out of bounds; counts are estimates.")
    ] = False,
) -> None:
    """Enter rejected records again; those that are refused again stay."""
    names = record_ids or [one["id"] for one in _rejected() if one["readable"]]
    entered = 0
    for name in names:
        try:
            call("POST", f"/api/v1/rejected-records/{name}/retry", {"reduced": reduced})
            entered += 1
        except admin_client.AdminError as error:
            errors.print(f"{name}: {error}", highlight=False, markup=False)
    console.print(f"entered {entered} of {len(names)}")
    if entered < len(names):
        raise typer.Exit(1)


@records.command("discard")
def records_discard(record_id: str) -> None:
    """Give a rejected record up; its call stays out of the ledger."""
    call("DELETE", f"/api/v1/rejected-records/{record_id}")
    console.print(f"discarded {record_id}")


def _rejected() -> Iterator[dict[str, Any]]:
    query = {"limit": "200"}
    while True:
        found = call("GET", "/api/v1/rejected-records", query=query)
        yield from found["data"]
        if found["next_cursor"] is None:
            return
        query["cursor"] = found["next_cursor"]


# --- usage -----------------------------------------------------------------------------


def usage(
    days: Annotated[int, typer.Option(min=1, max=3_660, help="How far back.")] = 30,
    by: Annotated[str, typer.Option(help="Dimensions, separated by commas.")] = "tenant,model,day",
    tenant: Annotated[str | None, typer.Option()] = None,
) -> None:
    """Show calls, tokens and cost.

    Beside it, what upstreams are owed for answers that no caller pays for.
    """
    query = {"group_by": by, "from_s": str(int(time.time()) - days * 86_400)}
    if tenant is not None:
        query["tenant"] = tenant
    rows = call("GET", "/api/v1/usage", query=query)["data"]
    names = [name.strip() for name in by.split(",")]
    shown = table(*names, "calls", "failed", "input", "cached", "output", "cost", "platform cost")
    for row in rows:
        cost = borne = "-"
        if row.get("currency"):
            cost = format_pico(row["cost_pico"], row["currency"])
            if row["platform_cost_pico"]:
                borne = format_pico(row["platform_cost_pico"], row["currency"])
        if row.get("unpriced_calls"):
            cost += f" + {row['unpriced_calls']} unpriced"
        shown.add_row(
            *(row[name] for name in names),
            *(
                str(row.get(name, "-"))
                for name in (
                    "calls",
                    "failed_calls",
                    "prompt_tokens",
                    "cached_tokens",
                    "completion_tokens",
                )
            ),
            cost,
            borne,
        )
    console.print(shown)
