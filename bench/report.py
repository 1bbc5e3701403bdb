"""The table of a benchmark run: medians, beside going direct and beside nginx of the same round."""

from __future__ import annotations

import json
import platform
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from rich.console import Console
from rich.table import Table

from bench.peers import NGINX

HERE = Path(__file__).parent
PAGE = HERE.parent / "docs" / "benchmarks" / "relay.md"
BEGIN, END = "<!-- written by bench.run --publish -->", "<!-- up to here -->"
Samples = Mapping[str, Mapping[str, list[float]]]
"""Target -> measure -> one figure a round."""
Single = Mapping[str, Mapping[str, float]]
"""Target -> measure -> a figure that is taken once."""

ROWS: list[tuple[str, str, Callable[[dict[str, float]], float | None], str]] = [
    ("CPU per call, 3 upstreams, beside nginx", "x", lambda r: r.get("nginx_three"), "{:.2f}"),
    ("... 1 upstream", "x", lambda r: r.get("nginx_1k"), "{:.2f}"),
    ("... 300 upstreams", "x", lambda r: r.get("nginx_many"), "{:.2f}"),
    ("... answered from the cache", "x", lambda r: r.get("nginx_hit"), "{:.2f}"),
    ("... 32 KB prompt, beside nginx's of 32 KB", "x", lambda r: r.get("nginx_32k"), "{:.2f}"),
    ("CPU per SSE event in a burst, beside nginx's", "x",
     lambda r: r.get("nginx_event_burst"), "{:.2f}"),
    ("CPU per paced SSE event, beside nginx's", "x", lambda r: r.get("nginx_event"), "{:.2f}"),
    ("CPU per call, 1 KB prompt", "µs", lambda r: r.get("cpu_us_1k"), "{:,.0f}"),
    ("... Anthropic messages in", "µs", lambda r: r.get("cpu_us_messages"), "{:,.0f}"),
    ("... Responses in", "µs", lambda r: r.get("cpu_us_responses"), "{:,.0f}"),
    ("... DashScope native out", "µs", lambda r: r.get("cpu_us_dashscope"), "{:,.0f}"),
    ("... 3 upstreams to choose from", "µs", lambda r: r.get("cpu_us_three"), "{:,.0f}"),
    ("... 300 upstreams", "µs", lambda r: r.get("cpu_us_many"), "{:,.0f}"),
    ("... 300 upstreams, 50 rules", "µs", lambda r: r.get("cpu_us_ruled"), "{:,.0f}"),
    ("... answered from the cache", "µs", lambda r: r.get("cpu_us_hit"), "{:,.0f}"),
    ("CPU per call, 32 KB prompt", "µs", lambda r: r.get("cpu_us_32k"), "{:,.0f}"),
    ("calls on one core, 32 connections", "/s", lambda r: r.get("calls_per_s"), "{:,.0f}"),
    ("added p50 at 200 calls/s", "ms", lambda r: r.get("added_p50_ms_200"), "{:.2f}"),
    ("added p99 at 200 calls/s", "ms", lambda r: r.get("added_p99_ms_200"), "{:.2f}"),
    ("added p50 at 1,000 calls/s", "ms", lambda r: r.get("added_p50_ms_1000"), "{:.2f}"),
    ("added p99 at 1,000 calls/s", "ms", lambda r: r.get("added_p99_ms_1000"), "{:.2f}"),
    ("CPU per paced SSE event, 200 streams", "µs", lambda r: r.get("cpu_us_event"), "{:,.0f}"),
    ("... Anthropic messages in", "µs", lambda r: r.get("cpu_us_event_messages"), "{:,.0f}"),
    ("... Responses in", "µs", lambda r: r.get("cpu_us_event_responses"), "{:,.0f}"),
    ("CPU per SSE event in bursts, 16 streams", "µs",
     lambda r: r.get("cpu_us_event_burst"), "{:,.1f}"),
    ("SSE events relayed, of 10,000 offered", "/s", lambda r: r.get("events_per_s"), "{:,.0f}"),
    ("added p99 per SSE event", "ms", lambda r: r.get("added_event_p99_ms"), "{:.2f}"),
    ("p99.9 at 500 calls/s", "ms", lambda r: r.get("quiet_p999_ms"), "{:.2f}"),
    ("... while the configuration changes", "ms", lambda r: r.get("swap_p999_ms"), "{:.2f}"),
    ("memory at start", "MB", lambda r: r.get("rss_mb_start"), "{:.0f}"),
    ("memory warm", "MB", lambda r: r.get("rss_mb_warm"), "{:.0f}"),
    ("memory after 200,000 calls", "MB", lambda r: r.get("rss_mb_after_calls"), "{:.0f}"),
    ("... and 10,000 aborted streams", "MB", lambda r: r.get("rss_mb_after_aborts"), "{:.0f}"),
    ("start to ready", "s", lambda r: r.get("start_s"), "{:.2f}"),
]  # fmt: skip


