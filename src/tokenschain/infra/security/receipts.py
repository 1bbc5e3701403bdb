"""Receipts of calls: gateways issue them, with a code by the secret that control shares."""

from __future__ import annotations

import hmac
import os
from collections.abc import Callable, Sequence

from tokenschain.core.audit import receipt, records, segment
from tokenschain.core.audit.receipt import Receipt
from tokenschain.core.call_record import CallRecord
from tokenschain.infra.security.suite import INTERNATIONAL, SUITES, Suite

_PURPOSE = b"audit receipts"
_CODE_CHARACTERS = 32


def issuer(
    suite: Suite, secrets: Callable[[], Sequence[str]], gateway: str
) -> Callable[[CallRecord], str]:
    """Issues receipts of a gateway process' calls.

    Args:
        secrets: that control and gateways share, the one in force first.
    """
    # As the log names gateways, whatever this gateway's suite is.
    label = segment.gateway_label(INTERNATIONAL.digest, gateway)

    def issue(record: CallRecord) -> str:
        salt = os.urandom(records.SALT_BYTES)
        body = receipt.issued(INTERNATIONAL.digest, label, salt, record).body()
        return f"{body}.{_code(suite, secrets()[0], body)}"

    return issue


def opened(secrets: Sequence[str], text: str) -> Receipt:
    """A receipt that a gateway of this platform issued.

    Raises:
        ValueError: none did, or it was changed.
    """
    found, code = receipt.parsed(text)
    body = found.body()
    codes = [_code(suite, secret, body) for suite in SUITES for secret in secrets]
    if not any(hmac.compare_digest(one, code) for one in codes if code.isascii()):
        raise ValueError("no receipt that this platform gave")
    return found


def _code(suite: Suite, secret: str, body: str) -> str:
    key = suite.derive(secret, _PURPOSE)
    return suite.mac(key, body.encode()).hex()[:_CODE_CHARACTERS]
