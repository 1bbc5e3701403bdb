"""Cache partitions: whatever changes an answer, or whose it is, keeps cached answers apart."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests import web
from tests.house.tree import SOURCE
from tests.stack import PRICES, Stack
from tests.upstreams import UpstreamSimulator
from tokenschain.core import tags
from tokenschain.core.tenancy import KeyGrant
from tokenschain.gateway.cache.lookup import ANSWER_HEADERS
from tokenschain.providers.openai_compat.request_bridge import POLICY_HEADER

PLACE = {"tenant": "acme", "project": "p1", "environment": "prod"}
NO_USER: list[dict[str, Any]] = [{}, {"user": None}, {"user": ""}, {"safety_identifier": None}]


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory, upstream: UpstreamSimulator) -> Iterator[Stack]:
    models = ["m", "other"]
    entries = [
        {"id": name, "base_url": upstream.base_url, "models": models, "zone": "own",
         "prices": dict.fromkeys(models, PRICES)}
        for name in ("one", "two")
    ]  # fmt: skip
    chosen = [
        {"model": "m", "upstream": "two", "when": {"tags": ["gold"]}},
        {"model": "m", "upstream": "one"},
    ]
    made = Stack(
        tmp_path_factory.mktemp("partitions"),
        "http://unused",
        upstreams=entries,
        cache={"mode": "exact", "scope": "user"},
        routing={"models": {"virtual": chosen}, "residency": {"class/a": ["own"]}},
    ).start()
    yield made
    made.close()


class Calls:
    """Calls that ask one question of one test, so that none meets another's answer."""

    def __init__(self, stack: Stack, question: str) -> None:
        self._stack = stack
        self._question = question

    def __call__(
        self, key: str, body: Any = None, api: str = "chat/completions", **headers: str
    ) -> str:
        """Whether the answer was cached: what `x-tc-cache` says."""
        asked = {"model": "m", "messages": [{"role": "user", "content": self._question}]}
        more = {"max_tokens": 9} if api == "messages" else {}
        reply: httpx.Response = web.post(
            f"{self._stack.url}/v1/{api}",
            json=asked | more | (body or {}),
            headers={"authorization": f"Bearer {key}"}
            | {name.replace("_", "-"): value for name, value in headers.items()},
            timeout=20,
        )
        assert reply.status_code == 200, reply.text
        return reply.headers["x-tc-cache"].partition(";")[0].partition(" ")[0]


@pytest.fixture
def calls(stack: Stack, request: pytest.FixtureRequest) -> Calls:
    return Calls(stack, request.node.name)


@pytest.fixture(scope="module")
def keys(stack: Stack) -> dict[str, str]:
    fields: dict[str, dict[str, Any]] = {
        "mine": {}, "colleague": {}, "tenant": {"tenant": "other"}, "project": {"project": "p2"},
        "environment": {"environment": "test"}, "data_class": {"data_class": "a"},
    }  # fmt: skip
    return {name: stack.new_key(**PLACE | more) for name, more in fields.items()}


@pytest.mark.parametrize("given", NO_USER, ids=str)
def test_who_names_nobody_shares_with_no_other_key(
    calls: Calls, keys: dict[str, str], given: dict[str, Any]
) -> None:
    assert calls(keys["mine"], given) == "miss"
    assert calls(keys["mine"], given) == "hit-exact"
    for other in NO_USER:
        assert calls(keys["colleague"], other) in ("miss", "hit-exact")
        # The colleague's own answer, once it has one; never mine.
    assert calls(keys["mine"], given) == "hit-exact"


@pytest.mark.parametrize("first", NO_USER, ids=str)
@pytest.mark.parametrize("second", NO_USER, ids=str)
def test_no_spelling_of_nobody_meets_another_keys(
    calls: Calls, keys: dict[str, str], first: dict[str, Any], second: dict[str, Any]
) -> None:
    assert calls(keys["mine"], first) == "miss"
    assert calls(keys["colleague"], second) == "miss"


@pytest.mark.parametrize("name", ["user", "safety_identifier"])
def test_users_are_apart_and_meet_themselves(calls: Calls, keys: dict[str, str], name: str) -> None:
    assert calls(keys["mine"], {name: "ann"}) == "miss"
    assert calls(keys["mine"], {name: "bob"}) == "miss"
    assert calls(keys["mine"]) == "miss"
    assert calls(keys["colleague"], {name: "ann"}) == "hit-exact"
    for other in ("tenant", "project", "environment", "data_class"):
        assert calls(keys[other], {name: "ann"}) == "miss"


