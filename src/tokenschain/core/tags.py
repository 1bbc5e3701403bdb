"""Tags of a call: `x-tc-tags` and the key's own, parsed once for limits, routing, cache, record."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

TAGS_MAX = 32
TAG_CHARACTERS_MAX = 128
"""Of `name=value`, as it stands in the database; control characters in it are not taken."""
TAGS_BYTES_MAX = 1_024
"""Of all tags of a call together, as they are recorded."""
HEADER = b"x-tc-tags"


class Tags:
    """What a call is tagged with: names and values; a name without a value is its own value."""

    __slots__ = ("values",)

    def __init__(self, values: Mapping[str, str]) -> None:
        self.values = values

    @property
    def words(self) -> tuple[str, ...]:
        """As rules name them: `vip`, `team=a`."""
        return tuple(n if n == value else f"{n}={value}" for n, value in self.values.items())

    @property
    def line(self) -> str:
        """All of them as they are recorded and parsed again: `vip,team=a`."""
        return ",".join(self.words)

    def include(self, words: Iterable[str]) -> bool:
        """Whether the call has all of these, as `vip` or `team=a`."""
        pairs = (word.partition("=") for word in words)
        return all(self.values.get(name) == (value or name) for name, _, value in pairs)


NO_TAGS = Tags({})


def tags_of(header: bytes, of_key: Iterable[str] = ()) -> Tags:
    """The tags of a call; those beyond `TAGS_BYTES_MAX` are left out whole.

    Args:
        header: `x-tc-tags`, as `a=1, b=2`.
        of_key: the tags of its API key. They win where both have a name: limits, budgets and
            bills by tag hold for a key whatever its holder sends.
    """
    values = parse(header.decode("utf-8", "replace"), of_key)
    tags = Tags(values)
    while len(tags.line.encode("utf-8", "replace")) > TAGS_BYTES_MAX:
        values.popitem()
    return tags


def parse(line: str, fixed: Iterable[str] = ()) -> dict[str, str]:
    """The names and values in a line of tags; what is too long or too much is left out.

    Args:
        fixed: tags that come first and stay, whatever the line says.
    """
    found = _add({}, fixed)
    return _add(found, line.split(","), frozenset(found))


def _add(
    found: dict[str, str], parts: Iterable[str], taken: frozenset[str] = frozenset()
) -> dict[str, str]:
    for part in parts:
        name, _, value = part.strip().partition("=")
        name = name.strip()
        value = value.strip() or name
        # What is kept of it is `name=value`, also where it is its own value.
        fits = len(name) + 1 + len(value) <= TAG_CHARACTERS_MAX and part.isprintable()
        known = name in found
        if name and fits and name not in taken and (known or len(found) < TAGS_MAX):
            found[name] = value
    return found
