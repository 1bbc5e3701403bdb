"""Public names use the glossary's words, one meaning each, and none that was given up."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pytest

from tests.house.public_names import public_names, words_of
from tests.house.tree import DOCS, ROOT, pages

GLOSSARY = DOCS / "glossary.md"
PLAIN = frozenset(
    [
        "abilities",
        "access",
        "address",
        "after",
        "age",
        "ages",
        "allow",
        "allowed",
        "amount",
        "answers",
        "asked",
        "at",
        "auth",
        "authorization",
        "availability",
        "backup",
        "balance",
        "base",
        "body",
        "burst",
        "busy",
        "by",
        "byte",
        "bytes",
        "ca",
        "cached",
        "callback",
        "cancel",
        "certificate",
        "chars",
        "chat",
        "checked",
        "claim",
        "client",
        "closed",
        "cny",
        "code",
        "comment",
        "completions",
        "concurrent",
        "confirm",
        "conflict",
        "connect",
        "connections",
        "content",
        "context",
        "cors",
        "count",
        "create",
        "csv",
        "ctx",
        "currency",
        "cursor",
        "custom",
        "database",
        "day",
        "days",
        "deadline",
        "decides",
        "delete",
        "denied",
        "deny",
        "detail",
        "diff",
        "dimensions",
        "dingtalk",
        "dir",
        "disabled",
        "disconnect",
        "doctor",
        "dropped",
        "dry",
        "email",
        "embeddings",
        "enabled",
        "entries",
        "error",
        "evaluate",
        "exceeded",
        "expired",
        "expires",
        "explain",
        "export",
        "failed",
        "feedback",
        "feishu",
        "file",
        "filter",
        "first",
        "flush",
        "found",
        "from",
        "full",
        "funds",
        "gone",
        "grace",
        "group",
        "groups",
        "hard",
        "head",
        "headers",
        "heartbeat",
        "high",
        "host",
        "http",
        "idempotency",
        "idle",
        "if",
        "image",
        "implemented",
        "input",
        "insufficient",
        "internal",
        "interrupted",
        "interval",
        "invalid",
        "issuer",
        "items",
        "json",
        "keep",
        "kind",
        "kinds",
        "language",
        "large",
        "lasts",
        "latency",
        "length",
        "limited",
        "list",
        "livez",
        "loc",
        "locked",
        "log",
        "login",
        "low",
        "malformed",
        "master",
        "max",
        "me",
        "media",
        "memory",
        "message",
        "messages",
        "method",
        "metrics",
        "migrate",
        "min",
        "minute",
        "missing",
        "mode",
        "month",
        "ms",
        "msg",
        "name",
        "needs",
        "network",
        "networks",
        "new",
        "newer",
        "no",
        "not",
        "of",
        "oidc",
        "old",
        "older",
        "on",
        "once",
        "origin",
        "origins",
        "out",
        "output",
        "overhead",
        "overlap",
        "overloaded",
        "overrides",
        "param",
        "parameter",
        "parquet",
        "password",
        "path",
        "payload",
        "period",
        "plots",
        "policies",
        "port",
        "precondition",
        "preview",
        "prompt",
        "proxies",
        "proxy",
        "public",
        "pull",
        "queue",
        "readyz",
        "reason",
        "redis",
        "reference",
        "rejected",
        "remove",
        "replay",
        "replicas",
        "reply",
        "reproducible",
        "request",
        "requests",
        "required",
        "resident",
        "response",
        "responses",
        "retry",
        "reverse",
        "revoke",
        "revoked",
        "right",
        "rotate",
        "run",
        "running",
        "s",
        "scenario",
        "scope",
        "seconds",
        "secret",
        "secrets",
        "seeds",
        "sender",
        "served",
        "server",
        "service",
        "set",
        "share",
        "ship",
        "show",
        "simulate",
        "smtp",
        "soft",
        "source",
        "spend",
        "stall",
        "stalled",
        "start",
        "state",
        "stats",
        "stream",
        "streams",
        "suspended",
        "system",
        "tc",
        "temperature",
        "template",
        "threads",
        "timeout",
        "title",
        "tls",
        "to",
        "tokenschain",
        "too",
        "tool",
        "total",
        "totp",
        "trace",
        "traceparent",
        "transaction",
        "trusted",
        "ttl",
        "type",
        "unavailable",
        "unknown",
        "unpriced",
        "unreachable",
        "unshipped",
        "unsupported",
        "until",
        "up",
        "url",
        "urls",
        "usd",
        "user",
        "users",
        "v",
        "value",
        "version",
        "wait",
        "waiting",
        "warm",
        "webhook",
        "wecom",
        "weight",
        "when",
        "whole",
        "window",
        "write",
        "writes",
        "x",
    ]
)
"""Plain English, units, and names of protocols and products: words that need no glossary."""

GIVEN_UP_NAMES = {
    "ages", "asking", "ask", "borrow", "chores", "desk", "dice", "door", "each",
    "endpoint", "endpoints", "form", "forms", "kin", "landlord", "lesson", "likeness", "node",
    "nodes", "organisation", "outlook", "people", "questions", "said", "shelf", "speech", "wish",
    "wrong",
}  # fmt: skip
"""Words of public names that were given up: the left columns of decision 11's tables."""
GIVEN_UP_WHOLE = {"exact", "shared", "of", "entries", "/api/v1/entries", "own_policies",
                  "cache.policies", "routing.policies", "hit-ages-s"}  # fmt: skip
