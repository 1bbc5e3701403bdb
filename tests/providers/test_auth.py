"""Calls proven by JWT, by request signatures with SHA-256 and SM3, and by traded tokens."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.small_server import JsonHandler, serving
from tests.stack import PRICES, Stack

REPLY = {
    "choices": [{"index": 0, "message": {"content": "hi"}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 1, "completion_tokens": 1},
}
SECRET = "s3cret"


class Cloud(JsonHandler):
    """Takes a call only with the proof its path asks for; hands out tokens for signatures."""

    tokens_given = 0

    def do_POST(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def _answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        path = self.path.partition("?")[0]
        given = self.headers.get("authorization", "")
        match path.split("/")[1]:
            case "jwt":
                known = self._jwt(given)
            case "huawei":
                known = self._huawei(given, path, body)
            case "tokens":
                known = given == f"Bearer token-{Cloud.tokens_given}"
            case "v1":  # Baidu's token service
                self._token(given.startswith("bce-auth-v1/AK/"), "baidu")
                return
            case _:  # Volcano's
                signed = "SignedHeaders=content-type;host;x-content-sha256;x-date" in given
                hashed = self.headers["x-content-sha256"] == hashlib.sha256(body).hexdigest()
                self._token(signed and hashed, "volcano")
                return
        self._send(200 if known else 401, REPLY if known else {"error": {"message": "who?"}})

    def _token(self, known: bool, vendor: str) -> None:
        if not known:
            self._send(403, {"code": "AccessDenied"})
            return
        Cloud.tokens_given += 1
        token = f"token-{Cloud.tokens_given}"
        if vendor == "baidu":
            end = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 86_400))
            self._send(201, {"token": token, "expireTime": end})
        else:
            end = time.time() + 604_800
            self._send(200, {"Result": {"ApiKey": token, "ExpiredTime": end}})

    def _jwt(self, given: str) -> bool:
        head, payload, signature = given.removeprefix("Bearer ").split(".")
        wanted = hmac.new(SECRET.encode(), f"{head}.{payload}".encode(), hashlib.sha256).digest()
        claims = json.loads(base64.urlsafe_b64decode(payload + "=="))
        fresh = claims["exp"] / 1e3 > time.time() > claims["timestamp"] / 1e3 - 60
        right = signature == base64.urlsafe_b64encode(wanted).rstrip(b"=").decode()
        return right and fresh and claims["api_key"] == "id"

    def _huawei(self, given: str, path: str, body: bytes) -> bool:
        algorithm = given.split(" ", maxsplit=1)[0]
        kind = {"SDK-HMAC-SHA256": "sha256", "SDK-HMAC-SM3": "sm3"}[algorithm]
        names = given.split("SignedHeaders=")[1].split(",", maxsplit=1)[0].split(";")
        lines = "".join(f"{name}:{self.headers[name]}\n" for name in names)
        digest = hashlib.new(kind, body).hexdigest()
        canonical = f"POST\n{path}/\n\n{lines}\n{';'.join(names)}\n{digest}"
        hashed = hashlib.new(kind, canonical.encode()).hexdigest()
        text = f"{algorithm}\n{self.headers['x-sdk-date']}\n{hashed}"
        wanted = hmac.new(SECRET.encode(), text.encode(), kind).hexdigest()
        return given.endswith(f"Signature={wanted}") and "Access=AK," in given


@pytest.fixture(scope="module")
def base() -> Iterator[str]:
    with serving(Cloud) as address:
        yield address


@pytest.fixture(scope="module")
def stack(base: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    folder: Path = tmp_path_factory.mktemp("auth")

    def upstream(name: str, provider: str, path: str, auth: str, key: str) -> dict[str, Any]:
        return {
            "id": name,
            "provider": provider,
            "base_url": f"{base}/{path}",
            "auth": auth,
            "token_url": base,
            "credential": f"env:{key}",
            "models": [name],
            "prices": {name: PRICES},
        }

    made = Stack(
        folder,
        "http://unused",
        upstreams=[
            upstream("zhipu-jwt", "zhipu", "jwt", "jwt", "JWT_KEY"),
            upstream("huawei-sha", "huawei-maas", "huawei", "sdk-hmac-sha256", "PAIR"),
            upstream("huawei-sm3", "huawei-maas", "huawei", "sdk-hmac-sm3", "PAIR"),
            upstream("baidu-token", "baidu-qianfan", "tokens", "token", "PAIR"),
            upstream("ark-token", "volcengine-ark", "tokens", "token", "PAIR"),
            upstream("bad-form", "huawei-maas", "huawei", "sdk-hmac-sm3", "JWT_KEY"),
        ],
    )
    made.environment |= {"JWT_KEY": f"id.{SECRET}", "PAIR": f"AK:{SECRET}"}
    made.start()
    yield made
    made.close()


@pytest.mark.parametrize("model", ["zhipu-jwt", "huawei-sha", "huawei-sm3"])
def test_each_call_is_proven_anew(stack: Stack, model: str) -> None:
    for _ in range(2):
        reply = stack.chat(model=model)
        assert reply.status_code == 200, reply.text


@pytest.mark.parametrize("model", ["baidu-token", "ark-token"])
def test_a_key_pair_is_traded_once_for_a_token(stack: Stack, model: str) -> None:
    before = Cloud.tokens_given
    for _ in range(3):
        assert stack.chat(model=model).status_code == 200
    assert Cloud.tokens_given == before + 1


def test_a_credential_of_the_wrong_form_is_said_so_and_not_shown(stack: Stack) -> None:
    reply = stack.chat(model="bad-form")
    assert reply.json()["error"]["code"] == "upstream_rejected_credentials"
    assert "id:secret" in reply.text and SECRET not in reply.text
