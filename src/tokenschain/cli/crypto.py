"""Commands of cryptography on this machine: self test, inventory, sealing anew."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from tokenschain.cli import admin_client, tables
from tokenschain.cli.language import told
from tokenschain.cli.output import console
from tokenschain.cli.tables import Format, Output
from tokenschain.core.errors import ApiError
from tokenschain.infra import config

crypto = typer.Typer(no_args_is_help=True, help="Cryptography: self test, inventory, sealing anew.")


class Oracle(StrEnum):
    """Who else is asked."""

    OPENSSL = "openssl"


class SigningSuite(StrEnum):
    """Whose signatures."""

    INTERNATIONAL = "international"
    GM = "gm"


NewKeyFile = Annotated[Path, typer.Argument(help="Where the private key is to be kept.")]
NewKeySuite = Annotated[
    SigningSuite | None,
    typer.Option(help="`gm` makes an SM2 key; that of the settings if unset."),
]


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
    from tokenschain.wiring import key_stores  # noqa: PLC0415

    settings = config.load()
    rows = [one._asdict() for one in inventory(settings, key_stores.store_of(settings))]
    tables.show(rows, ("what", "algorithm", "key", "rows"), output_format)


@crypto.command("reseal")
def crypto_reseal() -> None:
    """Seal everything anew with the suite of the settings, while the platform runs.

    What is not sealed anew can be read as well; digests of keys stay until the keys are rotated.
    """
    from tokenschain.control import resealing  # noqa: PLC0415 - gateways do without
    from tokenschain.wiring import key_stores  # noqa: PLC0415

    settings = config.load()
    need_second_person(settings, "crypto reseal")
    count = resealing.reseal_machine(settings, key_stores.store_of(settings))
    said = told("{count} texts are sealed with the suite {suite}", count=str(count),
                suite=settings.crypto.suite)  # fmt: skip
    console.print(said, highlight=False, markup=False)


@crypto.command("wrap")
def crypto_wrap(
    clear: Annotated[
        bool, typer.Option("--clear", help="Take it out again, to move it to another key store.")
    ] = False,
) -> None:
    """Put the master key under the key store of the settings, on this machine.

    What is sealed stays as it is, and running processes need no restart for it.
    """
    from tokenschain.wiring import key_stores  # noqa: PLC0415

    settings = config.load()
    need_second_person(settings, "crypto wrap --clear" if clear else "crypto wrap")
    count = key_stores.wrap(settings, clear=clear)
    kind = "file" if clear else settings.key_store.kind
    said = told("{count} keys in the key store {kind}: {path}", count=str(count), kind=kind,
                path=str(settings.master_key_path))  # fmt: skip
    console.print(said, highlight=False, markup=False)


@crypto.command("new-key")
def crypto_new_key(file: NewKeyFile, suite: NewKeySuite = None) -> None:
    """Make a key to sign acts with; prints the public one for `me add-signing-key`."""
    from tokenschain.infra.security import pack_signatures  # noqa: PLC0415 - libcrypto

    private, public = pack_signatures.new_key(suite or config.load().crypto.suite)
    with file.open("xb") as made:
        file.chmod(0o600)
        made.write(private)
    console.print(public, highlight=False, markup=False)


def need_second_person(settings: config.Settings, command: str) -> None:
    """Insist that a second person has approved an act on keys, where the settings want one.

    Raises:
        AdminError: nobody has yet; it says what waits.
    """
    from tokenschain.cli import signing  # noqa: PLC0415 - loads the algorithms
    from tokenschain.wiring import machine  # noqa: PLC0415 - gateways do without

    try:
        signature = signing.signature("RUN", command, b"")
        machine.need_second_person(settings, command, signature)
    except (ApiError, ValueError) as refused:
        raise admin_client.AdminError(str(refused)) from None
