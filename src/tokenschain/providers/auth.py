"""Authentication at upstreams: JWT, request signing, access tokens.

An upstream's `auth` names one; by default a vendor's plain key goes along as it is.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime
from typing import NamedTuple

import msgspec

from tokenschain.core.errors import ApiError
from tokenschain.providers import signing
from tokenschain.providers.signing import Hash, KeyPair, Signable
from tokenschain.providers.vendor_profile import HeaderLines, Signer

TOKEN_REFRESH_S = 600.0
"""A token is replaced this long before it expires."""
_BAIDU_TOKEN_S = 86_400
_ARK_TOKEN_S = 604_800


def key_pair(value: str) -> KeyPair:
    """A credential of the form `id:secret`.

    Raises:
        ApiError: it has another form.
    """
    access, colon, secret = value.partition(":")
    if not colon:
        raise ApiError(
            "upstream_rejected_credentials",
            "The credential of this upstream must have the form id:secret.",
        )
    return KeyPair(access, secret)


def _jwt(_: Signable, value: str, now_s: float) -> HeaderLines:
    try:
        token = signing.zhipu_jwt(value, int(now_s * 1_000))
    except ValueError as error:
        raise ApiError("upstream_rejected_credentials", f"{error}.") from None
    return (("authorization", f"Bearer {token}"),)


def _huawei(kind: Hash) -> Signer:
    def sign(request: Signable, value: str, now_s: float) -> HeaderLines:
        date = ("x-sdk-date", time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(now_s)))
        dated = request._replace(headers=(*request.headers, date))
        return (date, ("authorization", signing.huawei_sdk(dated, key_pair(value), kind)))

    return sign


SIGNERS: dict[str, Signer] = {
    "jwt": _jwt,
    "sdk-hmac-sha256": _huawei("sha256"),
    "sdk-hmac-sm3": _huawei("sm3"),
}


class AccessToken(NamedTuple):
    value: str
    until_s: float
    """Unix time."""


class TokenExchange(NamedTuple):
    """How a key pair is traded for a short-lived token."""

    url: str
    request: Callable[[str, str, KeyPair, float], tuple[str, HeaderLines, bytes]]
    """Host, model, keys and time to method and target, headers, body."""
    read: Callable[[bytes], AccessToken]


def _baidu_request(
    host: str, _model: str, keys: KeyPair, now_s: float
) -> tuple[str, HeaderLines, bytes]:
    query = (("expireInSeconds", str(_BAIDU_TOKEN_S)),)
    signable = Signable("GET", "/v1/BCE-BEARER/token", (("host", host),), query=query)
    authorization = signing.baidu_bce(signable, keys, int(now_s))
    target = f"GET /v1/BCE-BEARER/token?expireInSeconds={_BAIDU_TOKEN_S}"
    return target, (("authorization", authorization),), b""


class _BaiduToken(msgspec.Struct, rename="camel"):
    token: str
    expire_time: datetime


def _baidu_read(body: bytes) -> AccessToken:
    found = msgspec.json.decode(body, type=_BaiduToken)
    return AccessToken(found.token, found.expire_time.timestamp())


def _ark_request(
    host: str, model: str, keys: KeyPair, now_s: float
) -> tuple[str, HeaderLines, bytes]:
    kind = "endpoint" if model.startswith("ep-") else "presetendpoint"
    body = msgspec.json.encode(
        {"DurationSeconds": _ARK_TOKEN_S, "ResourceType": kind, "ResourceIds": [model]}
    )
    headers: HeaderLines = (
        ("content-type", "application/json"),
        ("host", host),
        ("x-content-sha256", signing.sha256_hex(body)),
        ("x-date", time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(now_s))),
    )
    query = (("Action", "GetApiKey"), ("Version", "2024-01-01"))
    signable = Signable("POST", "/", headers, body, query)
    authorization = signing.volcano_v4(signable, keys, "cn-beijing", "ark")
    sent = (*(h for h in headers if h[0] != "host"), ("authorization", authorization))
    return "POST /?Action=GetApiKey&Version=2024-01-01", sent, body


class _ArkKey(msgspec.Struct, rename="pascal"):
    """`GetApiKeyResponse` of volcengine-python-sdk (volcenginesdkark), at 395211a."""

    api_key: str
    expired_time: float


class _ArkReply(msgspec.Struct, rename="pascal"):
    result: _ArkKey


def _ark_read(body: bytes) -> AccessToken:
    found = msgspec.json.decode(body, type=_ArkReply).result
    return AccessToken(found.api_key, found.expired_time)


EXCHANGES: dict[str, TokenExchange] = {
    "baidu": TokenExchange("https://iam.bj.baidubce.com", _baidu_request, _baidu_read),
    "volcano": TokenExchange("https://open.volcengineapi.com", _ark_request, _ark_read),
}
"""By the family of a vendor's rules."""
