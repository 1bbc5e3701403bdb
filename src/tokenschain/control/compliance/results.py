"""Results of a compliance report: each control as it was found."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import msgspec

from tokenschain.control.compliance.controls import Words
from tokenschain.control.compliance.evidence.finding import Value

State = Literal["met", "open", "unproven", "organizational"]


class FoundGap(msgspec.Struct, frozen=True):
    """Something that is missing."""

    code: str
    en: str
    zh: str


class ControlResult(msgspec.Struct, frozen=True):
    """A control as it was found."""

    id: str
    clause: str
    asks: Words
    applies_when: Words
    state: State
    """`met`: the query found what is asked; `open`: it found something missing, or nothing shows
    it; `unproven`: nothing is there yet that could show it; `organizational`: people have to."""
    gaps: list[FoundGap]
    query: str
    values: Mapping[str, Value]
    feature: str
    test: str
    source: str
    confidence: str


class ComplianceReport(msgspec.Struct, frozen=True):
    """What was found of one standard at one moment."""

    standard: str
    title: Words
    source: str
    at_ms: int
    """When the queries ran; Unix time."""
    version: str
    """Of the program."""
    log: str
    """Name of the audit log; empty while nothing is sealed."""
    counts: dict[State, int]
    controls: list[ControlResult]
