"""Commands of the configuration as documents: apply, diff, export."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import msgspec
import typer

from tokenschain.cli import admin_client, tables
from tokenschain.cli.admin_client import AdminError, AdminRequest, Unreachable
from tokenschain.cli.language import told
from tokenschain.cli.output import console, errors, secret_input
from tokenschain.cli.tables import Format, Output
from tokenschain.core.errors import ErrorProblem
from tokenschain.infra import config

SUFFIXES = (".yaml", ".yml", ".json")
"""Of the files in a folder that are read."""
_MARKS = {"added": "+", "changed": "~", "removed": "-"}
_INDEXED = re.compile(r"^(?P<said>.*`)documents\.(?P<number>\d+)\.")
_APPLY_MAX_S = 60.0
"""Of documents: the whole configuration is checked, and what it does is worked out."""

credentials = typer.Typer(no_args_is_help=True, help="Credentials of upstreams, sealed.")

Files = Annotated[
    list[Path],
    typer.Option("-f", "--file", help="YAML or JSON documents: a file, a folder, or -; several."),
]
Tenant = Annotated[str, typer.Option(help="Tenant; without one, the platform's.")]
Reason = Annotated[str, typer.Option(help="Why.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only say what it would do.")]
Prune = Annotated[
    bool, typer.Option("--prune", help="Remove what the API made and no document names.")
]


def apply(
    files: Files,
    dry_run: DryRun = False,
    prune: Prune = False,
    reason: Reason = "",
    output_format: Output = Format.TABLE,
) -> None:
    """Make the configuration what documents say, all or none, as one revision.

    A document is `kind`, `name`, `spec` and, of a tenant's own, `tenant`. Their order does not
    matter, and the same documents again change nothing.
    """
    show_applied(
        apply_all(documents(files), prune=prune, dry_run=dry_run, reason=reason), output_format
    )


def diff(files: Files, prune: Prune = False, output_format: Output = Format.TABLE) -> None:
    """Show what applying documents would change."""
    show_applied(apply_all(documents(files), prune=prune, dry_run=True), output_format)


def export(
    tenant: Annotated[str | None, typer.Option(help="Tenant.")] = None,
    out: Annotated[
        Path | None, typer.Option(help="File to write; standard output by default.")
    ] = None,
) -> None:
    """Export the configuration as YAML documents that `apply` reads.

    Of credentials, the fingerprints alone.
    """
    import yaml  # noqa: PLC0415 - slow to load

    query = {} if tenant is None else {"tenant": tenant}
    found = admin_client.call(config.load(), "GET", "/api/v1/configuration", query=query)["data"]
    if not found:
        admin_client.check_tenant(config.load(), tenant)
        tables.nothing_found()
    kept = [{name: value for name, value in one.items() if value != ""} for one in found]
    text = yaml.safe_dump_all(kept, allow_unicode=True, sort_keys=False) if kept else ""
    if out is None:
        print(text, end="")
    else:
        out.write_text(text, "utf-8")
        errors.print(told("written to {path}", path=out), highlight=False, markup=False)


@credentials.command("set")
def credentials_set(
    name: Annotated[str, typer.Argument(help="Its name, for `stored:NAME`.")],
    tenant: Tenant = "",
    reason: Reason = "",
    output_format: Output = Format.TABLE,
) -> None:
    """Store a vendor's key, or another in its place; it is read from standard input.

    Upstreams use it as `stored:NAME`, and gateways within a second.
    """
    show_applied(store_credential(name, secret_input("value"), tenant, reason), output_format)


def store_credential(name: str, secret: str, tenant: str, reason: str) -> Any:
    """Store a vendor's key sealed; the API's answer."""
    body = {"spec": {"value": secret}, "reason": reason}
    path = f"/api/v1/credentials/{admin_client.quoted(name)}"
    return admin_client.call(config.load(), "PUT", path, body, query={"tenant": tenant})


def apply_all(
    found: Sequence[Document], *, prune: bool = False, dry_run: bool = False, reason: str = ""
) -> Any:
    """Make the configuration what documents say; the API's answer."""
    given = [document.values for document in found]
    body = {"documents": given, "prune": prune, "dry_run": dry_run, "reason": reason}
    request = AdminRequest("POST", "/api/v1/configuration/apply", body)
    try:
        return admin_client.send(config.load(), request, _APPLY_MAX_S)
    except AdminError as error:
        if isinstance(error, Unreachable):
            raise
        lines = [_placed(one, found) for one in error.problems] or [
            _INDEXED.sub(lambda index: _place_of(index, found), line)
            for line in str(error).splitlines()
        ]
        raise AdminError("\n".join(dict.fromkeys(lines))) from None