def test_users_of_anthropics_api_are_apart_too(calls: Calls, keys: dict[str, str]) -> None:
    users = [{"metadata": {"user_id": name}} for name in ("ann", "bob")]
    assert [calls(keys["mine"], user, "messages") for user in users] == ["miss", "miss"]
    assert calls(keys["colleague"], None, "messages") == "miss"


def test_where_a_virtual_model_leads_is_in_the_key(calls: Calls, keys: dict[str, str]) -> None:
    body = {"model": "virtual", "user": "ann"}
    assert calls(keys["mine"], body) == "miss"
    assert calls(keys["mine"], body, x_tc_tags="gold") == "miss"
    assert calls(keys["mine"], body, x_tc_tags="other") == "hit-exact"


# --- headers ---------------------------------------------------------------------------------

DIFFERENT = {
    "x-tc-unsupported": ("drop", "error"),
    "anthropic-beta": ("output-128k-2025-02-19", "interleaved-thinking-2025-05-14"),
}
"""Two values of each header that changes an answer."""
HARMLESS = {
    "x-tc-cache": "says whether the cache is asked; no part of an answer",
    "x-tc-tags": "chooses where a virtual model leads, which is in the key",
    "x-tc-route": "adds a header that is made anew for each call",
    "x-tc-priority": "who goes first",
    "x-tc-deadline-ms": "how long the call may wait",
    "x-api-key": "who asks, by the key's grant",
    "api-key": "the same",
    "authorization": "the same",
    "anthropic-version": "the form of lists and errors",
    "traceparent": "for records",
    "origin": "who may read the answer in a browser",
    "access-control-request-headers": "for preflight requests, which are no calls",
    "content-type": "a body that is no JSON is refused",
    "content-encoding": "a body that is compressed is refused",
}
READ = re.compile(
    r'headers\.get\(\s*(?:b"([\w-]+)"|(?:\w+\.)?([A-Z_]+)|name)|'
    r'b"([\w-]+)" (?:not )?in (?:\w+\.)*headers'
)
NAMED = {"HEADER": tags.HEADER, "POLICY_HEADER": POLICY_HEADER}


def read_headers() -> set[str]:
    """Every header of a caller's request that the source looks at."""
    files = [*(SOURCE / "gateway").rglob("*.py"), *(SOURCE / "core").rglob("*.py"),
             SOURCE / "providers" / "openai_compat" / "upstreams.py"]  # fmt: skip
    found = {name.decode() for name in ANSWER_HEADERS} | {"x-api-key", "api-key"}
    for path in files:
        for literal, constant, member in READ.findall(path.read_text("utf-8")):
            found |= {name for name in (literal, member) if name}
            found |= {NAMED[constant].decode()} if constant else set()
    return found


def test_each_header_that_is_read_has_a_decision() -> None:
    assert read_headers() == DIFFERENT.keys() | HARMLESS.keys(), "say here what it means"
    assert {name.decode() for name in ANSWER_HEADERS} == DIFFERENT.keys()


@pytest.mark.parametrize("header", DIFFERENT)
@pytest.mark.parametrize("api", ["chat/completions", "messages"])
def test_answers_are_apart_by_each_header_that_changes_them(
    calls: Calls, keys: dict[str, str], header: str, api: str
) -> None:
    one, other = DIFFERENT[header]
    assert calls(keys["mine"], None, api, **{header: one}) == "miss"
    assert calls(keys["mine"], None, api, **{header: one}) == "hit-exact"
    assert calls(keys["mine"], None, api, **{header: other}) == "miss"
    assert calls(keys["mine"], None, api) == "miss"


# --- the key's grant ---------------------------------------------------------------------------

IN_KEY = {"tenant", "project", "environment", "data_class", "key_id"}
NOT_IN_KEY = {
    "models", "apis", "networks", "expires_at_s", "revoked", "suspended",  # refused before
    "account",  # by its project
    "disconnect", "priority", "receipts", "routing_details",  # no part of an answer
    "tags",  # by where a virtual model leads
}  # fmt: skip


def test_each_part_of_a_grant_has_a_decision() -> None:
    assert set(KeyGrant.__struct_fields__) == IN_KEY | NOT_IN_KEY
