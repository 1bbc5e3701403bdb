"""Commands made from the table: their parameters, the request, and what is shown of the answer."""

from __future__ import annotations

import inspect
import re
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer

from tokenschain.cli import admin_client, tables
from tokenschain.cli.command_table import Command, all_commands
from tokenschain.cli.configuration import show_applied
from tokenschain.cli.language import told
from tokenschain.cli.operations import Field, Operation, operations
from tokenschain.cli.output import errors, secret_input
from tokenschain.cli.tables import CHINA, Format, Output
from tokenschain.infra import config

ROWS = 200
"""Of a list, unless more are asked for."""
WATCH_S = 2.0
FIELDS: dict[str, str] = {
    "accept": "Accept the word; otherwise it is refused.",
    "account": "Account.",
    "action": "Only of this action, as keys:create or login.",
    "actor": "Only what this user did; `platform` had the admin token, `operator` the machine.",
    "address": "Where it is sent: a URL or an e-mail address.",
    "alerts": "Percent of a budget to alert at; several.",
    "amount": "As `1000.00`.",
    "apis": "Allow only these APIs, as chat/completions; several.",
    "appeals": "Only appeals of callers.",
    "at_s": "When, Unix time; now by default.",
    "before_s": "Only calls that began before, Unix time.",
    "began_at_s": "When it began, Unix time; or as `3h ago`.",
    "body": "More of the request's body, as JSON or YAML; @FILE from a file.",
    "cached_input": "Price of cached input tokens, per 1,000,000.",
    "case_ids": "Ids of cases; several.",
    "category": "Category, as values/terrorism, or values/* for all of a group.",
    "closed": "Closed: its keys are refused.",
    "code": "Code of the second factor.",
    "comment": "What was wrong.",
    "content": "What is kept: none, hash, redacted or full.",
    "credit": "Credit line, in yuan.",
    "currency": "CNY or USD.",
    "data_class": "Class of data, which decides where calls may go.",
    "day": "Day in China, as 2026-11-25.",
    "decision": "uphold, release or escalate.",
    "description": "What happened.",
    "detected_at_s": "When it was noticed, Unix time; or as `3h ago`.",
    "disabled": "Shut out.",
    "disconnect": "When a caller leaves: cancel the upstream, or drain it for an exact bill.",
    "dry_run": "Only say what it would do.",
    "due_days": "Within how many days it is due.",
    "email": "E-mail address.",
    "end_user": "End user, as callers name it.",
    "ended_at_s": "When it ended, Unix time; or `now`.",
    "environment": "Environment.",
    "event_id": "Request id, the x-request-id of an answer.",
    "expires_at_s": "When it ends: 90d, or a day as 2026-12-31.",
    "final": "Whether it is the final report.",
    "format": "csv or parquet.",
    "from_s": "Since when: 7d ago, or a day or time in China as 2026-11-25T08:00.",
    "group_by": "One or some of day, tenant, action, category, engine, language, model.",
    "if-match": "Only if it is still the version that was read (its ETag).",
    "in_force": "Only those in force.",
    "input": "Price of input tokens, per 1,000,000.",
    "is_open": "Only those that are open.",
    "key_id": "Id of an API key.",
    "kind": "Kind.",
    "language": "zh or en.",
    "lasts_s": "How long it is valid, as 90d.",
    "level": "Level of a word: 1 to 3.",
    "limit": "At most so many rows; 0: all.",
    "measures": "What was done against it.",
    "mine": "Only those that you have claimed.",
    "model": "Model.",
    "models": "Only for these models; several.",
    "month": "Month in China, as 2026-11.",
    "name": "Name.",
    "networks": "Allow only calls from these networks, as 10.0.0.0/8; several.",
    "new": "New password.",
    "new_size": "Segments of the longer log; all if unset.",
    "note": "A note.",
    "old": "Present password.",
    "old_code": "Code of the second factor that is replaced.",
    "old_size": "Segments of the shorter log.",
    "on": "true: no person holds two of the duties; false: no longer kept apart.",
    "operator": "Who runs the platform: it decides how soon the report is due.",
    "out": "File to write; standard output by default.",
    "outcome": "ok, or an error code.",
    "output": "Price of output tokens, per 1,000,000.",
    "overdue": "Only those that are overdue.",
    "overlap_s": "How long the old one goes on, as 1d.",
    "password": "Password.",
    "permissions": "What may be done, as keys:read, usage:* or *; several.",
    "phrase": "Of a word that is harmless in it: the phrase.",
    "prepaid": "Calls end when the wallet is empty.",
    "priority": "Order in which calls get a free slot.",
    "project": "Project.",
    "public_key": "Public key, as `crypto new-key` prints it.",
    "purpose": "What the key is for: chat, or to warm the cache.",
    "range_s": "How far back, as 1h; up to 24h.",
    "reason": "Why.",
    "received_at_s": "When it was received, Unix time; now by default.",
    "recovery_code": "Ask for a recovery code instead of a code of the second factor.",
    "reference": "The bank's, for reconciliation; it counts once.",
    "reply": "What the caller who appealed is told.",
    "reported_to": "Whom it was reported to.",
    "request_id": "Request id of the answer.",
    "result": "What became of the call, in one word.",
    "retention": "How long: 6 months, 3 years or days:N; it only goes upwards.",
    "right": "Whether the cached answer was right.",
    "risk": "Risk of a word, as A.1.h.",
    "role": "Role; `tokenschain roles list` shows them.",
    "routing_details": "Show callers costs, loads and other upstreams.",
    "second_factor_required": "Whether its people must have a second factor.",
    "secret": "Secret that messages are signed with.",
    "severity": "How severe: general, larger, major or extremely-major.",
    "source": "Where the figure is from.",
    "spec": "What it is to be, as JSON or YAML; @FILE from a file.",
    "standard": "mlps3, gbt45654, labelling, pipl, gbt39786 or owasp-llm.",
    "state": "State.",
    "step_s": "How long each step is, as 15m.",
    "tag": "One of the call's tags, as team=search.",
    "tags": "Tags of every call with the key, as team=search; several.",
    "target": "Only what was done to this, by its id or name.",
    "tenant": "Tenant.",
    "text": "Name, or part of it, or an id.",
    "title": "Title.",
    "transaction_id": "Only of this transaction.",
    "until_s": "Until when, likewise.",
    "upstream": "Upstream that was tried.",
    "usd_cny": "Yuan for a dollar.",
    "watch": "Show it again every so many seconds; 2 without a number.",
    "word": "Keyword.",
    "zone": "Zone of the day's borders, as Asia/Shanghai.",
}
"""What a field means, by its name."""
_OWN = {"body", "limit", "out", "output_format", "watch"}
"""Parameters that are the commands' own."""
_IDS = "Id, as the list shows it."
_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(s|m|min|h|d|w)?")
_UNITS = {"": 1, "s": 1, "m": 60, "min": 60, "h": 3_600, "d": 86_400, "w": 604_800}


