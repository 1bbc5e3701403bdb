"""Histograms of each minute: what is counted, how near percentiles are, and what is kept."""

from __future__ import annotations

import random
from typing import Any

import pytest

from tests.records import record
from tokenschain.control import model_latency
from tokenschain.control.model_latency import KEPT_S, MinuteFigures, ModelLatency, percentiles

NOW_S = 1_790_000_000


def _call(at_s: float = NOW_S, **fields: Any) -> Any:
    given = {"tenant": "alpha", "model_asked": "m", "status": 200, "outcome": "ok",
             "cache": "miss", "first_token_ms": 100.0, "total_ms": 900.0}  # fmt: skip
    return record(1, **{**given, **fields, "started_ms": int(at_s * 1e3)})


def _read(made: ModelLatency, tenant: str | None = "alpha") -> dict[int, MinuteFigures]:
    return made.read(NOW_S - KEPT_S, NOW_S + 60, 60, tenant, "m").get("m", {})


def test_percentiles_are_within_a_tenth() -> None:
    made, chance = ModelLatency(), random.Random(7)
    waits = sorted(chance.lognormvariate(6, 1) for _ in range(2_000))
    made.note([_call(first_token_ms=wait) for wait in waits], NOW_S)
    (figures,) = _read(made).values()
    found = percentiles(figures.first_token)
    for told, share in zip(found, (0.5, 0.95, 0.99), strict=True):
        true = waits[int(share * 2_000) - 1]
        assert told is not None and abs(told / true - 1) < 0.11, share
    assert percentiles(figures.total).p50 == pytest.approx(900, rel=0.11)


def test_few_calls_tell_no_high_percentile() -> None:
    made = ModelLatency()
    made.note([_call()] * 19, NOW_S)
    (figures,) = _read(made).values()
    assert percentiles(figures.total)[1:] == (None, None)
    made.note([_call()], NOW_S)
    assert percentiles(_read(made).popitem()[1].total).p95 is not None
    assert percentiles(MinuteFigures().total) == (None, None, None)


def test_what_callers_did_wrong_and_the_cache_answered_is_not_counted() -> None:
    made = ModelLatency()
    made.note([
        _call(), _call(status=503, outcome="upstream_failed"), _call(outcome="partial"),
        _call(status=400, outcome="invalid_value"), _call(status=429, outcome="rate_limit_exceeded"),
        _call(cache="hit-exact"),
    ], NOW_S)  # fmt: skip
    (figures,) = _read(made).values()
    assert (figures.answered, figures.failed) == (1, 2)


def test_each_tenant_has_its_own_and_the_platform_the_sum() -> None:
    made = ModelLatency()
    made.note([_call(), _call(tenant="beta"), _call(tenant="beta", at_s=NOW_S - 120)], NOW_S)
    assert [one.answered for one in _read(made).values()] == [1]
    assert sorted(one.answered for one in _read(made, None).values()) == [1, 2]
    assert made.read(NOW_S - 60, NOW_S + 60, 60, "beta", None)["m"].keys() == {NOW_S // 60 * 60}


def test_what_is_old_or_too_much_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    made = ModelLatency()
    made.note([_call()], NOW_S)
    made.note([_call(NOW_S + KEPT_S)], NOW_S + KEPT_S + 60)
    assert len(made._minutes) == 1 == made._kept
    monkeypatch.setattr(model_latency, "KEPT_MAX", 3)
    made.note((_call(NOW_S + KEPT_S - 60 * n) for n in range(6, 0, -1)), NOW_S + KEPT_S)
    assert len(made._minutes) == 3 == made._kept


def test_a_clock_that_is_wrong_pushes_nothing_out() -> None:
    made = ModelLatency()
    made.note([_call()], NOW_S)
    made.note([_call(NOW_S + 10 * KEPT_S), _call(NOW_S - 2 * KEPT_S)], NOW_S)
    assert [one.answered for one in _read(made).values()] == [1]
