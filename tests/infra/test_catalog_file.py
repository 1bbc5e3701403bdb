"""The catalog file: what is there twice or leads nowhere is refused, with its places."""

from __future__ import annotations

from pathlib import Path

import pytest

from tokenschain.infra import catalog_file
from tokenschain.providers.vendor_table import vendor_of

HEAD = """version: '1'
providers:
- {id: p, name: P, zone: cn, base_url: 'https://p.example/v1'}
"""
ROW = "- {id: %s, model: m, provider: p, vendor: V, kind: chat, source_date: '2026-11'}\n"


def _file(folder: Path, text: str) -> Path:
    path = folder / "catalogue.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_one_price_for_a_provider_and_model_whatever_the_order_of_rows(tmp_path: Path) -> None:
    text = HEAD + "models:\n" + ROW % "p/m" + ROW % "p-intl/m"
    with pytest.raises(catalog_file.CatalogError) as refused:
        catalog_file.load(_file(tmp_path, text))
    said = str(refused.value)
    assert "p m is there twice" in said
    assert "`p/m` (line 5)" in said and "`p-intl/m` (line 6)" in said


def test_an_alias_leads_to_a_row_and_hides_none(tmp_path: Path) -> None:
    for name, model, why in (("old", "gone", "no row"), ("m", "m", "sells a model named")):
        aliases = f"aliases:\n- {{name: {name}, provider: p, model: {model}}}\n"
        with pytest.raises(catalog_file.CatalogError, match=why):
            catalog_file.load(_file(tmp_path, HEAD + aliases + "models:\n" + ROW % "p/m"))


def test_another_protocol_of_a_cloud_names_who_sells_there(tmp_path: Path) -> None:
    native = "- {id: n, name: N, base_url: null, chat_models_of: q}\n"
    with pytest.raises(catalog_file.CatalogError, match="n has the chat models of q"):
        catalog_file.load(_file(tmp_path, HEAD + native + "models:\n" + ROW % "p/m"))


def test_international_sites_are_providers_of_their_own() -> None:
    catalog = catalog_file.load()
    providers = {provider.id: provider for provider in catalog.providers}
    for info in catalog.models:
        assert info.id.startswith(f"{info.provider}/"), info.id
        assert info.provider in providers
        site = info.provider.removesuffix("-intl")
        if info.price is not None and f"{site}-intl" in providers:
            assert info.price.currency == ("CNY" if info.provider == site else "USD"), info.id
    bases = {name: providers[name].base_url for name in ("moonshot-intl", "minimax-intl")}
    assert bases == {
        "moonshot-intl": "https://api.moonshot.ai/v1",
        "minimax-intl": "https://api.minimax.io/v1",
    }
    assert vendor_of("minimax-intl") is vendor_of("minimax")


def test_names_that_people_know_are_aliases() -> None:
    catalog = catalog_file.load()
    names = {alias.name for alias in catalog.aliases}
    assert {"deepseek-chat", "deepseek-reasoner", "qwen-plus-latest", "kimi-latest",
            "glm-4-plus"} <= names  # fmt: skip
    assert all(alias.source and alias.source_date for alias in catalog.aliases)
