"""Stored credentials on their way to gateways: sealed with the secret that both share."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from tokenschain.infra.security.secrets import SecretMissing
from tokenschain.infra.security.suite import Place, Sealable, Sealer, Suite, Unsealable

STORED = "stored:"
_PURPOSE = b"credentials"


def sealer_of(suite: Suite, internal: Callable[[], Sequence[str]]) -> Sealer:
    """Seals for gateways, and opens there.

    Args:
        internal: the secrets that control and gateways share, the one in force first.
    """
    return Sealer(suite, internal, lambda secret: suite.derive(secret, _PURPOSE))


def place_of(name: str) -> Place:
    """Where a credential is sealed for.

    Args:
        name: `tenant/name`.
    """
    return Place(Sealable.PUBLISHED_CREDENTIAL, "", name)


def opened(reference: str, sealer: Sealer, published: Mapping[str, bytes]) -> str:
    """The secret behind `stored:TENANT/NAME`.

    Raises:
        SecretMissing: it was not published, or not with a secret that is shared.
    """
    name = reference.removeprefix(STORED)
    try:
        return sealer.unseal(place_of(name), published[name]).decode()
    except (KeyError, Unsealable):
        raise SecretMissing(f"{reference} is not there") from None
