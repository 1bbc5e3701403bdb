"""Content of calls: what is masked, cut and committed to."""

from __future__ import annotations

import msgspec
import pytest

from tokenschain.core.audit import content
from tokenschain.core.snapshot.kept_content import KeptContent, kept_of
from tokenschain.infra.security.suite import Suite

MOBILE = "13812345678"
SALT = b"s" * content.SALT_BYTES


def fields(**values: object) -> dict[str, msgspec.Raw]:
    return {name: msgspec.Raw(msgspec.json.encode(value)) for name, value in values.items()}


@pytest.mark.parametrize(
    "data",
    [f'{{"a":"call {MOBILE}"}}', f'{{"{MOBILE}":1}}', f'{{"a":[{{"b":{MOBILE}}}]}}',
     f'{{"arguments":"{{\\"tel\\":\\"{MOBILE}\\"}}"}}', f"no JSON {MOBILE}"],
)  # fmt: skip
def test_personal_data_is_masked_wherever_it_stands(data: str) -> None:
    masked = content.masked_json(data.encode())
    assert MOBILE.encode() not in masked and b"5678" in masked


def test_what_is_nobodys_stays_as_it_is() -> None:
    data = b'{"a":"words","b":[1,2.5,true,null],"c":{"d":""}}'
    assert content.masked_json(data) == data and content.masked_json(b"") == b""
    assert content.masked_json(b'{"user":"ada","n":1}', ("user",)) == b'{"user":"***","n":1}'


def test_what_is_long_is_cut_between_characters_and_says_so() -> None:
    asked = fields(messages="\u5b57" * content.INPUT_BYTES_MAX)
    made = content.made(KeptContent.FULL, SALT, asked, b"{}", b"", False)
    assert made.cut and len(made.input) <= content.INPUT_BYTES_MAX and made.input.decode()
    assert not content.made(KeptContent.FULL, SALT, fields(a=1), b"{}", b"", False).cut
    assert len(content.encode(made)) < content.RECORD_BYTES_MAX


def test_commitments_hide_and_bind(suite: Suite) -> None:
    made = content.made(KeptContent.FULL, SALT, fields(a="x", user="ada"), b"x", b"", False)
    first = content.commitments(suite.mac, made)
    assert made.end_user == "ada" and len(set(first)) == 2
    other = msgspec.structs.replace(made, salt=b"t" * content.SALT_BYTES)
    assert not set(content.commitments(suite.mac, other)) & set(first)
    bare = content.without_words(made)
    assert (bare.input, bare.output, bare.salt) == (b"", b"", SALT)


def test_the_nearest_policy_holds() -> None:
    none, whole, masked = KeptContent.NONE, KeptContent.FULL, KeptContent.REDACTED
    given = {"/": masked, "acme/": whole, "acme/p1": none}
    assert kept_of(given, "acme", "p1") is none and kept_of(given, "acme", "p2") is whole
    assert kept_of(given, "other", "p1") is masked and kept_of({}, "acme", "p1") is none
