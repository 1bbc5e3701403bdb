"""Simulators of the clouds' key management, over real sockets: signatures, clock and fields are
checked, and the key stays there. Sources: `tokenschain.providers.key_management` names them."""

from __future__ import annotations

import base64
import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import parse_qsl

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from tests.small_server import JsonHandler, serving
from tests.vendors.moderation_clouds import (
    PROJECT,
    Cloud,
    Refusal,
    check_acs,
    check_sdk,
    check_tc3,
    tencent_error,
)

KEY = "0d0466b0-e727-4d9c-b35d-f84bb474a37f"
GARBAGE: dict[str, object] = {
    "list": ["<html>", None],
    "text": {"Response": "down", "CiphertextBlob": 1},
    "error": {"Response": {"Error": "down"}, "error": {"error_code": None}},
}
"""What stands between may answer."""
_PADDING = bytes(64)
"""The clouds' own texts are longer: they say which key, and which version of it."""


class KeyManagementClouds:
    """The three of them, at one address."""

    def __init__(self) -> None:
        self.url = ""
        self.cloud = Cloud()
        self._key = AESGCM(os.urandom(32))

    @property
    def asked(self) -> list[str]:
        """The actions that were asked for."""
        return [
            headers.get("x-acs-action") or headers.get("x-tc-action") or path.rpartition("/")[2]
            for path, headers, _ in self.cloud.requests
        ]

    def sealed(self, text: str) -> str:
        nonce = os.urandom(12)
        return base64.b64encode(
            _PADDING + nonce + self._key.encrypt(nonce, text.encode(), None)
        ).decode()

    def opened(self, sealed: str, wrong: Refusal) -> str:
        try:
            data = base64.b64decode(sealed, validate=True).removeprefix(_PADDING)
            return self._key.decrypt(data[:12], data[12:], None).decode()
        except (ValueError, InvalidTag):
            raise wrong from None


@contextmanager
def key_management_clouds() -> Iterator[KeyManagementClouds]:
    clouds = KeyManagementClouds()

    class Handler(JsonHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length") or 0))
            headers = {name.lower(): value for name, value in self.headers.items()}
            clouds.cloud.requests.append((self.path, headers, body))
            if clouds.cloud.fault in GARBAGE:
                self._send(200, GARBAGE[clouds.cloud.fault])
                return
            try:
                self._send(200, _serve(clouds, self.path, headers, body))
            except Refusal as refusal:
                self._send(refusal.status, refusal.body)

    with serving(Handler) as url:
        clouds.url = url
        yield clouds


def _serve(clouds: KeyManagementClouds, path: str, headers: dict[str, str], body: bytes) -> Any:
    if "x-acs-action" in headers:
        return _alibaba(clouds, path, headers, body)
    if "x-tc-action" in headers:
        return {"Response": _tencent(clouds, headers, body)}
    return _huawei(clouds, path, headers, body)


def _alibaba(clouds: KeyManagementClouds, path: str, headers: dict[str, str], body: bytes) -> Any:
    path, _, query = path.partition("?")
    check_acs(clouds.cloud, path, query, headers, body)
    wrong = Refusal(400, {"Code": "InvalidParameter", "Message": "-"})
    fields = dict(parse_qsl(query, strict_parsing=True))
    # Its documents have parameters in the URL, so no secret is one of them.
    if headers["x-acs-version"] != "2016-01-20" or body or "Plaintext" in fields:
        raise wrong
    if headers["x-acs-action"] == "Decrypt":
        plain = clouds.opened(fields["CiphertextBlob"], wrong)
        return {"KeyId": KEY, "Plaintext": plain, "RequestId": "r"}
    if headers["x-acs-action"] != "GenerateDataKey" or fields["KeySpec"] != "AES_256":
        raise wrong
    if fields["KeyId"] != KEY:
        raise Refusal(404, {"Code": "Forbidden.KeyNotFound", "Message": "-"})
    plain = base64.b64encode(os.urandom(32)).decode()
    return {"KeyId": KEY, "CiphertextBlob": clouds.sealed(plain), "Plaintext": plain,
            "KeyVersionId": "v", "RequestId": "r"}  # fmt: skip


def _tencent(clouds: KeyManagementClouds, headers: dict[str, str], body: bytes) -> Any:
    check_tc3(clouds.cloud, "kms", headers, body, "2019-01-18")
    fields = json.loads(body)
    if headers["x-tc-action"] == "Decrypt":
        wrong = tencent_error("InvalidParameterValue.InvalidCiphertext")
        plain = clouds.opened(fields["CiphertextBlob"], wrong)
        return {"KeyId": KEY, "Plaintext": plain, "RequestId": "r"}
    if fields["KeyId"] != KEY:
        raise tencent_error("ResourceUnavailable.CmkNotFound")
    base64.b64decode(fields["Plaintext"], validate=True)
    return {"KeyId": KEY, "CiphertextBlob": clouds.sealed(fields["Plaintext"]), "RequestId": "r"}


def _huawei(clouds: KeyManagementClouds, path: str, headers: dict[str, str], body: bytes) -> Any:
    check_sdk(clouds.cloud, path, headers, body)
    fields = json.loads(body)
    wrong = Refusal(400, {"error": {"error_code": "KMS.0306", "error_msg": "-"}})
    if path == f"/v1.0/{PROJECT}/kms/decrypt-data":
        if not re.fullmatch(r"[0-9a-zA-Z+/=]{128,5648}", fields["cipher_text"]):
            raise wrong
        return {"key_id": KEY, "plain_text": clouds.opened(fields["cipher_text"], wrong)}
    if path != f"/v1.0/{PROJECT}/kms/encrypt-data" or fields["key_id"] != KEY:
        raise Refusal(404, {"error": {"error_code": "KMS.0205", "error_msg": "-"}})
    return {"key_id": KEY, "cipher_text": clouds.sealed(fields["plain_text"])}
