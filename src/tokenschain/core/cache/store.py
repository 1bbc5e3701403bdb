"""The rules of giving an answer twice, and the store of those given lately.

Whether a call may take from the cache or leave something in it is decided by policy, by the
caller's `x-tc-cache` and by the answer itself; each refusal has a reason.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from typing import Any, Literal, NamedTuple

import msgspec

from tokenschain.core.errors import ApiError
from tokenschain.core.snapshot.routing_policy import narrowest

WRONG_MAX = 0.01
"""Share of wrong answers among those given from the cache, where nothing else was agreed."""
SMALL_SHARE = 0.1
FREQUENCY_MAX = 3
"""S3-FIFO (SOSP 2023): a tenth for newcomers, two bits of frequency."""
DEAR_WEIGHT = 3
"""A request for an answer that saves more than others, for its size, counts as so many."""
WORTH_MEMORY = 0.999
LOOKED_AT = 8
"""Tenants, of which the one with most answers gives way."""
ENTRY_OVERHEAD_BYTES = 400
TTL_JITTER = 0.1
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

Mode = Literal["off", "exact", "semantic"]


class CacheRules(msgspec.Struct, frozen=True):
    """How answers are given a second time; see `infra.config.CacheSettings` for the units."""

    mode: Mode = "off"
    policies: dict[str, Mode] = {}
    """By `tenant/NAME`, `project/NAME` or `model/NAME`; a model's beats a project's, that a
    tenant's."""
    scope: Literal["project", "user"] = "project"
    ttl_s: float = 86_400.0
    temperature_max: float = 0.3
    entry_bytes_max: int = 262_144
    memory_bytes_max: int = 67_108_864
    tenant_share: float = 0.5
    writes_per_minute: int = 600
    tool_calls: bool = False
    hit_price: float = 0.0
    wrong_max: dict[str, float] = {}
    replay_chars_per_s: float = 0.0
    flushed: dict[str, float] = {}
    """What was stored until then is no longer given: Unix times by `flush_name`."""

    def mode_of(self, tenant: str, project: str, model: str) -> Mode:
        """The mode in force for a call."""
        return narrowest(self.policies, tenant, project, model, self.mode)

    def wrong_max_of(self, tenant: str, project: str, model: str) -> float:
        """The share of wrong answers agreed for a call."""
        agreed = self.wrong_max
        return narrowest(agreed, tenant, project, model, agreed.get("*", WRONG_MAX))

    def flushed_at(self, tenant: str, project: str, model: str) -> float:
        """When the last answers that a call could get were dropped."""
        flushed = self.flushed
        if not flushed:
            return 0.0
        names = (
            flush_name(""), flush_name(tenant), flush_name(tenant, "project", project),
            flush_name("", "model", model), flush_name(tenant, "model", model),
        )  # fmt: skip
        return max(flushed.get(name, 0.0) for name in names)


def flush_name(tenant: str, part: str = "", value: str = "") -> str:
    """What is dropped: of one tenant or of all, everything or one `project`, `model`, `tag`
    (as `name=value`) or `entry` (its key in hex)."""
    return f"{tenant}/{part}/{value}"


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


class Entry(msgspec.Struct, array_like=True):
    """One answer as it is kept: canonical and whole, whatever form it was given in first."""

    body: bytes
    tenant: str
    model_served: str
    stored_s: float
    """Unix time."""
    expires_s: float
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost_pico: int | None = None
    """What it cost then; None when the price was unknown."""
    currency: str = ""
    price_version: str = ""
    tags: tuple[str, ...] = ()
    question: str = ""


encode_entry = msgspec.msgpack.Encoder().encode
decode_entry = msgspec.msgpack.Decoder(Entry).decode


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
    """Why a whole canonical reply may not be given again; empty when it may."""
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


