"""What is sealed opens in its own place only, and is sealed anew by upgrades and new keys."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import msgspec
import pytest
from sqlalchemy import LargeBinary, text

from tests.security.platform import platform
from tokenschain.control import resealing, revisions
from tokenschain.control.identity import users
from tokenschain.control.response_archive import ResponseArchive
from tokenschain.core.formats.stored_responses import Stored
from tokenschain.infra.database import engine as db
from tokenschain.infra.database.tables import metadata
from tokenschain.infra.security.suite import (
    INTERNATIONAL,
    Place,
    Sealable,
    Sealer,
    Suite,
    Unsealable,
)

OLD, NEW = "old" * 12, "new" * 12


def sealer_of(*secrets: str, suite: Suite = INTERNATIONAL) -> Sealer:
    return Sealer(suite, lambda: secrets, lambda suite, one: suite.digest(one.encode()))


def former(secret: str, name: str, content: bytes) -> bytes:
    """As the version before sealed: bound to the name alone."""
    nonce = os.urandom(12)
    aead = INTERNATIONAL.aead(INTERNATIONAL.digest(secret.encode()))
    return b"\x01" + nonce + aead.encrypt(nonce, content, name.encode())


@pytest.fixture
def engine(database: str) -> Any:
    made = db.connect(database)
    db.migrate(made)
    yield made
    made.dispose()


def fill(engine: Any, seal: Any) -> dict[tuple[str, str], bytes]:
    """A row of each sealed column, the same texts whatever seals them."""
    found = {}
    with engine.begin() as connection:
        user = users.create_user(
            connection, tenant="acme", email="a@acme.example", name="A", kind="user"
        )
        for number, (table, place) in enumerate(
            [
                ("stored_responses", Place(Sealable.RESPONSE, "acme", "resp_1")),
                ("stored_responses", Place(Sealable.RESPONSE, "other", "resp_2")),
                ("alert_targets", Place(Sealable.ALERT_TARGET, "acme", "tgt_1")),
                ("users", Place(Sealable.SECOND_FACTOR, "acme", user)),
                ("idempotency", Place(Sealable.IDEMPOTENT_ANSWER, "", "k" * 64)),
                ("credential_values", Place(Sealable.STORED_CREDENTIAL, "", "acme/k/0123456789ab")),
                ("mails", Place(Sealable.MAIL, "", "mal_1")),
            ]
        ):
            content = f"content {number}".encode()
            sealed = seal(place, content)
            found[table, place.name] = content
            values = {"sealed": sealed, "name": place.name, "tenant": place.tenant}
            statement = {
                "stored_responses": "insert into stored_responses (id, tenant, expires_at_s, sealed)"
                " values (:name, :tenant, 9999999999, :sealed)",
                "alert_targets": "insert into alert_targets (id, tenant, kind, name, sealed,"
                " created_at_s) values (:name, :tenant, 'webhook', 'w', :sealed, 1)",
                "users": "update users set totp_sealed = :sealed where id = :name",
                "idempotency": "insert into idempotency (key_hash, request_hash, status, sealed,"
                " created_at_s) values (:name, 'r', 200, :sealed, 1)",
                "credential_values": "insert into credential_values (id, sealed)"
                " values (:name, :sealed)",
                "mails": "insert into mails (id, sealed, tries, next_try_s, expires_at_s)"
                " values (:name, :sealed, 0, 1, 9999999999)",
            }[table]
            used = {k: v for k, v in values.items() if f":{k}" in statement}
            connection.execute(text(statement), used)
    return found


def opened(engine: Any, sealer: Sealer) -> dict[tuple[str, str], bytes]:
    found = {}
    for one in resealing.SEALED:
        with engine.connect() as connection:
            for place, sealed in resealing._rows(connection, one, ""):
                found[one.table.name, place.name] = sealer.unseal(place, sealed)
    return found


def test_every_sealed_column_is_known() -> None:
    binary = {
        f"{table.name}.{column.name}"
        for table in metadata.tables.values()
        for column in table.columns
        if isinstance(column.type, LargeBinary) and "sealed" in column.name
    }
    assert binary == {f"{one.table.name}.{one.column.name}" for one in resealing.SEALED}


def test_a_database_of_the_version_before_is_sealed_anew_once(engine: Any, suite: Suite) -> None:
    sealer, said = sealer_of(OLD, suite=suite), []
    content = fill(engine, lambda place, text: former(OLD, place.name, text))
    with pytest.raises(Unsealable):
        opened(engine, sealer)
    resealing.bring_up_to_date(engine, sealer, lambda event, _: said.append(event))
    assert opened(engine, sealer) == content and not said
    # From now on, what is bound to its name alone is refused: moved rows would open.
    with engine.begin() as connection:
        connection.execute(
            text("update stored_responses set sealed = :sealed where id = 'resp_2'"),
            {"sealed": former(OLD, "resp_2", b"moved here")},
        )
    resealing.bring_up_to_date(engine, sealer, lambda event, _: said.append(event))
    with pytest.raises(Unsealable):
        opened(engine, sealer)


def test_an_interrupted_upgrade_goes_on_and_lost_keys_are_said(engine: Any) -> None:
    sealer, said = sealer_of(OLD), []
    content = fill(engine, lambda place, text: former(OLD, place.name, text))
    resealing.bring_up_to_date(engine, sealer, lambda event, _: said.append(event))
    with engine.begin() as connection:
        revisions.put_meta(connection, "sealed_format", "1")
        connection.execute(
            text("update alert_targets set sealed = :sealed"),
            {"sealed": former(NEW, "tgt_1", b"by a key that is lost")},
        )
    resealing.bring_up_to_date(engine, sealer, lambda event, why: said.append(why))
    assert said == ["1 sealed texts open with no key given"]
    with engine.begin() as connection:
        connection.execute(text("delete from alert_targets"))
    del content["alert_targets", "tgt_1"]
    assert opened(engine, sealer) == content


def test_a_new_master_key_opens_everything_once_it_is_sealed_anew(
    engine: Any, suite: Suite
) -> None:
    content = fill(engine, sealer_of(OLD, suite=suite).seal)
    both = sealer_of(NEW, OLD, suite=suite)
    assert opened(engine, both) == content
    assert resealing.reseal(engine, both) == (len(content), 0)
    assert opened(engine, sealer_of(NEW, suite=suite)) == content
    with pytest.raises(Unsealable):
        opened(engine, sealer_of(OLD, suite=suite))


def test_a_response_moved_to_another_tenant_opens_for_nobody(engine: Any, suite: Suite) -> None:
    archive = ResponseArchive(engine, sealer_of(OLD, suite=suite), 3_600)
    fields = {one.name for one in msgspec.structs.fields(Stored)}
    assert {"id", "tenant"} <= fields
    place = Place(Sealable.RESPONSE, "acme", "resp_1")
    with engine.begin() as connection:
        connection.execute(
            text("insert into stored_responses (id, tenant, expires_at_s, sealed)"
                 " values ('resp_1', 'mallory', 9999999999, :sealed)"),
            {"sealed": sealer_of(OLD, suite=suite).seal(place, b"salaries")},
        )  # fmt: skip
        with pytest.raises(Unsealable):
            archive.find(connection, "mallory", "resp_1")


def test_a_second_factor_moved_to_another_user_lets_nobody_in(tmp_path: Path) -> None:
    with platform(tmp_path) as made:
        sealer = made.app.state.context.sealer
        with made.engine.begin() as connection:
            one, other = (
                users.create_user(
                    connection, tenant=tenant, email=f"x@{tenant}.example", name="X", kind="user")
                for tenant in ("acme", "mallory")
            )  # fmt: skip
            users.set_totp(connection, sealer, one, "JBSWY3DPEHPK3PXP", 0)
            connection.execute(
                text("update users set totp_sealed = (select totp_sealed from users where id = :a)"
                     " where id = :b"),
                {"a": one, "b": other},
            )  # fmt: skip
            row = users.get(connection, other)
            assert row is not None
            assert not users.use_code(connection, sealer, row, "000000")
