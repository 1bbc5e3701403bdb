"""Stored credentials on their way to gateways."""

from __future__ import annotations

from pathlib import Path

import pytest

from tokenschain.core.snapshot import Served, Snapshot
from tokenschain.infra.security import credentials
from tokenschain.infra.security.secrets import SecretMissing, Vault
from tokenschain.infra.security.suite import Suite

OLD, NEW = "o" * 43, "n" * 43


def test_a_gateway_opens_what_control_sealed_and_nothing_else(suite: Suite) -> None:
    control = credentials.sealer_of(suite, lambda ring=(NEW, OLD): ring)
    sealed = control.seal_alike(credentials.place_of("acme/k"), b"sk-1")
    published = {"acme/k": sealed, "beta/k": sealed}
    gateway = credentials.sealer_of(suite, lambda ring=(OLD, NEW): ring)
    assert credentials.opened("stored:acme/k", gateway, published) == "sk-1"
    stranger = credentials.sealer_of(suite, lambda ring=(OLD,): ring)
    for reference, sealer in (
        ("stored:beta/k", gateway), ("stored:/k", gateway), ("stored:acme/k", stranger),
    ):  # fmt: skip
        with pytest.raises(SecretMissing):
            credentials.opened(reference, sealer, published)


def test_the_same_secret_gives_the_same_bytes_in_its_place_only(suite: Suite) -> None:
    sealer = credentials.sealer_of(suite, lambda: (NEW,))
    one, two = credentials.place_of("/a"), credentials.place_of("/b")
    assert sealer.seal_alike(one, b"sk-1") == sealer.seal_alike(one, b"sk-1")
    assert len({sealer.seal_alike(one, b"sk-1"), sealer.seal_alike(two, b"sk-1"),
                sealer.seal_alike(one, b"sk-2")}) == 3  # fmt: skip


def test_why_there_is_no_credential_is_said_when_that_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suite: Suite
) -> None:
    said: list[str] = []
    served = Served()
    served.serve("1", Snapshot("1", {}, {}), {})
    vault = Vault(tmp_path / "vault", tmp_path / "key", suite)
    report = lambda event, why="", **_: said.append(why)  # noqa: E731
    known = credentials.UpstreamCredentials(suite, lambda: (NEW,), vault, served, report)
    monkeypatch.delenv("MODEL_KEY", raising=False)
    assert known.find("env:MODEL_KEY") is known.find("env:MODEL_KEY") is None
    assert len(said) == 1
    monkeypatch.setenv("MODEL_KEY", "sk-1\nx: y")
    assert known.find("env:MODEL_KEY") is None
    assert len(said) == 2
    assert "line feed" in said[1]
    assert "sk-1" not in said[1]
    monkeypatch.setenv("MODEL_KEY", "sk-1")
    assert known.find("env:MODEL_KEY") == "sk-1"
    assert known.find("stored:/k") is None
    assert len(said) == 3