def add_commands(groups: dict[str, typer.Typer]) -> None:
    """Add each command of the table to its group.

    Args:
        groups: by name; they hold the commands that are written by hand. A group that an
            operation's command by convention belongs to is made.
    """
    known = operations()
    for command in all_commands(known.values()):
        group, _, name = command.name.partition(" ")
        if group not in groups:
            groups[group] = typer.Typer(help=f"{group.capitalize().replace('-', ' ')}.")
        if command.operation in known:
            groups[group].command(name)(_function(command, known[command.operation]))


# --- parameters ------------------------------------------------------------------------------


def _function(command: Command, operation: Operation) -> Callable[..., None]:
    """A function whose signature typer reads as it reads a written one."""
    parameters = list(_parameters(command, operation))

    def run(**given: Any) -> None:
        _run(command, operation, given)

    kind = inspect.Parameter.KEYWORD_ONLY
    run.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [inspect.Parameter(n, kind, default=d, annotation=a) for n, a, d in parameters]
    )
    run.__annotations__ = {name: annotation for name, annotation, _ in parameters}
    first = (command.summary or operation.summary) + "."
    run.__doc__ = f"{first}\n\n{operation.more}" if operation.more else first
    return run


def _parameters(command: Command, operation: Operation) -> Iterator[tuple[str, Any, Any]]:
    """Name, annotation and default of each."""
    fields = {field.name: field for field in operation.fields}
    spoken = (*command.fixed, *command.asks.split(), "cursor", "limit")
    positional = [field.name for field in operation.fields if field.place == "path"]
    positional += command.arguments.split()
    for name in positional:
        yield _variable(name), *_argument(fields[name])
    for field in operation.fields:
        if field.name in command.offers.split():
            option = typer.Option(f"--{field.option}", help=_help(field))
            yield _variable(field.name), Annotated[bool, option], False
        elif field.name not in (*positional, *spoken):
            yield _variable(field.name), *_option(field)
    if any(field.place == "body" for field in operation.fields):
        yield "body", Annotated[str | None, typer.Option("--body", help=FIELDS["body"])], None
    if operation.answers == "pages":
        yield "limit", Annotated[int, typer.Option("--limit", min=0, help=FIELDS["limit"])], ROWS
    if operation.answers == "stream":
        yield "out", Annotated[Path | None, typer.Option("--out", help=FIELDS["out"])], None
    else:
        yield "output_format", Output, Format.TABLE
    if command.watched:
        every = typer.Option("--watch", min=0.1, metavar="[SECONDS]", help=FIELDS["watch"])
        yield "watch", Annotated[float | None, every], None


