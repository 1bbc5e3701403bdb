"""Key store of a cloud's key management (KMS): a key that never leaves the cloud wraps the master
key. Alibaba, Tencent and Huawei, over our own client and signatures.

Sources: Alibaba KMS 2016-01-20 and Tencent KMS 2019-01-18 (Encrypt, Decrypt), Huawei DEW
(EncryptData, DecryptData).
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import os
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple, Protocol
from urllib.parse import urlencode

import msgspec

from tokenschain.infra.egress import exchange
from tokenschain.infra.security.secret_files import WRAPPED, SecretFileRefused, body_of
from tokenschain.providers import signing
from tokenschain.providers.signing import KeyPair, Signable
from tokenschain.wire.client import ClientError, HttpClient, Origin, Waits

_WAITS = Waits(connect_max_s=3.0, first_byte_max_s=5.0, total_max_s=5.0)
_ANSWER_BYTES_MAX = 65_536
_CODE_CHARACTERS_MAX = 100
_CODES = (("Code",), ("Response", "Error", "Code"), ("error", "error_code"), ("error_code",))
"""Where the clouds say what went wrong; Tencent with the status 200."""


class KmsRequest(NamedTuple):
    """A signed request, and where its answer has what was asked for."""

    url: str
    headers: Mapping[str, str]
    body: bytes
    wanted: tuple[str, ...]
    """Names on the way to it, from the outside in."""


class KmsVendor(Protocol):
    """One account of a cloud in one region."""

    kind: str

    def encrypt(self, key: str, data: str, keys: KeyPair, now_s: int) -> KmsRequest: ...

    def decrypt(self, sealed: str, keys: KeyPair, now_s: int) -> KmsRequest: ...


class AlibabaKms:
    """See `KmsVendor`."""

    kind = "alibaba-kms"

    def __init__(self, region: str, _: str, base_url: str = "") -> None:
        self._url = base_url or f"https://kms.{region}.aliyuncs.com"

    def encrypt(self, key: str, data: str, keys: KeyPair, now_s: int) -> KmsRequest:
        """See `KmsVendor`."""
        fields = {"KeyId": key, "Plaintext": data}
        return self._signed("Encrypt", fields, "CiphertextBlob", keys, now_s)

    def decrypt(self, sealed: str, keys: KeyPair, now_s: int) -> KmsRequest:
        """See `KmsVendor`."""
        return self._signed("Decrypt", {"CiphertextBlob": sealed}, "Plaintext", keys, now_s)

    def _signed(
        self, action: str, fields: Mapping[str, str], wanted: str, keys: KeyPair, now_s: int
    ) -> KmsRequest:
        body = urlencode(fields).encode()
        headers = {
            "host": Origin.of(self._url).authority,
            "content-type": "application/x-www-form-urlencoded",
            "x-acs-action": action,
            "x-acs-version": "2016-01-20",
            "x-acs-date": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(now_s)),
            "x-acs-signature-nonce": os.urandom(16).hex(),
            "x-acs-content-sha256": signing.sha256_hex(body),
        }
        signable = Signable("POST", "/", tuple(headers.items()), body)
        headers["authorization"] = signing.alibaba_acs3(signable, keys)
        return KmsRequest(self._url + "/", headers, body, (wanted,))


class TencentKms:
    """See `KmsVendor`."""

    kind = "tencent-kms"

    def __init__(self, region: str, _: str, base_url: str = "") -> None:
        self._region = region
        self._url = base_url or "https://kms.tencentcloudapi.com"

    def encrypt(self, key: str, data: str, keys: KeyPair, now_s: int) -> KmsRequest:
        """See `KmsVendor`."""
        fields = {"KeyId": key, "Plaintext": data}
        return self._signed("Encrypt", fields, "CiphertextBlob", keys, now_s)

    def decrypt(self, sealed: str, keys: KeyPair, now_s: int) -> KmsRequest:
        """See `KmsVendor`."""
        return self._signed("Decrypt", {"CiphertextBlob": sealed}, "Plaintext", keys, now_s)

    def _signed(
        self, action: str, fields: Mapping[str, str], wanted: str, keys: KeyPair, now_s: int
    ) -> KmsRequest:
        body = msgspec.json.encode(fields)
        headers = {
            "host": Origin.of(self._url).authority,
            "content-type": "application/json; charset=utf-8",
            "x-tc-action": action,
            "x-tc-version": "2019-01-18",
            "x-tc-region": self._region,
            "x-tc-timestamp": str(now_s),
        }
        signable = Signable("POST", "/", tuple(headers.items()), body)
        headers["authorization"] = signing.tencent_tc3(signable, keys, "kms", now_s)
        return KmsRequest(self._url + "/", headers, body, ("Response", wanted))


class HuaweiKms:
    """See `KmsVendor`."""

    kind = "huawei-kms"

    def __init__(self, region: str, project: str, base_url: str = "") -> None:
        self._project = project
        self._url = base_url or f"https://kms.{region}.myhuaweicloud.com"

    def encrypt(self, key: str, data: str, keys: KeyPair, now_s: int) -> KmsRequest:
        """See `KmsVendor`."""
        fields = {"key_id": key, "plain_text": data}
        return self._signed("encrypt-data", fields, "cipher_text", keys, now_s)

    def decrypt(self, sealed: str, keys: KeyPair, now_s: int) -> KmsRequest:
        """See `KmsVendor`."""
        return self._signed("decrypt-data", {"cipher_text": sealed}, "plain_text", keys, now_s)

    def _signed(
        self, action: str, fields: Mapping[str, str], wanted: str, keys: KeyPair, now_s: int
    ) -> KmsRequest:
        body, path = msgspec.json.encode(fields), f"/v1.0/{self._project}/kms/{action}"
        headers = {
            "host": Origin.of(self._url).authority,
            "content-type": "application/json",
            "x-project-id": self._project,
            "x-sdk-date": time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(now_s)),
        }
        signable = Signable("POST", path, tuple(headers.items()), body)
        headers["authorization"] = signing.huawei_sdk(signable, keys)
        return KmsRequest(self._url + path, headers, body, (wanted,))


KMS_VENDORS: Mapping[str, Callable[[str, str, str], KmsVendor]] = {
    "alibaba-kms": AlibabaKms,
    "tencent-kms": TencentKms,
    "huawei-kms": HuaweiKms,
}
"""By `key_store.kind`; each takes region, project and address."""


class KmsStore:
    """See `infra.security.secret_files.KeyStore`. It waits for the cloud: at start, and when the
    master key file has changed."""

    def __init__(
        self, vendor: KmsVendor, key: str, keys: KeyPair, client: Callable[[], HttpClient]
    ) -> None:
        self._vendor, self._key, self._keys, self._client = vendor, key, keys, client

    def wrap(self, secret: str) -> str:
        """See `KeyStore`."""
        data = base64.b64encode(secret.encode()).decode()
        asked = self._vendor.encrypt(self._key, data, self._keys, int(time.time()))
        return f"{WRAPPED}{self._vendor.kind}:{self._exchanged(asked)}"

    def unwrap(self, line: str) -> str:
        """See `KeyStore`."""
        sealed = body_of(line, self._vendor.kind)
        asked = self._vendor.decrypt(sealed, self._keys, int(time.time()))
        try:
            return base64.b64decode(self._exchanged(asked), validate=True).decode()
        except (binascii.Error, ValueError):
            raise SecretFileRefused("the cloud gave back no key of ours") from None

    def _exchanged(self, asked: KmsRequest) -> str:
        # A thread with a loop of its own: the caller may stand in one.
        with ThreadPoolExecutor(1) as thread:
            return thread.submit(asyncio.run, self._exchange(asked)).result()

    async def _exchange(self, asked: KmsRequest) -> str:
        client = self._client()
        try:
            reply, answer = await exchange(
                client, "POST", asked.url, asked.headers, asked.body, _WAITS, _ANSWER_BYTES_MAX
            )
            found = msgspec.json.decode(answer)
        except (msgspec.DecodeError, RecursionError):
            raise SecretFileRefused(f"{asked.url} gave no answer of a key management") from None
        except (ClientError, OSError, ValueError) as error:
            raise SecretFileRefused(f"{asked.url}: {type(error).__name__} {error}") from None
        finally:
            client.close()
        code = next(filter(None, (_at(found, names) for names in _CODES)), "")
        if code or reply.status != 200:
            said = f"{reply.status} {code}"[:_CODE_CHARACTERS_MAX]
            raise SecretFileRefused(f"the cloud said {said}")
        wanted = _at(found, asked.wanted)
        if not isinstance(wanted, str) or not wanted.isascii() or "\n" in wanted:
            raise SecretFileRefused(f"{asked.url} gave no answer of a key management")
        return wanted


def _at(found: object, names: tuple[str, ...]) -> object:
    """What stands there; None where nothing does."""
    for name in names:
        found = found.get(name) if isinstance(found, dict) else None
    return found
