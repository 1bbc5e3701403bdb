"""Signatures against golden ones, made with the vendors' own SDKs on dummy keys.

Clock of all: 2025-11-24T16:00:00Z. SDKs: tencentcloud-sdk-python-common 3.1.195,
alibabacloud-tea-openapi 0.4.6, huaweicloudsdkcore 3.1.219, volcenginesdk-core 5.0.54,
bce-python-sdk 0.9.79, zai-sdk 0.2.3.
"""

from __future__ import annotations

import hashlib

import pytest

from tokenschain.providers import signing
from tokenschain.providers.signing import Hash, KeyPair, Signable

KEYS = KeyPair("AKIDEXAMPLE", "SKEXAMPLE0123456789")
NOW_S = 1_764_000_000
GREEN = (
    b"Service=llm_query_moderation"
    b"&ServiceParameters=%7B%22content%22%3A+%22%E4%BD%A0%E5%A5%BD%22%7D"
)


def test_tencent_tc3() -> None:
    request = Signable(
        "POST",
        "/",
        [("Content-Type", "application/json"), ("Host", "tms.tencentcloudapi.com")],
        b'{"Content": "5L2g5aW9", "BizType": "demo"}',
    )
    assert signing.tencent_tc3(request, KEYS, "tms", NOW_S) == (
        "TC3-HMAC-SHA256 Credential=AKIDEXAMPLE/2025-11-24/tms/tc3_request, "
        "SignedHeaders=content-type;host, Signature="
        "88a85ff224a9967affbcb5d0a1d5f672d46786ce86a7b4f9220a2475172f2302"
    )


@pytest.mark.parametrize(
    ("kind", "signature"),
    [
        ("sha256", "56e82c7437d886c99f82e276ec43f2ee505b497f4a88d5357eb925479fde32bb"),
        ("sm3", "bc58542926cf9d9c066ebcc84745c5f988c56c83498ba90c7e4a6a7e74c7e744"),
    ],
)
def test_alibaba_acs3(kind: Hash, signature: str) -> None:
    headers = {
        "host": "green-cip.cn-shanghai.aliyuncs.com",
        "x-acs-version": "2022-03-02",
        "x-acs-action": "TextModerationPlus",
        "x-acs-date": "2025-11-24T16:00:00Z",
        "x-acs-signature-nonce": "d1ab0000000000000000000000000001",
        "content-type": "application/x-www-form-urlencoded",
        "x-acs-content-sha256": hashlib.new(kind, GREEN).hexdigest(),
    }
    made = signing.alibaba_acs3(Signable("POST", "/", list(headers.items()), GREEN), KEYS, kind)
    names = (
        "content-type;host;x-acs-action;x-acs-content-sha256;x-acs-date;"
        "x-acs-signature-nonce;x-acs-version"
    )
    assert made == (
        f"ACS3-HMAC-{kind.upper()} Credential=AKIDEXAMPLE,SignedHeaders={names},"
        f"Signature={signature}"
    )


@pytest.mark.parametrize(
    ("kind", "signature"),
    [
        ("sha256", "bdd281777def1c0b5197eda190d2a5711664e57b56ebd7ae8bfb0239dd48f4c6"),
        ("sm3", "0a7fc1b277c4b0400efdd1958ab2675940d416494d99bcc9042e5f93db546e9e"),
    ],
)
def test_huawei_sdk(kind: Hash, signature: str) -> None:
    request = Signable(
        "POST",
        "/v3/0123456789abcdef/moderation/text",
        [
            ("Content-Type", "application/json"),
            ("X-Sdk-Date", "20251124T160000Z"),
            ("X-Project-Id", "0123456789abcdef"),
            ("Host", "moderation.cn-north-4.myhuaweicloud.com"),
        ],
        b'{"event_type": "comment", "data": {"text": "hello"}}',
    )
    assert signing.huawei_sdk(request, KEYS, kind) == (
        f"SDK-HMAC-{kind.upper()} Access=AKIDEXAMPLE, "
        f"SignedHeaders=content-type;host;x-project-id;x-sdk-date, Signature={signature}"
    )


def test_volcano_v4() -> None:
    body = b'{"ResourceType": "endpoint"}'
    request = Signable(
        "POST",
        "/",
        [
            ("Content-Type", "application/json"),
            ("Host", "open.volcengineapi.com"),
            ("X-Date", "20251124T160000Z"),
            ("X-Content-Sha256", hashlib.sha256(body).hexdigest()),
        ],
        body,
        [("Version", "2024-01-01"), ("Action", "GetApiKey")],
    )
    assert signing.volcano_v4(request, KEYS, "cn-beijing", "ark") == (
        "HMAC-SHA256 Credential=AKIDEXAMPLE/20251124/cn-beijing/ark/request, "
        "SignedHeaders=content-type;host;x-content-sha256;x-date, Signature="
        "59010750e1b1fabec4515771a9cd6bf7979b1e06c1880342ec5bab6affe95295"
    )


def test_aws_v4() -> None:
    """The example of Amazon S3's documentation: GET Object."""
    empty = hashlib.sha256(b"").hexdigest()
    request = Signable(
        "GET", "/test.txt",
        [("Host", "examplebucket.s3.amazonaws.com"), ("Range", "bytes=0-9"),
         ("x-amz-content-sha256", empty), ("x-amz-date", "20130524T000000Z")],
    )  # fmt: skip
    keys = KeyPair("AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY")
    assert signing.aws_v4(request, keys, "us-east-1", "s3") == (
        "AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request, "
        "SignedHeaders=host;range;x-amz-content-sha256;x-amz-date, Signature="
        "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41"
    )


def test_baidu_bce() -> None:
    request = Signable(
        "GET",
        "/v1/BCE-BEARER/token",
        [("host", "iam.bj.baidubce.com")],
        query=[("expireInSeconds", "86400")],
    )
    assert signing.baidu_bce(request, KEYS, NOW_S) == (
        "bce-auth-v1/AKIDEXAMPLE/2025-11-24T16:00:00Z/1800/host/"
        "6557798762ba87c128670b48a39b55f9fb414874027056120de7c4b86892b059"
    )


def test_zhipu_jwt() -> None:
    made = signing.zhipu_jwt("keyid0001.secret0001secret0001secret0001", NOW_S * 1_000)
    assert made == (
        "eyJhbGciOiJIUzI1NiIsInNpZ25fdHlwZSI6IlNJR04iLCJ0eXAiOiJKV1QifQ."
        "eyJhcGlfa2V5Ijoia2V5aWQwMDAxIiwiZXhwIjoxNzY0MDAwMjEwMDAwLCJ0aW1lc3RhbXAiOjE3NjQwMDAwMDAw"
        "MDB9.WvhNeUNssn0T5IxLU4f4Ei-qxglOuU6xUk80UNfELx0"
    )
    with pytest.raises(ValueError, match=r"id\.secret"):
        signing.zhipu_jwt("no-dot", 0)
