"""Modeled engines are as fast as the measured ones."""

from __future__ import annotations

import pytest

from tokenschain.simulation.engines import A100_TP2, H100


def test_steps_follow_the_measured_curves() -> None:
    assert H100.step(64) == pytest.approx(29.7 + 0.32 * 64)
    assert A100_TP2.step(32) == 144.0 and A100_TP2.step(6) == pytest.approx(68.95)
    assert A100_TP2.step(128) == 2 * A100_TP2.step(64)
