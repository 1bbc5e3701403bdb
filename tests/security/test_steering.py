"""A caller does not lead a call to another model, provider or price than its key is for."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import msgspec
import pytest
from msgspec import Raw

from tests.stack import PRICES, Stack
from tests.upstreams import UpstreamSimulator
from tokenschain.core.errors import ApiError
from tokenschain.core.formats.parameter_bridge import bridge
from tokenschain.core.formats.translation_changes import Policy
from tokenschain.core.steering import STEERING
from tokenschain.providers.vendor_table import VENDORS, vendor_of

VALUES: dict[str, Any] = {
    "models": ["other/dear"], "fallbacks": ["dear"], "model_list": [{"model": "dear"}],
    "provider": {"order": ["dear"]}, "providerOptions": {"gateway": {"models": ["dear"]}},
    "preset": "dear", "plugins": [{"id": "web"}], "route": "fallback",
    "transforms": ["middle-out"], "service_tier": "priority", "speed": "fast",
    "inference_geo": "us", "api_base": "http://10.0.0.1", "base_url": "http://10.0.0.1",
    "api_key": "another", "api_version": "1", "custom_llm_provider": "dear",
    "user_config": {"model_list": []}, "specific_deployment": True, "deployment_id": "dear",
    "num_retries": 9, "extra_body": {"model": "dear"}, "extra_headers": {"a": "b"},
    "mock_response": "nothing",
}  # fmt: skip
PROVIDERS = ("openrouter", "openai", "custom")
CHAT = {"messages": [{"role": "user", "content": "hi"}]}


def raws(values: dict[str, Any]) -> dict[str, Raw]:
    return {name: Raw(msgspec.json.encode(value)) for name, value in (CHAT | values).items()}


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory, upstream: UpstreamSimulator) -> Iterator[Stack]:
    entries: list[dict[str, Any]] = [
        {"id": name, "provider": name.removeprefix("allowed-"), "base_url": upstream.base_url,
         "zone": "own", "models": [name], "prices": {name: PRICES}}
        for name in (*PROVIDERS, "allowed-openrouter")
    ]  # fmt: skip
    entries[-1]["allowed_parameters"] = ["provider", "service_tier"]
    made = Stack(tmp_path_factory.mktemp("steering"), "http://unused", upstreams=entries).start()
    yield made
    made.close()


def arrived(stack: Stack, upstream: UpstreamSimulator, api: str, model: str) -> tuple[Any, Any]:
    """What came to the upstream of a call that tries to steer, and the answer."""
    key = stack.new_key(models=[model])
    stack.until_known(key)
    asked = {
        "chat/completions": CHAT, "completions": {"prompt": "hi"},
        "responses": {"input": "hi", "store": False},
    }[api]  # fmt: skip
    upstream.reset()
    reply = httpx.post(
        f"{stack.url}/v1/{api}", json={"model": model, **asked, **VALUES},
        headers={"authorization": f"Bearer {key}", "x-tc-unsupported": "drop"},
        trust_env=False, timeout=30,
    )  # fmt: skip
    assert reply.status_code == 200, reply.text
    return upstream.requests[-1], reply


@pytest.mark.parametrize("api", ["chat/completions", "completions", "responses"])
@pytest.mark.parametrize("provider", PROVIDERS)
def test_what_steers_does_not_arrive(
    stack: Stack, upstream: UpstreamSimulator, api: str, provider: str
) -> None:
    got, reply = arrived(stack, upstream, api, provider)
    assert not STEERING & got.keys()
    if api == "chat/completions":
        assert set(reply.headers["x-tc-dropped"].split(", ")) == STEERING


def test_what_the_platform_allows_is_passed_on(stack: Stack, upstream: UpstreamSimulator) -> None:
    got, _ = arrived(stack, upstream, "chat/completions", "allowed-openrouter")
    assert STEERING & got.keys() == {"provider", "service_tier"}


@pytest.mark.parametrize("provider", [*VENDORS, "custom"])
def test_no_vendor_is_steered(provider: str) -> None:
    assert VALUES.keys() == STEERING
    dialect = vendor_of(provider).dialect
    assert not STEERING & bridge(raws(VALUES), "m", dialect, Policy.DROP).fields.keys()
    for name, value in VALUES.items():
        with pytest.raises(ApiError) as caught:
            bridge(raws({name: value}), "m", dialect, Policy.ERROR)
        assert caught.value.code == "unsupported_parameter" and caught.value.param == name
    plain = {"service_tier": "auto", "models": [], "provider": None}
    assert not bridge(raws(plain), "m", dialect).dropped, "it asks for nothing"
