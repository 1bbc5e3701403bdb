"""Key store of a cloud's key management (KMS): a key that never leaves the cloud wraps the master
key. Alibaba, Tencent and Huawei, over our own client and signatures.

Sources, whose names of fields these are: Alibaba KMS 2016-01-20, pages "Invocation Methods",
GenerateDataKey and Decrypt; Tencent KMS 2019-01-18, pages Encrypt and Decrypt; Huawei DEW, pages
EncryptData and DecryptData.
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
from urllib.parse import quote, urlencode

import msgspec

from tokenschain.infra.egress import exchange
from tokenschain.infra.security import data_keys
from tokenschain.infra.security.secret_files import WRAPPED, SecretFileRefused, body_of
from tokenschain.infra.security.suite import INTERNATIONAL, KEY_BYTES, Suite
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
    data_key: tuple[str, ...] = ()
    """The same of a new key to seal with here, where the cloud encrypts no more than that."""


class KmsVendor(Protocol):
    """One account of a cloud in one region."""

    kind: str

    def encrypt(self, key: str, data: str, keys: KeyPair, now_s: int) -> KmsRequest:
        """Of text in base64; or of a data key, see `KmsRequest.data_key`."""

    def decrypt(self, sealed: str, keys: KeyPair, now_s: int) -> KmsRequest: ...


class AlibabaKms:
    """See `KmsVendor`. Its parameters stand in the URL, as its documents have it, so that no secret
    may be one of them: what it encrypts is a data key of its own making."""

    kind = "alibaba-kms"

    def __init__(self, region: str, _: str, base_url: str = "") -> None:
        self._url = base_url or f"https://kms.{region}.aliyuncs.com"

    def encrypt(self, key: str, data: str, keys: KeyPair, now_s: int) -> KmsRequest:
        """See `KmsVendor`."""
        fields = {"KeyId": key, "KeySpec": "AES_256"}
        asked = self._signed("GenerateDataKey", fields, "CiphertextBlob", keys, now_s)
        return asked._replace(data_key=("Plaintext",))

    def decrypt(self, sealed: str, keys: KeyPair, now_s: int) -> KmsRequest:
        """See `KmsVendor`."""
        return self._signed("Decrypt", {"CiphertextBlob": sealed}, "Plaintext", keys, now_s)

    def _signed(
        self, action: str, fields: Mapping[str, str], wanted: str, keys: KeyPair, now_s: int
    ) -> KmsRequest:
        headers = {
            "host": Origin.of(self._url).authority,
            "x-acs-action": action,
            "x-acs-version": "2016-01-20",
            "x-acs-date": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(now_s)),
            "x-acs-signature-nonce": os.urandom(16).hex(),
            "x-acs-content-sha256": signing.sha256_hex(b""),
        }
        signable = Signable("POST", "/", tuple(headers.items()), query=tuple(fields.items()))
        headers |= {"authorization": signing.alibaba_acs3(signable, keys), "content-length": "0"}
        url = f"{self._url}/?{urlencode(fields, quote_via=quote, safe='')}"
        return KmsRequest(url, headers, b"", (wanted,))


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
        self,
        vendor: KmsVendor,
        key: str,
        keys: KeyPair,
        client: Callable[[], HttpClient],
        suite: Suite = INTERNATIONAL,
    ) -> None:
        """
        Args:
            suite: seals under a data key, where the cloud encrypts no more than that.
        """
        self._vendor, self._key, self._keys, self._client = vendor, key, keys, client
        self._suite = suite

    def wrap(self, secret: str) -> str:
        """See `KeyStore`."""
        data = base64.b64encode(secret.encode()).decode()
        asked = self._vendor.encrypt(self._key, data, self._keys, int(time.time()))
        head = f"{WRAPPED}{self._vendor.kind}:"
        if not asked.data_key:
            return head + self._exchanged(asked)[0]
        wrapped, encoded = self._exchanged(asked, asked.data_key)
        data_key = _decoded(encoded)
        if len(data_key) != KEY_BYTES:
            raise _not_ours()
        head = f"{head}{self._suite.name}:{wrapped}:"
        return data_keys.sealed(self._suite, data_key, head, secret)

    def unwrap(self, line: str) -> str:
        """See `KeyStore`. What either suite sealed is read."""
        body, now_s = body_of(line, self._vendor.kind), int(time.time())
        name, _, rest = body.partition(":")
        if not rest:
            asked = self._vendor.decrypt(body, self._keys, now_s)
            try:
                return _decoded(self._exchanged(asked)[0]).decode()
            except UnicodeDecodeError:
                raise _not_ours() from None
        asked = self._vendor.decrypt(rest.partition(":")[0], self._keys, now_s)
        try:
            return data_keys.opened(name, _decoded(self._exchanged(asked)[0]), line)
        except data_keys.NotSealedSo:
            raise _not_ours() from None

    def _exchanged(self, asked: KmsRequest, *more: tuple[str, ...]) -> list[str]:
        """What is wanted, and more of the same answer."""
        # A thread with a loop of its own: the caller may stand in one.
        with ThreadPoolExecutor(1) as thread:
            found = thread.submit(asyncio.run, self._exchange(asked)).result()
        texts = [_at(found, names) for names in (asked.wanted, *more)]
        if not all(isinstance(one, str) and one.isascii() and "\n" not in one for one in texts):
            raise SecretFileRefused(f"{_place(asked)} gave no answer of a key management")
        return [str(one) for one in texts]

    async def _exchange(self, asked: KmsRequest) -> object:
        client = self._client()
        try:
            reply, answer = await exchange(
                client, "POST", asked.url, asked.headers, asked.body, _WAITS, _ANSWER_BYTES_MAX
            )
            found: object = msgspec.json.decode(answer)
        except (msgspec.DecodeError, RecursionError):
            raise SecretFileRefused(f"{_place(asked)} gave no answer of a key management") from None
        except (ClientError, OSError, ValueError) as error:
            raise SecretFileRefused(f"{_place(asked)}: {type(error).__name__} {error}") from None
        finally:
            client.close()
        code = next(filter(None, (_at(found, names) for names in _CODES)), "")
        if code or reply.status != 200:
            said = f"{reply.status} {code}"[:_CODE_CHARACTERS_MAX]
            raise SecretFileRefused(f"the cloud said {said}")
        return found


def _place(asked: KmsRequest) -> str:
    """Who was asked, without what."""
    return asked.url.partition("?")[0]


def _decoded(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise _not_ours() from None


def _not_ours() -> SecretFileRefused:
    return SecretFileRefused("the cloud gave back no key of ours")


def _at(found: object, names: tuple[str, ...]) -> object:
    """What stands there; None where nothing does."""
    for name in names:
        found = found.get(name) if isinstance(found, dict) else None
    return found
