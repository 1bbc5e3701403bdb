"""Folder of keyword packs: signed ones are in force at once, others are left out and said."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.moderation_rules import TABLES, TODAY
from tokenschain.core.moderation.library import RuleLibrary
from tokenschain.core.moderation.verdict import Direction
from tokenschain.infra.moderation_classifier import load_classifier
from tokenschain.infra.moderation_packs import PackFolder, seed_pack, signature_path
from tokenschain.infra.security import pack_signatures

PRIVATE, PUBLIC = pack_signatures.new_key("gm")


class Noted:
    def __init__(self) -> None:
        self.events: list[tuple[str, str]] = []

    def __call__(self, event: str, /, why: str = "", **fields: Any) -> None:
        self.events.append((event, why))


def write(folder: Path, name: str, text: str, *, signed: bool = True) -> None:
    pack = {
        "name": name, "version": "1", "author": "one", "reviewer": "another",
        "expires": "2999-01-01", "words": [{"text": text, "risk": "A.1.h"}],
    }  # fmt: skip
    path = folder / f"{name}.json"
    path.write_text(json.dumps(pack))
    if signed:
        signature_path(path).write_bytes(pack_signatures.sign(path.read_bytes(), [PRIVATE]))


def test_packs_are_taken_up_changed_and_refused(tmp_path: Path) -> None:
    noted, library = Noted(), RuleLibrary(lambda: TABLES, lambda: TODAY, load_classifier)
    folder = PackFolder(tmp_path, [PUBLIC], library, noted)

    def finds(text: str) -> bool:
        folder.load()
        return bool(library.rules(("*",)).screen(text, Direction.OUTPUT))

    assert finds("违规测试词甲") and not finds("词库里的词")
    write(tmp_path, "made", "词库里的词")
    assert finds("词库里的词") and library.generation == 2
    folder.load()
    assert library.generation == 2, "nothing has changed"
    (status,) = folder.statuses
    assert (status.name, status.words, status.expired) == ("made", 1, 0)
    assert status.renewed_s == (tmp_path / "made.json").stat().st_mtime
    assert folder.words_missing > 9_000, "the standard asks for 10,000 in all"
    write(tmp_path, "other", "没有签名的词", signed=False)
    assert not finds("没有签名的词") and finds("词库里的词")
    assert noted.events[-2][0] == "moderation_pack_refused"
    assert "no signature" in noted.events[-2][1]
    (tmp_path / "made.json").write_text("{}")
    assert not finds("词库里的词")
    assert [why for _, why in noted.events if "has signed" in why]


def test_rules_are_compiled_once_for_each_choice_of_packs() -> None:
    library = RuleLibrary(lambda: TABLES, lambda: TODAY, load_classifier)
    seed = seed_pack()
    library.install({seed.name: seed})
    assert library.rules(("*",)) is library.rules(("*",))
    assert len(library.rules(("none",)).keywords) == 0
    assert len(library.rules(("seed",)).keywords) == len(seed.words)
    assert seed.version in library.rules(("*",)).keywords.versions.values()
