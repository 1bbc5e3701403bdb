"""Commands of upstreams that do more than one call: add, test, drain, remove."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import typer

from tokenschain.cli import admin_client, tables
from tokenschain.cli.admin_client import AdminError, AdminRequest
from tokenschain.cli.api_commands import structure
from tokenschain.cli.configuration import DryRun, Reason, Tenant, show_applied, store_credential
from tokenschain.cli.language import told
from tokenschain.cli.output import console, errors, secret_input
from tokenschain.cli.tables import Format, Output
from tokenschain.infra import config

upstreams = typer.Typer(no_args_is_help=True, help="Upstreams: add, test, change, drain, remove.")
_TEST_MAX_S = 25.0
_MARKS = {"ok": "[green]ok[/green]  ", "failed": "[red]FAIL[/red]", "skipped": "[dim]--[/dim]  "}

Name = Annotated[str, typer.Argument(help="Its name.")]


@upstreams.command("add")
def add(
    name: Name,
    provider: Annotated[
        str, typer.Option(help="A provider of `model list`, or custom (with --base-url).")
    ] = "custom",
    base_url: Annotated[
        str, typer.Option(help="Address up to and including the version; the catalog's by default.")
    ] = "",
    credential: Annotated[
        list[str] | None,
        typer.Option(help="Where its key is: stored:NAME, env:NAME, file:PATH; several."),
    ] = None,
    key: Annotated[
        bool, typer.Option("--key", help="Read its key from standard input and store it sealed.")
    ] = False,
    model: Annotated[
        list[str] | None, typer.Option(help="A model that it serves; several. All by default.")
    ] = None,
    zone: Annotated[str, typer.Option(help="Where its data goes: abroad, cn, own, ...")] = "",
    spec: Annotated[
        str, typer.Option(help="More fields, as JSON, YAML or @FILE; see the reference.")
    ] = "",
    tenant: Tenant = "",
    reason: Reason = "",
    force: Annotated[bool, typer.Option("--force", help="Add it though a test fails.")] = False,
    dry_run: DryRun = False,
    output_format: Output = Format.TABLE,
) -> None:
    """Test an upstream, and add it where nothing fails.

    It serves calls within a second. Nothing is written where a step of the test fails, but for a
    key that was stored for it.
    """
    if key and dry_run:
        raise typer.BadParameter(told("a key that is read is stored"), param_hint="--dry-run")
    given: dict[str, Any] = {"provider": provider} | (structure(spec) if spec else {})
    references = list(credential or [])
    if key:
        store_credential(name, secret_input("key"), tenant, reason)
        references.append(f"stored:{name}")
    more = {"base_url": base_url, "credential": references, "models": model, "zone": zone}
    given |= {field: value for field, value in more.items() if value}
    if not _tested(name, tenant, {"spec": given}) and not force:
        raise AdminError(told("it was not added; --force adds it all the same"))
    body = {"spec": given, "reason": reason}
    query = _query(tenant) | ({"dry_run": "true"} if dry_run else {})
    found = admin_client.call(config.load(), "PUT", _path(name), body, query=query)
    show_applied(found, output_format)


@upstreams.command("test")
def test(
    name: Name,
    model: Annotated[str, typer.Option(help="Which of its models is called.")] = "",
    tenant: Tenant = "",
    output_format: Output = Format.TABLE,
) -> None:
    """Test an upstream: credential, connection, its list of models, one small call.

    Each step says what failed and how to mend it. Where its own list differs from what is
    configured, the `models` that would be are shown.
    """
    if not _tested(name, tenant, {"model": model}, output_format):
        raise AdminError(told("{name} does not work as it is", name=name))


@upstreams.command("drain")
def drain(
    name: Name,
    undo: Annotated[bool, typer.Option("--undo", help="Let it have calls again.")] = False,
    tenant: Tenant = "",
    reason: Reason = "",
    dry_run: DryRun = False,
    output_format: Output = Format.TABLE,
) -> None:
    """Give an upstream no new calls; those that run are finished, streams too."""
    query = _query(tenant) | ({"dry_run": "true"} if dry_run else {})
    body = {"spec": {"drain": None if undo else True}, "reason": reason}
    found = admin_client.call(config.load(), "PATCH", _path(name), body, query=query)
    show_applied(found, output_format)


@upstreams.command("remove")
def remove(
    name: Name,
    tenant: Tenant = "",
    reason: Reason = "",
    force: Annotated[bool, typer.Option("--force", help="Remove it though it serves.")] = False,
    dry_run: DryRun = False,
    output_format: Output = Format.TABLE,
) -> None:
    """Take an upstream away, once it is drained or with --force.

    One that serves is kept, and what would lose its route is said.
    """
    settings, query = config.load(), _query(tenant)
    would = admin_client.call(settings, "DELETE", _path(name), query=query | {"dry_run": "true"})
    if dry_run:
        show_applied(would, output_format)
        return
    before = admin_client.call(settings, "GET", _path(name), query=query)
    if not force and not before["spec"].get("drain"):
        raise AdminError(_serves(name, would["effects"]))
    asked = query | ({"reason": reason} if reason else {})
    show_applied(admin_client.call(settings, "DELETE", _path(name), query=asked), output_format)


def _serves(name: str, effects: Mapping[str, Any]) -> str:
    """Why an upstream is kept: what it serves, and what nobody else does."""
    lost = [*effects["models"]["lost"], *effects["virtual_models"]["lost"]]
    said = told("{name} still serves: drain it first, or use --force", name=name)
    if lost:
        said += "\n" + told("no other upstream serves {models}", models=", ".join(lost))
    return said


def _tested(name: str, tenant: str, body: Mapping[str, Any], output: Output = Format.TABLE) -> bool:
    """Whether nothing failed; shows each step."""
    request = AdminRequest("POST", f"{_path(name)}/test", body, _query(tenant))
    found = admin_client.send(config.load(), request, _TEST_MAX_S)
    if output not in (Format.TABLE, Format.WIDE):
        tables.show(found, (), output)
        return bool(found["ok"])
    for step in found["steps"]:
        took = "" if step["took_ms"] is None else f" ({step['took_ms']} ms)"
        said = tables.printable(f"{told(step['step'])}: {told(step['message'])}{took}")
        mend = f" → {tables.printable(told(step['remedy']))}" if step["remedy"] else ""
        console.print(_MARKS[step["outcome"]], end=" ")
        console.print(f"{said}{mend}", highlight=False, markup=False, soft_wrap=True)
    if found["models"] is not None:
        _show_models(found["models"])
    return bool(found["ok"])


def _show_models(models: Mapping[str, Any]) -> None:
    """An upstream's own list beside what is configured, as a diff."""
    differences = {
        "missing": told("configured, but not in its list"),
        "new": told("in its list, not configured"),
        "unpriced": told("in its list, without a price here"),
    }
    for field, mark in (("missing", "-"), ("new", "+"), ("unpriced", "?")):
        for model in models[field]:
            line = f"  {mark} {tables.printable(model)}  ({differences[field]})"
            console.print(line, highlight=False, markup=False, soft_wrap=True)
    if models["proposed"] is not None:
        line = told("proposed: `upstreams change NAME --spec` with these `models`:")
        errors.print(line, highlight=False, markup=False, soft_wrap=True)
        tables.show({"models": models["proposed"]}, (), Format.YAML)


def _path(name: str) -> str:
    return f"/api/v1/upstreams/{admin_client.quoted(name)}"


def _query(tenant: str) -> dict[str, str]:
    return {"tenant": tenant} if tenant else {}
