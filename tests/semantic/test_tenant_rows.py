"""Rows of tenants: who has most gives way, the oldest first."""

from __future__ import annotations

import random

from tokenschain.semantic.tenant_rows import TenantRows


def test_the_tenant_with_most_gives_its_oldest() -> None:
    rows: TenantRows[int, str] = TenantRows(10)
    for number in range(3):
        rows.keep("small", number, f"small {number}")
    for number in range(100):
        rows.keep("large", number, f"large {number}")
    assert list(rows.of("small")) == [0, 1, 2] and list(rows.of("large")) == list(range(93, 100))
    rows.keep("large", 93, "again")
    rows.keep("large", 100, "new")
    assert rows.get("large", 93) == "again" and rows.get("large", 94) is None
    assert rows.take("small", 1) == "small 1" and rows.take("small", 1) is None
    assert rows.get("nobody", 1) is None and rows.of("nobody") == {} and len(rows) == 9


def test_what_is_held_is_what_was_kept_and_not_taken() -> None:
    draw = random.Random(3)
    rows: TenantRows[int, int] = TenantRows(20)
    for step in range(3_000):
        tenant, key = draw.choice("abc"), draw.randrange(15)
        if draw.random() < 0.3:
            rows.take(tenant, key)
        else:
            rows.keep(tenant, key, step)
            assert rows.get(tenant, key) == step
        assert len(rows) == len(list(rows.items())) <= 20
        assert len(rows.of(tenant)) <= 15
