"""Redaction: credentials and internal addresses in every form, and nothing else."""

from __future__ import annotations

import base64
import time

from tokenschain.core.redaction import ADDRESS, CREDENTIAL, Redactor

KEY = "sk-UPSTREAM-0123456789abcdef-SECRET"
BASE64 = base64.b64encode(KEY.encode()).decode()
HIDDEN = (
    KEY, KEY[:12], KEY[-12:], BASE64[:12], "Cd2Cd2", "Ab1Ab1", "89abcdef0", "aaaa-bbbb", "7xxx", "XXXX",
)  # fmt: skip
WAYS = [
    KEY, f"Bearer {KEY}", KEY[:14] + "...", "..." + KEY[-14:], f"'{KEY}'", BASE64, f"x{KEY}y",
    base64.b64encode(f"user:{KEY}".encode()).decode(), base64.b64encode(f"u:{KEY}".encode()).decode(),
    "AKIAABCDEFGHIJKLMNOP", "sk-ant-api03-AAAABBBBCCCCDDDD", "LTAI5tABCDEFGHIJKLMNOPQR",
    "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJ4In0.abcdefgh", "authorization: Bearer other-tenants-token",
    "postgresql://admin:hunter22@db.example.com/x", "-----BEGIN RSA PRIVATE KEY-----\nabc",
    f"tct-{'Cd2' * 14}", f"tcs-{'Ab1' * 14}",
    "https://oapi.dingtalk.com/robot/send?access_token=0123456789abcdef0123",
    "https://open.feishu.cn/open-apis/bot/v2/hook/5d0f7c3e-aaaa-bbbb-cccc-1234567890ab",
    "https://qyapi.weixin.qq.com/cgi-bin/webhook/send?key=693a91f6-7xxx-4bc4-97a0-0ec2sifa5aaa",
    "https://hooks.slack.com/services/T00000000/B00000000/XXXXXXXXXXXXXXXXXXXXXXXX",
]  # fmt: skip
ADDRESSES = [
    "10.0.0.3", "10.0.0.3:8000", "127.0.0.1", "172.16.3.4", "192.168.1.1", "169.254.169.254",
    "100.64.0.1", "[::1]:80", "::1", "fe80::1", "fd00:ec2::254", "::ffff:10.0.0.1",
    "localhost:8000", "redis.svc.cluster.local:6379", "node-3.internal", "http://vllm-3:8000/v1",
    "gpu.example.com", "ray-head:10001",
]  # fmt: skip


def test_credentials_and_addresses_are_found_in_every_form() -> None:
    redactor = Redactor(
        lambda: frozenset({KEY}), lambda: frozenset({"gpu.example.com", "ray-head"})
    )
    for way in WAYS:
        found = redactor.text(f"before {way} after")
        assert CREDENTIAL in found and "before" in found, found
        assert not any(text in found for text in HIDDEN) and "hunter22" not in found
    for address in ADDRESSES:
        found = redactor.text(f"cannot reach {address} now")
        assert ADDRESS in found and address not in found, found


def test_credentials_are_found_behind_colours() -> None:
    redactor = Redactor()
    for prefix in ("tc-", "tca-", "tcl-", "sk-"):
        key = f"{prefix}a1B2c3D4e5F6g7H8i9J0"
        assert key not in redactor.secret_free(f"API key \x1b[1m{key}\x1b[0m, \x1b[m{key}")


def test_ordinary_words_stay() -> None:
    redactor = Redactor(lambda: frozenset({KEY}), lambda: frozenset({"sim"}))
    for text in (
        "This model's maximum context length is 8192 tokens; you requested 9000 (10:20:30).",
        "Invalid value for `messages[0].content`: at std::vector, version 1.2.3, see 8.8.8.8 or "
        "https://api.example.com:8080/docs", "The upstream `sim`: it failed (HTTP 500).",
        "localised task-sk-learn; the basic plan; 0.5:1; a::b", "请求参数错误：温度必须在 0 到 2 之间",
    ):  # fmt: skip
        assert redactor.text(text) == text


def test_redaction_is_linear() -> None:
    redactor = Redactor(lambda: frozenset({KEY}), lambda: frozenset({"a.b"}))
    for piece in (":", "a.", "1.", "[:", "0:", "-", "bearer ", "a:@", "://", "eyJa.", "a.local-"):
        small, large = (_steps(redactor, piece, count) for count in (2_000, 20_000))
        assert large < 60 * small + 1.0, piece


def _steps(redactor: Redactor, piece: str, count: int) -> float:
    began = time.process_time()
    redactor.text(piece * count)
    return time.process_time() - began
