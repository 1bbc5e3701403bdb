"""Commands of cryptography on this machine: self test, inventory, sealing anew."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from tokenschain.cli import tables
from tokenschain.cli.language import told
from tokenschain.cli.output import console
from tokenschain.cli.tables import Format, Output
from tokenschain.infra import config

crypto = typer.Typer(no_args_is_help=True, help="Cryptography: self test, inventory, sealing anew.")


class Oracle(StrEnum):
    """Who else is asked."""

    OPENSSL = "openssl"


@crypto.command("selftest")
def crypto_selftest(
    oracle: Annotated[
        Oracle | None, typer.Option(help="Compare with this program as well, in both directions.")
    ] = None,
    output_format: Output = Format.TABLE,
) -> None:
    """Test the algorithms of both suites by the answers of their standards.

    Ends with 1 where one fails. Each process tests those of its suite before it starts.
    """
    from tokenschain.infra.security import openssl_oracle, self_test  # noqa: PLC0415 - libcrypto
    from tokenschain.infra.security.suite import SUITES  # noqa: PLC0415

    found = [tested for suite in SUITES for tested in self_test.known_answers(suite)]
    if oracle is not None:
        found += openssl_oracle.beside_openssl()
    rows = [
        {"algorithm": one.algorithm, "by": one.by, "result": "passed" if one.passed else "FAILED"}
        for one in found
    ]
    tables.show(rows, ("algorithm", "by", "result"), output_format)
    if not all(one.passed for one in found):
        raise typer.Exit(1)


@crypto.command("inventory")
def crypto_inventory(output_format: Output = Format.TABLE) -> None:
    """List what is protected, by which algorithm and key, and how much of it.

    Needs the data folder and the database of control. A key is named by its fingerprint.
    """
    from tokenschain.control.crypto_inventory import inventory  # noqa: PLC0415 - gateways do without

    rows = [one._asdict() for one in inventory(config.load())]
    tables.show(rows, ("what", "algorithm", "key", "rows"), output_format)


@crypto.command("reseal")
def crypto_reseal() -> None:
    """Seal everything anew with the suite of the settings, while the platform runs.

    What is not sealed anew can be read as well; digests of keys stay until the keys are rotated.
    """
    from tokenschain.control import resealing  # noqa: PLC0415 - gateways do without

    settings = config.load()
    count = resealing.reseal_machine(settings)
    said = told("{count} texts are sealed with the suite {suite}", count=str(count),
                suite=settings.crypto.suite)  # fmt: skip
    console.print(said, highlight=False, markup=False)
