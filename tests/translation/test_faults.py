"""Mutated upstream answers: the caller has the whole answer, or an honest error that costs nothing.

Never a fault of our own, never a stream that an SDK cannot read or that looks complete when it is
not, never the caller's blame. `PROOFS=full` tries 20,000; a failing one is
repeated with its seed.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest

from tests.translation.answers import Endless, Heard, Unreadable, hear
from tests.translation.conversations import Turn, write
from tests.translation.lab import GATHERED, Lab, Result
from tests.translation.mutations import Mutation, mutated
from tests.vendors.strict.vendor import Answer

VENDORS = (
    "openai", "deepseek", "moonshot", "mistral", "anthropic", "dashscope-native", "hunyuan-native",
    GATHERED,
)  # fmt: skip
APIS = ("chat/completions", "messages", "responses")
WANTED = {
    "text": "Hello 世界🌏!",
    "calls": '[[call look_up {"of": "巴黎"}]] [[call look_up {"of": "Rome"}]]',
    "thinking": "[[think]] Hello",
}
FULL = os.environ.get("PROOFS") == "full"
SEEDS = 20_000 // (len(VENDORS) * len(APIS) * len(WANTED) * 2) + 1 if FULL else 6
CALLER_CODES = frozenset({400, 401, 403, 404, 413, 415, 422, 500, 501})


class Case(NamedTuple):
    """One mutated answer."""

    api: str
    vendor: str
    wanted: str
    streamed: bool
    seed: int

    @property
    def name(self) -> str:
        kind = "stream" if self.streamed else "whole"
        return f"{self.vendor} {self.api} {self.wanted} {kind} {self.seed}"


def cases(vendor: str, seeds: int) -> Iterator[Case]:
    for api in APIS:
        for wanted in WANTED:
            for streamed in (False, True):
                for seed in range(seeds):
                    yield Case(api, vendor, wanted, streamed, seed)


def ask(lab: Lab, case: Case) -> tuple[Result, Mutation | None, Answer | None]:
    """The call, with the answer changed on its way in."""
    made: list[tuple[Mutation, Answer]] = []

    def alter(answer: Answer) -> Answer:
        if answer.status != 200:
            return answer
        found = mutated(answer, lab.vendors[case.vendor].other_form(), hash_of(case))
        made.append((found, answer))
        return found.answer

    lab.fresh()
    lab.vendors[case.vendor].reset()
    lab.alter = alter if case.seed >= 0 else None
    body = write(case.api, [Turn("user", (WANTED[case.wanted],))])
    if case.wanted != "calls":
        body.pop("tools")
    if case.streamed:
        body["stream"] = True
    try:
        got = lab.ask(f"/v1/{case.api}", body | {"model": case.vendor})
    finally:
        lab.alter = None
    return got, *(made[0] if made else (None, None))


_PLAIN: dict[Case, Heard | None] = {}


def said_plainly(lab: Lab, case: Case) -> Heard | None:
    """The answer that nobody changed."""
    case = case._replace(seed=-1)
    if case not in _PLAIN:
        plain, _, _ = ask(lab, case)
        _PLAIN[case] = hear(case.api, plain.body, case.streamed) if plain.status == 200 else None
    return _PLAIN[case]


def hash_of(case: Case) -> int:
    """A seed that is another for each case and the same each time."""
    return int.from_bytes(case.name.encode()[-6:], "big") * 1_000_003 + sum(case.name.encode())


def judge(lab: Lab, case: Case) -> str:
    """What went wrong; empty when all is well."""
    whole = said_plainly(lab, case)
    if whole is None:
        return ""  # the conversation's own test says what is wrong
    try:
        got, mutation, _ = ask(lab, case)
    except TimeoutError:
        return "no answer at all"
    if mutation is None:
        return ""
    found = _judge(case, got, mutation, whole)
    return f"{mutation.name}: {found}" if found else ""


def _judge(case: Case, got: Result, mutation: Mutation, whole: Heard) -> str:
    if got.faults:
        return f"a fault of our own: {got.faults[0]!r}"
    record: Any = got.record
    if record is None:
        return "no record"
    if got.status != 200:
        return _refused(got, record, mutation)
    try:
        heard = hear(case.api, got.body, case.streamed)
    except Unreadable as error:
        # A relay passes on what was said as it comes, nonsense included; but it ends or fails.
        relayed = (case.vendor == "anthropic") == (case.api == "messages")
        relayed &= case.api != "responses" and not case.vendor.endswith("-native")
        passes = relayed and not mutation.harmless and not mutation.cut
        return "" if passes and not isinstance(error, Endless) else f"unreadable: {error}"
    if heard.error is not None:
        if mutation.harmless:
            return f"an error though all is there: {heard.error}"
        if record.outcome == "ok":
            return "an error that is recorded as ok"
        return "" if record.fault != "caller" else f"blames the caller: {record.error}"
    if record.outcome != "ok":
        return f"complete for the caller, recorded as {record.outcome}"
    if mutation.cut:
        return f"it breaks off and looks complete: {heard}"
    if mutation.harmless and _said(heard) != _said(whole):
        return f"lost: {_said(heard)} of {_said(whole)}"
    counted = got.counted[-1]
    recorded = (record.prompt_tokens, record.completion_tokens)
    if mutation.counts and recorded != counted:
        return f"counted {counted}, recorded {recorded}"
    return "" if min(recorded) >= 0 else f"recorded {recorded}"


def _said(heard: Heard) -> Any:
    return heard.text, [(name, arguments) for _, name, arguments in heard.calls], heard.finish


def _refused(got: Result, record: Any, mutation: Mutation) -> str:
    if got.status in CALLER_CODES:
        return f"HTTP {got.status}: {got.body[:200]!r}"
    if mutation.harmless:
        return f"refused though all is there: {got.body[:200]!r}"
    if record.charge_pico:
        return f"{got.status} is charged {record.charge_pico}"
    if record.fault != ("platform" if record.error == "translation_failed" else "upstream"):
        return f"blames the wrong one: {record.error} {record.fault}"
    return "" if record.outcome != "ok" else "an error that is recorded as ok"


@pytest.mark.parametrize("vendor", VENDORS)
def test_a_mutated_answer_arrives_whole_or_fails_honestly(shared_lab: Lab, vendor: str) -> None:
    failures = {}
    for case in cases(vendor, SEEDS):
        found = judge(shared_lab, case)
        if found:
            failures[case.name] = found
    assert not failures