def _place_of(index: re.Match[str], found: Sequence[Document]) -> str:
    """What the API said of `documents.N.`, as whoever wrote the documents knows it."""
    number = int(index["number"])
    place = found[number].place if number < len(found) else f"documents.{number}"
    return f"{place}: {index['said']}"


def _placed(problem: ErrorProblem, found: Sequence[Document]) -> str:
    """A problem with the document that it is in."""
    key = (problem.kind, problem.tenant, problem.name)
    places = [document.place for document in found if document.key == key]
    whose = f" of tenant {problem.tenant}" if problem.tenant else ""
    where = f"{', '.join(places)}: " if places else ""
    return f"{where}{problem.kind} {problem.name}{whose}: {problem.message}"


# --- documents -------------------------------------------------------------------------------


class Document(NamedTuple):
    """A document, and where it was read."""

    place: str
    values: dict[str, Any]

    @property
    def key(self) -> tuple[str, str, str]:
        """Kind, tenant and name, as problems have them."""
        kind, tenant, name = (self.values.get(one, "") for one in ("kind", "tenant", "name"))
        return str(kind), str(tenant or ""), str(name)


def documents(paths: Sequence[Path]) -> list[Document]:
    """The documents of files and folders, in their order.

    Raises:
        typer.BadParameter: a file cannot be read, or has something else in it.
    """
    return [document for path in paths for document in _documents_at(path)]


def _documents_at(path: Path) -> Iterator[Document]:
    if path.is_dir():
        for inner in sorted(one for one in path.rglob("*") if one.suffix in SUFFIXES):
            yield from _documents_at(inner)
        return
    import yaml  # noqa: PLC0415 - slow to load

    try:
        text = sys.stdin.read() if str(path) == "-" else path.read_text("utf-8")
        found = list(yaml.safe_load_all(text))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        why = " ".join(str(error).split())
        raise typer.BadParameter(f"{path}: {why}", param_hint="--file") from None
    source = told("standard input") if str(path) == "-" else str(path)
    for number, document in enumerate(found, 1):
        if document is None:  # only comments, or nothing behind the last ---
            continue
        if not isinstance(document, dict) or not {"kind", "name"} <= set(document):
            raise typer.BadParameter(
                told("{path}: document {number} has no kind and name", path=path, number=number),
                param_hint="--file",
            )
        place = told("{path} document {number}", path=source, number=number)
        yield Document(place if len(found) > 1 else source, document)


# --- what a change does ----------------------------------------------------------------------


def show_applied(found: Mapping[str, Any], output: Format) -> None:
    """Show what was changed, or would be: resources with their fields, and what gateways gain and
    lose by it."""
    for warning in found["warnings"]:
        errors.print(warning, style="yellow", highlight=False, markup=False, soft_wrap=True)
    if output not in (Format.TABLE, Format.WIDE):
        tables.show(found, (), output)
        return
    for change in found["changes"]:
        whose = f"{change['tenant']}/" if change["tenant"] else ""
        _print(f"{_MARKS[change['action']]} {change['kind']} {whose}{change['name']}")
        for field in change["fields"]:
            _print(f"    {field['field']}: {_value(field['before'])} → {_value(field['after'])}")
    for line in _effects(found["effects"]):
        _print(line)
    if not found["changes"]:
        errors.print(told("nothing differs"), highlight=False)
    elif found["dry_run"]:
        errors.print(told("nothing was changed: this is a dry run"), highlight=False)
    else:
        print(told("revision {revision}", revision=found["revision"]))


def _effects(effects: Mapping[str, Any]) -> Iterator[str]:
    for what in ("upstreams", "models", "virtual_models"):
        names = effects[what]
        for action, mark in (("gained", "+"), ("lost", "-"), ("changed", "~")):
            if names[action]:
                yield f"{tables.heading(what)}: {mark} {', '.join(names[action])}"
        if names["more"]:
            yield told("{what}: {count} more", what=tables.heading(what), count=names["more"])


def _value(value: object) -> str:
    return "" if value is None else msgspec.json.encode(value).decode()


def _print(text: str) -> None:
    console.print(tables.printable(text), highlight=False, markup=False, soft_wrap=True)
