"""Texts of calls on their way from gateway to control, for reviewers and for the audit: sealed with
the secret that both share, so that no disk holds them open."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tokenschain.infra.security.suite import Place, Sealable, Sealer, Suite

_PURPOSE = b"moderation cases"


def sealer_of(suite: Suite, internal: Callable[[], Sequence[str]]) -> Sealer:
    """Seals in gateways, and opens in control.

    Args:
        internal: the secrets that control and gateways share, the one in force first.
    """
    return Sealer(suite, internal, lambda suite, secret: suite.derive(secret, _PURPOSE))


def seal_of(
    suite: Suite, internal: Callable[[], Sequence[str]]
) -> Callable[[str, str, bytes], bytes]:
    """Seals texts of a tenant's call, in gateways, before they stand on a disk."""
    sealer = sealer_of(suite, internal)

    def seal(tenant: str, call: str, texts: bytes) -> bytes:
        return sealer.seal(place_of(tenant, call), texts)

    return seal


def place_of(tenant: str, call: str) -> Place:
    """Where the texts of a call are sealed for."""
    return Place(Sealable.MODERATION_TEXTS, tenant, call)


def content_place_of(tenant: str, call: str) -> Place:
    """Where the content of a call is sealed for."""
    return Place(Sealable.CONTENT_IN_TRANSIT, tenant, call)
