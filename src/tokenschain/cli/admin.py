"""Commands over the admin API that do more than one call, or say more than a table: limits, new
users, rejected records, test messages, usage."""

from __future__ import annotations

import time
from collections.abc import Mapping
from decimal import Decimal, InvalidOperation
from typing import Annotated, Any

import typer

from tokenschain.cli import admin_client, tables
from tokenschain.cli.admin_client import AdminError, AdminRequest
from tokenschain.cli.api_commands import ROWS
from tokenschain.cli.language import told
from tokenschain.cli.output import console, errors, secret_input
from tokenschain.cli.tables import Format, Output
from tokenschain.core.pricing.catalog import PICO_PER_UNIT, format_pico
from tokenschain.core.routing.near_names import near_names
from tokenschain.infra import config

limits = typer.Typer(no_args_is_help=True, help="Rates and budgets: set, list, show, remove.")
users = typer.Typer(no_args_is_help=True, help="People and service accounts, and their roles.")
alerts = typer.Typer(no_args_is_help=True, help="Alerts, and where they are sent.")
records = typer.Typer(
    no_args_is_help=True, help="Call records that the ledger could not take: look, retry, discard."
)


def call(method: str, path: str, body: Any = None, query: Mapping[str, str] | None = None) -> Any:
    """One request to the admin API of the platform that the settings name."""
    return admin_client.call(config.load(), method, path, body, query=query)


def rows_of(path: str, query: Mapping[str, str] | None = None, most: int | None = None) -> Any:
    """The rows of a list of the admin API."""
    settings = config.load()
    rows, _ = admin_client.pages(settings, AdminRequest("GET", path, query=query or {}), most)
    if not rows and query:
        admin_client.check_tenant(settings, query.get("tenant"))
    return rows


# --- limits ----------------------------------------------------------------------------

_WINDOWS = {"second": 1, "minute": 60, "hour": 3_600}
_PERIODS = ("day", "month", "total")
_MEASURES = ("requests", "tokens", "spend", "concurrent")
_MATCHED = ("tenant", "account", "project", "environment", "key_id", "model", "tag")
_PER = (*_MATCHED[:-1], "tag:NAME")
_LIMIT_COLUMNS = ("id", "measure", "limit", "period", "match", "per", "spent")


@limits.command("set")
def limits_set(
    name: Annotated[
        str, typer.Argument(help="Its name in its tenant; setting it again changes it.")
    ],
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
    everyone: Annotated[
        bool, typer.Option("--everyone", help="All calls of all tenants, instead of --match.")
    ] = False,
    per: Annotated[
        list[str] | None, typer.Option(help="Counted per: key_id, tenant, tag:user; several.")
    ] = None,
    wait_s: Annotated[float, typer.Option(min=0, help="A call over the rate may wait.")] = 0,
    burst_when_idle: Annotated[
        bool, typer.Option("--burst-when-idle", help="A rate that holds when upstreams are busy.")
    ] = False,
    on_unavailable: Annotated[
        str | None, typer.Option(help="When it cannot be counted: allow or deny.")
    ] = None,
    soft: Annotated[bool, typer.Option("--soft", help="A budget that only alerts.")] = False,
    alert: Annotated[
        list[int] | None, typer.Option(help="Percent of a budget to alert at; several.")
    ] = None,
) -> None:
    """Set a rate or a budget; gateways follow within a second."""
    _known(period, (*_WINDOWS, *_PERIODS), "--period")
    _known(measure, _MEASURES, "--measure")
    if per is not None and not {*_WINDOWS, *_PERIODS}.isdisjoint(per):
        raise typer.BadParameter(told("a length of time is now --period"), param_hint="--per")
    for one in per or ():
        _known("tag:NAME" if one.startswith("tag:") else one, _PER, "--per")
    body: dict[str, Any] = {
        "kind": "rate" if period in _WINDOWS else "budget",
        "measure": measure,
        "amount": _amount(amount, measure),
        "match": _matched(match or (), everyone=everyone),
        "per": per or [],
    }
    if period in _WINDOWS:
        body |= {"window_s": _WINDOWS[period], "wait_s": wait_s}
        body |= {"burst_when_idle": burst_when_idle}
    else:
        body |= {"period": period, "hard": not soft}
        if alert:
            body["alerts"] = alert
    if on_unavailable is not None:
        _known(on_unavailable, ("allow", "deny"), "--on-unavailable")
        body["on_unavailable"] = on_unavailable
    made = call("PUT", f"/api/v1/limits/{admin_client.quoted(name)}", body)
    console.print(told("set {name}", name=made["id"]), highlight=False, markup=False)


