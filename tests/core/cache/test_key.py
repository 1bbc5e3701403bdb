"""When two calls ask the same, and when they never do."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from functools import partial
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokenschain.core.cache.key import (
    FIELDS,
    FieldRole,
    Identity,
    Namespace,
    identify,
    normal,
)
from tokenschain.core.formats import openai_chat
from tokenschain.core.formats.anthropic import request_reader
from tokenschain.core.formats.openai_chat import Api
from tokenschain.infra.security.suite import INTERNATIONAL

SPACE = Namespace("t", "p", "e", "", "", "m", "m", "", "")
DIGEST = partial(INTERNATIONAL.keyed_digest, b"k" * 32)
SYSTEM = {"role": "system", "content": "You sell shoes."}
USER = {"role": "user", "content": "How do I return a pair?"}
BODY: dict[str, Any] = {"model": "m", "messages": [SYSTEM, USER]}
TOOLS = [{"type": "function", "function": {"name": "look_up"}}]
NEEDS: dict[str, dict[str, Any]] = {
    "tool_choice": {"tools": TOOLS},
    "top_logprobs": {"logprobs": True},
}
"""Fields that are only allowed beside others."""
OTHERS: dict[str, tuple[Any, Any]] = {
    "stop": ("a", "b"), "logit_bias": ({"1": 1}, {"1": 2}), "seed": (1, 2),
    "tools": (TOOLS, [{"type": "x"}]), "tool_choice": ("auto", "none"),
    "functions": ([{"name": "a"}], [{"name": "b"}]),
    "function_call": ("auto", "none"), "parallel_tool_calls": (True, False),
    "response_format": ({"type": "text"}, {"type": "json_object"}),
    "thinking": ({"type": "enabled"}, {"type": "disabled"}),
    "reasoning_effort": ("low", "high"), "verbosity": ("low", "high"), "top_p": (0.1, 0.2),
    "enable_thinking": (True, False),
    "prompt": ("a", "b"), "input": ("a", "b"), "query": ("a", "b"), "documents": (["a"], ["b"]),
    "suffix": ("a", "b"), "encoding_format": ("float", "base64"),
    "echo": (True, False), "return_documents": (True, False),
    "messages": ([USER], [SYSTEM, USER]),
}  # fmt: skip
"""Two values of each field; numbers where nothing is said."""


def key(body: dict[str, Any], namespace: Namespace = SPACE, api: Api = Api.CHAT) -> Identity:
    found = identify(
        openai_chat.parse(api, json.dumps(body).encode()), namespace, DIGEST, semantic=True
    )
    assert isinstance(found, Identity), found
    return found


def test_every_field_of_a_request_has_a_decision() -> None:
    known = {name for fields in openai_chat.FIELDS.values() for name in fields}
    assert not known - set(FIELDS), "say in core.cache.key what these mean for the cache"


@pytest.mark.parametrize("name", [n for n, part in FIELDS.items() if part in ("key", "exact")])
def test_answers_never_cross_what_must_be_equal(name: str) -> None:
    """Promise of isolation: 0 hits across any field that is part of the key."""
    one, other = OTHERS.get(name, (1, 2))
    api = next((d for d, fields in openai_chat.FIELDS.items() if name in fields), Api.CHAT)
    body = BODY | NEEDS.get(name, {})
    if api is not Api.CHAT:
        body = {"model": "m", "prompt": "x", "input": "x", "query": "x", "documents": ["x"]}
        body = {n: v for n, v in body.items() if n in openai_chat.FIELDS[api]}
    first, second = key(body | {name: one}, api=api), key(body | {name: other}, api=api)
    assert first.key != second.key
    if FIELDS[name] is FieldRole.KEY and first.namespace:
        assert first.namespace != second.namespace or name == "messages"
    else:
        assert not first.namespace, "meanings are compared though this field must be equal"


def test_what_nobody_knows_is_part_of_the_key_and_keeps_meanings_out() -> None:
    plain, odd, other = key(BODY), key(BODY | {"x_new": 1}), key(BODY | {"x_new": 2})
    assert len({plain.key, odd.key, other.key}) == 3
    assert plain.namespace and not odd.namespace


@pytest.mark.parametrize("field", Namespace._fields)
def test_spaces_never_meet(field: str) -> None:
    other = SPACE._replace(**{field: "other"})
    one, two = key(BODY), key(BODY, other)
    assert one.key != two.key and one.namespace != two.namespace


def test_parts_of_a_space_cannot_be_shifted_into_each_other() -> None:
    assert (
        key(BODY, SPACE._replace(tenant="a", project="bc")).key
        != key(BODY, SPACE._replace(tenant="ab", project="c")).key
    )


@pytest.mark.parametrize("name", [n for n, part in FIELDS.items() if part == "never"])
def test_answers_of_one_moment_are_not_kept(name: str) -> None:
    value = {"n": 2, "logprobs": True, "top_logprobs": 3}.get(name, {"x": 1})
    body = NEEDS.get(name, {}) | BODY | {name: value}
    parsed = openai_chat.parse(Api.CHAT, json.dumps(body).encode())
    assert identify(parsed, SPACE, DIGEST) in (name, *NEEDS.get(name, {}))


def test_how_an_answer_travels_does_not_matter() -> None:
    body = BODY | {"stream": True, "stream_options": {"include_usage": True}, "user": "u",
                   "n": 1, "logprobs": False, "stop": None, "metadata": {"a": "b"}}  # fmt: skip
    assert key(body) == key(BODY)


def test_system_prompts_and_conversations_are_hard_partitions() -> None:
    other = {"model": "m", "messages": [{**SYSTEM, "content": "You sell hats."}, USER]}
    assert key(other).namespace != key(BODY).namespace
    talk = {"model": "m", "messages": [SYSTEM, USER, {"role": "assistant", "content": "So."}, USER]}
    assert not key(talk).namespace, "inside a conversation only the whole is compared"
    assert key(talk).key != key(BODY).key
    pictured = [
        {"type": "text", "text": "x"},
        {"type": "image_url", "image_url": {"url": "https://u"}},
    ]
    assert not key({"model": "m", "messages": [{"role": "user", "content": pictured}]}).namespace


_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=8,
)


@given(st.dictionaries(st.from_regex(r"x_[a-z]{1,6}", fullmatch=True), _values), st.randoms())
def test_order_and_blanks_of_json_do_not_matter(
    more: dict[str, Any], random: random.Random
) -> None:
    body = BODY | more
    names = list(body)
    random.shuffle(names)
    shuffled = json.dumps({n: body[n] for n in names}, indent=2, ensure_ascii=False).encode()
    parsed = openai_chat.parse(Api.CHAT, shuffled)
    assert identify(parsed, SPACE, DIGEST, semantic=True) == key(body)


def test_numbers_and_wide_letters_are_the_same_in_any_spelling() -> None:
    assert key(BODY | {"temperature": 0}).key == key(BODY | {"temperature": 0.0}).key
    wide = {"model": "m", "messages": [{"role": "user", "content": "怎么退 ＰＲＯ　版？"}]}
    plain = {"model": "m", "messages": [{"role": "user", "content": " 怎么退  PRO 版? "}]}
    assert key(wide).key == key(plain).key
    assert normal("a\n b") == "a\n b", "lines are meant"
    assert normal("x²") != normal("x2")


def test_digests_are_the_same_in_every_process_and_tell_nothing_without_the_key() -> None:
    code = (
        "from tests.core.cache.test_key import BODY, key;"
        "found = key(BODY); print(found.key.hex(), found.namespace.hex())"
    )
    said = {
        subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True,
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": ":".join(sys.path)},
        ).stdout.strip()
        for seed in ("1", "2")
    }  # fmt: skip
    assert said == {f"{key(BODY).key.hex()} {key(BODY).namespace.hex()}"}
    parsed = openai_chat.parse(Api.CHAT, json.dumps(BODY).encode())
    other = identify(parsed, SPACE, partial(INTERNATIONAL.keyed_digest, b"x" * 32))
    assert isinstance(other, Identity) and other.key != key(BODY).key


@pytest.mark.parametrize(
    ("more", "why"),
    [
        ({"tools": [{"type": "web_search_20250305", "name": "web_search"}]}, "server_tools"),
        ({"mcp_servers": [{"type": "url", "url": "https://a.example", "name": "a"}]},
         "mcp_servers"),
        ({"messages": [{"role": "user", "content": [
            {"type": "document", "source": {"type": "text", "media_type": "text/plain",
             "data": "d"}, "citations": {"enabled": True}}]}]}, "citations"),
        ({"tools": [{"name": "f", "input_schema": {"type": "object"}}]}, ""),
    ],
)  # fmt: skip
def test_messages_whose_answers_hold_more_than_is_cached_bypass_the_cache(
    more: dict[str, Any], why: str
) -> None:
    """Results of server tools and places of citations: a cached answer, and one shared by calls
    in flight, has none of them."""
    body = {"model": "m", "max_tokens": 9, "messages": [USER], **more}
    parsed = request_reader.parse(json.dumps(body).encode())
    found = identify(parsed, SPACE, DIGEST, semantic=True)
    assert found == why if why else isinstance(found, Identity)
