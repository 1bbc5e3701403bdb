"""Keys that an upstream made by the API may name: none of the platform's own secrets."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.security.platform import Platform, platform
from tokenschain.control.configuration.secret_references import refusal_of
from tokenschain.infra.config import Settings


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    with platform(tmp_path_factory.mktemp("references")) as made:
        yield made


def settings_of(house: Platform) -> Settings:
    found = house.app.state.context.settings
    assert isinstance(found, Settings)
    return found


def spec(*references: str) -> dict[str, Any]:
    return {"provider": "custom", "base_url": "http://his.example/v1", "models": ["m"],
            "prices": {"m": {"input": 1, "output": 2}}, "credential": list(references)}  # fmt: skip


def refused(house: Platform, reference: str) -> None:
    """By each operation that takes a spec."""
    given = spec("env:FINE_KEY", reference)
    document = {"kind": "upstream", "name": "his", "spec": given}
    for reply in (
        house.operator("PUT", "/upstreams/his", {"spec": given}),
        house.operator("PUT", "/upstreams/his?dry_run=true", {"spec": given}),
        house.operator("PATCH", "/upstreams/there", {"spec": {"credential": [reference]}}),
        house.operator("POST", "/upstreams/his/test", {"spec": given}),
        house.operator("POST", "/upstreams/there/test", {"spec": given}),
        house.operator("POST", "/configuration/apply", {"documents": [document]}),
    ):
        assert reply.status_code == 400, (reference, reply.text)
        assert "may not be named here" in reply.text


def test_the_platforms_own_secrets_are_no_keys_of_upstreams(
    house: Platform, tmp_path: Path
) -> None:
    settings = settings_of(house)
    assert house.operator("PUT", "/upstreams/there", {"spec": spec("env:A_KEY")}).status_code == 200
    link = tmp_path / "link"
    link.symlink_to(settings.data_dir)
    own = (
        settings.operator_token_path, settings.master_key_path, settings.internal_secret_path,
        settings.metrics_token_path, settings.data_dir / "tokenschain.db", settings.vault_path / "a",
        link / "secrets" / "operator", Path("/run/secrets") / ".." / ".." / "etc" / "shadow",
        Path("secrets/operator"),
    )  # fmt: skip
    for path in own:
        refused(house, f"file:{path}")
    for name in ("TOKENSCHAIN_ADMIN_TOKEN", "TOKENSCHAIN_CONFIG", "PATH", "HOME", "LD_PRELOAD"):
        refused(house, f"env:{name}")
    for path in ("/etc/ssl/private/a.key", "/proc/self/environ", "/etc/tokenschain/other"):
        refused(house, f"file:{path}")


def test_what_the_settings_name_may_be_named_and_what_stands_there_stays(house: Platform) -> None:
    fine = ("env:MODEL_KEY", "sealed:vendor", "file:/run/secrets/vendor")
    assert house.operator("PUT", "/upstreams/fine", {"spec": spec(*fine)}).status_code == 200
    changed = house.operator("PATCH", "/upstreams/fine", {"spec": {"zone": "cn"}})
    assert changed.status_code == 200, changed.text


@pytest.mark.parametrize("reference", ["sealed:mail", "env:OIDC_WORD"])
def test_secrets_of_other_parts_and_what_is_not_named_are_none(reference: str) -> None:
    given = Settings()
    assert refusal_of(reference, given) is None
    smtp = msgspec.structs.replace(given.smtp, password="sealed:mail")
    oidc = msgspec.structs.replace(given.oidc, client_secret="env:OIDC_WORD")
    other = msgspec.structs.replace(given, smtp=smtp, oidc=oidc)
    assert refusal_of(reference, other) == "another part of the platform uses it"
    narrow = msgspec.structs.replace(
        given, secrets=msgspec.structs.replace(given.secrets, references=("env:*_API_KEY",))
    )
    assert refusal_of(reference, narrow) is not None
    assert refusal_of("env:A_API_KEY", narrow) is None


def test_a_file_is_the_same_however_it_is_written(tmp_path: Path) -> None:
    given = Settings()
    smtp = msgspec.structs.replace(given.smtp, password=f"file:{tmp_path}/smtp")
    secrets = msgspec.structs.replace(given.secrets, references=("file:*",))
    other = msgspec.structs.replace(given, smtp=smtp, secrets=secrets)
    (tmp_path / "link").symlink_to(tmp_path / "smtp")
    for written in (
        f"{tmp_path}//smtp",
        f"{tmp_path}/./smtp",
        f"{tmp_path}/smtp/",
        f"{tmp_path}/link",
    ):
        assert refusal_of(f"file:{written}", other) == "another part of the platform uses it"


def test_what_stood_there_before_goes_nowhere_else(house: Platform) -> None:
    """As of before the settings were narrowed, or of an older version."""
    settings = settings_of(house)
    assert house.operator("PUT", "/upstreams/old", {"spec": spec("env:OLD_KEY")}).status_code == 200
    narrow = msgspec.structs.replace(settings.secrets, references=())
    context = house.app.state.context
    house.app.state.context = context._replace(
        settings=msgspec.structs.replace(settings, secrets=narrow)
    )
    try:
        stays = house.operator("PATCH", "/upstreams/old", {"spec": {"zone": "cn"}})
        assert stays.status_code == 200, stays.text
        moved = {"spec": {"base_url": "http://other.example/v1"}}
        assert house.operator("PATCH", "/upstreams/old", moved).status_code == 400
    finally:
        house.app.state.context = context
