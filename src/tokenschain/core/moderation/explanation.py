"""Explanation of a screening: what each stage of the local rules finds in a text, and where."""

from __future__ import annotations

import msgspec

from tokenschain.core.moderation import personal_data
from tokenschain.core.moderation.library import RuleLibrary
from tokenschain.core.moderation.risks import PERSONAL
from tokenschain.core.moderation.verdict import ClassifierThresholds, Direction


class ScreeningStage(msgspec.Struct, frozen=True):
    """What one stage found; personal data is masked."""

    stage: str
    """`normalized`, `rules`, `classifier` or `personal data`."""
    category: str = ""
    level: str = ""
    rule: str = ""
    """Pack and number of the word, the classifier's probability, or the kind of personal data."""
    text: str = ""


def explain(library: RuleLibrary, text: str) -> list[ScreeningStage]:
    """Screen a text by all installed packs, the classifier and the rules of personal data."""
    rules = library.rules(("*",))
    found = [ScreeningStage("normalized", text=rules.normalizer.normal(text))]
    for one in rules.screen(text, Direction.INPUT):
        place = text[slice(*one.span)] if one.span is not None else ""
        level = one.level.name.lower()
        found.append(ScreeningStage("rules", one.category, level, one.label, place))
    probability = library.classifier().probability(text)
    level = ClassifierThresholds().level(probability).name.lower()
    found.append(ScreeningStage("classifier", level=level, rule=f"{probability:.3f}"))
    for data in personal_data.find(text):
        value = personal_data.masked(text[data.start : data.end], data.kind)
        found.append(ScreeningStage("personal data", PERSONAL, rule=data.kind.value, text=value))
    return found