def summarise(samples_by_target: Samples, single: Single) -> dict[str, dict[str, float]]:
    """Medians; what each target adds to going direct, and costs beside nginx, in the same round."""
    results: dict[str, dict[str, float]] = {}
    direct, nginx = samples_by_target["direct"], samples_by_target[NGINX.name]
    for name, samples in samples_by_target.items():
        found = {key: statistics.median(values) for key, values in samples.items()}
        if name != "direct":
            for key, values in samples.items():
                if key.endswith(("_ms", "_200", "_1000")) and len(values) == len(direct[key]):
                    found[f"added_{key}"] = statistics.median(
                        mine - theirs for mine, theirs in zip(values, direct[key], strict=True)
                    )
            for key, values in samples.items():
                if key.startswith("cpu_us_"):
                    of = key if key in nginx else "cpu_us_event" if "event" in key else "cpu_us_1k"
                    found[f"nginx_{key.removeprefix('cpu_us_')}"] = statistics.median(
                        mine / theirs for mine, theirs in zip(values, nginx[of], strict=True)
                    )
        results[name] = found | dict(single.get(name, {}))
    for key in [key for key in results["direct"] if key.startswith("cpu_us_")]:
        results["direct"].pop(key)
    return results


def show(results: dict[str, dict[str, float]], title: str) -> str:
    """Print the table, for people and as Markdown, which it gives."""
    names = list(results)
    table = Table("", "unit", *names, title=title)
    lines = [f"| | unit | {' | '.join(names)} |", "|---|---|" + "---:|" * len(names)]
    for label, unit, value, form in ROWS:
        cells = [
            "" if (found := value(results[name])) is None else form.format(found) for name in names
        ]
        if not any(cells):
            continue  # not part of this run
        table.add_row(label, unit, *cells)
        lines.append(f"| {label} | {unit} | {' | '.join(cells)} |")
    console = Console(width=160)
    console.print(table)
    console.print("\n".join(lines), markup=False, highlight=False, soft_wrap=True)
    return "\n".join(lines)


def publish(table: str, title: str) -> None:
    """Put a table into the page of the documentation, in the place of the one before."""
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
    _, _, after = rest.partition(END)
    day = time.strftime("%Y-%m-%d")
    PAGE.write_text(f"{before}{BEGIN}\n{day}, {title}:\n\n{table}\n{END}{after}", encoding="utf-8")


def write(samples: Samples, single: Single, asked: str, publishes: bool = False) -> None:
    """Print the table, and put it with all samples into a file.

    Args:
        asked: what was run, for the title.
        publishes: also into the documentation.
    """
    results = summarise(samples, single)
    cpu = next(
        (line.partition(":")[2].strip() for line in Path("/proc/cpuinfo").read_text().splitlines()
         if line.startswith("model name")), platform.machine(),
    )  # fmt: skip
    title = f"{cpu}, Python {platform.python_version()}, {asked}"
    table = show(results, title)
    if publishes:
        publish(table, title)
    (HERE / "results").mkdir(exist_ok=True)
    out = HERE / "results" / f"{time.strftime('%Y%m%dT%H%M%S')}.json"
    found = {"cpu": cpu, "python": sys.version, "run": asked}
    out.write_text(json.dumps(found | {"results": results, "samples": samples}, indent=1))
    print(f"written to {out}")
