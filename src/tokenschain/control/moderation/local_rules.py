"""Local rules of moderation as control sees them: which packs are installed, and trying a text."""

from __future__ import annotations

import threading
from typing import NamedTuple

from tokenschain.core.moderation.explanation import ScreeningStage, explain
from tokenschain.core.moderation.library import RuleLibrary
from tokenschain.core.moderation.packs import Pack, coverage_gaps
from tokenschain.infra.config import Settings
from tokenschain.infra.moderation_classifier import load_classifier
from tokenschain.infra.moderation_packs import PackFolder, character_tables, today


class InstalledPacks(NamedTuple):
    """What is in the folder of packs of this machine."""

    packs: list[Pack]
    refused: dict[str, str]
    """Why not, by file name."""
    missing: dict[str, int]
    """Words, by risk id and in all as `total`; see `coverage_gaps`."""


class LocalRules:
    """The packs of a folder; read when first asked for, and again when they have changed."""

    def __init__(self) -> None:
        self._library = RuleLibrary(character_tables, today, load_classifier)
        self._folder: PackFolder | None = None
        self._refused: dict[str, str] = {}
        self._noted: dict[str, str] = {}
        self._lock = threading.Lock()

    def installed(self, settings: Settings) -> InstalledPacks:
        """Which packs there are, and what they lack of the standard's figures."""
        with self._lock:
            self._load(settings)
            packs = list(self._library.packs.values())
            return InstalledPacks(packs, dict(self._refused), coverage_gaps(packs, today()))

    def explain(self, settings: Settings, text: str) -> list[ScreeningStage]:
        """What each stage finds in a text; it is kept nowhere."""
        with self._lock:
            self._load(settings)
            return explain(self._library, text)

    def _load(self, settings: Settings) -> None:
        if self._folder is None:
            folder, keys = settings.moderation_packs_path, settings.moderation.pack_keys
            self._folder = PackFolder(folder, keys, self._library, self._note)
        generation, self._noted = self._library.generation, {}
        self._folder.load()
        if self._library.generation != generation:
            self._refused = self._noted

    def _note(self, event: str, /, why: str = "", **fields: object) -> None:
        if event == "moderation_pack_refused":
            self._noted[str(fields.get("pack", ""))] = why
