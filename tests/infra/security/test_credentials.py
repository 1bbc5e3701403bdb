"""Stored credentials on their way to gateways."""

from __future__ import annotations

import pytest

from tokenschain.infra.security import credentials
from tokenschain.infra.security.secrets import SecretMissing
from tokenschain.infra.security.suite import INTERNATIONAL

OLD, NEW = "o" * 43, "n" * 43


def test_a_gateway_opens_what_control_sealed_and_nothing_else() -> None:
    control = credentials.sealer_of(INTERNATIONAL, lambda ring=(NEW, OLD): ring)
    sealed = control.seal_alike(credentials.place_of("acme/k"), b"sk-1")
    published = {"acme/k": sealed, "beta/k": sealed}
    gateway = credentials.sealer_of(INTERNATIONAL, lambda ring=(OLD, NEW): ring)
    assert credentials.opened("stored:acme/k", gateway, published) == "sk-1"
    stranger = credentials.sealer_of(INTERNATIONAL, lambda ring=(OLD,): ring)
    for reference, sealer in (
        ("stored:beta/k", gateway), ("stored:/k", gateway), ("stored:acme/k", stranger),
    ):  # fmt: skip
        with pytest.raises(SecretMissing):
            credentials.opened(reference, sealer, published)


def test_the_same_secret_gives_the_same_bytes_in_its_place_only() -> None:
    sealer = credentials.sealer_of(INTERNATIONAL, lambda: (NEW,))
    one, two = credentials.place_of("/a"), credentials.place_of("/b")
    assert sealer.seal_alike(one, b"sk-1") == sealer.seal_alike(one, b"sk-1")
    assert len({sealer.seal_alike(one, b"sk-1"), sealer.seal_alike(two, b"sk-1"),
                sealer.seal_alike(one, b"sk-2")}) == 3  # fmt: skip
