"""CORS: which browsers may call, and the headers that they may send and read (Fetch, 3.2)."""

from __future__ import annotations

import re

REQUEST_HEADERS = (
    "authorization", "content-type", "accept", "api-key", "x-api-key", "idempotency-key",
    "traceparent", "openai-organization", "openai-project", "openai-beta", "anthropic-version",
    "anthropic-beta", "anthropic-dangerous-direct-browser-access", "x-stainless-arch",
    "x-stainless-lang", "x-stainless-os", "x-stainless-package-version",
    "x-stainless-retry-count", "x-stainless-runtime", "x-stainless-runtime-version",
    "x-stainless-timeout", "x-stainless-helper-method", "x-tc-tags", "x-tc-cache",
    "x-tc-unsupported", "x-tc-priority", "x-tc-deadline-ms", "x-tc-route", "x-tc-audit-receipt",
)  # fmt: skip
"""What the official JavaScript SDKs send, and our own; others are allowed when asked for."""
ANSWER_HEADERS = (
    "x-request-id", "request-id", "x-tc-upstream", "x-tc-cache", "x-tc-cache-key",
    "x-tc-cache-confidence", "x-tc-cost", "x-tc-overhead-ms", "x-tc-adapted", "x-tc-dropped",
    "x-tc-emulated", "x-tc-route", "x-tc-aigc", "x-ratelimit-limit-requests",
    "x-ratelimit-limit-tokens", "x-ratelimit-remaining-requests",
    "x-ratelimit-remaining-tokens", "x-ratelimit-reset-requests", "x-ratelimit-reset-tokens",
    "x-tc-audit-receipt", "age", "allow", "retry-after", "www-authenticate",
)  # fmt: skip
METHODS = "GET, HEAD, POST, DELETE, OPTIONS"
_ASKED_BYTES_MAX = 2_048
_NAMES = re.compile(rb"[A-Za-z0-9!#$%&'*+.^_`|~-]+(?:[ \t]*,[ \t]*[A-Za-z0-9!#$%&'*+.^_`|~-]+)*")
_DEFAULT_NAMES = ", ".join(REQUEST_HEADERS).encode()


class Cors:
    """The header lines for callers in a browser, by their origin."""

    def __init__(self, origins: tuple[str, ...]) -> None:
        """
        Args:
            origins: those that may call; `*` allows all.
        """
        exposed = ", ".join(ANSWER_HEADERS).encode()
        self._lines = {
            origin.encode(): b"access-control-allow-origin: %b\r\nvary: origin\r\n"
            b"access-control-expose-headers: %b\r\n" % (origin.encode(), exposed)
            for origin in origins
        }

    def lines(self, headers: dict[bytes, bytes]) -> bytes:
        """For an answer; nothing when the caller's origin is not allowed."""
        if not self._lines:
            return b""
        return self._lines.get(headers.get(b"origin", b"")) or self._lines.get(b"*") or b""

    def preflight(self, headers: dict[bytes, bytes]) -> bytes:
        """For the answer to a preflight: the headers that are asked for are allowed."""
        lines = self.lines(headers)
        if not lines:
            return b""
        asked = headers.get(b"access-control-request-headers", b"")
        if len(asked) > _ASKED_BYTES_MAX or not _NAMES.fullmatch(asked):
            asked = _DEFAULT_NAMES
        return (
            b"%baccess-control-allow-methods: %b\r\naccess-control-allow-headers: %b\r\n"
            b"vary: access-control-request-headers\r\naccess-control-max-age: 600\r\n"
        ) % (lines, METHODS.encode(), asked)
