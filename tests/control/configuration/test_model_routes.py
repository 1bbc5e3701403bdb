"""Model routes: what each upstream of the settings offers, by the catalog."""

from __future__ import annotations

from pathlib import Path

import pytest

from tokenschain.control.configuration import model_routes
from tokenschain.infra import catalog_file, config

NATIVE = """
upstreams:
- {id: open, provider: %s, base_url: 'https://a.example/v1', zone: cn}
- {id: own, provider: %s, base_url: 'https://b.example', zone: cn}
"""


@pytest.mark.parametrize(
    ("provider", "native"),
    [("alibaba", "alibaba-native"), ("tencent-hunyuan", "tencent-hunyuan-native")],
)
def test_a_clouds_own_protocol_sells_its_chat_models_at_the_same_price(
    provider: str, native: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "tokenschain.yaml"
    file.write_text(NATIVE % (provider, native), "utf-8")
    monkeypatch.setenv("TOKENSCHAIN_CONFIG", str(file))
    settings = config.load()
    models = model_routes.of_settings(settings, catalog_file.load()).models
    shared = 0
    for route in models.values():
        offers = {offer.upstream: offer for offer in route.offers}
        if route.kind == "chat" and "open" in offers:
            shared += 1
            one, other = offers["open"], offers["own"]
            assert (one.price, one.output_tokens_max, one.abilities, one.context_window) == (
                other.price, other.output_tokens_max, other.abilities, other.context_window,
            )  # fmt: skip
        else:
            assert "own" not in offers, route.name
    assert shared
