"""A cluster under load while its parts die and its stores hang; `bench.chaos` runs it longer."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.chaos import Chaos
from tests.servers import Postgres, RedisStack

SECONDS, CALLS_PER_S = 25, 20


@pytest.mark.timeout(240)
def test_every_call_is_answered_and_the_ledger_is_exact(
    tmp_path: Path, postgres: Postgres, redis: RedisStack
) -> None:
    redis.flush()
    report = Chaos(tmp_path, postgres, redis, SECONDS, CALLS_PER_S).run()
    assert report.calls > SECONDS * CALLS_PER_S / 2
    assert report.kills["gateway"] >= 3 and report.kills["control"] >= 1
    assert report.success >= 0.999, [t for t in report.tries if t.outcome not in ("ok", "left")]
    assert (report.missing, report.wrong_tokens, report.duplicates) == ([], [], 0)
    assert report.tokens_ledger == report.tokens_upstream > 0
    assert report.spent_is_charged
    assert report.held_at_once == 0
    # Leases of the three living gateways, and what calls took of them that was not settled yet;
    # nothing of the dead, which would be a third more.
    assert report.promised <= 31 * 10**12
    assert report.log_bytes < 200_000
    assert report.connections <= 60