def _amount(text: str, measure: str) -> int:
    """As the API counts it: whole, and money in pico-yuan."""
    try:
        number = Decimal(text) * (PICO_PER_UNIT if measure == "spend" else 1)
    except InvalidOperation:
        raise typer.BadParameter(
            told("`{text}` is no number", text=text), param_hint="amount"
        ) from None
    if number != number.to_integral_value():
        raise typer.BadParameter(
            told("`{text}` is no whole number of {measure}", text=text, measure=measure),
            param_hint="amount",
        )
    return int(number)


def _matched(parts: tuple[str, ...] | list[str], *, everyone: bool) -> dict[str, str]:
    """Which calls are limited: those named, or all when that was said."""
    if not parts and not everyone:
        raise typer.BadParameter(
            told("say which calls, as --match tenant=NAME, or --everyone for all calls there are"),
            param_hint="--match",
        )
    if parts and everyone:
        raise typer.BadParameter(told("either --match or --everyone"), param_hint="--match")
    found = {}
    for part in parts:
        name, _, value = part.partition("=")
        _known(name, _MATCHED, "--match")
        if not value:
            raise typer.BadParameter(
                told("{name} of what? Say {name}=VALUE", name=name), param_hint="--match"
            )
        found[name] = value
    return found


def _known(name: str, names: tuple[str, ...], option: str) -> None:
    if name not in names:
        near = near_names(name, names)
        hint = told("; did you mean {names}?", names=near[0]) if near else ""
        raise typer.BadParameter(
            told("`{name}` is none of {names}", name=name, names=", ".join(names)) + hint,
            param_hint=option,
        )


@limits.command("list")
def limits_list(
    tenant: Annotated[str | None, typer.Option(help="Tenant.")] = None,
    output_format: Output = Format.TABLE,
) -> None:
    """List limits; of budgets what is spent."""
    found = rows_of("/api/v1/limits", {} if tenant is None else {"tenant": tenant})
    if output_format in (Format.TABLE, Format.WIDE):
        found = [_limit_row(limit) for limit in found]
    tables.show(found, _LIMIT_COLUMNS, output_format)


@limits.command("show")
def limits_show(
    limit_id: Annotated[str, typer.Argument(help="Id, as the list shows it.")],
    output_format: Output = Format.TABLE,
) -> None:
    """Show one rate or budget; of a budget, what is spent of it now."""
    found = call("GET", f"/api/v1/limits/{admin_client.quoted(limit_id)}")
    if output_format in (Format.TABLE, Format.WIDE):
        used = found.get("used", ())
        more = {name: found[name] for name in _LIMIT_DETAIL_COLUMNS if name in found}
        found = _limit_row(found) | more | {"uses": [_used_row(found, one) for one in used]}
    tables.show(found, _LIMIT_COLUMNS, output_format)


_LIMIT_DETAIL_COLUMNS = ("on_unavailable", "wait_s", "burst_when_idle", "hard", "counts", "version")
_USED_COLUMNS = ("uses", "subject", "spent", "promised")


def _used_row(limit: Mapping[str, Any], use: Mapping[str, Any]) -> dict[str, Any]:
    amounts = (_counted(limit, use[name]) for name in ("spent", "promised"))
    return dict(zip(_USED_COLUMNS[1:], (use["subject"], *amounts), strict=True))


