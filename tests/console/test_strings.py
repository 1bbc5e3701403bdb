"""The catalogue of texts: nothing missing, nothing unused, the same placeholders in both."""

from __future__ import annotations

import re
import string
from pathlib import Path

from tests.house.tree import SOURCE
from tokenschain.console.rendering import TEMPLATES
from tokenschain.console.strings import STRINGS, translate

HAN = re.compile(r"[\u4e00-\u9fff]")
_LITERAL = re.compile(r"""["']([a-z0-9_]+(?:\.[a-z0-9_]+)+)["']""")
_FAMILY = re.compile(r"""["']([a-z0-9_.]+\.)["'] ?~|f["']([a-z0-9_.]+\.)\{""")


def _sources() -> list[Path]:
    console = (SOURCE / "console").rglob("*.py")
    python = [path for path in console if not path.name.startswith("strings")]
    return [*TEMPLATES.glob("*.html"), *python]


def test_a_name_in_another_direction_turns_nothing_but_itself() -> None:
    turned = "\u202eevil"
    shown = translate("tile.cache.saved", "en", amount=turned)
    assert f"\u2068{turned}\u2069" in shown
    assert "\u2068" not in translate("tile.cache.saved", "zh", amount="¥12.5")


def test_each_text_that_is_asked_for_is_there_and_each_that_is_there_is_asked_for() -> None:
    asked, families = set(), set()
    for path in _sources():
        text = path.read_text("utf-8")
        families |= {one or other for one, other in _FAMILY.findall(text)}
        found = set(_LITERAL.findall(text))
        if path.suffix == ".html":
            calls = set(re.findall(r"""\bt\('([^']+)'(?! ?~)""", text))
            assert calls <= STRINGS.keys(), path.name
        asked |= found
    assert all(any(key.startswith(family) for key in STRINGS) for family in families)
    unused = {
        key for key in STRINGS
        if key not in asked and not any(key.startswith(family) for family in families)
    }  # fmt: skip
    assert unused == set()


def test_both_languages_have_the_same_placeholders_and_are_what_they_say() -> None:
    for key, (chinese, english) in STRINGS.items():
        names = [
            {name for _, name, _, _ in string.Formatter().parse(text) if name}
            for text in (chinese, english)
        ]
        assert names[0] == names[1], key
        assert chinese.strip() == chinese and english.strip() == english, key
        if key != "top.language":
            assert not HAN.search(english), key


def test_texts_keep_the_rules_of_words() -> None:
    for key, (chinese, english) in STRINGS.items():
        assert not re.search("[你您]", chinese), f"{key}: say what is"
        assert not re.search(r"[\u4e00-\u9fff][,;:!?]", chinese), f"{key}: full-width marks"
        stuck = re.search(r"[\u4e00-\u9fff][A-Za-z0-9{]|[A-Za-z0-9}][\u4e00-\u9fff]", chinese)
        assert not stuck, f"{key}: a space between Chinese and Latin"
        assert "!" not in english and not re.search(r"\b(please|oops)\b", english, re.I), key


def test_templates_hold_no_text_of_their_own() -> None:
    for path in TEMPLATES.glob("*.html"):
        text = path.read_text("utf-8")
        assert not HAN.search(text), path.name
        bare = re.sub(r"\{%.*?%\}|\{\{.*?\}\}|\{#.*?#\}", "", text, flags=re.DOTALL)
        bare = re.sub(r"<(script|style|code|pre)\b.*?</\1>|<[^>]*>", "", bare, flags=re.DOTALL)
        words = set(re.findall(r"[A-Za-z]{3,}", bare)) - {"TokensChain", "tokens"}
        assert words == set(), path.name