def _variable(name: str) -> str:
    name = name.replace("-", "_")
    return f"field_{name}" if name in _OWN else name


def _argument(field: Field) -> tuple[Any, Any]:
    argument = typer.Argument(metavar=field.option.upper().replace("-", "_"), help=_help(field),
                              parser=_parser(field))  # fmt: skip
    return Annotated[_type(field), argument], inspect.Parameter.empty


def _option(field: Field) -> tuple[Any, Any]:
    flag = f"--{field.option}"
    if field.kind == "boolean":
        names = (
            flag
            if field.default is False and field.place == "query"
            else f"{flag}/--no-{field.option}"
        )
        option = typer.Option(names, help=_help(field))
        return Annotated[bool | None, option], None
    hint = "|".join(field.choices) if field.choices else None
    option = typer.Option(
        flag, help=_help(field), metavar=hint, parser=_parser(field),
        show_default=False if field.default is None else str(field.default),
    )  # fmt: skip
    kind = _type(field)
    if field.kind in ("texts", "integers"):
        return Annotated[list[kind] | None, option], None  # type: ignore[valid-type]
    if field.required:
        return Annotated[kind, option], inspect.Parameter.empty
    return Annotated[kind | None, option], None


def _help(field: Field) -> str:
    return FIELDS.get(field.name) or (_IDS if field.place == "path" else "")


def _type(field: Field) -> Any:
    if field.kind in ("integer", "integers") and _parser(field) is None:
        return int
    return float if field.kind == "number" else str


def _parser(field: Field) -> Callable[[str], Any] | None:
    if field.is_moment:
        return _until if field.name == "expires_at_s" else _since
    if field.is_duration:
        return _duration
    if field.kind == "json":
        return structure
    return _one_of(field.choices) if field.choices else None


def _one_of(choices: tuple[str, ...]) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if text not in choices:
            raise typer.BadParameter(told("one of {choices}", choices=", ".join(choices)))
        return text

    return parse


def _duration(text: str) -> int:
    """Seconds of `90d`, `12h`, `30min` or `45`."""
    found = _DURATION.fullmatch(text.strip())
    if found is None:
        raise typer.BadParameter(told("no length of time, as 90d, 12h or 30min: {text}", text=text))
    return int(float(found[1]) * _UNITS[found[2] or ""])


def _since(text: str) -> int:
    """Unix time of so long ago (`7d`, `7d ago`), or of a day or time in China."""
    return _moment(text.strip().removesuffix(" ago"), -1)


def _until(text: str) -> int:
    """Unix time of so long from now, or of a day or time in China."""
    return _moment(text, 1)


def _moment(text: str, direction: int) -> int:
    if text.strip() == "now":
        return int(time.time())
    if text.isdecimal():
        return int(text)
    if _DURATION.fullmatch(text.strip()):
        return int(time.time()) + direction * _duration(text)
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise typer.BadParameter(
            told("no time, as 7d, 2026-11-25 or 2026-11-25T08:00: {text}", text=text)
        ) from None
    return int((at if at.tzinfo else at.replace(tzinfo=CHINA)).timestamp())


