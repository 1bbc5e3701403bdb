"""Cache-Control directives of a call, and what may be cached for how long."""

from __future__ import annotations

import re
from typing import Any, NamedTuple

import msgspec

from tokenschain.core.errors import ApiError
from tokenschain.core.snapshot.cache_rules import CacheRules

VOLATILE_TTL_S = 300.0


_DIRECTIVE = re.compile(r"(no-cache|no-store|only-if-cached|max-age=(\d{1,9}))", re.ASCII)


_VOLATILE = re.compile(
    r"今天|今日|昨天|明天|现在|当前|目前|刚才|最新|最近|实时|此刻|本周|本月|今年|几点|天气|股价|汇率|"
    r"\b(?:today|tonight|yesterday|tomorrow|now|current(?:ly)?|latest|recent(?:ly)?|"
    r"this (?:week|month|year)|weather|stock price|exchange rate|what time)\b",
    re.IGNORECASE,
)


_PERSONAL = re.compile(
    r"我的?(?:订单|余额|账户|帐户|账号|快递|包裹|工资|保单|积分|会员|名字|密码)|"
    r"\bmy (?:\w+ ){0,2}?(?:orders?|balance|account|package|parcel|salary|policy|points|"
    r"subscription|name|password|invoice|bill|appointment)\b",
    re.IGNORECASE,
)


class Directives(NamedTuple):
    """What the caller says in `x-tc-cache`."""

    look: bool = True
    store: bool = True
    only: bool = False
    max_age_s: float = 1e12


EVERYTHING = Directives()


def directives_of(header: bytes | None) -> Directives:
    """Read `x-tc-cache`.

    Raises:
        ApiError: `invalid_value`.
    """
    if header is None:
        return EVERYTHING
    look, store, only, age = True, True, False, 1e12
    for word in header.decode("latin-1").lower().split(","):
        found = _DIRECTIVE.fullmatch(word.strip())
        if found is None:
            raise ApiError(
                "invalid_value",
                "`x-tc-cache` holds: no-cache, no-store, only-if-cached, max-age=SECONDS.",
                param="x-tc-cache",
            )
        name = found.group(1)
        look = look and name not in ("no-cache", "no-store")
        store = store and name != "no-store"
        only = only or name == "only-if-cached"
        if found.group(2):
            age = float(found.group(2))
    return Directives(look or only, store, only, age)


def ttl_of(rules: CacheRules, question: str, of_user: bool) -> float | str:
    """How long an answer to a question may be given, seconds; or why not at all.

    Args:
        of_user: whether it is given to the same user only.
    """
    if question and not of_user and _PERSONAL.search(question):
        return "personal"
    if question and _VOLATILE.search(question):
        return min(VOLATILE_TTL_S, rules.ttl_s)
    return rules.ttl_s


def refusal_of(body: bytes, rules: CacheRules) -> str:
    """Why a whole canonical reply may not be cached; empty when it may."""
    if len(body) > rules.entry_bytes_max:
        return "too_large"
    try:
        reply = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return "not_json"
    if not isinstance(reply, dict) or reply.get("error"):
        return "error"
    choices = reply.get("choices")
    if choices is None:
        return ""  # embeddings and ranks
    if not isinstance(choices, list) or len(choices) != 1:
        return "choices"
    choice = choices[0]
    message: Any = choice.get("message") or {}
    tools = bool(message.get("tool_calls") or message.get("function_call"))
    if tools and not rules.tool_calls:
        return "tool_calls"
    if message.get("refusal") or message.get("audio"):
        return "refusal"
    finish = choice.get("finish_reason")
    if finish != "stop" and not (tools and finish in ("tool_calls", "function_call")):
        return f"finish_{finish}"
    if not tools and not (message.get("content") or choice.get("text")):
        return "empty"
    return ""
