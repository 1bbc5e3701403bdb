"""What operators deploy beside the platform: Prometheus' rules and Grafana's board are right."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.house.tree import DOCS, ROOT
from tokenschain.core.errors import ERRORS
from tokenschain.infra.control_telemetry import CONTROL_COUNTERS, CONTROL_GAUGES
from tokenschain.infra.telemetry import COUNTERS, GAUGES, HISTOGRAMS, Described

PROMETHEUS = ROOT / "deploy" / "prometheus"
BOARD = ROOT / "deploy" / "grafana" / "tokenschain.json"
FROM_PROMETHEUS = {"instance", "job", "le"}


def _names() -> dict[str, Described]:
    """Every series by its name."""
    found = {f"tokenschain_{name}": one for name, one in GAUGES.items()}
    found |= {f"tokenschain_{name}_total": one for name, one in COUNTERS.items()}
    for end in ("bucket", "sum", "count"):
        found |= {f"tokenschain_{name}_{end}": one for name, one in HISTOGRAMS.items()}
    found |= {f"tokenschain_control_{name}": one for name, one in CONTROL_GAUGES.items()}
    return found | {f"tokenschain_control_{n}_total": one for n, one in CONTROL_COUNTERS.items()}


def _rules() -> list[dict[str, object]]:
    groups = yaml.safe_load((PROMETHEUS / "rules.yml").read_text("utf-8"))["groups"]
    return [rule for group in groups for rule in group["rules"]]


def _expressions() -> Iterator[tuple[str, str]]:
    for rule in _rules():
        yield str(rule["alert"]), str(rule["expr"])
    for panel in json.loads(BOARD.read_text("utf-8"))["panels"]:
        for target in panel.get("targets", ()):
            yield panel["title"], target["expr"]


def test_rules_and_board_read_metrics_that_there_are() -> None:
    names, asked = _names(), list(_expressions())
    assert len(asked) > 25
    for where, expression in asked:
        found = re.findall(r"\btokenschain_\w+", expression)
        assert found, where
        assert not [name for name in found if name not in names], where
        labels = {label for name in found for label in names[name].labels}
        grouped = re.findall(r"\bby \(([^)]*)\)", expression)
        used = {one.strip() for group in grouped for one in group.split(",")}
        used |= set(re.findall(r"(\w+)(?:=~|!~|!=|=)\"", expression))
        assert used <= labels | FROM_PROMETHEUS | {"worker"}, (where, used - labels)


def test_rules_name_outcomes_that_there_are() -> None:
    for where, expression in _expressions():
        for pattern in re.findall(r'outcome=~"([^"]*)"', expression):
            for one in pattern.split("|"):
                assert any(re.fullmatch(one, code) for code in ERRORS), (where, one)


def test_each_rule_leads_to_the_page_that_helps() -> None:
    rules = _rules()
    assert len(rules) >= 6
    page = (DOCS / "operations" / "incidents.md").read_text("utf-8")
    headings = {re.sub(r"[^\w\- ]", "", line[3:].lower()).replace(" ", "-")
                for line in page.splitlines() if line.startswith("## ")}  # fmt: skip
    for rule in rules:
        path, _, anchor = rule["annotations"]["runbook"].partition("#")  # type: ignore[index]
        assert path == "docs/operations/incidents.md" and anchor in headings, rule["alert"]


def test_prometheus_itself_accepts_the_files(tmp_path: Path) -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not installed; `make test` installs it")
    token = tmp_path / "token"
    token.write_text("x")
    for name in ("prometheus.yml", "rules.yml"):
        text = (PROMETHEUS / name).read_text("utf-8")
        text = text.replace("/etc/prometheus/tokenschain-metrics.token", str(token))
        (tmp_path / name).write_text(text)
    board = [{"alert": f"Panel{n}", "expr": expression.replace("$__rate_interval", "1m")}
             for n, (_, expression) in enumerate(_expressions())]  # fmt: skip
    (tmp_path / "board.yml").write_text(yaml.safe_dump({"groups": [{"name": "b", "rules": board}]}))
    for command in (["config", "prometheus.yml"], ["rules", "rules.yml"], ["rules", "board.yml"]):
        done = subprocess.run(
            [promtool, "check", *command], cwd=tmp_path, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stdout + done.stderr
