"""Translation changes: what is adapted, dropped, emulated or refused (`x-tc-unsupported`).

Every field of a request is carried, adapted and said (`x-tc-adapted`), dropped and said
(`x-tc-dropped`), emulated and said (`x-tc-emulated`), or refused by its name. Names are the
caller's own, whichever API it spoke.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from enum import StrEnum
from itertools import islice
from typing import Any, NamedTuple

from tokenschain.core.errors import ApiError

NAMES_MAX = 40
"""Names that one header lists."""


class Policy(StrEnum):
    """What to do with a parameter a vendor does not offer (`x-tc-unsupported`)."""

    AUTO = "auto"
    """Emulate where possible, drop mere hints, refuse what changes the answer's form."""
    ERROR = "error"
    DROP = "drop"
    EMULATE = "emulate"


ESSENTIAL = frozenset(
    {
        "audio", "best_of", "echo", "function_call", "functions", "logprobs", "mcp_servers",
        "messages", "modalities", "n", "response_format", "stop", "suffix", "tool_choice", "tools",
        "top_logprobs", "web_search_options",
    }
)  # fmt: skip
"""Parameters without which an answer has another form, or answers another question."""


NOT_OFFERED = "it does not offer it"
NOT_PASSED_ON = "what may choose another model, provider or price is not passed on there"


class Loss(NamedTuple):
    """A part of a caller's request that the canonical form does not hold."""

    name: str
    """In the caller's own words: `messages[0].content[1]`."""
    why: str = "it has no place for it"
    essential: bool = False
    """Whether the answer would be to another question without it."""
    adapted: bool = False
    """Whether it was written in another way instead of left out."""


class CallerNames(NamedTuple):
    """What the canonical fields were called where the caller wrote them."""

    fields: Mapping[str, str] = {}
    """`stop` -> `stop_sequences`; names that are not here are the same."""
    messages: tuple[str, ...] = ()
    """Where each canonical message came from: `system`, `messages[0]`, `input[3]`; behind a `#`
    the caller's name of its content."""
    parts: Mapping[int, tuple[str, ...]] = {}
    """Where the parts of a canonical message came from, by its number."""

    def of(self, name: str) -> str:
        """The caller's name of a canonical field, of a path below it, or of `name=value`."""
        found = _PLACE.match(name)
        if found is not None:
            at = int(found[1])
            if at >= len(self.messages):
                return name
            place, _, content = self.messages[at].partition("#")
            rest = name[found.end() :]
            part, parts = _PART.match(rest), self.parts.get(at, ())
            if part is not None and int(part[1]) < len(parts):
                return parts[int(part[1])] + rest[part.end() :]
            if content and rest.startswith(".content"):
                rest = f".{content}{rest.removeprefix('.content')}"
            return place + rest
        head = _HEAD.match(name)
        return name if head is None else self.fields.get(head[0], head[0]) + name[head.end() :]


_PLACE = re.compile(r"messages\[(\d+)\]")
_PART = re.compile(r"\.content\[(\d+)\]")
_HEAD = re.compile(r"\w+")
OPENAI_NAMES = CallerNames()


class PartPlaces:
    """Remembers where content parts came from that are being made of a caller's request."""

    def __init__(self) -> None:
        self._places: dict[int, str] = {}

    def note(self, part: object, place: str) -> None:
        """Where a part came from; the first word counts. The part must live on."""
        self._places.setdefault(id(part), place)

    def of(self, messages: Sequence[Mapping[str, Any]]) -> dict[int, tuple[str, ...]]:
        """The places of the parts of each message whose content is a list of such."""
        made: dict[int, tuple[str, ...]] = {}
        if not self._places:
            return made
        for at, message in enumerate(messages):
            content = message.get("content")
            if isinstance(content, list):
                made[at] = tuple(self._places.get(id(part), "") for part in content)
        return {at: places for at, places in made.items() if all(places)}


class Changes:
    """Collects what is changed on the way to one upstream: names, each once, in order."""

    def __init__(self, policy: Policy = Policy.AUTO, names: CallerNames = OPENAI_NAMES) -> None:
        self.policy = policy
        self._names = names
        self.dropped: dict[str, None] = {}
        self.adapted: dict[str, None] = {}
        self.emulated: dict[str, None] = {}

    def drop(self, name: str, why: str, *, essential: bool = False) -> None:
        """Note that a field is left out.

        Raises:
            ApiError: `unsupported_parameter`, where the policy wants that instead.
        """
        policy = self.policy
        if policy is Policy.ERROR or (essential and policy is not Policy.DROP):
            raise self.refusal(name, why)
        self._note(self.dropped, name)

    def adapt(self, name: str) -> None:
        """Note that a field says the same in another way."""
        self._note(self.adapted, name)

    def limit(self, name: str, value: object, why: str) -> None:
        """Note that a value was moved to the nearest that is taken.

        Raises:
            ApiError: `unsupported_parameter`, where the policy wants that instead.
        """
        if self.policy is Policy.ERROR:
            raise self.refusal(name, why)
        self._note(self.adapted, f"{name}={value}")

    def emulate(self, name: str, why: str) -> None:
        """Note that the platform makes up for what the vendor lacks.

        Raises:
            ApiError: `unsupported_parameter`, where the policy wants that instead.
        """
        if self.policy is Policy.ERROR:
            raise self.refusal(name, why)
        self._note(self.emulated, name)

    def settle(self, losses: tuple[Loss, ...]) -> None:
        """Note what was lost before.

        Raises:
            ApiError: see `drop`.
        """
        for loss in losses:
            if loss.adapted:
                _add(self.adapted, loss.name)
                continue
            if self.policy is Policy.ERROR or (loss.essential and self.policy is not Policy.DROP):
                raise unsupported(loss.name, loss.why)
            _add(self.dropped, loss.name)

    def refusal(self, name: str, why: str) -> ApiError:
        """That a canonical field is not taken, in the caller's words."""
        return unsupported(self._names.of(name), why)

    def _note(self, names: dict[str, None], name: str) -> None:
        _add(names, self._names.of(name))


_UNFIT = re.compile(r"[^\x21-\x7e]|,")
_NAME_CHARS_MAX = 80


def _add(names: dict[str, None], name: str) -> None:
    """Names may be the caller's own: nothing that a header cannot hold goes into one."""
    names[_UNFIT.sub("?", name[:_NAME_CHARS_MAX])] = None


def listed(names: Collection[str]) -> tuple[str, ...]:
    """What a header says: all names, or the first and how many more."""
    if len(names) <= NAMES_MAX:
        return tuple(names)
    return (*islice(names, NAMES_MAX), f"{len(names) - NAMES_MAX} more")


def unsupported(name: str, why: str) -> ApiError:
    """`unsupported_parameter`: a field that cannot be sent on as it was asked."""
    return ApiError(
        "unsupported_parameter",
        f"The upstream of this model does not take `{name}` as asked: {why}. "
        "Send `x-tc-unsupported: drop` to go without.",
        param=name,
    )
