"""Request signing of the clouds (SDK-HMAC, TC3 and others) as pure functions.

Each is the vendor's documented scheme; the tests hold them against signatures made with the
vendors' own SDKs. SHA-256 and, where a cloud takes it, SM3 (GB/T 32905-2016).
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import time
from collections.abc import Sequence
from typing import Literal, NamedTuple
from urllib.parse import quote

import msgspec

Hash = Literal["sha256", "sm3"]
_BCE_VALID_S = 1_800
_JWT_VALID_MS = 210_000
"""Zhipu's own SDK lets a token live for 210 s."""


class Signable(NamedTuple):
    """What is signed of a request. Header names keep the case they are sent in."""

    method: str
    path: str
    headers: Sequence[tuple[str, str]]
    body: bytes = b""
    query: Sequence[tuple[str, str]] = ()


class KeyPair(NamedTuple):
    """An access key and its secret."""

    access: str
    secret: str


def tencent_tc3(request: Signable, keys: KeyPair, service: str, now_s: int) -> str:
    """`Authorization` by TC3-HMAC-SHA256: content-type and host are signed.

    `X-TC-Timestamp` must be sent with the same `now_s`. Source: Tencent Cloud API 3.0,
    signature v3.
    """
    day = time.strftime("%Y-%m-%d", time.gmtime(now_s))
    headers = _lowered(request.headers, ("content-type", "host"))
    canonical = _canonical(request, headers, _digest(request.body))
    scope = f"{day}/{service}/tc3_request"
    text = f"TC3-HMAC-SHA256\n{now_s}\n{scope}\n{_digest(canonical.encode())}"
    key = _chain(b"TC3" + keys.secret.encode(), day, service, "tc3_request")
    return (
        f"TC3-HMAC-SHA256 Credential={keys.access}/{scope}, "
        f"SignedHeaders={_names(headers)}, Signature={_hmac(key, text).hex()}"
    )


def alibaba_acs3(request: Signable, keys: KeyPair, kind: Hash = "sha256") -> str:
    """`Authorization` by ACS3-HMAC-SHA256 or -SM3: host, content-type and every x-acs-*.

    `x-acs-content-sha256` must hold the body's hash, made with `kind` too. Source: Alibaba
    Cloud OpenAPI, signature v3.
    """
    names = [
        name.lower()
        for name, _ in request.headers
        if name.lower() in ("host", "content-type") or name.lower().startswith("x-acs-")
    ]
    headers = _lowered(request.headers, names)
    algorithm = f"ACS3-HMAC-{kind.upper()}"
    canonical = _canonical(request, headers, _digest(request.body, kind))
    text = f"{algorithm}\n{_digest(canonical.encode(), kind)}"
    signature = _hmac(keys.secret.encode(), text, kind).hex()
    return (
        f"{algorithm} Credential={keys.access},SignedHeaders={_names(headers)},"
        f"Signature={signature}"
    )


def huawei_sdk(request: Signable, keys: KeyPair, kind: Hash = "sha256") -> str:
    """`Authorization` by SDK-HMAC-SHA256 or -SM3: every header given is signed.

    `X-Sdk-Date` must be among them. Source: Huawei Cloud API signing guide.
    """
    headers = _lowered(request.headers, [name.lower() for name, _ in request.headers])
    date = dict(headers)["x-sdk-date"]
    algorithm = f"SDK-HMAC-{kind.upper()}"
    slashed = request._replace(path=request.path.rstrip("/") + "/")
    canonical = _canonical(slashed, headers, _digest(request.body, kind))
    text = f"{algorithm}\n{date}\n{_digest(canonical.encode(), kind)}"
    signature = _hmac(keys.secret.encode(), text, kind).hex()
    return (
        f"{algorithm} Access={keys.access}, SignedHeaders={_names(headers)}, Signature={signature}"
    )


def volcano_v4(request: Signable, keys: KeyPair, region: str, service: str) -> str:
    """`Authorization` by Volcano Engine's V4: content-type, host, x-content-sha256, x-date.

    Source: Volcano Engine OpenAPI signing guide.
    """
    headers = _lowered(request.headers, ("content-type", "host", "x-content-sha256", "x-date"))
    date = dict(headers)["x-date"]
    scope = f"{date[:8]}/{region}/{service}/request"
    canonical = _canonical(request, headers, _digest(request.body))
    text = f"HMAC-SHA256\n{date}\n{scope}\n{_digest(canonical.encode())}"
    key = _chain(keys.secret.encode(), date[:8], region, service, "request")
    return (
        f"HMAC-SHA256 Credential={keys.access}/{scope}, "
        f"SignedHeaders={_names(headers)}, Signature={_hmac(key, text).hex()}"
    )


