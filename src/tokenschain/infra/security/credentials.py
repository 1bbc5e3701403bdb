"""Credentials of upstreams in a gateway, and stored ones on their way there: sealed with the secret
that both share."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from tokenschain.core.log_events import Reporter
from tokenschain.core.snapshot import Served
from tokenschain.infra.security.secrets import SecretMissing, Vault, resolve
from tokenschain.infra.security.suite import Place, Sealable, Sealer, Suite, Unsealable
from tokenschain.wire.request_head import can_be_value

STORED = "stored:"
_PURPOSE = b"credentials"


def sealer_of(suite: Suite, internal: Callable[[], Sequence[str]]) -> Sealer:
    """Seals for gateways, and opens there.

    Args:
        internal: the secrets that control and gateways share, the one in force first.
    """
    return Sealer(suite, internal, lambda suite, secret: suite.derive(secret, _PURPOSE))


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


class UpstreamCredentials:
    """What a gateway shows to upstreams, `stored:` or where `secrets.resolve` finds it."""

    def __init__(
        self,
        suite: Suite,
        internal: Callable[[], Sequence[str]],
        vault: Vault,
        served: Served,
        report: Reporter,
    ) -> None:
        """
        Args:
            internal: see `sealer_of`.
            served: has the stored ones as they were published.
            report: told why there is none, when that changes.
        """
        self._sealer = sealer_of(suite, internal)
        self._vault = vault
        self._served = served
        self._report = report
        self._unusable: dict[str, str] = {}

    def find(self, reference: str) -> str | None:
        """A credential; None while it is missing, or what no header can carry."""
        try:
            if reference.startswith(STORED):
                found = opened(reference, self._sealer, self._served.get().credentials)
            else:
                found = resolve(reference, self._vault)
            if not can_be_value(found):
                why = f"{reference} holds a line feed, or else what no header can carry"
                raise SecretMissing(why)
        except SecretMissing as error:
            if self._unusable.get(reference) != str(error):
                self._unusable[reference] = str(error)
                self._report("credential_unusable", str(error))
            return None
        self._unusable.pop(reference, None)
        return found
