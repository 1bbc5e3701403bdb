"""The moderation policies of one call as one: the strictest of what each of them says."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

from tokenschain.core.moderation import personal_data
from tokenschain.core.moderation.personal_data import STRICTER, DataAction, DataKind, Replacements
from tokenschain.core.moderation.risks import PERSONAL, SECRET
from tokenschain.core.moderation.rules import Rules
from tokenschain.core.moderation.stream import Judge
from tokenschain.core.moderation.verdict import (
    Action,
    ClassifierThresholds,
    Direction,
    Level,
    RiskFinding,
)
from tokenschain.core.snapshot.moderation_policy import (
    STREAM_MODES,
    ModerationPolicy,
    StreamMode,
    strictest,
)

if TYPE_CHECKING:
    from tokenschain.core.moderation.classifier import TextClassifier


class NamedPolicy(NamedTuple):
    name: str
    policy: ModerationPolicy


class PolicySet:
    """Some policies with the rules that their words make up."""

    def __init__(
        self,
        policies: Sequence[NamedPolicy],
        rules: Rules,
        classifier: Callable[[], TextClassifier],
    ) -> None:
        """
        Args:
            classifier: called once, and only where a policy wants it.
        """
        self.rules = rules
        self.names = [name for name, _ in policies]
        self._policies = [policy for _, policy in policies]
        self._screening = {
            direction: [policy for policy in self._policies if policy.screens(direction)]
            for direction in Direction
        }
        wanted = any(policy.classifier is not None for policy in self._policies)
        self._classifier = classifier() if wanted else None
        self.data = {
            Direction.INPUT: self._data(
                [p.personal_data for p in self._screening[Direction.INPUT]]
            ),
            Direction.OUTPUT: self._data(
                [
                    {kind: DataAction(name) for kind, name in p.personal_data_in_answers.items()}
                    for p in self._screening[Direction.OUTPUT]
                ]
            ),
        }

    @staticmethod
    def _data(given: list[dict[DataKind, DataAction]]) -> dict[DataKind, DataAction]:
        found: dict[DataKind, DataAction] = {}
        for actions in given:
            for kind, action in actions.items():
                known = found.get(kind, DataAction.ALLOW)
                found[kind] = max(known, action, key=STRICTER.index)
        return {kind: action for kind, action in found.items() if action is not DataAction.ALLOW}

    def screens(self, direction: Direction) -> bool:
        return bool(self._screening[direction])

    def judge(self, direction: Direction) -> Judge:
        """What becomes of a finding in one direction."""
        policies = self._screening[direction]

        def of(one: RiskFinding) -> Action:
            if one.category in (PERSONAL, SECRET) and one.label in _BLOCKED_DATA:
                return _BLOCKED_DATA[one.label]
            return strictest(policy.action_on(one.category, one.level) for policy in policies)

        return of

    def cuts(
        self, direction: Direction, replacements: Replacements
    ) -> Callable[[str], list[tuple[RiskFinding, str]]] | None:
        """The personal data in a text and what stands instead; None where all is allowed."""
        actions = self.data[direction]
        if not actions:
            return None

        def of(text: str) -> list[tuple[RiskFinding, str]]:
            found = []
            for one in personal_data.find(text):
                action = actions.get(one.kind)
                if action is None:
                    continue
                instead = ""
                if action is not DataAction.BLOCK:
                    value = text[one.start : one.end]
                    instead = replacements.written(value, one.kind, action)
                found.append((data_finding(one, action), instead))
            return found

        return of

    @property
    def data_classes(self) -> dict[DataKind, frozenset[str]]:
        """By kind of personal data in a request, the data classes that it makes."""
        found: dict[DataKind, frozenset[str]] = {}
        for policy in self._screening[Direction.INPUT]:
            for kind, name in policy.data_classes.items():
                found[kind] = found.get(kind, frozenset()) | {name}
        return found

    def classify(self, direction: Direction) -> Callable[[str], list[RiskFinding]] | None:
        """What the local classifier says of a text; None where no policy asks for it."""
        given = [p.classifier for p in self._screening[direction] if p.classifier is not None]
        classifier = self._classifier
        if not given or classifier is None:
            return None
        lowest = ClassifierThresholds(
            min(one.medium for one in given), min(one.high for one in given)
        )
        return lambda text: classifier.find(text, lowest)

    @property
    def held(self) -> StreamMode:
        """How streams are held back."""
        policies = self._screening[Direction.OUTPUT]
        return max(
            (policy.stream for policy in policies), key=STREAM_MODES.index, default="holdback"
        )

    @property
    def refuses_media(self) -> bool:
        return any(p.media == "block" for p in self._screening[Direction.INPUT])

    def engines(self, direction: Direction) -> list[str]:
        """The engines to ask, each once."""
        policies = self._screening[direction]
        return list(dict.fromkeys(name for policy in policies for name in policy.engines))

    @property
    def asks_beside(self) -> bool:
        """Whether a request may be sent while engines look at it."""
        policies = [one for one in self._screening[Direction.INPUT] if one.engines]
        return bool(policies) and all(one.input == "beside" for one in policies)

    @property
    def fails_closed(self) -> bool:
        return any(policy.engines and policy.fails_closed for policy in self._policies)

    @property
    def keeps_texts(self) -> bool:
        """Whether reviewers are to see what was found."""
        return any(policy.keep_texts for policy in self._policies)

    @property
    def engine_wait_max_s(self) -> float:
        """The longest that a verdict may take: no policy's is cut short by another's."""
        waits = [policy.engine_wait_max_s for policy in self._policies if policy.engines]
        return max(waits, default=0.0)

    @property
    def counts_end_users(self) -> bool:
        """Whether blocked calls are counted by end user."""
        return any(policy.offenders is not None for policy in self._policies)

    @property
    def requires_filing(self) -> bool:
        return any(policy.require_filed for policy in self._policies)

    @property
    def message(self) -> str:
        return self._policies[-1].message if self._policies else ""

    @property
    def replacement(self) -> str:
        return self._policies[-1].replacement if self._policies else ""


def data_finding(one: personal_data.PersonalData, action: DataAction) -> RiskFinding:
    """Personal data as a finding; its label says what was done."""
    category = SECRET if one.kind is DataKind.SECRET else PERSONAL
    blocks = action is DataAction.BLOCK
    label = _label(one.kind, action)
    level = Level.HIGH if blocks else Level.LOW
    return RiskFinding(category, level, span=(one.start, one.end), label=label)


def _label(kind: DataKind, action: DataAction) -> str:
    return f"{kind.value}:{action.value}"


_ACTION_OF = {DataAction.BLOCK: Action.BLOCK, DataAction.ALLOW: Action.PASS}
_BLOCKED_DATA = {
    _label(kind, action): _ACTION_OF.get(action, Action.MASK)
    for kind in DataKind
    for action in DataAction
}
"""By label of a finding that is personal data: its own action, whatever levels say."""
