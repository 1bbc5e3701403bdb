"""Compliance commands: signed reports of standards from the running platform, verified offline."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path
from typing import Annotated, NamedTuple

import typer

from tokenschain.cli import admin_client
from tokenschain.cli.admin_client import AdminRequest
from tokenschain.cli.language import language, told
from tokenschain.cli.output import console
from tokenschain.infra import config

compliance = typer.Typer(
    no_args_is_help=True, help="Reports on standards, from what the running platform shows."
)
FILE_BYTES_MAX = 16_777_216
FILES_MAX = 1_000


@compliance.command("report")
def compliance_report(
    standard: Annotated[
        str,
        typer.Option(help="mlps3, gbt45654, labelling, pipl, gbt39786 or owasp-llm."),
    ],
    out: Annotated[
        Path | None, typer.Option(help="File to write; compliance-STANDARD.tar by default.")
    ] = None,
) -> None:
    """Write a signed report: each query of the standard runs on the platform now.

    It names gaps as gaps, and certifies nothing.
    """
    path = Path(f"compliance-{standard}.tar") if out is None else out
    request = AdminRequest("GET", f"/api/v1/compliance/reports/{standard}/bundle")
    admin_client.download(config.load(), request, path)
    found = opened(path)
    report = json.loads(found.files["report.json"])
    counts = ", ".join(f"{state}: {count}" for state, count in report["counts"].items())
    console.print(f"{path}  {counts}", highlight=False, markup=False, soft_wrap=True)
    for one in report["controls"]:
        if one["state"] == "open":
            for gap in one["gaps"]:
                line = f"{one['clause']}  {gap[language()]}"
                console.print(line, highlight=False, markup=False, soft_wrap=True)


@compliance.command("verify")
def compliance_verify(
    bundle: Annotated[Path, typer.Argument(help="What `compliance report` wrote.")],
    key: Annotated[
        str | None, typer.Option(help="The log's public key, as `audit key` printed it once.")
    ] = None,
) -> None:
    """Verify a report offline: that nothing in it was changed, and who signed it.

    Without the key from elsewhere, it is only compared with its own.
    """
    found = opened(bundle)
    for problem in found.problems(key):
        raise admin_client.AdminError(problem)
    signed = found.signed_by if key is None else key
    console.print(signed.partition("+")[0], highlight=False, markup=False, soft_wrap=True)
    if key is None:
        console.print(told("signed by the key that is in it: compare that with `audit key`"))


class OpenedBundle(NamedTuple):
    """A bundle's files."""

    files: dict[str, bytes]

    @property
    def signed_by(self) -> str:
        """The public key that it brings along."""
        return self.files.get("key", b"").decode("utf-8", "replace").strip()

    def problems(self, key: str | None) -> list[str]:
        """What is wrong with it."""
        from tokenschain.core.audit import checkpoint  # noqa: PLC0415 - other commands do without
        from tokenschain.infra.security.note_keys import note_key  # noqa: PLC0415
        from tokenschain.infra.security.suite import INTERNATIONAL  # noqa: PLC0415

        note = self.files.get("manifest", b"").decode("utf-8", "replace")
        try:
            body = checkpoint.opened_text(
                note, [note_key(one) for one in (key or self.signed_by).split()]
            )
        except ValueError as error:
            return [str(error)]
        stated = {
            name: digest
            for digest, _, name in (line.partition("  ") for line in body.splitlines()[4:])
        }
        there = self.files.keys() - {"manifest", "key"}
        found = [f"{name} is not in the manifest" for name in sorted(there - stated.keys())]
        found += [f"{name} is missing" for name in sorted(stated.keys() - there)]
        found += [
            f"{name} was changed"
            for name in sorted(there & stated.keys())
            if INTERNATIONAL.hex_digest(self.files[name]) != stated[name]
        ]
        return found


def opened(path: Path) -> OpenedBundle:
    """The files of a bundle, in memory: nothing is unpacked.

    Raises:
        AdminError: it is none.
    """
    files: dict[str, bytes] = {}
    try:
        with tarfile.open(path, "r:") as tar:
            for member in tar:
                data = tar.extractfile(member) if member.isfile() else None
                if data is None or member.size > FILE_BYTES_MAX or len(files) >= FILES_MAX:
                    raise admin_client.AdminError(f"{path}: {member.name[:60]!r} belongs to none")
                files[member.name] = data.read()
    except tarfile.TarError as error:
        raise admin_client.AdminError(f"{path}: {error}") from None
    if not {"manifest", "report.json", "key"} <= files.keys():
        raise admin_client.AdminError(f"{path}: no compliance report")
    return OpenedBundle(files)
