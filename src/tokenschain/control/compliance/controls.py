"""Controls of standards as `controls.yaml` lists them: what is asked, and what shows it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from importlib import resources
from string import Formatter
from typing import Annotated, Literal, get_args

import msgspec
import yaml
from msgspec import Meta

FILE = "controls.yaml"
Standard = Literal["mlps3", "gbt45654", "labelling", "pipl", "gbt39786", "owasp-llm"]
STANDARDS: tuple[str, ...] = get_args(Standard)
_TEST = re.compile(r"tests/[\w/]+\.py::\w+")


class BadControls(ValueError):
    """The list of controls is wrong; the text says where."""


class Words(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A text in both languages."""

    en: Annotated[str, Meta(min_length=1)]
    zh: Annotated[str, Meta(min_length=1)]


class StandardInfo(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A standard: its name, and what of it was read."""

    title: Words
    source: str
    """Where its clauses were taken from."""


class Control(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a clause asks, and what of the platform answers it."""

    id: str
    standard: Standard
    clause: str
    asks: Words
    applies_when: Words
    feature: str
    """Page of the documentation, below `docs/`."""
    status: Literal["evidence", "open", "organizational"]
    """`evidence`: a query decides; `open`: the platform does not do it; `organizational`: people
    show it, and no program can."""
    query: str = ""
    """Function of `evidence`."""
    why: Words | None = None
    """Of what no query decides: what is missing, or what people have to show."""
    test: str = ""
    """What regenerates the evidence."""
    source: str
    confidence: Literal["primary", "secondary", "general"]
    """Whether the clause's own text was read, a text that quotes it, or neither."""


class ControlList(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The whole file."""

    standards: Mapping[Standard, StandardInfo]
    gaps: Mapping[str, Words]
    """What queries find missing, by code, with `{names}` of what they say of it."""
    controls: tuple[Control, ...]

    def of(self, standard: str) -> list[Control]:
        """Those of one standard, in the order of the file."""
        return [one for one in self.controls if one.standard == standard]


@cache
def shipped() -> ControlList:
    """The list that comes with the platform.

    Raises:
        BadControls: see `parsed`.
    """
    return parsed(resources.files("tokenschain.data").joinpath(FILE).read_text("utf-8"))


def parsed(text: str) -> ControlList:
    """A list of controls.

    Raises:
        BadControls: a field is missing or unknown, or what is said twice or contradicts itself.
    """
    try:
        found = msgspec.convert(yaml.safe_load(text), ControlList)
    except (yaml.YAMLError, msgspec.ValidationError) as error:
        raise BadControls(str(error)) from None
    seen = set[str]()
    for control in found.controls:
        if control.id in seen:
            raise BadControls(f"{control.id}: there are two")
        seen.add(control.id)
        if problem := _problem(control):
            raise BadControls(f"{control.id}: {problem}")
    if missing := set(STANDARDS) - found.standards.keys():
        raise BadControls(f"no word of {', '.join(sorted(missing))}")
    for code, words in found.gaps.items():
        if _names_in(words.en) != _names_in(words.zh):
            raise BadControls(f"gaps.{code}: the two languages name different values")
    return found


def _problem(control: Control) -> str:
    if control.status == "evidence":
        if not control.query or control.why is not None:
            return "evidence is by a query, and says itself why"
        if not _TEST.fullmatch(control.test):
            return f"{control.test!r} names no test"
    elif control.query or control.why is None:
        return f"{control.status} has no query, and says why"
    return ""


def _names_in(text: str) -> set[str]:
    return {name for _, name, _, _ in Formatter().parse(text) if name}
