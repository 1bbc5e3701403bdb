"""Single sign-on: what strangers ask for, and what a provider answers, harms nobody."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from tests.security.platform import platform
from tokenschain.control.api import single_sign_on
from tokenschain.control.identity.oidc import Oidc, OidcClient
from tokenschain.core.errors import ApiError
from tokenschain.core.keyed_rates import KeyedRates
from tokenschain.infra.security import secrets
from tokenschain.infra.security.secret_files import SecretFile
from tokenschain.infra.security.suite import INTERNATIONAL

ISSUER = "https://login.example"
DISCOVERED = {
    "issuer": ISSUER,
    "authorization_endpoint": f"{ISSUER}/authorize",
    "token_endpoint": f"{ISSUER}/token",
    "jwks_uri": f"{ISSUER}/keys",
}
NOBODY: Any = None
FEW = 6


class Provider(Oidc):
    """Asks a provider that is not there; its answers are given."""

    def __init__(self, folder: Path, discovered: Any = None, keys: Any = None) -> None:
        agreed = OidcClient(ISSUER, "tokenschain", lambda: None, "https://x/callback", "groups")
        sealer = secrets.master_sealer(SecretFile(folder / "master"), INTERNATIONAL)
        super().__init__(agreed, NOBODY, sealer)
        self._answers = {f"{ISSUER}/.well-known/openid-configuration": discovered or DISCOVERED,
                         f"{ISSUER}/keys": keys}  # fmt: skip
        self.asked: list[str] = []

    async def _ask(self, method: str, url: str, headers: dict[str, str], body: bytes) -> Any:
        self.asked.append(url)
        await asyncio.sleep(0)
        found = self._answers.get(url)
        if found is None:
            raise ApiError("upstream_unreachable", "The provider cannot be reached.")
        return found


_WRONG_KEYS = (
    {},
    {"keys": []},
    {"keys": None},
    {"keys": "x"},
    {"keys": [1]},
    {"keys": [{}]},
    {"keys": [{"kty": "RSA"}]},
    {"keys": [{"kty": "EC", "crv": "P-256", "x": "AA", "y": "AA"}]},
)


@pytest.mark.parametrize("keys", _WRONG_KEYS, ids=str)
def test_a_provider_without_keys_is_said_to_be_wrong(tmp_path: Path, keys: Any) -> None:
    with pytest.raises(ApiError) as refused:
        asyncio.run(Provider(tmp_path, keys=keys).begin())
    assert refused.value.code == "upstream_invalid_reply"


@pytest.mark.parametrize(
    "wrong",
    [{name: value} for name in ("authorization_endpoint", "token_endpoint", "jwks_uri")
     for value in ("https://[", "http://login.example", "", None, 7, ["https://x"])],
    ids=str,
)  # fmt: skip
def test_a_provider_with_wrong_addresses_is_said_to_be_wrong(tmp_path: Path, wrong: Any) -> None:
    with pytest.raises(ApiError) as refused:
        asyncio.run(Provider(tmp_path, discovered=DISCOVERED | wrong).begin())
    assert refused.value.code == "upstream_invalid_reply"


def test_a_provider_that_is_away_is_asked_once_for_all_who_come(tmp_path: Path) -> None:
    async def run() -> None:
        many = [provider.begin() for _ in range(50)]
        found = await asyncio.gather(*many, return_exceptions=True)
        codes = {one.code for one in found if isinstance(one, ApiError)}
        assert codes == {"upstream_unreachable"} and len(found) == 50

    provider = Provider(tmp_path)
    asyncio.run(run())
    assert len(provider.asked) == 2, "where it is, and its keys"


def test_strangers_at_one_address_ask_the_provider_at_a_rate(tmp_path: Path) -> None:
    assert single_sign_on.PER_MINUTE_MAX <= 600
    provider = Provider(tmp_path)
    with platform(tmp_path, oidc=provider) as over:
        over.app.state.single_sign_on_rates = KeyedRates(FEW)
        for path in ("/api/v1/oidc/start", "/api/v1/oidc/callback?state=x&code=y"):
            over.app.state.single_sign_on_rates = KeyedRates(FEW)
            codes = [over.client.get(path).status_code for _ in range(FEW + 2)]
            assert set(codes[:FEW]) <= {401, 502, 503} and codes[-1] == 429, codes
        elsewhere = TestClient(over.app, client=("10.0.0.9", 5), raise_server_exceptions=False)
        assert elsewhere.get(path).status_code == 401