def aws_v4(request: Signable, keys: KeyPair, region: str, service: str) -> str:
    """`Authorization` by AWS Signature Version 4, as object storage takes it: every header given is
    signed, `x-amz-date` and `x-amz-content-sha256` among them.

    Source: Amazon S3, authenticating requests by the Authorization header.
    """
    headers = _lowered(request.headers, [name.lower() for name, _ in request.headers])
    date = dict(headers)["x-amz-date"]
    scope = f"{date[:8]}/{region}/{service}/aws4_request"
    canonical = _canonical(request, headers, _digest(request.body))
    text = f"AWS4-HMAC-SHA256\n{date}\n{scope}\n{_digest(canonical.encode())}"
    key = _chain(b"AWS4" + keys.secret.encode(), date[:8], region, service, "aws4_request")
    return (
        f"AWS4-HMAC-SHA256 Credential={keys.access}/{scope}, "
        f"SignedHeaders={_names(headers)}, Signature={_hmac(key, text).hex()}"
    )


def baidu_bce(request: Signable, keys: KeyPair, now_s: int, valid_s: int = _BCE_VALID_S) -> str:
    """`Authorization` by bce-auth-v1: host is signed; the derived key is a hex string.

    Source: Baidu AI Cloud, generating the authentication string.
    """
    when = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(now_s))
    prefix = f"bce-auth-v1/{keys.access}/{when}/{valid_s}"
    key = _hmac(keys.secret.encode(), prefix).hex().encode()
    host = dict(_lowered(request.headers, ("host",)))["host"]
    canonical = (
        f"{request.method}\n{_path(request.path)}\n{_query(request.query)}\nhost:{_quoted(host)}"
    )
    return f"{prefix}/host/{_hmac(key, canonical).hex()}"


def zhipu_jwt(api_key: str, now_ms: int) -> str:
    """A bearer token from an `id.secret` key.

    Raises:
        ValueError: the key has another form.
    """
    name, dot, secret = api_key.partition(".")
    if not dot or not secret:
        raise ValueError("a Zhipu key has the form id.secret")
    header = {"alg": "HS256", "sign_type": "SIGN", "typ": "JWT"}
    payload = {"api_key": name, "exp": now_ms + _JWT_VALID_MS, "timestamp": now_ms}
    signed = f"{_base64url(msgspec.json.encode(header))}.{_base64url(msgspec.json.encode(payload))}"
    return f"{signed}.{_base64url(_hmac(secret.encode(), signed))}"


def _canonical(request: Signable, headers: Sequence[tuple[str, str]], body_hash: str) -> str:
    lines = "".join(f"{name}:{value}\n" for name, value in headers)
    return (
        f"{request.method}\n{_path(request.path)}\n{_query(request.query)}\n{lines}\n"
        f"{_names(headers)}\n{body_hash}"
    )


def _lowered(headers: Sequence[tuple[str, str]], names: Sequence[str]) -> list[tuple[str, str]]:
    found = {name.lower(): value.strip() for name, value in headers}
    return sorted((name, found[name]) for name in set(names))


def _names(headers: Sequence[tuple[str, str]]) -> str:
    return ";".join(name for name, _ in headers)


def _path(path: str) -> str:
    return quote(path, safe="/-_.~")


def _query(query: Sequence[tuple[str, str]]) -> str:
    return "&".join(f"{_quoted(name)}={_quoted(value)}" for name, value in sorted(query))


def _quoted(text: str) -> str:
    return quote(text, safe="-_.~")


def sha256_hex(data: bytes) -> str:
    """A body's hash as headers carry it."""
    return _digest(data)


def _digest(data: bytes, kind: Hash = "sha256") -> str:
    return hashlib.new(kind, data).hexdigest()


def _hmac(key: bytes, text: str, kind: Hash = "sha256") -> bytes:
    return hmac.new(key, text.encode(), kind).digest()


def _chain(key: bytes, *parts: str) -> bytes:
    for part in parts:
        key = _hmac(key, part)
    return key


def _base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
