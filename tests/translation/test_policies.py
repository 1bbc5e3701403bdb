"""`x-tc-unsupported` stays the caller's choice: `error` drops nothing, `drop` refuses nothing."""

from __future__ import annotations

import pytest

from tests.translation.lab import Lab
from tests.translation.test_field_lists import PROTOCOLS, Case, cases

NEEDED = frozenset({"n", "prompt", "conversation", "background"})
"""Without these the answer would be another one: they are refused whatever the caller chooses."""


def judge(lab: Lab, api: str, protocol: str, case: Case, policy: str) -> str:
    """What went wrong; empty when all is well."""
    lab.vendors[protocol].reset()
    got = lab.ask(f"/v1/{api}", case.body | {"model": protocol}, x_tc_unsupported=policy)
    if got.faults:
        return f"a fault of our own: {got.faults[0]!r}"
    if lab.vendors[protocol].refused:
        return f"the vendor refuses: {lab.vendors[protocol].refused[0]}"
    if got.status >= 500:
        return f"HTTP {got.status}: {got.body[:200]!r}"
    if policy == "error":
        left_out = [*got.says("x-tc-dropped"), *got.says("x-tc-emulated")]
        return f"left out or made up for all the same: {left_out}" if left_out else ""
    refused = got.status == 400 and "drop" in str(got.error) and case.path[0] not in NEEDED
    return f"refused all the same: {got.error}" if refused else ""


@pytest.mark.parametrize("policy", ["error", "drop"])
@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("api", ["chat/completions", "messages", "responses"])
def test_the_callers_choice_holds_for_every_field(
    lab: Lab, api: str, protocol: str, policy: str
) -> None:
    failures = {}
    for case in cases(api):
        found = judge(lab, api, protocol, case, policy)
        if found:
            failures[f"{case.name} {policy}"] = found
    assert not failures