"""Whole names that were given up, whose words go on with another meaning."""
STILL_RIGHT = {"hit-ages", "/api/v1/cache/hit-ages", "cache hit-ages"}
"""New names that have such a word."""
GIVEN_UP_PHRASES = (
    r"answers? given again", r"given again", r"left alone", r"leaves? alone", r"landlord",
    r"\bdoors?\b", r"likeness", r"\boutlook\b", r"wrong_max", r"cache_wrong", r"x-tc-endpoint",
    r"x-tc-cache-likeness", r"/api/v1/(nodes|endpoints|entries)\b", r"cache/(ages|questions)\b",
    r"own_policies", r"\bafresh\b", r"\bthe house\b", r"\bchores?\b", r"\b(no|some|every)body\b",
    r"\bdice\b", r"\bkin\b", r"asked? again and again", r"dear answers", r"tore from",
    r"unknown: (open|closed)", r"catalogue(?!\.yaml)", r"organisation",
)  # fmt: skip
"""What documents no longer say."""
PENDING = {DOCS / "reference" / "commands.md", DOCS / "reference" / "http.md"}
TELL_OF_OLD_NAMES = {*PENDING, DOCS / "guides" / "upgrade.md", *(DOCS / "decisions").glob("*.md")}


def glossary_words() -> list[str]:
    return re.findall(r"^\| ([^|]+?) \|", GLOSSARY.read_text("utf-8"), re.MULTILINE)[1:]


def test_each_word_stands_once_in_the_glossary_with_its_usual_name() -> None:
    counted = Counter(glossary_words())
    assert len(counted) > 80 and not [word for word, count in counted.items() if count > 1]
    rows = [line for line in GLOSSARY.read_text("utf-8").splitlines() if line.startswith("| ")]
    assert "usually called / 常用说法" in rows[0]
    for row in rows[2:]:
        _, _, usual, meaning, _ = row.split("|")
        assert re.search(r"[\u4e00-\u9fff]|SLO", usual) and meaning.strip(), row


@pytest.mark.parametrize("place", sorted(public_names()))
def test_public_names_are_made_of_known_words(place: str) -> None:
    known = {*PLAIN, "catalogue"}
    for word in glossary_words():
        known |= words_of(word)
    unknown = {
        f"{word} ({name})"
        for name in public_names()[place]
        for word in words_of(name)
        if word not in known and word.removesuffix("s") not in known
    }
    assert not unknown, "add the word to docs/glossary.md, or a plain one to PLAIN"


@pytest.mark.parametrize("place", sorted(public_names()))
def test_no_public_name_has_a_word_that_was_given_up(place: str) -> None:
    found = {
        name
        for name in public_names()[place] - STILL_RIGHT
        if words_of(name) & GIVEN_UP_NAMES or name in GIVEN_UP_WHOLE
    }
    assert not found


@pytest.mark.parametrize("page", pages(), ids=lambda page: str(page.relative_to(ROOT)))
def test_no_page_says_what_was_given_up(page: Path) -> None:
    if page in TELL_OF_OLD_NAMES:
        return
    text = page.read_text("utf-8")
    assert not [phrase for phrase in GIVEN_UP_PHRASES if re.search(phrase, text, re.IGNORECASE)]


def test_no_old_name_is_left_in_the_guide_to_new_ones() -> None:
    """Each renamed setting is in the upgrade page, old and new."""
    from tokenschain.infra.config.renamed import RENAMED

    page = (DOCS / "guides" / "upgrade.md").read_text("utf-8")
    assert not [old for old, new in RENAMED.items() if f"| `{old}` | `{new}` |" not in page]