def _counted(limit: Mapping[str, Any], amount: int) -> str:
    return format_pico(amount, "CNY") if limit["measure"] == "spend" else f"{amount:,}"


def _limit_row(limit: Mapping[str, Any]) -> dict[str, Any]:
    """A limit in words: money in yuan, the window by its name."""
    used = [use["spent"] for use in limit.get("used", ())]
    if not used and limit["kind"] == "budget":
        used = [0]
    texts = [_counted(limit, amount) for amount in (limit["amount"], *used)]
    windows = {seconds: name for name, seconds in _WINDOWS.items()}
    match = ", ".join(f"{k}={v}" for k, v in limit["match"].items() if v)
    return {
        "id": limit["id"],
        "measure": limit["measure"],
        "limit": texts[0],
        "period": limit.get("period") or windows[limit["window_s"]],
        "match": match or told("everyone"),
        "per": limit["per"],
        "spent": ", ".join(texts[1:3]) + (" …" if len(texts) > 3 else ""),
    }


# --- people ----------------------------------------------------------------------------


@users.command("create")
def users_create(
    email: Annotated[str, typer.Argument(help="E-mail address.")],
    tenant: Annotated[str, typer.Option(help="Its tenant; `*` is the platform.")] = "default",
    name: Annotated[str, typer.Option(help="Name.")] = "",
    role: Annotated[str | None, typer.Option(help="Given in the tenant at once.")] = None,
    service: Annotated[bool, typer.Option("--service", help="A service account.")] = False,
) -> None:
    """Create a user; the password is read from standard input."""
    if role is not None:  # before a user is made that has none
        found = call("GET", "/api/v1/roles", query={"tenant": tenant})["data"]
        _known(role, tuple(one["name"] for one in found), "--role")
    body: dict[str, Any] = {"email": email, "tenant": tenant, "name": name or email}
    if service:
        body["kind"] = "service"
    else:
        body["password"] = secret_input("password")
    made = call("POST", "/api/v1/users", body)
    if role is not None:
        given = {"role": role, "tenant": tenant}
        call("POST", f"/api/v1/users/{made['id']}/bindings", given)
        said = told("{user} is {role} of {tenant}", user=made["id"], role=role, tenant=tenant)
        errors.print(said, highlight=False, markup=False)
    console.print(made["id"], highlight=False)


# --- alerts ----------------------------------------------------------------------------

_ARRIVES_MAX_S = 30.0


@alerts.command("test")
def alerts_test(
    target_id: Annotated[str, typer.Argument(help="Id, as `alerts targets` shows it.")],
) -> None:
    """Send a test message to a target, and say whether it arrived."""
    path = f"/api/v1/alert-targets/{admin_client.quoted(target_id)}/test"
    made = call("POST", path)
    deadline = time.monotonic() + _ARRIVES_MAX_S
    while time.monotonic() < deadline:
        found = next(one for one in rows_of("/api/v1/alerts", most=ROWS) if one["id"] == made["id"])
        if found["sent_at_s"] is not None and found["targets_left"] == "[]":
            console.print(told("it arrived"))
            return
        if found["tries"]:
            break
        time.sleep(0.5)
    raise AdminError(
        told("it did not arrive; it is tried again, and control's log says why: alert_not_sent")
    )


# --- rejected records ------------------------------------------------------------------

_RECORD_COLUMNS = ("id", "received_at_s", "reason", "event_id", "tenant", "model_asked", "gateway")


@records.command("rejected")
def records_rejected(
    record_id: Annotated[str | None, typer.Argument(help="Show all that it says.")] = None,
    output_format: Output = Format.TABLE,
) -> None:
    """List the records that could not be entered, with the reason; or show one."""
    if record_id is None:
        tables.show(rows_of("/api/v1/rejected-records"), _RECORD_COLUMNS, output_format)
        return
    found = call("GET", f"/api/v1/rejected-records/{admin_client.quoted(record_id)}")
    if output_format in (Format.TABLE, Format.WIDE):  # the record is what is to be seen
        found = {name: found[name] for name in ("id", "reason")} | (found["record"] or {})
    tables.show(found, (), output_format)


