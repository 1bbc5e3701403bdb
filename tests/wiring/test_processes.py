"""Each process loads what it needs and nothing of the others."""

from __future__ import annotations

import subprocess
import sys

import pytest


@pytest.mark.parametrize("process", ["semantic", "engine"])
def test_a_process_beside_the_gateway_does_not_load_the_gateway(process: str) -> None:
    probe = (
        f"import sys, tokenschain.wiring.{process};"
        "print([n for n in sys.modules if n.startswith('tokenschain.gateway')])"
    )
    found = subprocess.run(
        [sys.executable, "-c", probe], capture_output=True, text=True, check=True
    )
    assert found.stdout.strip() == "[]"
