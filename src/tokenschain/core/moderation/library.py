"""Rule library: installed keyword packs, compiled once for each choice of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, NamedTuple

from tokenschain.core.moderation.engine_record import EngineRecord, EngineStatus
from tokenschain.core.moderation.normalization import Normalizer
from tokenschain.core.moderation.packs import Keywords, Pack, PackWord
from tokenschain.core.moderation.rules import Rules, TimedRules

if TYPE_CHECKING:
    from tokenschain.core.moderation.classifier import TextClassifier

LOCAL_ENGINE = "local"
POLICY_PACK = "policy"
"""What words of a policy itself stand on record as."""
COMPILED_MAX = 64
_NEVER = "9999-12-31"


class CharacterTables(NamedTuple):
    """What normalization knows of Chinese characters, by code point."""

    simplified: Mapping[int, str]
    syllables: Mapping[int, str]


class RuleLibrary:
    """The packs in force; replaced as a whole, so that no call sees a part of a change."""

    def __init__(
        self,
        tables: Callable[[], CharacterTables],
        today: Callable[[], str],
        classifier: Callable[[Normalizer], TextClassifier],
        monotonic: Callable[[], float] | None = None,
    ) -> None:
        """
        Args:
            tables: called once, when rules are asked for first; may take 0.3 s.
            today: as `2027-06-30`: words expire by it.
            classifier: called once, when a policy asks for it; may take 0.3 s.
            monotonic: where what is screened is to be counted and timed.
        """
        self._tables, self._today, self._load_classifier = tables, today, classifier
        self._loaded: tuple[Normalizer, Mapping[int, str]] | None = None
        self._classifier: TextClassifier | None = None
        self._monotonic, self._record = monotonic, EngineRecord()
        self._packs: Mapping[str, Pack] = {}
        self._compiled: dict[tuple[object, ...], Rules] = {}
        self.generation = 0
        """Counts every change of the packs."""

    @property
    def packs(self) -> Mapping[str, Pack]:
        return self._packs

    def install(self, packs: Mapping[str, Pack]) -> None:
        """Serve by these packs from now on."""
        self._packs, self._compiled = dict(packs), {}
        self.generation += 1

    def rules(self, names: tuple[str, ...], words: tuple[PackWord, ...] = ()) -> Rules:
        """Rules of some packs, and of words beside them. Some 20 ms for 10,000 words, once.

        Args:
            names: `*` for all packs; a name that is not installed stands for none.
        """
        today, packs, compiled = self._today(), self._packs, self._compiled
        key = (names, words, today)
        found = compiled.get(key)
        if found is None:
            chosen = [pack for name, pack in packs.items() if "*" in names or name in names]
            if words:
                chosen.append(Pack(POLICY_PACK, "1", "policy", "publisher", _NEVER, words))
            normalizer, syllables = self._characters()
            keywords = Keywords(chosen, normalizer, syllables, today)
            found = self._rules(normalizer, keywords, syllables)
            if len(compiled) >= COMPILED_MAX:
                compiled.clear()
            compiled[key] = found
        return found

    def _rules(
        self, normalizer: Normalizer, keywords: Keywords, syllables: Mapping[int, str]
    ) -> Rules:
        if self._monotonic is None:
            return Rules(normalizer, keywords, syllables)
        return TimedRules(normalizer, keywords, syllables, self._monotonic, self._record)

    def status(self) -> EngineStatus:
        """What was screened whole lately, by how many texts, and how long that took."""
        assert self._monotonic is not None, "it is counted"
        sums = self._record.sums(self._monotonic())
        return EngineStatus(
            LOCAL_ENGINE, LOCAL_ENGINE, "closed", "own",
            answered=sums.answered, waits=dict(sums.waits),
        )  # fmt: skip

    def normal(self, text: str) -> str:
        """A text as keywords are matched with it."""
        return self._characters()[0].normal(text)

    def classifier(self) -> TextClassifier:
        """The local classifier, whatever the packs are."""
        if self._classifier is None:
            self._classifier = self._load_classifier(self._characters()[0])
        return self._classifier

    def _characters(self) -> tuple[Normalizer, Mapping[int, str]]:
        if self._loaded is None:
            tables = self._tables()
            self._loaded = Normalizer(tables.simplified), tables.syllables
        return self._loaded