@records.command("retry")
def records_retry(
    record_ids: Annotated[list[str] | None, typer.Argument(help="All of them by default.")] = None,
    reduced: Annotated[
        bool, typer.Option("--reduced", help="Cut what is out of bounds; counts are estimates.")
    ] = False,
) -> None:
    """Enter rejected records again; those that are refused again stay."""
    rejected = [] if record_ids else rows_of("/api/v1/rejected-records")
    names = record_ids or [one["id"] for one in rejected if one["readable"]]
    entered = 0
    for name in names:
        path = f"/api/v1/rejected-records/{admin_client.quoted(name)}/retry"
        try:
            call("POST", path, {"reduced": reduced})
            entered += 1
        except admin_client.Unreachable:
            raise
        except AdminError as error:
            errors.print(f"{name}: {error}", highlight=False, markup=False)
    console.print(told("entered {entered} of {all}", entered=entered, all=len(names)))
    if entered < len(names):
        raise typer.Exit(1)


# --- usage -----------------------------------------------------------------------------

_USAGE_COLUMNS = (
    "calls", "failed_calls", "prompt_tokens", "cached_tokens", "completion_tokens", "charge_pico",
    "cost_pico", "platform_cost_pico", "unpriced_calls",
)  # fmt: skip


def usage(
    days: Annotated[int, typer.Option(min=1, max=3_660, help="How far back.")] = 30,
    by: Annotated[str, typer.Option(help="Dimensions, separated by commas.")] = "tenant,model,day",
    tenant: Annotated[str | None, typer.Option(help="Tenant.")] = None,
    output_format: Output = Format.TABLE,
) -> None:
    """Show calls, tokens, charges and cost.

    Charge is what callers pay, cost what upstreams are owed for their answers; platform cost is
    what upstreams are owed for answers that no caller pays for. Days are UTC. In a table, amounts
    in several currencies stand side by side; csv and json have a row for each.
    """
    query = {"group_by": by, "from_s": str(int(time.time()) - days * 86_400)}
    if tenant is not None:
        query["tenant"] = tenant
    rows = call("GET", "/api/v1/usage", query=query)["data"]
    if not rows:
        admin_client.check_tenant(config.load(), tenant)
    names = [name.strip() for name in by.split(",") if name.strip()]
    if output_format in (Format.TABLE, Format.WIDE):
        rows = _added_up(rows, names)
    elif output_format in (Format.CSV, Format.EXCEL):
        rows = [{_with_zone(name): value for name, value in row.items()} for row in rows]
        names = [_with_zone(name) for name in names]
    tables.show(rows, (*names, *_USAGE_COLUMNS), output_format)


def _with_zone(name: str) -> str:
    """The heading of a column in a file: days and hours with their zone."""
    return f"{name} (UTC)" if name in ("day", "hour") else name


_CURRENCIES = {"charge_pico": "charge_currency", "cost_pico": "currency",
               "platform_cost_pico": "currency"}  # fmt: skip


def _added_up(rows: list[dict[str, Any]], names: list[str]) -> list[dict[str, Any]]:
    """One row for each of what was asked for; the API has one for each pair of currencies."""
    found: dict[tuple[Any, ...], dict[str, Any]] = {}
    for row in rows:
        key = tuple(row.get(name) for name in names)
        total = found.setdefault(key, dict(zip(names, key, strict=True)))
        for name, value in row.items():
            if name in names or type(value) is not int:
                continue
            if name not in _CURRENCIES:
                total[name] = total.get(name, 0) + value
            else:
                amounts = total.setdefault(name, {})
                currency = row[_CURRENCIES[name]]
                amounts[currency] = amounts.get(currency, 0) + value
    return list(found.values())
