"""Slots for slow work: whose is free, and whose is not."""

from __future__ import annotations

from contextlib import ExitStack

import pytest

from tokenschain.core.errors import ApiError
from tokenschain.core.slots import Slots


def taken(slots: Slots, *tenants: str) -> ExitStack:
    held = ExitStack()
    for tenant in tenants:
        held.enter_context(slots.taken(tenant))
    return held


def refused(slots: Slots, tenant: str) -> bool:
    try:
        with slots.taken(tenant):
            return False
    except ApiError as error:
        assert (error.code, error.message) == ("server_busy", "busy")
        return True


def test_a_tenant_has_one_and_its_own_again_when_it_is_done() -> None:
    slots = Slots(4, "busy")
    with taken(slots, "acme"):
        assert refused(slots, "acme") and not refused(slots, "beta")
    assert not refused(slots, "acme")
    with pytest.raises(OSError), slots.taken("acme"):
        raise OSError
    assert not refused(slots, "acme")


def test_tenants_leave_one_to_the_platform() -> None:
    slots = Slots(4, "busy")
    with taken(slots, "a", "b", "c"):
        assert refused(slots, "d") and not refused(slots, "") and not refused(slots, "*")
        with taken(slots, "*"):
            assert refused(slots, "") and refused(slots, "d")


def test_the_platform_takes_what_is_free() -> None:
    slots = Slots(3, "busy")
    with taken(slots, "", "*"):
        assert not refused(slots, "a")
        with taken(slots, "a"):
            assert refused(slots, "b") and refused(slots, "")
