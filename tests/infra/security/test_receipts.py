"""Receipts are this platform's, whichever suite and secret issued them."""

from __future__ import annotations

import pytest

from tests.records import record
from tokenschain.infra.security import receipts
from tokenschain.infra.security.suite import Suite

SECRETS = ["new-secret" * 4, "old-secret" * 4]


@pytest.mark.parametrize("secret", SECRETS)
@pytest.mark.parametrize("tenant", ["t1", "\U00020bb7" * 64], ids=["usual", "longest"])
def test_a_receipt_opens_while_its_secret_is_known(suite: Suite, secret: str, tenant: str) -> None:
    call = record(1, sequence=2**63, tenant=tenant)
    text = receipts.issuer(suite, lambda: [secret], "gw-1")(call)
    found = receipts.opened(SECRETS, text)
    assert (found.call, found.sequence, found.tenant) == ("req_00000001", 2**63, tenant)
    with pytest.raises(ValueError, match="gave"):
        receipts.opened(["another-secret" * 3], text)


def test_a_receipt_that_was_changed_is_nobodys(suite: Suite) -> None:
    text = receipts.issuer(suite, lambda: SECRETS, "gw-1")(record(1, sequence=9))
    for at in range(3, len(text)):
        changed = text[:at] + ("0" if text[at] != "0" else "1") + text[at + 1 :]
        with pytest.raises(ValueError):
            receipts.opened(SECRETS, changed)
    with pytest.raises(ValueError):
        receipts.opened(SECRETS, text[:-1] + "\u00e9")
