"""Ten minutes of mixed load on three gateways while parts are killed and stores hang.

    python -m bench.chaos [--minutes 10] [--calls-per-s 30]

Gateways and control are killed every 4 to 12 seconds; PostgreSQL is paused for a tenth of the
time, Redis stopped for a twentieth. See `tests/chaos.py` for what callers do.
"""

from __future__ import annotations

import argparse
import tempfile
from collections import Counter
from pathlib import Path

from rich.console import Console
from rich.table import Table
from tests.chaos import Chaos, Report
from tests.servers import Postgres, RedisStack


def show(report: Report) -> None:
    """The figures as a table."""
    outcomes = Counter(f"{t.kind}: {t.outcome}" for t in report.tries)
    again = sum(not t.name.endswith("-0") for t in report.tries)
    table = Table(show_header=False, title="chaos")
    rows = {
        "calls, those left on purpose aside": f"{report.calls:,}",
        "answered in the end": f"{report.answered:,} ({report.success:.3%})",
        "tries that were asked again": f"{again:,}",
        "kills": ", ".join(f"{name} {count}" for name, count in report.kills.items()),
        "ledger rows, duplicates": f"{report.rows:,}, {report.duplicates}",
        "whole answers missing in the ledger": f"{len(report.missing)}",
        "tokens of whole answers, ledger / upstream": (
            f"{report.tokens_ledger:,} / {report.tokens_upstream:,}"
        ),
        "whole answers with other tokens": f"{len(report.wrong_tokens)}",
        "tokens of streams left or failed, ledger / upstream": (
            f"{report.left_tokens[0]:,} / {report.left_tokens[1]:,}"
        ),
        "tokens torn away by kills": f"{report.torn_tokens:,}",
        "budget spent = ledger's charges": str(report.spent_is_charged),
        "calls at once still held": str(report.held_at_once),
        "connections to PostgreSQL": str(report.connections),
        "log": f"{report.log_bytes / 1e3:,.0f} KB",
        "p99 of whole answers": ", ".join(f"{k} {v:.0f} ms" for k, v in report.p99_ms.items()),
        **{name: f"{count:,}" for name, count in sorted(outcomes.items())},
    }
    for name, value in rows.items():
        table.add_row(name, value)
    Console(width=110).print(table)


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--calls-per-s", type=float, default=30)
    options = parser.parse_args()
    postgres, redis = Postgres(), RedisStack()
    try:
        with tempfile.TemporaryDirectory(prefix="tokenschain-chaos-") as folder:
            chaos = Chaos(
                Path(folder) / "stack", postgres, redis, options.minutes * 60, options.calls_per_s
            )
            show(chaos.run())
    finally:
        postgres.close()
        redis.close()


if __name__ == "__main__":
    main()
