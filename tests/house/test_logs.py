"""docs/reference/logs.md has each event that the source logs, and no other."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from tests.house.tree import DOCS, modules, parsed
from tokenschain.providers.credential_pool import KeyState

LOGGING = {"debug", "info", "warning", "error", "report", "_report", "_warn", "_breaker"}
"""What is called with an event's name: a logger's methods, and what passes events on to one."""
EVENT = re.compile(r"[a-z]+(_[a-z]+)+|listening|stopped|serving|comparing|fault")


def _calls(names: set[str]) -> Iterator[ast.Call]:
    for path in modules():
        for node in ast.walk(parsed(path)):
            if isinstance(node, ast.Call):
                function = node.func
                if getattr(function, "attr", getattr(function, "id", "")) in names:
                    yield node


def _texts(call: ast.Call) -> list[str]:
    values = [*call.args, *(keyword.value for keyword in call.keywords)]
    return [v.value for v in values if isinstance(v, ast.Constant) and isinstance(v.value, str)]


def logged() -> set[str]:
    """Every event; of those put together from parts, each that the source can make."""
    names = {text for call in _calls(LOGGING) for text in _texts(call) if EVENT.fullmatch(text)}
    for call in _calls(LOGGING):
        for argument in call.args:
            if isinstance(argument, ast.JoinedStr):
                parts = argument.values
                pattern = "".join(p.value if isinstance(p, ast.Constant) else "*" for p in parts)
                names |= _made(str(pattern))
    return names - STATES


def _made(pattern: str) -> set[str]:
    if pattern in ("*_lost", "*_back"):
        lost = {
            text
            for call in _calls({"_away", "_leases", "Leases", "Backoff"})
            for text in _texts(call)
        }
        return {pattern.replace("*", name) for name in lost if re.fullmatch("[a-z]+", name)}
    if pattern == "breaker_*":
        return {f"breaker_{state}" for state in STATES | {f"{k}_elsewhere" for k in NEWS}}
    if pattern == "upstream_key_*":
        return {f"upstream_key_{state}" for state in KeyState}
    assert pattern == "*_elsewhere" or not re.fullmatch(r"[a-z_*]+", pattern), (
        f"say here which events {pattern} can make"
    )
    return set()


STATES = {"open", "open_with_its_region", "closed", "answers_probe"}
"""What the gateway says of a breaker."""
NEWS = {"open", "closed", "rests"}
"""What gateways tell each other of it."""


def documented() -> list[str]:
    text = (DOCS / "reference" / "logs.md").read_text("utf-8")
    cells = re.findall(r"^\| ((?:`[a-z_]+`(?:, )?)+) \|", text, re.MULTILINE)
    return [name for cell in cells for name in re.findall(r"`([a-z_]+)`", cell)]


def test_each_logged_event_is_documented_and_no_other() -> None:
    found = logged()
    assert len(found) > 30
    assert sorted(found) == sorted(set(documented()))


def test_the_states_of_a_breaker_are_those_of_the_source() -> None:
    said = {
        text
        for path in modules()
        if "dispatch" in path.parts
        for node in ast.walk(parsed(path))
        if isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "_report"
        for text in _texts(node)
    }
    assert said == STATES


def test_each_event_has_a_meaning() -> None:
    text = (DOCS / "reference" / "logs.md").read_text("utf-8")
    rows = [line.split("|") for line in text.splitlines() if line.startswith("| `")]
    assert rows and not [row for row in rows if not row[2].strip()]