def structure(text: str) -> Any:
    """JSON or YAML; `@FILE` is what a file has, `@-` what standard input has."""
    import yaml  # noqa: PLC0415 - slow to load

    if text.startswith("@"):
        path = text[1:]
        try:
            text = sys.stdin.read() if path == "-" else Path(path).read_text("utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise typer.BadParameter(f"{path}: {error}") from None
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise typer.BadParameter(told("neither JSON nor YAML: {why}", why=error)) from None


# --- request and answer -----------------------------------------------------------------------


def _run(command: Command, operation: Operation, given: Mapping[str, Any]) -> None:
    request = _request(command, operation, given)
    if operation.answers == "stream":
        admin_client.download(config.load(), request, given["out"])
        return
    output: Format = given["output_format"]
    tables.watch(
        given.get("watch"),
        lambda: _show(command, operation, _answer(operation, request, given), output),
    )


def _request(
    command: Command, operation: Operation, given: Mapping[str, Any]
) -> admin_client.AdminRequest:
    said: dict[str, Any] = dict(command.fixed)
    for field in operation.fields:
        value = given.get(_variable(field.name))
        if field.name in command.asks.split() or (
            field.name in command.offers.split() and value is True
        ):
            value = secret_input(field.name)
        elif field.name in command.offers.split():
            value = None
        if value is not None:
            said[field.name] = value
    for name, value in command.fixed.items():
        if isinstance(value, str):
            said[name] = value.format_map(said)
    whole = given.get("body")
    body = {} if whole is None else structure(whole)
    if not isinstance(body, dict):
        raise typer.BadParameter(told("an object is needed"), param_hint="--body")
    path, query, headers = f"/api/v1{operation.path}", {}, {}
    for field in operation.fields:
        if field.name not in said:
            continue
        value = said[field.name]
        match field.place:
            case "path":
                path = path.replace(f"{{{field.name}}}", admin_client.quoted(str(value)))
            case "query":
                query[field.name] = str(value).lower() if isinstance(value, bool) else str(value)
            case "header":
                headers[field.name] = f'"{value}"' if str(value).isdecimal() else str(value)
            case _:
                body[field.name] = value
    has_body = any(field.place == "body" for field in operation.fields)
    return admin_client.AdminRequest(
        operation.method, path, body if has_body else None, query, headers,
        anonymous=operation.open,
    )  # fmt: skip


def _answer(
    operation: Operation, request: admin_client.AdminRequest, given: Mapping[str, Any]
) -> Any:
    settings = config.load()
    if operation.answers != "pages":
        found = admin_client.send(settings, request)
        return found["data"] if operation.answers == "list" else found
    most = given["limit"] or None
    rows, is_all = admin_client.pages(settings, request, most)
    if not rows:
        admin_client.check_tenant(settings, request.query.get("tenant"))
    if not is_all:
        errors.print(
            told("the first {count} only; --limit 0 shows all", count=len(rows)),
            style="dim", highlight=False,
        )  # fmt: skip
    return rows


def _show(command: Command, operation: Operation, found: Any, output: Format) -> None:
    if {"changes", "effects"} <= set(operation.columns) and operation.method != "GET":
        show_applied(found, output)
        return
    columns = command.columns.split()
    human = output in (Format.TABLE, Format.WIDE)
    if command.shown_once and human:
        shown = found[command.shown_once]
        print(*(shown if isinstance(shown, list) else [shown]), sep="\n")
        errors.print(
            told("{id}: keep it, it is not shown again", id=found.get("id", command.shown_once)),
            highlight=False,
        )
    elif command.document and human:
        print(tables.printable(found[command.document], keep="\n"), end="")
    elif operation.method != "GET" and columns and human and not isinstance(found, list):
        print(found[columns[0]])
    elif found == [] and command.nothing and human:
        errors.print(told(command.nothing), highlight=False)
    else:
        tables.show(msgspec.to_builtins(found), columns, output)