class Shelf:
    """Answers in memory, by key, within so many bytes.

    Each tenant has a queue of its own and no more than its share of the bytes; where all is full,
    one that has much gives way.
    """

    def __init__(self, bytes_max: int, tenant_share: float) -> None:
        self._bytes_max = bytes_max
        self._tenant_max = int(bytes_max * tenant_share)
        self._homes: dict[bytes, _Queue] = {}
        self._queues: OrderedDict[str, _Queue] = OrderedDict()
        self.bytes_held = 0

    def __len__(self) -> int:
        return len(self._homes)

    def get(self, key: bytes, now_s: float) -> Entry | None:
        """The answer under a key, unless it is too old."""
        queue = self._homes.get(key)
        if queue is None:
            return None
        entry = queue.ask_for(key)
        if entry.expires_s <= now_s:
            self.drop(key)
            return None
        return entry

    def put(self, key: bytes, entry: Entry) -> bool:
        """Keep an answer; false when it alone is more than a tenant's share."""
        self.drop(key)
        size = len(entry.body) + ENTRY_OVERHEAD_BYTES
        if size > self._tenant_max:
            return False
        queue = self._queues.get(entry.tenant)
        if queue is None:
            queue = self._queues[entry.tenant] = _Queue()
        while queue.bytes_held + size > self._tenant_max:
            self._evict(queue)
        while self.bytes_held + size > self._bytes_max:
            self._evict(self._large())
        queue.add(key, entry, size)
        self._queues.setdefault(entry.tenant, queue)
        self._homes[key] = queue
        self.bytes_held += size
        return True

    def drop(self, key: bytes) -> None:
        """Forget an answer; nothing happens when there is none."""
        queue = self._homes.pop(key, None)
        if queue is not None:
            tenant, size = queue.remove(key)
            self.bytes_held -= size
            if not queue.bytes_held:
                del self._queues[tenant]

    def _evict(self, queue: _Queue) -> None:
        self.drop(queue.victim())

    def _large(self) -> _Queue:
        """A queue that holds much: the largest of the next few."""
        some = [next(iter(self._queues))]
        for _ in range(min(LOOKED_AT, len(self._queues))):
            name = next(iter(self._queues))
            self._queues.move_to_end(name)
            some.append(name)
        return max((self._queues[name] for name in some), key=lambda queue: queue.bytes_held)


class _Queue:
    """One tenant's answers: S3-FIFO over bytes.

    Newcomers wait in a small queue; who is asked for there moves to the main one, who is not
    leaves and is remembered for a while, so that coming back counts as being asked for. What cost
    more than the average of its size stays longer.
    """

    __slots__ = (
        "_dear", "_entries", "_frequency", "_ghosts", "_main", "_small", "_small_bytes", "_worth",
        "bytes_held",
    )  # fmt: skip

    def __init__(self) -> None:
        self._entries: dict[bytes, Entry] = {}
        self._frequency: dict[bytes, int] = {}
        self._small: OrderedDict[bytes, int] = OrderedDict()
        self._main: OrderedDict[bytes, int] = OrderedDict()
        self._ghosts: OrderedDict[bytes, None] = OrderedDict()
        self._dear: set[bytes] = set()
        self._worth = 0.0
        self._small_bytes = self.bytes_held = 0

    def ask_for(self, key: bytes) -> Entry:
        """An answer that is there."""
        weight = DEAR_WEIGHT if key in self._dear else 1
        self._frequency[key] = min(self._frequency[key] + weight, FREQUENCY_MAX * weight)
        return self._entries[key]

    def add(self, key: bytes, entry: Entry, size: int) -> None:
        """Keep an answer that is not there yet."""
        self._entries[key] = entry
        self._frequency[key] = 0
        worth = (entry.cost_pico or 0) / size
        self._worth = worth + WORTH_MEMORY * (self._worth - worth) if self._worth else worth
        if worth > self._worth:
            self._dear.add(key)
        self.bytes_held += size
        if key in self._ghosts:
            del self._ghosts[key]
            self._main[key] = size
        else:
            self._small[key] = size
            self._small_bytes += size

    def remove(self, key: bytes) -> tuple[str, int]:
        """Forget an answer that is there; its tenant and size."""
        del self._frequency[key]
        self._dear.discard(key)
        size = self._small.pop(key, 0)
        self._small_bytes -= size
        size = size or self._main.pop(key)
        self.bytes_held -= size
        return self._entries.pop(key).tenant, size

    def victim(self) -> bytes:
        """Whose turn it is to leave; it is remembered if it was new."""
        while True:
            if self._small and (
                self._small_bytes > SMALL_SHARE * self.bytes_held or not self._main
            ):
                key, size = next(iter(self._small.items()))
                if not self._frequency[key]:
                    self._ghosts[key] = None
                    while len(self._ghosts) > max(16, len(self._entries)):
                        self._ghosts.popitem(last=False)
                    return key
                del self._small[key]
                self._small_bytes -= size
                self._main[key] = size
                self._frequency[key] = 0
                continue
            key = next(iter(self._main))
            if not self._frequency[key]:
                return key
            self._frequency[key] -= 1
            self._main.move_to_end(key)
