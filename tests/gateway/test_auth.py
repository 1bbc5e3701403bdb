"""Authentication: what a key lets through, and what it notes on the call."""

from __future__ import annotations

import msgspec
import pytest

from tests.fakes import BODY, GRANT, call_of
from tokenschain.core.call import Call
from tokenschain.core.errors import ApiError
from tokenschain.core.snapshot import Served, Snapshot
from tokenschain.core.snapshot.shards import encode_shard
from tokenschain.core.tags import NO_TAGS
from tokenschain.core.tenancy import KeyGrant
from tokenschain.gateway.auth import REFUSED_TOLD_S, KeyAuth, credentials_of
from tokenschain.infra.security.suite import GM, INTERNATIONAL

DIGEST = INTERNATIONAL.digest(b"key")


def auth(grant: KeyGrant) -> KeyAuth:
    served = Served(Snapshot("7", {}, {}))
    served.replace_shard(DIGEST[0], encode_shard({DIGEST: grant}))
    return KeyAuth(served, INTERNATIONAL.digest, lambda: 100.0)


def test_the_caller_its_tags_and_the_snapshot_are_noted_and_the_request_stays_as_it_came() -> None:
    call: Call = call_of(BODY)
    call.request.headers[b"x-tc-tags"] = b"subject=math, team=b, more"
    grant = auth(msgspec.structs.replace(GRANT, tags=("team=a", "subject=none"))).authenticate(call)
    assert call.caller is grant and grant.key_id == "key_1"
    assert call.tags.values == {"team": "a", "subject": "none", "more": "more"}
    assert call.snapshot_version == "7"
    assert call.request.headers == {b"x-tc-tags": b"subject=math, team=b, more"}


def test_a_call_without_tags_has_none_made_for_it() -> None:
    call = call_of(BODY)
    auth(GRANT).authenticate(call)
    assert call.tags is NO_TAGS


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"revoked": True}, "api_key_revoked"),
        ({"expires_at_s": 100.0}, "api_key_expired"),
        ({"suspended": "the tenant is closed"}, "account_suspended"),
        ({"networks": ("10.0.0.0/8",)}, "network_not_allowed"),
        ({"apis": ("embeddings",)}, "api_not_allowed"),
    ],
)
def test_a_refused_key_notes_no_caller(change: dict[str, object], code: str) -> None:
    call = call_of(BODY)
    with pytest.raises(ApiError) as caught:
        auth(msgspec.structs.replace(GRANT, **change)).authenticate(call)
    assert caught.value.code == code and call.caller is None


@pytest.mark.parametrize(
    ("headers", "credentials"),
    [
        ({b"authorization": b"Bearer  key "}, (b"key",)),
        ({b"authorization": b"bEARER key"}, (b"key",)),
        ({b"authorization": b"key"}, (b"key",)),
        ({b"authorization": b"Basic a2V5"}, ()),
        ({b"authorization": b"Basic a2V5", b"api-key": b"key"}, (b"key",)),
        ({b"authorization": b"Bearer"}, ()),
        ({b"x-api-key": b" key"}, (b"key",)),
        ({b"authorization": b"Bearer none", b"x-api-key": b"key"}, (b"none", b"key")),
        ({}, ()),
    ],
)
def test_the_key_comes_in_any_header(
    headers: dict[bytes, bytes], credentials: tuple[bytes, ...]
) -> None:
    assert credentials_of(headers) == credentials


def test_wrong_keys_of_an_address_have_a_rate_and_right_ones_from_there_go_on() -> None:
    served, told = Served(Snapshot("7", {}, {})), list[str]()
    served.replace_shard(DIGEST[0], encode_shard({DIGEST: GRANT}))

    def report(event: str, why: str = "", **fields: object) -> None:
        told.append(f"{event} {fields['address']}")

    keys = KeyAuth(served, INTERNATIONAL.digest, lambda: 100.0, 5, report)

    def code(key: bytes, address: str) -> str:
        try:
            keys.grant_of(keys.digest_of((key,)), "", lambda: address)
        except ApiError as error:
            assert error.code != "rate_limit_exceeded" or error.retry_after_s
            return error.code
        return ""

    guesses = [code(b"guess%d" % number, f"2001:db8::{number:x}") for number in range(9)]
    assert guesses == ["invalid_api_key"] * 5 + ["rate_limit_exceeded"] * 4
    assert code(b"key", "2001:db8::1") == "", "who has a key is not locked out by neighbours"
    assert code(b"guess", "10.0.0.1") == "invalid_api_key"
    assert told == ["invalid_keys 2001:db8:0:0::/64"]


def test_a_refused_key_is_said_once_a_minute_with_the_cause_and_counted() -> None:
    served, told, now = Served(Snapshot("7", {}, {})), list[tuple[object, ...]](), [100.0]
    revoked = msgspec.structs.replace(GRANT, revoked=True)
    served.replace_shard(DIGEST[0], encode_shard({DIGEST: revoked}))

    def report(event: str, why: str = "", **fields: object) -> None:
        told.append((event, why, *fields.values()))

    keys = KeyAuth(served, INTERNATIONAL.digest, lambda: now[0], report=report)
    for _ in range(50):
        with pytest.raises(ApiError, match="revoked"):
            keys.grant_of(DIGEST, "", str)
        now[0] += 2.0
    assert told == [
        ("key_refused", "api_key_revoked", GRANT.key_id, GRANT.tenant, GRANT.project, refused)
        for refused in (1, 31)
    ]
    (seen,) = keys.refused_keys
    assert (seen.id, seen.why, seen.refused) == (GRANT.key_id, "api_key_revoked", 50)
    now[0] += REFUSED_TOLD_S
    assert keys.refused_keys == ()


def test_a_key_whose_digest_another_suite_stored_is_known_as_well() -> None:
    served = Served(Snapshot("7", {}, {}))
    served.replace_shard(DIGEST[0], encode_shard({DIGEST: GRANT}))
    others = [suite.digest for suite in GM.others()]
    keys = KeyAuth(served, GM.digest, lambda: 100.0, other_digests=others)
    for found in ((b"key",), (b"placeholder", b"key"), (b"key", b"placeholder")):
        assert keys.digest_of(found) == DIGEST
    assert keys.digest_of((b"other",)) == GM.digest(b"other")
    assert keys.digest_of((b"",)) == keys.digest_of(()) == b""
