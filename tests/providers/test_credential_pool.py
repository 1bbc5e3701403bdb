"""The platform's own keys: turns, rests, rotation without restart, sealed at rest."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.stack import PRICES, Stack
from tests.vendors.simulators import KEY, PROFILES, Simulator
from tests.waiting import until
from tokenschain.core.snapshot import Upstream
from tokenschain.infra.security.secrets import SecretMissing, Vault, resolve
from tokenschain.infra.security.suite import Suite
from tokenschain.providers.credential_pool import KeyRing, KeyState
from tokenschain.providers.images import ImageFetcher
from tokenschain.providers.openai_compat.upstreams import HttpUpstreams
from tokenschain.providers.vendor_table import vendor_of
from tokenschain.wire.client import HttpClient


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_a_key_rests_on_when_something_else_of_its_upstream_changes() -> None:
    """A drain or another limit is no reason to ask with a key that was refused."""
    client = HttpClient()
    clouds = HttpUpstreams(
        client, {"env:A": "sk-a"}.get, vendor_of, lambda *_: None, ImageFetcher(client)
    )
    before = Upstream("u", "custom", "https://u.example/v1", ("env:A",))

    def states(now: Upstream) -> list[str]:
        clouds.without_key([now])
        clouds.keep_only([now])
        return [key.state for key in clouds.key_states()["u"]]

    assert states(before) == [KeyState.READY]
    clouds.heard("u", 1, KeyState.DEAD, 600.0)
    assert states(msgspec.structs.replace(before, drain=True, zone="cn")) == [KeyState.DEAD]
    elsewhere = msgspec.structs.replace(before, base_url="https://other.example/v1")
    assert states(elsewhere) == [KeyState.READY], "another place may well take it"


def ring(values: dict[str, str], clock: Clock, told: list[Any]) -> KeyRing:
    return KeyRing(list(values), values.get, clock, lambda n, state, *_: told.append((n, state)))


def test_keys_take_turns_and_those_blamed_rest() -> None:
    clock, told = Clock(), []
    keys = ring({"env:A": "a", "env:B": "b", "env:C": "c"}, clock, told)
    first = [keys.take() for _ in range(4)]
    assert [k.value for k in first if k] == ["a", "b", "c", "a"]
    for key in first:
        assert key is not None
        key.end()
    second = first[1]
    assert second is not None
    keys.blame(second, "upstream_rate_limited", 7.0)
    assert [k.value for _ in range(4) if (k := keys.take())] == ["c", "a", "c", "a"]
    clock.now += 7.0
    assert "b" in [k.value for _ in range(3) if (k := keys.take())]
    assert told == [(2, KeyState.COOLING)], "nobody knows yet whether it is taken again"
    keys.answered(second)
    assert told == [(2, KeyState.COOLING), (2, KeyState.READY)]
    keys.blame(second, "upstream_rejected_credentials", None)
    keys.blame(second, "upstream_rejected_credentials", None)
    clock.now += 600.0
    keys.blame(second, "upstream_rejected_credentials", None)
    assert told[2:] == [(2, KeyState.DEAD)] * 2, "once, and once more when it was tried again"


def test_when_all_rest_it_is_known_for_how_long() -> None:
    clock = Clock()
    keys = ring({"env:A": "a", "env:B": "b"}, clock, [])
    for code in ("upstream_rejected_credentials", "upstream_out_of_funds"):
        key = keys.take()
        assert key is not None
        keys.blame(key, code, None)
    assert keys.take() is None
    assert keys.ready_in_s == 300.0


def test_a_rate_limit_teaches_a_key_how_many_calls_it_takes() -> None:
    clock = Clock()
    keys = ring({"env:A": "a", "env:B": "b"}, clock, [])
    held = [keys.take() for _ in range(20)]
    first = held[0]
    assert first is not None and first.inflight == 10
    keys.blame(first, "upstream_rate_limited", 1.0)
    assert first.calls_max == pytest.approx(7.0)
    clock.now += 1.0
    for key in held:
        assert key is not None
        key.end()
    again = [keys.take() for _ in range(20)]
    taken = [key.value for key in again if key is not None]
    assert (taken.count("a"), taken.count("b")) == (7, 13)  # what one has no room for
    for _ in range(8):
        keys.answered(first)
    assert 8.0 < first.calls_max < 9.0  # one more for each round of answers


def test_what_another_gateway_says_of_a_key_is_taken_over_and_not_told_on() -> None:
    clock, told = Clock(), []
    keys = ring({"env:A": "a", "env:B": "b"}, clock, told)
    keys.heard(1, KeyState.COOLING, 5.0)
    assert [k.value for _ in range(3) if (k := keys.take())] == ["b", "b", "b"]
    clock.now += 5.0
    assert "a" in [k.value for _ in range(2) if (k := keys.take())]
    assert told == []
    keys.answered(keys.keys[0])
    assert told == [(1, KeyState.READY)]


def test_a_changed_value_is_a_new_key() -> None:
    values, clock = {"env:A": "a", "env:B": "b"}, Clock()
    keys = ring(values, clock, [])
    key = keys.take()
    assert key is not None and key.value == "a"
    keys.blame(key, "upstream_rejected_credentials", None)
    values["env:A"] = "a2"
    keys.refresh()
    assert {k.value for _ in range(2) if (k := keys.take())} == {"a2", "b"}


def test_what_is_sealed_is_unreadable_without_its_key_and_name(
    tmp_path: Path, suite: Suite
) -> None:
    vault = Vault(tmp_path / "sealed", tmp_path / "master", suite)
    vault.store("cloud", "s3cret-value")
    raw = (tmp_path / "sealed" / "cloud.sealed").read_bytes()
    assert b"s3cret" not in raw
    assert resolve("sealed:cloud", vault) == "s3cret-value"
    (tmp_path / "sealed" / "other.sealed").write_bytes(raw)
    with pytest.raises(SecretMissing):
        vault.read("other")
    (tmp_path / "sealed" / "cloud.sealed").write_bytes(raw[:-1] + bytes([raw[-1] ^ 1]))
    with pytest.raises(SecretMissing):
        vault.read("cloud")
    (tmp_path / "sealed" / "cloud.sealed").write_bytes(raw)
    with pytest.raises(SecretMissing):
        Vault(tmp_path / "sealed", tmp_path / "another-master", suite).read("cloud")
    with pytest.raises(SecretMissing):
        vault.store("../evil", "x")


def test_a_bad_key_is_passed_over_and_a_new_one_needs_no_restart(tmp_path: Path) -> None:
    cloud = Simulator("openai", PROFILES["openai"])
    entry = {
        "id": "cloud",
        "provider": "openai",
        "base_url": cloud.base_url,
        "credential": ["env:BAD_KEY", "sealed:good"],
        "models": ["m"],
        "prices": {"m": PRICES},
    }
    stack = Stack(tmp_path, "http://unused", upstreams=[entry])
    stack.environment["BAD_KEY"] = "CANARY-bad-key"

    def command(*arguments: str, said: str = "") -> str:
        return subprocess.run(
            [sys.executable, "-m", "tokenschain", "secrets", *arguments],
            env=stack.environment, input=said, capture_output=True, text=True, check=True,
        ).stdout  # fmt: skip

    try:
        stack.start()
        refused = stack.chat(model="m")
        assert refused.json()["error"]["code"] == "upstream_rejected_credentials"
        assert "CANARY" not in refused.text
        command("set", "good", said=KEY)
        assert command("list").split() == ["name", "good"]
        until(lambda: stack.chat(model="m").status_code == 200)
        row = stack.row_of(stack.chat(model="m"))
        assert row["outcome"] == "ok"
        log = stack.read_log()
        assert "upstream_key_dead" in log and KEY not in log and "CANARY" not in log
    finally:
        stack.close()
        cloud.close()
